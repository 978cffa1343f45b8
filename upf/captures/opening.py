"""Captures as a user names them: a file of any kind, a pipe, ``-`` for standard input.

A file is read, not mapped: reading is no slower, and a file that another program cuts short meanwhile is an error then
and not the end of the process.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import Final, Self

from upf.captures import pcap, pcapng
from upf.captures.formats import CaptureError, CaptureFormat, Record
from upf.captures.stream import CaptureStream, Pieces
from upf.engine import Walk

STANDARD_INPUT: Final = Path("-")


class Capture:
    """An open capture; a context manager. ``name`` stands in errors.

    size_bytes: of the file, as it stands on disk; None of a pipe. identity: device and inode of a file. link_types:
    those known from its beginning. nanoseconds: whether its times may be finer than microseconds.
    """

    def __init__(
        self, name: str, file: _File | None, stream: CaptureStream, *, end: CaptureError | None = None
    ) -> None:
        """``stream`` stands at the beginning, with the header read. Use `open_capture` or `in_memory`."""
        self.name = name
        self.size_bytes = file.size_bytes if file is not None else len(stream.view)
        self.identity = file.identity if file is not None else None
        self._file = file
        self._stream: CaptureStream | None = stream
        self._held: memoryview | None = None if file is not None else stream.view
        self._end = end
        self._format = stream.format if isinstance(stream.format, CaptureFormat) else None
        if isinstance(stream.format, CaptureFormat):
            self.link_types = [stream.format.link_type]
            self.nanoseconds = stream.format.nanoseconds
        else:
            self.link_types = pcapng.link_types_ahead(stream.view, source=name)
            self.nanoseconds = True

    def stream(self) -> CaptureStream:
        """A walk from the beginning. Raises CaptureError where there can be no second one."""
        stream, self._stream = self._stream, None
        if stream is not None:
            return stream
        if self._held is not None:
            return CaptureStream.held(self._held, name=self.name, end=self._end)
        assert self._file is not None
        self._file.rewind(self.name)
        return CaptureStream(self._file, name=self.name)

    def hold(self) -> None:
        """Take all of it into memory, unpacked, so that it can be walked again and again without being read.

        Raises CaptureError where it cannot be read from the beginning, or is more than half of this machine's memory.
        Where it is damaged, or cut, what came before is held.
        """
        if self._held is None:
            stream = self.stream()
            most_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
            # A walk that has begun stands behind the header of a pcap.
            stream.taken(0, over=False)
            self._held, self._end = stream.hold(most_bytes=most_bytes, expected_bytes=self.size_bytes or 0)
            self.size_bytes = len(self._held)

    @property
    def view(self) -> memoryview:
        """All of it, header included; see `hold`."""
        self.hold()
        assert self._held is not None
        return self._held

    @property
    def format(self) -> CaptureFormat | Walk:
        """How the engine is to walk the view from its beginning."""
        return self._format if self._format is not None else Walk()

    def records(self) -> Iterator[Record]:
        """Its packets in order, by a walk in plain Python.

        Raises CaptureError where it is cut or damaged, after all that came before.
        """
        capture_format = self.format
        if isinstance(capture_format, CaptureFormat):
            yield from pcap.read_records(self.view, capture_format, source=self.name)
        else:
            yield from pcapng.read_records(self.view, source=self.name)
        if self._end is not None:
            raise self._end

    def close(self) -> None:
        """Give everything back."""
        self._stream = self._held = None
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_capture(path: Path) -> Capture:
    """Open a capture and read its header; ``-`` is standard input.

    Raises CaptureError, one line that names the file: missing, unreadable, a directory, empty, shorter than its header,
    no capture, of a link type that is not supported, or packed so that it cannot be unpacked here.
    """
    name = "standard input" if path == STANDARD_INPUT else str(path)
    file = _File(path, name)
    stream = CaptureStream(file, name=name)
    if not stream.begin() and stream.error is not None:
        file.close()
        raise stream.error
    return Capture(name, file, stream)


def in_memory(content: bytes | memoryview, *, name: str) -> Capture:
    """A capture that stands in memory, packed or not. Raises CaptureError as `open_capture`."""
    pieces = Pieces()
    pieces.feed(bytes(content))
    pieces.end()
    held, end = CaptureStream(pieces, name=name).hold(most_bytes=sys.maxsize)
    stream = CaptureStream.held(held, name=name, end=end)
    if not stream.begin() and stream.error is not None:
        raise stream.error
    return Capture(name, None, stream, end=end)


class _File:
    """A source: a file, a pipe or standard input."""

    def __init__(self, path: Path, name: str) -> None:
        try:
            if path == STANDARD_INPUT:
                self._raw = io.FileIO(0, closefd=False)
            else:
                self._raw = io.FileIO(path)
            state = os.fstat(self._raw.fileno())
        except FileNotFoundError:
            raise CaptureError(f"{name}: no such file") from None
        except IsADirectoryError:
            raise CaptureError(f"{name}: is a directory") from None
        except OSError as error:
            raise CaptureError(f"{name}: cannot be read: {error.strerror}") from None
        if self._raw.isatty():
            raise CaptureError(f"{name}: is a terminal, expected a capture: 'castcore replay - < in.pcap'")
        self._name = name
        self.size_bytes = state.st_size if S_ISREG(state.st_mode) else None
        self.identity = (state.st_dev, state.st_ino)

    def readinto(self, buffer: memoryview, /) -> int | None:
        """As `Source.readinto`."""
        try:
            while (read := self._raw.readinto(buffer)) is None:
                # Somebody has opened the pipe so that it does not wait.
                select.select((self._raw,), (), ())
            return read
        except OSError as error:
            raise CaptureError(f"{self._name}: cannot be read on: {error.strerror}") from None

    def rewind(self, name: str) -> None:
        """Stand at the beginning again."""
        if self.size_bytes is None:
            raise CaptureError(f"{name}: is not a file and can be read only once")
        self._raw.seek(0)

    def close(self) -> None:
        """Give the file back."""
        self._raw.close()
