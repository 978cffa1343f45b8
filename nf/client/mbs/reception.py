"""A FLUTE session as a receiver has it: packets in, complete files out, and what is missing (TS 26.346 §7).

Pure logic: packets in any order, repeated, foreign or damaged; nothing is raised for what came from the network.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from nf.client.mbs.alc import AlcPacket, MalformedPacket, PacketParser, TransmissionInformation
from nf.client.mbs.fdt import FdtInvalid, FileInformation, parse_fdt
from nf.client.mbs.object_reception import ByteRange, ObjectReception

# Tables being received at once, and bytes of one.
_TABLES: Final = 16
_LONGEST_TABLE: Final = 1 << 20
# Packets that are kept for objects of which nothing is known yet.
_UNKNOWN: Final = 4096
# Symbols of one object; objects known at once.
_MOST_SYMBOLS: Final = 1 << 21
_MOST_FILES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file that is complete, its digest as the table has it."""

    location: str
    content: bytes
    content_type: str
    content_encoding: str
    etag: str
    toi: int
    # Whether a part of it came by HTTP.
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class MissingFile:
    """A file that a table lists and that is not complete; ``ranges`` None: it is missing whole."""

    information: FileInformation
    ranges: tuple[ByteRange, ...] | None
    symbols_received: int
    symbols_missing: int


