from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from upf.errors import UpfError
from upf.rules import (
    Mode,
    Policer,
    Rule,
    RulesError,
    RuleSet,
    in_order,
    load_rules,
    parse_rules,
    parse_ue,
    rule_from_options,
)
from upf.sdf import parse_filter

EVERYTHING = "permit out ip from any to any"


def rules_of(text: str) -> tuple[Rule, ...]:
    return parse_rules(text, source="rules.toml").rules


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(RulesError) as refused:
        parse_rules(text, source="rules.toml")
    assert str(refused.value) == "\n".join(refused.value.problems)
    return refused.value.problems


def problems_of_rule(body: str) -> tuple[str, ...]:
    return problems_of(f'[[rule]]\nname = "video"\nflows = ["{EVERYTHING}"]\n{body}')


def test_a_rules_file_gives_its_rules_as_written(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(
        """
        [[rule]]
        name = "video"
        precedence = 10
        flows = ["permit out 17 from 198.51.100.0/24 443 to assigned", "permit out 6 from any 80 to assigned"]
        rate = "5 Mbps"
        burst = "50 ms"
        mode = "monitor"
        per_flow = true

        [[rule]]
        name = "rest"
        flows = ["permit out ip from any to assigned"]
        """
    )
    ue = parse_ue("10.45.0.2")
    assert load_rules(path, ue=ue) == RuleSet(
        (
            Rule(
                name="video",
                precedence=10,
                filters=(
                    parse_filter("permit out 17 from 198.51.100.0/24 443 to 10.45.0.2"),
                    parse_filter("permit out 6 from any 80 to 10.45.0.2"),
                ),
                policer=Policer(5_000_000, 31_250),
                mode=Mode.MONITOR,
                per_flow=True,
            ),
            Rule(
                name="rest",
                precedence=100,
                filters=(parse_filter("permit out ip from any to 10.45.0.2"),),
                policer=None,
                mode=Mode.POLICE,
            ),
        )
    )


def test_a_rule_has_100_ms_of_burst_unless_it_says_otherwise() -> None:
    (rule,) = rules_of(f'[[rule]]\nname = "a"\nflows = ["{EVERYTHING}"]\nrate = "5 Mbps"')
    assert rule.policer == Policer(5_000_000, 62_500)
    (rule,) = rules_of(f'[[rule]]\nname = "a"\nflows = ["{EVERYTHING}"]\nrate = "64 Kbps"')
    assert rule.policer == Policer(64_000, 15_000)


def test_a_burst_below_one_mtu_is_taken_with_a_warning() -> None:
    text = f'[[rule]]\nname = "a"\nflows = ["{EVERYTHING}"]\nrate = "5 Mbps"\nburst = "%d B"'
    assert parse_rules(text % 1499, source="rules.toml").warnings == (
        "rules.toml: rule 'a': key 'burst': 1499 B: packets longer than that never conform",
    )
    assert parse_rules(text % 1500, source="rules.toml").warnings == ()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('speed = "5"', "key 'speed': unknown, expected one of name, precedence, flows, rate, burst, mode, per_flow"),
        ('precedence = "1"', "key 'precedence': found '1', expected an integer 0 to 4294967295"),
        ("precedence = true", "key 'precedence': found true, expected an integer 0 to 4294967295"),
        ("precedence = -1", "key 'precedence': found -1, expected an integer 0 to 4294967295"),
        ("precedence = 1.5", "key 'precedence': found 1.5, expected an integer 0 to 4294967295"),
        ("rate = 5", "key 'rate': found 5, expected a string such as '5 Mbps'"),
        (
            'rate = "5 Mb"',
            "key 'rate': found '5 Mb', expected '<number> bps', Kbps, Mbps, Gbps or Tbps, such as '5 Mbps'",
        ),
        ('burst = "5 ms"', "key 'burst': found '5 ms', expected key 'rate' beside it"),
        ('rate = "5 Mbps"\nburst = 5', "key 'burst': found 5, expected a string such as '125000 B' or '50 ms'"),
        (
            'rate = "5 Mbps"\nburst = "63 B"',
            "key 'burst': found '63 B', expected at least 64 B: fewer would let no packet pass",
        ),
        ('mode = "shape"', "key 'mode': found 'shape', expected 'monitor' or 'police'"),
        ("mode = {}", "key 'mode': found a table, expected 'monitor' or 'police'"),
        ("per_flow = 1", "key 'per_flow': found 1, expected true or false"),
    ],
)
def test_a_wrong_key_is_named_with_its_rule_its_value_and_what_was_expected(body: str, problem: str) -> None:
    assert problems_of_rule(body) == (f"rules.toml: rule 'video': {problem}",)


