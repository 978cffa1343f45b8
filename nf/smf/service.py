"""The SMF's gRPC services: requests to the domain, its answers back."""

from __future__ import annotations

from collections.abc import AsyncIterator

from nf.common.events import serve_watch
from nf.common.store import Store
from nf.common.v1 import events_pb2
from nf.smf.attachment import PduSessions
from nf.smf.v1 import pdu_session_pb2 as pdu
from nf.smf.v1.pdu_session_pb2_grpc import (
    PduSessionsServiceServicer,
    SmfEventsServiceServicer,
    SmPolicyNotifyServiceServicer,
)


class PduSessionsService(PduSessionsServiceServicer):
    """PDU sessions (TS 29.502 shaped)."""

    def __init__(self, sessions: PduSessions) -> None:
        self._sessions = sessions

    async def CreatePduSession(
        self, request: pdu.CreatePduSessionRequest, context: object
    ) -> pdu.CreatePduSessionResponse:
        """Attaches a UE."""
        return pdu.CreatePduSessionResponse(pdu_session=await self._sessions.create(request.pdu_session))

    async def GetPduSession(self, request: pdu.GetPduSessionRequest, context: object) -> pdu.GetPduSessionResponse:
        """Reads a PDU session."""
        return pdu.GetPduSessionResponse(pdu_session=await self._sessions.get(request.sm_context_ref))

    async def ListPduSessions(
        self, request: pdu.ListPduSessionsRequest, context: object
    ) -> pdu.ListPduSessionsResponse:
        """Lists PDU sessions."""
        page = await self._sessions.page(request.page_size, request.page_token)
        return pdu.ListPduSessionsResponse(pdu_sessions=page.items, next_page_token=page.next_page_token)

    async def UpdateUserLocation(
        self, request: pdu.UpdateUserLocationRequest, context: object
    ) -> pdu.UpdateUserLocationResponse:
        """The UE is in another cell."""
        cell = request.user_location if request.HasField("user_location") else None
        return pdu.UpdateUserLocationResponse(pdu_session=await self._sessions.locate(request.sm_context_ref, cell))

    async def ReleasePduSession(
        self, request: pdu.ReleasePduSessionRequest, context: object
    ) -> pdu.ReleasePduSessionResponse:
        """Detaches a UE."""
        await self._sessions.release(request.sm_context_ref)
        return pdu.ReleasePduSessionResponse()


class SmPolicyNotifyService(SmPolicyNotifyServiceServicer):
    """The SMF's end of N7 (TS 29.512 §4.2.3)."""

    def __init__(self, sessions: PduSessions) -> None:
        self._sessions = sessions

    async def UpdateNotify(self, request: pdu.UpdateNotifyRequest, context: object) -> pdu.UpdateNotifyResponse:
        """Puts a decision in force."""
        return pdu.UpdateNotifyResponse(usage=await self._sessions.update(request.sm_policy_id, request.decision))


class SmfEventsService(SmfEventsServiceServicer):
    """What the SMF tells the PCF."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def WatchEvents(
        self, request: events_pb2.WatchEventsRequest, context: object
    ) -> AsyncIterator[events_pb2.WatchEventsResponse]:
        """The SMF's events."""
        return serve_watch(self._store, request)
