"""MPDs for tests, made from what matters in each."""

from __future__ import annotations

NAMESPACE = "urn:mpeg:dash:schema:mpd:2011"
NUMBERED = '<SegmentTemplate media="$RepresentationID$-$Number$.m4s" timescale="1" duration="2"/>'


def mpd(body: str, attributes: str = 'mediaPresentationDuration="PT10S"') -> bytes:
    """An MPD element around a body."""
    return f'<?xml version="1.0"?>\n<MPD xmlns="{NAMESPACE}" {attributes}>\n{body}\n</MPD>\n'.encode()


def adaptation_set(media_type: str, rates: dict[str, int], addressing: str = NUMBERED, attributes: str = "") -> str:
    """A set with a representation for each name and bandwidth."""
    representations = "".join(f'<Representation id="{name}" bandwidth="{rate}"/>' for name, rate in rates.items())
    return f'<AdaptationSet mimeType="{media_type}/mp4" {attributes}>{addressing}{representations}</AdaptationSet>'


def title(video: dict[str, int], audio: dict[str, int] | None = None, above: str = "") -> bytes:
    """A presentation of ten seconds, with what stands before its period."""
    sets = adaptation_set("video", video) + (adaptation_set("audio", audio) if audio else "")
    return mpd(f"{above}<Period>{sets}</Period>")