@pytest.mark.parametrize(
    ("flows", "problem"),
    [
        ("", "key 'flows': missing, expected a list of one filter or more"),
        ("flows = []", "key 'flows': found [], expected a list of one filter or more"),
        (f'flows = "{EVERYTHING}"', f"key 'flows': found '{EVERYTHING}', expected a list of one filter or more"),
        (
            f'flows = ["{EVERYTHING}", 5]',
            "key 'flows[2]': found 5, expected a filter such as 'permit out 17 from any 443 to assigned'",
        ),
        (
            f'flows = ["{EVERYTHING}", "permit out udp from any to any"]',
            "key 'flows[2]': found 'permit out udp from any to any': sdf filter: "
            "expected 'ip' or a protocol number 0..255, got 'udp' (its number is 17) at column 12",
        ),
        ('flows = ["allow"]', "key 'flows': found 'allow': sdf filter: expected 'permit', got 'allow' at column 1"),
    ],
)
def test_a_wrong_filter_is_named_with_its_column(flows: str, problem: str) -> None:
    assert problems_of(f'[[rule]]\nname = "video"\n{flows}') == (f"rules.toml: rule 'video': {problem}",)


def test_a_rule_without_a_name_is_named_by_its_position() -> None:
    flows = f'flows = ["{EVERYTHING}"]'
    assert problems_of(f'[[rule]]\nname = "a"\n{flows}\n[[rule]]\n{flows}\n[[rule]]\nname = ""\n{flows}') == (
        "rules.toml: rule 2: key 'name': missing, expected a string",
        "rules.toml: rule 3: key 'name': found '', expected a name",
    )


def test_every_problem_of_a_file_is_reported_at_once() -> None:
    assert problems_of(
        """
        version = 1
        [[rule]]
        name = "a"
        flows = ["permit out ip from any to any"]
        rate = "5"
        mode = "drop"
        [[rule]]
        name = "a"
        """
    ) == (
        "rules.toml: key 'version': unknown, expected 'rule'",
        "rules.toml: rule 'a': key 'rate': found '5', "
        "expected '<number> bps', Kbps, Mbps, Gbps or Tbps, such as '5 Mbps'",
        "rules.toml: rule 'a': key 'mode': found 'drop', expected 'monitor' or 'police'",
        "rules.toml: rule 'a': key 'flows': missing, expected a list of one filter or more",
        "rules.toml: rule 'a': key 'name': found 'a' in rules 1 and 2, expected a name of its own",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "rules.toml: key 'rule': missing, expected one [[rule]] or more"),
        ("rule = 5", "rules.toml: key 'rule': found 5, expected one [[rule]] or more"),
        ("rule = []", "rules.toml: key 'rule': found [], expected one [[rule]] or more"),
        ("[rule]", "rules.toml: key 'rule': found a table, expected one [[rule]] or more"),
        ("rule = [5]", "rules.toml: key 'rule': found [5], expected one [[rule]] or more"),
    ],
)
def test_a_file_without_rules_is_refused(text: str, problem: str) -> None:
    assert problems_of(text) == (problem,)


def test_a_file_that_is_not_toml_is_refused_with_the_line() -> None:
    (problem,) = problems_of("[[rule]]\nname = video\n")
    assert problem.startswith("rules.toml: not TOML: ")
    assert "line 2" in problem


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RulesError) as refused:
        load_rules(tmp_path / "none.toml")
    assert str(refused.value) == f"{tmp_path}/none.toml: cannot read the rules file: No such file or directory"
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RulesError) as refused:
        load_rules(tmp_path / "bytes.toml")
    assert str(refused.value) == f"{tmp_path}/bytes.toml: not a rules file: it is not UTF-8 text"


