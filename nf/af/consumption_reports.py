"""A consumption report as it comes: what is valid, and the rows that it makes (TS 26.501 §5.6.2, TS 26.512 §11.3.3).

Two units of one client, entry, medium and start time are one: the longer duration wins. A report with the same content
in the same session is one. Both are recognised by digests, so that a repeat is harmless whatever became of the first.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

from nf.af.cell_identities import NAMES, normalised
from nf.af.v1.consumption_reporting_pb2 import (
    CELL_IDENTIFIER_TYPE_CGI,
    CELL_IDENTIFIER_TYPE_ECGI,
    CELL_IDENTIFIER_TYPE_NCGI,
    ConsumptionReport,
    ConsumptionReportingUnit,
    EndpointAddress,
)
from nf.common.errors import FieldViolation, InvalidArgument

# Nothing that identifies something comes near to it.
MAX_TEXT_LENGTH: Final = 4096
MAX_UNITS: Final = 1000
MAX_LOCATIONS: Final = 100
# Times are kept as nanoseconds in 63 bits: 2100 leaves room for the longest duration.
MAX_START_S: Final = 4_102_444_800

_NS = 1_000_000_000
_TYPES = {CELL_IDENTIFIER_TYPE_CGI: 0, CELL_IDENTIFIER_TYPE_ECGI: 1, CELL_IDENTIFIER_TYPE_NCGI: 2}

# (location type, cell as it is kept)
Location = tuple[int, str]


class Unit(NamedTuple):
    """A unit that can be kept."""

    media_consumed: str
    start_ns: int
    end_ns: int
    locations: tuple[Location, ...]
    # Both ends of the connection, serialised; empty where they were not told.
    client_endpoint: bytes
    server_endpoint: bytes


class Report(NamedTuple):
    """A report that can be kept; ``content`` is its canonical form."""

    content: bytes
    media_player_entry: str
    reporting_client_id: str
    units: Sequence[Unit]

    def key_in(self, session: str) -> bytes:
        """What tells the report from others: the same content in another session is another report.

        Keys begin with the time, so that those of one time are neighbours in an index.
        """
        return _key(self.units[0].start_ns, session.encode() + b" " + self.content)

    def key_of(self, unit: Unit, provisioning_session_id: str) -> bytes:
        """What tells the unit from others in the provisioning session: client, entry, medium and start time."""
        entry, client = self.media_player_entry, self.reporting_client_id
        # The lengths keep apart what would read the same when it is put together.
        identity = f"{provisioning_session_id} {len(entry)} {len(client)} {entry}{client}{unit.media_consumed}"
        return _key(unit.start_ns, identity.encode())


def check(report: ConsumptionReport) -> Report:
    """The report in the form that is kept. Raises InvalidArgument with a violation for every property at fault."""
    # Nearly every report is as it should be: what is wrong is looked for only where something is.
    sound = _sound(report)
    if sound is None:
        wrong = violations(report)
        raise InvalidArgument.of_all(wrong)
    return sound


def _key(start_ns: int, identity: bytes) -> bytes:
    return start_ns.to_bytes(8, "big") + blake2b(identity, digest_size=12).digest()


def _sound(report: ConsumptionReport) -> Report | None:
    """The report, if nothing is wrong with it."""
    entry, client, told = report.media_player_entry, report.reporting_client_id, report.consumption_reporting_units
    if not (_is_text(entry) and _is_text(client) and 0 < len(told) <= MAX_UNITS):
        return None
    shared: tuple[Location, ...] = ()
    if report.HasField("location"):
        kind = report.location_type
        # Absent, it reads as 0.
        cell = _cell(kind, report.location) if kind or report.HasField("location_type") else None
        if cell is None:
            return None
        shared = (cell,)
    elif report.HasField("location_type"):
        return None
    units = []
    for each in told:
        unit = _sound_unit(each, shared)
        if unit is None:
            return None
        units.append(unit)
    return Report(report.SerializeToString(deterministic=True), entry, client, units)


def _sound_unit(unit: ConsumptionReportingUnit, shared: tuple[Location, ...]) -> Unit | None:
    """The unit, if nothing is wrong with it. What is absent reads as 0: only then it is asked whether it is there."""
    media, began, duration_s = unit.media_consumed, unit.start_time, unit.duration_s
    seconds, nanos = began.seconds, began.nanos
    if not (
        _is_text(media)
        and 0 <= seconds < MAX_START_S
        and 0 <= nanos < _NS
        and (seconds or unit.HasField("start_time"))
        and (duration_s or unit.HasField("duration_s"))
    ):
        return None
    locations, client_endpoint, server_endpoint = shared, b"", b""
    if unit.locations:
        own = _cells(unit)
        if own is None:
            return None
        locations = tuple(dict.fromkeys((*shared, *own)))
    if unit.HasField("client_endpoint_address") or unit.HasField("server_endpoint_address"):
        wrong: list[FieldViolation] = []
        _check_endpoints(unit, "", wrong)
        if wrong:
            return None
        if unit.HasField("client_endpoint_address"):
            client_endpoint = _kept(unit.client_endpoint_address)
        if unit.HasField("server_endpoint_address"):
            server_endpoint = _kept(unit.server_endpoint_address)
    start_ns = seconds * _NS + nanos
    return Unit(media, start_ns, start_ns + duration_s * _NS, locations, client_endpoint, server_endpoint)


def _cells(unit: ConsumptionReportingUnit) -> list[Location] | None:
    """The unit's own locations, if nothing is wrong with them."""
    if len(unit.locations) > MAX_LOCATIONS:
        return None
    cells = []
    for each in unit.locations:
        cell = _cell(_TYPES.get(each.location_identifier_type, -1), each.location)
        if cell is None:
            return None
        cells.append(cell)
    return cells


