from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from upf.errors import UpfError
from upf.rules import Aggregate, Marker, Mode, Policer, Rule, RulesError, RuleSet, in_order
from upf.rules_file import load_rules, parse_rules, parse_ue, rule_from_options
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
        (
            'speed = "5"',
            "key 'speed': unknown, expected one of name, precedence, flows, domains, direction, rate, burst, mode, "
            "per_flow, marker, excess_rate, excess_burst, colour_aware, gbr, gate, dscp, queue, aggregates",
        ),
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
        ('mode = "drop"', "key 'mode': found 'drop', expected 'monitor', 'police', 'mark' or 'shape'"),
        ("mode = {}", "key 'mode': found a table, expected 'monitor', 'police', 'mark' or 'shape'"),
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


def test_domains_stand_for_any_flow_that_has_one_of_them() -> None:
    (rule,) = rules_of(
        '[[rule]]\nname = "a"\ndomains = ["Video.Example.com.", "*.b.example.com", "video.example.com"]\n'
    )
    assert [str(each) for each in rule.filters] == [
        "permit out ip from any to any domain video.example.com",
        "permit out ip from any to any domain *.b.example.com",
    ]


def test_domains_beside_flows_say_what_these_must_have() -> None:
    (rule,) = rules_of(
        '[[rule]]\nname = "a"\ndomains = ["a.example.com", "b.example.com"]\n'
        'flows = ["permit out 6 from any 443 to any", "permit out 17 from any 443 to any"]\n'
    )
    assert [str(each) for each in rule.filters] == [
        f"permit out {protocol} from any 443 to any domain {name}.example.com" for protocol in (6, 17) for name in "ab"
    ]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('domains = "a.example"', "key 'domains': found 'a.example', expected a list of one name or more"),
        ("domains = []", "key 'domains': found [], expected a list of one name or more"),
        (
            'domains = ["a.example", 7]',
            "key 'domains[2]': found 7, expected a domain name, such as 'example.com' or '*.example.com'",
        ),
        ('domains = ["a.*.b"]', "key 'domains': found 'a.*.b': '*' stands only for the first label, before a name"),
        (
            'domains = ["a.example"]\nflows = ["permit out ip from any to any domain b.example"]',
            "key 'flows': found 'b.example', expected no domain in a filter beside key 'domains'",
        ),
    ],
)
def test_wrong_domains_are_named(body: str, problem: str) -> None:
    assert problems_of(f'[[rule]]\nname = "a"\n{body}\n') == (f"rules.toml: rule 'a': {problem}",)


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
        "rules.toml: key 'version': unknown, expected 'rule', 'aggregate' or 'session'",
        "rules.toml: rule 'a': key 'mode': found 'drop', expected 'monitor', 'police', 'mark' or 'shape'",
        "rules.toml: rule 'a': key 'rate': found '5', "
        "expected '<number> bps', Kbps, Mbps, Gbps or Tbps, such as '5 Mbps'",
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


def test_a_domain_is_an_option_like_a_flow() -> None:
    (rule,) = rule_from_options(flows=[], domains=["*.example.com"], rate="5 Mbps").rules
    assert [str(each) for each in rule.filters] == ["permit out ip from any to any domain *.example.com"]
    with pytest.raises(RulesError, match=r"option '--domain': found '-': '-' is no label"):
        rule_from_options(flows=[], domains=["-"])


def test_options_police_unless_told_to_monitor() -> None:
    (rule,) = rule_from_options(flows=[EVERYTHING]).rules
    assert (rule.policer, rule.mode, rule.per_flow) == (None, Mode.POLICE, False)


