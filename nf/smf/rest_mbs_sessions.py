"""Nmb1 over HTTP: MBS sessions set up, changed and released (TS 29.532 §6.2, /nmbsmf-mbssession/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from nf.common.errors import InvalidArgument
from nf.common.resources import copy_of
from nf.common.rest import Answer, Door, RestCall
from nf.common.rest_body import is_rooted
from nf.smf.mbs_control import MbsSessions
from nf.smf.mbs_requests import MAY_CHANGE
from nf.smf.v1.mbs_session_pb2 import (
    CreateMbsSessionRequest,
    CreateMbsSessionResponse,
    MbsSession,
    UpdateMbsSessionResponse,
)

PREFIX: Final = "/nmbsmf-mbssession/v1"
SESSIONS: Final = "/mbs-sessions"
SESSION: Final = f"{SESSIONS}/{{mbsSessionRef}}"

_ROOT: Final = "mbsSession"

Call = RestCall[None]


def build_door(sessions: MbsSessions) -> Door[None]:
    """The door at ``PREFIX``."""
    door: Door[None] = Door(
        PREFIX,
        title="Nmbsmf: MBS sessions",
        version="1.1.0",
        description="What an MBSF, an NEF or an AF asks of the MB-SMF (TS 29.532). The reference of a session is the "
        "SMF's choice here.",
        function="smf",
        identify=_anyone,
        max_age_s=0,
    )
    resources = _Sessions(sessions)
    door.operation(
        "POST",
        SESSIONS,
        resources.create,
        operation_id="createMbsSession",
        summary="Sets an MBS session up: TMGI where asked for, policy, user plane",
        request=CreateMbsSessionRequest,
        answers={201: CreateMbsSessionResponse},
        errors=(403, 404, 409),
    )
    door.operation(
        "PATCH",
        SESSION,
        resources.patch,
        operation_id="updateMbsSession",
        summary="Changes an MBS session: area, service information, activity, times",
        description="Pointers may begin with /mbsSession.",
        request=CreateMbsSessionRequest,
        answers={200: UpdateMbsSessionResponse},
        errors=(403,),
    )
    door.operation(
        "DELETE",
        SESSION,
        resources.release,
        operation_id="releaseMbsSession",
        summary="Releases an MBS session, and the TMGI that was allocated with it",
        answers={204: None},
    )
    return door


def _anyone(_: Mapping[str, str]) -> None:
    return


class _Sessions:
    def __init__(self, sessions: MbsSessions) -> None:
        self._sessions = sessions

    async def create(self, call: Call) -> Answer:
        wanted = call.message(CreateMbsSessionRequest)
        if not wanted.HasField("mbs_session"):
            raise InvalidArgument.of("mbs_session", "expected, found nothing")
        made = await self._sessions.create(wanted.mbs_session)
        location = f"{PREFIX}{SESSIONS}/{quote(made.mbs_session_ref, safe='')}"
        return Answer(201, CreateMbsSessionResponse(mbs_session=_shown(made)), etag=made.etag, location=location)

    async def patch(self, call: Call) -> Answer:
        current = await self._checked(call)
        wanted = _patched(call, current)
        changed = [name for name in _names() if _value(wanted, name) != _value(current, name)]
        fixed = [name for name in changed if name not in MAY_CHANGE]
        if fixed:
            raise InvalidArgument.of(f"mbs_session.{fixed[0]}", "expected it as it is, found another")
        if not changed:
            return _answer(current)
        wanted.mbs_session_ref, wanted.etag = current.mbs_session_ref, current.etag
        return _answer(await self._sessions.update(wanted, FieldMask(paths=changed)))

    async def release(self, call: Call) -> Answer:
        current = await self._checked(call)
        await self._sessions.release(current.mbs_session_ref)
        return Answer(204)

    async def _checked(self, call: Call) -> MbsSession:
        current = await self._sessions.get(call.path["mbsSessionRef"])
        call.check_preconditions(f"MBS session {current.mbs_session_ref!r}", current.etag)
        return current


def _patched(call: Call, current: MbsSession) -> MbsSession:
    if not is_rooted(call.body, _ROOT):
        return call.patched(current)
    wanted = call.patched(CreateMbsSessionRequest(mbs_session=current))
    if not wanted.HasField("mbs_session"):
        raise InvalidArgument.of("mbs_session", "expected it as it is or changed, found it removed")
    return wanted.mbs_session


def _names() -> tuple[str, ...]:
    """The properties that a patch can reach."""
    return tuple(each.name for each in MbsSession.DESCRIPTOR.fields if each.name not in _OWN)


# The SMF's own, which a patch is not shown and which clients do not set.
_OWN: Final = frozenset(
    {
        "mbs_session_ref", "tmgi", "expiration_time", "area_session_id", "ingress_tun_addr", "red_mbs_serv_area",
        "mbs_policy_auth_ref", "state", "mbs_policy_id", "decision", "cp_seid", "create_time", "etag",
    }
)  # fmt: skip


def _value(session: MbsSession, name: str) -> object:
    """The value of a field; None where it is not there."""
    field = MbsSession.DESCRIPTOR.fields_by_name[name]
    message: Message = session
    return getattr(session, name) if not field.has_presence or message.HasField(name) else None


def _shown(session: MbsSession) -> MbsSession:
    """The session as clients see it: its MBS session ID has the TMGI that it was given."""
    shown = copy_of(session)
    if session.HasField("tmgi"):
        shown.mbs_session_id.tmgi.CopyFrom(session.tmgi)
    return shown


def _answer(session: MbsSession) -> Answer:
    return Answer(200, UpdateMbsSessionResponse(mbs_session=_shown(session)), etag=session.etag)
