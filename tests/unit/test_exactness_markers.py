"""No window passes more than each rate of a marker allows, nor a shaped one departs; aggregates hold beside them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from random import Random

import captures
import pytest
from captures import SECOND_NS, START_NS
from offered import RATES_BPS, Offered, adversarial, disordered, judged, limits, on_the_wire, policed, steady
from windows import BYTE, Passed, in_earned_time, worst_excess

from upf.capture import parse_header
from upf.engine import CONFORMING, DROPPED, YELLOW, Engine
from upf.reference import Reference
from upf.rules import Aggregate, Marker, Mode, Policer, Rule
from upf.sdf import parse_filter

Bound = tuple[Collection[int], int, int]


def srtcm(random: Random) -> Policer:
    rate_bps, burst_bytes = limits(random)
    return Policer(rate_bps, burst_bytes, Marker.SRTCM, excess_burst_bytes=limits(random)[1])


def trtcm(random: Random) -> Policer:
    rate_bps, burst_bytes = limits(random)
    peak_bps = rate_bps * random.choice((1, 2, 10)) + random.choice((0, 1, 7_777))
    return Policer(rate_bps, burst_bytes, Marker.TRTCM, peak_bps, limits(random)[1])


def diffserv_trtcm(random: Random) -> Policer:
    rate_bps, burst_bytes = limits(random)
    return Policer(rate_bps, burst_bytes, Marker.DIFFSERV_TRTCM, *limits(random))


def bounds_of(policer: Policer) -> list[Bound]:
    """Which colours together keep to which rate and burst."""
    committed = ((CONFORMING,), policer.rate_bps, policer.burst_bytes)
    match policer.marker:
        case Marker.SRTCM:
            both_bytes = policer.burst_bytes + policer.excess_burst_bytes
            return [committed, ((CONFORMING, YELLOW), policer.rate_bps, both_bytes)]
        case Marker.TRTCM:
            return [committed, ((CONFORMING, YELLOW), policer.excess_rate_bps, policer.excess_burst_bytes)]
        case _:
            return [committed, ((YELLOW,), policer.excess_rate_bps, policer.excess_burst_bytes)]


def in_windows(packets: Sequence[Offered], verdicts: Sequence[int], colours: Collection[int]) -> list[Passed]:
    times = in_earned_time(packet.ts_ns for packet in packets)
    judgements = zip(times, packets, verdicts, strict=True)
    return [Passed(ts_ns, packet.length) for ts_ns, packet, verdict in judgements if verdict in colours]


MARKERS = pytest.mark.parametrize("made", [srtcm, trtcm, diffserv_trtcm])


@MARKERS
@pytest.mark.parametrize("clock", ["in order", "out of order", "clock set back"])
def test_no_window_of_a_colour_exceeds_its_rate_and_burst(made: Callable[[Random], Policer], clock: str) -> None:
    seen = dict.fromkeys((CONFORMING, YELLOW, DROPPED), 0)
    for seed in range(60):
        random = Random(seed)
        policer = made(random)
        packets = adversarial(random, policer.rate_bps, policer.burst_bytes, packets=250, flows=1)
        if clock != "in order":
            packets = disordered(random, packets, set_back=clock == "clock set back")
        verdicts, _ = judged(packets, policed(policer))
        for colours, rate_bps, burst_bytes in bounds_of(policer):
            excess = worst_excess(in_windows(packets, verdicts, colours), rate_bps)
            assert excess <= burst_bytes * BYTE, f"seed {seed}: {policer}, {colours}: {excess / BYTE} bytes"
        for verdict in verdicts:
            seen[verdict] += 1
    assert min(seen.values()) > 500, seen


@pytest.mark.parametrize("made", [trtcm, diffserv_trtcm])
def test_what_loses_its_colour_would_have_exceeded_the_bound_of_some_window(made: Callable[[Random], Policer]) -> None:
    """The other side, of the markers with a rate for each bucket: none of them keeps tokens back."""
    for seed in range(40):
        random = Random(seed)
        policer = made(random)
        packets = adversarial(random, policer.rate_bps, policer.burst_bytes, packets=100, flows=1)
        verdicts, _ = judged(packets, policed(policer))
        (_, rate_bps, burst_bytes), (beyond, excess_rate_bps, excess_burst_bytes) = bounds_of(policer)
        for number, (packet, verdict) in enumerate(zip(packets, verdicts, strict=True)):
            before = list(zip(packets[:number], verdicts[:number], strict=True))
            green = [Passed(p.ts_ns, p.length) for p, v in before if v == CONFORMING]
            excess = [Passed(p.ts_ns, p.length) for p, v in before if v in beyond]
            this = Passed(packet.ts_ns, packet.length)
            if verdict == YELLOW:
                assert worst_excess([*green, this], rate_bps) > burst_bytes * BYTE, f"seed {seed}"
            elif verdict == DROPPED:
                assert worst_excess([*excess, this], excess_rate_bps) > excess_burst_bytes * BYTE, f"seed {seed}"


@pytest.mark.parametrize("length", [64, 65_535])
@pytest.mark.parametrize("marker", [Marker.TRTCM, Marker.DIFFSERV_TRTCM])
def test_the_long_run_keeps_to_both_rates(marker: Marker, length: int) -> None:
    for rate_bps in RATES_BPS:
        # Half as much again: the PIR contains the CIR, the EIR comes beside it.
        more_bps = rate_bps // 2
        excess_bps = rate_bps + more_bps if marker is Marker.TRTCM else more_bps
        # Room for what is earned while a packet waits for its tokens, or within some nanoseconds.
        burst_bytes = 2 * length + rate_bps // SECOND_NS
        policer = Policer(rate_bps, burst_bytes, marker, excess_bps, burst_bytes)
        # The first two packets take the bursts.
        packets = [*[Offered(START_NS, burst_bytes)] * 2, *steady(rate_bps, length, packets=9_000)]
        verdicts = judged(packets, policed(policer))[0][2:]
        earned = rate_bps * (packets[-1].ts_ns - START_NS)
        green, yellow = (verdicts.count(colour) * length * BYTE for colour in (CONFORMING, YELLOW))
        assert green <= earned
        assert abs(green / earned - 1) <= 0.001, (rate_bps, length)
        assert abs(yellow / (earned / 2) - 1) <= 0.001, (rate_bps, length)


def test_aggregates_hold_beside_the_rules_below_them() -> None:
    for seed in range(40):
        random = Random(seed)
        above = Policer(*limits(random))
        policers = [Policer(*limits(random)) for _ in range(3)]
        rules = [
            Rule(
                f"flow {number}", 1, (parse_filter(f"permit out ip from any {1024 + number} to any"),), policer,
                Mode.POLICE, aggregates=(Aggregate("session", above),),
            )
            for number, policer in enumerate(policers)
        ]  # fmt: skip
        packets = adversarial(random, above.rate_bps, above.burst_bytes, packets=250, flows=3)
        capture = captures.pcap(map(on_the_wire, packets), link_type=captures.RAW, nanoseconds=True)
        engine, verdicts = Engine(), bytearray(len(packets))
        engine.install(rules)
        engine.run(
            capture, parse_header(capture[:24], source=""), offset=24, max_packets=len(packets), verdicts=verdicts
        )
        assert worst_excess(in_windows(packets, verdicts, (CONFORMING,)), above.rate_bps) <= above.burst_bytes * BYTE, (
            f"seed {seed}"
        )
        for number, policer in enumerate(policers):
            own = [(p, v) for p, v in zip(packets, verdicts, strict=True) if p.flow == number]
            passed = in_windows([p for p, _ in own], [v for _, v in own], (CONFORMING,))
            assert worst_excess(passed, policer.rate_bps) <= policer.burst_bytes * BYTE, f"seed {seed}"


def test_what_is_shaped_departs_within_the_rate_in_order_and_never_early() -> None:
    """By the oracle's departure times, to which the engine's output is held elsewhere, packet by packet."""
    delayed = 0
    for seed in range(40):
        random = Random(seed)
        policer = Policer(*limits(random))
        rule = replace(policed(policer, mode=Mode.SHAPE), queue_bytes=random.choice((1_500, 100_000, 10_000_000)))
        packets = adversarial(random, policer.rate_bps, policer.burst_bytes, packets=200, flows=1)
        reference, departed = Reference([rule]), list[Passed]()
        for packet in packets:
            verdict = reference.process(*on_the_wire(packet), captures.RAW)
            if verdict.passed:
                assert verdict.departure_ns is not None
                assert verdict.departure_ns >= packet.ts_ns
                delayed += verdict.departure_ns > packet.ts_ns
                departed.append(Passed(verdict.departure_ns, packet.length))
        assert departed == sorted(departed, key=lambda each: each.ts_ns)
        # A departure is rounded up to a nanosecond, so that a window may be shorter than it was by less than one.
        assert worst_excess(departed, policer.rate_bps) < (policer.burst_bytes * BYTE) + policer.rate_bps, seed
    assert delayed > 1_000


def test_a_clock_set_back_costs_no_tokens_of_either_bucket() -> None:
    policer = Policer(8 * SECOND_NS, 1_000, Marker.TRTCM, 8 * SECOND_NS, 3_000)
    at, back = START_NS, START_NS - 11 * SECOND_NS
    packets = [Offered(at, 1_000), Offered(at, 1_500), Offered(back, 501), Offered(back, 500), Offered(back + 28, 28)]
    verdicts, engine = judged(packets, policed(policer))
    assert verdicts == [CONFORMING, YELLOW, DROPPED, YELLOW, CONFORMING]
    assert engine.totals().time_steps_back == 1