def test_wrong_options_are_named_all_at_once() -> None:
    with pytest.raises(RulesError) as refused:
        rule_from_options(flows=[EVERYTHING, "permit"], rate="fast", mode="drop", ue="ue")
    assert refused.value.problems == (
        "option '--ue': found 'ue', expected an IPv4 or IPv6 address, such as '10.45.0.2'",
        "option '--flow' (2): found 'permit': "
        "sdf filter: expected 'in' or 'out', got the end of the filter at column 7",
        "option '--mode': found 'drop', expected 'monitor', 'police', 'mark' or 'shape'",
        "option '--rate': found 'fast', expected '<number> bps', Kbps, Mbps, Gbps or Tbps, such as '5 Mbps'",
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


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"excess_burst_bytes": 1500}, "excess_burst_bytes: found 1500, expected 0: marker token-bucket has none"),
        ({"excess_rate_bps": 9000}, "excess_rate_bps: found 9000, expected 0: marker token-bucket has none"),
        ({"marker": Marker.SRTCM}, "excess_burst_bytes: found 0, expected 64 to 536870912"),
        (
            {"marker": Marker.SRTCM, "excess_burst_bytes": 1500, "excess_rate_bps": 9000},
            "excess_rate_bps: found 9000, expected 0: marker rfc2697 has none",
        ),
        (
            {"marker": Marker.TRTCM, "excess_burst_bytes": 1500, "excess_rate_bps": 7999},
            "excess_rate_bps: found 7999, expected 8000 to 10000000000000",
        ),
        (
            {"marker": Marker.DIFFSERV_TRTCM, "excess_burst_bytes": 2**29 + 1, "excess_rate_bps": 1},
            "excess_burst_bytes: found 536870913, expected 64 to 536870912",
        ),
        (
            {"marker": Marker.DIFFSERV_TRTCM, "excess_burst_bytes": 1500},
            "excess_rate_bps: found 0, expected 1 to 10000000000000",
        ),
    ],
)
def test_a_policer_has_the_buckets_of_its_marker_and_no_other(options: dict, problem: str) -> None:
    with pytest.raises(UpfError) as refused:
        Policer(8000, 1500, **options)
    assert str(refused.value) == f"policer: {problem}"


@pytest.mark.parametrize(
    ("policer", "filling_ns"),
    [
        (Policer(8_000, 1_000), 1_000_000_000),
        (Policer(7, 64), 73_142_857_143),
        # One rate fills both buckets, one after the other.
        (Policer(8_000, 1_000, Marker.SRTCM, 0, 2_000), 3_000_000_000),
        (Policer(8_000, 1_000, Marker.TRTCM, 16_000, 4_000), 2_000_000_000),
        (Policer(8_000, 1_000, Marker.DIFFSERV_TRTCM, 80_000, 4_000), 1_000_000_000),
    ],
)
def test_a_policer_knows_when_all_its_buckets_are_full(policer: Policer, filling_ns: int) -> None:
    assert policer.filling_ns == filling_ns


BUCKET = Policer(8_000, 1_000)


def refusal_of(**options: object) -> str:
    given = {"precedence": 1, "filters": (), "policer": BUCKET, "mode": Mode.POLICE, **options}
    with pytest.raises(UpfError) as refused:
        Rule("video", **given)  # type: ignore[arg-type]
    return str(refused.value)


def test_a_rule_has_four_aggregates_at_the_most_each_charged_once() -> None:
    four = tuple(Aggregate(name, BUCKET) for name in "abcd")
    assert Rule("video", 1, (), BUCKET, Mode.POLICE, aggregates=four).aggregates == four
    assert refusal_of(aggregates=(*four, Aggregate("e", BUCKET))) == (
        "rule 'video': aggregates: found 5, expected 4 at most"
    )
    twice = "rule 'video': aggregates: found 'a', expected buckets that the rule is not charged to already"
    assert refusal_of(aggregates=(four[0], four[0])) == twice
    assert refusal_of(bucket_id="a", aggregates=(four[0],)) == twice


def test_an_aggregate_is_a_token_bucket_with_an_id() -> None:
    with pytest.raises(UpfError, match=r"^aggregate: bucket_id: found '', expected an identifier$"):
        Aggregate("", BUCKET)
    with pytest.raises(UpfError, match=r"^aggregate 'a': marker: found rfc2697, expected token-bucket$"):
        Aggregate("a", Policer(8_000, 1_000, Marker.SRTCM, 0, 1_000))
    with pytest.raises(UpfError, match=r"^aggregate 'a': marker: found token-bucket, colour-aware, expected token-b"):
        Aggregate("a", Policer(8_000, 1_000, colour_aware=True))


