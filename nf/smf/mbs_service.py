"""The SMF's gRPC services for MBS (Nmb1): requests to the domain, its answers back."""

from __future__ import annotations

from nf.smf.mbs_control import MbsSessions
from nf.smf.tmgi import Tmgis
from nf.smf.v1 import mbs_session_pb2 as mbs
from nf.smf.v1 import tmgi_pb2 as tmgi
from nf.smf.v1.mbs_session_pb2_grpc import MbsSessionServiceServicer
from nf.smf.v1.tmgi_pb2_grpc import TmgiServiceServicer


class TmgiService(TmgiServiceServicer):
    """TMGIs (TS 29.532 §5.2)."""

    def __init__(self, tmgis: Tmgis) -> None:
        self._tmgis = tmgis

    async def AllocateTmgi(self, request: tmgi.AllocateTmgiRequest, context: object) -> tmgi.AllocateTmgiResponse:
        """Allocates and refreshes TMGIs."""
        return await self._tmgis.allocate(request)

    async def ReleaseTmgi(self, request: tmgi.ReleaseTmgiRequest, context: object) -> tmgi.ReleaseTmgiResponse:
        """Releases TMGIs."""
        await self._tmgis.release(request.tmgi_list)
        return tmgi.ReleaseTmgiResponse()

    async def ListTmgis(self, request: tmgi.ListTmgisRequest, context: object) -> tmgi.ListTmgisResponse:
        """Lists TMGIs."""
        page = await self._tmgis.page(request.page_size, request.page_token)
        return tmgi.ListTmgisResponse(tmgis=page.items, next_page_token=page.next_page_token)


class MbsSessionService(MbsSessionServiceServicer):
    """MBS sessions (TS 29.532 §5.3)."""

    def __init__(self, sessions: MbsSessions) -> None:
        self._sessions = sessions

    async def CreateMbsSession(
        self, request: mbs.CreateMbsSessionRequest, context: object
    ) -> mbs.CreateMbsSessionResponse:
        """Sets a session up."""
        return mbs.CreateMbsSessionResponse(mbs_session=await self._sessions.create(request.mbs_session))

    async def GetMbsSession(self, request: mbs.GetMbsSessionRequest, context: object) -> mbs.GetMbsSessionResponse:
        """Reads a session."""
        return mbs.GetMbsSessionResponse(mbs_session=await self._sessions.get(request.mbs_session_ref))

    async def ListMbsSessions(
        self, request: mbs.ListMbsSessionsRequest, context: object
    ) -> mbs.ListMbsSessionsResponse:
        """Lists sessions."""
        page = await self._sessions.page(request.page_size, request.page_token)
        return mbs.ListMbsSessionsResponse(mbs_sessions=page.items, next_page_token=page.next_page_token)

    async def UpdateMbsSession(
        self, request: mbs.UpdateMbsSessionRequest, context: object
    ) -> mbs.UpdateMbsSessionResponse:
        """Changes a session."""
        changed = await self._sessions.update(request.mbs_session, request.update_mask)
        return mbs.UpdateMbsSessionResponse(mbs_session=changed)

    async def ReleaseMbsSession(
        self, request: mbs.ReleaseMbsSessionRequest, context: object
    ) -> mbs.ReleaseMbsSessionResponse:
        """Releases a session."""
        await self._sessions.release(request.mbs_session_ref)
        return mbs.ReleaseMbsSessionResponse()