class Reception:
    """One session: ``push`` packets and take the files that they complete.

    ``max_object_bytes`` bounds an object, ``max_bytes`` all that are being received at once.
    """

    def __init__(self, tsi: int, *, max_object_bytes: int = 256 << 20, max_bytes: int = 1 << 30) -> None:
        self.tsi = tsi
        self._max_object_bytes = max_object_bytes
        self._max_bytes = max_bytes
        self._bytes = 0
        self._parser = PacketParser()
        self._tables: OrderedDict[int, ObjectReception] = OrderedDict()
        self._tables_done: OrderedDict[int, None] = OrderedDict()
        self._files: OrderedDict[int, FileInformation] = OrderedDict()
        self._objects: dict[int, ObjectReception] = {}
        # What has been handed over: by TOI, what it was.
        self._done: dict[int, FileInformation] = {}
        self._unknown: list[AlcPacket] = []
        self.packets = 0
        self.refused: Counter[str] = Counter()
        self.symbols_received = 0
        self.symbols_repeated = 0
        self.symbols_restored = 0
        self.tables_received = 0
        self.complete = False
        self.closed = False
        self.files_received = 0

    def push(self, data: bytes) -> list[ReceivedFile]:
        """Takes a packet; the files that are complete with it. What cannot be used is counted in ``refused``."""
        try:
            packet = self._parser.parse(data)
        except MalformedPacket as error:
            self.refused[error.reason] += 1
            return []
        header = packet.header
        if header.tsi != self.tsi:
            self.refused["another session"] += 1
            return []
        self.packets += 1
        self.closed = self.closed or header.close_session
        if header.toi == 0:
            return list(self._table_packet(packet))
        return list(self._object_packet(packet))

    def missing(self) -> list[MissingFile]:
        """Files that the tables list and that are not complete."""
        found = []
        for toi, file in self._files.items():
            if toi in self._done:
                continue
            reception = self._objects.get(toi)
            found.append(
                MissingFile(file, None, 0, 0)
                if reception is None
                else MissingFile(
                    file, tuple(reception.missing_ranges()), reception.symbols_received, reception.missing_symbols()
                )
            )
        return found

    def repair(self, toi: int, start: int, data: bytes, *, whole: bool = False) -> ReceivedFile | None:
        """Takes bytes of a missing file that came otherwise (``whole``: all of it); the file, once it is complete."""
        file = self._files.get(toi)
        if file is None or toi in self._done:
            return None
        if whole:
            if not _is_right(file, data):
                self.refused["repaired content"] += 1
                return None
            self._forget_symbols(toi)
            return self._hand_over(file, data, repaired=True)
        reception = self._objects.get(toi)
        if reception is None:
            return None
        reception.fill(start, data)
        return next(self._completed(toi, repaired=True), None)

    def _table_packet(self, packet: AlcPacket) -> Iterator[ReceivedFile]:
        instance = packet.header.instance
        if instance is None or instance in self._tables_done:
            return
        reception = self._tables.get(instance)
        if reception is None:
            if packet.header.information is None:
                self.refused["a table without EXT_FTI"] += 1
                return
            if packet.header.information.transfer_length > _LONGEST_TABLE:
                self.refused["a table that is too long"] += 1
                return
            reception = self._tables[instance] = ObjectReception(packet.header.information)
            if len(self._tables) > _TABLES:
                self._tables.popitem(last=False)
        if not reception.push(packet.block, packet.number, packet.symbol):
            self.refused["symbol"] += 1
            return
        if reception.is_whole:
            del self._tables[instance]
            self._tables_done[instance] = None
            # The numbers start over: an instance long ago is another one.
            if len(self._tables_done) > 1024:
                self._tables_done.popitem(last=False)
            yield from self._table(reception.content())

    def _table(self, xml: bytes) -> Iterator[ReceivedFile]:
        try:
            table = parse_fdt(xml)
        except FdtInvalid:
            self.refused["table"] += 1
            return
        self.tables_received += 1
        if table.refused:
            self.refused["line of a table"] += table.refused
        self.complete = table.complete
        for file in table.files:
            before = self._files.get(file.toi)
            if before is not None and not _is_same(before, file):
                # The number now is another file's.
                self._forget_symbols(file.toi)
                self._done.pop(file.toi, None)
                before = None
            if before is None:
                # What came for this place before has been superseded.
                for toi in [toi for toi, other in self._files.items() if other.location == file.location]:
                    self._forget(toi)
            self._files[file.toi] = file
            if len(self._files) > _MOST_FILES:
                self._forget(next(iter(self._files)))
        unknown, self._unknown = self._unknown, []
        for packet in unknown:
            yield from self._object_packet(packet)
        for file in table.files:
            if file.toi not in self._done:
                if file.transfer_length == 0 and file.toi not in self._objects:
                    if _is_right(file, b""):
                        yield self._hand_over(file, b"", repaired=False)
                else:
                    yield from self._completed(file.toi)

    def _object_packet(self, packet: AlcPacket) -> Iterator[ReceivedFile]:
        header = packet.header
        toi = header.toi
        if toi in self._done:
            self.symbols_repeated += 1
            return
        reception = self._objects.get(toi)
        if reception is None:
            file = self._files.get(toi)
            information = (file.information if file is not None else None) or header.information
            if information is None:
                if len(self._unknown) < _UNKNOWN:
                    self._unknown.append(packet)
                else:
                    self.refused["an unknown object"] += 1
                return
            reception = self._begin(toi, information)
            if reception is None:
                return
        if header.encoding_id != reception.information.encoding_id:
            self.refused["FEC encoding ID"] += 1
            return
        if header.information is not None and header.information != reception.information:
            if toi in self._files:
                self.refused["EXT_FTI"] += 1
                return
            # Of an object without a line in a table the last word counts.
            self._forget_symbols(toi)
            reception = self._begin(toi, header.information)
            if reception is None:
                return
        before = reception.symbols_repeated
        if packet.symbol and not reception.push(packet.block, packet.number, packet.symbol):
            self.refused["symbol"] += 1
            return
        self.symbols_received += 1
        self.symbols_repeated += reception.symbols_repeated - before
        yield from self._completed(toi)

    def _begin(self, toi: int, information: TransmissionInformation | None) -> ObjectReception | None:
        if information is None:
            return None
        length = information.transfer_length
        if length > self._max_object_bytes or length / information.symbol_bytes > _MOST_SYMBOLS:
            self.refused["an object that is too long"] += 1
            return None
        if self._bytes + length > self._max_bytes:
            self.refused["too much at once"] += 1
            return None
        self._bytes += length
        reception = self._objects[toi] = ObjectReception(information)
        return reception

    def _completed(self, toi: int, *, repaired: bool = False) -> Iterator[ReceivedFile]:
        """The file, if all of it and its line in a table are there."""
        reception, file = self._objects.get(toi), self._files.get(toi)
        if reception is None or file is None or not reception.is_whole:
            return
        content = reception.content()
        self.symbols_restored += reception.symbols_restored
        self._forget_symbols(toi)
        if not _is_right(file, content):
            # Symbols of different contents under one number: it begins anew.
            self.refused["content"] += 1
            return
        yield self._hand_over(file, content, repaired=repaired)

    def _hand_over(self, file: FileInformation, content: bytes, *, repaired: bool) -> ReceivedFile:
        self._done[file.toi] = file
        self.files_received += 1
        return ReceivedFile(
            file.location, content, file.content_type, file.content_encoding, file.etag, file.toi, repaired
        )

    def _forget_symbols(self, toi: int) -> None:
        reception = self._objects.pop(toi, None)
        if reception is not None:
            self._bytes -= reception.information.transfer_length

    def _forget(self, toi: int) -> None:
        self._forget_symbols(toi)
        self._files.pop(toi, None)
        self._done.pop(toi, None)


def _is_same(one: FileInformation, other: FileInformation) -> bool:
    return (one.location, one.md5, one.transfer_length, one.information) == (
        other.location,
        other.md5,
        other.transfer_length,
        other.information,
    )


def _is_right(file: FileInformation, content: bytes) -> bool:
    if file.transfer_length is not None and len(content) != file.transfer_length:
        return False
    return file.md5 is None or hashlib.md5(content, usedforsecurity=False).digest() == file.md5
