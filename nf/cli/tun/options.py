"""From the options of ``castcore tun`` to what they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from upf.live.devices import Place
    from upf.live.n3_place import N3Place

SIDES: Final = ("access", "core")


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """One of the two devices: where it is, and what it is given."""

    place: Place
    addresses: tuple[str, ...]
    routes: tuple[str, ...]


def sides_of(
    access: str | None, n3: str | None, core: str, addresses: Sequence[str], routes: Sequence[str]
) -> tuple[DeviceOptions | N3Place, DeviceOptions]:
    """The access side, which is a device or N3, and the device of the core side. Raises UpfError."""
    from upf.errors import UpfError
    from upf.live.devices import Place
    from upf.live.n3_place import N3Place

    if access is not None and n3 is not None:
        raise UpfError("option '--n3': goes without --access: packets of UEs come from either")
    if access is not None:
        return devices_of(access, core, addresses, routes)
    if n3 is None:
        raise UpfError("option '--access': missing, expected it or --n3")
    of_side, to_side = _by_side("--address", addresses, "10.45.0.2/24"), _by_side("--route", routes, "198.51.100.0/24")
    for option, given in (("--address", of_side), ("--route", to_side)):
        if given["access"]:
            raise UpfError(f"option '{option}': found 'access={given['access'][0]}', expected none: N3 is no device")
    return N3Place.parse(n3), DeviceOptions(Place.parse(core), tuple(of_side["core"]), tuple(to_side["core"]))


def devices_of(
    access: str, core: str, addresses: Sequence[str], routes: Sequence[str]
) -> tuple[DeviceOptions, DeviceOptions]:
    """The device of the access side and that of the core side. Raises UpfError."""
    from upf.errors import UpfError
    from upf.live.devices import Place

    places = Place.parse(access), Place.parse(core)
    if places[0] == places[1]:
        raise UpfError(f"option '--core': found {core!r}, expected another device than that of --access")
    of_side = _by_side("--address", addresses, "10.45.0.2/24")
    to_side = _by_side("--route", routes, "198.51.100.0/24")
    made = [
        DeviceOptions(place, tuple(of_side[side]), tuple(to_side[side]))
        for side, place in zip(SIDES, places, strict=True)
    ]
    return made[0], made[1]


def check_sessions(*, n3: str | None, n4: bool, tunnels: Sequence[object]) -> None:
    """Raises UpfError where there is N3 without sessions, or the other way round."""
    from upf.errors import UpfError

    if n3 is not None and not n4 and not tunnels:
        raise UpfError("option '--n3': no sessions, expected [[session]] in a file given by --rules, or --n4")
    if n3 is None and tunnels:
        raise UpfError("option '--rules': found [[session]], expected none without --n3: it is about tunnels")


def duration_s_of(duration: str | None) -> float | None:
    """How long to run; None: until it is ended. Raises UpfError."""
    from upf.errors import UpfError
    from upf.units import UnitError, parse_duration

    if duration is None:
        return None
    try:
        return parse_duration(duration) / 10**9
    except UnitError as error:
        raise UpfError(f"option '--duration': {error.detail}") from None


def grpc_address_of(*, n4: bool, grpc: str | None, given: bool) -> str | None:
    """Where an SMF finds the UPF; None: the rules are ``given`` by other options. Raises UpfError."""
    from upf.errors import UpfError

    if not n4:
        if grpc is not None:
            raise UpfError("option '--grpc': goes with --n4")
        return None
    if given:
        raise UpfError("option '--n4': goes without the options for a rule and --rules: the SMF has the rules")
    return listening_address_of("--grpc", grpc or "127.0.0.1:0")


def listening_address_of(option: str, text: str) -> str:
    """Where a server is to listen. Raises UpfError unless it is HOST:PORT."""
    from upf.errors import UpfError

    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise UpfError(f"option '{option}': found {text!r}, expected HOST:PORT, such as '127.0.0.1:0' for a free port")
    return text


def _by_side(option: str, texts: Sequence[str], example: str) -> dict[str, list[str]]:
    from upf.errors import UpfError

    found: dict[str, list[str]] = {side: [] for side in SIDES}
    for text in texts:
        side, equals, value = text.partition("=")
        if side not in SIDES or not equals or not value:
            raise UpfError(
                f"option '{option}': found {text!r}, expected 'access=…' or 'core=…', such as 'access={example}'"
            )
        found[side].append(value)
    return found
