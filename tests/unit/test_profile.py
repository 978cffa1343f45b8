"""Passes with a stop-watch do what passes without one do."""

from __future__ import annotations

import captures as make
import pytest
from captures import Traffic, generate

from upf.captures.pcap import parse_header
from upf.engine import Engine
from upf.journal import JournalOptions
from upf.rules import Mode, Policer, Rule
from upf.sdf import parse_filter

RULES = [Rule("all", 1, (parse_filter("permit out ip from any to any"),), Policer(2_000_000, 3_000), Mode.POLICE)]


@pytest.mark.parametrize("seed", range(3))
def test_the_counters_are_the_same_and_the_stages_fit_into_the_whole(seed: int) -> None:
    capture = make.pcap(generate(Traffic(packets=3_000, seed=seed)), nanoseconds=True)
    capture_format = parse_header(capture[:24], source="test")
    counted = []
    for name in ("run", "run_timed"):
        engine = Engine()
        engine.install(RULES)
        offset, over = 24, False
        while not over:
            run = getattr(engine, name)
            offset, _, over, *ticks = run(capture, capture_format, offset=offset, max_packets=700)
            assert all(len(spent) == 7 and sum(spent[:6]) <= spent[6] for spent in ticks)
        engine.finish()
        assert offset == len(capture)
        counted.append((engine.totals(), engine.rule_counters()))
    assert counted[0] == counted[1]
    assert counted[0][1]["all"].dropped_packets > 0


def test_a_stop_watch_and_a_journal_do_not_go_together() -> None:
    engine = Engine(journal=JournalOptions(slot_ns=1_000_000))
    capture = make.pcap([])
    with pytest.raises(RuntimeError, match="while there is a journal"):
        engine.run_timed(capture, parse_header(capture, source="test"), offset=24, max_packets=1)
