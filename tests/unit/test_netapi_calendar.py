"""Capacity over time: what is offered fits at every moment, and all that fits is offered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nf.netapi.calendar import NOTHING, Capacity, Load, Reservation, Resource, Room, peak, room

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
def test_the_peak_is_the_most_of_any_moment(reservations: list[Reservation], start: int, length: int) -> None:
    moments = [taken_at(reservations, each) for each in range(start, start + length)]
    assert peak(reservations, start, start + length) == Load(
        max(each.downlink_bps for each in moments),
        max(each.uplink_bps for each in moments),
        max(each.devices for each in moments),
    )


@given(RESERVATIONS, st.builds(Capacity, BOUNDS, BOUNDS, BOUNDS), LOADS, st.integers(1, 9))
def test_what_has_room_fits_at_every_moment_and_one_device_more_would_not(
    reservations: list[Reservation], capacity: Capacity, each_device: Load, wanted: int
) -> None:
    taken = peak(reservations, 5, 20)
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
    assert peak(both, 0, 20) == expected


def test_the_scarcest_resource_is_named() -> None:
    capacity = Capacity(downlink_bps=10, uplink_bps=10, devices=5)
    assert room(capacity, Load(0, 4, 1), Load(3, 3, 1), 9) == Room(2, Resource.UPLINK)
    assert room(capacity, NOTHING, Load(1, 1, 1), 5) == Room(5, None)
