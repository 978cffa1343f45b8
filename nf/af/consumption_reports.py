"""A consumption report as it comes: what is valid, and the rows that it makes (TS 26.501 §5.6.2, TS 26.512 §11.3.3).

Two units of one client, entry, medium and start time are one: the longer duration wins. A report with the same content
in the same session is one. Both are recognised by digests, so that a repeat is harmless whatever became of the first.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

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


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit that can be kept."""

    key: bytes
    media_consumed: str
    start_ns: int
    duration_s: int
    locations: tuple[Location, ...]
    # Both ends of the connection, serialised; empty where they were not told.
    client_endpoint: bytes
    server_endpoint: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """A report that can be kept; ``digest`` is that of its content."""

    digest: bytes
    media_player_entry: str
    reporting_client_id: str
    units: tuple[Unit, ...]


def check(report: ConsumptionReport) -> Report:
    """The report in the form that is kept. Raises InvalidArgument with a violation for every property at fault."""
    violations = [FieldViolation(field, why) for field, why in _violations(report)]
    if violations:
        raise InvalidArgument(
            "; ".join(f"{each.field}: {each.description}" for each in violations), violations=violations
        )
    shared = (
        ((report.location_type, normalised(report.location_type, report.location)),)
        if report.HasField("location")
        else ()
    )
    entry, client = report.media_player_entry, report.reporting_client_id
    return Report(
        digest=hashlib.blake2b(report.SerializeToString(deterministic=True), digest_size=16).digest(),
        media_player_entry=entry,
        reporting_client_id=client,
        units=tuple(_unit(entry, client, shared, unit) for unit in report.consumption_reporting_units),
    )


def key_in(scope: str, digest: bytes) -> bytes:
    """The digest of a report or unit within a session: the same content elsewhere is something else."""
    return hashlib.blake2b(digest, digest_size=16, key=scope.encode()[:64]).digest()


def _unit(entry: str, client: str, shared: tuple[Location, ...], unit: ConsumptionReportingUnit) -> Unit:
    start_ns = unit.start_time.seconds * _NS + unit.start_time.nanos
    # The lengths keep apart what would read the same when it is put together.
    identity = f"{len(entry)} {len(client)} {start_ns} {entry}{client}{unit.media_consumed}"
    locations = shared
    if unit.locations:
        own = ((_TYPES[each.location_identifier_type], each.location) for each in unit.locations)
        locations = tuple(dict.fromkeys((*shared, *((kind, normalised(kind, text)) for kind, text in own))))
    return Unit(
        key=hashlib.blake2b(identity.encode(), digest_size=16).digest(),
        media_consumed=unit.media_consumed,
        start_ns=start_ns,
        duration_s=unit.duration_s,
        locations=locations,
        client_endpoint=_kept(unit.client_endpoint_address) if unit.HasField("client_endpoint_address") else b"",
        server_endpoint=_kept(unit.server_endpoint_address) if unit.HasField("server_endpoint_address") else b"",
    )


def _kept(endpoint: EndpointAddress) -> bytes:
    return endpoint.SerializeToString(deterministic=True)


def _violations(report: ConsumptionReport) -> Iterator[tuple[str, str]]:
    yield from _text(report.media_player_entry, "media_player_entry", "the pointer to the Media Player Entry")
    yield from _text(report.reporting_client_id, "reporting_client_id", "the client's identifier")
    yield from _shared_location(report)
    count = len(report.consumption_reporting_units)
    if not 0 < count <= MAX_UNITS:
        yield "consumption_reporting_units", f"expected 1 to {MAX_UNITS} units, found {count or 'nothing'}"
        return
    for index, unit in enumerate(report.consumption_reporting_units):
        for field, why in _unit_violations(unit):
            yield f"consumption_reporting_units[{index}].{field}", why


def _shared_location(report: ConsumptionReport) -> Iterator[tuple[str, str]]:
    typed, located = report.HasField("location_type"), report.HasField("location")
    if typed and not located:
        yield "location", "expected the location that location_type is about, found nothing"
    elif located and not typed:
        yield "location_type", "expected 0 (CGI), 1 (ECGI) or 2 (NCGI) with a location, found nothing"
    elif typed and report.location_type not in NAMES:
        yield "location_type", f"expected 0 (CGI), 1 (ECGI) or 2 (NCGI), found {report.location_type}"
    elif typed:
        yield from _location(report.location_type, report.location, "location")


def _unit_violations(unit: ConsumptionReportingUnit) -> Iterator[tuple[str, str]]:
    yield from _text(unit.media_consumed, "media_consumed", "what was consumed")
    if not unit.HasField("start_time"):
        yield "start_time", "expected the date and time when the consumption began (RFC 3339), found nothing"
    elif not (0 <= unit.start_time.seconds < MAX_START_S and 0 <= unit.start_time.nanos < _NS):
        yield "start_time", f"expected a time from 1970 to 2099, found {unit.start_time.seconds} s since 1970"
    if not unit.HasField("duration_s"):
        yield "duration_s", "expected the seconds that the consumption has lasted, found nothing"
    if unit.HasField("client_endpoint_address"):
        yield from _endpoint_violations(unit.client_endpoint_address, "client_endpoint_address")
    if unit.HasField("server_endpoint_address"):
        yield from _endpoint_violations(unit.server_endpoint_address, "server_endpoint_address")
    if len(unit.locations) > MAX_LOCATIONS:
        yield "locations", f"expected at most {MAX_LOCATIONS}, found {len(unit.locations)}"
        return
    for index, each in enumerate(unit.locations):
        kind = _TYPES.get(each.location_identifier_type)
        if kind is None:
            yield f"locations[{index}].location_identifier_type", "expected CGI, ECGI or NCGI"
        else:
            yield from _location(kind, each.location, f"locations[{index}].location")


def _endpoint_violations(endpoint: EndpointAddress, path: str) -> Iterator[tuple[str, str]]:
    if not endpoint.HasField("port_number"):
        yield f"{path}.port_number", "expected 0 to 65535, found nothing"
    elif endpoint.port_number > 65535:
        yield f"{path}.port_number", f"expected 0 to 65535, found {endpoint.port_number}"
    if len(endpoint.hostname) > MAX_TEXT_LENGTH:
        yield f"{path}.hostname", f"expected at most {MAX_TEXT_LENGTH} characters, found {len(endpoint.hostname)}"
    for field, text, kind in (
        ("ipv4_addr", endpoint.ipv4_addr, ipaddress.IPv4Address),
        ("ipv6_addr", endpoint.ipv6_addr, ipaddress.IPv6Address),
    ):
        try:
            _ = kind(text) if text else None
        except ValueError:
            yield (
                f"{path}.{field}",
                f"expected an {'IPv4' if field == 'ipv4_addr' else 'IPv6'} address, found {text[:64]!r}",
            )


def _location(kind: int, text: str, field: str) -> Iterator[tuple[str, str]]:
    try:
        normalised(kind, text)
    except ValueError as error:
        yield field, str(error)


def _text(value: str, field: str, what: str) -> Iterator[tuple[str, str]]:
    if not value:
        yield field, f"expected {what}, found nothing"
    elif len(value) > MAX_TEXT_LENGTH:
        yield field, f"expected at most {MAX_TEXT_LENGTH} characters, found {len(value)}"
    elif "\0" in value:
        yield field, "expected text without the character U+0000"
