"""What a service provider expects of a client (ISO/IEC 23009-1 Annex K), as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# OperatingBandwidth@mediaType and OperatingQuality@mediaType: one medium, each medium by itself, all media together.
VIDEO: Final = "video"
AUDIO: Final = "audio"
ANY: Final = "any"
ALL: Final = "all"
MEDIA_TYPES: Final = (VIDEO, AUDIO, ANY, ALL)


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom the description is for: a scheme that names clients. Without one it is for every client."""

    scheme_id_uri: str
    value: str


@dataclass(frozen=True, slots=True)
class Latency:
    """How far behind live the client is to be."""

    target_ms: int | None
    max_ms: int | None
    min_ms: int | None
    reference_id: str


@dataclass(frozen=True, slots=True)
class PlaybackRate:
    """How much faster or slower the client may play to get there."""

    max: float | None
    min: float | None


@dataclass(frozen=True, slots=True)
class OperatingQuality:
    """Bounds of quality ranking, for the media type (``any`` by default)."""

    media_type: str
    min: int | None
    max: int | None
    target: int | None
    type: str
    max_difference: int | None


@dataclass(frozen=True, slots=True)
class OperatingBandwidth:
    """Bounds of bandwidth, for the media type (``all`` by default: what is played together)."""

    media_type: str
    min_bps: int | None
    max_bps: int | None
    target_bps: int | None


@dataclass(frozen=True, slots=True)
class ServiceDescription:
    """A ServiceDescription element; several of one MPD are alternatives."""

    id: str
    scopes: tuple[Scope, ...] = ()
    latencies: tuple[Latency, ...] = ()
    playback_rates: tuple[PlaybackRate, ...] = ()
    operating_qualities: tuple[OperatingQuality, ...] = ()
    operating_bandwidths: tuple[OperatingBandwidth, ...] = ()
