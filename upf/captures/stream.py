"""A capture of any kind, piece by piece: what the engine is to walk next, in bounded memory, and where it stands.

    while stream.more():
        offset, _, over = engine.run(stream.view, stream.format, offset=stream.offset, max_packets=…)
        stream.taken(offset, over=over)
    if stream.error is not None: …

A record that is not all there yet is kept for the next piece.
"""

from __future__ import annotations

import mmap
from typing import Final, Self

from upf.captures import pcap, pcapng
from upf.captures.compression import Source, Unpacked
from upf.captures.formats import CaptureError, CaptureFormat, CutError
from upf.engine import Walk

# Half of what the second-level cache of a small core holds: a piece is still there when its packets are walked.
PIECE_BYTES: Final = 1 << 18
_FIRST_HELD_BYTES: Final = 1 << 21


class Pieces:
    """A source that is fed: bytes, and at last their end."""

    def __init__(self) -> None:
        self._piece = memoryview(b"")
        self._ended = False

    def feed(self, piece: bytes) -> None:
        """The next bytes; those before them must have been read."""
        if self._piece:
            raise RuntimeError(f"feed() while {len(self._piece)} bytes of the piece before have not been read")
        self._piece = memoryview(piece)

    def end(self) -> None:
        """Nothing comes any more."""
        self._ended = True

    def readinto(self, buffer: memoryview, /) -> int | None:
        """As `Source.readinto`."""
        taken = min(len(buffer), len(self._piece))
        buffer[:taken] = self._piece[:taken]
        self._piece = self._piece[taken:]
        return taken or (0 if self._ended else None)


