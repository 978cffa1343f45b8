"""What has been reported, read back: records, aggregates over time and area, and counts (TS 26.501 §5.6).

Works within the store's reads. Aggregates are made by the database, exactly: in whole nanoseconds, a unit that crosses
the end of a period being split there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from sqlalchemy import CTE, ColumnElement, Select, and_, bindparam, case, distinct, func, literal, or_, select

from nf.af.cell_identities import check_area
from nf.af.consumption_records import locations, reports, units
from nf.af.v1.consumption_reporting_pb2 import (
    CELL_IDENTIFIER_TYPE_CGI,
    CELL_IDENTIFIER_TYPE_ECGI,
    CELL_IDENTIFIER_TYPE_NCGI,
    AggregateConsumptionRequest,
    ConsumptionAggregate,
    ConsumptionFilter,
    ConsumptionRecord,
    ConsumptionReportingUnit,
    ConsumptionStatistics,
    EndpointAddress,
    TypedLocation,
)
from nf.common.errors import InvalidArgument
from nf.common.resources import decode_page_token, encode_page_token, page_limit
from nf.common.store import Reader

# More periods, or more rows, than anybody reads at once.
MAX_PERIODS: Final = 10_000
MAX_AGGREGATES: Final = 100_000

_NS: Final = 1_000_000_000
_VALUES: Final = 500
_TYPES: Final = {0: CELL_IDENTIFIER_TYPE_CGI, 1: CELL_IDENTIFIER_TYPE_ECGI, 2: CELL_IDENTIFIER_TYPE_NCGI}
_LOCATIONS = select(locations).where(locations.c.key.in_(bindparam("keys", expanding=True)))
_LOCATIONS = _LOCATIONS.order_by(locations.c.location_type, locations.c.location)


def list_records(
    reader: Reader, wanted: ConsumptionFilter, *, page_size: int, page_token: str
) -> tuple[Sequence[ConsumptionRecord], str]:
    """One page in the order of first receipt, and the token that goes on.

    Raises InvalidArgument for a filter that means nothing, and for a token of another list.
    """
    scope, limit = f"consumption\0{wanted.SerializeToString(deterministic=True).hex()}", page_limit(page_size)
    found = records_after(reader, wanted, decode_page_token(scope, page_token), limit + 1)
    more = len(found) > limit
    return [record for _, record in found[:limit]], encode_page_token(scope, found[limit - 1][0]) if more else ""


def records_after(
    reader: Reader, wanted: ConsumptionFilter, after: int, limit: int, until: int | None = None
) -> list[tuple[int, ConsumptionRecord]]:
    """At most ``limit`` records with a higher number than ``after``, not above ``until``, each with its number."""
    query = select(units).where(units.c.id > after, *_conditions(wanted)).order_by(units.c.id).limit(limit)
    if until is not None:
        query = query.where(units.c.id <= until)
    rows = reader.connection.execute(query).mappings().all()
    cells: dict[bytes, list[TypedLocation]] = {}
    for first in range(0, len(rows), _VALUES):
        keys = [row["key"] for row in rows[first : first + _VALUES]]
        for key, location_type, location in reader.connection.execute(_LOCATIONS, {"keys": keys}):
            cells.setdefault(key, []).append(
                TypedLocation(location_identifier_type=_TYPES[location_type], location=location)
            )
    found = []
    for row in rows:
        unit = ConsumptionReportingUnit(
            media_consumed=row["media_consumed"],
            duration_s=(row["end_ns"] - row["start_ns"]) // _NS,
            locations=cells.get(row["key"], ()),
        )
        unit.start_time.FromNanoseconds(row["start_ns"])
        if row["client_endpoint"]:
            unit.client_endpoint_address.CopyFrom(EndpointAddress.FromString(row["client_endpoint"]))
        if row["server_endpoint"]:
            unit.server_endpoint_address.CopyFrom(EndpointAddress.FromString(row["server_endpoint"]))
        record = ConsumptionRecord(
            provisioning_session_id=row["provisioning_session_id"],
            session_id=row["session_id"],
            media_player_entry=row["media_player_entry"],
            reporting_client_id=row["reporting_client_id"],
            consumption_reporting_unit=unit,
        )
        record.receive_time.FromNanoseconds(row["received_ns"])
        found.append((row["id"], record))
    return found


def last_record(reader: Reader) -> int:
    """The number of the record that came last; 0: there is none."""
    return int(reader.connection.execute(select(func.max(units.c.id))).scalar_one() or 0)


def check_filter(wanted: ConsumptionFilter) -> None:
    """Raises InvalidArgument unless the filter means something."""
    for _ in _conditions(wanted):
        pass


def aggregate(reader: Reader, request: AggregateConsumptionRequest) -> list[ConsumptionAggregate]:
    """Clients and time per medium and period (and cell), in the order of time, medium and cell.

    Raises InvalidArgument for a filter that means nothing, and where there would be more periods or rows than anybody
    reads.
    """
    bounds = _bounds(reader, request.filter)
    if bounds is None:
        return []
    from_ns, until_ns = bounds
    # One period for all begins where the time does; others at whole multiples of their length.
    length_ns = request.bucket_s * _NS or until_ns - from_ns
    origin_ns = from_ns - from_ns % length_ns if request.bucket_s else from_ns
    periods = -((origin_ns - until_ns) // length_ns)
    if periods > MAX_PERIODS:
        raise InvalidArgument.of(
            "bucket_s", f"expected at most {MAX_PERIODS} periods between the two times, found {periods}"
        )
    pieces = _pieces(request, from_ns, until_ns, origin_ns, length_ns)
    end = _next(pieces.c.start_ns, origin_ns, length_ns)
    lasted = _least(pieces.c.end_ns, end) - pieces.c.start_ns
    period = ((pieces.c.start_ns - origin_ns) // length_ns).label("period")
    query = (
        # Sums of nanoseconds outgrow 63 bits, sums of seconds and of what is left of them do not.
        select(
            period,
            pieces.c.media,
            pieces.c.area,
            func.count(distinct(pieces.c.client)),
            func.sum(lasted // _NS),
            func.sum(lasted % _NS),
        )
        .group_by(period, pieces.c.media, pieces.c.area)
        .order_by(period, pieces.c.media, pieces.c.area)
        .limit(MAX_AGGREGATES + 1)
    )
    rows = reader.connection.execute(query).all()
    if len(rows) > MAX_AGGREGATES:
        raise InvalidArgument.of("bucket_s", f"expected at most {MAX_AGGREGATES} aggregates: ask for less at a time")
    found = []
    for number, media, area, clients, whole_s, rest_ns in rows:
        consumed_ns = int(whole_s) * _NS + int(rest_ns)
        aggregated = ConsumptionAggregate(
            media_consumed=media,
            area=area,
            client_count=clients,
            consumed_s=consumed_ns / _NS,
            consumed_ns=consumed_ns,
        )
        begin_ns = origin_ns + number * length_ns
        aggregated.start_time.FromNanoseconds(max(begin_ns, from_ns))
        aggregated.end_time.FromNanoseconds(min(begin_ns + length_ns, until_ns))
        found.append(aggregated)
    return found


def statistics(reader: Reader, provisioning_session_id: str) -> ConsumptionStatistics:
    """Counts of what is kept of a provisioning session."""
    execute = reader.connection.execute
    told = select(
        func.count(),
        func.coalesce(func.sum(reports.c.unsolicited_locations), 0),
        func.coalesce(func.sum(reports.c.unsolicited_endpoints), 0),
    ).where(reports.c.provisioning_session_id == provisioning_session_id)
    kept = select(func.count(), func.count(distinct(units.c.reporting_client_id))).where(
        units.c.provisioning_session_id == provisioning_session_id
    )
    report_count, unsolicited_locations, unsolicited_endpoints = execute(told).one()
    unit_count, client_count = execute(kept).one()
    return ConsumptionStatistics(
        provisioning_session_id=provisioning_session_id,
        report_count=report_count,
        unit_count=unit_count,
        client_count=client_count,
        unsolicited_location_count=int(unsolicited_locations),
        unsolicited_endpoint_count=int(unsolicited_endpoints),
    )


def _conditions(wanted: ConsumptionFilter) -> Iterator[ColumnElement[bool]]:
    for column, value in (
        (units.c.provisioning_session_id, wanted.provisioning_session_id),
        (units.c.session_id, wanted.session_id),
        (units.c.reporting_client_id, wanted.reporting_client_id),
        (units.c.media_player_entry, wanted.media_player_entry),
        (units.c.media_consumed, wanted.media_consumed),
    ):
        if value:
            yield column == value
    start_ns, end_ns = _times(wanted)
    if start_ns is not None:
        # What lasted no time at all was there when it began.
        yield or_(units.c.end_ns > start_ns, units.c.start_ns >= start_ns)
    if end_ns is not None:
        yield units.c.start_ns < end_ns
    if wanted.area:
        yield (select(literal(1)).where(locations.c.key == units.c.key, _is_in(wanted.area)).correlate(units).exists())


def _times(wanted: ConsumptionFilter) -> tuple[int | None, int | None]:
    start_ns = wanted.start_time.ToNanoseconds() if wanted.HasField("start_time") else None
    end_ns = wanted.end_time.ToNanoseconds() if wanted.HasField("end_time") else None
    for field, value in (("start_time", start_ns), ("end_time", end_ns)):
        if value is not None and not 0 <= value < 2**63:
            raise InvalidArgument.of(f"filter.{field}", f"expected a time from 1970 to 2261, found {value} ns")
    if start_ns is not None and end_ns is not None and end_ns <= start_ns:
        raise InvalidArgument.of("filter.end_time", "expected a time after start_time")
    return start_ns, end_ns


def _is_in(area: str) -> ColumnElement[bool]:
    try:
        check_area(area)
    except ValueError as error:
        raise InvalidArgument.of("filter.area", str(error)) from None
    return or_(locations.c.location == area, locations.c.location.startswith(f"{area}-", autoescape=True))


def _bounds(reader: Reader, wanted: ConsumptionFilter) -> tuple[int, int] | None:
    """The time that is aggregated over; None: nothing is there."""
    last = func.max(case((units.c.end_ns > units.c.start_ns, units.c.end_ns), else_=units.c.start_ns + 1))
    first_ns, last_ns = reader.connection.execute(
        select(func.min(units.c.start_ns), last).where(*_conditions(wanted))
    ).one()
    if first_ns is None:
        return None
    start_ns, end_ns = _times(wanted)
    return first_ns if start_ns is None else start_ns, last_ns if end_ns is None else end_ns


def _pieces(request: AggregateConsumptionRequest, from_ns: int, until_ns: int, origin_ns: int, length_ns: int) -> CTE:
    """Units cut to the time asked for, and at every end of a period: a piece may outlast the period it begins in."""
    media, client = units.c.media_consumed.label("media"), units.c.reporting_client_id.label("client")
    start = case((units.c.start_ns < from_ns, from_ns), else_=units.c.start_ns).label("start_ns")
    end = _least(units.c.end_ns, until_ns).label("end_ns")
    query: Select[tuple[str, str, str, int, int]]
    if request.by_area:
        here = locations.c.key == units.c.key
        if request.filter.area:
            here = and_(here, _is_in(request.filter.area))
        area = func.coalesce(locations.c.location, "").label("area")
        query = select(media, client, area, start, end).select_from(units.outerjoin(locations, here))
    else:
        query = select(media, client, literal("").label("area"), start, end)
    pieces = query.where(*_conditions(request.filter)).cte("pieces", recursive=True)
    cut = _next(pieces.c.start_ns, origin_ns, length_ns)
    rest = select(pieces.c.media, pieces.c.client, pieces.c.area, cut, pieces.c.end_ns).where(cut < pieces.c.end_ns)
    return pieces.union_all(rest)


def _next(start_ns: ColumnElement[int], origin_ns: int, length_ns: int) -> ColumnElement[int]:
    """Where the period ends in which something begins."""
    return ((start_ns - origin_ns) // length_ns + 1) * length_ns + origin_ns


def _least(one: ColumnElement[int], other: ColumnElement[int] | int) -> ColumnElement[int]:
    return case((one < other, one), else_=other)