@lru_cache(65_536)
def _cell(kind: int, text: str) -> Location | None:
    """The location, if it is one."""
    if kind not in NAMES:
        return None
    try:
        return kind, normalised(kind, text)
    except ValueError:
        return None


def _kept(endpoint: EndpointAddress) -> bytes:
    return endpoint.SerializeToString(deterministic=True)


def violations(report: ConsumptionReport) -> list[FieldViolation]:
    """What is wrong with the report, all of it: what ``check`` refuses it for."""
    found: list[FieldViolation] = []
    if not _is_text(report.media_player_entry):
        _add(found, "media_player_entry", _no_text(report.media_player_entry, "the pointer to the Media Player Entry"))
    if not _is_text(report.reporting_client_id):
        _add(found, "reporting_client_id", _no_text(report.reporting_client_id, "the client's identifier"))
    if report.HasField("location_type") or report.HasField("location"):
        _check_shared_location(report, found)
    units = report.consumption_reporting_units
    if not 0 < len(units) <= MAX_UNITS:
        _add(found, "consumption_reporting_units", f"expected 1 to {MAX_UNITS} units, found {len(units) or 'nothing'}")
        return found
    for index, unit in enumerate(units):
        began = unit.start_time
        if not (
            _is_text(unit.media_consumed)
            and unit.HasField("start_time")
            and 0 <= began.seconds < MAX_START_S
            and 0 <= began.nanos < _NS
            and unit.HasField("duration_s")
        ):
            _check_unit(unit, f"consumption_reporting_units[{index}]", found)
        if unit.HasField("client_endpoint_address") or unit.HasField("server_endpoint_address"):
            _check_endpoints(unit, f"consumption_reporting_units[{index}]", found)
        if unit.locations:
            _check_locations(unit, f"consumption_reporting_units[{index}].locations", found)
    return found


def _add(found: list[FieldViolation], field: str, why: str) -> None:
    found.append(FieldViolation(field, why))


