"""Whether a device is in an area, from one position to the next, and what of that is told.

A position that is partly inside changes nothing: a device has entered when all of where it may be is inside, and left
when none of it is. So uncertainty is the hysteresis, and a device at the edge is not told of again and again.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from nf.common.machine import Machine, Transition
from nf.netapi.geometry import Fit
from nf.netapi.v1.location_pb2 import GeofenceMember


class Presence(Enum):
    """GeofenceMember.Presence."""

    UNKNOWN = GeofenceMember.PRESENCE_UNSPECIFIED
    INSIDE = GeofenceMember.PRESENCE_INSIDE
    OUTSIDE = GeofenceMember.PRESENCE_OUTSIDE


class Sighting(Enum):
    """What a position says of an area."""

    INSIDE = auto()
    OUTSIDE = auto()
    # Partly inside, or it cannot be said.
    UNCERTAIN = auto()


class Tell(Enum):
    """What the provider is told, as far as it wants to know."""

    AREA_ENTERED = auto()
    AREA_LEFT = auto()
    # The same of a device that was there when it was seen first: an initial event.
    IS_INSIDE = auto()
    IS_OUTSIDE = auto()


MEMBERSHIP: Final[Machine[Presence, Sighting]] = Machine(
    "geofence membership",
    {
        (Presence.UNKNOWN, Sighting.INSIDE): Transition(Presence.INSIDE, (Tell.IS_INSIDE,)),
        (Presence.UNKNOWN, Sighting.OUTSIDE): Transition(Presence.OUTSIDE, (Tell.IS_OUTSIDE,)),
        (Presence.UNKNOWN, Sighting.UNCERTAIN): Transition(Presence.UNKNOWN),
        (Presence.INSIDE, Sighting.INSIDE): Transition(Presence.INSIDE),
        (Presence.INSIDE, Sighting.OUTSIDE): Transition(Presence.OUTSIDE, (Tell.AREA_LEFT,)),
        (Presence.INSIDE, Sighting.UNCERTAIN): Transition(Presence.INSIDE),
        (Presence.OUTSIDE, Sighting.INSIDE): Transition(Presence.INSIDE, (Tell.AREA_ENTERED,)),
        (Presence.OUTSIDE, Sighting.OUTSIDE): Transition(Presence.OUTSIDE),
        (Presence.OUTSIDE, Sighting.UNCERTAIN): Transition(Presence.OUTSIDE),
    },
    initial=Presence.UNKNOWN,
)


def sighting_of(fit: Fit) -> Sighting:
    """What a fit says."""
    if fit is Fit.INSIDE:
        return Sighting.INSIDE
    return Sighting.OUTSIDE if fit is Fit.OUTSIDE else Sighting.UNCERTAIN
