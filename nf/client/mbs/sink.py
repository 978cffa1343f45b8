"""Where received files go: a directory, in which each has the place that its location says, and never another."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

from nf.client.mbs.reception import ReceivedFile
from nf.common.errors import FieldViolation, InvalidArgument

_LONGEST_NAME: Final = 255


class UnsafeLocation(InvalidArgument):
    """A location that would lead out of the directory, or that no file can have."""

    reason = "UNSAFE_LOCATION"


def place_of(location: str, base: str = "") -> str:
    """The relative path of a file: its location after ``base``, else the path of its URI. Raises UnsafeLocation."""
    if base and location.startswith(base):
        path, _, query = location[len(base) :].partition("?")
    else:
        try:
            parts = urlsplit(location)
        except ValueError as error:
            raise _unsafe(location, f"no URI: {error}") from error
        path, query = parts.path, parts.query
    # The bytes that it stands for, so that nothing hides behind an escape.
    raw = unquote_to_bytes(path.partition("#")[0])
    try:
        names = raw.decode().strip("/").split("/")
    except UnicodeDecodeError:
        raise _unsafe(location, "expected UTF-8") from None
    if query:
        names[-1] += "?" + query.replace("/", "%2F")
    for name in names:
        if name in ("", ".", ".."):
            raise _unsafe(location, f"expected names in its path, found {name!r}")
        if not name.isprintable() or "\\" in name:
            raise _unsafe(location, f"expected printable characters, found {name!r}")
        if len(name.encode()) > _LONGEST_NAME:
            raise _unsafe(location, f"expected names of at most {_LONGEST_NAME} bytes")
    return "/".join(names)


class DirectorySink:
    """Writes each file under ``directory``, all of it or nothing; a newer one takes the place of an older."""

    def __init__(self, directory: Path, *, base: str = "") -> None:
        self._directory = directory
        self._base = base

    async def __call__(self, file: ReceivedFile) -> None:
        """Writes it. Raises UnsafeLocation, OSError."""
        place = place_of(file.location, self._base)
        await asyncio.to_thread(self._write, place, file.content)

    def _write(self, place: str, content: bytes) -> None:
        target = self._directory / place
        target.parent.mkdir(parents=True, exist_ok=True)
        # A link that leads out of the directory is not followed.
        if not target.parent.resolve().is_relative_to(self._directory.resolve()):
            raise _unsafe(place, "its directory lies outside")
        part = target.parent / f".{os.getpid()}-{id(content):x}.part"
        try:
            part.write_bytes(content)
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _unsafe(location: str, why: str) -> UnsafeLocation:
    description = f"{location[:80]!r}: {why}"
    violation = FieldViolation("Content-Location", description)
    return UnsafeLocation(f"Content-Location: {description}", violations=(violation,))
