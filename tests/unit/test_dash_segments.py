"""The segments of representations: addresses, times, and when they can be had (ISO/IEC 23009-1 §5.3.9)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import islice

import pytest
from dash_documents import adaptation_set, mpd

from nf.common.dash.mpd import ByteRange
from nf.common.dash.parsing import parse
from nf.common.dash.segments import (
    Initialization,
    available_from,
    earliest_s,
    initialization_of,
    live_edge_s,
    period_at,
    segments,
)
from nf.common.dash.templates import expand

BASE = "http://cdn.example.com/"
LIVE = 'type="dynamic" availabilityStartTime="2026-01-31T12:00:00Z"'


def listed(addressing: str, attributes: str = 'mediaPresentationDuration="PT9S"', from_s: int = 0, most: int = 20):
    """(name, start, duration) of the segments of a presentation with this addressing."""
    body = f"<Period>{adaptation_set('video', {'v': 1000}, addressing)}</Period>"
    if "dynamic" in attributes:
        body = body.replace("<Period>", '<Period start="PT0S">')
    (period,) = parse(mpd(body, attributes), BASE).periods
    representation = period.adaptation_sets[0].representations[0]
    found = islice(segments(period, representation, Fraction(from_s)), most)
    return [(each.urls[0].removeprefix(BASE), float(each.start_s), float(each.duration_s)) for each in found]


def test_numbers_count_from_the_start_number_and_the_last_segment_ends_with_its_period() -> None:
    template = (
        '<SegmentTemplate media="$RepresentationID$_$Number%04d$" timescale="1000" duration="4000" startNumber="0"/>'
    )
    assert listed(template) == [("v_0000", 0, 4), ("v_0001", 4, 4), ("v_0002", 8, 1)]


def test_times_come_from_the_timeline() -> None:
    template = (
        '<SegmentTemplate media="$Time$" timescale="10" presentationTimeOffset="100">'
        '<SegmentTimeline><S t="100" d="20" r="1"/><S d="30"/><S t="180" d="5"/></SegmentTimeline></SegmentTemplate>'
    )
    assert listed(template) == [("100", 0, 2), ("120", 2, 2), ("140", 4, 3), ("180", 8, 0.5)]


def test_a_segment_that_repeats_without_end_ends_at_the_next_one_or_with_the_period() -> None:
    template = (
        '<SegmentTemplate media="$Time$"><SegmentTimeline><S t="0" d="2" r="-1"/><S t="4" d="3" r="-1"/>'
        "</SegmentTimeline></SegmentTemplate>"
    )
    assert listed(template) == [("0", 0, 2), ("2", 2, 2), ("4", 4, 3), ("7", 7, 2)]


def test_a_list_gives_resources_and_ranges() -> None:
    addressing = (
        '<SegmentList duration="4"><Initialization sourceURL="i" range="0-9"/><SegmentURL media="a"/>'
        '<SegmentURL media="b" mediaRange="5-8"/></SegmentList>'
    )
    assert listed(addressing) == [("a", 0, 4), ("b", 4, 4)]
    (period,) = parse(mpd(f"<Period>{adaptation_set('video', {'v': 1}, addressing)}</Period>"), BASE).periods
    representation = period.adaptation_sets[0].representations[0]
    assert [each.byte_range for each in segments(period, representation)] == [None, ByteRange(5, 8)]
    assert initialization_of(representation) == Initialization((f"{BASE}i",), ByteRange(0, 9))


def test_a_single_file_is_one_segment() -> None:
    assert listed("<BaseURL>v.mp4</BaseURL><SegmentBase indexRange='0-9'/>") == [("v.mp4", 0, 9)]


@pytest.mark.parametrize(("from_s", "first"), [(0, "1"), (2, "2"), (3, "2"), (1_000_000, "500001")])
def test_listing_begins_where_it_is_wanted(from_s: int, first: str) -> None:
    template = '<SegmentTemplate media="$Number$" duration="2"/>'
    assert listed(template, LIVE, from_s, most=1)[0][0] == first


def test_a_live_presentation_has_no_end_and_segments_come_when_they_are_complete() -> None:
    template = '<SegmentTemplate media="$Number$" duration="2" availabilityTimeOffset="0.5"/>'
    document = mpd(f'<Period start="PT10S">{adaptation_set("video", {"v": 1}, template)}</Period>', LIVE)
    presentation = parse(document, BASE)
    (period,) = presentation.periods
    third = next(islice(segments(period, period.adaptation_sets[0].representations[0]), 2, None))
    assert (third.number, third.start_s, third.end_s) == (3, 14, 16)
    assert available_from(presentation, third) == datetime(2026, 1, 31, 12, 0, 15, 500_000, tzinfo=UTC)


def test_the_live_edge_and_the_window_behind_it_move_with_time() -> None:
    start = datetime(2026, 1, 31, 12, tzinfo=UTC)
    period = f'<Period start="PT0S">{adaptation_set("video", {"v": 1})}</Period>'
    presentation = parse(mpd(period, f'{LIVE} timeShiftBufferDepth="PT30S"'))
    assert live_edge_s(presentation, start + timedelta(seconds=100.25)) == Fraction("100.25")
    assert earliest_s(presentation, start + timedelta(seconds=100.25)) == Fraction("70.25")
    assert earliest_s(presentation, start + timedelta(seconds=10)) == 0


def test_the_period_that_plays_is_found() -> None:
    sets = adaptation_set("video", {"v": 1})
    presentation = parse(mpd(f'<Period id="a" duration="PT4S">{sets}</Period><Period id="b">{sets}</Period>'))
    found = [period_at(presentation, Fraction(at)) for at in (0, 3, 4, 9, 10)]
    assert [each.id if each else None for each in found] == ["a", "a", "b", "b", None]


def test_templates_are_expanded() -> None:
    made = expand("$$/$RepresentationID$/$Bandwidth%07d$-$Time$", representation_id="v", bandwidth_bps=125, time=90)
    assert made == "$/v/0000125-90"


def test_a_timeline_of_years_is_entered_in_the_middle() -> None:
    template = (
        '<SegmentTemplate media="$Time$"><SegmentTimeline><S t="0" d="2" r="999999999999"/>'
        '<S d="3" r="999999999999999"/></SegmentTimeline></SegmentTemplate>'
    )
    assert listed(template, LIVE, 1_000_001, most=2) == [("1000000", 1_000_000, 2), ("1000002", 1_000_002, 2)]
    assert listed(template, LIVE, 2_000_000_000_002, most=1) == [("2000000000000", 2_000_000_000_000, 3)]


def test_segments_shorter_than_any_rounding_are_entered_at_once() -> None:
    template = '<SegmentTemplate media="$Number$" timescale="99999999999999999999" duration="2"/>'
    ((name, start_s, _),) = listed(template, LIVE, 5, most=1)
    assert start_s == pytest.approx(5.001)
    assert int(name) == pytest.approx(2.5005e20)
