"""A booking's life at work: one step of the machine with all that belongs to it, within one transaction of the store.

What comes next is kept as the booking's due time, so that a restart does not forget it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias, cast

from nf.common.resources import copy_of
from nf.common.store import Transaction
from nf.netapi import capacity, network_access_ids
from nf.netapi.callers import audience_of
from nf.netapi.machine import BOOKING, Effect, Event, State
from nf.netapi.offers import parts_beyond, parts_of, window_at
from nf.netapi.periods import MAX_WINDOWS
from nf.netapi.v1.booking_pb2 import (
    Booking,
    BookingChanged,
    BookingPeriod,
    BookingRequest,
    Offer,
    Reconfiguration,
)

# Called in the transaction of every transition, with the booking after it and the effects that the machine names.
Follower: TypeAlias = Callable[[Transaction, Booking, Sequence[Effect]], None]

SOURCE: Final = "netapi"
STATE_CHANGED: Final = "BOOKING_STATE"
RECONFIGURED: Final = "BOOKING_RECONFIGURED"
RECONFIGURATION_OFFERED: Final = "RECONFIGURATION_OFFERED"
RECONFIGURATION_DECLINED: Final = "RECONFIGURATION_DECLINED"
RECONFIGURATION_LAPSED: Final = "RECONFIGURATION_LAPSED"

# Each window begins and ends, and an offer may lapse.
_ALL: Final = 2 * MAX_WINDOWS + 2

ACCEPTED: Final = (State.BOOKED, State.ACTIVE, State.SUSPENDED)
_RECONFIGURING: Final = (Event.RECONFIGURE_BOOKED, Event.RECONFIGURE_ACTIVE)


class Transitions:
    """Steps of bookings. ``followers`` are told of each, when all else of it is stored."""

    def __init__(self, followers: Sequence[Follower] = ()) -> None:
        self._followers = tuple(followers)

    def request(self, transaction: Transaction, booking: Booking) -> Booking:
        """Stores a booking that has been asked for. Raises AlreadyExists."""
        return self._arrive(transaction, Booking(), booking, Event.REQUEST)

    def step(self, transaction: Transaction, before: Booking, event: Event, changed: Booking | None = None) -> Booking:
        """Stores the booking, with the content of ``changed``, in the state that ``event`` leads to.

        Raises InvalidTransition.
        """
        return self._arrive(transaction, before, copy_of(before if changed is None else changed), event)

    def reconfigure(self, transaction: Transaction, before: Booking, now: datetime) -> Booking:
        """Puts the reconfiguration that is offered in force. Raises InvalidTransition."""
        changed = copy_of(before)
        changed.request.CopyFrom(before.reconfiguration.request)
        changed.accepted_offer.CopyFrom(before.reconfiguration.offer)
        changed.ClearField("reconfiguration")
        _enter(changed, now)
        event = Event.RECONFIGURE_ACTIVE if is_within_period(changed, now) else Event.RECONFIGURE_BOOKED
        return self._arrive(transaction, before, changed, event)

    def accept(self, transaction: Transaction, before: Booking, now: datetime) -> Booking:
        """Puts the first offer in force; where a period has begun, the booking is ACTIVE. Raises InvalidTransition."""
        changed = copy_of(before)
        changed.accepted_offer.CopyFrom(before.offer)
        changed.ClearField("offer")
        _enter(changed, now)
        return self.advance(transaction, self._arrive(transaction, before, changed, Event.ACCEPT), now)

    def offer_reconfiguration(
        self, transaction: Transaction, before: Booking, request: BookingRequest, offer: Offer, now: datetime
    ) -> Booking:
        """Holds what the offer of a change needs beyond what is booked, in place of an offer before it."""
        changed = copy_of(before)
        changed.reconfiguration.CopyFrom(Reconfiguration(request=request, offer=offer))
        changed.last_revision = offer.revision
        had = capacity.booked(transaction, before.booking_id)
        capacity.hold(transaction, before.booking_id, parts_beyond(parts_of(offer, now), had))
        stored = self.keep(transaction, changed)
        tell(transaction, stored, before, RECONFIGURATION_OFFERED)
        return stored

    def drop_reconfiguration(self, transaction: Transaction, before: Booking, event_type: str) -> Booking:
        """Lets the reconfiguration that is offered go: what it has held is free."""
        changed = copy_of(before)
        changed.ClearField("reconfiguration")
        capacity.return_held(transaction, before.booking_id)
        stored = self.keep(transaction, changed)
        tell(transaction, stored, before, event_type)
        return stored

    def advance(self, transaction: Transaction, booking: Booking, now: datetime, most: int = _ALL) -> Booking:
        """Does what has come due until ``now``, one after the other; no more than ``most`` steps."""
        for _ in range(most):
            moment = due_of(booking)
            if moment is None or moment > now:
                break
            booking = self._next(transaction, booking, moment)
        return booking

    def keep(self, transaction: Transaction, booking: Booking) -> Booking:
        """Stores a booking, due when something is to be done."""
        return transaction.update(booking, booking.booking_id, due=due_of(booking))

    def _next(self, transaction: Transaction, booking: Booking, moment: datetime) -> Booking:
        state = State(booking.state)
        if state is State.OFFERED:
            return self.step(transaction, booking, Event.LAPSE)
        if booking.HasField("reconfiguration") and lapses_at(booking.reconfiguration.offer) == moment:
            return self.drop_reconfiguration(transaction, booking, RECONFIGURATION_LAPSED)
        if state is State.BOOKED:
            return self.step(transaction, booking, Event.PERIOD_BEGINS)
        changed = copy_of(booking)
        event = Event.PERIOD_ENDS if _enter(changed, moment) else Event.LAST_PERIOD_ENDS
        return self.step(transaction, booking, event, changed)

    def _arrive(self, transaction: Transaction, before: Booking, after: Booking, event: Event) -> Booking:
        transition = BOOKING.step(State(before.state), event)
        # All effects of this machine are of this kind.
        effects = cast("tuple[Effect, ...]", transition.effects)
        after.state = Booking.State.ValueType(transition.state.value)
        now = transaction.clock.now()
        if Effect.HOLD_CAPACITY in effects:
            capacity.stand(transaction, after.booking_id, after.agreement_id)
            capacity.hold(transaction, after.booking_id, parts_of(after.offer, now))
        if Effect.BOOK_CAPACITY in effects:
            capacity.book(transaction, after.booking_id, parts_of(after.accepted_offer, now))
        if Effect.ISSUE_NETWORK_ACCESS_IDS in effects:
            network_access_ids.issue(transaction, after)
        if event is Event.PERIOD_ENDS:
            capacity.return_passed(transaction, after.booking_id, transaction.clock.now_ns())
            network_access_ids.recount(transaction, after)
        if Effect.RETURN_CAPACITY in effects:
            capacity.end(transaction, after.booking_id)
            network_access_ids.end(transaction, after)
            after.ClearField("reconfiguration")
            after.ClearField("current_period")
        if event is Event.REQUEST:
            stored = transaction.insert(after, after.booking_id, parent=after.agreement_id)
        else:
            stored = self.keep(transaction, after)
        if Effect.NOTIFY in effects:
            tell(transaction, stored, before, RECONFIGURED if event in _RECONFIGURING else STATE_CHANGED)
        for follower in self._followers:
            follower(transaction, stored, effects)
        return stored


def due_of(booking: Booking) -> datetime | None:
    """When something is to be done with a booking; None: never by itself."""
    state = State(booking.state)
    if state is State.OFFERED:
        return lapses_at(booking.offer)
    if state not in ACCEPTED:
        return None
    period = booking.current_period
    moment = (period.start_time if state is State.BOOKED else period.stop_time).ToDatetime(UTC)
    if booking.HasField("reconfiguration"):
        return min(moment, lapses_at(booking.reconfiguration.offer))
    return moment


def lapses_at(offer: Offer) -> datetime:
    """Until when an offer can be accepted."""
    return offer.valid_until.ToDatetime(UTC)


def is_within_period(booking: Booking, now: datetime) -> bool:
    """Whether the booking's present or next period has begun."""
    return booking.current_period.start_time.ToDatetime(UTC) <= now


def _enter(booking: Booking, moment: datetime) -> bool:
    """Makes the present period the one that ``moment`` is in, or the next; False: there is none any more."""
    window = window_at(booking.accepted_offer, moment)
    if window is None:
        booking.ClearField("current_period")
        return False
    booking.current_period.CopyFrom(BookingPeriod(start_time=window.start_time, stop_time=window.stop_time))
    return True


def tell(transaction: Transaction, booking: Booking, before: Booking, event_type: str) -> None:
    """Tells its provider of a change of a booking."""
    transaction.emit(
        event_type,
        f"bookings/{booking.booking_id}",
        BookingChanged(booking=booking, previous_state=before.state),
        source=SOURCE,
        audience=(audience_of(booking.agreement_id),),
    )
