from __future__ import annotations

import pytest

from nf.common.usage import COUNTER_NAMES, NOTHING, counter_bytes, counters_of, increment, latest, total, usage_of
from nf.common.v1.types_pb2 import PolicedVolume, Usage, Volume

EARLY = tuple(range(1, 17))
LATE = tuple(range(101, 117))


def test_a_usage_has_sixteen_counters_and_comes_back_from_them() -> None:
    assert len(COUNTER_NAMES) == 16
    assert COUNTER_NAMES[0] == "downlink_offered_packets"
    assert COUNTER_NAMES[15] == "uplink_dropped_bytes"
    assert counters_of(usage_of(EARLY)) == EARLY


def test_counters_stand_in_the_order_of_their_names() -> None:
    usage = Usage(uplink=PolicedVolume(exceeding=Volume(packets=7, bytes=700)))
    counters = dict(zip(COUNTER_NAMES, counters_of(usage), strict=True))
    assert counters.pop("uplink_exceeding_packets") == 7
    assert counters.pop("uplink_exceeding_bytes") == 700
    assert set(counters.values()) == {0}


def test_what_is_not_sixteen_counters_is_no_usage() -> None:
    with pytest.raises(ValueError, match="expected 16 counters, got 3"):
        usage_of((1, 2, 3))


def test_the_later_of_two_reports_wins_whatever_their_order() -> None:
    assert latest(EARLY, LATE) == LATE == latest(LATE, EARLY)


def test_an_older_report_adds_nothing() -> None:
    assert increment(EARLY, LATE) == (100,) * 16
    assert increment(LATE, EARLY) == NOTHING


def test_counters_that_count_apart_add_up() -> None:
    assert total([EARLY, LATE]) == tuple(102 + 2 * at for at in range(16))
    assert total([]) == NOTHING


def test_bytes_of_a_share_are_those_of_both_directions() -> None:
    usage = Usage(
        downlink=PolicedVolume(conforming=Volume(packets=1, bytes=1500)),
        uplink=PolicedVolume(conforming=Volume(packets=1, bytes=40), dropped=Volume(packets=1, bytes=9)),
    )
    assert counter_bytes(counters_of(usage), "conforming") == 1540
    assert counter_bytes(counters_of(usage), "dropped") == 9
