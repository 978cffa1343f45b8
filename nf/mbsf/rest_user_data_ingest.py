"""Nmb10 over HTTP: user data ingest sessions, and who is told of them (TS 29.580 §6.2, /nmbsf-mbs-ud-ingest/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.codec import to_json
from nf.common.errors import InvalidArgument
from nf.common.resources import MAX_PAGE_SIZE, etag_of
from nf.common.rest import Answer, Door, RestCall, Several
from nf.common.v1.notifications_pb2 import NotificationSubscription
from nf.mbsf.provisioning import Provisioning
from nf.mbsf.status_subscriptions import StatusSubscriptions, shown_of
from nf.mbsf.v1.user_data_ingest_pb2 import (
    CreateMbsUserDataIngSessionRequest,
    MbsUserDataIngSession,
    MbsUserDataIngStatSubsc,
    UpdateMbsUserDataIngSessionRequest,
)

PREFIX: Final = "/nmbsf-mbs-ud-ingest/v1"
SESSIONS: Final = "/sessions"
SESSION: Final = f"{SESSIONS}/{{sessionId}}"
SUBSCRIPTIONS: Final = "/status-subscriptions"
SUBSCRIPTION: Final = f"{SUBSCRIPTIONS}/{{subscriptionId}}"

# What may be changed, as JSON and as the domain call it.
_CHANGEABLE: Final = {"mbsDisSessInfos": "mbs_dis_sess_infos", "actPeriods": "act_periods"}

Call = RestCall[None]


def build_door(provisioning: Provisioning, subscriptions: StatusSubscriptions) -> Door[None]:
    """The door at ``PREFIX``."""
    door: Door[None] = Door(
        PREFIX,
        title="Nmbsf: user data ingest sessions",
        version="1.1.0-alpha.5",
        description="What is distributed, when, and how it goes (TS 29.580).",
        function="mbsf",
        identify=_anyone,
        max_age_s=1,
    )
    _tell_sessions(door, _Sessions(provisioning))
    _tell_subscriptions(door, _Subscriptions(subscriptions))
    return door


def _anyone(_: Mapping[str, str]) -> None:
    return


class _Sessions:
    """Ingest sessions. Their entity tags are of all that is shown, the states of the distribution sessions included."""

    def __init__(self, provisioning: Provisioning) -> None:
        self._provisioning = provisioning

    async def all(self, _: Call) -> Answer:
        found: list[MbsUserDataIngSession] = []
        token = ""
        while True:
            page = await self._provisioning.list_sessions(page_size=MAX_PAGE_SIZE, page_token=token)
            found += page.items
            token = page.next_page_token
            if not token:
                return Answer(200, found)

    async def create(self, call: Call) -> Answer:
        request = CreateMbsUserDataIngSessionRequest(mbs_user_data_ing_session=call.message(MbsUserDataIngSession))
        made = await self._provisioning.create_session(request)
        return _answer(201, made, location=f"{call.url}/{made.mbs_ing_session_id}")

    async def read(self, call: Call) -> Answer:
        return _answer(200, await self._current(call))

    async def replace(self, call: Call) -> Answer:
        current = await self._checked(call)
        return await self._change(call, current, call.message(MbsUserDataIngSession))

    async def patch(self, call: Call) -> Answer:
        current = await self._checked(call)
        return await self._change(call, current, call.patched(current), etag=current.etag)

    async def delete(self, call: Call) -> Answer:
        current = await self._checked(call)
        etag = current.etag if "if-match" in call.headers else ""
        await self._provisioning.delete_session(current.mbs_ing_session_id, etag)
        return Answer(204)

    async def _change(
        self, call: Call, current: MbsUserDataIngSession, wanted: MbsUserDataIngSession, etag: str = ""
    ) -> Answer:
        if wanted.mbs_user_serv_id != current.mbs_user_serv_id:
            raise InvalidArgument.of(
                "mbs_user_data_ing_session.mbs_user_serv_id",
                f"expected {current.mbs_user_serv_id!r} as it is, found {wanted.mbs_user_serv_id!r}",
            )
        before, after = to_json(current), to_json(wanted)
        # What is sent back as it was shown, states and identities that the MBSF has set among it, is no change.
        paths = [path for name, path in _CHANGEABLE.items() if before.get(name) != after.get(name)]
        if not paths:
            return _answer(200, current)
        wanted.mbs_ing_session_id = current.mbs_ing_session_id
        wanted.etag = current.etag if "if-match" in call.headers else etag
        request = UpdateMbsUserDataIngSessionRequest(
            mbs_user_data_ing_session=wanted, update_mask=FieldMask(paths=paths)
        )
        return _answer(200, await self._provisioning.update_session(request))

    async def _current(self, call: Call) -> MbsUserDataIngSession:
        return await self._provisioning.get_session(call.path["sessionId"])

    async def _checked(self, call: Call) -> MbsUserDataIngSession:
        current = await self._current(call)
        call.check_preconditions(f"user data ingest session {current.mbs_ing_session_id!r}", etag_of(current))
        return current


class _Subscriptions:
    def __init__(self, subscriptions: StatusSubscriptions) -> None:
        self._subscriptions = subscriptions

    async def all(self, _: Call) -> Answer:
        return Answer(200, [shown_of(each) for each in await self._subscriptions.all()])

    async def create(self, call: Call) -> Answer:
        made = await self._subscriptions.create(call.message(MbsUserDataIngStatSubsc))
        return _subscription(201, made, location=f"{call.url}/{made.subscription_id}")

    async def read(self, call: Call) -> Answer:
        return _subscription(200, await self._subscriptions.get(call.path["subscriptionId"]))

    async def replace(self, call: Call) -> Answer:
        wanted = call.message(MbsUserDataIngStatSubsc)
        changed = await self._subscriptions.change(
            call.path["subscriptionId"], lambda _: wanted, await self._etag(call)
        )
        return _subscription(200, changed)

    async def patch(self, call: Call) -> Answer:
        changed = await self._subscriptions.change(call.path["subscriptionId"], call.patched, await self._etag(call))
        return _subscription(200, changed)

    async def delete(self, call: Call) -> Answer:
        await self._subscriptions.delete(call.path["subscriptionId"], await self._etag(call))
        return Answer(204)

    async def _etag(self, call: Call) -> str:
        """The entity tag that the change is for; empty where the request has no condition."""
        if "if-match" not in call.headers:
            return ""
        current = await self._subscriptions.get(call.path["subscriptionId"])
        call.check_preconditions(f"status subscription {current.subscription_id!r}", current.etag)
        return current.etag


def _answer(status: int, session: MbsUserDataIngSession, location: str = "") -> Answer:
    return Answer(status, session, etag=etag_of(session), location=location)


def _subscription(status: int, kept: NotificationSubscription, location: str = "") -> Answer:
    return Answer(status, shown_of(kept), etag=kept.etag, location=location)


def _tell_sessions(door: Door[None], sessions: _Sessions) -> None:
    kind = MbsUserDataIngSession
    door.operation(
        "GET",
        SESSIONS,
        sessions.all,
        operation_id="retrieveMBSUserDataIngSessions",
        summary="All user data ingest sessions",
        answers={200: Several(kind)},
        conditional=False,
    )
    door.operation(
        "POST",
        SESSIONS,
        sessions.create,
        operation_id="createMBSUserDataIngSession",
        summary="Provisions a user data ingest session with its distribution sessions",
        request=kind,
        answers={201: kind},
        errors=(403, 404, 409, 502),
    )
    door.operation(
        "GET",
        SESSION,
        sessions.read,
        operation_id="retrieveIndMBSUserDataIngSession",
        summary="Reads a user data ingest session, with the states of its distribution sessions",
        answers={200: kind},
    )
    for method, handler, operation_id, summary in (
        ("PUT", sessions.replace, "updateIndMBSUserDataIngSession", "Replaces what is provisioned"),
        ("PATCH", sessions.patch, "modifyIndMBSUserDataIngSession", "Changes what is provisioned"),
    ):
        door.operation(
            method,
            SESSION,
            handler,
            operation_id=operation_id,
            summary=summary,
            description="Distribution sessions are changed while they are INACTIVE; periods at any time.",
            request=kind,
            answers={200: kind},
            errors=(403, 409, 502),
        )
    door.operation(
        "DELETE",
        SESSION,
        sessions.delete,
        operation_id="deleteIndMBSUserDataIngSession",
        summary="Destroys a session: what runs is deactivated first",
        answers={204: None},
    )


def _tell_subscriptions(door: Door[None], subscriptions: _Subscriptions) -> None:
    kind = MbsUserDataIngStatSubsc
    door.operation(
        "GET",
        SUBSCRIPTIONS,
        subscriptions.all,
        operation_id="retrieveMBSUserDataIngStatSubscs",
        summary="All status subscriptions",
        answers={200: Several(kind)},
        conditional=False,
    )
    door.operation(
        "POST",
        SUBSCRIPTIONS,
        subscriptions.create,
        operation_id="createMBSUserDataIngStatSubsc",
        summary="Subscribes to the status of a user data ingest session",
        request=kind,
        answers={201: kind},
        errors=(403, 404),
    )
    door.operation(
        "GET",
        SUBSCRIPTION,
        subscriptions.read,
        operation_id="retrieveIndMBSUserDataIngStatSubsc",
        summary="Reads a status subscription",
        answers={200: kind},
    )
    for method, handler, operation_id, summary in (
        ("PUT", subscriptions.replace, "updateIndMBSUserDataIngStatSubsc", "Replaces events and URL"),
        ("PATCH", subscriptions.patch, "modifyIndMBSUserDataIngStatSubsc", "Changes events and URL"),
    ):
        door.operation(
            method,
            SUBSCRIPTION,
            handler,
            operation_id=operation_id,
            summary=f"{summary}; it goes on where it is",
            request=kind,
            answers={200: kind},
            errors=(403,),
        )
    door.operation(
        "DELETE",
        SUBSCRIPTION,
        subscriptions.delete,
        operation_id="deleteMBSUserDataIngStatSubsc",
        summary="Ends a status subscription",
        answers={204: None},
    )
