"""Capacity over time: what is offered fits at every moment, and all that fits is offered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nf.netapi.calendar import NOTHING, Capacity, Load, Reservation, Resource, Room, Timeline, beyond, room

LOADS = st.builds(Load, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
RESERVATIONS = st.lists(
    st.builds(
        lambda start, length, load: Reservation(start, start + length, load),
        st.integers(0, 30),
        st.integers(1, 9),
        LOADS,
    ),
    max_size=12,
)
BOUNDS = st.one_of(st.none(), st.integers(0, 60))


def taken_at(reservations: list[Reservation], moment: int) -> Load:
    total = NOTHING
    for each in reservations:
        if each.start_ns <= moment < each.stop_ns:
            total += each.load
    return total


@given(RESERVATIONS, st.integers(0, 30), st.integers(1, 15))
def test_the_most_and_the_least_are_those_of_any_moment(
    reservations: list[Reservation], start: int, length: int
) -> None:
    moments = [taken_at(reservations, each) for each in range(start, start + length)]
    timeline = Timeline.of(reservations)
    assert timeline.at(start) == moments[0]
    for chosen, found in ((max, timeline.most(start, start + length)), (min, timeline.least(start, start + length))):
        assert found == Load(
            chosen(each.downlink_bps for each in moments),
            chosen(each.uplink_bps for each in moments),
            chosen(each.devices for each in moments),
        )


@given(RESERVATIONS, RESERVATIONS)
def test_what_is_held_beside_the_old_is_as_much_as_the_new_needs_more_at_every_moment(
    wanted: list[Reservation], had: list[Reservation]
) -> None:
    held = beyond(wanted, had)
    for moment in range(40):
        missing = taken_at(wanted, moment) - taken_at(had, moment)
        assert taken_at(held, moment) == Load(
            max(0, missing.downlink_bps), max(0, missing.uplink_bps), max(0, missing.devices)
        )


@given(RESERVATIONS, st.builds(Capacity, BOUNDS, BOUNDS, BOUNDS), LOADS, st.integers(1, 9))
def test_what_has_room_fits_at_every_moment_and_one_device_more_would_not(
    reservations: list[Reservation], capacity: Capacity, each_device: Load, wanted: int
) -> None:
    taken = Timeline.of(reservations).most(5, 20)
    found = room(capacity, taken, each_device, wanted)
    assert 0 <= found.devices <= wanted
    assert (found.limited_by is None) == (found.devices == wanted)

    def fits(devices: int) -> bool:
        return all(
            each_device.of(resource) == 0 or taken.of(resource) + devices * each_device.of(resource) <= most
            for resource, most in capacity.bounds()
        )

    assert found.devices == 0 or fits(found.devices)
    assert found.devices == wanted or not fits(found.devices + 1)


@pytest.mark.parametrize(("second_start", "expected"), [(9, Load(2, 0, 0)), (10, Load(1, 0, 0)), (11, Load(1, 0, 0))])
def test_what_ends_makes_room_for_what_begins_at_that_moment(second_start: int, expected: Load) -> None:
    both = [Reservation(0, 10, Load(1)), Reservation(second_start, 20, Load(1))]
    assert Timeline.of(both).most(0, 20) == expected


def test_the_scarcest_resource_is_named() -> None:
    capacity = Capacity(downlink_bps=10, uplink_bps=10, devices=5)
    assert room(capacity, Load(0, 4, 1), Load(3, 3, 1), 9) == Room(2, Resource.UPLINK)
    assert room(capacity, NOTHING, Load(1, 1, 1), 5) == Room(5, None)


def test_what_was_ones_own_fits_when_the_capacity_is_smaller_now() -> None:
    capacity = Capacity(downlink_bps=10)
    assert room(capacity, Load(8), Load(3), 4, own=Load(9)) == Room(3, Resource.DOWNLINK)
    assert room(capacity, Load(8), Load(3), 3, own=Load(9)) == Room(3, None)