@pytest.mark.parametrize("dscp", [(64, None, None), (0, -1, 0), (1, 2)])
def test_a_dscp_is_a_number_of_6_bits_for_each_colour(dscp: tuple) -> None:
    assert refusal_of(mode=Mode.MARK, dscp=dscp) == (
        f"rule 'video': dscp: found {dscp}, expected for green, yellow and red each None or 0 to 63"
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"policer": None}, "policer: found none, expected one: mode shape needs a bit rate"),
        (
            {"policer": Policer(8_000, 1_000, Marker.SRTCM, 0, 1_000)},
            "marker: found rfc2697, expected a colour-blind token-bucket: mode shape",
        ),
        ({"queue_bytes": 1, "queue_ns": 1}, "queue_ns: found 1, expected 0 beside queue_bytes 1"),
        (
            {"queue_bytes": 2**29 + 1},
            "queue: found 536870913 B, 0 ns at 8000 bps, expected 0 to 512 MiB: "
            "beyond it the bucket's arithmetic would leave 64 bits",
        ),
        (
            {"queue_ns": 2**29 * 1_000_000 + 1},
            "queue: found 0 B, 536870912000001 ns at 8000 bps, expected 0 to 512 MiB: "
            "beyond it the bucket's arithmetic would leave 64 bits",
        ),
        (
            {"queue_bytes": -1},
            "queue: found -1 B, 0 ns at 8000 bps, expected 0 to 512 MiB: "
            "beyond it the bucket's arithmetic would leave 64 bits",
        ),
    ],
)
def test_a_shaping_rule_needs_one_bucket_and_a_queue_within_the_arithmetic(options: dict, problem: str) -> None:
    assert refusal_of(mode=Mode.SHAPE, **options) == f"rule 'video': {problem}"


def test_a_rule_knows_when_all_its_buckets_are_full_and_its_queue_is_empty() -> None:
    shaped = Rule("video", 1, (), BUCKET, Mode.SHAPE, queue_bytes=500)
    assert shaped.filling_ns == 1_500_000_000
    assert replace(shaped, queue_bytes=0, queue_ns=7).filling_ns == 1_000_000_007
    above = Aggregate("session", Policer(8_000, 5_000))
    assert replace(shaped, aggregates=(above,)).filling_ns == 5_000_000_000
    assert Rule("video", 1, (), None, Mode.POLICE, aggregates=(above,)).filling_ns == 5_000_000_000
    assert Rule("video", 1, (), None, Mode.POLICE).filling_ns == 0


def test_a_bucket_that_is_one_rules_own_may_stand_above_another() -> None:
    session = Rule("a", 1, (), BUCKET, Mode.POLICE, bucket_id="session")
    flow = Rule("b", 1, (), Policer(4_000, 500), Mode.POLICE, aggregates=(Aggregate("session", BUCKET),))
    assert in_order([session, flow]) == (session, flow)
    with pytest.raises(RulesError, match=r"^rule 'b': bucket 'session' has other parameters in rule 'a'$"):
        in_order([replace(session, mode=Mode.SHAPE), flow])


def test_a_bucket_for_each_flow_is_shared_with_no_rule() -> None:
    each = Rule("a", 1, (), BUCKET, Mode.POLICE, per_flow=True, bucket_id="session")
    shared = Rule("b", 1, (), Policer(4_000, 500), Mode.POLICE, bucket_id="session")
    assert in_order([each, shared]) == (each, shared)


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
    modules = [
        "errors",
        "units",
        "sdf",
        "rules",
        "rules_file",
        "rule_keys",
        "policing_keys",
        "dscp",
        "capture",
        "policing",
        "parsing",
        "enforcement",
        "reference",
    ]
    program = f"import sys, {', '.join(f'upf.{name}' for name in modules)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    roots = {name.partition(".")[0] for name in loaded}
    # "google" is named by the path file of its namespace package, but nothing of it is loaded.
    assert not roots & {"grpc", "sqlalchemy", "sqlite3", "httpx", "starlette", "hypercorn", "pydantic", "scapy", "nf"}
    assert not [name for name in loaded if name.startswith("google.protobuf")]
    assert not [name for name in loaded if name.startswith(("upf.n4", "upf.traffic"))]
