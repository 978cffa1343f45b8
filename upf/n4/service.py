"""N4 over gRPC: requests to the user plane, and its answers (TS 29.244 §6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from google.protobuf.message import Message
from grpc.aio import ServicerContext

from nf.common import call
from nf.common.resources import decode_page_token, encode_page_token, page_limit
from upf.n4.user_plane import UserPlane
from upf.n4.v1.n4_pb2 import (
    CompleteResynchronisationRequest,
    CompleteResynchronisationResponse,
    DeleteSessionRequest,
    DeleteSessionResponse,
    EstablishSessionRequest,
    EstablishSessionResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    ListSessionsRequest,
    ListSessionsResponse,
    ModifySessionRequest,
    ModifySessionResponse,
    SetUpAssociationRequest,
    SetUpAssociationResponse,
    UserPlaneIpResourceInformation,
    WatchReportsRequest,
    WatchReportsResponse,
)
from upf.n4.v1.n4_pb2_grpc import N4ServiceServicer

Context = ServicerContext[Message, Message]

_SESSIONS: Final = "upf-sessions"


class N4Service(N4ServiceServicer):
    """The UPF's end of N4. ``n3``: where it receives tunnelled packets, if it does."""

    def __init__(
        self, user_plane: UserPlane, node_id: str, *, n3: UserPlaneIpResourceInformation | None = None
    ) -> None:
        self._user_plane = user_plane
        self._node_id = node_id
        self._n3 = n3

    async def SetUpAssociation(self, request: SetUpAssociationRequest, context: Context) -> SetUpAssociationResponse:
        await self._user_plane.set_up_association()
        response = SetUpAssociationResponse(node_id=self._node_id, user_plane_ip_resource_information=self._n3)
        response.recovery_time_stamp.FromDatetime(self._user_plane.recovery_time)
        return response

    async def Heartbeat(self, request: HeartbeatRequest, context: Context) -> HeartbeatResponse:
        response = HeartbeatResponse(forwarding=self._user_plane.forwarding)
        response.recovery_time_stamp.FromDatetime(self._user_plane.recovery_time)
        return response

    async def CompleteResynchronisation(
        self, request: CompleteResynchronisationRequest, context: Context
    ) -> CompleteResynchronisationResponse:
        await self._user_plane.complete_resynchronisation()
        return CompleteResynchronisationResponse()

    async def EstablishSession(self, request: EstablishSessionRequest, context: Context) -> EstablishSessionResponse:
        await self._user_plane.establish(request.session)
        # One SMF controls this UPF: its identifiers serve at both ends.
        return EstablishSessionResponse(up_seid=request.session.cp_seid)

    async def ModifySession(self, request: ModifySessionRequest, context: Context) -> ModifySessionResponse:
        return ModifySessionResponse(usage_reports=await self._user_plane.modify(request))

    async def DeleteSession(self, request: DeleteSessionRequest, context: Context) -> DeleteSessionResponse:
        return DeleteSessionResponse(usage_reports=await self._user_plane.delete(request.cp_seid))

    async def ListSessions(self, request: ListSessionsRequest, context: Context) -> ListSessionsResponse:
        after = decode_page_token(_SESSIONS, request.page_token)
        limit = page_limit(request.page_size)
        left = self._user_plane.sessions(after=after, limit=limit + 1)
        page = left[:limit]
        token = encode_page_token(_SESSIONS, page[-1].cp_seid) if len(left) > limit else ""
        return ListSessionsResponse(sessions=page, next_page_token=token)

    async def WatchReports(self, request: WatchReportsRequest, context: Context) -> AsyncIterator[WatchReportsResponse]:
        reports = self._user_plane.reports
        # Sequences of another run of the UPF mean nothing in this one.
        known = request.recovery_time_stamp == reports.recovery_time_stamp
        async for report in reports.follow(request.after_sequence if known else 0, call.stopping()):
            yield WatchReportsResponse(report=report)
