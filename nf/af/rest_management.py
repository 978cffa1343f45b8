"""What an operator reads over HTTP: sessions, templates, policies, what was consumed, and the log of events.

Read-only, page by page, castcore's own properties included; consumption also as files. Operators only: where providers
are configured, those with ``operator``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from nf.af.consumption_export import MEDIA_TYPES
from nf.af.providers import AUTHORIZATION, Provider, Providers
from nf.af.reports import ConsumptionReports
from nf.af.service_metrics import MetricsReports
from nf.af.v1 import consumption_reporting_pb2 as consumption
from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1 import metrics_reporting_pb2 as metrics_reporting
from nf.af.v1 import provisioning_pb2 as m1
from nf.af.v1.metrics_reporting_pb2 import MetricsReportingConfiguration
from nf.common.codec import to_json
from nf.common.date_time import parse_date_time
from nf.common.errors import InvalidArgument
from nf.common.reader import MAX_INTEGER
from nf.common.resources import MAX_PAGE_SIZE
from nf.common.rest import Answer, Door, Media, Query, RestCall
from nf.common.store import Page, Store
from nf.common.v1.events_pb2 import Event

PREFIX: Final = "/castcore/v1"

_FORMATS: Final = {
    "csv": consumption.EXPORT_FORMAT_CSV,
    "jsonl": consumption.EXPORT_FORMAT_JSON_LINES,
    "parquet": consumption.EXPORT_FORMAT_PARQUET,
}
_FILES: Final = Media(tuple(each.partition(";")[0] for each in MEDIA_TYPES.values()), {"type": "string"})
_LIST: Final = Media(
    ("application/json",),
    {
        "type": "object",
        "required": ["items", "nextPageToken"],
        "properties": {
            "items": {"type": "array", "items": {"type": "object"}},
            "nextPageToken": {"type": "string"},
        },
    },
)
_OBJECT: Final = Media(("application/json",), {"type": "object"})

_PAGE: Final = (
    Query(
        "pageSize",
        "At most so many; 0: the server's choice.",
        {"type": "integer", "minimum": 0, "maximum": MAX_PAGE_SIZE},
    ),
    Query("pageToken", "nextPageToken of the page before."),
)
_SESSION: Final = Query("provisioningSessionId", "Only those of this provisioning session.")
_CONFIGURATION: Final = Query("metricsReportingConfigurationId", "Only those to this configuration.")
_TIME: Final = {"type": "string", "format": "date-time"}
_FILTER: Final = (
    _SESSION,
    Query("sessionId", "Only those of this reporting session."),
    Query("reportingClientId", "Only those of this client."),
    Query("mediaPlayerEntry", "Only those of this entry point."),
    Query("mediaConsumed", "Only those of this medium."),
    Query("startTime", "Only those that had not ended by then.", _TIME),
    Query("endTime", "Only those that had begun before then.", _TIME),
    Query("area", "Only those in this cell, or in the area that its first parts name."),
)

Call = RestCall[Provider]


def build_door(
    store: Store, providers: Providers, reports: ConsumptionReports, metrics: MetricsReports
) -> Door[Provider]:
    """The door at ``PREFIX``."""

    def operator(headers: Mapping[str, str]) -> Provider:
        caller = providers.identify(headers.get(AUTHORIZATION, ""))
        caller.check_operator("read what the AF keeps of everyone")
        return caller

    made: Door[Provider] = Door(
        PREFIX,
        title="castcore management",
        version="1.0.0",
        identify=operator,
        description="What the AF keeps, for operators. Nothing is changed here.",
        max_age_s=1,
        secured=providers.configured,
    )
    _Resources(store).join(made)
    _Consumption(reports).join(made)
    _Metrics(metrics).join(made)
    return made


class _Resources:
    """Resources in the order of their creation, and the events in theirs."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def join(self, door: Door[Provider]) -> None:
        self._join_kind(door, "provisioning-sessions", "ProvisioningSession", m1.ProvisioningSession)
        self._join_kind(door, "policy-templates", "PolicyTemplate", m1.PolicyTemplate, below_session=True)
        self._join_kind(
            door,
            "consumption-reporting-configurations",
            "ConsumptionReportingConfiguration",
            m1.ConsumptionReportingConfiguration,
            below_session=True,
        )
        self._join_kind(
            door,
            "metrics-reporting-configurations",
            "MetricsReportingConfiguration",
            MetricsReportingConfiguration,
            below_session=True,
        )
        self._join_kind(door, "dynamic-policies", "DynamicPolicy", m5.DynamicPolicy, below_session=True)
        door.operation(
            "GET",
            "/events",
            self.events,
            operation_id="listEvents",
            summary="The events that are kept, in sequence.",
            answers={200: _LIST},
            query=(
                Query("after", "Only those of a higher sequence.", {"type": "integer", "minimum": 0}),
                _PAGE[0],
            ),
        )

    def _join_kind(
        self, door: Door[Provider], path: str, name: str, message_type: type[Message], *, below_session: bool = False
    ) -> None:
        async def several(call: Call) -> Answer:
            parent = call.query(_SESSION.name) or None if below_session else None
            page_size, page_token = _page_size(call), call.query("pageToken")
            page: Page[Message] = await self._store.read(
                lambda reader: reader.list(message_type, parent=parent, page_size=page_size, page_token=page_token)
            )
            return _list(page.items, page.next_page_token)

        async def one(call: Call) -> Answer:
            found = await self._store.read(lambda reader: reader.require(message_type, call.path["id"]))
            return Answer(200, to_json(found, internal=True), etag=str(getattr(found, "etag", "")))

        door.operation(
            "GET",
            f"/{path}",
            several,
            operation_id=f"list{name}s" if name[-1] != "y" else f"list{name[:-1]}ies",
            summary="Those that there are, in the order of their creation.",
            answers={200: _LIST},
            query=(*((_SESSION,) if below_session else ()), *_PAGE),
        )
        door.operation(
            "GET",
            f"/{path}/{{id}}",
            one,
            operation_id=f"get{name}",
            summary="One of them, whole.",
            answers={200: _OBJECT},
            errors=(404,),
        )

    async def events(self, call: Call) -> Answer:
        after = min(_number(call, "after"), MAX_INTEGER)
        limit = _page_size(call) or 100
        found: list[Event] = await self._store.read(lambda reader: reader.events(after, limit))
        following = str(found[-1].sequence) if len(found) == limit else ""
        return _list(found, following)