def _is_text(value: str) -> bool:
    return 0 < len(value) <= MAX_TEXT_LENGTH and "\0" not in value


def _no_text(value: str, what: str) -> str:
    if not value:
        return f"expected {what}, found nothing"
    if len(value) > MAX_TEXT_LENGTH:
        return f"expected at most {MAX_TEXT_LENGTH} characters, found {len(value)}"
    return "expected text without the character U+0000"


def _check_shared_location(report: ConsumptionReport, found: list[FieldViolation]) -> None:
    typed, located = report.HasField("location_type"), report.HasField("location")
    if not located:
        _add(found, "location", "expected the location that location_type is about, found nothing")
    elif not typed:
        _add(found, "location_type", "expected 0 (CGI), 1 (ECGI) or 2 (NCGI) with a location, found nothing")
    elif report.location_type not in NAMES:
        _add(found, "location_type", f"expected 0 (CGI), 1 (ECGI) or 2 (NCGI), found {report.location_type}")
    else:
        _check_location(report.location_type, report.location, "location", found)


def _check_unit(unit: ConsumptionReportingUnit, path: str, found: list[FieldViolation]) -> None:
    if not _is_text(unit.media_consumed):
        _add(found, f"{path}.media_consumed", _no_text(unit.media_consumed, "what was consumed"))
    if not unit.HasField("start_time"):
        _add(found, f"{path}.start_time", "expected the date and time of the beginning (RFC 3339), found nothing")
    elif not (0 <= unit.start_time.seconds < MAX_START_S and 0 <= unit.start_time.nanos < _NS):
        found_s = unit.start_time.seconds
        _add(found, f"{path}.start_time", f"expected a time from 1970 to 2099, found {found_s} s since 1970")
    if not unit.HasField("duration_s"):
        _add(found, f"{path}.duration_s", "expected the seconds that the consumption has lasted, found nothing")


def _check_locations(unit: ConsumptionReportingUnit, path: str, found: list[FieldViolation]) -> None:
    if len(unit.locations) > MAX_LOCATIONS:
        _add(found, path, f"expected at most {MAX_LOCATIONS}, found {len(unit.locations)}")
        return
    for index, each in enumerate(unit.locations):
        kind = _TYPES.get(each.location_identifier_type)
        if kind is None:
            _add(found, f"{path}[{index}].location_identifier_type", "expected CGI, ECGI or NCGI")
        else:
            _check_location(kind, each.location, f"{path}[{index}].location", found)


def _check_location(kind: int, text: str, field: str, found: list[FieldViolation]) -> None:
    try:
        normalised(kind, text)
    except ValueError as error:
        _add(found, field, str(error))


def _check_endpoints(unit: ConsumptionReportingUnit, path: str, found: list[FieldViolation]) -> None:
    if unit.HasField("client_endpoint_address"):
        _check_endpoint(unit.client_endpoint_address, f"{path}.client_endpoint_address", found)
    if unit.HasField("server_endpoint_address"):
        _check_endpoint(unit.server_endpoint_address, f"{path}.server_endpoint_address", found)


def _check_endpoint(endpoint: EndpointAddress, path: str, found: list[FieldViolation]) -> None:
    if not endpoint.HasField("port_number"):
        _add(found, f"{path}.port_number", "expected 0 to 65535, found nothing")
    elif endpoint.port_number > 65535:
        _add(found, f"{path}.port_number", f"expected 0 to 65535, found {endpoint.port_number}")
    if endpoint.hostname and not _is_text(endpoint.hostname):
        _add(found, f"{path}.hostname", _no_text(endpoint.hostname, "a host name"))
    for field, text, version in (("ipv4_addr", endpoint.ipv4_addr, 4), ("ipv6_addr", endpoint.ipv6_addr, 6)):
        if text and not _is_address(text, version):
            _add(found, f"{path}.{field}", f"expected an IPv{version} address, found {text[:64]!r}")


@lru_cache(4096)
def _is_address(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False
