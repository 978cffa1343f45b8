"""How what is booked is used: what happens to it becomes usage, thresholds, records, and what is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from nf.common.store import Store, Transaction
from nf.netapi.config import NetapiSection
from nf.netapi.machine import Effect
from nf.netapi.v1.access_pb2 import DeviceAccess
from nf.netapi.v1.booking_pb2 import Booking
from nf.pcf.v1.policy_authorization_pb2 import EventNotification


class Monitoring:
    """Follows bookings, accesses and the PCF's reports; ``start`` and ``stop`` its timer."""

    def __init__(self, store: Store, config: NetapiSection) -> None:
        self._store = store
        self._config = config

    def on_usage(
        self, transaction: Transaction, access: DeviceAccess, notification: EventNotification, at: datetime
    ) -> None:
        """A report of the PCF on the application session of an access; ``at`` is when the PCF told it."""

    def on_booking(self, transaction: Transaction, booking: Booking, effects: Sequence[Effect]) -> None:
        """A booking has changed; it is as given now."""

    def on_access(
        self, transaction: Transaction, access: DeviceAccess, previous_state: DeviceAccess.State.ValueType
    ) -> None:
        """An access has another state; it is as given now."""

    async def start(self) -> None:
        """Begins to look at what time brings."""

    async def stop(self) -> None:
        """Ends; what is due is looked at after the next start."""
