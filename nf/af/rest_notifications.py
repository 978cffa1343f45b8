"""Subscriptions to the AF's events as HTTP callbacks, over HTTP: castcore's own, beside the doors of 3GPP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from nf.af.providers import AUTHORIZATION, Provider, Providers
from nf.af.service_notifications import NotificationSubscriptions
from nf.af.v1.notification_subscriptions_pb2 import CreateNotificationSubscriptionRequest
from nf.common.codec import to_json
from nf.common.errors import InvalidArgument
from nf.common.notification_subscriptions import SETTABLE
from nf.common.rest import Answer, Door, Media, Query, RestCall
from nf.common.v1.notifications_pb2 import NotificationSubscription

PREFIX: Final = "/castcore/v1/notification-subscriptions"
_ID: Final = "/{subscriptionId}"
_LIST: Final = Media(
    ("application/json",),
    {
        "type": "object",
        "required": ["items", "nextPageToken"],
        "properties": {
            "items": {"type": "array", "items": {"type": "object"}},
            "nextPageToken": {"type": "string"},
        },
    },
)
_PAGE: Final = (
    Query("pageSize", "At most so many; 0: the server's choice.", {"type": "integer", "minimum": 0}),
    Query("pageToken", "nextPageToken of the page before."),
)

Call = RestCall[Provider]


def door(subscriptions: NotificationSubscriptions, providers: Providers) -> Door[Provider]:
    """The door at ``PREFIX``."""

    def identify(headers: Mapping[str, str]) -> Provider:
        return providers.identify(headers.get(AUTHORIZATION, ""))

    made: Door[Provider] = Door(
        PREFIX,
        title="Notification subscriptions",
        version="1.0.0",
        identify=identify,
        description="Events of the AF, sent by POST to the subscriber: in order, each at least once.",
        secured=providers.configured,
        max_age_s=0,
    )
    resources = _Resources(subscriptions)
    made.operation(
        "POST",
        "",
        resources.create,
        operation_id="createNotificationSubscription",
        summary="Subscribes to events.",
        request=NotificationSubscription,
        answers={201: NotificationSubscription},
        errors=(403, 409, 429),
        conditional=False,
    )
    made.operation(
        "GET",
        "",
        resources.list,
        operation_id="listNotificationSubscriptions",
        summary="The caller's subscriptions; an operator's: all.",
        answers={200: _LIST},
        query=_PAGE,
        conditional=False,
    )
    made.operation(
        "GET",
        _ID,
        resources.read,
        operation_id="retrieveNotificationSubscription",
        summary="A subscription, and how far it has been told.",
        answers={200: NotificationSubscription},
        errors=(404,),
        conditional=False,
    )
    for method, handler, what in (
        ("PUT", resources.replace, "replace"),
        ("PATCH", resources.change, "modify"),
    ):
        made.operation(
            method,
            _ID,
            handler,
            operation_id=f"{what}NotificationSubscription",
            summary="Changes where and what is told; it goes on where it is.",
            request=NotificationSubscription,
            answers={200: NotificationSubscription},
            errors=(403, 404),
        )
    made.operation(
        "DELETE",
        _ID,
        resources.delete,
        operation_id="deleteNotificationSubscription",
        summary="Ends a subscription.",
        answers={204: None},
        errors=(404,),
    )
    return made


class _Resources:
    def __init__(self, subscriptions: NotificationSubscriptions) -> None:
        self._subscriptions = subscriptions

    async def create(self, call: Call) -> Answer:
        request = CreateNotificationSubscriptionRequest(
            notification_subscription=call.message(NotificationSubscription)
        )
        made = await self._subscriptions.create(call.caller, request)
        return Answer(201, made, etag=made.etag, location=f"{PREFIX}/{made.subscription_id}")

    async def list(self, call: Call) -> Answer:
        size = call.query("pageSize") or "0"
        if not size.isdecimal() or len(size) > 9:
            raise InvalidArgument.of("pageSize", f"expected a number, found {size!r}")
        page = await self._subscriptions.list(call.caller, int(size), call.query("pageToken"))
        return Answer(200, {"items": [to_json(each) for each in page.items], "nextPageToken": page.next_page_token})

    async def read(self, call: Call) -> Answer:
        found = await self._subscriptions.get(call.caller, call.path["subscriptionId"])
        # The entity tag is of what was asked for; how it goes changes under it.
        return Answer(200, found, max_age_s=0)

    async def replace(self, call: Call) -> Answer:
        return await self._put(call, call.message(NotificationSubscription))

    async def change(self, call: Call) -> Answer:
        current = await self._subscriptions.get(call.caller, call.path["subscriptionId"])
        return await self._put(call, call.patched(current), etag=current.etag)

    async def delete(self, call: Call) -> Answer:
        etag = await self._checked(call)
        await self._subscriptions.delete(call.caller, call.path["subscriptionId"], etag)
        return Answer(204)

    async def _put(self, call: Call, wanted: NotificationSubscription, etag: str = "") -> Answer:
        wanted.subscription_id = call.path["subscriptionId"]
        wanted.etag = await self._checked(call) or etag
        changed = await self._subscriptions.update(call.caller, wanted, FieldMask(paths=SETTABLE))
        return Answer(200, changed, etag=changed.etag)

    async def _checked(self, call: Call) -> str:
        """The entity tag that the change is for; empty where the request has no condition."""
        if "if-match" not in call.headers:
            return ""
        current = await self._subscriptions.get(call.caller, call.path["subscriptionId"])
        call.check_preconditions(f"notification subscription {current.subscription_id!r}", current.etag)
        return current.etag
