"""What is distributed: the files of a directory, or objects made up for the occasion."""

from __future__ import annotations

import mimetypes
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from nf.common.errors import InvalidArgument

OBJECTS: Final = 20
_SEED: Final = 26502
_SEGMENT_BYTES: Final = (60_000, 180_000)


@dataclass(frozen=True, slots=True)
class Piece:
    """A file: its path below the directory, and that path as part of a URL."""

    path: Path
    url_path: str
    size_bytes: int


def make(directory: Path) -> None:
    """Writes OBJECTS files as a provider of segmented media has them: a manifest, segments, and an empty file."""
    draw = random.Random(_SEED)
    (directory / "audio").mkdir(parents=True)
    segments = [f"audio/segment-{number:02}.m4s" for number in range(1, OBJECTS - 2)]
    for name in segments:
        (directory / name).write_bytes(draw.randbytes(draw.randint(*_SEGMENT_BYTES)))
    (directory / "audio/init.mp4").write_bytes(draw.randbytes(780))
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:6", '#EXT-X-MAP:URI="audio/init.mp4"']
    lines += [line for name in segments for line in ("#EXTINF:6.0,", name)]
    (directory / "index.m3u8").write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]), "utf-8")
    (directory / "end of programme.txt").write_bytes(b"")


def pieces(directory: Path) -> Sequence[Piece]:
    """The regular files of a directory and the directories below it, in the order of their paths.

    Raises InvalidArgument for what is no directory, or has no file.
    """
    if not directory.is_dir():
        found = "a file" if directory.exists() else "nothing"
        raise InvalidArgument(f"--source: {directory}: expected a directory, found {found}")
    found_files = sorted(each for each in directory.rglob("*") if each.is_file())
    if not found_files:
        raise InvalidArgument(f"--source: {directory}: expected files, found none")
    paths = [each.relative_to(directory) for each in found_files]
    return [
        Piece(path, quote(path.as_posix()), file.stat().st_size) for path, file in zip(paths, found_files, strict=True)
    ]


def media_type_of(path: Path) -> str:
    """By its name."""
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"
