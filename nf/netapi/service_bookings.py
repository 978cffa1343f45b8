"""BookingsService: the gRPC face of bookings (5G-MAG live media distribution workflow, phases B and D)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from google.protobuf.message import Message

from nf.common.events import everything, serve_watch
from nf.common.store import Store
from nf.common.v1.events_pb2 import Event, WatchEventsRequest, WatchEventsResponse
from nf.netapi.bookings import Bookings
from nf.netapi.callers import Callers
from nf.netapi.v1 import booking_pb2 as booking
from nf.netapi.v1.booking_pb2_grpc import BookingsServiceServicer

Context = grpc.aio.ServicerContext[Message, Message]


class BookingsService(BookingsServiceServicer):
    """Bookings of the provider that calls; the operator sees those of all."""

    def __init__(self, store: Store, bookings: Bookings, callers: Callers) -> None:
        self._store = store
        self._bookings = bookings
        self._callers = callers

    async def RequestBooking(
        self, request: booking.RequestBookingRequest, context: Context
    ) -> booking.RequestBookingResponse:
        """B.1 and B.2: asks for network capabilities."""
        caller = await self._callers.caller(context)
        made = await self._bookings.request(caller, request.request, request.request_id)
        return booking.RequestBookingResponse(booking=made)

    async def AcceptOffer(self, request: booking.AcceptOfferRequest, context: Context) -> booking.AcceptOfferResponse:
        """B.3 and B.4: accepts the offer."""
        caller = await self._callers.caller(context)
        accepted = await self._bookings.accept(caller, request.booking_id, request.revision)
        return booking.AcceptOfferResponse(booking=accepted)

    async def DeclineOffer(
        self, request: booking.DeclineOfferRequest, context: Context
    ) -> booking.DeclineOfferResponse:
        """Lets the offer go."""
        caller = await self._callers.caller(context)
        declined = await self._bookings.decline(caller, request.booking_id, request.revision)
        return booking.DeclineOfferResponse(booking=declined)

    async def GetBooking(self, request: booking.GetBookingRequest, context: Context) -> booking.GetBookingResponse:
        """Reads a booking."""
        caller = await self._callers.caller(context)
        return booking.GetBookingResponse(booking=await self._bookings.get(caller, request.booking_id))

    async def ListBookings(
        self, request: booking.ListBookingsRequest, context: Context
    ) -> booking.ListBookingsResponse:
        """Lists bookings."""
        caller = await self._callers.caller(context)
        page = await self._bookings.page(caller, request.states, request.page_size, request.page_token)
        return booking.ListBookingsResponse(bookings=page.items, next_page_token=page.next_page_token)

    async def ReconfigureBooking(
        self, request: booking.ReconfigureBookingRequest, context: Context
    ) -> booking.ReconfigureBookingResponse:
        """Asks for a change of an accepted booking."""
        caller = await self._callers.caller(context)
        offered = await self._bookings.reconfigure(
            caller, request.booking_id, request.request, request.update_mask, request.etag, request.request_id
        )
        return booking.ReconfigureBookingResponse(booking=offered)

    async def ReleaseBooking(
        self, request: booking.ReleaseBookingRequest, context: Context
    ) -> booking.ReleaseBookingResponse:
        """D: gives back what is booked."""
        caller = await self._callers.caller(context)
        released = await self._bookings.release(caller, request.booking_id)
        return booking.ReleaseBookingResponse(booking=released)

    async def SuspendBooking(
        self, request: booking.SuspendBookingRequest, context: Context
    ) -> booking.SuspendBookingResponse:
        """The operator withholds what is booked."""
        caller = await self._callers.caller(context)
        suspended = await self._bookings.suspend(caller, request.booking_id, request.detail)
        return booking.SuspendBookingResponse(booking=suspended)

    async def ResumeBooking(
        self, request: booking.ResumeBookingRequest, context: Context
    ) -> booking.ResumeBookingResponse:
        """The operator lets it go on."""
        caller = await self._callers.caller(context)
        resumed = await self._bookings.resume(caller, request.booking_id)
        return booking.ResumeBookingResponse(booking=resumed)

    async def WatchEvents(self, request: WatchEventsRequest, context: Context) -> AsyncIterator[WatchEventsResponse]:
        """The platform's events as far as they are for the caller; the operator is told all."""
        caller = await self._callers.caller(context)

        def is_for_caller(event: Event) -> bool:
            return caller.audience in event.audience

        async for answer in serve_watch(self._store, request, everything if caller.operator else is_for_caller):
            yield answer
