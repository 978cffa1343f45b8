"""An MPD document into data (ISO/IEC 23009-1 §5): inheritance and base URLs are resolved here, once.

Not read: UTCTiming (the clock of this machine is taken), remote elements (xlink), MPD patches, Preselections,
sub-representations, content protection (what is encrypted is fetched all the same).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from nf.common.dash.addresses import resolve
from nf.common.dash.elements import Element, parse_document
from nf.common.dash.errors import MpdError
from nf.common.dash.mpd import (
    AdaptationSet,
    Addressing,
    Period,
    Presentation,
    Representation,
    Resource,
    SegmentBase,
    SegmentList,
    SegmentTemplate,
    TimelineEntry,
)
from nf.common.dash.service_descriptions import (
    ALL,
    ANY,
    MEDIA_TYPES,
    Latency,
    OperatingBandwidth,
    OperatingQuality,
    PlaybackRate,
    Scope,
    ServiceDescription,
)
from nf.common.dash.templates import check

_TYPES: Final = ("static", "dynamic")
_ADDRESSINGS: Final = ("SegmentBase", "SegmentList", "SegmentTemplate")
_MAX_ALTERNATIVES: Final = 16


@dataclass(frozen=True)
class _Inherited:
    """What a level hands to those below: base URLs, and the attributes and children of its segment addressing."""

    base_urls: tuple[str, ...]
    # By tag: the attributes so far, and the innermost element that has each child.
    attributes: dict[str, dict[str, str]] = field(default_factory=dict)
    children: dict[str, dict[str, Element]] = field(default_factory=dict)
    innermost: dict[str, Element] = field(default_factory=dict)
    common: dict[str, str] = field(default_factory=dict)


def parse(document: bytes, url: str = "", *, name: str = "") -> Presentation:
    """The presentation of an MPD that came from ``url``; ``name`` is how messages call it. Raises MpdError."""
    root = parse_document(document, name or url or "MPD")
    kind = root.get("type", "static")
    if kind not in _TYPES:
        root.refuse(f"@type: found {kind!r}, expected static or dynamic")
    dynamic = kind == "dynamic"
    start = root.date_time("availabilityStartTime")
    if dynamic and start is None:
        root.refuse("@availabilityStartTime: missing, expected it of a dynamic MPD")
    duration_s = root.duration("mediaPresentationDuration")
    top = _descend(_Inherited((url,)), root)
    return Presentation(
        url=url,
        dynamic=dynamic,
        profiles=tuple(each.strip() for each in root.get("profiles").split(",") if each.strip()),
        duration_s=duration_s,
        min_buffer_time_s=root.duration("minBufferTime") or Fraction(0),
        max_segment_duration_s=root.duration("maxSegmentDuration"),
        availability_start_time=start,
        availability_end_time=root.date_time("availabilityEndTime"),
        publish_time=root.date_time("publishTime"),
        minimum_update_period_s=root.duration("minimumUpdatePeriod"),
        time_shift_buffer_depth_s=root.duration("timeShiftBufferDepth"),
        suggested_presentation_delay_s=root.duration("suggestedPresentationDelay"),
        locations=tuple(_resolved(each, url) for each in root.children("Location") if each.text),
        service_descriptions=tuple(_service_description(each) for each in root.children("ServiceDescription")),
        periods=_periods(root, top, duration_s, dynamic=dynamic),
    )


def _periods(root: Element, top: _Inherited, total_s: Fraction | None, *, dynamic: bool) -> tuple[Period, ...]:
    elements = list(root.children("Period"))
    if not elements:
        root.refuse("found no Period, expected one at least")
    starts = _starts(elements, dynamic=dynamic)
    periods = []
    for index, (element, begins) in enumerate(zip(elements, starts, strict=True)):
        if begins is None:
            if dynamic:
                # An early available period (§5.3.2.1): announced, and not yet in the presentation.
                continue
            element.refuse("@start: missing, expected it where the period before has no duration")
        following = next((each for each in starts[index + 1 :] if each is not None), None)
        duration = element.duration("duration")
        if following is not None:
            duration = following - begins if duration is None else min(duration, following - begins)
        elif duration is None and total_s is not None:
            duration = total_s - begins
            if duration <= 0:
                element.refuse("@start: found it at or after the end of the presentation (@mediaPresentationDuration)")
        if duration is None and not dynamic:
            element.refuse("@duration: missing, expected it or MPD@mediaPresentationDuration in a static MPD")
        periods.append(_period(element, top, begins, duration))
    if not periods and not dynamic:
        root.refuse("found no Period with a start, expected one at least")
    return tuple(periods)


def _starts(elements: Sequence[Element], *, dynamic: bool) -> list[Fraction | None]:
    """Where each period begins; None: where is not known."""
    starts: list[Fraction | None] = []
    latest = Fraction(0)
    after = None if dynamic else latest
    for element in elements:
        if element.remote:
            element.refuse("xlink:href: found a remote period, which is not read")
        start = element.duration("start")
        if start is None:
            start = after
        if start is not None and start < latest:
            element.refuse(f"@start: found {element.get('start')!r}, expected it after the start of the period before")
        starts.append(start)
        latest = latest if start is None else start
        duration = element.duration("duration")
        after = None if start is None or duration is None else start + duration
    return starts


def _period(element: Element, top: _Inherited, start_s: Fraction, duration_s: Fraction | None) -> Period:
    inherited = _descend(top, element)
    sets = tuple(_adaptation_set(each, inherited) for each in element.children("AdaptationSet"))
    return Period(element.get("id"), start_s, duration_s, sets)


def _adaptation_set(element: Element, period: _Inherited) -> AdaptationSet:
    if element.remote:
        element.refuse("xlink:href: found a remote adaptation set, which is not read")
    inherited = _descend(period, element)
    component = element.get("contentType")
    if not component:
        components = {each.get("contentType") for each in element.children("ContentComponent")}
        component = components.pop() if len(components) == 1 else ""
    representations = tuple(_representation(each, inherited, component) for each in element.children("Representation"))
    if not representations:
        element.refuse("found no Representation, expected one at least")
    ids = [each.id for each in representations]
    if len(set(ids)) != len(ids):
        element.refuse(f"found the Representation id {next(i for i in ids if ids.count(i) > 1)!r} twice")
    return AdaptationSet(
        id=element.get("id"),
        media_type=component or representations[0].media_type,
        language=element.get("lang"),
        roles=tuple(each.get("value") for each in element.children("Role")),
        essential_properties=tuple(each.get("schemeIdUri") for each in element.children("EssentialProperty")),
        representations=representations,
    )


def _representation(element: Element, above: _Inherited, content_type: str) -> Representation:
    inherited = _descend(above, element)
    bandwidth = element.whole("bandwidth", "a whole number of bit/s")
    if bandwidth is None:
        element.refuse("@bandwidth: missing")
    name = element.required("id")
    if not name or any(each.isspace() for each in name):
        element.refuse(f"@id: found {name!r}, expected a name without white space")
    mime_type = inherited.common.get("mimeType", "")
    return Representation(
        id=name,
        bandwidth_bps=bandwidth,
        media_type=content_type or mime_type.partition("/")[0],
        mime_type=mime_type,
        codecs=inherited.common.get("codecs", ""),
        width=_size(inherited, element, "width"),
        height=_size(inherited, element, "height"),
        base_urls=inherited.base_urls,
        addressing=_addressing(element, inherited),
        quality_ranking=element.whole("qualityRanking"),
    )


def _size(inherited: _Inherited, element: Element, attribute: str) -> int | None:
    own = element.whole(attribute)
    above = inherited.common.get(attribute, "")
    return own if own is not None else int(above) if above.isdecimal() else None


_COMMON: Final = ("mimeType", "codecs", "width", "height")


def _descend(above: _Inherited, element: Element) -> _Inherited:
    """What an element inherits, and adds to that."""
    references = list(element.children("BaseURL"))
    urls = [_resolved(each, base) for each in references for base in above.base_urls] or list(above.base_urls)
    attributes = {tag: dict(kept) for tag, kept in above.attributes.items()}
    children = {tag: dict(kept) for tag, kept in above.children.items()}
    innermost = dict(above.innermost)
    for tag in _ADDRESSINGS:
        own = element.child(tag)
        if own is None:
            continue
        said, kept = attributes.setdefault(tag, {}), children.setdefault(tag, {})
        # How long segments are is said by one of the two: the innermost level that says it decides.
        if "duration" in own.attributes:
            kept.pop("SegmentTimeline", None)
        if own.child("SegmentTimeline") is not None:
            said.pop("duration", None)
        said.update(own.attributes)
        innermost[tag] = own
        for child in ("Initialization", "SegmentTimeline"):
            found = own.child(child)
            if found is not None:
                kept[child] = found
        if next(own.children("SegmentURL"), None) is not None:
            kept["SegmentURL"] = own
    common = above.common | {key: element.attributes[key] for key in _COMMON if key in element.attributes}
    return _Inherited(tuple(urls[:_MAX_ALTERNATIVES]), attributes, children, innermost, common)


def _resolved(element: Element, base: str) -> str:
    """The address that an element has for its text."""
    try:
        return resolve(base, element.text)
    except MpdError as error:
        element.refuse(error.message)


def _addressing(element: Element, inherited: _Inherited) -> Addressing:
    """The addressing of the innermost level that has one; the most specific kind of it."""
    own = [tag for tag in _ADDRESSINGS if element.child(tag) is not None]
    if len(own) > 1:
        element.refuse(f"found {' and '.join(own)}, expected one kind of segment addressing")
    kinds = own or [tag for tag in reversed(_ADDRESSINGS) if tag in inherited.innermost]
    if not kinds:
        return SegmentBase(None, None, 1, 0)
    kind = kinds[0]
    merged = _Merged(inherited.innermost[kind], inherited.attributes[kind], inherited.children[kind])
    if kind == "SegmentTemplate":
        return _template(merged)
    if kind == "SegmentList":
        return _list(merged)
    return SegmentBase(
        merged.initialization(), merged.view.byte_range("indexRange"), merged.timescale, merged.time_offset
    )


class _Merged:
    """A segment addressing with all that it inherits; errors are told at its innermost element."""

    def __init__(self, element: Element, attributes: dict[str, str], children: dict[str, Element]) -> None:
        self.element = element
        self.view = element.seen_with(attributes)
        self.children = children
        self.timescale = self.view.positive("timescale") or 1
        self.time_offset = self.view.whole("presentationTimeOffset") or 0
        self.duration = self.view.positive("duration")
        number = self.view.whole("startNumber")
        self.start_number = 1 if number is None else number
        self.timeline = _timeline(children["SegmentTimeline"]) if "SegmentTimeline" in children else ()

    def initialization(self) -> Resource | None:
        """The Initialization element."""
        element = self.children.get("Initialization")
        if element is None:
            return None
        return Resource(element.get("sourceURL"), element.byte_range("range"))


def _template(merged: _Merged) -> SegmentTemplate:
    view = merged.view
    media = view.required("media")
    initialization = view.attributes.get("initialization")
    for attribute, template in (("media", media), ("initialization", initialization)):
        if template is not None:
            problem = check(template, initialization=attribute == "initialization")
            if problem:
                view.refuse(f"@{attribute}: found {template!r}, {problem}")
    if merged.duration is None and not merged.timeline and ("$Number" in media or "$Time" in media):
        view.refuse("found neither @duration nor a SegmentTimeline, expected one of them")
    if "$Time" in media and not merged.timeline and merged.duration is None:
        view.refuse("@media: found $Time$, expected a SegmentTimeline with it")
    offset = view.attributes.get("availabilityTimeOffset", "")
    return SegmentTemplate(
        media=media,
        initialization=initialization,
        timescale=merged.timescale,
        duration=merged.duration,
        timeline=merged.timeline,
        start_number=merged.start_number,
        end_number=view.whole("endNumber"),
        presentation_time_offset=merged.time_offset,
        # INF: available from the beginning; a day before it plays is that, for us.
        availability_time_offset_s=Fraction(86_400)
        if offset == "INF"
        else view.real("availabilityTimeOffset") or Fraction(0),
    )


def _list(merged: _Merged) -> SegmentList:
    holder = merged.children.get("SegmentURL")
    urls = list(holder.children("SegmentURL")) if holder is not None else []
    if not urls:
        merged.element.refuse("found no SegmentURL, expected one at least")
    if merged.duration is None and not merged.timeline and len(urls) > 1:
        merged.element.refuse("found neither @duration nor a SegmentTimeline, expected one of them")
    return SegmentList(
        segments=tuple(Resource(each.get("media"), each.byte_range("mediaRange")) for each in urls),
        initialization=merged.initialization(),
        timescale=merged.timescale,
        duration=merged.duration,
        timeline=merged.timeline,
        start_number=merged.start_number,
        presentation_time_offset=merged.time_offset,
    )


def _timeline(element: Element) -> tuple[TimelineEntry, ...]:
    entries: list[TimelineEntry] = []
    for each in element.children("S"):
        duration = each.positive("d")
        if duration is None:
            each.refuse("@d: missing")
        repeat = each.integer("r") or 0
        if repeat < -1:
            each.refuse(f"@r: found '{repeat}', expected -1 or more")
        start = each.whole("t")
        if start is None and entries and entries[-1].repeat == -1:
            each.refuse("@t: missing, expected it after an S that repeats without end (r='-1')")
        entries.append(TimelineEntry(start, duration, repeat))
    if not entries:
        element.refuse("found no S, expected one at least")
    return tuple(entries)


def _service_description(element: Element) -> ServiceDescription:
    return ServiceDescription(
        id=element.get("id"),
        scopes=tuple(Scope(each.get("schemeIdUri"), each.get("value")) for each in element.children("Scope")),
        latencies=tuple(
            Latency(each.whole("target"), each.whole("max"), each.whole("min"), each.get("referenceId"))
            for each in element.children("Latency")
        ),
        playback_rates=tuple(
            PlaybackRate(_float(each.real("max")), _float(each.real("min")))
            for each in element.children("PlaybackRate")
        ),
        operating_qualities=tuple(
            OperatingQuality(
                _media_type(each, ANY),
                each.whole("min"),
                each.whole("max"),
                each.whole("target"),
                each.get("type"),
                each.whole("maxDifference"),
            )
            for each in element.children("OperatingQuality")
        ),
        operating_bandwidths=tuple(_operating_bandwidth(each) for each in element.children("OperatingBandwidth")),
    )


def _operating_bandwidth(element: Element) -> OperatingBandwidth:
    expected = "a whole number of bit/s"
    low, high = element.whole("min", expected), element.whole("max", expected)
    if low is not None and high is not None and low > high:
        element.refuse(f"@min: found '{low}', expected at most @max, which is {high}")
    return OperatingBandwidth(_media_type(element, ALL), low, high, element.whole("target", expected))


def _media_type(element: Element, default: str) -> str:
    found = element.get("mediaType", default)
    if found not in MEDIA_TYPES:
        element.refuse(f"@mediaType: found {found!r}, expected {', '.join(MEDIA_TYPES)}")
    return found


def _float(value: Fraction | None) -> float | None:
    return None if value is None else float(value)
