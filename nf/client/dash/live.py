"""Where a player of a live presentation begins (ISO/IEC 23009-1 Annex K.3.2, §5.3.1.2). Pure."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from typing import Final

from nf.client.dash.combinations import adaptation_sets
from nf.common.dash.mpd import Presentation
from nf.common.dash.segments import earliest_s, live_edge_s, period_at, segments

# So many segments behind the live edge, where nothing says how far.
_SEGMENTS_BEHIND: Final = 3
_SEGMENT_S: Final = Fraction(2)


def start_s(presentation: Presentation, now: datetime, *, language: str = "") -> Fraction:
    """The start of the segment in which to begin.

    It is behind the live edge by the target latency of the first service description that has one, else by the
    suggested presentation delay, else by three segments; and not before the time shift buffer.
    """
    edge_s = live_edge_s(presentation, now)
    wanted_s = max(edge_s - _delay_s(presentation, edge_s), earliest_s(presentation, now), Fraction(0))
    period = period_at(presentation, wanted_s)
    sets = adaptation_sets(period, language=language) if period is not None else ()
    if period is None or not sets:
        return wanted_s
    first = next(segments(period, sets[0].representations[0], max(wanted_s, period.start_s)), None)
    return first.start_s if first is not None else wanted_s


def _delay_s(presentation: Presentation, edge_s: Fraction) -> Fraction:
    for description in presentation.service_descriptions:
        for latency in description.latencies:
            if latency.target_ms is not None:
                return Fraction(latency.target_ms, 1000)
    if presentation.suggested_presentation_delay_s is not None:
        return presentation.suggested_presentation_delay_s
    return _SEGMENTS_BEHIND * _segment_s(presentation, edge_s)


def _segment_s(presentation: Presentation, at_s: Fraction) -> Fraction:
    if presentation.max_segment_duration_s is not None:
        return presentation.max_segment_duration_s
    period = period_at(presentation, at_s)
    sets = adaptation_sets(period) if period is not None else ()
    if period is None or not sets:
        return _SEGMENT_S
    first = next(segments(period, sets[0].representations[0]), None)
    return first.duration_s if first is not None else _SEGMENT_S
