"""Nmb2 over HTTP: distribution sessions and who is told of their status (TS 29.581 §6.1, /nmbstf-distsession/v1)."""

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
from nf.common.v1 import options_pb2 as options
from nf.common.v1.notifications_pb2 import NotificationSubscription
from nf.mbstf.distribution import DistSessions
from nf.mbstf.status_subscriptions import StatusSubscriptions, shown_of
from nf.mbstf.v1 import status_subscription_pb2 as status
from nf.mbstf.v1.dist_session_pb2 import CreateDistSessionRequest, CreateDistSessionResponse, DistSession

PREFIX: Final = "/nmbstf-distsession/v1"
SESSIONS: Final = "/dist-sessions"
SESSION: Final = f"{SESSIONS}/{{distSessionRef}}"
SUBSCRIPTIONS: Final = f"{SESSION}/subscriptions"
SUBSCRIPTION: Final = f"{SUBSCRIPTIONS}/{{subscriptionId}}"

# What a patch of TS 29.581 begins its pointers with.
_ROOT: Final = "distSession"
_KEPT: Final = ("dist_session_id",)

Call = RestCall[None]


def build_door(sessions: DistSessions, subscriptions: StatusSubscriptions) -> Door[None]:
    """The door at ``PREFIX``."""
    door: Door[None] = Door(
        PREFIX,
        title="Nmbstf: distribution sessions",
        version="1.1.0-alpha.1",
        description="What an MBSF asks of the MBSTF (TS 29.581). A patch of distSessionState is answered when that is "
        "reached: ESTABLISHED once a first object or packet has come in.",
        function="mbstf",
        identify=_anyone,
        max_age_s=0,
    )
    _tell_sessions(door, _Sessions(sessions))
    _tell_subscriptions(door, _Subscriptions(subscriptions))
    return door


def _anyone(_: Mapping[str, str]) -> None:
    return


class _Sessions:
    def __init__(self, sessions: DistSessions) -> None:
        self._sessions = sessions

    async def create(self, call: Call) -> Answer:
        wanted = call.message(CreateDistSessionRequest)
        if not wanted.HasField("dist_session"):
            raise _missing("dist_session")
        if not wanted.dist_session.HasField("mb_upf_tun_addr"):
            raise _missing("dist_session.mb_upf_tun_addr")
        made = await self._sessions.create(wanted.dist_session)
        body = CreateDistSessionResponse(dist_session=made)
        return Answer(201, body, etag=made.etag, last_modified=made.update_time, location=_path(made.dist_session_id))

    async def read(self, call: Call) -> Answer:
        return _answer(await self._sessions.get(call.path["distSessionRef"]))

    async def patch(self, call: Call) -> Answer:
        current = await self._sessions.get(call.path["distSessionRef"])
        call.check_preconditions(f"distribution session {current.dist_session_id!r}", current.etag, current.update_time)
        wanted = _patched(call, current)
        for name in _KEPT:
            if getattr(wanted, name) != getattr(current, name):
                raise InvalidArgument.of(
                    f"dist_session.{name}", f"expected it as it is, found {getattr(wanted, name)!r}"
                )
        paths = [name for name in _CHANGEABLE if _value(wanted, name) != _value(current, name)]
        if not paths:
            return _answer(current)
        # What is changed was read before: it must be the same still, unless it is nothing but its state.
        wanted.etag = current.etag if paths != ["dist_session_state"] or "if-match" in call.headers else ""
        return _answer(await self._sessions.update(wanted, FieldMask(paths=paths)))

    async def delete(self, call: Call) -> Answer:
        current = await self._sessions.get(call.path["distSessionRef"])
        call.check_preconditions(f"distribution session {current.dist_session_id!r}", current.etag, current.update_time)
        await self._sessions.delete(current.dist_session_id)
        return Answer(204)


class _Subscriptions:
    def __init__(self, subscriptions: StatusSubscriptions) -> None:
        self._subscriptions = subscriptions

    async def create(self, call: Call) -> Answer:
        wanted = call.message(status.StatusSubscribeReqData).subscription
        made = await self._subscriptions.create(call.path["distSessionRef"], wanted)
        shown = _subscription(call, made)
        body = status.StatusSubscribeRspData(subscription=shown)
        return Answer(201, body, etag=made.etag, location=_subscription_path(call, made))

    async def patch(self, call: Call) -> Answer:
        changed = await self._subscriptions.change(
            call.path["distSessionRef"],
            call.path["subscriptionId"],
            lambda current: _patched_subscription(call, current),
        )
        return Answer(200, _subscription(call, changed), etag=changed.etag)

    async def delete(self, call: Call) -> Answer:
        await self._subscriptions.delete(call.path["distSessionRef"], call.path["subscriptionId"])
        return Answer(204)


