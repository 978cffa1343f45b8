"""What is made of the engine's counters: usage by URR, compliance by QER."""

from __future__ import annotations

from upf.counters import RuleCounters
from upf.n4.metering import Meter
from upf.n4.rules import CORE, Detection
from upf.n4.v1 import n4_pb2 as n4
from upf.rules import Mode

MS = 1_000_000
START_NS = 1_700_000_000 * 10**9


def detected_by(window_ms: int) -> Detection:
    return Detection(
        cp_seid=7, pdr_id=1, qer_id=2, urr_id=3, source_interface=CORE, mode=Mode.POLICE,
        averaging_window_ns=window_ms * MS,
    )  # fmt: skip


def counted(packets: int, *, last_ms: int, excess_ms: int = 0, since_ms: int = 0) -> dict[str, RuleCounters]:
    counters = RuleCounters(
        conforming_packets=packets, conforming_bytes=100 * packets, first_ns=START_NS, last_ns=START_NS + last_ms * MS,
        last_excess_ns=START_NS + excess_ms * MS if excess_ms else 0,
        excess_since_ns=START_NS + since_ms * MS if since_ms else 0,
    )  # fmt: skip
    return {"7/1": counters}


def changes(meter: Meter, window_ms: int, counters: dict[str, RuleCounters]) -> list[tuple[bool, int]]:
    meter.harvest(counters, lambda _: detected_by(window_ms))
    return [(report.compliant, (report.since_ns - START_NS) // MS) for _, report in meter.changes_of_compliance()]


def test_a_bit_rate_is_kept_to_again_when_nothing_has_exceeded_it_for_the_qer_s_window() -> None:
    for window_ms in (500, 2_000, 5_000):
        meter = Meter()
        assert changes(meter, window_ms, counted(5, last_ms=10, excess_ms=10, since_ms=5)) == [(False, 5)]
        assert changes(meter, window_ms, counted(6, last_ms=9 + window_ms, excess_ms=10, since_ms=5)) == []
        assert changes(meter, window_ms, counted(7, last_ms=10 + window_ms, excess_ms=10, since_ms=5)) == [(True, 10)]


def test_excesses_that_a_window_shorter_than_the_engine_s_parts_begin_anew() -> None:
    meter = Meter()
    assert changes(meter, 500, counted(5, last_ms=10, excess_ms=10, since_ms=5)) == [(False, 5)]
    assert changes(meter, 500, counted(6, last_ms=600, excess_ms=10, since_ms=5)) == [(True, 10)]
    assert changes(meter, 500, counted(7, last_ms=700, excess_ms=700, since_ms=5)) == [(False, 700)]


def test_excesses_that_a_window_longer_than_the_engine_s_joins_are_one() -> None:
    meter = Meter()
    assert changes(meter, 5_000, counted(5, last_ms=10, excess_ms=10, since_ms=5)) == [(False, 5)]
    assert changes(meter, 5_000, counted(6, last_ms=3_000, excess_ms=3_000, since_ms=3_000)) == []
    assert changes(meter, 5_000, counted(7, last_ms=8_000, excess_ms=3_000, since_ms=3_000)) == [(True, 3_000)]


def test_only_what_has_counted_is_looked_at_again() -> None:
    meter = Meter()
    after = n4.Session(cp_seid=7, urrs=[n4.Urr(urr_id=3, measurement_period_ms=50)], qers=[n4.Qer(qer_id=2)])
    meter.change(n4.Session(), after)
    assert meter.moved(0) == []
    meter.harvest(counted(5, last_ms=10), lambda _: detected_by(2_000))
    assert meter.moved(49 * MS) == []
    assert meter.moved(49 * MS, before_time=True) == [(7, 3)]
    assert meter.moved(50 * MS) == [(7, 3)]
    assert meter.report((7, 3), 50 * MS).usage.downlink.offered.packets == 5
    assert meter.moved(100 * MS) == []
    meter.harvest(counted(5, last_ms=10), lambda _: detected_by(2_000))
    assert meter.moved(100 * MS) == []
    meter.harvest(counted(6, last_ms=11), lambda _: detected_by(2_000))
    meter.change(after, n4.Session())
    assert meter.moved(200 * MS) == []
    assert meter.changes_of_compliance() == []
