"""HLS playlists read as far as distributing them needs (RFC 8216): what they name, whether more is to come. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin

from nf.mbstf.errors import IngestFailed

_FIRST_LINE: Final = "#EXTM3U"
_URI: Final = re.compile(r'(?:^|[:,])URI="([^"]*)"')
_MAX_BYTES: Final = 16 << 20


class PlaylistRefused(IngestFailed):
    """The playlist cannot be read."""


@dataclass(frozen=True, slots=True)
class PlaylistSegment:
    """A media segment: which number it has in the playlist, and the address of the file that it is in."""

    number: int
    url: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class Playlist:
    """A multivariant playlist has ``playlists``, a media playlist ``segments`` and ``initializations``."""

    playlists: tuple[str, ...]
    initializations: tuple[str, ...]
    segments: tuple[PlaylistSegment, ...]
    target_duration_s: float
    ended: bool


def is_playlist(data: bytes) -> bool:
    """Whether that is an HLS playlist."""
    return data.removeprefix(b"\xef\xbb\xbf").startswith(_FIRST_LINE.encode())


def read_playlist(data: bytes, url: str) -> Playlist:
    """The playlist that came from ``url``, with absolute addresses. Raises PlaylistRefused, naming the line."""
    if len(data) > _MAX_BYTES:
        raise PlaylistRefused(f"{url}: expected a playlist of at most {_MAX_BYTES} bytes, found {len(data)}")
    try:
        lines = data.removeprefix(b"\xef\xbb\xbf").decode().splitlines()
    except UnicodeDecodeError as error:
        raise PlaylistRefused(f"{url}: expected UTF-8, {error}") from error
    found = lines[0][:80] if lines else ""
    if found.strip() != _FIRST_LINE:
        raise PlaylistRefused(f"{url}: expected {_FIRST_LINE} in the first line, found {found!r}")
    playlists: list[str] = []
    initializations: dict[str, None] = {}
    segments: list[PlaylistSegment] = []
    number, target_s, ended, is_variant, duration_s = 0, 0.0, False, False, 0.0
    for at, raw in enumerate(lines[1:], start=2):
        line = raw.strip()
        name, _, value = line.partition(":")
        if not line:
            continue
        if not line.startswith("#"):
            if is_variant:
                playlists.append(urljoin(url, line))
            else:
                segments.append(PlaylistSegment(number, urljoin(url, line), duration_s))
                number += 1
            is_variant, duration_s = False, 0.0
        elif name == "#EXTINF":
            duration_s = _number(value.partition(",")[0], f"{url}:{at}: EXTINF")
        elif name == "#EXT-X-TARGETDURATION":
            target_s = _number(value, f"{url}:{at}: EXT-X-TARGETDURATION")
        elif name == "#EXT-X-MEDIA-SEQUENCE":
            number = int(_number(value, f"{url}:{at}: EXT-X-MEDIA-SEQUENCE"))
        elif name == "#EXT-X-STREAM-INF":
            is_variant = True
        elif name in ("#EXT-X-MAP", "#EXT-X-MEDIA"):
            uri = _URI.search(value)
            if uri is not None and name == "#EXT-X-MAP":
                initializations[urljoin(url, uri[1])] = None
            elif uri is not None:
                playlists.append(urljoin(url, uri[1]))
        elif name in ("#EXT-X-ENDLIST",) or (name == "#EXT-X-PLAYLIST-TYPE" and value == "VOD"):
            ended = True
    return Playlist(tuple(dict.fromkeys(playlists)), tuple(initializations), tuple(segments), target_s, ended)


def _number(text: str, where: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e15:
        raise PlaylistRefused(f"{where}: expected a number, found {text[:80]!r}")
    return found
