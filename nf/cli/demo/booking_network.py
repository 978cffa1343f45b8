"""The network below the platform, as the demo's UEs and its curious operator see it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from nf.cli.demo.booking_media import Heard, packets_in
from nf.common.channels import Channels
from nf.common.v1.types_pb2 import Snssai
from nf.netapi.v1.access_pb2 import Device
from nf.pcf.v1.policy_authorization_pb2 import ListAppSessionsRequest
from nf.pcf.v1.policy_authorization_pb2_grpc import PolicyAuthorizationServiceStub
from nf.smf.v1.pdu_session_pb2 import (
    CreatePduSessionRequest,
    ListPduSessionsRequest,
    PduSession,
    ReleasePduSessionRequest,
)
from nf.smf.v1.pdu_session_pb2_grpc import PduSessionsServiceStub
from upf.n4.v1.n4_pb2 import ListSessionsRequest
from upf.n4.v1.n4_pb2_grpc import N4ServiceStub
from upf.traffic.v1.traffic_pb2 import ReplayRequest
from upf.traffic.v1.traffic_pb2_grpc import TrafficServiceStub

DNN: Final = "internet"
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Ue:
    """A device and the PDU session that it has."""

    name: str
    phone: str
    supi: str
    address: str

    @property
    def device(self) -> Device:
        """As a client application and the provider name it."""
        return Device(phone_number=self.phone)


class Installed(NamedTuple):
    """What the network holds for the platform."""

    # Application sessions at the PCF, PCC rules of PDU sessions at the SMF, QERs with a guarantee in the UPF.
    app_sessions: int
    pcc_rules: int
    guaranteed_qers: int


NOTHING: Final = Installed(0, 0, 0)


class Network:
    """PCF, SMF and UPF of the stack."""

    def __init__(self, channels: Channels) -> None:
        self._sessions = PduSessionsServiceStub(channels.get("smf"))
        self._policies = PolicyAuthorizationServiceStub(channels.get("pcf"))
        self._n4 = N4ServiceStub(channels.get("upf"))
        self._traffic = TrafficServiceStub(channels.get("upf"))

    async def attach(self, ue: Ue, session_ambr_bps: int) -> None:
        """Sets up the UE's PDU session; all its flows without a guarantee share this bit rate."""
        session = PduSession(
            sm_context_ref=_reference(ue),
            supi=ue.supi,
            gpsi=f"msisdn-{ue.phone.removeprefix('+')}",
            pdu_session_id=1,
            dnn=DNN,
            s_nssai=Snssai(sst=1),
            ue_ipv4_address=ue.address,
            session_ambr_dl_bps=session_ambr_bps,
            session_ambr_ul_bps=session_ambr_bps,
        )
        await self._sessions.CreatePduSession(CreatePduSessionRequest(pdu_session=session))

    async def detach(self, ue: Ue) -> None:
        """Releases it."""
        await self._sessions.ReleasePduSession(ReleasePduSessionRequest(sm_context_ref=_reference(ue)))

    async def send(self, capture: bytes) -> Sequence[Heard]:
        """Sends packets through the UPF; those that came through to their UEs."""
        answer = await self._traffic.Replay(_pieces(capture), timeout=60)
        return list(packets_in(answer.passed))

    async def installed(self) -> Installed:
        """What there is now; a stack that has nothing else to do has it for the platform."""
        policies = (await self._policies.ListAppSessions(ListAppSessionsRequest())).app_sessions
        sessions = (await self._sessions.ListPduSessions(ListPduSessionsRequest())).pdu_sessions
        n4 = (await self._n4.ListSessions(ListSessionsRequest())).sessions
        return Installed(
            app_sessions=len(policies),
            pcc_rules=sum(len(each.decision.pcc_rules) for each in sessions),
            guaranteed_qers=sum(qer.HasField("gbr_dl_bps") for each in n4 for qer in each.qers),
        )


def _reference(ue: Ue) -> str:
    return f"demo-{ue.name}"


async def _pieces(capture: bytes) -> AsyncIterator[ReplayRequest]:
    for at in range(0, len(capture), _PIECE_BYTES):
        yield ReplayRequest(capture=capture[at : at + _PIECE_BYTES], return_passed=True)
