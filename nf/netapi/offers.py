"""Offers: what can be had of a request, where and when, and for how much (5G-MAG workflow B.2).

Where an area is too full for all the devices that were asked for, as many as fit are offered. What a reconfiguration
asks for is looked for beside the other bookings; what the booking has already it may keep in any case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from nf.common.clock import to_ns
from nf.common.errors import InvalidArgument
from nf.common.reader import MAX_INTEGER
from nf.common.store import Reader
from nf.netapi import capacity
from nf.netapi.calendar import NOTHING, Capacity, Load, Reservation, Room, Timeline, beyond, room
from nf.netapi.capacity import Part
from nf.netapi.periods import Window
from nf.netapi.v1.booking_pb2 import BookingRequest, Offer, OfferLine
from nf.netapi.v1.coverage_pb2 import AreaCapacity, CapabilityProfile, ServiceArea

# Of one line, so that all of them together can be counted.
_MOST_BPS: Final = 10**15
_HOUR_NS: Final = 3600 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What an offer is made by: the agreement's percentage of the list prices, and how long the offer stands."""

    price_percent: int
    validity: timedelta


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request with all that it names, the windows of its periods in order."""

    request: BookingRequest
    windows: Sequence[Window]
    areas: Mapping[str, ServiceArea]
    profiles: Mapping[str, CapabilityProfile]


def draw_up(
    reader: Reader, wanted: Wanted, terms: Terms, now: datetime, *, revision: int = 1, booking_id: str = ""
) -> Offer:
    """What can be had. ``booking_id``: of the booking that is to be reconfigured.

    Raises InvalidArgument for more than can be counted.
    """
    request, windows = wanted.request, wanted.windows
    offer = Offer(revision=revision, capability_profiles=wanted.profiles.values())
    # The same for every capability: when each window is, from now on and as the offer's lines say it.
    spans = [(to_ns(max(each.start, now)), to_ns(each.stop)) for each in windows]
    times = [_times_of(each) for each in windows]
    own = _by_area(capacity.booked(reader, booking_id)) if booking_id else {}
    boards: dict[str, _Board] = {}
    for index, each in enumerate(request.area_capabilities):
        board = boards.get(each.area_id)
        if board is None:
            others = capacity.taken(reader, each.area_id, spans[0][0], spans[-1][1], beside=booking_id)
            board = _Board(wanted.areas[each.area_id].capacity, others, own.get(each.area_id, ()), spans)
            boards[each.area_id] = board
        profile, devices = wanted.profiles[each.profile_id], each.devices or request.population.devices
        share = load_of(profile)
        needed_bps = max(share.downlink_bps, share.uplink_bps) * devices
        if needed_bps > _MOST_BPS:
            why = f"expected at most {_MOST_BPS} bps for all devices together, found {needed_bps}"
            raise InvalidArgument.of(f"area_capabilities[{index}]", why)
        for number, (start_ns, stop_ns) in enumerate(spans):
            found = board.take(number, share, devices)
            price = price_of(profile, found.devices, stop_ns - start_ns, terms.price_percent)
            if offer.total_price_units + price > MAX_INTEGER:
                why = f"expected a price of less than 2^63 units in all, found {price} in one area and period"
                raise InvalidArgument.of(f"area_capabilities[{index}]", why)
            offer.total_price_units += price
            line = offer.lines.add(
                area_id=each.area_id,
                profile_id=each.profile_id,
                requested_devices=devices,
                offered_devices=found.devices,
                limited_by="" if found.limited_by is None else found.limited_by.value,
                price_units=price,
            )
            line.MergeFrom(times[number])
            offer.counter_offer = offer.counter_offer or found.limited_by is not None
    offer.valid_until.FromDatetime(min(now + terms.validity, windows[-1].stop))
    return offer


def is_empty(offer: Offer) -> bool:
    """Whether nothing is offered."""
    return not any(line.offered_devices for line in offer.lines)


def window_at(offer: Offer, moment: datetime) -> OfferLine | None:
    """A line of the window that ``moment`` is in, or of the next one; None: all are over."""
    moment_ns = to_ns(moment)
    # The lines of one capability have all windows, in order.
    return next((line for line in offer.lines if line.stop_time.ToNanoseconds() > moment_ns), None)


def parts_of(offer: Offer, now: datetime) -> list[Part]:
    """What the offer takes of the areas from ``now`` on."""
    now_ns = to_ns(now)
    shares = {profile.profile_id: load_of(profile) for profile in offer.capability_profiles}
    parts = []
    for line in offer.lines:
        start_ns, stop_ns = max(line.start_time.ToNanoseconds(), now_ns), line.stop_time.ToNanoseconds()
        if line.offered_devices and start_ns < stop_ns:
            load = shares[line.profile_id] * line.offered_devices
            parts.append(Part(line.area_id, line.profile_id, Reservation(start_ns, stop_ns, load)))
    return parts


def parts_beyond(parts: Sequence[Part], had: Sequence[Part]) -> list[Part]:
    """What has to be held so that ``parts`` can be booked in place of what the booking has had."""
    wanted, own = _by_area(parts), _by_area(had)
    return [
        Part(area_id, "", each)
        for area_id, reservations in wanted.items()
        for each in beyond(reservations, own.get(area_id, ()))
    ]


def price_of(profile: CapabilityProfile, devices: int, duration_ns: int, percent: int) -> int:
    """Price units for so many devices for so long, each step rounded up."""
    listed = -(-profile.price_units_per_device_hour * devices * duration_ns // _HOUR_NS)
    return -(-listed * percent // 100)


def load_of(profile: CapabilityProfile) -> Load:
    """What one device takes of an area."""
    return Load(profile.qos.guaranteed_downlink_bps, profile.qos.guaranteed_uplink_bps, 1)


class _Board:
    """An area while an offer is drawn up: what of it is taken in each window."""

    def __init__(
        self,
        bounds: AreaCapacity,
        others: Timeline,
        own: Sequence[Reservation],
        spans: Sequence[tuple[int, int]],
    ) -> None:
        self._capacity = Capacity(
            bounds.downlink_bps if bounds.HasField("downlink_bps") else None,
            bounds.uplink_bps if bounds.HasField("uplink_bps") else None,
            bounds.devices if bounds.HasField("devices") else None,
        )
        self._taken = [others.most(*span) for span in spans]
        had = Timeline.of(own)
        self._own = [had.least(*span) for span in spans] if own else [NOTHING] * len(spans)

    def take(self, number: int, share: Load, devices: int) -> Room:
        """How many of these devices fit into that window beside the others and what was taken of it before."""
        found = room(self._capacity, self._taken[number], share, devices, self._own[number])
        load = share * found.devices
        self._taken[number] += load
        self._own[number] -= load
        return found


def _times_of(window: Window) -> OfferLine:
    """A line that says when the window is, and nothing else."""
    line = OfferLine()
    line.start_time.FromDatetime(window.start)
    line.stop_time.FromDatetime(window.stop)
    return line


def _by_area(parts: Sequence[Part]) -> dict[str, list[Reservation]]:
    found: dict[str, list[Reservation]] = {}
    for part in parts:
        found.setdefault(part.area_id, []).append(part.reservation)
    return found
