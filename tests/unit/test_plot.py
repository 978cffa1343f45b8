"""The plot's series, and that every kind of picture can be drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from upf.compliance import TimeSlot
from upf.errors import UpfError
from upf.plot import MAX_BINS, RateSeries, draw
from upf.rules import Mode, Policer, Rule
from upf.sdf import parse_filter

MS = 10**6
FIRST = 17_000_000_000


def rule(name: str, rate_bps: int = 2_000_000, **options: bool) -> Rule:
    policer = Policer(rate_bps, 15_000) if rate_bps else None
    return Rule(name, 1, (parse_filter("permit out ip from any to any"),), policer, Mode.MONITOR, **options)


def test_rates_are_bytes_over_the_width_of_a_bin() -> None:
    series = RateSeries(100 * MS)
    series.add_slots([TimeSlot("a", FIRST, 25_000, 20_000, 5_000), TimeSlot("b", FIRST + 2, 10, 10, 0)])
    series.add_slots([TimeSlot("a", FIRST, 1_000, 0, 0)])
    assert (series.bins, series.bin_ns, series.start_ns) == (3, 100 * MS, FIRST * 100 * MS)
    assert series.rates_bps("a") == ([2_080_000, 0, 0], [1_600_000, 0, 0], [1_200_000, 0, 0])
    assert series.rates_bps("b")[0] == [0, 0, 800]
    assert (series.bytes_of("a"), series.bytes_of("c")) == (26_000, 0)


def test_bins_widen_until_a_long_time_fits_and_nothing_is_lost() -> None:
    series = RateSeries(100 * MS)
    series.add_slots(TimeSlot("a", FIRST + number, 100, 100, 0) for number in reversed(range(5_000)))
    assert series.bin_ns == 800 * MS
    assert series.bins <= MAX_BINS
    offered, passed, within = series.rates_bps("a")
    assert sum(offered) * series.bin_ns / 8e9 == 500_000
    assert offered == passed == within
    assert series.bytes_of("a") == 500_000


SOME = [rule("no rate", 0), rule("each", per_flow=True), rule("$tex_{x}$ and <b> markup & more"), *map(rule, "abcde")]


@pytest.mark.parametrize(
    ("rules", "suffix"),
    [
        ([], "png"),
        ([rule("one")], "png"),
        (SOME, "png"),
        (SOME, "svg"),
        (SOME, "pdf"),
        ([rule(f"rule {number}") for number in range(20)], "png"),
    ],
    ids=["no rules", "one", "eight", "svg", "pdf", "twenty"],
)
def test_a_picture_is_drawn_of_any_number_of_rules(tmp_path: Path, rules: list[Rule], suffix: str) -> None:
    series = RateSeries(100 * MS)
    for each in [*rules, rule("")]:
        series.add_slots(TimeSlot(each.name, FIRST + number, 30_000, 20_000, 100) for number in range(20))
    path = tmp_path / f"rates.{suffix}"
    draw(path, series, rules, title="in.pcap")
    starts = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF-"}
    assert path.read_bytes().startswith(starts[suffix])
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_of_nothing_is_one_too(tmp_path: Path) -> None:
    draw(tmp_path / "none.png", RateSeries(MS), [rule("silent")], title="empty.pcap")
    assert (tmp_path / "none.png").stat().st_size > 1_000


def test_a_name_that_tells_no_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UpfError, match=r"option '--plot': found '.*rates.gif', expected a name that ends in .png, .svg"
    ):
        draw(tmp_path / "rates.gif", RateSeries(MS), [], title="")
