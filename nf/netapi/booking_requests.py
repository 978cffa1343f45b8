"""What a provider may ask for (5G-MAG live media distribution workflow B.1): every violation, by its path. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from nf.common.errors import FieldViolation, InvalidArgument
from nf.netapi import traffic
from nf.netapi.v1.booking_pb2 import BookingRequest, OutsidePolicy

MAX_APPLICATION_ID: Final = 256
MAX_DEVICES: Final = 100_000_000
# Times the windows of the periods: so many lines an offer may have.
MAX_LINES: Final = 5000
# What a provider may change of an accepted booking.
CHANGEABLE: Final = ("population", "traffic", "periods", "area_capabilities", "outside")


def check(request: BookingRequest) -> None:
    """Raises InvalidArgument for what is wrong with a request, but for its periods and what the areas are."""
    violations = list(_violations(request))
    if violations:
        raise InvalidArgument(told(violations), violations=violations)


def check_lines(request: BookingRequest, windows: int) -> None:
    """Raises InvalidArgument for a request whose offer would be too long."""
    lines = windows * len(request.area_capabilities)
    if lines > MAX_LINES:
        why = f"expected at most {MAX_LINES} lines, found {len(request.area_capabilities)} capabilities of areas"
        raise InvalidArgument.of("area_capabilities", f"{why} in {windows} periods each")


def told(violations: Sequence[FieldViolation]) -> str:
    """The violations as one message, the first of them."""
    return "; ".join(f"{each.field}: {each.description}" for each in violations[:8])


def _violations(request: BookingRequest) -> Iterator[FieldViolation]:
    population = request.population
    if not 1 <= len(population.application_id) <= MAX_APPLICATION_ID:
        why = f"expected 1 to {MAX_APPLICATION_ID} characters, found {len(population.application_id)}"
        yield FieldViolation("population.application_id", why)
    if not 1 <= population.devices <= MAX_DEVICES:
        yield FieldViolation("population.devices", f"expected 1 to {MAX_DEVICES} devices, found {population.devices}")
    yield from traffic.check(request.traffic)
    if request.outside not in OutsidePolicy.values():
        why = f"expected BEST_EFFORT or REFUSED, found {int(request.outside)}"
        yield FieldViolation("outside", why)
    wanted = request.area_capabilities
    if not 1 <= len(wanted) <= MAX_LINES:
        why = f"expected 1 to {MAX_LINES} capabilities of areas, found {len(wanted)}"
        yield FieldViolation("area_capabilities", why)
        return
    seen: dict[tuple[str, str], int] = {}
    for index, each in enumerate(wanted):
        path = f"area_capabilities[{index}]"
        for name, value in (("area_id", each.area_id), ("profile_id", each.profile_id)):
            if not value:
                yield FieldViolation(f"{path}.{name}", "expected an identifier, found none")
        if each.devices > MAX_DEVICES:
            yield FieldViolation(f"{path}.devices", f"expected at most {MAX_DEVICES} devices, found {each.devices}")
        first = seen.setdefault((each.area_id, each.profile_id), index)
        if first != index:
            yield FieldViolation(path, f"expected another area or profile than area_capabilities[{first}]")