def _changeable() -> tuple[str, ...]:
    """The properties that clients set."""
    return tuple(
        each.name
        for each in DistSession.DESCRIPTOR.fields
        if each.name not in _KEPT
        and not any(each.GetOptions().Extensions[option] for option in (options.internal, options.read_only))
    )


_CHANGEABLE: Final = _changeable()


def _value(session: DistSession, name: str) -> object:
    """The value of a field; None where it is not there."""
    field = DistSession.DESCRIPTOR.fields_by_name[name]
    message: Message = session
    return getattr(session, name) if not field.has_presence or message.HasField(name) else None


def _patched(call: Call, current: DistSession) -> DistSession:
    """The session as the patch wants it, whether it speaks of ``/distSession/…`` or of what a GET answers."""
    if not is_rooted(call.body, _ROOT):
        return call.patched(current)
    wanted = call.patched(CreateDistSessionRequest(dist_session=current))
    if not wanted.HasField("dist_session"):
        raise InvalidArgument.of("dist_session", "expected it as it is or changed, found it removed")
    return wanted.dist_session


def _patched_subscription(call: Call, current: status.DistSessionSubscription) -> status.DistSessionSubscription:
    return copy_of(call.patched(current))


def _answer(session: DistSession) -> Answer:
    return Answer(200, session, etag=session.etag, last_modified=session.update_time)


def _path(dist_session_id: str) -> str:
    return f"{PREFIX}{SESSIONS}/{quote(dist_session_id, safe='')}"


def _subscription_path(call: Call, kept: NotificationSubscription) -> str:
    return f"{_path(call.path['distSessionRef'])}/subscriptions/{kept.subscription_id}"


def _subscription(call: Call, kept: NotificationSubscription) -> status.DistSessionSubscription:
    shown = shown_of(kept)
    shown.dist_session_subsc_uri = call.url_of(_subscription_path(call, kept))
    return shown


def _missing(field: str) -> InvalidArgument:
    error = InvalidArgument.of(field, "expected, found nothing")
    error.cause = "MANDATORY_IE_MISSING"
    return error


def _tell_sessions(door: Door[None], sessions: _Sessions) -> None:
    door.operation(
        "POST",
        SESSIONS,
        sessions.create,
        operation_id="createDistSession",
        summary="Creates a distribution session",
        request=CreateDistSessionRequest,
        answers={201: CreateDistSessionResponse},
        errors=(403, 409, 502),
    )
    door.operation(
        "GET",
        SESSION,
        sessions.read,
        operation_id="retrieveDistSession",
        summary="Reads a distribution session",
        answers={200: DistSession},
    )
    door.operation(
        "PATCH",
        SESSION,
        sessions.patch,
        operation_id="updateDistSession",
        summary="Changes a distribution session, its state before all",
        description="Pointers begin with /distSession.",
        request=CreateDistSessionRequest,
        answers={200: DistSession},
        errors=(502,),
    )
    door.operation(
        "DELETE",
        SESSION,
        sessions.delete,
        operation_id="destroyDistSession",
        summary="Ends and removes a distribution session",
        answers={204: None},
    )


def _tell_subscriptions(door: Door[None], subscriptions: _Subscriptions) -> None:
    door.operation(
        "POST",
        SUBSCRIPTIONS,
        subscriptions.create,
        operation_id="statusSubscribe",
        summary="Subscribes to a distribution session's status",
        request=status.StatusSubscribeReqData,
        answers={201: status.StatusSubscribeRspData},
        errors=(403,),
        conditional=False,
    )
    door.operation(
        "PATCH",
        SUBSCRIPTION,
        subscriptions.patch,
        operation_id="statusSubscribeMod",
        summary="Changes or renews a subscription",
        request=status.DistSessionSubscription,
        answers={200: status.DistSessionSubscription},
        errors=(403,),
        conditional=False,
    )
    door.operation(
        "DELETE",
        SUBSCRIPTION,
        subscriptions.delete,
        operation_id="statusUnsubscribe",
        summary="Ends a subscription",
        answers={204: None},
        conditional=False,
    )