class _Consumption:
    """What clients have reported: records, aggregates, counts and files."""

    def __init__(self, reports: ConsumptionReports) -> None:
        self._reports = reports

    def join(self, door: Door[Provider]) -> None:
        door.operation(
            "GET",
            "/consumption-reporting-sessions",
            self.sessions,
            operation_id="listConsumptionReportingSessions",
            summary="Reporting sessions that have not ended.",
            answers={200: _LIST},
            query=(_SESSION, *_PAGE),
        )
        door.operation(
            "GET",
            "/consumption-reporting-units",
            self.units,
            operation_id="listConsumptionReportingUnits",
            summary="What was reported, in the order of first receipt.",
            answers={200: _LIST},
            query=(*_FILTER, *_PAGE),
        )
        door.operation(
            "GET",
            "/consumption-aggregates",
            self.aggregates,
            operation_id="aggregateConsumption",
            summary="Clients and time per medium and period.",
            answers={200: _LIST},
            query=(
                *_FILTER,
                Query("bucketSeconds", "Length of a period; 0: one for all.", {"type": "integer", "minimum": 0}),
                Query("byArea", "Whether cells are told apart.", {"type": "boolean"}),
            ),
        )
        door.operation(
            "GET",
            "/consumption-statistics/{provisioningSessionId}",
            self.statistics,
            operation_id="getConsumptionStatistics",
            summary="Counts of what is kept of a provisioning session, whether it is still there or not.",
            answers={200: _OBJECT},
        )
        door.operation(
            "GET",
            "/consumption-export",
            self.export,
            operation_id="exportConsumption",
            summary="What was reported, as a file.",
            answers={200: _FILES},
            errors=(409,),
            query=(
                *_FILTER,
                Query("format", "The form of the file.", {"type": "string", "enum": list(_FORMATS), "default": "csv"}),
            ),
            max_age_s=0,
        )

    async def sessions(self, call: Call) -> Answer:
        found = await self._reports.list_sessions(
            consumption.ListConsumptionReportingSessionsRequest(
                page_size=_page_size(call),
                page_token=call.query("pageToken"),
                provisioning_session_id=call.query(_SESSION.name),
            )
        )
        return _list(found.consumption_reporting_sessions, found.next_page_token)

    async def units(self, call: Call) -> Answer:
        found = await self._reports.list_units(
            consumption.ListConsumptionReportingUnitsRequest(
                filter=_filter(call), page_size=_page_size(call), page_token=call.query("pageToken")
            )
        )
        return _list(found.consumption_records, found.next_page_token)

    async def aggregates(self, call: Call) -> Answer:
        by_area = call.query("byArea")
        if by_area not in ("", "true", "false"):
            raise InvalidArgument.of("byArea", f"expected true or false, found {by_area!r}")
        found = await self._reports.aggregate(
            consumption.AggregateConsumptionRequest(
                filter=_filter(call),
                bucket_s=_number(call, "bucketSeconds", 2**32 - 1),
                by_area=by_area == "true",
            )
        )
        return _list(found.consumption_aggregates, "")

    async def statistics(self, call: Call) -> Answer:
        found = await self._reports.statistics(call.path["provisioningSessionId"])
        return Answer(200, to_json(found, internal=True))

    async def export(self, call: Call) -> Answer:
        wanted = call.query("format") or "csv"
        if wanted not in _FORMATS:
            raise InvalidArgument.of("format", f"expected one of {', '.join(_FORMATS)}, found {wanted!r}")
        pieces = self._reports.export(
            consumption.ExportConsumptionRequest(filter=_filter(call), format=_FORMATS[wanted])
        )
        # What is refused is refused before the answer begins.
        first = await anext(pieces, b"")
        return Answer(
            200,
            stream=_with_first(first, pieces),
            media_type=MEDIA_TYPES[_FORMATS[wanted]],
            headers={"content-disposition": f'attachment; filename="consumption.{wanted}"'},
        )


