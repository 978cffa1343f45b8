"""N4mb over gRPC: requests to the MB-UPF, and its answers (TS 29.244 §6)."""

from __future__ import annotations

from typing import Final

from google.protobuf.message import Message
from grpc.aio import ServicerContext

from nf.common.resources import decode_page_token, encode_page_token, page_limit
from upf.mbs.user_plane import MbsUserPlane
from upf.n4.v1.n4_pb2 import (
    CompleteResynchronisationRequest,
    CompleteResynchronisationResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    SetUpAssociationRequest,
    SetUpAssociationResponse,
)
from upf.n4.v1.n4mb_pb2 import (
    DeleteMbsSessionRequest,
    DeleteMbsSessionResponse,
    EstablishMbsSessionRequest,
    EstablishMbsSessionResponse,
    GetMbsUsageRequest,
    GetMbsUsageResponse,
    ListMbsSessionsRequest,
    ListMbsSessionsResponse,
    ModifyMbsSessionRequest,
    ModifyMbsSessionResponse,
)
from upf.n4.v1.n4mb_pb2_grpc import N4mbServiceServicer

Context = ServicerContext[Message, Message]

_SESSIONS: Final = "upf-mbs-sessions"
_USAGES: Final = "upf-mbs-usages"


class N4mbService(N4mbServiceServicer):
    """The UPF's end of N4mb."""

    def __init__(self, user_plane: MbsUserPlane, node_id: str) -> None:
        self._user_plane = user_plane
        self._node_id = node_id

    async def SetUpAssociation(self, request: SetUpAssociationRequest, context: Context) -> SetUpAssociationResponse:
        self._user_plane.set_up_association()
        return SetUpAssociationResponse(node_id=self._node_id, recovery_time_stamp=self._user_plane.recovery_time_stamp)

    async def Heartbeat(self, request: HeartbeatRequest, context: Context) -> HeartbeatResponse:
        return HeartbeatResponse(
            recovery_time_stamp=self._user_plane.recovery_time_stamp, forwarding=self._user_plane.forwarding
        )

    async def CompleteResynchronisation(
        self, request: CompleteResynchronisationRequest, context: Context
    ) -> CompleteResynchronisationResponse:
        self._user_plane.complete_resynchronisation()
        return CompleteResynchronisationResponse()

    async def EstablishMbsSession(
        self, request: EstablishMbsSessionRequest, context: Context
    ) -> EstablishMbsSessionResponse:
        established = self._user_plane.establish(request.mbs_session)
        return EstablishMbsSessionResponse(
            # One MB-SMF controls this UPF: its identifiers serve at both ends.
            up_seid=request.mbs_session.cp_seid,
            ingress_tun_addr=established.ingress_tun_addr,
            mbs_session=established.mbs_session,
        )

    async def ModifyMbsSession(self, request: ModifyMbsSessionRequest, context: Context) -> ModifyMbsSessionResponse:
        established = self._user_plane.modify(request)
        return ModifyMbsSessionResponse(
            ingress_tun_addr=established.ingress_tun_addr, mbs_session=established.mbs_session
        )

    async def DeleteMbsSession(self, request: DeleteMbsSessionRequest, context: Context) -> DeleteMbsSessionResponse:
        return DeleteMbsSessionResponse(mbs_usage=self._user_plane.delete(request.cp_seid))

    async def ListMbsSessions(self, request: ListMbsSessionsRequest, context: Context) -> ListMbsSessionsResponse:
        after = decode_page_token(_SESSIONS, request.page_token)
        limit = page_limit(request.page_size)
        left = self._user_plane.sessions(after=after, limit=limit + 1)
        page = left[:limit]
        token = encode_page_token(_SESSIONS, page[-1].mbs_session.cp_seid) if len(left) > limit else ""
        return ListMbsSessionsResponse(mbs_sessions=page, next_page_token=token)

    async def GetMbsUsage(self, request: GetMbsUsageRequest, context: Context) -> GetMbsUsageResponse:
        response = GetMbsUsageResponse(
            ingress_usage=self._user_plane.ingress_usage(), recovery_time_stamp=self._user_plane.recovery_time_stamp
        )
        if request.cp_seid:
            response.mbs_usages.append(self._user_plane.usage(request.cp_seid))
            return response
        after = decode_page_token(_USAGES, request.page_token)
        limit = page_limit(request.page_size)
        left = self._user_plane.usages(after=after, limit=limit + 1)
        response.mbs_usages.extend(left[:limit])
        if len(left) > limit:
            response.next_page_token = encode_page_token(_USAGES, left[limit - 1].cp_seid)
        return response
