"""CAMARA's subscriptions to the quality of a device's connection, on what is measured of its accesses, and on sinks."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from nf.common.clock import to_ns
from nf.common.codec import to_json
from nf.common.due import DueDriver
from nf.common.errors import FieldViolation, InvalidArgument, NotFound
from nf.common.json_text import SHOWN_LENGTH
from nf.common.resources import copy_of, new_id
from nf.common.store import Reader, Store, Transaction
from nf.common.v1.events_pb2 import Event
from nf.netapi import agreements, metering
from nf.netapi.access_transitions import BY_DEVICE
from nf.netapi.attachments import attached_ues, device_key, resolve
from nf.netapi.callers import Caller, audience_of
from nf.netapi.camara_checks import uuid_hex
from nf.netapi.camara_devices import Name, subject_names
from nf.netapi.camara_sinks import credential_of
from nf.netapi.camara_subscriptions import check_delivery, check_expiry, seen_by
from nf.netapi.cloud_events import Data
from nf.netapi.config import NetapiSection
from nf.netapi.errors import IdentifierNotFound
from nf.netapi.named_uuids import PROFILE, uuid_of
from nf.netapi.network_quality import Provided, assess, concerns, networks_of, port_ranges
from nf.netapi.sinks import Sinks
from nf.netapi.usage import is_settled, measure
from nf.netapi.v1 import camara_insights_pb2 as v1
from nf.netapi.v1 import monitoring_pb2 as monitoring
from nf.netapi.v1.access_pb2 import AccessInstallation, Device, DeviceAccess
from nf.netapi.v1.booking_pb2 import Booking
from nf.netapi.v1.coverage_pb2 import CAPABILITY_QUALITY_ON_DEMAND, CapabilityProfile
from nf.netapi.v1.metering_pb2 import SessionUsage

DOOR: Final = "connectivity-insights-subscriptions"
_TYPES: Final = f"org.camaraproject.{DOOR}.v0."
NETWORK_QUALITY: Final = f"{_TYPES}network-quality"
_EVENT: Final = "NETWORK_QUALITY"
_SOURCE: Final = "netapi"
# By which the store finds what is subscribed of a device.
_OF_DEVICE: Final = "device"
_REASONS: Final = {
    monitoring.EVENT_SINK_END_DELETED: "SUBSCRIPTION_DELETED",
    monitoring.EVENT_SINK_END_EXPIRED: "SUBSCRIPTION_EXPIRED",
    monitoring.EVENT_SINK_END_ACCESS_TOKEN_EXPIRED: "ACCESS_TOKEN_EXPIRED",
    monitoring.EVENT_SINK_END_MAX_EVENTS: "MAX_EVENTS_REACHED",
}
_DETAIL: Final = "config.subscriptionDetail"


def cloud_event(event: Event, sink: monitoring.EventSink) -> tuple[str, Data] | None:
    """Type and data of the CloudEvent that a subscription's sink is told; None: it is not told."""
    changed, about = v1.NetworkQualityChanged(), monitoring.EventSinkChanged()
    if event.payload.Unpack(changed):
        return NETWORK_QUALITY, to_json(changed.insight)
    if not event.payload.Unpack(about):
        return None
    data = {"subscriptionId": sink.sink_id}
    if event.type == "EVENT_SINK_STARTED":
        return f"{_TYPES}subscription-started", {**data, "initiationReason": "SUBSCRIPTION_CREATED"}
    reason = _REASONS.get(about.event_sink.end, "NETWORK_TERMINATED")
    return f"{_TYPES}subscription-ended", {**data, "terminationReason": reason}


def on_sink_end(transaction: Transaction, sink: monitoring.EventSink) -> None:
    """A subscription is no more when its sink has come to an end."""
    if sink.door == DOOR:
        transaction.delete(v1.KeptInsightsSubscription, sink.sink_id)