class _Metrics:
    """What clients have reported of metrics, as it came."""

    def __init__(self, reports: MetricsReports) -> None:
        self._reports = reports

    def join(self, door: Door[Provider]) -> None:
        door.operation(
            "GET",
            "/metrics-reports",
            self.several,
            operation_id="listMetricsReports",
            summary="Metrics reports without their content.",
            answers={200: _LIST},
            query=(_SESSION, _CONFIGURATION, *_PAGE),
        )
        door.operation(
            "GET",
            "/metrics-reports/{id}",
            self.one,
            operation_id="getMetricsReport",
            summary="A metrics report, its content in base64.",
            answers={200: _OBJECT},
            errors=(404,),
        )

    async def several(self, call: Call) -> Answer:
        request = metrics_reporting.ListMetricsReportsRequest(
            provisioning_session_id=call.query(_SESSION.name),
            metrics_reporting_configuration_id=call.query(_CONFIGURATION.name),
            page_size=_page_size(call),
            page_token=call.query("pageToken"),
        )
        found = await self._reports.list_reports(request, call.caller)
        return _list(found.metrics_reports, found.next_page_token)

    async def one(self, call: Call) -> Answer:
        found = await self._reports.get(call.path["id"], call.caller)
        return Answer(200, to_json(found, internal=True))


async def _with_first(first: bytes, others: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for each in others:
        yield each


def _list(items: Iterable[Message], next_page_token: str) -> Answer:
    shown = [to_json(each, internal=True) for each in items]
    return Answer(200, {"items": shown, "nextPageToken": next_page_token})


def _filter(call: Call) -> consumption.ConsumptionFilter:
    return consumption.ConsumptionFilter(
        provisioning_session_id=call.query(_SESSION.name),
        session_id=call.query("sessionId"),
        reporting_client_id=call.query("reportingClientId"),
        media_player_entry=call.query("mediaPlayerEntry"),
        media_consumed=call.query("mediaConsumed"),
        start_time=_time(call, "startTime"),
        end_time=_time(call, "endTime"),
        area=call.query("area"),
    )


def _page_size(call: Call) -> int:
    return _number(call, "pageSize", MAX_PAGE_SIZE)


def _number(call: Call, name: str, most: int = 2**64 - 1) -> int:
    text = call.query(name)
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal()) or len(text) > 20 or int(text) > most:
        raise InvalidArgument.of(name, f"expected a number from 0 to {most}, found {text[:32]!r}")
    return int(text)


def _time(call: Call, name: str) -> Timestamp | None:
    text = call.query(name)
    if not text:
        return None
    try:
        seconds, nanos = parse_date_time(text)
    except ValueError as error:
        raise InvalidArgument.of(name, str(error)) from None
    return Timestamp(seconds=seconds, nanos=nanos)
