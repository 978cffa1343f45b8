"""A provider's side of a network API platform: agreements to usage records (5G-MAG live media distribution workflow).

What client applications and the network's location function ask of the platform is in ``nf.client.netapi_use``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from nf.client.paging import pages
from nf.common.resources import new_id
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.netapi.v1 import agreement_pb2, booking_pb2, coverage_pb2, monitoring_pb2
from nf.netapi.v1.agreement_pb2_grpc import AgreementsServiceStub, TokensServiceStub
from nf.netapi.v1.booking_pb2_grpc import BookingsServiceStub
from nf.netapi.v1.coverage_pb2_grpc import CoverageServiceStub
from nf.netapi.v1.monitoring_pb2_grpc import EventSinksServiceStub, MonitoringServiceStub

# So many are asked for at a time.
_PAGE = 500


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
        self._sinks = EventSinksServiceStub(channel)

    # --- Preconditions --------------------------------------------------------------------------------------------

    async def create_agreement(self, agreement: agreement_pb2.Agreement) -> agreement_pb2.Agreement:
        """The operator's."""
        request = agreement_pb2.CreateAgreementRequest(agreement=agreement)
        return (await self._agreements.CreateAgreement(request)).agreement

    async def agreement(self, agreement_id: str) -> agreement_pb2.Agreement:
        """One agreement."""
        request = agreement_pb2.GetAgreementRequest(agreement_id=agreement_id)
        return (await self._agreements.GetAgreement(request)).agreement

    def agreements(self) -> AsyncIterator[agreement_pb2.Agreement]:
        """All of them."""

        async def fetch(token: str) -> tuple[Sequence[agreement_pb2.Agreement], str]:
            request = agreement_pb2.ListAgreementsRequest(page_size=_PAGE, page_token=token)
            page = await self._agreements.ListAgreements(request)
            return page.agreements, page.next_page_token

        return pages(fetch)

    async def update_agreement(self, agreement: agreement_pb2.Agreement, *paths: str) -> agreement_pb2.Agreement:
        """Changes the named fields; all that may be set, without ``paths``."""
        request = agreement_pb2.UpdateAgreementRequest(agreement=agreement, update_mask=FieldMask(paths=paths))
        return (await self._agreements.UpdateAgreement(request)).agreement

    async def delete_agreement(self, agreement_id: str) -> None:
        """Ends an agreement under which nothing is booked."""
        await self._agreements.DeleteAgreement(agreement_pb2.DeleteAgreementRequest(agreement_id=agreement_id))

    async def create_credential(self, credential: agreement_pb2.Credential) -> agreement_pb2.Credential:
        """A credential with its token, which is shown this once."""
        request = agreement_pb2.CreateCredentialRequest(credential=credential)
        return (await self._agreements.CreateCredential(request)).credential

    def credentials(self, agreement_id: str) -> AsyncIterator[agreement_pb2.Credential]:
        """Those of an agreement, without their tokens."""

        async def fetch(token: str) -> tuple[Sequence[agreement_pb2.Credential], str]:
            request = agreement_pb2.ListCredentialsRequest(agreement_id=agreement_id, page_size=_PAGE, page_token=token)
            page = await self._agreements.ListCredentials(request)
            return page.credentials, page.next_page_token

        return pages(fetch)

    async def delete_credential(self, credential_id: str) -> None:
        """Revokes it at once."""
        await self._agreements.DeleteCredential(agreement_pb2.DeleteCredentialRequest(credential_id=credential_id))

    async def create_access_token(
        self, wanted: agreement_pb2.CreateAccessTokenRequest
    ) -> agreement_pb2.CreateAccessTokenResponse:
        """An access token made of the credential that the channel shows."""
        return await self._tokens.CreateAccessToken(wanted)

    # --- What there is ----------------------------------------------------------------------------------------------

    async def put_area(self, area: coverage_pb2.ServiceArea) -> coverage_pb2.ServiceArea:
        """The operator's: makes or replaces a service area."""
        request = coverage_pb2.PutServiceAreaRequest(service_area=area)
        return (await self._coverage.PutServiceArea(request)).service_area

    async def delete_area(self, area_id: str) -> None:
        """The operator's: removes an area on which nothing is booked."""
        await self._coverage.DeleteServiceArea(coverage_pb2.DeleteServiceAreaRequest(area_id=area_id))

    async def area(self, area_id: str) -> coverage_pb2.ServiceArea:
        """One service area."""
        request = coverage_pb2.GetServiceAreaRequest(area_id=area_id)
        return (await self._coverage.GetServiceArea(request)).service_area

    def areas(
        self, narrowed: coverage_pb2.ListServiceAreasRequest | None = None
    ) -> AsyncIterator[coverage_pb2.ServiceArea]:
        """Those that the caller may book; ``narrowed`` to a place."""

        async def fetch(token: str) -> tuple[Sequence[coverage_pb2.ServiceArea], str]:
            request = coverage_pb2.ListServiceAreasRequest(page_size=_PAGE, page_token=token)
            if narrowed is not None:
                request.MergeFrom(narrowed)
            page = await self._coverage.ListServiceAreas(request)
            return page.service_areas, page.next_page_token

        return pages(fetch)

    async def put_profile(self, profile: coverage_pb2.CapabilityProfile) -> coverage_pb2.CapabilityProfile:
        """The operator's: makes or replaces a capability profile."""
        request = coverage_pb2.PutCapabilityProfileRequest(capability_profile=profile)
        return (await self._coverage.PutCapabilityProfile(request)).capability_profile

    async def delete_profile(self, profile_id: str) -> None:
        """The operator's: removes a profile of which nothing is booked."""
        await self._coverage.DeleteCapabilityProfile(coverage_pb2.DeleteCapabilityProfileRequest(profile_id=profile_id))

    async def profile(self, profile_id: str) -> coverage_pb2.CapabilityProfile:
        """One capability profile."""
        request = coverage_pb2.GetCapabilityProfileRequest(profile_id=profile_id)
        return (await self._coverage.GetCapabilityProfile(request)).capability_profile

    def profiles(self) -> AsyncIterator[coverage_pb2.CapabilityProfile]:
        """Those that the caller may book."""

        async def fetch(token: str) -> tuple[Sequence[coverage_pb2.CapabilityProfile], str]:
            request = coverage_pb2.ListCapabilityProfilesRequest(page_size=_PAGE, page_token=token)
            page = await self._coverage.ListCapabilityProfiles(request)
            return page.capability_profiles, page.next_page_token

        return pages(fetch)

    # --- Phases B and D ---------------------------------------------------------------------------------------------

    async def request(self, wanted: booking_pb2.BookingRequest, request_id: str = "") -> booking_pb2.Booking:
        """B.1 and B.2: the booking with its offer, or DECLINED with its problem."""
        request = booking_pb2.RequestBookingRequest(request=wanted, request_id=request_id or new_id())
        return (await self._bookings.RequestBooking(request)).booking

    async def accept(self, booking_id: str, revision: int = 0) -> booking_pb2.Booking:
        """B.3 and B.4: accepts the offer that stands, or that of ``revision``."""
        request = booking_pb2.AcceptOfferRequest(booking_id=booking_id, revision=revision)
        return (await self._bookings.AcceptOffer(request)).booking

    async def decline(self, booking_id: str) -> booking_pb2.Booking:
        """Lets the offer go."""
        return (await self._bookings.DeclineOffer(booking_pb2.DeclineOfferRequest(booking_id=booking_id))).booking

    async def booking(self, booking_id: str) -> booking_pb2.Booking:
        """One booking."""
        return (await self._bookings.GetBooking(booking_pb2.GetBookingRequest(booking_id=booking_id))).booking

    def bookings(self, *states: booking_pb2.Booking.State.ValueType) -> AsyncIterator[booking_pb2.Booking]:
        """Those of the caller; in one of these states."""

        async def fetch(token: str) -> tuple[Sequence[booking_pb2.Booking], str]:
            request = booking_pb2.ListBookingsRequest(states=states, page_size=_PAGE, page_token=token)
            page = await self._bookings.ListBookings(request)
            return page.bookings, page.next_page_token

        return pages(fetch)

    async def reconfigure(
        self, booking_id: str, wanted: booking_pb2.BookingRequest, *paths: str, etag: str = ""
    ) -> booking_pb2.Booking:
        """Asks for a change of the named fields; nothing changes until its offer is accepted."""
        request = booking_pb2.ReconfigureBookingRequest(
            booking_id=booking_id, request=wanted, update_mask=FieldMask(paths=paths), etag=etag
        )
        return (await self._bookings.ReconfigureBooking(request)).booking

    async def release(self, booking_id: str) -> booking_pb2.Booking:
        """D: gives it back."""
        return (await self._bookings.ReleaseBooking(booking_pb2.ReleaseBookingRequest(booking_id=booking_id))).booking

    async def suspend(self, booking_id: str, detail: str = "") -> booking_pb2.Booking:
        """The operator's: withholds it."""
        request = booking_pb2.SuspendBookingRequest(booking_id=booking_id, detail=detail)
        return (await self._bookings.SuspendBooking(request)).booking

    async def resume(self, booking_id: str) -> booking_pb2.Booking:
        """The operator's: lets it go on."""
        return (await self._bookings.ResumeBooking(booking_pb2.ResumeBookingRequest(booking_id=booking_id))).booking

    async def watch(self, *, after: int = 0, subject: str = "", follow: bool = True) -> AsyncIterator[Event]:
        """The platform's events as far as they concern the caller."""
        request = WatchEventsRequest(after_sequence=after, subject=subject, no_follow=not follow)
        async for response in self._bookings.WatchEvents(request):
            yield response.event

    # --- Watching ---------------------------------------------------------------------------------------------------

    async def usage(self, booking_id: str, network_access_id: str = "") -> Sequence[monitoring_pb2.NetworkAccessUsage]:
        """How the network access IDs of a booking are used, or one of them."""
        request = monitoring_pb2.GetBookingUsageRequest(booking_id=booking_id, network_access_id=network_access_id)
        return (await self._monitoring.GetBookingUsage(request)).usages

    async def usage_records(self, booking_id: str) -> Sequence[monitoring_pb2.UsageRecord]:
        """What has been used of a booking in all."""
        request = monitoring_pb2.GetUsageRecordsRequest(booking_id=booking_id)
        return (await self._monitoring.GetUsageRecords(request)).usage_records

    async def create_threshold(self, threshold: monitoring_pb2.Threshold) -> monitoring_pb2.Threshold:
        """Begins to watch a measure."""
        request = monitoring_pb2.CreateThresholdRequest(threshold=threshold, request_id=new_id())
        return (await self._monitoring.CreateThreshold(request)).threshold

    def thresholds(self, network_access_id: str = "") -> AsyncIterator[monitoring_pb2.Threshold]:
        """Those of the caller, or of a network access ID."""

        async def fetch(token: str) -> tuple[Sequence[monitoring_pb2.Threshold], str]:
            request = monitoring_pb2.ListThresholdsRequest(
                network_access_id=network_access_id, page_size=_PAGE, page_token=token
            )
            page = await self._monitoring.ListThresholds(request)
            return page.thresholds, page.next_page_token

        return pages(fetch)

    async def delete_threshold(self, threshold_id: str) -> None:
        """Ends it."""
        await self._monitoring.DeleteThreshold(monitoring_pb2.DeleteThresholdRequest(threshold_id=threshold_id))

    async def create_sink(self, sink: monitoring_pb2.EventSink) -> monitoring_pb2.EventSink:
        """Begins to send events somewhere; the answer has the secret that they are signed with."""
        request = monitoring_pb2.CreateEventSinkRequest(event_sink=sink, request_id=new_id())
        return (await self._sinks.CreateEventSink(request)).event_sink

    async def sink(self, sink_id: str) -> monitoring_pb2.EventSink:
        """One sink, without its secrets."""
        return (await self._sinks.GetEventSink(monitoring_pb2.GetEventSinkRequest(sink_id=sink_id))).event_sink

    def sinks(self) -> AsyncIterator[monitoring_pb2.EventSink]:
        """Those of the caller, without their secrets."""

        async def fetch(token: str) -> tuple[Sequence[monitoring_pb2.EventSink], str]:
            request = monitoring_pb2.ListEventSinksRequest(page_size=_PAGE, page_token=token)
            page = await self._sinks.ListEventSinks(request)
            return page.event_sinks, page.next_page_token

        return pages(fetch)

    async def delete_sink(self, sink_id: str) -> None:
        """Ends sending."""
        await self._sinks.DeleteEventSink(monitoring_pb2.DeleteEventSinkRequest(sink_id=sink_id))