class Insights:
    """The subscriptions of all providers; ``start`` and ``stop`` its timer."""

    def __init__(self, store: Store, sinks: Sinks, config: NetapiSection) -> None:
        self._store = store
        self._sinks = sinks
        self._window = metering.window_of(config)
        self._period = timedelta(seconds=config.threshold_period_s)
        self._timer = DueDriver(store, v1.KeptInsightsSubscription, self._due)

    async def start(self) -> None:
        """Begins to look at what time brings."""
        await self._timer.start()

    async def stop(self) -> None:
        """Ends; what is due is looked at after the next start."""
        await self._timer.stop()

    async def create(self, caller: Caller, asked: v1.InsightsSubscriptionRequest) -> v1.InsightsSubscription:
        """Makes a subscription, which begins at once.

        Raises InvalidArgument, InvalidSink, NotFound, and what identifiers of devices are refused with.
        """
        _check(asked)
        caller.check_scope(f"{DOOR}:{NETWORK_QUALITY}:create")
        detail = asked.config.subscription_detail
        names = subject_names(caller.device, detail.device if detail.HasField("device") else None)
        now = self._store.clock.now()
        credential = credential_of(asked.sink_credential if asked.HasField("sink_credential") else None, now)
        config = asked.config
        has_end = config.HasField("subscription_expire_time")
        expires = check_expiry(config.subscription_expire_time, now) if has_end else None

        def work(transaction: Transaction) -> v1.InsightsSubscription:
            agreement_id = caller.require_agreement()
            profile_id = _profile_of(transaction, agreement_id, detail.application_profile_id)
            name = _known(transaction, names)
            kept = v1.KeptInsightsSubscription(
                agreement_id=agreement_id, device_key=device_key(transaction, name.device), profile_id=profile_id
            )
            subscription_id = new_id()
            kept.subscription.CopyFrom(_subscription(subscription_id, asked, name, now))
            self._sinks.create_sink(
                transaction,
                agreement_id,
                asked.sink,
                credential=credential,
                headers=dict(asked.protocol_settings.headers),
                event_types=(_EVENT,),
                subject=f"insights/{subscription_id}",
                expires=expires,
                max_events=asked.config.subscription_max_events,
                door=DOOR,
                sink_id=subscription_id,
                announced=True,
            )
            self._look(transaction, kept, now, told=asked.config.initial_event)
            return kept.subscription

        made = await self._store.write(work)
        self._sinks.wake()
        return made

    async def get(self, caller: Caller, subscription_id: str) -> v1.InsightsSubscription:
        """A subscription of the caller. Raises NotFound."""
        kept = await self._store.read(lambda reader: _require(reader, caller, subscription_id))
        return _shown(caller, kept)

    async def all(self, caller: Caller) -> list[v1.InsightsSubscription]:
        """The caller's subscriptions, in the order of their creation."""

        def look(reader: Reader) -> list[v1.InsightsSubscription]:
            is_seen = seen_by(reader, caller)
            kept = reader.all(v1.KeptInsightsSubscription, parent=caller.agreement_id)
            return [_shown(caller, each) for each in kept if is_seen(each.device_key)]

        return await self._store.read(look)

    async def delete(self, caller: Caller, subscription_id: str) -> None:
        """Ends a subscription. Raises NotFound."""

        def work(transaction: Transaction) -> None:
            _require(transaction, caller, subscription_id)
            self._sinks.end_sink(transaction, subscription_id)

        await self._store.write(work)
        self._sinks.wake()

    def on_measure(self, transaction: Transaction, access: DeviceAccess) -> None:
        """What an access provides, or what is measured of it, has changed."""
        installed = transaction.get(AccessInstallation, access.access_id)
        if installed is None:
            return
        now = transaction.clock.now()
        for kept in transaction.find(v1.KeptInsightsSubscription, _OF_DEVICE, installed.device_key):
            if kept.agreement_id == access.agreement_id:
                self._look(transaction, kept, now, told=True)

    def _look(self, transaction: Transaction, kept: v1.KeptInsightsSubscription, now: datetime, *, told: bool) -> None:
        """Tells what the network can do if that has changed since it was told, and keeps it."""
        profile = transaction.get(CapabilityProfile, kept.profile_id)
        name, due = kept.subscription.id, None
        if profile is not None:
            provided, is_moving = self._provided(transaction, kept, now)
            found = assess(profile.qos, provided)
            found.application_profile_id = kept.subscription.config.subscription_detail.application_profile_id
            if attached_ues(transaction, kept.device_key):
                found.additional_kpis.connectivity_type = v1.CONNECTIVITY_TYPE_5G_SA
            if told and not _says_the_same(found, kept.told):
                transaction.emit(
                    _EVENT,
                    f"insights/{name}",
                    v1.NetworkQualityChanged(subscription_id=name, insight=found),
                    source=_SOURCE,
                    audience=(audience_of(kept.agreement_id),),
                )
            kept.told.CopyFrom(found)
            due = now + self._period if is_moving else None
        lookups = {_OF_DEVICE: kept.device_key}
        transaction.put(kept, name, parent=kept.agreement_id, lookups=lookups, due=due)

    def _provided(
        self, reader: Reader, kept: v1.KeptInsightsSubscription, now: datetime
    ) -> tuple[list[Provided], bool]:
        """What the device has of each access that is in use, and whether time alone may change what is measured."""
        detail = kept.subscription.config.subscription_detail
        servers, ports = networks_of(detail.application_server), port_ranges(detail.application_server_ports)
        provided, is_moving = [], False
        for access in reader.find(DeviceAccess, BY_DEVICE, kept.device_key):
            if access.agreement_id != kept.agreement_id or access.state != DeviceAccess.STATE_IN_USE:
                continue
            booking = reader.get(Booking, access.booking_id)
            if booking is None or not concerns(booking.request.traffic, servers, ports):
                continue
            series = metering.series_of(reader.get(SessionUsage, access.app_session_id) or SessionUsage())
            measured = measure(series, to_ns(now), self._window)
            is_moving = is_moving or not is_settled(series, to_ns(now), self._window)
            rates = access.guaranteed_downlink_bps, access.guaranteed_uplink_bps
            provided.append(Provided(*rates, measured))
        return provided, is_moving

    async def _due(self, name: str, _: v1.KeptInsightsSubscription) -> None:
        def work(transaction: Transaction) -> None:
            kept = transaction.get(v1.KeptInsightsSubscription, name)
            if kept is not None:
                self._look(transaction, kept, transaction.clock.now(), told=True)

        await self._store.write(work)


