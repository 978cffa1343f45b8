"""What the PCF tells of the application sessions of device accesses (TS 29.514 §4.2.5)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC
from typing import Final

import grpc

from nf.common.store import Store, Transaction
from nf.common.subscribe import Subscriber
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.netapi.access_installing import Installing
from nf.pcf.v1.policy_authorization_pb2 import EventNotification
from nf.pcf.v1.policy_authorization_pb2_grpc import PcfEventsServiceStub

SUBSCRIPTION: Final = "netapi from pcf"


def subscriber(store: Store, pcf: Callable[[], grpc.aio.Channel], installing: Installing) -> Subscriber:
    """Follows the PCF's events. What is under way for an access ends before its news take effect."""

    async def events(after: int) -> AsyncIterator[Event]:
        # Events may have been lost with the PCF's state, or are kept no longer.
        await installing.align()
        async for response in PcfEventsServiceStub(pcf()).WatchEvents(WatchEventsRequest(after_sequence=after)):
            yield response.event

    async def prepare(event: Event) -> bool:
        told = EventNotification()
        if not event.payload.Unpack(told):
            return False
        access_id, _, run = told.app_session_id.partition(".")
        if not run:
            # The AF's.
            return False
        await installing.settled(access_id)
        return True

    def handle(transaction: Transaction, event: Event) -> None:
        told = EventNotification()
        if event.payload.Unpack(told):
            installing.on_notification(transaction, told, event.event_time.ToDatetime(UTC))

    return Subscriber(SUBSCRIPTION, store, events, handle, prepare=prepare)
