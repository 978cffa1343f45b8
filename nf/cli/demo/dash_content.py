"""A title to play, synthesised: an MPD and segment files of the right sizes.

The segments are boxes of ISO BMFF in form (``styp`` and ``mdat``), and filler in content: whoever counts bytes sees
real media, a decoder would not. Their sizes are those of @bandwidth, with the variation from one to the next that
encoders have; no file takes more room than its header, since filler is a hole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SEGMENT_S: Final = 1
MPD: Final = "title1.mpd"
# Title1 of TS 26.512 figure A.3.1-1: up to HD it keeps to 5 Mbit/s.
VIDEO: Final[Mapping[str, tuple[int, int, int]]] = {
    "480p": (1_200_000, 854, 480),
    "SD": (2_500_000, 1024, 576),
    "HD": (4_400_000, 1280, 720),
    "UHD": (12_000_000, 3840, 2160),
}
AUDIO: Final[Mapping[str, int]] = {"audio": 128_000}
# Per mille of the mean, one segment after the other; none is above @bandwidth in the mean of a few.
_VARIATION: Final = (1000, 960, 1040, 980, 1020)


@dataclass(frozen=True, slots=True)
class Title:
    """What has been made: where, and how large the media is."""

    directory: Path
    segments: int
    media_bytes: int


def synthesise(directory: Path, seconds: int) -> Title:
    """Writes MPD, initializations and segments."""
    directory.mkdir(parents=True, exist_ok=True)
    segments = -(-seconds // SEGMENT_S)
    (directory / MPD).write_text(_mpd(segments), "utf-8")
    total = 0
    for name, bandwidth_bps in ({name: rate for name, (rate, _, _) in VIDEO.items()} | dict(AUDIO)).items():
        kind = directory / name
        kind.mkdir()
        (kind / "init.mp4").write_bytes(_box(b"ftyp", b"iso6\0\0\0\0iso6dash") + _box(b"free", bytes(600)))
        for number in range(1, segments + 1):
            size = bandwidth_bps * SEGMENT_S * _VARIATION[(number - 1) % len(_VARIATION)] // 8000
            _segment(kind / f"{number}.m4s", size)
            total += size
    return Title(directory, segments, total)


def _segment(path: Path, size_bytes: int) -> None:
    styp = _box(b"styp", b"msdh\0\0\0\0msdhmsix")
    with path.open("wb") as file:
        file.write(styp + (size_bytes - len(styp)).to_bytes(4, "big") + b"mdat")
        file.truncate(size_bytes)


def _box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def _mpd(segments: int) -> str:
    template = (
        f'<SegmentTemplate timescale="1" duration="{SEGMENT_S}" startNumber="1" '
        'initialization="$RepresentationID$/init.mp4" media="$RepresentationID$/$Number$.m4s"/>'
    )
    videos = "\n".join(
        f'      <Representation id="{name}" codecs="avc1.64001f" width="{width}" height="{height}" bandwidth="{rate}"/>'
        for name, (rate, width, height) in VIDEO.items()
    )
    audios = "\n".join(
        f'      <Representation id="{name}" codecs="mp4a.40.2" bandwidth="{rate}"/>' for name, rate in AUDIO.items()
    )
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<!-- Title1 -->
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" profiles="urn:mpeg:dash:profile:isoff-live:2011"
     minBufferTime="PT{SEGMENT_S}S" mediaPresentationDuration="PT{segments * SEGMENT_S}S">
  <Period id="1">
    <AdaptationSet id="1" mimeType="video/mp4" segmentAlignment="true">
      {template}
{videos}
    </AdaptationSet>
    <AdaptationSet id="2" mimeType="audio/mp4" lang="en" segmentAlignment="true">
      {template}
{audios}
    </AdaptationSet>
  </Period>
</MPD>
"""
