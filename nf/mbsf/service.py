"""The MBSF's gRPC services at Nmb10: requests to the domain, its answers back."""

from __future__ import annotations

from collections.abc import AsyncIterator

from nf.common.events import serve_watch
from nf.common.store import Store
from nf.common.v1 import events_pb2
from nf.mbsf.provisioning import Provisioning
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1 import user_service_pb2 as services
from nf.mbsf.v1.user_data_ingest_pb2_grpc import (
    MbsfEventsServiceServicer,
    MbsUserDataIngestSessionsServiceServicer,
)
from nf.mbsf.v1.user_service_pb2_grpc import MbsUserServicesServiceServicer


class MbsUserServicesService(MbsUserServicesServiceServicer):
    """MBS user services (TS 29.580 Nmbsf_MBSUserService)."""

    def __init__(self, provisioning: Provisioning) -> None:
        self._provisioning = provisioning

    async def CreateMbsUserService(
        self, request: services.CreateMbsUserServiceRequest, context: object
    ) -> services.CreateMbsUserServiceResponse:
        """Makes a service."""
        made = await self._provisioning.create_service(request)
        return services.CreateMbsUserServiceResponse(mbs_user_service=made)

    async def GetMbsUserService(
        self, request: services.GetMbsUserServiceRequest, context: object
    ) -> services.GetMbsUserServiceResponse:
        """Reads a service."""
        found = await self._provisioning.get_service(request.mbs_user_serv_id)
        return services.GetMbsUserServiceResponse(mbs_user_service=found)

    async def ListMbsUserServices(
        self, request: services.ListMbsUserServicesRequest, context: object
    ) -> services.ListMbsUserServicesResponse:
        """Lists services."""
        page = await self._provisioning.list_services(page_size=request.page_size, page_token=request.page_token)
        return services.ListMbsUserServicesResponse(mbs_user_services=page.items, next_page_token=page.next_page_token)

    async def UpdateMbsUserService(
        self, request: services.UpdateMbsUserServiceRequest, context: object
    ) -> services.UpdateMbsUserServiceResponse:
        """Changes a service."""
        changed = await self._provisioning.update_service(request)
        return services.UpdateMbsUserServiceResponse(mbs_user_service=changed)

    async def DeleteMbsUserService(
        self, request: services.DeleteMbsUserServiceRequest, context: object
    ) -> services.DeleteMbsUserServiceResponse:
        """Removes a service."""
        await self._provisioning.delete_service(request.mbs_user_serv_id, request.etag)
        return services.DeleteMbsUserServiceResponse()


class MbsUserDataIngestSessionsService(MbsUserDataIngestSessionsServiceServicer):
    """User data ingest sessions (TS 29.580 Nmbsf_MBSUserDataIngestSession)."""

    def __init__(self, provisioning: Provisioning) -> None:
        self._provisioning = provisioning

    async def CreateMbsUserDataIngSession(
        self, request: ingest.CreateMbsUserDataIngSessionRequest, context: object
    ) -> ingest.CreateMbsUserDataIngSessionResponse:
        """Provisions a session."""
        made = await self._provisioning.create_session(request)
        return ingest.CreateMbsUserDataIngSessionResponse(mbs_user_data_ing_session=made)

    async def GetMbsUserDataIngSession(
        self, request: ingest.GetMbsUserDataIngSessionRequest, context: object
    ) -> ingest.GetMbsUserDataIngSessionResponse:
        """Reads a session."""
        found = await self._provisioning.get_session(request.mbs_ing_session_id)
        return ingest.GetMbsUserDataIngSessionResponse(mbs_user_data_ing_session=found)

    async def ListMbsUserDataIngSessions(
        self, request: ingest.ListMbsUserDataIngSessionsRequest, context: object
    ) -> ingest.ListMbsUserDataIngSessionsResponse:
        """Lists sessions."""
        page = await self._provisioning.list_sessions(
            mbs_user_serv_id=request.mbs_user_serv_id, page_size=request.page_size, page_token=request.page_token
        )
        return ingest.ListMbsUserDataIngSessionsResponse(
            mbs_user_data_ing_sessions=page.items, next_page_token=page.next_page_token
        )

    async def UpdateMbsUserDataIngSession(
        self, request: ingest.UpdateMbsUserDataIngSessionRequest, context: object
    ) -> ingest.UpdateMbsUserDataIngSessionResponse:
        """Changes a session."""
        changed = await self._provisioning.update_session(request)
        return ingest.UpdateMbsUserDataIngSessionResponse(mbs_user_data_ing_session=changed)

    async def DeleteMbsUserDataIngSession(
        self, request: ingest.DeleteMbsUserDataIngSessionRequest, context: object
    ) -> ingest.DeleteMbsUserDataIngSessionResponse:
        """Destroys a session."""
        await self._provisioning.delete_session(request.mbs_ing_session_id, request.etag)
        return ingest.DeleteMbsUserDataIngSessionResponse()


class MbsfEventsService(MbsfEventsServiceServicer):
    """What the MBSF tells providers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def WatchEvents(
        self, request: events_pb2.WatchEventsRequest, context: object
    ) -> AsyncIterator[events_pb2.WatchEventsResponse]:
        """The MBSF's events."""
        return serve_watch(self._store, request)
