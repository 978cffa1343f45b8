"""MPDs into data: what each element says, what it inherits, and what is refused and how (ISO/IEC 23009-1 §5)."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

import pytest
from dash_documents import NAMESPACE, adaptation_set, mpd, title

from nf.common.dash.errors import MpdError
from nf.common.dash.mpd import ByteRange, Resource, SegmentBase, SegmentList, SegmentTemplate, TimelineEntry
from nf.common.dash.parsing import parse
from nf.common.dash.service_descriptions import (
    Latency,
    OperatingBandwidth,
    OperatingQuality,
    PlaybackRate,
    Scope,
    ServiceDescription,
)

VIDEO = {"hd": 4_000_000}


def only(document: bytes, url: str = "http://cdn.example.com/a/b.mpd"):
    """The one representation of a document."""
    (period,) = parse(document, url).periods
    (adaptation,) = period.adaptation_sets
    (representation,) = adaptation.representations
    return representation


def test_a_dynamic_mpd_has_its_times() -> None:
    found = parse(
        mpd(
            f'<Location>../now.mpd</Location><Period start="PT0S">{adaptation_set("video", VIDEO)}</Period>',
            'type="dynamic" availabilityStartTime="2026-01-31T12:00:00+01:00" publishTime="2026-02-01T00:00:00.25Z" '
            'minimumUpdatePeriod="PT2S" timeShiftBufferDepth="PT1M30.5S" suggestedPresentationDelay="PT4S" '
            'minBufferTime="PT1S" maxSegmentDuration="PT2.5S" profiles="urn:a, urn:b"',
        ),
        "http://cdn.example.com/live/a.mpd",
    )
    assert found.dynamic
    assert found.availability_start_time == datetime(2026, 1, 31, 11, tzinfo=UTC)
    assert found.publish_time == datetime(2026, 2, 1, 0, 0, 0, 250_000, tzinfo=UTC)
    assert found.minimum_update_period_s == 2
    assert found.time_shift_buffer_depth_s == Fraction("90.5")
    assert found.suggested_presentation_delay_s == 4
    assert found.max_segment_duration_s == Fraction("2.5")
    assert found.locations == ("http://cdn.example.com/now.mpd",)
    assert found.profiles == ("urn:a", "urn:b")
    assert found.end_s is None


def test_base_urls_of_every_level_are_resolved_and_alternatives_multiplied() -> None:
    document = mpd(
        "<BaseURL>http://one.example.com/m/</BaseURL><BaseURL>two/</BaseURL>"
        "<Period><BaseURL>p1/</BaseURL>"
        '<AdaptationSet mimeType="video/mp4"><BaseURL>v/</BaseURL>'
        '<Representation id="a" bandwidth="1"><BaseURL>a.mp4</BaseURL></Representation></AdaptationSet></Period>'
    )
    assert only(document).base_urls == (
        "http://one.example.com/m/p1/v/a.mp4",
        "http://cdn.example.com/a/two/p1/v/a.mp4",
    )
    assert only(document).addressing == SegmentBase(None, None, 1, 0)


def test_a_template_is_merged_from_all_levels() -> None:
    document = mpd(
        '<Period><SegmentTemplate timescale="90000" startNumber="7" duration="180000" media="x"/>'
        '<AdaptationSet mimeType="video/mp4"><SegmentTemplate media="$RepresentationID$/$Number%05d$.m4s" '
        'presentationTimeOffset="9000" availabilityTimeOffset="1.5"/><Representation id="a" bandwidth="1">'
        '<SegmentTemplate initialization="$RepresentationID$.mp4" endNumber="9"/>'
        "</Representation></AdaptationSet></Period>"
    )
    assert only(document).addressing == SegmentTemplate(
        media="$RepresentationID$/$Number%05d$.m4s",
        initialization="$RepresentationID$.mp4",
        timescale=90_000,
        duration=180_000,
        timeline=(),
        start_number=7,
        end_number=9,
        presentation_time_offset=9_000,
        availability_time_offset_s=Fraction("1.5"),
    )


@pytest.mark.parametrize(
    ("above", "below", "duration", "entries"),
    [
        ('duration="2"', "><SegmentTimeline><S d='3'/></SegmentTimeline></SegmentTemplate>", None, 1),
        ("", ' duration="2"/>', 2, 0),
    ],
)
def test_of_timeline_and_duration_the_innermost_counts(
    above: str, below: str, duration: int | None, entries: int
) -> None:
    timeline = "" if above else "<SegmentTimeline><S d='5'/></SegmentTimeline>"
    document = mpd(
        f'<Period><SegmentTemplate media="$Number$" {above}>{timeline}</SegmentTemplate>'
        f'<AdaptationSet mimeType="video/mp4"><SegmentTemplate{below}<Representation id="a" bandwidth="1"/>'
        "</AdaptationSet></Period>"
    )
    found = only(document).addressing
    assert isinstance(found, SegmentTemplate)
    assert (found.duration, len(found.timeline)) == (duration, entries)


def test_lists_and_timelines_are_read() -> None:
    document = mpd(
        '<Period><AdaptationSet mimeType="audio/mp4"><SegmentList timescale="10">'
        '<Initialization sourceURL="i.mp4" range="0-99"/>'
        '<SegmentTimeline><S t="5" d="20" r="1"/><S d="10"/></SegmentTimeline>'
        '<SegmentURL media="1.m4s"/><SegmentURL mediaRange="100-"/><SegmentURL/></SegmentList>'
        '<Representation id="a" bandwidth="1"/></AdaptationSet></Period>'
    )
    assert only(document).addressing == SegmentList(
        segments=(Resource("1.m4s"), Resource("", ByteRange(100, None)), Resource("")),
        initialization=Resource("i.mp4", ByteRange(0, 99)),
        timescale=10,
        duration=None,
        timeline=(TimelineEntry(5, 20, 1), TimelineEntry(None, 10, 0)),
        start_number=1,
        presentation_time_offset=0,
    )


@pytest.mark.clause("ISO/IEC 23009-1 Annex K")
def test_service_descriptions_are_read_whole() -> None:
    document = title(
        VIDEO,
        above='<ServiceDescription id="3"><Scope schemeIdUri="urn:x" value="y"/>'
        '<Latency target="3500" max="6000" min="2000" referenceId="7"/><PlaybackRate max="1.04" min="0.96"/>'
        '<OperatingQuality mediaType="video" min="1" max="5" target="4" type="urn:q" maxDifference="2"/>'
        '<OperatingBandwidth min="1" max="5000000" target="4000000"/></ServiceDescription>',
    )
    assert parse(document).service_descriptions == (
        ServiceDescription(
            "3",
            (Scope("urn:x", "y"),),
            (Latency(3500, 6000, 2000, "7"),),
            (PlaybackRate(1.04, 0.96),),
            (OperatingQuality("video", 1, 5, 4, "urn:q", 2),),
            (OperatingBandwidth("all", 1, 5_000_000, 4_000_000),),
        ),
    )


def test_periods_follow_one_another() -> None:
    sets = adaptation_set("video", VIDEO)
    found = parse(
        mpd(
            f'<Period id="a" duration="PT4S">{sets}</Period><Period id="b">{sets}</Period>'
            f'<Period id="c" start="PT7S">{sets}</Period>'
        )
    ).periods
    assert [(each.id, each.start_s, each.duration_s) for each in found] == [("a", 0, 4), ("b", 4, 3), ("c", 7, 3)]


def test_an_early_available_period_is_not_in_the_presentation_yet() -> None:
    sets = adaptation_set("video", VIDEO)
    attributes = 'type="dynamic" availabilityStartTime="2026-01-31T12:00:00Z"'
    found = parse(mpd(f'<Period start="PT5S">{sets}</Period><Period>{sets}</Period>', attributes))
    assert [(each.start_s, each.duration_s) for each in found.periods] == [(5, None)]


SET = adaptation_set("video", VIDEO)


def addressed(addressing: str) -> str:
    """A period whose segments are said to be here."""
    return f"<Period>{adaptation_set('video', VIDEO, addressing)}</Period>"


REFUSED = {
    "<a/>": "MPD, line 1: found the element a, expected {urn:mpeg:dash:schema:mpd:2011}MPD",
    "<MPD": "MPD, line 1: not well-formed XML: Couldn't find end of Start Tag MPD line 1, line 1, column 5",
    f'<!DOCTYPE MPD [<!ENTITY a "b">]><MPD xmlns="{NAMESPACE}"/>': (
        "MPD: found a document type declaration, expected none: an MPD has no entities of its own"
    ),
}
LATE = f'<Period start="PT1S">{SET}</Period>\n<Period start="PT6S">{SET}</Period>\n<Period start="PT3S">{SET}</Period>'
REFUSED_BODIES = {
    f"<BaseURL>http://[</BaseURL><Period>{SET}</Period>": "line 3, BaseURL: address 'http://[': Invalid IPv6 URL",
    "": "line 2, MPD: found no Period, expected one at least",
    "<Period><AdaptationSet/></Period>": "line 3, AdaptationSet: found no Representation, expected one at least",
    f'<Period start="1">{SET}</Period>': (
        "line 3, Period: @start: found '1', expected a duration such as 'PT1H30M2.5S'"
    ),
    f'<Period start="P1Y">{SET}</Period>': (
        "line 3, Period: @start: found 'P1Y', expected no years and months: they have no fixed length"
    ),
    LATE: ("line 5, Period: @start: found 'PT3S', expected it after the start of the period before"),
    f'<Period start="PT10S">{SET}</Period>': (
        "line 3, Period: @start: found it at or after the end of the presentation (@mediaPresentationDuration)"
    ),
    '<Period><AdaptationSet><Representation id="a"/></AdaptationSet></Period>': (
        "line 3, Representation 'a': @bandwidth: missing"
    ),
    '<Period><AdaptationSet><Representation id="a" bandwidth="5 Mbps"/></AdaptationSet></Period>': (
        "line 3, Representation 'a': @bandwidth: found '5 Mbps', expected a whole number of bit/s"
    ),
    '<Period><AdaptationSet><Representation bandwidth="5"/></AdaptationSet></Period>': (
        "line 3, Representation: @id: missing"
    ),
    addressed("<SegmentTemplate/>"): ("line 3, SegmentTemplate: @media: missing"),
    addressed('<SegmentTemplate media="$Number$"/>'): (
        "line 3, SegmentTemplate: found neither @duration nor a SegmentTimeline, expected one of them"
    ),
    addressed('<SegmentTemplate media="$Numb$" duration="1"/>'): (
        "line 3, SegmentTemplate: @media: found '$Numb$', expected of what stands between '$': $RepresentationID$, "
        "$Number$, $Time$ or $Bandwidth$ (these with %0…d), or $$"
    ),
    addressed('<SegmentTemplate media="$Number$" duration="1" timescale="0"/>'): (
        "line 3, SegmentTemplate: @timescale: found '0', expected a whole number from 1"
    ),
    addressed("<SegmentList/>"): ("line 3, SegmentList: found no SegmentURL, expected one at least"),
    addressed('<SegmentBase indexRange="9-3"/>'): (
        "line 3, SegmentBase: @indexRange: found '9-3', expected a last byte that is not before the first"
    ),
    f'<ServiceDescription id="1"><OperatingBandwidth mediaType="text"/></ServiceDescription><Period>{SET}</Period>': (
        "line 3, OperatingBandwidth: @mediaType: found 'text', expected video, audio, any, all"
    ),
    f'<ServiceDescription id="1"><OperatingBandwidth min="5" max="4"/></ServiceDescription><Period>{SET}</Period>': (
        "line 3, OperatingBandwidth: @min: found '5', expected at most @max, which is 4"
    ),
}


@pytest.mark.parametrize("document", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_mpd_is_refused_with_its_line(document: str) -> None:
    with pytest.raises(MpdError) as refusal:
        parse(document.encode())
    assert str(refusal.value) == REFUSED[document]


@pytest.mark.parametrize("body", REFUSED_BODIES, ids=range(len(REFUSED_BODIES)))
def test_what_is_wrong_in_an_mpd_is_told_with_line_and_element(body: str) -> None:
    with pytest.raises(MpdError) as refusal:
        parse(mpd(body), name="a.mpd")
    assert str(refusal.value) == f"a.mpd, {REFUSED_BODIES[body]}"


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ('type="live"', "@type: found 'live', expected static or dynamic"),
        ('type="dynamic"', "@availabilityStartTime: missing, expected it of a dynamic MPD"),
        (
            'type="dynamic" availabilityStartTime="noon"',
            "@availabilityStartTime: found 'noon', expected a date and time such as '2026-01-31T12:00:00Z'",
        ),
    ],
)
def test_what_is_wrong_with_the_mpd_element_is_told(attributes: str, problem: str) -> None:
    with pytest.raises(MpdError, match=r"^MPD, line 2, MPD: ") as refusal:
        parse(mpd(f"<Period>{SET}</Period>", attributes))
    assert str(refusal.value) == f"MPD, line 2, MPD: {problem}"


def test_a_static_mpd_says_how_long_it_is() -> None:
    with pytest.raises(MpdError) as refusal:
        parse(mpd(f"<Period>{SET}</Period>", ""))
    assert str(refusal.value) == (
        "MPD, line 3, Period: @duration: missing, expected it or MPD@mediaPresentationDuration in a static MPD"
    )


def test_no_entity_reaches_into_files() -> None:
    document = f'<!DOCTYPE MPD [<!ENTITY a SYSTEM "file:///etc/hostname">]><MPD xmlns="{NAMESPACE}">&a;</MPD>'
    with pytest.raises(MpdError, match="document type declaration"):
        parse(document.encode())
