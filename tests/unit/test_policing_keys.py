"""What a rules file and the options say of markers, aggregates, gates, marking and shaping."""

from __future__ import annotations

import pytest

from upf.dscp import dscp_of
from upf.rules import Aggregate, Marker, Mode, Policer, Rule, RulesError, RuleSet
from upf.rules_file import parse_rules, rule_from_options
from upf.units import UnitError, default_queue_bytes, parse_queue

EVERYTHING = "permit out ip from any to any"
HEAD = f'[[rule]]\nname = "video"\nflows = ["{EVERYTHING}"]\n'


def rule_set_of(body: str) -> RuleSet:
    return parse_rules(HEAD + body, source="rules.toml")


def rule_of(body: str) -> Rule:
    (rule,) = rule_set_of(body).rules
    return rule


def problems_of(body: str) -> tuple[str, ...]:
    with pytest.raises(RulesError) as refused:
        rule_set_of(body)
    return refused.value.problems


@pytest.mark.parametrize(
    ("body", "policer"),
    [
        ('rate = "5 Mbps"\nmarker = "rfc2697"', Policer(5_000_000, 62_500, Marker.SRTCM, 0, 62_500)),
        (
            'rate = "5 Mbps"\nmarker = "rfc2697"\nburst = "10 ms"\nexcess_burst = "20 ms"\ncolour_aware = true',
            Policer(5_000_000, 6_250, Marker.SRTCM, 0, 12_500, colour_aware=True),
        ),
        (
            'rate = "5 Mbps"\nmarker = "rfc2698"\nexcess_rate = "10 Mbps"\nexcess_burst = "10 ms"',
            Policer(5_000_000, 62_500, Marker.TRTCM, 10_000_000, 12_500),
        ),
        (
            'rate = "5 Mbps"\nmarker = "rfc4115"\nexcess_rate = "1 Mbps"',
            Policer(5_000_000, 62_500, Marker.DIFFSERV_TRTCM, 1_000_000, 15_000),
        ),
        # The burst is a time at either rate, or a size of both.
        (
            'rate = "8 Mbps"\ngbr = "4 Mbps"\nburst = "50 ms"',
            Policer(4_000_000, 25_000, Marker.TRTCM, 8_000_000, 50_000),
        ),
        ('rate = "8 Mbps"\ngbr = "4 Mbps"', Policer(4_000_000, 50_000, Marker.TRTCM, 8_000_000, 100_000)),
        (
            'rate = "8 Mbps"\nmarker = "token-bucket"\ncolour_aware = true',
            Policer(8_000_000, 100_000, colour_aware=True),
        ),
    ],
)
def test_a_marker_has_the_rates_and_depths_that_the_file_gives_it(body: str, policer: Policer) -> None:
    assert rule_of(body).policer == policer


def test_gate_marking_and_shaping_are_as_written() -> None:
    assert not rule_of('gate = "closed"').gate_open
    assert rule_of('gate = "open"').gate_open
    marked = rule_of('mode = "mark"\nrate = "1 Mbps"\ndscp = {green = "AF11", yellow = "af12", red = 8}')
    assert (marked.mode, marked.dscp) == (Mode.MARK, (10, 12, 8))
    assert rule_of('mode = "mark"\ndscp = {green = "EF"}').dscp == (46, None, None)
    shaped = rule_of('mode = "shape"\nrate = "1 Mbps"\nqueue = "100 KB"')
    assert (shaped.mode, shaped.queue_bytes, shaped.queue_ns) == (Mode.SHAPE, 100_000, 0)
    shaped = rule_of('mode = "shape"\nrate = "1 Mbps"\nqueue = "200 ms"')
    assert (shaped.queue_bytes, shaped.queue_ns) == (0, 200_000_000)
    assert rule_of('mode = "shape"\nrate = "1 Mbps"').queue_bytes == 25_000


