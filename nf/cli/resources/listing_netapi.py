"""Resources of the network API platform."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

from google.protobuf.message import Message

from nf.cli.resources.reading import Filters, Reading, columns
from nf.client.netapi import Platform
from nf.client.netapi_use import NetworkAccess
from nf.common.channels import Channels
from nf.common.errors import NotFound
from nf.netapi.v1 import access_pb2 as access
from nf.netapi.v1 import booking_pb2 as booking
from nf.netapi.v1 import monitoring_pb2 as monitoring


def _platform(channels: Channels) -> Platform:
    return Platform(channels.get("netapi"))


def _use(channels: Channels) -> NetworkAccess:
    return NetworkAccess(channels.get("netapi"))


async def _network_access_ids(channels: Channels, filters: Filters) -> AsyncIterator[booking.NetworkAccessId]:
    platform, wanted = _platform(channels), filters.get("booking")
    if wanted is not None:
        for each in (await platform.booking(wanted)).network_access_ids:
            yield each
        return
    async for found in platform.bookings():
        for each in found.network_access_ids:
            yield each


async def _network_access_id(channels: Channels, name: str) -> booking.NetworkAccessId:
    return (await _use(channels).resolve(name)).network_access_id


async def _accesses(channels: Channels, filters: Filters) -> AsyncIterator[access.DeviceAccess]:
    use, wanted = _use(channels), filters.get("booking")
    if wanted is not None:
        async for each in use.accesses(wanted):
            yield each
        return
    async for found in _platform(channels).bookings():
        async for each in use.accesses(found.booking_id):
            yield each


async def _usage_records(channels: Channels, filters: Filters) -> AsyncIterator[monitoring.UsageRecord]:
    platform, wanted = _platform(channels), filters.get("booking")
    names = [wanted] if wanted is not None else [each.booking_id async for each in platform.bookings()]
    for name in names:
        for each in await platform.usage_records(name):
            yield each


def _found(
    items: Callable[[Channels, Filters], AsyncIterator[Message]], field: str
) -> Callable[[Channels, str], Awaitable[Message]]:
    """The one of that name, where the platform has no call that reads one."""

    async def one(channels: Channels, name: str) -> Message:
        async for each in items(channels, {}):
            if getattr(each, field) == name:
                return each
        raise NotFound(f"{field} {name!r} does not exist")

    return one


def _thresholds(channels: Channels, _: Filters) -> AsyncIterator[monitoring.Threshold]:
    return _platform(channels).thresholds()


NETAPI_READINGS: Final[Mapping[str, Reading]] = {
    "agreements": Reading(
        lambda channels, _: _platform(channels).agreements(),
        lambda channels, name: _platform(channels).agreement(name),
        columns(
            id="agreement_id", provider="provider_name", areas="area_ids", profiles="profile_ids",
            bookings="limits.bookings", devices="limits.devices", percent="price_percent", suspended="suspended",
            created="create_time",
        ),
    ),
    "service-areas": Reading(
        lambda channels, _: _platform(channels).areas(),
        lambda channels, name: _platform(channels).area(name),
        columns(
            id="area_id", name="name", everywhere="everywhere", cells="cells", downlink="capacity.downlink_bps",
            uplink="capacity.uplink_bps", devices="capacity.devices",
        ),
    ),
    "capability-profiles": Reading(
        lambda channels, _: _platform(channels).profiles(),
        lambda channels, name: _platform(channels).profile(name),
        columns(
            id="profile_id", capability="capability", **{"5QI": "qos.five_qi"},
            guaranteed_down="qos.guaranteed_downlink_bps", max_down="qos.max_downlink_bps",
            guaranteed_up="qos.guaranteed_uplink_bps", max_up="qos.max_uplink_bps",
            delay_ms="qos.packet_delay_budget_ms", DNN="dnn", slice="s_nssai", price="price_units_per_device_hour",
        ),
    ),
    "bookings": Reading(
        lambda channels, _: _platform(channels).bookings(),
        lambda channels, name: _platform(channels).booking(name),
        columns(
            id="booking_id", agreement="agreement_id", state="state", application="request.population.application_id",
            devices="request.population.devices", begins="current_period.start_time", ends="current_period.stop_time",
            IDs="network_access_ids", price="accepted_offer.total_price_units", problem="problem.detail",
        ),
    ),
    "network-access-ids": Reading(
        _network_access_ids,
        _network_access_id,
        columns(
            id="network_access_id", booking="booking_id", area="area_id", capability="capability",
            profile="profile_id", active="active", devices="devices", guaranteed_down="qos.guaranteed_downlink_bps",
            max_down="qos.max_downlink_bps",
        ),
    ),
    "device-accesses": Reading(
        _accesses,
        lambda channels, name: _use(channels).access(name),
        columns(
            id="access_id", network_access_id="network_access_id", phone="device.phone_number", SUPI="device.supi",
            IPv4="device.ipv4_address", IPv6="device.ipv6_address", state="state", reason="reason",
            inside="inside_area", max_down="max_downlink_bps", max_up="max_uplink_bps",
        ),
    ),
    "geofences": Reading(
        lambda channels, _: _use(channels).geofences(),
        lambda channels, name: _use(channels).geofence(name),
        columns(
            id="geofence_id", network_access_id="network_access_id", phone="device.phone_number",
            entered="entered", left="left", told="told_events", expires="expire_time",
        ),
    ),
    "thresholds": Reading(
        _thresholds,
        _found(_thresholds, "threshold_id"),
        columns(
            id="threshold_id", network_access_id="network_access_id", metric="metric", above="above", below="below",
            for_ms="for_ms", crossed="crossed",
        ),
    ),
    "event-sinks": Reading(
        lambda channels, _: _platform(channels).sinks(),
        lambda channels, name: _platform(channels).sink(name),
        columns(
            id="sink_id", url="url", types="event_types", subject="subject", door="door", expires="expire_time",
            ending="end",
        ),
    ),
    "usage-records": Reading(
        _usage_records,
        _found(_usage_records, "network_access_id"),
        columns(
            network_access_id="network_access_id", booking="booking_id", area="area_id", profile="profile_id",
            devices="devices", peak="peak_devices", used_ms="used_ms",
            down_bytes="usage.downlink.conforming.bytes", dropped="usage.downlink.dropped.bytes", final="final",
        ),
    ),
}  # fmt: skip
