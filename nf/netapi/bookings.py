"""Bookings as their provider and the operator handle them (5G-MAG live media distribution workflow, phases B and D)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.store import Page, Store, Transaction
from nf.netapi.callers import Caller
from nf.netapi.machine import Effect
from nf.netapi.v1.booking_pb2 import Booking, BookingRequest

# Called in the transaction of every transition, with the booking after it and the effects that the machine names.
Follower: TypeAlias = Callable[[Transaction, Booking, Sequence[Effect]], None]


class Bookings:
    """All bookings of one platform. Those of another agreement do not exist for a caller, but for the operator."""

    def __init__(self, store: Store, offer_validity_s: int, followers: Sequence[Follower] = ()) -> None:
        self._store = store

    async def request(
        self, caller: Caller, request: BookingRequest, request_id: str = "", *, made_at: str = ""
    ) -> Booking:
        """B.1 and B.2: a booking OFFERED, or DECLINED with its problem. A repeat of ``request_id`` answers the same."""
        raise NotImplementedError

    async def accept(self, caller: Caller, booking_id: str, revision: int = 0) -> Booking:
        """B.3 and B.4: what was offered, or offered as a reconfiguration, is booked."""
        raise NotImplementedError

    async def decline(self, caller: Caller, booking_id: str, revision: int = 0) -> Booking:
        """Lets the offer that stands go."""
        raise NotImplementedError

    async def get(self, caller: Caller, booking_id: str) -> Booking:
        """The booking of that reference. Raises NotFound."""
        raise NotImplementedError

    async def page(
        self, caller: Caller, states: Sequence[Booking.State] = (), page_size: int = 0, page_token: str = ""
    ) -> Page[Booking]:
        """Bookings in the order of their creation; a page may be shorter than asked for, and still not be the last."""
        raise NotImplementedError

    async def reconfigure(
        self,
        caller: Caller,
        booking_id: str,
        request: BookingRequest,
        mask: FieldMask,
        etag: str = "",
        request_id: str = "",
    ) -> Booking:
        """A new offer on the same booking; until it is accepted nothing changes."""
        raise NotImplementedError

    async def release(self, caller: Caller, booking_id: str) -> Booking:
        """D: gives back what is booked or held."""
        raise NotImplementedError

    async def suspend(self, caller: Caller, booking_id: str, detail: str = "") -> Booking:
        """The operator withholds what is booked."""
        raise NotImplementedError

    async def resume(self, caller: Caller, booking_id: str) -> Booking:
        """The operator lets it go on."""
        raise NotImplementedError

    # --- within a transaction of the caller's -------------------------------------------------------------------------

    def request_in(
        self, transaction: Transaction, caller: Caller, request: BookingRequest, *, made_at: str = ""
    ) -> Booking:
        """As ``request``."""
        raise NotImplementedError

    def accept_in(self, transaction: Transaction, caller: Caller, booking_id: str, revision: int = 0) -> Booking:
        """As ``accept``."""
        raise NotImplementedError

    def reconfigure_in(
        self, transaction: Transaction, caller: Caller, booking_id: str, request: BookingRequest, mask: FieldMask
    ) -> Booking:
        """As ``reconfigure``."""
        raise NotImplementedError

    def release_in(self, transaction: Transaction, caller: Caller, booking_id: str) -> Booking:
        """As ``release``."""
        raise NotImplementedError
