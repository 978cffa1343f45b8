"""What the platform asks the PCF for: application sessions, by identifiers of its own choice (TS 29.514 §4.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.call import own_deadline
from nf.common.errors import NotFound
from nf.netapi.access_decision import Deed
from nf.pcf.v1 import policy_authorization_pb2 as n5
from nf.pcf.v1.policy_authorization_pb2_grpc import PolicyAuthorizationServiceStub

# What is asked for is finished, whoever has caused it and however long he waits.
_DEADLINE_S: Final = 5.0
_PAGE: Final = 1000
# What an application session can be changed in.
_CHANGEABLE: Final = ("af_app_id", "asp_id", "spon_id", "med_components", "events")


# The session as it is in force, or what one that has ended has used.
Answer: TypeAlias = n5.AppSession | n5.EventNotification


class Network(Protocol):
    """What provides devices with what is booked."""

    async def ask(self, deed: Deed, app_session_id: str, asked: n5.AppSessionContextReqData) -> Answer:
        """Creates, changes or ends an application session. Raises what the network refuses with."""
        ...

    async def session(self, app_session_id: str) -> n5.AppSession | None:
        """An application session as it is; None: there is none."""
        ...

    async def states(self) -> dict[str, n5.AppSession.State.ValueType]:
        """The states of all application sessions, by their identifiers."""
        ...


class Pcf:
    """N5 as the platform uses it. Every call may be repeated."""

    def __init__(self, channel: Callable[[], grpc.aio.Channel]) -> None:
        self._channel = channel

    async def ask(self, deed: Deed, app_session_id: str, asked: n5.AppSessionContextReqData) -> Answer:
        """Creates, changes or ends an application session. Raises what the PCF refuses with."""
        stub = PolicyAuthorizationServiceStub(self._channel())
        with own_deadline(_DEADLINE_S):
            if deed is Deed.CREATE:
                session = n5.AppSession(app_session_id=app_session_id, asc_req_data=asked)
                return (await stub.CreateAppSession(n5.CreateAppSessionRequest(app_session=session))).app_session
            if deed is Deed.UPDATE:
                mask = FieldMask(paths=_CHANGEABLE)
                request = n5.UpdateAppSessionRequest(
                    app_session_id=app_session_id, asc_req_data=asked, update_mask=mask
                )
                return (await stub.UpdateAppSession(request)).app_session
            ended = await stub.DeleteAppSession(n5.DeleteAppSessionRequest(app_session_id=app_session_id))
            return ended.final_usage

    async def session(self, app_session_id: str) -> n5.AppSession | None:
        """An application session as it is; None: there is none."""
        stub = PolicyAuthorizationServiceStub(self._channel())
        try:
            request = n5.GetAppSessionRequest(app_session_id=app_session_id)
            return (await stub.GetAppSession(request)).app_session
        except NotFound:
            return None

    async def states(self) -> dict[str, n5.AppSession.State.ValueType]:
        """The states of all application sessions, by their identifiers."""
        stub = PolicyAuthorizationServiceStub(self._channel())
        states: dict[str, n5.AppSession.State.ValueType] = {}
        token = ""
        while True:
            page = await stub.ListAppSessions(n5.ListAppSessionsRequest(page_size=_PAGE, page_token=token))
            states.update((each.app_session_id, each.state) for each in page.app_sessions)
            token = page.next_page_token
            if not token:
                return states
