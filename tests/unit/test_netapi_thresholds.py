"""Thresholds: a pure judgement, held to what it says of itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nf.netapi.thresholds import Standing, judge, value_of
from nf.netapi.v1 import monitoring_pb2 as api

T0 = datetime(2026, 5, 1, 12, tzinfo=UTC)
AT_REST = Standing(False, None)

values = st.one_of(st.none(), st.integers(0, 20))


@pytest.mark.clause("5G-MAG live media distribution notifications")
@given(
    st.lists(st.tuples(values, st.integers(1, 3000)), max_size=60),
    st.integers(1, 19),
    st.booleans(),
    st.integers(0, 4000),
)
def test_it_is_crossed_when_the_value_was_beyond_at_every_look_for_long_enough_and_only_then(
    looks: list[tuple[int | None, int]], bound: int, is_above: bool, for_ms: int
):
    bounds = {"above": bound} if is_above else {"below": bound}
    standing, now, beyond_from = AT_REST, T0, None
    for value, pause_ms in looks:
        now += timedelta(milliseconds=pause_ms)
        beyond = value is not None and (value > bound if is_above else value < bound)
        beyond_from = (beyond_from or now) if beyond else None
        before = standing
        standing = judge(standing, value, now, lasting=timedelta(milliseconds=for_ms), **bounds)
        lasted = beyond_from is not None and now - beyond_from >= timedelta(milliseconds=for_ms)
        assert standing == Standing(lasted, beyond_from)
        # What was crossed is restored by a value that is not beyond, and by nothing else.
        assert not (before.crossed and not standing.crossed and beyond)


def test_a_value_at_the_bound_is_not_beyond_it():
    assert judge(AT_REST, 5, T0, above=5) == AT_REST
    assert judge(AT_REST, 5, T0, below=5) == AT_REST
    assert judge(AT_REST, 6, T0, above=5) == Standing(True, T0)
    assert judge(AT_REST, 4, T0, below=5) == Standing(True, T0)


def test_what_is_not_measured_is_not_beyond_and_restores():
    assert judge(AT_REST, None, T0, below=5) == AT_REST
    assert judge(Standing(True, T0), None, T0, below=5) == AT_REST


def test_each_metric_has_its_measure_and_what_is_absent_has_none():
    usage = api.NetworkAccessUsage(devices=9, devices_in_use=3, downlink_bps=1000, loss_ppm=0)
    assert value_of(usage, api.METRIC_DEVICES) == 3
    assert value_of(usage, api.METRIC_DOWNLINK_THROUGHPUT) == 1000
    assert value_of(usage, api.METRIC_UPLINK_THROUGHPUT) is None
    assert value_of(usage, api.METRIC_LOSS) == 0
    assert value_of(usage, api.METRIC_DELAY) is None
