"""Bookings as their provider and the operator handle them (5G-MAG live media distribution workflow, phases B and D).

Whatever is asked of a booking is asked of it as it is now: what has come due before is done first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.reader import not_found
from nf.common.resources import apply_mask, check_etag, copy_of, new_id
from nf.common.store import Page, Reader, Store, Transaction
from nf.common.v1.types_pb2 import ProblemDetails
from nf.netapi import agreements, booking_requests, capacity, offers, periods
from nf.netapi.callers import Caller
from nf.netapi.errors import BookingUnchangeable, NothingToOffer, OfferLapsed, OfferSuperseded
from nf.netapi.machine import Event, State
from nf.netapi.offers import Terms, Wanted
from nf.netapi.transitions import (
    ACCEPTED,
    RECONFIGURATION_DECLINED,
    Follower,
    Transitions,
    is_within_period,
    lapses_at,
)
from nf.netapi.v1.agreement_pb2 import Agreement
from nf.netapi.v1.booking_pb2 import (
    Booking,
    BookingRequest,
    Offer,
    OutsidePolicy,
    ReconfigureBookingRequest,
    RequestBookingRequest,
)
from nf.netapi.v1.coverage_pb2 import CapabilityProfile, ServiceArea

__all__ = ["Bookings", "Follower"]

# So many lines of an offer take long for the event loop.
_MANY: Final = 64


class Bookings:
    """All bookings of one platform. Those of another agreement do not exist for a caller, but for the operator.

    ``offer_validity``: so long an offer stands where the agreement does not say.
    """

    def __init__(self, store: Store, transitions: Transitions, offer_validity: timedelta) -> None:
        self._store = store
        self._transitions = transitions
        self._offer_validity = offer_validity

    async def request(
        self, caller: Caller, request: BookingRequest, request_id: str = "", *, made_at: str = ""
    ) -> Booking:
        """B.1 and B.2: a booking OFFERED, or DECLINED with its problem. A repeat of ``request_id`` answers the same.

        Raises InvalidArgument, with paths into the request, and what the agreement does not allow.
        """

        def work(transaction: Transaction) -> Booking:
            return transaction.once(
                request_id,
                caller.scoped("RequestBooking"),
                RequestBookingRequest(request=request),
                lambda: self.request_in(transaction, caller, request, made_at=made_at),
            )

        return await self._store.write(work, apart=await self._is_large(request))

    async def accept(self, caller: Caller, booking_id: str, revision: int = 0) -> Booking:
        """B.3 and B.4: what was offered, at first or as a reconfiguration, is booked. A repeat is harmless.

        Raises OfferLapsed, OfferSuperseded, InvalidTransition.
        """
        known = await self.get(caller, booking_id)
        return await self._store.write(
            lambda transaction: self.accept_in(transaction, caller, booking_id, revision), apart=_is_long(known)
        )

    async def decline(self, caller: Caller, booking_id: str, revision: int = 0) -> Booking:
        """Lets the offer that stands go, at first or as a reconfiguration. A repeat is harmless."""

        def work(transaction: Transaction) -> Booking:
            booking = self._present(transaction, caller, booking_id)
            if State(booking.state) in ACCEPTED:
                if not booking.HasField("reconfiguration"):
                    return booking
                _check_revision(booking.last_revision, revision)
                return self._transitions.drop_reconfiguration(transaction, booking, RECONFIGURATION_DECLINED)
            if State(booking.state) is State.DECLINED:
                return booking
            _check_revision(booking.offer.revision, revision)
            changed = copy_of(booking)
            changed.problem.CopyFrom(
                ProblemDetails(title="The provider has declined the offer", cause="DECLINED_BY_PROVIDER")
            )
            return self._transitions.step(transaction, booking, Event.DECLINE, changed)

        return await self._store.write(work)

    async def get(self, caller: Caller, booking_id: str) -> Booking:
        """The booking of that reference. Raises NotFound."""
        return await self._store.read(lambda reader: require(reader, caller, booking_id))

    async def page(
        self,
        caller: Caller,
        states: Sequence[Booking.State.ValueType] = (),
        page_size: int = 0,
        page_token: str = "",
    ) -> Page[Booking]:
        """Bookings in the order of their creation; a page may be shorter than asked for, and still not be the last."""
        page = await self._store.read(
            lambda reader: reader.list(Booking, parent=caller.sees, page_size=page_size, page_token=page_token)
        )
        if not states:
            return page
        return Page([each for each in page.items if each.state in states], page.next_page_token)

    async def reconfigure(
        self,
        caller: Caller,
        booking_id: str,
        request: BookingRequest,
        mask: FieldMask,
        etag: str = "",
        request_id: str = "",
    ) -> Booking:
        """A new offer on the same booking, in place of one that was open; until it is accepted nothing else changes.

        ``mask`` says what of ``request`` counts; empty: all. Raises as ``request`` does, and EtagMismatch,
        BookingUnchangeable and NothingToOffer; then everything is as it was.
        """

        def work(transaction: Transaction) -> Booking:
            asked = ReconfigureBookingRequest(booking_id=booking_id, request=request, update_mask=mask, etag=etag)
            return transaction.once(
                request_id,
                caller.scoped("ReconfigureBooking"),
                asked,
                lambda: self.reconfigure_in(transaction, caller, booking_id, request, mask, etag),
            )

        known = await self.get(caller, booking_id)
        if not mask.paths or "periods" in mask.paths:
            apart = await self._is_large(request)
        else:
            apart = len(request.area_capabilities) > _MANY
        return await self._store.write(work, apart=apart or _is_long(known))

    async def release(self, caller: Caller, booking_id: str) -> Booking:
        """D: gives back what is booked or held. A repeat is harmless. Raises InvalidTransition."""
        return await self._store.write(lambda transaction: self.release_in(transaction, caller, booking_id))

    async def suspend(self, caller: Caller, booking_id: str, detail: str = "") -> Booking:
        """The operator withholds what is booked. A repeat is harmless. Raises OperatorOnly, InvalidTransition."""
        caller.check_operator("suspend bookings")
        problem = ProblemDetails(title="The operator has suspended the booking", detail=detail, cause="OPERATOR")

        def work(transaction: Transaction) -> Booking:
            booking = self._present(transaction, caller, booking_id)
            if State(booking.state) is State.SUSPENDED:
                return booking
            changed = copy_of(booking)
            changed.problem.CopyFrom(problem)
            return self._transitions.step(transaction, booking, Event.SUSPEND, changed)

        return await self._store.write(work)

    async def resume(self, caller: Caller, booking_id: str) -> Booking:
        """The operator lets it go on. A repeat is harmless. Raises OperatorOnly, InvalidTransition."""
        caller.check_operator("resume bookings")

        def work(transaction: Transaction) -> Booking:
            booking = self._present(transaction, caller, booking_id)
            if State(booking.state) in (State.BOOKED, State.ACTIVE):
                return booking
            changed = copy_of(booking)
            changed.ClearField("problem")
            within = is_within_period(booking, transaction.clock.now())
            event = Event.RESUME_ACTIVE if within else Event.RESUME_BOOKED
            return self._transitions.step(transaction, booking, event, changed)

        return await self._store.write(work)

    # --- within a transaction of the caller's -------------------------------------------------------------------------

    def request_in(
        self, transaction: Transaction, caller: Caller, request: BookingRequest, *, made_at: str = ""
    ) -> Booking:
        """As ``request``."""
        agreement = agreements.require(transaction, caller.require_agreement())
        now = transaction.clock.now()
        wanted = _wanted(transaction, agreement, request, now, capacity.standing(transaction, agreement.agreement_id))
        offer = offers.draw_up(transaction, wanted, self._terms(agreement), now)
        booking = Booking(
            booking_id=new_id(),
            agreement_id=agreement.agreement_id,
            request=wanted.request,
            made_at=made_at,
            last_revision=offer.revision,
        )
        booking.create_time.FromDatetime(now)
        requested = self._transitions.request(transaction, booking)
        answered = copy_of(requested)
        answered.offer.CopyFrom(offer)
        if offers.is_empty(offer):
            answered.offer.ClearField("valid_until")
            answered.problem.CopyFrom(_nothing_to_offer(offer))
            return self._transitions.step(transaction, requested, Event.NO_OFFER, answered)
        return self._transitions.step(transaction, requested, Event.OFFER, answered)

    def accept_in(self, transaction: Transaction, caller: Caller, booking_id: str, revision: int = 0) -> Booking:
        """As ``accept``."""
        booking, now = require(transaction, caller, booking_id), transaction.clock.now()
        _check_in_time(booking, revision, now)
        booking = self._transitions.advance(transaction, booking, now)
        if State(booking.state) not in ACCEPTED:
            _check_revision(booking.offer.revision, revision)
            return self._transitions.accept(transaction, booking, now)
        if revision == booking.accepted_offer.revision:
            return booking
        if booking.HasField("reconfiguration"):
            _check_revision(booking.last_revision, revision)
            return self._transitions.reconfigure(transaction, booking, now)
        # The last one may have been let go meanwhile: whoever means that one is told.
        _check_revision(booking.accepted_offer.revision, revision or booking.last_revision)
        return booking

    def reconfigure_in(
        self,
        transaction: Transaction,
        caller: Caller,
        booking_id: str,
        request: BookingRequest,
        mask: FieldMask,
        etag: str = "",
    ) -> Booking:
        """As ``reconfigure``."""
        found, now = require(transaction, caller, booking_id), transaction.clock.now()
        check_etag(found.etag, etag, f"booking {booking_id!r}")
        booking = self._transitions.advance(transaction, found, now)
        if State(booking.state) not in (State.BOOKED, State.ACTIVE):
            raise BookingUnchangeable(
                f"booking {booking_id!r} is {_state(booking)}: it can be reconfigured while BOOKED or ACTIVE",
                metadata={"state": _state(booking)},
            )
        asked = apply_mask(booking.request, request, mask, booking_requests.CHANGEABLE)
        agreement = agreements.require(transaction, booking.agreement_id)
        others = capacity.standing(transaction, agreement.agreement_id) - 1
        wanted = _wanted(transaction, agreement, asked, now, others)
        offer = offers.draw_up(
            transaction,
            wanted,
            self._terms(agreement),
            now,
            revision=booking.last_revision + 1,
            booking_id=booking_id,
        )
        if offers.is_empty(offer):
            problem = _nothing_to_offer(offer)
            raise NothingToOffer(
                f"booking {booking_id!r}: {problem.detail}; it stays as it is", metadata={"limited_by": problem.cause}
            )
        return self._transitions.offer_reconfiguration(transaction, booking, wanted.request, offer, now)

    def release_in(self, transaction: Transaction, caller: Caller, booking_id: str) -> Booking:
        """As ``release``."""
        booking = self._present(transaction, caller, booking_id)
        if State(booking.state) in (State.RELEASED, State.EXPIRED):
            return booking
        return self._transitions.step(transaction, booking, Event.RELEASE)

    def _present(self, transaction: Transaction, caller: Caller, booking_id: str) -> Booking:
        """The booking as it is now."""
        booking = require(transaction, caller, booking_id)
        return self._transitions.advance(transaction, booking, transaction.clock.now())

    async def _is_large(self, request: BookingRequest) -> bool:
        """Whether it may take long to find out what can be offered.

        Raises for a rule that nothing comes of: to find that out takes longer than others should wait.
        """
        windows = len(request.periods)
        if any(each.repetition_rule for each in request.periods):
            now = self._store.clock.now()
            windows = len(await asyncio.to_thread(periods.windows, request.periods, now, None))
        return windows * len(request.area_capabilities) > _MANY

    def _terms(self, agreement: Agreement) -> Terms:
        validity = timedelta(seconds=agreement.offer_validity_s) if agreement.offer_validity_s else self._offer_validity
        return Terms(agreement.price_percent or 100, validity)


def require(reader: Reader, caller: Caller, booking_id: str) -> Booking:
    """The booking of that reference, if the caller may see it. Raises NotFound."""
    booking = reader.get(Booking, booking_id)
    if booking is None or not caller.may_see(booking.agreement_id):
        raise not_found(Booking, booking_id)
    return booking


def _wanted(reader: Reader, agreement: Agreement, request: BookingRequest, now: datetime, standing: int) -> Wanted:
    """A request with what it names, if it is well made and the agreement allows it beside the ``standing`` bookings."""
    asked = copy_of(request)
    if asked.outside == OutsidePolicy.OUTSIDE_POLICY_UNSPECIFIED:
        asked.outside = OutsidePolicy.OUTSIDE_POLICY_BEST_EFFORT
    booking_requests.check(asked)
    windows = periods.windows(asked.periods, now, agreements.latest_stop(agreement, now))
    booking_requests.check_lines(asked, len(windows))
    named = {each.profile_id: reader.get(CapabilityProfile, each.profile_id) for each in asked.area_capabilities}
    profiles = {name: profile for name, profile in named.items() if profile is not None}
    agreements.check_booking(agreement, asked, now, standing, profiles=profiles)
    found = {each.area_id: reader.get(ServiceArea, each.area_id) for each in asked.area_capabilities}
    areas = {name: area for name, area in found.items() if area is not None}
    violations = []
    for index, each in enumerate(asked.area_capabilities):
        path = f"area_capabilities[{index}]"
        if each.area_id not in areas:
            violations.append(FieldViolation(f"{path}.area_id", f"expected a service area, found {each.area_id!r}"))
        if each.profile_id not in profiles:
            why = f"expected a capability profile, found {each.profile_id!r}"
            violations.append(FieldViolation(f"{path}.profile_id", why))
    if violations:
        raise InvalidArgument(booking_requests.told(violations), violations=violations)
    return Wanted(asked, windows, areas, profiles)


def _check_in_time(booking: Booking, revision: int, now: datetime) -> None:
    """Raises OfferLapsed for an acceptance that comes too late, whether or not that has been noted."""
    state = State(booking.state)
    offer: Offer | None = None
    if state in (State.OFFERED, State.LAPSED):
        offer = booking.offer
    elif state in ACCEPTED and booking.HasField("reconfiguration"):
        offer = booking.reconfiguration.offer
    if offer is None or (revision and revision != offer.revision) or now < lapses_at(offer):
        return
    raise OfferLapsed(
        f"booking {booking.booking_id!r}: offer {offer.revision} could be accepted until"
        f" {offer.valid_until.ToJsonString()}",
        metadata={"revision": str(offer.revision), "valid_until": offer.valid_until.ToJsonString()},
    )


def _check_revision(stands: int, revision: int) -> None:
    """Raises OfferSuperseded unless ``revision`` is that of the offer that stands; 0: whichever does."""
    if revision not in (0, stands):
        why = f"expected {stands}, the offer that stands, found {revision}"
        raise OfferSuperseded(
            f"revision: {why}", violations=(FieldViolation("revision", why),), metadata={"revision": str(stands)}
        )


def _nothing_to_offer(offer: Offer) -> ProblemDetails:
    """Why there is nothing to offer: the first line tells for all."""
    line = offer.lines[0]
    detail = (
        f"area {line.area_id!r} has no room for a device of {line.profile_id!r} from"
        f" {line.start_time.ToJsonString()} to {line.stop_time.ToJsonString()} ({line.limited_by})"
    )
    return ProblemDetails(title="Nothing can be offered", detail=detail, cause=line.limited_by)


def _state(booking: Booking) -> str:
    return State(booking.state).name


def _is_long(booking: Booking) -> bool:
    """Whether it may take long to book what is offered."""
    offer = booking.reconfiguration.offer if booking.HasField("reconfiguration") else booking.offer
    return max(len(offer.lines), len(booking.accepted_offer.lines)) > _MANY