def test_options_make_one_rule() -> None:
    made = rule_from_options(
        flows=["permit out 17 from 198.51.100.7 443 to assigned"],
        rate="5 Mbps",
        burst="15000 B",
        mode="monitor",
        per_flow=True,
        ue="10.45.0.2",
    )
    assert made == RuleSet(
        (
            Rule(
                name="rule",
                precedence=100,
                filters=(parse_filter("permit out 17 from 198.51.100.7 443 to 10.45.0.2"),),
                policer=Policer(5_000_000, 15_000),
                mode=Mode.MONITOR,
                per_flow=True,
            ),
        )
    )


def test_options_police_unless_told_to_monitor() -> None:
    (rule,) = rule_from_options(flows=[EVERYTHING]).rules
    assert (rule.policer, rule.mode, rule.per_flow) == (None, Mode.POLICE, False)


def test_wrong_options_are_named_all_at_once() -> None:
    with pytest.raises(RulesError) as refused:
        rule_from_options(flows=[EVERYTHING, "permit"], rate="fast", mode="shape", ue="ue")
    assert refused.value.problems == (
        "option '--ue': found 'ue', expected an IPv4 or IPv6 address, such as '10.45.0.2'",
        "option '--flow' (2): found 'permit': "
        "sdf filter: expected 'in' or 'out', got the end of the filter at column 7",
        "option '--rate': found 'fast', expected '<number> bps', Kbps, Mbps, Gbps or Tbps, such as '5 Mbps'",
        "option '--mode': found 'shape', expected 'monitor' or 'police'",
    )


@pytest.mark.parametrize(
    ("flows", "burst", "problem"),
    [
        ([], None, "option '--flow': missing, expected a filter such as 'permit out ip from any to assigned'"),
        ([EVERYTHING], "5 ms", "option '--burst': found '5 ms', expected option '--rate' beside it"),
    ],
)
def test_options_that_need_another_say_which(flows: list[str], burst: str | None, problem: str) -> None:
    with pytest.raises(RulesError) as refused:
        rule_from_options(flows=flows, burst=burst)
    assert refused.value.problems == (problem,)


def test_a_small_burst_among_the_options_gives_a_warning() -> None:
    made = rule_from_options(flows=[EVERYTHING], rate="5 Mbps", burst="100 B")
    assert made.warnings == ("option '--burst': 100 B: packets longer than that never conform",)


@pytest.mark.parametrize(("rate_bps", "burst_bytes"), [(0, 1500), (10**13 + 1, 1500), (1, 63), (1, 2**29 + 1)])
def test_a_policer_outside_the_exact_arithmetic_cannot_be_made(rate_bps: int, burst_bytes: int) -> None:
    with pytest.raises(UpfError, match=r"^policer: "):
        Policer(rate_bps, burst_bytes)


def test_rules_are_tried_by_precedence_and_then_as_given() -> None:
    rule = Rule("a", 5, (parse_filter(EVERYTHING),), None, Mode.POLICE)
    given = [
        rule,
        replace(rule, name="b", precedence=3),
        replace(rule, name="c"),
        replace(rule, name="d", precedence=3),
    ]
    assert [each.name for each in in_order(given)] == ["b", "d", "a", "c"]


def test_rules_that_contradict_each_other_are_refused() -> None:
    rule = Rule("a", 5, (parse_filter(EVERYTHING),), Policer(1000, 1500), Mode.POLICE, bucket_id="x")
    other = replace(rule, name="b", policer=Policer(2000, 1500))
    with pytest.raises(RulesError) as refused:
        in_order([rule, rule, other])
    assert refused.value.problems == (
        "rule 'a': the name is taken by another rule",
        "rule 'b': bucket 'x' has other parameters in rule 'a'",
    )


def test_the_rules_and_the_oracle_start_without_grpc_a_database_or_http() -> None:
    modules = ["errors", "units", "sdf", "rules", "capture", "policing", "parsing", "reference"]
    program = f"import sys, {', '.join(f'upf.{name}' for name in modules)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    roots = {name.partition(".")[0] for name in loaded}
    # "google" is named by the path file of its namespace package, but nothing of it is loaded.
    assert not roots & {"grpc", "sqlalchemy", "sqlite3", "httpx", "starlette", "hypercorn", "pydantic", "scapy", "nf"}
    assert not [name for name in loaded if name.startswith("google.protobuf")]
    assert not [name for name in loaded if name.startswith(("upf.n4", "upf.traffic"))]
