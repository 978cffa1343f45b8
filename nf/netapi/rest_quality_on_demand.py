"""The CAMARA door quality-on-demand 1.2.0-rc.3: sessions that give a device a QoS profile for a while."""

from __future__ import annotations

from typing import Final

from nf.common.rest import Answer, Door, RestCall, Several
from nf.netapi.callers import Caller, Callers
from nf.netapi.camara_checks import checked, uuid_hex, uuid_text
from nf.netapi.camara_devices import subject_names
from nf.netapi.qod_sessions import QodSessions
from nf.netapi.qod_views import info_of
from nf.netapi.rest_camara import camara_door
from nf.netapi.v1.camara_qod_pb2 import CreateQodSession, ExtendQodSession, QodSessionInfo, RetrieveQodSessions

PREFIX: Final = "/quality-on-demand/v1rc3"
SESSIONS: Final = "/sessions"
SESSION: Final = f"{SESSIONS}/{{sessionId}}"

Call = RestCall[Caller]

# What the platform's refusals are here.
_CODES: Final = {
    "AMBIGUOUS_DEVICE": (422, "SERVICE_NOT_APPLICABLE"),
    "CALLBACK_HOST_NOT_ALLOWED": (400, "INVALID_SINK"),
}


def build_door(callers: Callers, sessions: QodSessions) -> Door[Caller]:
    """The door at ``PREFIX``."""
    door = camara_door(
        PREFIX,
        title="CAMARA: Quality-On-Demand",
        version="1.2.0-rc.3",
        callers=callers,
        description="Sessions that give a device the quality of a QoS profile for a while.",
        strict=True,
        codes=_CODES,
    )
    handlers = _Sessions(sessions)
    door.operation(
        "POST",
        SESSIONS,
        handlers.create,
        operation_id="createSession",
        summary="Creates a session",
        request=CreateQodSession,
        answers={201: QodSessionInfo},
        errors=(404, 409, 422),
        conditional=False,
        scope="quality-on-demand:sessions:create",
    )
    door.operation(
        "GET",
        SESSION,
        handlers.read,
        operation_id="getSession",
        summary="Reads a session",
        answers={200: QodSessionInfo},
        conditional=False,
        scope="quality-on-demand:sessions:read",
    )
    door.operation(
        "DELETE",
        SESSION,
        handlers.delete,
        operation_id="deleteSession",
        summary="Ends a session",
        answers={204: None},
        conditional=False,
        scope="quality-on-demand:sessions:delete",
    )
    door.operation(
        "POST",
        f"{SESSION}/extend",
        handlers.extend,
        operation_id="extendQosSessionDuration",
        summary="Lets a session last longer",
        request=ExtendQodSession,
        answers={200: QodSessionInfo},
        errors=(409,),
        conditional=False,
        scope="quality-on-demand:sessions:update",
    )
    door.operation(
        "POST",
        "/retrieve-sessions",
        handlers.retrieve,
        operation_id="retrieveSessionsByDevice",
        summary="The sessions of a device",
        request=RetrieveQodSessions,
        answers={200: Several(QodSessionInfo)},
        errors=(404, 422),
        conditional=False,
        scope="quality-on-demand:sessions:retrieve-by-device",
    )
    return door


class _Sessions:
    def __init__(self, sessions: QodSessions) -> None:
        self._sessions = sessions

    async def create(self, call: Call) -> Answer:
        asked = checked(call.message(CreateQodSession))
        made = await self._sessions.create(call.caller, asked)
        return Answer(201, info_of(made), location=f"{call.url}/{uuid_text(made.booking_id)}")

    async def read(self, call: Call) -> Answer:
        return Answer(200, info_of(await self._sessions.get(call.caller, _id_of(call))))

    async def delete(self, call: Call) -> Answer:
        await self._sessions.delete(call.caller, _id_of(call))
        return Answer(204)

    async def extend(self, call: Call) -> Answer:
        asked = checked(call.message(ExtendQodSession))
        additional_s = asked.requested_additional_duration_s
        return Answer(200, info_of(await self._sessions.extend(call.caller, _id_of(call), additional_s)))

    async def retrieve(self, call: Call) -> Answer:
        asked = call.message(RetrieveQodSessions)
        names = subject_names(call.caller.device, asked.device if asked.HasField("device") else None)
        return Answer(200, [info_of(each) for each in await self._sessions.of_device(call.caller, names)])


def _id_of(call: Call) -> str:
    return uuid_hex("sessionId", call.path["sessionId"])
