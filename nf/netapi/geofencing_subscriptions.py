"""CAMARA's geofencing subscriptions on the platform's geofences and sinks: one of each, under the same identifier."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from nf.common.codec import to_json
from nf.common.errors import InvalidArgument, NotFound
from nf.common.json_text import SHOWN_LENGTH
from nf.common.reader import Reader
from nf.common.resources import new_id
from nf.common.store import Store, Transaction
from nf.common.v1.events_pb2 import Event
from nf.netapi.attachments import device_key
from nf.netapi.callers import Caller
from nf.netapi.camara_areas import area_of, circle_of
from nf.netapi.camara_devices import Name, subject_names, view_of
from nf.netapi.camara_sinks import credential_of
from nf.netapi.camara_subscriptions import check_delivery, check_expiry, seen_by
from nf.netapi.cloud_events import Data
from nf.netapi.errors import MultipleEventTypes, Unprocessable
from nf.netapi.geofence_requests import EXPIRED, TOKEN_EXPIRED
from nf.netapi.geofences import (
    BOOKING_ENDED,
    DELETED,
    ENDED,
    ENTERED,
    LEFT,
    MAX_EVENTS_REACHED,
    SINK_ENDED,
    STARTED,
    Geofences,
    subject_of,
)
from nf.netapi.locating import known_name
from nf.netapi.sinks import TOKEN_LEAD, SinkCredential, SinkFollower, Sinks
from nf.netapi.v1.camara_geofencing_pb2 import (
    GeofencingSubscription,
    GeofencingSubscriptionRequest,
    KeptGeofencingSubscription,
)
from nf.netapi.v1.location_pb2 import Geofence, GeofenceCrossed, GeofenceEnded, GeofenceStarted
from nf.netapi.v1.monitoring_pb2 import EventSink

DOOR: Final = "geofencing-subscriptions"
_TYPES: Final = "org.camaraproject.geofencing-subscriptions.v0."
AREA_ENTERED: Final = f"{_TYPES}area-entered"
AREA_LEFT: Final = f"{_TYPES}area-left"
_SUBSCRIPTION_STARTED: Final = f"{_TYPES}subscription-started"
_SUBSCRIPTION_ENDED: Final = f"{_TYPES}subscription-ended"
# A geofence ends with its token so long before its sink does, which then has the last event already.
_BEFORE_SINK: Final = timedelta(seconds=2)
_REASONS: Final = {
    MAX_EVENTS_REACHED: "MAX_EVENTS_REACHED",
    EXPIRED: "SUBSCRIPTION_EXPIRED",
    DELETED: "SUBSCRIPTION_DELETED",
    TOKEN_EXPIRED: "ACCESS_TOKEN_EXPIRED",
    BOOKING_ENDED: "NETWORK_TERMINATED",
    SINK_ENDED: "NETWORK_TERMINATED",
}


def cloud_event(event: Event, _: EventSink) -> tuple[str, Data] | None:
    """Type and data of the CloudEvent that a subscription's sink is told; None: it is not told."""
    crossed, started, ended = GeofenceCrossed(), GeofenceStarted(), GeofenceEnded()
    if event.type in (ENTERED, LEFT) and event.payload.Unpack(crossed):
        return (AREA_ENTERED if event.type == ENTERED else AREA_LEFT), _data(crossed.geofence)
    if event.type == STARTED and event.payload.Unpack(started):
        return _SUBSCRIPTION_STARTED, {**_data(started.geofence), "initiationReason": "SUBSCRIPTION_CREATED"}
    if event.type == ENDED and event.payload.Unpack(ended):
        return _SUBSCRIPTION_ENDED, {**_data(ended.geofence), "terminationReason": _REASONS[ended.cause]}
    return None


def _data(geofence: Geofence) -> dict[str, object]:
    data: dict[str, object] = {"subscriptionId": geofence.geofence_id, "area": to_json(area_of(geofence.area))}
    if not geofence.device_of_token:
        data["device"] = to_json(view_of(geofence.device))
    return data


