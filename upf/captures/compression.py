"""Bytes from anywhere, unpacked where they begin as gzip (RFC 1952) or zstd (RFC 8878), and bytes packed for a file.

Reading follows `io.RawIOBase.readinto`: 0 is the end, None means that nothing is there yet. What a few packed bytes
unpack to is never held as a whole, however much it is.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Protocol

from upf.captures.formats import CaptureError

if TYPE_CHECKING:
    from types import ModuleType

    import zstandard

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE: Final = tuple(bytes((low, 0x2A, 0x4D, 0x18)) for low in range(0x50, 0x60))
_MAGIC_BYTES: Final = 4
_READ_BYTES: Final = 1 << 15
# Four bytes of zstd unpack to 128 KiB at the most, and the library unpacks all that it is given: 64 MiB here.
_ZSTD_STEP_BYTES: Final = 1 << 11


class Source(Protocol):
    """Where bytes come from."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """How many bytes were put into ``buffer``: 0 at the end, None where nothing is there yet."""


class Packing(Protocol):
    """One kind of compression, while bytes are taken out of it."""

    held: bytes

    def unpack(self, most_bytes: int) -> bytes:
        """Up to so many bytes out of what is held; empty when more has to be held first."""

    def is_whole(self) -> bool:
        """Whether what has been held until now may end there."""


class Unpacked:
    """A source as it was before it was packed, if it is; ``name`` stands in errors.

    ``readinto`` raises CaptureError where packed bytes are damaged or end early, or nothing is installed to unpack
    them.
    """

    def __init__(self, source: Source, *, name: str) -> None:
        # What the source has given, packed or not.
        self.taken_bytes = 0
        self._source = source
        self._name = name
        self._beginning = bytearray()
        self._sniffed = False
        self._kind = ""
        self._packing: Packing | None = None
        self._room = memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int | None:
        """As `Source.readinto`."""
        if not self._sniffed and not self._sniff():
            return None
        if self._packing is not None:
            return self._unpack_into(buffer)
        if self._beginning:
            taken = min(len(buffer), len(self._beginning))
            buffer[:taken] = self._beginning[:taken]
            del self._beginning[:taken]
            return taken
        return self._take_into(buffer)

    def _take_into(self, buffer: memoryview) -> int | None:
        read = self._source.readinto(buffer)
        self.taken_bytes += read or 0
        return read

    def _sniff(self) -> bool:
        while len(self._beginning) < _MAGIC_BYTES:
            room = bytearray(_MAGIC_BYTES - len(self._beginning))
            read = self._take_into(memoryview(room))
            if read is None:
                return False
            if not read:
                break
            self._beginning += room[:read]
        self._sniffed = True
        if self._beginning.startswith(_GZIP):
            self._kind, self._packing = "gzip", _Gzip()
        elif self._beginning == _ZSTD or self._beginning in _ZSTD_SKIPPABLE:
            self._kind, self._packing = "zstd", _Zstd(_zstandard(f"{self._name}: is compressed with zstd"))
        if self._packing is not None:
            self._packing.held = bytes(self._beginning)
            self._room = memoryview(bytearray(_READ_BYTES))
        return True

    def _unpack_into(self, buffer: memoryview) -> int | None:
        packing = self._packing
        assert packing is not None
        while True:
            try:
                piece = packing.unpack(len(buffer))
            except _Damaged as damage:
                at = self.taken_bytes - len(packing.held)
                raise CaptureError(
                    f"{self._name}: the {self._kind} data is damaged near byte {at}: {damage}", offset=at
                ) from None
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)
            read = self._take_into(self._room)
            if read is None:
                return None
            if not read:
                if not packing.is_whole():
                    raise CaptureError(
                        f"{self._name}: the {self._kind} data is cut: it ends early, after {self.taken_bytes} bytes",
                        offset=self.taken_bytes,
                    )
                return 0
            packing.held = bytes(self._room[:read])


class _Damaged(Exception):
    pass


class _Gzip:
    """Members one after the other; zeros may fill up what follows the last."""

    def __init__(self) -> None:
        self.held = b""
        self._member: zlib._Decompress | None = None
        self._full = False

    def unpack(self, most_bytes: int) -> bytes:
        while self.held or self._full:
            if self._member is None:
                self.held = self.held.lstrip(b"\0")
                if not self.held:
                    break
                self._member = zlib.decompressobj(wbits=31)
            try:
                piece = self._member.decompress(self.held, most_bytes)
            except zlib.error as error:
                raise _Damaged(str(error).partition(": ")[2] or str(error)) from None
            # What the member has unpacked beyond the bound comes with the next call, even if nothing more is held.
            self._full = len(piece) == most_bytes
            self.held = self._member.unconsumed_tail
            if self._member.eof:
                self.held, self._member, self._full = self._member.unused_data, None, False
            if piece:
                return piece
        return b""

    def is_whole(self) -> bool:
        return self._member is None


class _Zstd:
    """Frames one after the other, skippable ones among them."""

    def __init__(self, zstd: ModuleType) -> None:
        self.held = b""
        self._zstd = zstd
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._unpacked = memoryview(b"")

    def unpack(self, most_bytes: int) -> bytes:
        while not self._unpacked:
            if not self.held:
                return b""
            if self._frame is None:
                self._frame = self._zstd.ZstdDecompressor().decompressobj()
            step, self.held = self.held[:_ZSTD_STEP_BYTES], self.held[_ZSTD_STEP_BYTES:]
            try:
                self._unpacked = memoryview(self._frame.decompress(step))
            except self._zstd.ZstdError as error:
                raise _Damaged(str(error).rpartition(": ")[2]) from None
            if self._frame.eof:
                self.held = self._frame.unused_data + self.held
                self._frame = None
        piece, self._unpacked = self._unpacked[:most_bytes], self._unpacked[most_bytes:]
        return bytes(piece)

    def is_whole(self) -> bool:
        return self._frame is None


def _zstandard(why: str) -> ModuleType:
    try:
        import zstandard
    except ImportError:
        raise CaptureError(
            f"{why}, for which the Python package 'zstandard' is missing: install it with pip install 'castcore[zstd]'"
        ) from None
    return zstandard


class Packer(Protocol):
    """Bytes on their way into a packed file."""

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes:
        """What of it is due to be written."""

    def flush(self) -> bytes:
        """The end of it."""


def packer(name: str) -> Packer | None:
    """How a file of this name is packed: ``.gz`` and ``.zst``.

    Raises CaptureError where nothing is installed for it.
    """
    if name.endswith(".gz"):
        # A header without a time, so that the same packets make the same file.
        return zlib.compressobj(1, zlib.DEFLATED, 31)
    if name.endswith(".zst"):
        zstd = _zstandard(f"{name}: cannot be written: its name asks for zstd")
        made: Packer = zstd.ZstdCompressor(level=3).compressobj()
        return made
    return None
