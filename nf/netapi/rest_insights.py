"""The CAMARA door connectivity-insights-subscriptions 0.7.0-rc.1: told when the network can meet what is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from nf.common.errors import InvalidArgument
from nf.common.json_text import SHOWN_LENGTH
from nf.common.rest import Answer, Door, RestCall
from nf.common.rest_call import Query
from nf.netapi.callers import Caller, Callers
from nf.netapi.camara_checks import checked
from nf.netapi.insights import DOOR, Insights
from nf.netapi.rest_camara import camara_door
from nf.netapi.v1 import camara_insights_pb2 as v1

PREFIX: Final = f"/{DOOR}/v0.7rc1"
SUBSCRIPTIONS: Final = "/subscriptions"
SUBSCRIPTION: Final = f"{SUBSCRIPTIONS}/{{subscriptionId}}"
_PER_PAGE: Final = 20
_MOST_PER_PAGE: Final = 100
_MOST_PAGES: Final = 2**31 - 1

Call = RestCall[Caller]

_CODES: Final = {
    "AMBIGUOUS_DEVICE": (422, "SERVICE_NOT_APPLICABLE"),
    "DEVICE_MISMATCH": (422, "SERVICE_NOT_APPLICABLE"),
    "CALLBACK_HOST_NOT_ALLOWED": (400, "INVALID_SINK"),
}


def build_door(callers: Callers, insights: Insights) -> Door[Caller]:
    """The door at ``PREFIX``."""
    door = camara_door(
        PREFIX,
        title="CAMARA: Connectivity Insights Subscriptions",
        version="0.7.0-rc.1",
        callers=callers,
        description="Events when the network can, or can no longer, meet what an application needs for a device.",
        strict=True,
        codes=_CODES,
    )
    handlers = _Subscriptions(insights)
    door.operation(
        "POST",
        SUBSCRIPTIONS,
        handlers.create,
        operation_id="createSubscription",
        summary="Creates a subscription",
        description="The access token has to be for the type of events that is asked for.",
        request=v1.InsightsSubscriptionRequest,
        answers={201: v1.InsightsSubscription},
        errors=(404, 409, 422, 429),
        conditional=False,
    )
    door.operation(
        "GET",
        SUBSCRIPTIONS,
        handlers.all,
        operation_id="getSubscriptionList",
        summary="Lists subscriptions",
        query=(
            _number("page", "Which page, the first being 1.", 1, _MOST_PAGES, 1),
            _number("perPage", "How many on a page.", 1, _MOST_PER_PAGE, _PER_PAGE),
        ),
        answers={200: v1.InsightsSubscriptionList},
        conditional=False,
        scope=f"{DOOR}:read",
    )
    door.operation(
        "GET",
        SUBSCRIPTION,
        handlers.read,
        operation_id="getSubscription",
        summary="Reads a subscription",
        answers={200: v1.InsightsSubscription},
        errors=(404,),
        conditional=False,
        scope=f"{DOOR}:read",
    )
    door.operation(
        "DELETE",
        SUBSCRIPTION,
        handlers.delete,
        operation_id="deleteSubscription",
        summary="Ends a subscription",
        answers={204: None},
        errors=(404,),
        conditional=False,
        scope=f"{DOOR}:delete",
    )
    return door


class _Subscriptions:
    def __init__(self, insights: Insights) -> None:
        self._insights = insights

    async def create(self, call: Call) -> Answer:
        asked = checked(call.message(v1.InsightsSubscriptionRequest))
        made = await self._insights.create(call.caller, asked)
        return Answer(201, made, location=f"{call.url}/{made.id}")

    async def all(self, call: Call) -> Answer:
        page = _asked(call, "page", 1, _MOST_PAGES)
        per_page = _asked(call, "perPage", _PER_PAGE, _MOST_PER_PAGE)
        found = await self._insights.all(call.caller)
        pages = -(-len(found) // per_page)
        told = v1.InsightsPagination(page=page, per_page=per_page, total_count=len(found), total_pages=pages)
        shown = found[(page - 1) * per_page : page * per_page]
        headers = {"x-total-count": str(len(found)), "x-total-pages": str(pages)}
        links = _links(call.url, page, per_page, pages)
        if links:
            headers["link"] = links
        return Answer(200, v1.InsightsSubscriptionList(subscriptions=shown, pagination=told), headers=headers)

    async def read(self, call: Call) -> Answer:
        return Answer(200, await self._insights.get(call.caller, call.path["subscriptionId"]))

    async def delete(self, call: Call) -> Answer:
        await self._insights.delete(call.caller, call.path["subscriptionId"])
        return Answer(204)


def _number(name: str, description: str, least: int, most: int, default: int) -> Query:
    schema: Mapping[str, object] = {"type": "integer", "minimum": least, "maximum": most, "default": default}
    return Query(name, description, schema)


def _asked(call: Call, name: str, default: int, most: int) -> int:
    """A number of the query. Raises InvalidArgument."""
    if not call.query_list(name):
        return default
    text = call.query(name)
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= most):
        raise InvalidArgument.of(name, f"expected 1 to {most}, found {text[:SHOWN_LENGTH]!r}")
    return int(text)


def _links(url: str, page: int, per_page: int, pages: int) -> str:
    """The ways to other pages (RFC 8288)."""
    if not pages:
        return ""
    there = {"first": 1, "prev": page - 1, "next": page + 1, "last": pages}
    return ", ".join(
        f'<{url}?{urlencode({"page": number, "perPage": per_page})}>; rel="{rel}"'
        for rel, number in there.items()
        if 1 <= number <= pages and (rel not in ("prev", "next") or 1 <= page <= pages)
    )