def test_a_rule_is_charged_to_the_aggregates_that_it_names() -> None:
    session = '[[aggregate]]\nname = "session"\nrate = "20 Mbps"\nburst = "50 ms"\n'
    cell = '[[aggregate]]\nname = "cell"\nrate = "100 Mbps"\n'
    assert rule_of(f'aggregates = ["cell", "session"]\n{session}{cell}').aggregates == (
        Aggregate("cell", Policer(100_000_000, 1_250_000)),
        Aggregate("session", Policer(20_000_000, 125_000)),
    )


AGGREGATES = "a list of names of [[aggregate]], 4 at most, each once"
CELL = '\n[[aggregate]]\nname = "cell"\nrate = "1 Mbps"'
RATE = 'rate = "5 Mbps"\n'


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (
            RATE + 'marker = "srtcm"',
            "key 'marker': found 'srtcm', expected 'token-bucket', 'rfc2697', 'rfc2698' or 'rfc4115'",
        ),
        ('marker = "rfc2697"', "key 'marker': found 'rfc2697', expected key 'rate' beside it"),
        ("colour_aware = true", "key 'colour_aware': found true, expected key 'rate' beside it"),
        ('gbr = "5 Mbps"', "key 'gbr': found '5 Mbps', expected key 'rate' beside it"),
        (RATE + "colour_aware = 1", "key 'colour_aware': found 1, expected true or false"),
        (
            RATE + 'excess_rate = "1 Mbps"',
            "key 'excess_rate': found '1 Mbps', expected key 'marker' 'rfc2698' or 'rfc4115' beside it",
        ),
        (
            RATE + 'excess_burst = "1 KB"',
            "key 'excess_burst': found '1 KB', expected key 'marker' of three colours beside it",
        ),
        (RATE + 'marker = "rfc2698"', "key 'excess_rate': missing, expected the peak rate of 'rfc2698'"),
        (RATE + 'marker = "rfc4115"', "key 'excess_rate': missing, expected the excess rate of 'rfc4115'"),
        (
            RATE + 'marker = "rfc2698"\nexcess_rate = "4 Mbps"',
            "key 'excess_rate': found '4 Mbps', expected at least the rate, 5 Mbps: the peak",
        ),
        (
            RATE + 'marker = "rfc2698"\nexcess_rate = "6"',
            "key 'excess_rate': found '6', expected '<number> bps', Kbps, Mbps, Gbps or Tbps, such as '5 Mbps'",
        ),
        (
            RATE + 'marker = "rfc2697"\nexcess_burst = "63 B"',
            "key 'excess_burst': found '63 B', expected at least 64 B: fewer would let no packet pass",
        ),
        (
            RATE + 'marker = "rfc2697"\nexcess_burst = "513 MiB"',
            "key 'excess_burst': found '513 MiB', "
            "expected at most 512 MiB: beyond it the bucket's arithmetic would leave 64 bits",
        ),
        (RATE + 'gbr = "6 Mbps"', "key 'gbr': found '6 Mbps', expected at most the rate, 5 Mbps"),
        (RATE + 'gbr = "1 Mbps"\nmarker = "rfc2697"', "key 'marker': found 'rfc2697', expected none beside key 'gbr'"),
        (RATE + 'gbr = "1 Mbps"\nmode = "shape"', "key 'gbr': found '1 Mbps', expected none with key 'mode' 'shape'"),
        ('gate = "shut"', "key 'gate': found 'shut', expected 'open' or 'closed'"),
        ("gate = false", "key 'gate': found false, expected 'open' or 'closed'"),
        ('mode = "mark"', "key 'mode': found 'mark', expected key 'dscp' beside it"),
        ('dscp = {red = "EF"}', "key 'dscp': found a table, expected key 'mode' 'mark' beside it"),
        (
            'mode = "mark"\ndscp = "EF"',
            "key 'dscp': found 'EF', expected a table such as {red = 'CS1'}, of green, yellow and red",
        ),
        (
            'mode = "mark"\ndscp = {}',
            "key 'dscp': found a table, expected a table such as {red = 'CS1'}, of green, yellow and red",
        ),
        (
            'mode = "mark"\ndscp = {amber = 1, red = 2}',
            "key 'dscp': 'amber': unknown, expected green, yellow or red",
        ),
        (
            'mode = "mark"\ndscp = {red = "AF44"}',
            "key 'dscp.red': found 'AF44', expected a name such as 'AF12', 'EF' or 'CS1', or a number 0 to 63",
        ),
        (
            'mode = "mark"\ndscp = {red = 64}',
            "key 'dscp.red': found 64, expected a name such as 'AF12', 'EF' or 'CS1', or a number 0 to 63",
        ),
        ('mode = "shape"', "key 'mode': found 'shape', expected key 'rate' beside it"),
        (RATE + 'queue = "1 KB"', "key 'queue': found '1 KB', expected key 'mode' 'shape' beside it"),
        (
            RATE + 'mode = "shape"\nmarker = "rfc2697"',
            "key 'marker': found 'rfc2697', expected 'token-bucket' with key 'mode' 'shape'",
        ),
        (
            RATE + 'mode = "shape"\ncolour_aware = true',
            "key 'colour_aware': found true, expected false with key 'mode' 'shape'",
        ),
        (
            RATE + 'mode = "shape"\nqueue = "5"',
            "key 'queue': found '5', "
            "expected bytes ('100 KB', also B, MB, KiB, MiB) or time at the rate ('200 ms', also ns, us, s)",
        ),
        (
            RATE + 'mode = "shape"\nqueue = "859 s"',
            "key 'queue': found '859 s', "
            "expected at most 512 MiB at 5 Mbps: beyond it the bucket's arithmetic would leave 64 bits",
        ),
        ('aggregates = "cell"' + CELL, f"key 'aggregates': found 'cell', expected {AGGREGATES}"),
        ('aggregates = ["cell", "cell"]' + CELL, f"key 'aggregates': found ['cell', 'cell'], expected {AGGREGATES}"),
        ('aggregates = ["cel"]' + CELL, "key 'aggregates': found 'cel', expected one of 'cell'"),
        ('aggregates = ["cell", 5]' + CELL, "key 'aggregates[2]': found 5, expected one of 'cell'"),
        ('aggregates = ["cell"]', "key 'aggregates': found 'cell', expected an [[aggregate]] of that name"),
    ],
)
def test_a_wrong_policing_key_is_named_with_what_was_found_and_expected(body: str, problem: str) -> None:
    assert problems_of(body) == (f"rules.toml: rule 'video': {problem}",)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("[[aggregate]]\nname = 'a'", "aggregate 'a': key 'rate': missing, expected a string such as '5 Mbps'"),
        ("[[aggregate]]\nrate = '1 Mbps'", "aggregate 1: key 'name': missing, expected a string"),
        (
            "[[aggregate]]\nname = 'a'\nrate = '1 Mbps'\nmode = 'police'",
            "aggregate 'a': key 'mode': unknown, expected one of name, rate, burst",
        ),
        (
            "[[aggregate]]\nname = 'a'\nrate = '1 Mbps'\nburst = '1 B'",
            "aggregate 'a': key 'burst': found '1 B', expected at least 64 B: fewer would let no packet pass",
        ),
        (
            "[[aggregate]]\nname = 'a'\nrate = '1 Mbps'\n[[aggregate]]\nname = 'a'\nrate = '1 Mbps'",
            "aggregate 'a': key 'name': found 'a', expected a name of its own",
        ),
        ("[aggregate]", "key 'aggregate': found a table, expected one [[aggregate]] or more"),
    ],
)
def test_a_wrong_aggregate_is_named(body: str, problem: str) -> None:
    assert problems_of(body) == (f"rules.toml: {problem}",)


