"""A provider's side of a network API platform: agreements to usage records (5G-MAG live media distribution workflow).

What client applications and the network's location function ask of the platform is in ``nf.client.netapi_use``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.resources import new_id
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.netapi.v1 import agreement_pb2 as agreements
from nf.netapi.v1 import booking_pb2 as bookings
from nf.netapi.v1 import coverage_pb2 as coverage
from nf.netapi.v1 import monitoring_pb2 as monitoring
from nf.netapi.v1.agreement_pb2_grpc import AgreementsServiceStub, TokensServiceStub
from nf.netapi.v1.booking_pb2_grpc import BookingsServiceStub
from nf.netapi.v1.coverage_pb2_grpc import CoverageServiceStub
from nf.netapi.v1.monitoring_pb2_grpc import MonitoringServiceStub

R = TypeVar("R")

# So many are asked for at a time.
_PAGE = 500


async def pages(fetch: Callable[[str], Awaitable[tuple[Sequence[R], str]]]) -> AsyncIterator[R]:
    """Everything, a page after the other; ``fetch`` takes a page token and gives the next."""
    token = ""
    while True:
        items, token = await fetch(token)
        for each in items:
            yield each
        if not token:
            return


class Platform:
    """A typed client. ``channel`` leads to the platform and shows the credential (``nf.common.channels.Channels``).

    Every method raises CastcoreError where the platform refuses.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._agreements = AgreementsServiceStub(channel)
        self._tokens = TokensServiceStub(channel)
        self._coverage = CoverageServiceStub(channel)
        self._bookings = BookingsServiceStub(channel)
        self._monitoring = MonitoringServiceStub(channel)

    # --- Preconditions --------------------------------------------------------------------------------------------

    async def create_agreement(self, agreement: agreements.Agreement) -> agreements.Agreement:
        """The operator's."""
        request = agreements.CreateAgreementRequest(agreement=agreement)
        return (await self._agreements.CreateAgreement(request)).agreement

    async def agreement(self, agreement_id: str) -> agreements.Agreement:
        """One agreement."""
        request = agreements.GetAgreementRequest(agreement_id=agreement_id)
        return (await self._agreements.GetAgreement(request)).agreement

    def agreements(self) -> AsyncIterator[agreements.Agreement]:
        """All of them."""

        async def fetch(token: str) -> tuple[Sequence[agreements.Agreement], str]:
            request = agreements.ListAgreementsRequest(page_size=_PAGE, page_token=token)
            page = await self._agreements.ListAgreements(request)
            return page.agreements, page.next_page_token

        return pages(fetch)

    async def update_agreement(self, agreement: agreements.Agreement, *paths: str) -> agreements.Agreement:
        """Changes the named fields; all that may be set, without ``paths``."""
        request = agreements.UpdateAgreementRequest(agreement=agreement, update_mask=FieldMask(paths=paths))
        return (await self._agreements.UpdateAgreement(request)).agreement

    async def delete_agreement(self, agreement_id: str) -> None:
        """Ends an agreement under which nothing is booked."""
        await self._agreements.DeleteAgreement(agreements.DeleteAgreementRequest(agreement_id=agreement_id))

    async def create_credential(self, credential: agreements.Credential) -> agreements.Credential:
        """A credential with its token, which is shown this once."""
        request = agreements.CreateCredentialRequest(credential=credential)
        return (await self._agreements.CreateCredential(request)).credential

    def credentials(self, agreement_id: str) -> AsyncIterator[agreements.Credential]:
        """Those of an agreement, without their tokens."""

        async def fetch(token: str) -> tuple[Sequence[agreements.Credential], str]:
            request = agreements.ListCredentialsRequest(agreement_id=agreement_id, page_size=_PAGE, page_token=token)
            page = await self._agreements.ListCredentials(request)
            return page.credentials, page.next_page_token

        return pages(fetch)

    async def delete_credential(self, credential_id: str) -> None:
        """Revokes it at once."""
        await self._agreements.DeleteCredential(agreements.DeleteCredentialRequest(credential_id=credential_id))

    async def create_access_token(
        self, wanted: agreements.CreateAccessTokenRequest
    ) -> agreements.CreateAccessTokenResponse:
        """An access token made of the credential that the channel shows."""
        return await self._tokens.CreateAccessToken(wanted)

    # --- What there is ----------------------------------------------------------------------------------------------

    async def put_area(self, area: coverage.ServiceArea) -> coverage.ServiceArea:
        """The operator's: makes or replaces a service area."""
        request = coverage.PutServiceAreaRequest(service_area=area)
        return (await self._coverage.PutServiceArea(request)).service_area

    async def delete_area(self, area_id: str) -> None:
        """The operator's: removes an area on which nothing is booked."""
        await self._coverage.DeleteServiceArea(coverage.DeleteServiceAreaRequest(area_id=area_id))

    async def area(self, area_id: str) -> coverage.ServiceArea:
        """One service area."""
        request = coverage.GetServiceAreaRequest(area_id=area_id)
        return (await self._coverage.GetServiceArea(request)).service_area

    def areas(self, narrowed: coverage.ListServiceAreasRequest | None = None) -> AsyncIterator[coverage.ServiceArea]:
        """Those that the caller may book; ``narrowed`` to a place."""

        async def fetch(token: str) -> tuple[Sequence[coverage.ServiceArea], str]:
            request = coverage.ListServiceAreasRequest(page_size=_PAGE, page_token=token)
            if narrowed is not None:
                request.MergeFrom(narrowed)
            page = await self._coverage.ListServiceAreas(request)
            return page.service_areas, page.next_page_token

        return pages(fetch)

    async def put_profile(self, profile: coverage.CapabilityProfile) -> coverage.CapabilityProfile:
        """The operator's: makes or replaces a capability profile."""
        request = coverage.PutCapabilityProfileRequest(capability_profile=profile)
        return (await self._coverage.PutCapabilityProfile(request)).capability_profile

    async def delete_profile(self, profile_id: str) -> None:
        """The operator's: removes a profile of which nothing is booked."""
        await self._coverage.DeleteCapabilityProfile(coverage.DeleteCapabilityProfileRequest(profile_id=profile_id))

    async def profile(self, profile_id: str) -> coverage.CapabilityProfile:
        """One capability profile."""
        request = coverage.GetCapabilityProfileRequest(profile_id=profile_id)
        return (await self._coverage.GetCapabilityProfile(request)).capability_profile

    def profiles(self) -> AsyncIterator[coverage.CapabilityProfile]:
        """Those that the caller may book."""

        async def fetch(token: str) -> tuple[Sequence[coverage.CapabilityProfile], str]:
            request = coverage.ListCapabilityProfilesRequest(page_size=_PAGE, page_token=token)
            page = await self._coverage.ListCapabilityProfiles(request)
            return page.capability_profiles, page.next_page_token

        return pages(fetch)

    # --- Phases B and D ---------------------------------------------------------------------------------------------

    async def request(self, wanted: bookings.BookingRequest, request_id: str = "") -> bookings.Booking:
        """B.1 and B.2: the booking with its offer, or DECLINED with its problem."""
        request = bookings.RequestBookingRequest(request=wanted, request_id=request_id or new_id())
        return (await self._bookings.RequestBooking(request)).booking

    async def accept(self, booking_id: str, revision: int = 0) -> bookings.Booking:
        """B.3 and B.4: accepts the offer that stands, or that of ``revision``."""
        request = bookings.AcceptOfferRequest(booking_id=booking_id, revision=revision)
        return (await self._bookings.AcceptOffer(request)).booking

    async def decline(self, booking_id: str) -> bookings.Booking:
        """Lets the offer go."""
        return (await self._bookings.DeclineOffer(bookings.DeclineOfferRequest(booking_id=booking_id))).booking

    async def booking(self, booking_id: str) -> bookings.Booking:
        """One booking."""
        return (await self._bookings.GetBooking(bookings.GetBookingRequest(booking_id=booking_id))).booking

    def bookings(self, *states: bookings.Booking.State.ValueType) -> AsyncIterator[bookings.Booking]:
        """Those of the caller; in one of these states."""

        async def fetch(token: str) -> tuple[Sequence[bookings.Booking], str]:
            request = bookings.ListBookingsRequest(states=states, page_size=_PAGE, page_token=token)
            page = await self._bookings.ListBookings(request)
            return page.bookings, page.next_page_token

        return pages(fetch)

    async def reconfigure(
        self, booking_id: str, wanted: bookings.BookingRequest, *paths: str, etag: str = ""
    ) -> bookings.Booking:
        """Asks for a change of the named fields; nothing changes until its offer is accepted."""
        request = bookings.ReconfigureBookingRequest(
            booking_id=booking_id, request=wanted, update_mask=FieldMask(paths=paths), etag=etag
        )
        return (await self._bookings.ReconfigureBooking(request)).booking

    async def release(self, booking_id: str) -> bookings.Booking:
        """D: gives it back."""
        return (await self._bookings.ReleaseBooking(bookings.ReleaseBookingRequest(booking_id=booking_id))).booking

    async def suspend(self, booking_id: str, detail: str = "") -> bookings.Booking:
        """The operator's: withholds it."""
        request = bookings.SuspendBookingRequest(booking_id=booking_id, detail=detail)
        return (await self._bookings.SuspendBooking(request)).booking

    async def resume(self, booking_id: str) -> bookings.Booking:
        """The operator's: lets it go on."""
        return (await self._bookings.ResumeBooking(bookings.ResumeBookingRequest(booking_id=booking_id))).booking

    async def watch(self, *, after: int = 0, subject: str = "", follow: bool = True) -> AsyncIterator[Event]:
        """The platform's events as far as they concern the caller."""
        request = WatchEventsRequest(after_sequence=after, subject=subject, no_follow=not follow)
        async for response in self._bookings.WatchEvents(request):
            yield response.event

    # --- Watching ---------------------------------------------------------------------------------------------------

    async def usage(self, booking_id: str, network_access_id: str = "") -> Sequence[monitoring.NetworkAccessUsage]:
        """How the network access IDs of a booking are used, or one of them."""
        request = monitoring.GetBookingUsageRequest(booking_id=booking_id, network_access_id=network_access_id)
        return (await self._monitoring.GetBookingUsage(request)).usages

    async def usage_records(self, booking_id: str) -> Sequence[monitoring.UsageRecord]:
        """What has been used of a booking in all."""
        request = monitoring.GetUsageRecordsRequest(booking_id=booking_id)
        return (await self._monitoring.GetUsageRecords(request)).usage_records

    async def create_threshold(self, threshold: monitoring.Threshold) -> monitoring.Threshold:
        """Begins to watch a measure."""
        request = monitoring.CreateThresholdRequest(threshold=threshold, request_id=new_id())
        return (await self._monitoring.CreateThreshold(request)).threshold

    def thresholds(self, network_access_id: str = "") -> AsyncIterator[monitoring.Threshold]:
        """Those of the caller, or of a network access ID."""

        async def fetch(token: str) -> tuple[Sequence[monitoring.Threshold], str]:
            request = monitoring.ListThresholdsRequest(
                network_access_id=network_access_id, page_size=_PAGE, page_token=token
            )
            page = await self._monitoring.ListThresholds(request)
            return page.thresholds, page.next_page_token

        return pages(fetch)

    async def delete_threshold(self, threshold_id: str) -> None:
        """Ends it."""
        await self._monitoring.DeleteThreshold(monitoring.DeleteThresholdRequest(threshold_id=threshold_id))