class GeofencingSubscriptions:
    """The subscriptions of all providers; ``least_radius_m``: of the areas that are served."""

    def __init__(self, store: Store, geofences: Geofences, sinks: Sinks, *, least_radius_m: float) -> None:
        self._store = store
        self._geofences = geofences
        self._sinks = sinks
        self._least_radius_m = least_radius_m
        geofences.end_followers.append(self._on_geofence_end)

    async def create(self, caller: Caller, asked: GeofencingSubscriptionRequest) -> GeofencingSubscription:
        """Makes a subscription, which begins at once.

        Raises InvalidArgument, InvalidSink, InvalidArea, AreaNotCovered, MultipleEventTypes, LocationNotBooked,
        TooManyGeofences, and what identifiers of devices are refused with.
        """
        event_type = _event_type(asked)
        caller.check_scope(f"{DOOR}:{event_type}:create")
        detail = asked.config.subscription_detail
        names = subject_names(caller.device, detail.device if detail.HasField("device") else None)
        area = circle_of(detail.area, "config.subscriptionDetail.area", self._least_radius_m)
        now = self._store.clock.now()
        credential = _credential(asked, now)
        wanted = Geofence(
            area=area,
            entered=event_type == AREA_ENTERED,
            left=event_type == AREA_LEFT,
            initial_event=asked.config.initial_event,
            max_events=asked.config.subscription_max_events,
            device_of_token=caller.device is not None,
        )
        if asked.config.HasField("subscription_expire_time"):
            check_expiry(asked.config.subscription_expire_time, now)
            wanted.expire_time.CopyFrom(asked.config.subscription_expire_time)
        if credential is not None and credential.expires is not None:
            wanted.token_expire_time.FromDatetime(_end_with_token(credential.expires, now))

        def work(transaction: Transaction) -> GeofencingSubscription:
            name = _served(transaction, names)
            wanted.device.CopyFrom(name.device)
            subscription_id = new_id()
            # It is told from its own beginning on.
            self._sinks.create_sink(
                transaction,
                caller.require_agreement(),
                asked.sink,
                credential=credential,
                event_types=(STARTED, ENTERED, LEFT, ENDED),
                subject=subject_of(subscription_id),
                door=DOOR,
                sink_id=subscription_id,
            )
            subscription = _subscription(subscription_id, asked, name, now)
            kept = KeptGeofencingSubscription(
                subscription=subscription, device_key=device_key(transaction, name.device)
            )
            transaction.insert(kept, subscription_id, parent=caller.agreement_id)
            self._geofences.create_in(transaction, caller, wanted, made_at=DOOR, geofence_id=subscription_id)
            return subscription

        made = await self._store.write(work)
        self._sinks.wake()
        return made

    async def get(self, caller: Caller, subscription_id: str) -> GeofencingSubscription:
        """A subscription of the caller. Raises NotFound."""
        kept = await self._store.read(lambda reader: _require(reader, caller, subscription_id))
        return kept.subscription

    async def all(self, caller: Caller) -> list[GeofencingSubscription]:
        """The caller's subscriptions, in the order of their creation."""

        def look(reader: Reader) -> list[GeofencingSubscription]:
            is_seen = seen_by(reader, caller)
            return [
                kept.subscription
                for kept in reader.all(KeptGeofencingSubscription, parent=caller.agreement_id)
                if is_seen(kept.device_key)
            ]

        return await self._store.read(look)

    async def delete(self, caller: Caller, subscription_id: str) -> None:
        """Ends a subscription. Raises NotFound."""

        def work(transaction: Transaction) -> None:
            _require(transaction, caller, subscription_id)
            self._geofences.end(transaction, transaction.require(Geofence, subscription_id), DELETED)

        await self._store.write(work)
        self._sinks.wake()

    def _on_geofence_end(self, transaction: Transaction, geofence: Geofence) -> None:
        if geofence.made_at == DOOR:
            transaction.delete(KeptGeofencingSubscription, geofence.geofence_id)
            self._sinks.end_sink(transaction, geofence.geofence_id)


