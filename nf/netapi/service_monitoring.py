"""What a provider watches, over gRPC: usage, records, thresholds, and where events are sent to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal

from nf.common.date_time import moment_of
from nf.common.errors import InvalidArgument
from nf.common.reader import not_found
from nf.common.store import Page, Reader, Store, Transaction
from nf.netapi import network_access_ids, thresholds, usage_records
from nf.netapi.callers import Caller, Callers, Context
from nf.netapi.monitoring import Monitoring
from nf.netapi.sinks import SinkCredential, Sinks
from nf.netapi.v1 import monitoring_pb2 as api
from nf.netapi.v1.booking_pb2 import Booking, NetworkAccessId
from nf.netapi.v1.monitoring_pb2_grpc import EventSinksServiceServicer, MonitoringServiceServicer


class MonitoringService(MonitoringServiceServicer):
    """Requests to the domain, its answers back."""

    def __init__(self, store: Store, callers: Callers, monitoring: Monitoring) -> None:
        self._store = store
        self._callers = callers
        self._monitoring = monitoring

    async def GetBookingUsage(
        self, request: api.GetBookingUsageRequest, context: Context
    ) -> api.GetBookingUsageResponse:
        """How network access IDs are used."""
        caller = await self._callers.caller(context)

        def work(reader: Reader) -> list[api.NetworkAccessUsage]:
            issued = _issued(reader, caller, request.booking_id, request.network_access_id)
            return [self._monitoring.usage_of(reader, each) for each in issued]

        return api.GetBookingUsageResponse(usages=await self._store.read(work))

    async def GetUsageRecords(
        self, request: api.GetUsageRecordsRequest, context: Context
    ) -> api.GetUsageRecordsResponse:
        """What has been used in all."""
        caller = await self._callers.caller(context)

        def work(reader: Reader) -> list[api.UsageRecord]:
            _require_booking(reader, caller, request.booking_id)
            return usage_records.records_of(reader, request.booking_id)

        return api.GetUsageRecordsResponse(usage_records=await self._store.read(work))

    async def CreateThreshold(
        self, request: api.CreateThresholdRequest, context: Context
    ) -> api.CreateThresholdResponse:
        """Begins to watch a measure."""
        caller = await self._callers.caller(context)

        def work(transaction: Transaction) -> api.Threshold:
            def make() -> api.Threshold:
                made = thresholds.create(transaction, caller, request.threshold)
                self._monitoring.look_soon(transaction, made.network_access_id)
                return made

            return transaction.once(request.request_id, caller.scoped("CreateThreshold"), request, make)

        return api.CreateThresholdResponse(threshold=await self._store.write(work))

    async def ListThresholds(self, request: api.ListThresholdsRequest, context: Context) -> api.ListThresholdsResponse:
        """Lists thresholds."""
        caller = await self._callers.caller(context)
        found = await self._store.read(
            lambda reader: thresholds.page(
                reader, caller, request.network_access_id, page_size=request.page_size, page_token=request.page_token
            )
        )
        return api.ListThresholdsResponse(thresholds=found.items, next_page_token=found.next_page_token)

    async def DeleteThreshold(
        self, request: api.DeleteThresholdRequest, context: Context
    ) -> api.DeleteThresholdResponse:
        """Ends watching."""
        caller = await self._callers.caller(context)
        await self._store.write(lambda transaction: thresholds.remove(transaction, caller, request.threshold_id))
        return api.DeleteThresholdResponse()


class EventSinksService(EventSinksServiceServicer):
    """Requests to the domain, its answers back."""

    def __init__(self, store: Store, callers: Callers, sinks: Sinks) -> None:
        self._store = store
        self._callers = callers
        self._sinks = sinks

    async def CreateEventSink(
        self, request: api.CreateEventSinkRequest, context: Context
    ) -> api.CreateEventSinkResponse:
        """Begins to send."""
        caller = await self._callers.caller(context)

        def work(transaction: Transaction) -> api.EventSink:
            make = self._making(transaction, caller, request.event_sink)
            return transaction.once(request.request_id, caller.scoped("CreateEventSink"), request, make)

        made = await self._store.write(work)
        self._sinks.wake()
        return api.CreateEventSinkResponse(event_sink=made)

    async def GetEventSink(self, request: api.GetEventSinkRequest, context: Context) -> api.GetEventSinkResponse:
        """Reads a sink."""
        caller = await self._callers.caller(context)
        found = await self._store.read(lambda reader: self._sinks.require(reader, request.sink_id, caller.sees))
        return api.GetEventSinkResponse(event_sink=found)

    async def ListEventSinks(self, request: api.ListEventSinksRequest, context: Context) -> api.ListEventSinksResponse:
        """Lists sinks."""
        caller = await self._callers.caller(context)
        page: Page[api.EventSink] = await self._store.read(
            lambda reader: self._sinks.page(
                reader, caller.sees, page_size=request.page_size, page_token=request.page_token
            )
        )
        return api.ListEventSinksResponse(event_sinks=page.items, next_page_token=page.next_page_token)

    async def DeleteEventSink(
        self, request: api.DeleteEventSinkRequest, context: Context
    ) -> api.DeleteEventSinkResponse:
        """Ends sending at once."""
        caller = await self._callers.caller(context)

        def work(transaction: Transaction) -> None:
            found = transaction.get(api.EventSink, request.sink_id)
            if found is not None and caller.may_see(found.agreement_id):
                self._sinks.end_sink(transaction, request.sink_id, told=False)

        await self._store.write(work)
        self._sinks.wake()
        return api.DeleteEventSinkResponse()

    def _making(self, transaction: Transaction, caller: Caller, wanted: api.EventSink) -> Callable[[], api.EventSink]:
        def make() -> api.EventSink:
            credential = SinkCredential(wanted.access_token, _moment(wanted, "access_token_expire_time"))
            sink_id = self._sinks.create_sink(
                transaction,
                caller.agreement_id,
                wanted.url,
                credential=credential if wanted.access_token else None,
                secret=wanted.secret,
                event_types=wanted.event_types,
                subject=wanted.subject,
                expires=_moment(wanted, "expire_time"),
                max_events=wanted.max_events,
                after_sequence=wanted.after_sequence if wanted.HasField("after_sequence") else None,
            )
            made = self._sinks.require(transaction, sink_id, None)
            made.secret = self._sinks.secret_of(transaction, sink_id)
            return made

        return make


def _require_booking(reader: Reader, caller: Caller, booking_id: str) -> Booking:
    """The booking, if the caller may see it. Raises NotFound."""
    found = reader.require(Booking, booking_id)
    if not caller.may_see(found.agreement_id):
        raise not_found(Booking, booking_id)
    return found


def _issued(reader: Reader, caller: Caller, booking_id: str, network_access_id: str) -> list[NetworkAccessId]:
    """The IDs of a booking, or the one that is meant. Raises NotFound."""
    if not network_access_id:
        _require_booking(reader, caller, booking_id)
        return network_access_ids.of_booking(reader, booking_id)
    found = network_access_ids.require(reader, network_access_id)
    if booking_id and found.booking_id != booking_id:
        raise not_found(NetworkAccessId, network_access_id)
    if not caller.may_see(reader.require(Booking, found.booking_id).agreement_id):
        raise not_found(NetworkAccessId, network_access_id)
    return [found]


def _moment(wanted: api.EventSink, field: Literal["access_token_expire_time", "expire_time"]) -> datetime | None:
    if not wanted.HasField(field):
        return None
    try:
        return moment_of(getattr(wanted, field))
    except ValueError as error:
        raise InvalidArgument.of(f"event_sink.{field}", str(error)) from None
