from __future__ import annotations

import itertools

import pytest

from nf.netapi.geometry import Fit
from nf.netapi.membership import MEMBERSHIP, Presence, Sighting, Tell, sighting_of

EXPECTED: dict[tuple[Presence, Sighting], tuple[Presence, tuple[Tell, ...]]] = {
    (Presence.UNKNOWN, Sighting.INSIDE): (Presence.INSIDE, (Tell.IS_INSIDE,)),
    (Presence.UNKNOWN, Sighting.OUTSIDE): (Presence.OUTSIDE, (Tell.IS_OUTSIDE,)),
    (Presence.UNKNOWN, Sighting.UNCERTAIN): (Presence.UNKNOWN, ()),
    (Presence.INSIDE, Sighting.INSIDE): (Presence.INSIDE, ()),
    (Presence.INSIDE, Sighting.OUTSIDE): (Presence.OUTSIDE, (Tell.AREA_LEFT,)),
    (Presence.INSIDE, Sighting.UNCERTAIN): (Presence.INSIDE, ()),
    (Presence.OUTSIDE, Sighting.INSIDE): (Presence.INSIDE, (Tell.AREA_ENTERED,)),
    (Presence.OUTSIDE, Sighting.OUTSIDE): (Presence.OUTSIDE, ()),
    (Presence.OUTSIDE, Sighting.UNCERTAIN): (Presence.OUTSIDE, ()),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(Presence, Sighting)))
@pytest.mark.clause("5G-MAG live media distribution B.1 b geofencing")
def test_every_presence_knows_what_every_sighting_means(state: Presence, event: Sighting) -> None:
    transition = MEMBERSHIP.step(state, event)
    assert (transition.state, transition.effects) == EXPECTED[state, event]


def test_a_position_that_is_partly_inside_or_unknown_says_nothing_for_certain() -> None:
    assert {fit: sighting_of(fit) for fit in Fit} == {
        Fit.INSIDE: Sighting.INSIDE,
        Fit.OUTSIDE: Sighting.OUTSIDE,
        Fit.PARTIAL: Sighting.UNCERTAIN,
        Fit.UNKNOWN: Sighting.UNCERTAIN,
    }