def test_every_bucket_below_one_mtu_is_warned_of() -> None:
    marked = rule_set_of(RATE + 'marker = "rfc4115"\nexcess_rate = "1 Mbps"\nburst = "1499 B"\nexcess_burst = "100 B"')
    assert marked.warnings == (
        "rules.toml: rule 'video': key 'burst': 1499 B: packets longer than that are never green",
        "rules.toml: rule 'video': key 'excess_burst': 100 B: packets longer than that are never yellow",
    )
    peak = rule_set_of(RATE + 'marker = "rfc2698"\nexcess_rate = "5 Mbps"\nexcess_burst = "100 B"')
    assert peak.warnings == (
        "rules.toml: rule 'video': key 'excess_burst': 100 B: packets longer than that never conform",
    )
    assert rule_set_of(RATE + 'gbr = "1 Mbps"\nburst = "5 ms"').warnings == (
        "rules.toml: rule 'video': key 'burst': 625 B: packets longer than that are never green",
    )
    assert rule_set_of("[[aggregate]]\nname = 'a'\nrate = '1 Mbps'\nburst = '100 B'").warnings == (
        "rules.toml: aggregate 'a': key 'burst': 100 B: packets longer than that never conform",
    )


def test_options_mark_and_shape() -> None:
    (marked,) = rule_from_options(
        flows=[EVERYTHING], rate="1 Mbps", mode="mark", dscp=["red=CS1", "green=EF,yellow=0"]
    ).rules
    assert (marked.mode, marked.dscp) == (Mode.MARK, (46, 0, 8))
    (shaped,) = rule_from_options(flows=[EVERYTHING], rate="1 Mbps", mode="shape", queue="20 KB").rules
    assert (shaped.mode, shaped.queue_bytes) == (Mode.SHAPE, 20_000)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"mode": "mark"}, "option '--mode': found 'mark', expected option '--dscp' beside it"),
        ({"dscp": ["red=1"]}, "option '--dscp': found a table, expected option '--mode' 'mark' beside it"),
        (
            {"mode": "mark", "dscp": ["red=1", "CS1"]},
            "option '--dscp': found 'CS1', expected a colour and a DSCP, such as 'red=CS1'",
        ),
        (
            {"mode": "mark", "dscp": ["red=CS9"]},
            "option '--dscp' (red): found 'CS9', expected a name such as 'AF12', 'EF' or 'CS1', or a number 0 to 63",
        ),
        ({"queue": "1 KB"}, "option '--queue': found '1 KB', expected option '--mode' 'shape' beside it"),
        ({"mode": "shape"}, "option '--mode': found 'shape', expected option '--rate' beside it"),
    ],
)
def test_wrong_options_of_marking_and_shaping_are_named(options: dict, problem: str) -> None:
    with pytest.raises(RulesError) as refused:
        rule_from_options(flows=[EVERYTHING], **options)
    assert refused.value.problems == (problem,)


