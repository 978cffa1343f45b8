"""The life of a CAMARA Quality-On-Demand session at work: one step of its machine, within one transaction of the store.

What becomes of the booking and of the device's access becomes of the session, in the same transaction. What it owes in
return (giving back what is booked, being forgotten) is due: ``QodSessions`` does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from nf.common.resources import copy_of
from nf.common.store import KEEP, Keep, Transaction
from nf.netapi.callers import audience_of
from nf.netapi.machine import Effect as BookingEffect
from nf.netapi.qod_machine import QOD_SESSION, Effect, Event, State
from nf.netapi.qod_views import STATUS_EVENT, subject_of
from nf.netapi.sinks import Sinks
from nf.netapi.v1.access_pb2 import DeviceAccess
from nf.netapi.v1.booking_pb2 import Booking
from nf.netapi.v1.camara_qod_pb2 import (
    QOS_STATUS_AVAILABLE,
    QOS_STATUS_INFO_DELETE_REQUESTED,
    QOS_STATUS_INFO_DURATION_EXPIRED,
    QOS_STATUS_INFO_NETWORK_TERMINATED,
    QOS_STATUS_REQUESTED,
    QOS_STATUS_UNAVAILABLE,
    QodSession,
    QodSessionStatusChanged,
)

# How sessions are found: "AGREEMENT/DEVICE KEY".
BY_DEVICE: Final = "device"
_INFO: Final = {
    Event.REFUSED: QOS_STATUS_INFO_NETWORK_TERMINATED,
    Event.TERMINATED: QOS_STATUS_INFO_NETWORK_TERMINATED,
    Event.EXPIRED: QOS_STATUS_INFO_DURATION_EXPIRED,
    Event.DELETED: QOS_STATUS_INFO_DELETE_REQUESTED,
}
# A device that has it, or is about to.
_PROVIDED: Final = frozenset({DeviceAccess.STATE_INSTALLING, DeviceAccess.STATE_IN_USE})
_NOT_PROVIDED: Final = frozenset({DeviceAccess.STATE_INTERRUPTED, DeviceAccess.STATE_ENDED})
_OVER: Final = frozenset({DeviceAccess.REASON_OUTSIDE_PERIOD, DeviceAccess.REASON_BOOKING_ENDED})


class QodTransitions:
    """Steps of sessions."""

    def __init__(self, sinks: Sinks) -> None:
        self._sinks = sinks

    def on_booking(self, transaction: Transaction, booking: Booking, effects: Sequence[BookingEffect]) -> None:
        """What has become of a booking becomes of its session."""
        del effects
        session = transaction.get(QodSession, booking.booking_id)
        if session is None:
            return
        if booking.state == Booking.STATE_EXPIRED:
            self.step(transaction, session, Event.EXPIRED)
        elif booking.state in (Booking.STATE_SUSPENDED, Booking.STATE_RELEASED):
            self.step(transaction, session, Event.TERMINATED)

    def on_access(self, transaction: Transaction, access: DeviceAccess, previous: DeviceAccess.State.ValueType) -> None:
        """What has become of the device's access becomes of its session."""
        del previous
        session = transaction.get(QodSession, access.booking_id)
        if session is None or session.status == QOS_STATUS_UNAVAILABLE:
            return
        if access.state == DeviceAccess.STATE_IN_USE:
            self.step(transaction, session, Event.PROVIDED)
        elif session.status == QOS_STATUS_AVAILABLE and access.state not in _PROVIDED:
            self.step(transaction, session, Event.EXPIRED if access.reason in _OVER else Event.TERMINATED)
        elif session.status == QOS_STATUS_REQUESTED and access.state in _NOT_PROVIDED:
            self.step(transaction, session, Event.TERMINATED)

    def step(self, transaction: Transaction, session: QodSession, event: Event) -> QodSession:
        """Takes a transition with its effects; what it owes is due."""
        transition = QOD_SESSION.step(State(session.status), event)
        now = transaction.clock.now()
        changed = copy_of(session)
        due: datetime | Keep | None = KEEP
        if Effect.BEGIN in transition.effects:
            changed.start_time.FromDatetime(now)
        if Effect.END in transition.effects:
            changed.status_info = _INFO[event]
            if event is not Event.EXPIRED:
                changed.expire_time.FromDatetime(now)
            due = now
        changed.status = QOS_STATUS_UNAVAILABLE if Effect.END in transition.effects else transition.state.value
        if Effect.NOTIFY in transition.effects:
            transaction.emit(
                STATUS_EVENT,
                subject_of(changed.booking_id),
                QodSessionStatusChanged(session=changed),
                source="netapi",
                audience=(audience_of(changed.agreement_id),),
            )
        if Effect.FORGET in transition.effects:
            transaction.delete(QodSession, session.booking_id)
            if session.sink_id:
                self._sinks.end_sink(transaction, session.sink_id)
            return changed
        if session.status == State.ABSENT.value:
            owner = changed.agreement_id
            lookups = {BY_DEVICE: f"{owner}/{changed.device_key}"}
            first_due = None if isinstance(due, Keep) else due
            return transaction.insert(changed, changed.booking_id, parent=owner, lookups=lookups, due=first_due)
        if changed == session:
            return session
        return transaction.update(changed, changed.booking_id, due=due)