def _says_the_same(one: v1.NetworkQualityInsight, other: v1.NetworkQualityInsight) -> bool:
    """Whether two insights say the same of every demand."""
    plain = [copy_of(each) for each in (one, other)]
    for each in plain:
        each.ClearField("additional_kpis")
        each.ClearField("application_profile_id")
    return plain[0] == plain[1]


def _check(asked: v1.InsightsSubscriptionRequest) -> None:
    """Raises InvalidArgument for what the contract's options do not say."""
    settings, detail = asked.protocol_settings, asked.config.subscription_detail
    check_delivery(asked.protocol, settings.method if settings.HasField("method") else None)
    violations = []
    if not asked.types:
        violations.append(FieldViolation("types", f"expected {NETWORK_QUALITY}, found nothing"))
    for index, each in enumerate(asked.types):
        if each != NETWORK_QUALITY:
            found = repr(each[:SHOWN_LENGTH])
            violations.append(FieldViolation(f"types[{index}]", f"expected {NETWORK_QUALITY}, found {found}"))
    server, where = detail.application_server, f"{_DETAIL}.applicationServer"
    if not server.ipv4_address and not server.ipv6_address:
        violations.append(FieldViolation(where, "expected ipv4Address or ipv6Address, found neither"))
    else:
        try:
            networks_of(server)
        except ValueError as error:
            violations.append(FieldViolation(where, f"expected addresses or prefixes: {error}"))
    if detail.HasField("application_server_ports"):
        ports, where = detail.application_server_ports, f"{_DETAIL}.applicationServerPorts"
        if not ports.ranges and not ports.ports:
            violations.append(FieldViolation(where, "expected ranges or ports, found neither"))
        violations += [
            FieldViolation(f"{where}.ranges[{index}]", f"expected to {each.first} or more, found {each.last}")
            for index, each in enumerate(ports.ranges)
            if each.last < each.first
        ]
    if violations:
        raise InvalidArgument.of_all(violations)
    uuid_hex(f"{_DETAIL}.applicationProfileId", detail.application_profile_id)


def _profile_of(reader: Reader, agreement_id: str, profile_uuid: str) -> str:
    """The capability profile of that UUID that the agreement has. Raises NotFound."""
    allowed = agreements.require(reader, agreement_id).profile_ids
    for each in reader.all(CapabilityProfile):
        if each.capability != CAPABILITY_QUALITY_ON_DEMAND or (allowed and each.profile_id not in allowed):
            continue
        if uuid_of(PROFILE, each.profile_id) == profile_uuid.lower():
            return each.profile_id
    raise NotFound(f"{_DETAIL}.applicationProfileId: there is no application profile {profile_uuid!r}")


def _known(reader: Reader, names: list[Name]) -> Name:
    """The first name by which the network knows the device. Raises IdentifierNotFound."""
    for name in names:
        if resolve(reader, name.device) is not None or _has_access(reader, name.device):
            return name
    raise IdentifierNotFound(f"{_DETAIL}.device: the network knows none by the given identifiers")


def _has_access(reader: Reader, device: Device) -> bool:
    return bool(reader.find(DeviceAccess, BY_DEVICE, device_key(reader, device)))


def _subscription(
    subscription_id: str, asked: v1.InsightsSubscriptionRequest, name: Name, now: datetime
) -> v1.InsightsSubscription:
    made = v1.InsightsSubscription(
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


def _shown(caller: Caller, kept: v1.KeptInsightsSubscription) -> v1.InsightsSubscription:
    """The subscription as a caller may see it: a device's user is not told how others name the device."""
    shown = copy_of(kept.subscription)
    if caller.device is not None:
        shown.config.subscription_detail.ClearField("device")
    return shown


def _require(reader: Reader, caller: Caller, subscription_id: str) -> v1.KeptInsightsSubscription:
    kept = reader.get(v1.KeptInsightsSubscription, subscription_id)
    if kept is None or not caller.may_see(kept.agreement_id) or not seen_by(reader, caller)(kept.device_key):
        raise NotFound(f"subscription {subscription_id[:SHOWN_LENGTH]!r} does not exist")
    return kept