class CaptureStream:
    """A walk through a capture, from its first byte to its last; ``name`` stands in errors.

    ``view`` from ``offset`` on is what is to be walked next, until the next call of `more`; ``format`` says how.
    """

    def __init__(self, source: Source, *, name: str) -> None:
        self.view = memoryview(b"")
        self.offset = 0
        # What the capture has ended with, if it has ended badly.
        self.error: CaptureError | None = None
        self._name = name
        self._source = Unpacked(source, name=name)
        self._format: CaptureFormat | Walk | None = None
        self._buffer = memoryview(b"")
        # Where in the (unpacked) capture the view begins.
        self._position = 0
        # Whether no whole record stands at the offset; whether the source has ended, and with what.
        self._over = False
        self._ended = False
        self._end: CaptureError | None = None

    @classmethod
    def held(cls, view: memoryview, *, name: str, end: CaptureError | None = None) -> Self:
        """A walk through a capture that stands in memory, unpacked; ``end`` is the error that comes after it."""
        stream = cls(Pieces(), name=name)
        stream.view, stream._ended, stream._end = view, True, end
        return stream

    @property
    def format(self) -> CaptureFormat | Walk:
        """How the engine is to walk the view."""
        if self._format is None:
            raise RuntimeError(f"{self._name}: its header has not come yet")
        return self._format

    @property
    def progress_bytes(self) -> int:
        """What has been taken from the source, or walked of what is held."""
        return self._source.taken_bytes or self._position + self.offset

    def more(self) -> bool:
        """Whether there is something to walk; False at the end of the capture, or of what its source has been fed.

        ``error`` then says what is wrong, where the capture cannot be used, is cut or cannot be read on.
        """
        while self.error is None:
            obstacle = self._obstacle()
            if obstacle is None and self.offset < len(self.view):
                return True
            if not self._overcome(obstacle):
                return False
        return False

    def begin(self) -> bool:
        """Reads the header, and of a pcapng the first interface; whether it is there. ``error`` may say why not."""
        while self.error is None and (obstacle := self._obstacle()) is not None and self._overcome(obstacle):
            pass
        return self._format is not None

    def taken(self, offset: int, *, over: bool) -> None:
        """The walk stands at ``offset`` of the view now; ``over``: no whole record stands there."""
        self.offset, self._over = offset, over

    def hold(self, *, most_bytes: int, expected_bytes: int = 0) -> tuple[memoryview, CaptureError | None]:
        """Everything from here on, and what the source ended with.

        Memory is taken in huge pages where there are some. Raises CaptureError when it is more than ``most_bytes``.
        """
        rest = self.view[self.offset :]
        length, end = len(rest), None
        # Private: a shared mapping can be made longer, but what is beyond its first length is not there.
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        memory = mmap.mmap(-1, max(expected_bytes + 1, length, _FIRST_HELD_BYTES), flags=private)
        memory.madvise(mmap.MADV_HUGEPAGE)
        memory[:length] = rest
        while True:
            if length == len(memory):
                if length * 2 > most_bytes:
                    raise CaptureError(f"{self._name}: is more than {most_bytes} bytes, too much to be held in memory")
                memory.resize(length * 2)
                memory.madvise(mmap.MADV_HUGEPAGE)
            with memoryview(memory) as room, room[length:] as free:
                try:
                    read = self._source.readinto(free)
                except CaptureError as error:
                    read, end = 0, error
            if not read:
                return memoryview(memory)[:length], end
            length += read

    def _obstacle(self) -> CaptureError | None:
        """Why the walk cannot go on where it stands; None where it can, or everything there is has been taken."""
        try:
            if self._format is None:
                self._format, self.offset = self._begin()
                self._over = False
            elif self._over and self.offset < len(self.view):
                self._explain(self._format)
        except CaptureError as error:
            return error
        return None

    def _overcome(self, obstacle: CaptureError | None) -> bool:
        """Reads on; False at the end, and where nothing is there yet."""
        if obstacle is not None and not isinstance(obstacle, CutError):
            # Whatever the source has ended with comes later.
            self.error = obstacle
        elif obstacle is not None and self._ended:
            self.error = self._end or obstacle
        elif self._ended:
            self.error = self._end
        else:
            return self._read(obstacle.needed_bytes if isinstance(obstacle, CutError) else 1)
        return False

    def _begin(self) -> tuple[CaptureFormat | Walk, int]:
        beginning = bytes(self.view[:24])
        if not beginning:
            raise CutError(f"{self._name}: is empty", offset=None, needed_bytes=1)
        if beginning.startswith(pcapng.MAGIC):
            length, _ = pcapng.read_block(self.view, pcapng.Section(), 0, source=self._name)
            if len(self.view) == length and not self._ended:
                raise CutError(f"{self._name}: has no interface yet", offset=length, needed_bytes=length + 1)
            return Walk(), 0
        capture_format = pcap.parse_header(beginning, source=self._name)
        return capture_format, capture_format.header_bytes

    def _explain(self, capture_format: CaptureFormat | Walk) -> None:
        """Raises what is wrong at the offset, where the engine has found no whole record."""
        if isinstance(capture_format, CaptureFormat):
            raise pcap.record_error(self.view, capture_format, self.offset, source=self._name, position=self._position)
        order, interfaces = capture_format.section()
        section = pcapng.Section(order, [pcapng.Interface(*interface) for interface in interfaces])
        pcapng.read_block(self.view, section, self.offset, source=self._name, position=self._position)
        raise RuntimeError(f"{self._name}: the walk stands still at byte {self._position + self.offset}")

    def _read(self, needed_bytes: int) -> bool:
        """Reads on behind what has not been walked, with room for so much in all; False where nothing is there yet."""
        rest = self.view[self.offset :]
        kept = len(rest)
        if needed_bytes > len(self._buffer):
            self._buffer = memoryview(bytearray(max(needed_bytes, PIECE_BYTES)))
        self._buffer[:kept] = rest
        self._position += self.offset
        self.view, self.offset, self._over = self._buffer[:kept], 0, True
        try:
            read = self._source.readinto(self._buffer[kept:])
        except CaptureError as error:
            self._ended, self._end = True, error
            return True
        if read is None:
            return False
        self._ended = read == 0
        if read:
            self.view, self._over = self._buffer[: kept + read], False
        return True
