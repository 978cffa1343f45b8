"""The CAMARA door geofencing-subscriptions 0.5.0: events of a device that enters or leaves an area, sent to a sink."""

from __future__ import annotations

from typing import Final

from nf.common.rest import Answer, Door, RestCall, Several
from nf.netapi.callers import Caller, Callers
from nf.netapi.camara_checks import checked
from nf.netapi.geofencing_subscriptions import DOOR, GeofencingSubscriptions
from nf.netapi.rest_camara import camara_door
from nf.netapi.v1.camara_geofencing_pb2 import GeofencingSubscription, GeofencingSubscriptionRequest

PREFIX: Final = f"/{DOOR}/v0.5"
SUBSCRIPTIONS: Final = "/subscriptions"
SUBSCRIPTION: Final = f"{SUBSCRIPTIONS}/{{subscriptionId}}"

Call = RestCall[Caller]

# What the platform's refusals are here.
_CODES: Final = {
    "OUT_OF_RANGE": (400, "INVALID_ARGUMENT"),
    "AMBIGUOUS_DEVICE": (422, "SERVICE_NOT_APPLICABLE"),
    "CALLBACK_HOST_NOT_ALLOWED": (400, "INVALID_SINK"),
    "AREA_NOT_COVERED": (422, "GEOFENCING_SUBSCRIPTIONS.AREA_NOT_COVERED"),
    "INVALID_AREA": (422, "GEOFENCING_SUBSCRIPTIONS.INVALID_AREA"),
}


def build_door(callers: Callers, subscriptions: GeofencingSubscriptions) -> Door[Caller]:
    """The door at ``PREFIX``."""
    door = camara_door(
        PREFIX,
        title="CAMARA: Device Geofencing Subscriptions",
        version="0.5.0",
        callers=callers,
        description="Events of a device that enters or leaves an area.",
        codes=_CODES,
    )
    handlers = _Subscriptions(subscriptions)
    door.operation(
        "POST",
        SUBSCRIPTIONS,
        handlers.create,
        operation_id="createGeofencingSubscription",
        summary="Creates a subscription",
        description="The access token has to be for the type of events that is asked for.",
        request=GeofencingSubscriptionRequest,
        answers={201: GeofencingSubscription},
        errors=(422, 429),
        conditional=False,
    )
    door.operation(
        "GET",
        SUBSCRIPTIONS,
        handlers.all,
        operation_id="retrieveGeofencingSubscriptionList",
        summary="Lists subscriptions",
        answers={200: Several(GeofencingSubscription)},
        conditional=False,
        scope=f"{DOOR}:read",
    )
    door.operation(
        "GET",
        SUBSCRIPTION,
        handlers.read,
        operation_id="retrieveGeofencingSubscription",
        summary="Reads a subscription",
        answers={200: GeofencingSubscription},
        errors=(404,),
        conditional=False,
        scope=f"{DOOR}:read",
    )
    door.operation(
        "DELETE",
        SUBSCRIPTION,
        handlers.delete,
        operation_id="deleteGeofencingSubscription",
        summary="Ends a subscription",
        answers={204: None},
        errors=(404,),
        conditional=False,
        scope=f"{DOOR}:delete",
    )
    return door


class _Subscriptions:
    def __init__(self, subscriptions: GeofencingSubscriptions) -> None:
        self._subscriptions = subscriptions

    async def create(self, call: Call) -> Answer:
        asked = checked(call.message(GeofencingSubscriptionRequest))
        made = await self._subscriptions.create(call.caller, asked)
        return Answer(201, made, location=f"{call.url}/{made.id}")

    async def all(self, call: Call) -> Answer:
        return Answer(200, await self._subscriptions.all(call.caller))

    async def read(self, call: Call) -> Answer:
        return Answer(200, await self._subscriptions.get(call.caller, call.path["subscriptionId"]))

    async def delete(self, call: Call) -> Answer:
        await self._subscriptions.delete(call.caller, call.path["subscriptionId"])
        return Answer(204)
