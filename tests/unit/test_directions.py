"""Which rules the engine of each direction has, and the one of a capture."""

from __future__ import annotations

import pytest

from upf.directions import capture_rules, downlink_rules, uplink_rules
from upf.rules import FlowDirection, Rule, RulesError
from upf.rules_file import parse_rules, rule_from_options

DOWNLINK = "permit out 6 from 198.51.100.0/24 443 to 10.45.0.2"
UPLINK = "permit in 6 from 10.45.0.2 to 198.51.100.0/24 443"


def rule(direction: str | None) -> Rule:
    (only,) = rule_from_options(flows=[DOWNLINK], rate="5 Mbps", direction=direction).rules
    return only


def filters_of(rules: tuple[Rule, ...]) -> list[list[str]]:
    return [list(map(str, each.filters)) for each in rules]


@pytest.mark.parametrize(
    ("direction", "down", "up", "capture"),
    [
        (None, [[DOWNLINK]], [[UPLINK]], [[DOWNLINK]]),
        ("both", [[DOWNLINK]], [[UPLINK]], [[DOWNLINK]]),
        ("down", [[DOWNLINK]], [], [[DOWNLINK]]),
        ("up", [], [[UPLINK]], [[UPLINK]]),
    ],
)
def test_a_filter_is_written_for_the_downlink_and_exchanged_for_the_uplink(
    direction: str | None, down: list[list[str]], up: list[list[str]], capture: list[list[str]]
) -> None:
    rules = (rule(direction),)
    assert filters_of(downlink_rules(rules)) == down
    assert filters_of(uplink_rules(rules)) == up
    assert filters_of(capture_rules(rules)) == capture


def test_what_is_exchanged_keeps_all_else_of_the_rule() -> None:
    given = rule("both")
    (exchanged,) = uplink_rules([given])
    assert exchanged.filters == (given.filters[0].swapped(),)
    assert (exchanged.name, exchanged.policer, exchanged.mode) == (given.name, given.policer, given.mode)


def test_a_rules_file_says_the_direction_and_both_is_the_default() -> None:
    text = "".join(
        f'[[rule]]\nname = "{name}"\nflows = ["{DOWNLINK}"]\n{key}\n'
        for name, key in (("a", ""), ("b", 'direction = "up"'), ("c", 'direction = "down"'))
    )
    rules = parse_rules(text, source="rules.toml").rules
    assert [each.direction for each in rules] == [FlowDirection.BOTH, FlowDirection.UP, FlowDirection.DOWN]
    assert [each.name for each in downlink_rules(rules)] == ["a", "c"]
    assert [each.name for each in uplink_rules(rules)] == ["a", "b"]


@pytest.mark.parametrize("found", ["sideways", "", "Up"])
def test_another_direction_is_refused_with_all_there_are(found: str) -> None:
    with pytest.raises(RulesError) as refused:
        rule(found)
    assert str(refused.value) == f"option '--direction': found {found!r}, expected 'down', 'up' or 'both'"
