"""Network access IDs: what devices use a capability in an area by (5G-MAG live media distribution workflow, B.4).

A booking has one for each area and capability. It stays through every reconfiguration: where its capability is not
booked any more it is out of force, and the same again when it comes back.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from nf.common.resources import copy_of
from nf.common.store import Reader, Transaction
from nf.netapi.v1.booking_pb2 import Booking, NetworkAccessId, Offer
from nf.netapi.v1.coverage_pb2 import CapabilityProfile

# Who does not know an ID does not find it.
_BYTES: Final = 16
# An area and a capability profile.
_Place: TypeAlias = tuple[str, str]


def require(reader: Reader, network_access_id: str) -> NetworkAccessId:
    """What an ID stands for. Raises NotFound."""
    return reader.require(NetworkAccessId, network_access_id)


def of_booking(reader: Reader, booking_id: str) -> list[NetworkAccessId]:
    """The IDs of a booking in the order of their issue, those out of force too."""
    return reader.all(NetworkAccessId, parent=booking_id)


def issue(transaction: Transaction, booking: Booking) -> None:
    """Makes the IDs of a booking those of its accepted offer, in the booking as well.

    An ID stays where its profile is booked in its area. One whose profile has gone stands for another profile of its
    capability there that has none yet; otherwise it is out of force.
    """
    known = of_booking(transaction, booking.booking_id)
    profiles = {each.profile_id: each for each in booking.accepted_offer.capability_profiles}
    places = list(_devices(booking.accepted_offer, booking))
    kept = {(each.area_id, each.profile_id): each for each in known if (each.area_id, each.profile_id) in places}
    free = [each for each in known if (each.area_id, each.profile_id) not in kept]
    after: dict[str, NetworkAccessId] = {each.network_access_id: each for each in known}
    for place in places:
        area_id, profile = place[0], profiles[place[1]]
        found = kept.get(place) or _successor(free, area_id, profile)
        name = secrets.token_hex(_BYTES) if found is None else found.network_access_id
        after[name] = _standing_for(profile, name, booking.booking_id, area_id)
    for each in free:
        after[each.network_access_id] = copy_of(each)
        after[each.network_access_id].active = False
    _keep(transaction, booking, known, _counted(booking, list(after.values())))


def recount(transaction: Transaction, booking: Booking) -> None:
    """The devices of each ID become those of the period that the booking is in, or of the next one."""
    known = list(booking.network_access_ids)
    _keep(transaction, booking, known, _counted(booking, known))


def end(transaction: Transaction, booking: Booking) -> None:
    """Puts all IDs of a booking out of force, in the booking as well."""
    known = list(booking.network_access_ids)
    ended = [copy_of(each) for each in known]
    for each in ended:
        each.active = False
    _keep(transaction, booking, known, ended)


def _devices(offer: Offer, booking: Booking) -> Mapping[_Place, int]:
    """How many devices have each capability in the booking's present or next period."""
    found: dict[_Place, int] = {}
    for line in offer.lines:
        place = (line.area_id, line.profile_id)
        found.setdefault(place, 0)
        if line.start_time == booking.current_period.start_time:
            found[place] = line.offered_devices
    return found


def _successor(free: list[NetworkAccessId], area_id: str, profile: CapabilityProfile) -> NetworkAccessId | None:
    """Takes one that stood for the same capability in the same area, one in force before others."""
    fitting = [each for each in free if each.area_id == area_id and each.capability == profile.capability]
    if not fitting:
        return None
    chosen = next((each for each in fitting if each.active), fitting[0])
    free.remove(chosen)
    return chosen


def _standing_for(profile: CapabilityProfile, name: str, booking_id: str, area_id: str) -> NetworkAccessId:
    made = NetworkAccessId(
        network_access_id=name,
        booking_id=booking_id,
        area_id=area_id,
        profile_id=profile.profile_id,
        active=True,
        capability=profile.capability,
        dnn=profile.dnn,
    )
    if profile.HasField("s_nssai"):
        made.s_nssai.CopyFrom(profile.s_nssai)
    if profile.HasField("qos"):
        made.qos.CopyFrom(profile.qos)
    if profile.HasField("geofencing"):
        made.geofencing.CopyFrom(profile.geofencing)
    return made


def _counted(booking: Booking, ids: Sequence[NetworkAccessId]) -> list[NetworkAccessId]:
    devices = _devices(booking.accepted_offer, booking)
    counted = [copy_of(each) for each in ids]
    for each in counted:
        each.devices = devices.get((each.area_id, each.profile_id), 0) if each.active else 0
    return counted


def _keep(
    transaction: Transaction, booking: Booking, before: Sequence[NetworkAccessId], after: Sequence[NetworkAccessId]
) -> None:
    known = {each.network_access_id: each for each in before}
    for each in after:
        if each.network_access_id not in known:
            transaction.insert(each, each.network_access_id, parent=booking.booking_id)
        elif each != known[each.network_access_id]:
            transaction.update(each, each.network_access_id)
    del booking.network_access_ids[:]
    booking.network_access_ids.extend(after)