@pytest.mark.parametrize(
    ("value", "dscp"),
    [
        ("AF11", 10), ("af43", 38), ("EF", 46), ("CS0", 0), ("CS7", 56), ("LE", 1), ("DF", 0), ("VOICE-ADMIT", 44),
        ("63", 63), (63, 63), (0, 0), (64, None), (-1, None), ("64", None), ("AF14", None), ("", None), (True, None),
        (1.0, None), ("9999", None), ("١", None),
    ],
)  # fmt: skip
def test_a_code_point_has_a_name_or_a_number(value: object, dscp: int | None) -> None:
    assert dscp_of(value) == dscp


def test_a_queue_is_a_size_or_a_time() -> None:
    assert parse_queue("1.5 KB", 8_000) == (1_500, 0)
    assert parse_queue("0 B", 8_000) == (0, 0)
    assert parse_queue("0.5 us", 8_000) == (0, 500)
    assert parse_queue("512 MiB", 8_000) == (2**29, 0)
    for text in ("0.5 B", "0.5 ns", "513 MiB", "5", "5 Mbps"):
        with pytest.raises(UnitError, match=r"^queue: found '"):
            parse_queue(text, 8_000)
    assert [default_queue_bytes(rate_bps) for rate_bps in (1_000, 8_000_000, 10**13)] == [15_000, 200_000, 2**29]
