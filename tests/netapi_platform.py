"""A network API platform on real sockets, with an operator and providers that call it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from one_function import OneFunction

from nf.common.channels import Channels
from nf.common.clock import Clock, ManualClock
from nf.common.telemetry import Telemetry
from nf.netapi.compose import TABLES, build
from nf.netapi.config import NetapiSection
from nf.netapi.v1 import agreement_pb2 as agreement
from nf.netapi.v1 import coverage_pb2 as coverage
from nf.netapi.v1.access_pb2_grpc import DeviceAccessesServiceStub
from nf.netapi.v1.agreement_pb2_grpc import AgreementsServiceStub, TokensServiceStub
from nf.netapi.v1.booking_pb2_grpc import BookingsServiceStub
from nf.netapi.v1.coverage_pb2_grpc import CoverageServiceStub
from nf.netapi.v1.location_pb2_grpc import LocationServiceStub
from nf.netapi.v1.monitoring_pb2_grpc import EventSinksServiceStub, MonitoringServiceStub

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
# Nobody listens there.
UNREACHABLE = "127.0.0.1:1"
OPERATOR_TOKEN = "the-operator-of-this-lab"


@dataclass
class Face:
    """The platform's gRPC services as one caller has them; ``token`` empty: one that shows nothing."""

    channels: Channels
    token: str

    def __post_init__(self) -> None:
        channel = self.channels.get("netapi")
        self.agreements = AgreementsServiceStub(channel)
        self.tokens = TokensServiceStub(channel)
        self.coverage = CoverageServiceStub(channel)
        self.location = LocationServiceStub(channel)
        self.accesses = DeviceAccessesServiceStub(channel)
        self.monitoring = MonitoringServiceStub(channel)
        self.sinks = EventSinksServiceStub(channel)
        self.bookings = BookingsServiceStub(channel)

    @property
    def bearer(self) -> Mapping[str, str]:
        """The header field of HTTP."""
        return {"authorization": f"Bearer {self.token}"}


class Platform(OneFunction):
    """The platform alone: its operator's face, and faces for who has a token."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock | None = None,
        targets: Mapping[str, str] | None = None,
        config: NetapiSection | None = None,
    ) -> None:
        super().__init__(
            folder,
            "netapi",
            build,
            config if config is not None else NetapiSection(operator_token=OPERATOR_TOKEN),
            tables=TABLES,
            targets={"smf": UNREACHABLE, "pcf": UNREACHABLE, **(targets or {})},
            clock=clock if clock is not None else ManualClock(START),
        )
        self._faces: list[Channels] = []

    def face(self, token: str = OPERATOR_TOKEN) -> Face:
        """The services as the holder of a token has them."""
        channels = Channels({"netapi": self.grpc_address}, function="test", telemetry=Telemetry(), token=token)
        self._faces.append(channels)
        return Face(channels, token)

    async def provider(self, agreement_id: str, *, scopes: tuple[str, ...] = (), **terms: object) -> Face:
        """The face of a provider with a new agreement (if there is none) and a new credential."""
        operator = self.face()
        made = await self.credential(agreement_id, scopes=scopes, operator=operator, **terms)
        return self.face(made.token)

    async def credential(
        self, agreement_id: str, *, scopes: tuple[str, ...] = (), operator: Face | None = None, **terms: object
    ) -> agreement.Credential:
        """A new credential of an agreement, which is made if it is not there."""
        operator = operator or self.face()
        known = await operator.agreements.ListAgreements(agreement.ListAgreementsRequest())
        if agreement_id not in {each.agreement_id for each in known.agreements}:
            wanted = agreement.Agreement(agreement_id=agreement_id, **terms)  # type: ignore[arg-type]
            await operator.agreements.CreateAgreement(agreement.CreateAgreementRequest(agreement=wanted))
        asked = agreement.Credential(agreement_id=agreement_id, scopes=scopes)
        made = await operator.agreements.CreateCredential(agreement.CreateCredentialRequest(credential=asked))
        return made.credential

    async def area(self, area: coverage.ServiceArea) -> coverage.ServiceArea:
        """A new service area."""
        made = await self.face().coverage.PutServiceArea(coverage.PutServiceAreaRequest(service_area=area))
        return made.service_area

    async def profile(self, profile: coverage.CapabilityProfile) -> coverage.CapabilityProfile:
        """A new capability profile."""
        request = coverage.PutCapabilityProfileRequest(capability_profile=profile)
        made = await self.face().coverage.PutCapabilityProfile(request)
        return made.capability_profile

    async def __aexit__(self, *exception: object) -> None:
        for each in self._faces:
            await each.close()
        await super().__aexit__(*exception)


@asynccontextmanager
async def platform(folder: Path, *, config: NetapiSection | None = None) -> AsyncIterator[Platform]:
    """A platform with a clock that is moved by hand."""
    async with Platform(folder, config=config) as running:
        yield running