def end_with_sink(geofences: Geofences) -> SinkFollower:
    """What ends the geofence of a subscription when its sink has come to an end."""

    def follow(transaction: Transaction, sink: EventSink) -> None:
        geofence = transaction.get(Geofence, sink.sink_id) if sink.door == DOOR else None
        if geofence is not None:
            geofences.end(transaction, geofence, SINK_ENDED)

    return follow


def _event_type(asked: GeofencingSubscriptionRequest) -> str:
    """The one type of events that is wanted. Raises InvalidArgument and MultipleEventTypes."""
    settings = asked.protocol_settings
    check_delivery(asked.protocol, settings.method if settings.HasField("method") else None)
    if not asked.types:
        raise InvalidArgument.of("types", "expected one type of events, found none")
    for index, each in enumerate(asked.types):
        if each not in (AREA_ENTERED, AREA_LEFT):
            found = repr(each[:SHOWN_LENGTH])
            raise InvalidArgument.of(f"types[{index}]", f"expected {AREA_ENTERED} or {AREA_LEFT}, found {found}")
    if len(asked.types) > 1:
        raise MultipleEventTypes(f"types: expected one, found {len(asked.types)}")
    return asked.types[0]


def _credential(asked: GeofencingSubscriptionRequest, now: datetime) -> SinkCredential | None:
    if not asked.HasField("sink_credential"):
        return None
    if asked.sink_credential.credential_type != "ACCESSTOKEN":
        found = repr(asked.sink_credential.credential_type[:SHOWN_LENGTH])
        raise InvalidArgument(
            f"sinkCredential.credentialType: expected ACCESSTOKEN, found {found}", reason="INVALID_CREDENTIAL"
        )
    return credential_of(asked.sink_credential, now)


def _end_with_token(expires: datetime, now: datetime) -> datetime:
    """When a geofence ends because its sink's token does: a moment before the sink."""
    of_sink = expires - min(TOKEN_LEAD, (expires - now) / 10)
    return max(now, of_sink - min(_BEFORE_SINK, (of_sink - now) / 10))


def _served(reader: Reader, names: list[Name]) -> Name:
    """The name by which the device is known. Raises Unprocessable where none of them is."""
    found = known_name(reader, names)
    if found is None:
        raise Unprocessable("device: the network knows none by the given identifiers")
    return found


def _subscription(
    subscription_id: str, asked: GeofencingSubscriptionRequest, name: Name, now: datetime
) -> GeofencingSubscription:
    made = GeofencingSubscription(
        protocol=asked.protocol, sink=asked.sink, types=asked.types, id=subscription_id, status="ACTIVE"
    )
    if asked.HasField("protocol_settings"):
        made.protocol_settings.CopyFrom(asked.protocol_settings)
    made.config.CopyFrom(asked.config)
    made.config.subscription_detail.ClearField("device")
    if name.view is not None:
        made.config.subscription_detail.device.CopyFrom(name.view)
    made.starts_at.FromDatetime(now)
    if asked.config.HasField("subscription_expire_time"):
        made.expires_at.CopyFrom(asked.config.subscription_expire_time)
    return made


def _require(reader: Reader, caller: Caller, subscription_id: str) -> KeptGeofencingSubscription:
    kept = reader.get(KeptGeofencingSubscription, subscription_id)
    geofence = reader.get(Geofence, subscription_id)
    if (
        kept is None
        or geofence is None
        or not caller.may_see(geofence.agreement_id)
        or not seen_by(reader, caller)(kept.device_key)
    ):
        raise NotFound(f"subscription {subscription_id[:SHOWN_LENGTH]!r} does not exist")
    return kept
