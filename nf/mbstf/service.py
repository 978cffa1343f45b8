"""The MBSTF's gRPC services: requests to the domain, its answers back."""

from __future__ import annotations

from collections.abc import AsyncIterator

from nf.common.events import serve_watch
from nf.common.store import Store
from nf.common.v1 import events_pb2
from nf.mbstf.distribution import DistSessions
from nf.mbstf.v1 import dist_session_pb2 as nmb2
from nf.mbstf.v1.dist_session_pb2_grpc import DistSessionServiceServicer, MbstfEventsServiceServicer


class DistSessionService(DistSessionServiceServicer):
    """Distribution sessions (TS 29.581 §5.2)."""

    def __init__(self, sessions: DistSessions) -> None:
        self._sessions = sessions

    async def CreateDistSession(
        self, request: nmb2.CreateDistSessionRequest, context: object
    ) -> nmb2.CreateDistSessionResponse:
        """Creates a session."""
        return nmb2.CreateDistSessionResponse(dist_session=await self._sessions.create(request.dist_session))

    async def GetDistSession(self, request: nmb2.GetDistSessionRequest, context: object) -> nmb2.GetDistSessionResponse:
        """Reads a session."""
        return nmb2.GetDistSessionResponse(dist_session=await self._sessions.get(request.dist_session_id))

    async def ListDistSessions(
        self, request: nmb2.ListDistSessionsRequest, context: object
    ) -> nmb2.ListDistSessionsResponse:
        """Lists sessions."""
        page = await self._sessions.page(request.page_size, request.page_token)
        return nmb2.ListDistSessionsResponse(dist_sessions=page.items, next_page_token=page.next_page_token)

    async def UpdateDistSession(
        self, request: nmb2.UpdateDistSessionRequest, context: object
    ) -> nmb2.UpdateDistSessionResponse:
        """Changes a session, its state before all."""
        session = await self._sessions.update(request.dist_session, request.update_mask)
        return nmb2.UpdateDistSessionResponse(dist_session=session)

    async def DeleteDistSession(
        self, request: nmb2.DeleteDistSessionRequest, context: object
    ) -> nmb2.DeleteDistSessionResponse:
        """Ends and removes a session."""
        await self._sessions.delete(request.dist_session_id)
        return nmb2.DeleteDistSessionResponse()


class MbstfEventsService(MbstfEventsServiceServicer):
    """What the MBSTF tells the MBSF."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def WatchEvents(
        self, request: events_pb2.WatchEventsRequest, context: object
    ) -> AsyncIterator[events_pb2.WatchEventsResponse]:
        """The MBSTF's events."""
        return serve_watch(self._store, request)
