"""Nmb10 over HTTP: MBS user services (TS 29.580 §6.1, /nmbsf-mbs-us/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.errors import InvalidArgument
from nf.common.resources import MAX_PAGE_SIZE
from nf.common.rest import Answer, Door, RestCall, Several
from nf.mbsf.provisioning import SERVICE_CHANGEABLE, Provisioning
from nf.mbsf.v1.user_service_pb2 import CreateMbsUserServiceRequest, MbsUserService, UpdateMbsUserServiceRequest

PREFIX: Final = "/nmbsf-mbs-us/v1"
SERVICES: Final = "/mbs-user-services"
SERVICE: Final = f"{SERVICES}/{{mbsUserServId}}"

Call = RestCall[None]


def build_door(provisioning: Provisioning) -> Door[None]:
    """The door at ``PREFIX``."""
    door: Door[None] = Door(
        PREFIX,
        title="Nmbsf: MBS user services",
        version="1.1.0-alpha.2",
        description="What a provider offers as multicast or broadcast services (TS 29.580).",
        function="mbsf",
        identify=_anyone,
        max_age_s=1,
    )
    services = _Services(provisioning)
    kind = MbsUserService
    door.operation(
        "GET",
        SERVICES,
        services.all,
        operation_id="retrieveMBSUserServices",
        summary="All MBS user services",
        answers={200: Several(kind)},
        conditional=False,
    )
    door.operation(
        "POST",
        SERVICES,
        services.create,
        operation_id="createMBSUserService",
        summary="Creates an MBS user service",
        request=kind,
        answers={201: kind},
    )
    door.operation(
        "GET",
        SERVICE,
        services.read,
        operation_id="retrieveIndMBSUserService",
        summary="Reads an MBS user service",
        answers={200: kind},
    )
    door.operation(
        "PUT",
        SERVICE,
        services.replace,
        operation_id="updateIndMBSUserService",
        summary="Replaces an MBS user service; its type stays",
        request=kind,
        answers={200: kind},
    )
    door.operation(
        "PATCH",
        SERVICE,
        services.patch,
        operation_id="modifyIndMBSUserService",
        summary="Changes an MBS user service",
        request=kind,
        answers={200: kind},
    )
    door.operation(
        "DELETE",
        SERVICE,
        services.delete,
        operation_id="deleteIndMBSUserService",
        summary="Removes an MBS user service that has no ingest session",
        answers={204: None},
        errors=(409,),
    )
    return door


def _anyone(_: Mapping[str, str]) -> None:
    return


class _Services:
    def __init__(self, provisioning: Provisioning) -> None:
        self._provisioning = provisioning

    async def all(self, _: Call) -> Answer:
        found: list[MbsUserService] = []
        token = ""
        while True:
            page = await self._provisioning.list_services(page_size=MAX_PAGE_SIZE, page_token=token)
            found += page.items
            token = page.next_page_token
            if not token:
                return Answer(200, found)

    async def create(self, call: Call) -> Answer:
        request = CreateMbsUserServiceRequest(mbs_user_service=call.message(MbsUserService))
        made = await self._provisioning.create_service(request)
        return _answer(201, made, location=f"{call.url}/{made.mbs_user_serv_id}")

    async def read(self, call: Call) -> Answer:
        return _answer(200, await self._current(call))

    async def replace(self, call: Call) -> Answer:
        current = await self._checked(call)
        return await self._change(call, current, call.message(MbsUserService))

    async def patch(self, call: Call) -> Answer:
        current = await self._checked(call)
        return await self._change(call, current, call.patched(current), etag=current.etag)

    async def delete(self, call: Call) -> Answer:
        current = await self._checked(call)
        await self._provisioning.delete_service(current.mbs_user_serv_id, current.etag if _is_conditional(call) else "")
        return Answer(204)

    async def _change(self, call: Call, current: MbsUserService, wanted: MbsUserService, etag: str = "") -> Answer:
        if wanted.serv_type != current.serv_type:
            raise InvalidArgument.of("mbs_user_service.serv_type", "expected it as it is, found another")
        wanted.mbs_user_serv_id = current.mbs_user_serv_id
        wanted.etag = current.etag if _is_conditional(call) else etag
        request = UpdateMbsUserServiceRequest(mbs_user_service=wanted, update_mask=FieldMask(paths=SERVICE_CHANGEABLE))
        return _answer(200, await self._provisioning.update_service(request))

    async def _current(self, call: Call) -> MbsUserService:
        return await self._provisioning.get_service(call.path["mbsUserServId"])

    async def _checked(self, call: Call) -> MbsUserService:
        current = await self._current(call)
        call.check_preconditions(f"MBS user service {current.mbs_user_serv_id!r}", current.etag, current.update_time)
        return current


def _is_conditional(call: Call) -> bool:
    return "if-match" in call.headers


def _answer(status: int, service: MbsUserService, location: str = "") -> Answer:
    return Answer(status, service, etag=service.etag, last_modified=service.update_time, location=location)
