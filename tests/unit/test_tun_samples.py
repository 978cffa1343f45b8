"""What castcore tun makes of two moments: rates, lines for scripts, lines and tables for eyes."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from rich.console import Console

from nf.cli.tun.samples import (
    TOLD_FLOWS,
    TOLD_RULES,
    WATCHED_FLOWS,
    DirectionSample,
    Sample,
    Sampler,
    direction_rates,
    flow_samples,
    rule_samples,
    to_json,
    utc,
)
from nf.cli.tun.view import JsonLines, Ready, TextLines, print_summary, ready_lines, text_line, view
from upf.active_flow import ActiveFlow
from upf.compliance import FlowName
from upf.counters import RuleCounters, Totals, WireCounters
from upf.live.devices import Place

START_NS = 1_700_000_000 * 10**9
NO_WIRE = WireCounters(*(0,) * 12, errors={}, error_bytes=0, reads=0, writes=0)
NO_TOTALS = Totals(0, 0, {}, 0, 0, 0, 0, 0, 0, 0)
NOTHING = DirectionSample(NO_WIRE, NO_TOTALS, {}, ())


def flow(port: int, volume_bytes: int, *, passed_bytes: int | None = None, first_ns: int = START_NS) -> ActiveFlow:
    passed_bytes = volume_bytes if passed_bytes is None else passed_bytes
    name = FlowName(IPv4Address("198.51.100.7"), IPv4Address("10.45.0.2"), 17, 443, port)
    return ActiveFlow(name, "video", volume_bytes // 100, volume_bytes, passed_bytes // 100, passed_bytes, first_ns, 0)


def at(second: int, *, up: DirectionSample = NOTHING, down: DirectionSample = NOTHING) -> Sample:
    return Sample(START_NS + second * 10**9, second * 10**9, {"uplink": up, "downlink": down})


def with_flows(*flows: ActiveFlow) -> DirectionSample:
    return replace(NOTHING, flows=flows)


def with_bytes(offered: int, passed: int, **more: object) -> DirectionSample:
    wire = replace(NO_WIRE, packets=offered // 100, bytes=offered, passed_packets=passed // 100, passed_bytes=passed)
    return replace(NOTHING, wire=replace(wire, **more))


def under_rule(conforming: int, dropped: int = 0, exceeding: int = 0) -> DirectionSample:
    counters = RuleCounters(
        conforming_packets=conforming // 100,
        conforming_bytes=conforming,
        dropped_packets=dropped // 100,
        dropped_bytes=dropped,
        exceeding_packets=exceeding // 100,
        exceeding_bytes=exceeding,
    )
    return replace(NOTHING, rules={"video": counters})


def test_rates_are_those_between_two_samples_and_without_one_before_over_the_whole_run() -> None:
    before, now = at(2, down=with_bytes(1_000, 500)), at(4, down=with_bytes(6_000, 1_500))
    assert direction_rates(now, before, "downlink") == direction_rates(now, before, "downlink")
    rates = direction_rates(now, before, "downlink")
    assert (rates.offered_bps, rates.passed_bps) == (20_000, 4_000)
    rates = direction_rates(now, None, "downlink")
    assert (rates.offered_bps, rates.passed_bps) == (12_000, 3_000)
    assert direction_rates(now, before, "uplink").offered_bps == 0
    assert direction_rates(now, now, "downlink").offered_bps is None


def test_a_rule_has_its_rates_in_each_direction() -> None:
    before = at(1, up=under_rule(100), down=under_rule(1_000, 1_000))
    now = at(2, up=under_rule(300), down=under_rule(2_000, 4_000))
    up, down = rule_samples(now, before)
    assert (up.direction, up.name, up.rates.offered_bps, up.rates.passed_bps) == ("uplink", "video", 1_600, 1_600)
    assert (down.direction, down.rates.offered_bps, down.rates.passed_bps) == ("downlink", 32_000, 8_000)


def test_a_rule_that_is_new_or_begins_anew_counts_from_nothing() -> None:
    (found,) = rule_samples(at(2, down=under_rule(200)), at(1))
    assert found.rates.offered_bps == 1_600
    (found,) = rule_samples(at(2, down=under_rule(200)), at(1, down=under_rule(900)))
    assert found.rates.offered_bps == 1_600


def test_flows_stand_by_their_rate_not_by_what_they_once_had() -> None:
    before = at(1, down=with_flows(flow(1, 9_000), flow(2, 100)))
    now = at(2, down=with_flows(flow(1, 9_100), flow(2, 1_100, passed_bytes=600)), up=with_flows(flow(3, 50)))
    told = flow_samples(now, before)
    assert [each.flow.name.destination_port for each in told] == [2, 1, 3]
    assert [each.direction for each in told] == ["downlink", "downlink", "uplink"]
    assert (told[0].rates.offered_bps, told[0].rates.passed_bps) == (8_000, 4_000)


def test_the_rate_of_a_flow_is_known_from_its_second_sample_on_unless_it_is_new() -> None:
    new, old = flow(1, 1_000, first_ns=START_NS + 1_500_000_000), flow(2, 1_000, first_ns=START_NS)
    told = flow_samples(at(2, down=with_flows(new, old)), at(1))
    assert [each.rates.offered_bps for each in told] == [8_000, None]


def test_no_more_flows_are_told_than_can_be_read() -> None:
    flows = [flow(port, 100 * port) for port in range(1, TOLD_FLOWS + 5)]
    told = flow_samples(at(1, down=with_flows(*flows)), None)
    assert [each.flow.name.destination_port for each in told] == list(range(TOLD_FLOWS + 4, 4, -1))


class Engine:
    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def totals(self) -> Totals:
        return NO_TOTALS

    def rule_counters(self) -> Mapping[str, RuleCounters]:
        return {}

    def top_flows(self, n: int, since_ns: int) -> Sequence[ActiveFlow]:
        self.asked.append((n, since_ns))
        return ()


class Wires:
    def counters(self) -> Mapping[str, WireCounters]:
        return {"uplink": NO_WIRE, "downlink": NO_WIRE}


def test_a_sampler_asks_for_the_flows_since_the_sample_before_and_does_not_follow_steps_of_the_clock() -> None:
    monotonic, wall = [5_000], [START_NS]
    engine = Engine()
    sampler = Sampler(Wires(), {"uplink": engine}, clock_ns=lambda: monotonic[0], utc_ns=lambda: wall[0])
    monotonic[0], wall[0] = 7_000, START_NS + 60 * 10**9
    first = sampler.take()
    assert (first.time_ns, first.elapsed_ns) == (START_NS + 2_000, 2_000)
    monotonic[0] = 9_000
    second = sampler.take(since=first)
    assert (second.time_ns, second.elapsed_ns) == (START_NS + 4_000, 4_000)
    assert engine.asked == [(WATCHED_FLOWS, 0), (WATCHED_FLOWS, START_NS + 2_000)]


# --- lines ------------------------------------------------------------------------------------------------------------


def test_a_line_for_scripts_has_counters_since_the_start_and_rates_since_the_line_before() -> None:
    before, now = at(1, down=under_rule(100)), at(2, down=under_rule(200, 300))
    down = with_bytes(1_000, 500, errors={"read": 2}, error_bytes=9, malformed_packets=1)
    totals = replace(NO_TOTALS, malformed={"ip_header": 1}, unmatched_packets=3, unmatched_bytes=30, flows=4)
    now = replace(
        now,
        directions=now.directions
        | {"downlink": replace(now.directions["downlink"], wire=down.wire, totals=totals, flows=(flow(1, 100),))},
    )
    told = json.loads(json.dumps(to_json(now, before)))
    assert list(told) == ["time", "elapsed_s", "uplink", "downlink", "rules", "flows"]
    assert (told["time"], told["elapsed_s"]) == ("2023-11-14T22:13:22.000Z", 2.0)
    downlink = told["downlink"]
    assert (downlink["packets"], downlink["bytes"], downlink["passed_bytes"]) == (10, 1_000, 500)
    assert downlink["errors"] == {"read": 2}
    assert (downlink["offered_bps"], downlink["passed_bps"]) == (8_000, 4_000)
    assert (downlink["unmatched_packets"], downlink["flows"]) == (3, 4)
    assert downlink["malformed_reasons"] == {"ip_header": 1}
    (rule,) = told["rules"]
    assert (rule["name"], rule["direction"], rule["packets"], rule["bytes"]) == ("video", "downlink", 5, 500)
    assert (rule["offered_bps"], rule["passed_bps"]) == (3_200, 800)
    assert (rule["passed_bytes"], rule["dropped_bytes"], rule["delayed_packets"]) == (200, 300, 0)
    (one,) = told["flows"]
    assert (one["source"], one["source_port"], one["destination"], one["rule"]) == (
        "198.51.100.7",
        443,
        "10.45.0.2",
        "video",
    )


def test_of_the_rules_of_a_whole_network_those_at_work_are_told() -> None:
    idle = {f"r{number}": RuleCounters(conforming_packets=1, conforming_bytes=99) for number in range(TOLD_RULES + 1)}
    busy = idle | {"busy": RuleCounters(conforming_packets=2, conforming_bytes=200)}
    before, now = (at(second, up=replace(NOTHING, rules=rules)) for second, rules in ((1, idle), (2, busy)))
    told = to_json(now, before)
    assert told["rules_left_out"] == 2
    assert isinstance(told["rules"], list)
    assert [len(told["rules"]), told["rules"][0]["name"]] == [TOLD_RULES, "busy"]
    assert "rules_left_out" not in to_json(at(1, up=under_rule(1)), None)


def test_the_lines_for_scripts_say_when_it_is_ready_and_when_it_is_final(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonLines() as teller:
        teller.ready(Ready(Place("ue0", "ue"), Place("net0"), {"metrics": "http://127.0.0.1:1/metrics"}))
        teller.sample(at(1), None)
        teller.final(at(2, down=with_bytes(1_000, 500)))
    ready, sample, final = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert ready == {
        "ready": True,
        "access": {"interface": "ue0", "netns": "ue"},
        "core": {"interface": "net0", "netns": None},
        "metrics": "http://127.0.0.1:1/metrics",
    }
    assert {"ready", "final"}.isdisjoint(sample)
    assert next(iter(final)) == "final"
    assert final["final"] is True
    assert final["downlink"]["offered_bps"] == 4_000


def test_lines_for_a_file_are_silent_while_nothing_comes(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = at(1), at(2, down=with_bytes(1_000, 500, dropped_packets=5))
    with TextLines() as teller:
        teller.ready(Ready(Place("ue0", "ue"), Place("net0"), {}))
        teller.sample(first, at(0))
        teller.sample(second, first)
        teller.final(second)
    ready, line, *summary = capsys.readouterr().out.splitlines()
    assert ready == "castcore tun: ue0@ue (access) <-> net0 (core); Ctrl-C ends it"
    assert line == text_line(second, first)
    assert line == (
        "2023-11-14T22:13:22.000Z; uplink 0 bps offered, 0 bps passed; "
        "downlink 8 Kbps offered, 4 Kbps passed, 5 packets not passed"
    )
    assert summary[0] == "2.0 s; rates are means over all of it"


def test_a_time_is_told_to_the_millisecond() -> None:
    assert utc(START_NS + 999_999_999) == "2023-11-14T22:13:20.999Z"


# --- tables -----------------------------------------------------------------------------------------------------------


def drawn(now: Sample, before: Sample | None, *, rules: int = 10, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    console.print(view("heading", now, before, rules=rules))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_view_has_directions_rules_and_flows() -> None:
    now = at(2, down=replace(under_rule(2_000, 4_000), flows=(flow(5_000, 2_000),)))
    text = drawn(now, at(1))
    assert text.startswith("heading  2 s\n")
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert lines["video"] == ["video", "down", "48", "Kbps", "16", "Kbps", "40", "0", "0"]
    assert "UDP 198.51.100.7:443 > 10.45.0.2:5000" in text


def test_of_more_rules_than_there_is_room_for_those_with_the_highest_rates_are_shown() -> None:
    rules = {f"r{number}": RuleCounters(conforming_packets=1, conforming_bytes=number) for number in range(20)}
    text = drawn(at(1, up=replace(NOTHING, rules=rules)), None, rules=3)
    assert [line.split()[0] for line in text.splitlines() if line.startswith("r") and not line.startswith("rule")] == [
        "r19",
        "r18",
        "r17",
    ]
    assert "… and 17 more" in text


def test_nothing_at_all_can_be_drawn_in_a_narrow_terminal() -> None:
    assert drawn(at(0), None, width=40).startswith("heading")


def test_the_summary_names_what_was_neither_passed_nor_dropped() -> None:
    wire = replace(NO_WIRE, held_off_packets=7, errors={"queue_full": 2, "device": 0})
    totals = replace(NO_TOTALS, malformed={"ip_header": 3}, evicted_flows=4)
    console = Console(file=io.StringIO(), width=120, highlight=False, markup=False)
    print_summary(at(3, up=replace(under_rule(100, 200, 300), wire=wire, totals=totals)), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "300 passed, 200 dropped" in text
    assert "uplink: malformed: 3 × ip_header" in text
    assert "uplink: error: 2 × queue_full" in text
    assert "device" not in text
    assert "uplink: 7 packets came while nothing was forwarded" in text
    assert "uplink: flow table full: 4 flows evicted (--max-flows)" in text


def test_what_else_serves_is_told_below_the_heading() -> None:
    lines = ready_lines(Ready(Place("a"), Place("b"), {"grpc": "127.0.0.1:7004"}))
    assert lines[1:] == ["grpc 127.0.0.1:7004"]
