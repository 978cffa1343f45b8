"""FLUTE sessions: objects into ALC packets, with the file delivery table among them (TS 26.346 §7, RFC 3926, RFC 5775).

The packets of an object are flute-alc's. The table is castcore's own: it has the profile of 3GPP and version 1, lists
what was sent last, and comes again before every object, among its packets and when there is nothing else to send. An
object that is sent again keeps its TOI, so that receivers collect its symbols over the repetitions.
"""

from __future__ import annotations

import base64
import logging
import re
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from flute import sender

from nf.common.clock import Clock, SystemClock
from nf.common.errors import InvalidArgument
from nf.mbstf.flute_fdt import INSTANCES, FdtSettings, FileEntry, as_table_packet, fdt_packets, fdt_xml
from nf.mbstf.flute_fec import NO_CODE, REED_SOLOMON, Blocks, Fec
from nf.mbstf.objects import Object, md5_of

# TOIs of two bytes; 0 is the FDT's.
_TOIS: Final = 1 << 16
# Objects whose TOI is kept for a repetition; half of the numbers, so that one that is given anew has long been silent.
_REMEMBERED: Final = _TOIS // 2
# Copies of the table when there is nothing else to send.
_LAST_COPIES: Final = 4
_EXT_FDT_BYTES: Final = 4
# Packets of objects to each of the table, at least.
_TABLE_SHARE: Final = 40
_CLOSE_OBJECT: Final = 0x01
_DIGEST: Final = re.compile(rb'Content-MD5="([A-Za-z0-9+/]{22}==)"')

# flute-alc tells of every symbol where it is let, and writes where nobody listens.
logging.getLogger("flute").setLevel(logging.CRITICAL)

_UDP_HEADER: Final = 8
_IP_HEADER: Final = {4: 20, 6: 40}


@dataclass(slots=True)
class _Queued:
    """An object on its way to being sent."""

    object: Object
    on_sent: Callable[[], None] | None
    on_unreadable: Callable[[OSError], None] | None
    last: bool


@dataclass(slots=True)
class _Transmission:
    """The object being sent: where its packets come from, and what each begins with."""

    queued: _Queued
    encoder: sender.Sender
    toi: int


class FluteSession:
    """One FLUTE session: ``add`` objects, take packets by ``batch``; thread-safe.

    ``tsi`` has 16 bits; ``mtu`` is that of the inner IP packet of version ``ip_version``. ``first_instance`` and
    ``first_toi`` are random unless given: receivers of an earlier run of the session shall not take one for another.
    """

    def __init__(
        self,
        tsi: int,
        *,
        fec: Fec | None = None,
        mtu: int = 1400,
        ip_version: int = 4,
        fdt: FdtSettings | None = None,
        clock: Clock | None = None,
        first_instance: int | None = None,
        first_toi: int | None = None,
    ) -> None:
        if not 0 <= tsi < 1 << 16:
            raise InvalidArgument.of("fluteTsi", f"expected 0 to 65535, found {tsi}")
        self.tsi = tsi
        self.payload_bytes = mtu - _IP_HEADER[ip_version] - _UDP_HEADER
        if self.payload_bytes < 256:
            raise InvalidArgument.of("mtu", f"expected 304 bytes at least, found {mtu}")
        self._fec = fec or Fec()
        self._fdt = fdt or FdtSettings()
        self._clock = clock or SystemClock()
        self._instance = (secrets.randbelow(INSTANCES) if first_instance is None else first_instance) % INSTANCES
        self._next_toi = (secrets.randbelow(_TOIS - 1) + 1 if first_toi is None else first_toi) % _TOIS or 1
        self._lock = threading.Lock()
        self._queue: deque[_Queued] = deque()
        # By location, the one sent last at the end.
        self._files: OrderedDict[str, FileEntry] = OrderedDict()
        self._tois: set[int] = set()
        self._transmission: _Transmission | None = None
        # The instance in force: what it lists, its packets, until when it is sent.
        self._listed: tuple[FileEntry, ...] = ()
        self._table: list[bytes] = []
        self._renewal_s = 0.0
        self._pending: deque[bytes] = deque()
        self._since_table = 0
        self._last_copies = 0
        self._closing = False

    def add(
        self,
        item: Object,
        *,
        on_sent: Callable[[], None] | None = None,
        on_unreadable: Callable[[OSError], None] | None = None,
        last: bool = True,
    ) -> None:
        """Sends ``item`` once, after those added before.

        ``on_sent`` is called when its last packet has left (or, with ``batch``, was taken), ``on_unreadable`` where its
        file could not be read then; both by whoever takes packets.
        A location with the content it had before keeps its TOI; another content gets another. ``last`` is False where
        it will come again: its last packet then does not close the object. Raises InvalidArgument for an object too
        long for the session's FEC scheme, OSError for a file that cannot be read.
        """
        self._fec.blocks(item.size_bytes(), self.payload_bytes)
        with self._lock:
            self._queue.append(_Queued(item, on_sent, on_unreadable, last))
            self._closing = False

    def remove(self, location: str) -> None:
        """No further packet, nor a line in the table, of what stands at ``location``; nothing if there is none."""
        with self._lock:
            self._queue = deque(queued for queued in self._queue if queued.object.location != location)
            if self._transmission is not None and self._transmission.queued.object.location == location:
                self._transmission = None
            self._forget(location)

    def close_session(self) -> None:
        """The queue is forgotten; the last packets will be the table, complete, with the Close-session flag."""
        with self._lock:
            self._queue.clear()
            self._transmission = None
            self._closing = True

    def is_idle(self) -> bool:
        """Whether there is nothing to send."""
        with self._lock:
            return not (self._pending or self._queue or self._transmission or self._last_copies or self._closing)

    def batch(self, limit: int) -> list[bytes]:
        """Up to ``limit`` ALC packets; none if there is nothing to send."""
        packets, done = self.batch_and_callbacks(limit)
        for callback in done:
            callback()
        return packets

    def batch_and_callbacks(self, limit: int) -> tuple[list[bytes], list[Callable[[], None]]]:
        """As ``batch``; whoever takes them calls what is to be called once they have left."""
        packets: list[bytes] = []
        done: list[Callable[[], None]] = []
        with self._lock:
            while len(packets) < limit and self._fill(packets, limit - len(packets), done):
                pass
        return packets, done

    def _fill(self, packets: list[bytes], room: int, done: list[Callable[[], None]]) -> bool:
        """Some packets more; whether to go on."""
        if self._closing:
            self._closing = False
            self._last_copies = 0
            self._pending = deque(self._table_packets((), closing=True) * _LAST_COPIES)
        if self._pending:
            packets.append(self._pending.popleft())
            return True
        if self._transmission is None:
            return self._begin(done)
        until_table = max(self._fdt.every, _TABLE_SHARE * len(self._table)) - self._since_table
        if until_table <= 0:
            self._repeat_table()
            return True
        packets_now = self._take(self._transmission, min(room, until_table))
        if not packets_now:
            self._transmission_done(self._transmission, done)
        packets.extend(packets_now)
        self._since_table += len(packets_now)
        return True

    def _begin(self, done: list[Callable[[], None]]) -> bool:
        """The next object, its table first; if there is none, the table for the last time. Whether to go on."""
        if not self._queue:
            if self._last_copies == 0:
                return False
            self._last_copies -= 1
            self._repeat_table()
            return True
        queued = self._queue.popleft()
        try:
            content = queued.object.read()
        except OSError as error:
            if queued.on_unreadable is not None:
                done.append(_call_with(queued.on_unreadable, error))
            return True
        try:
            blocks = self._fec.blocks(len(content), self.payload_bytes)
        except InvalidArgument as error:
            # A file that has grown past what the scheme numbers since it was added.
            if queued.on_unreadable is not None:
                done.append(_call_with(queued.on_unreadable, OSError(str(error))))
            return True
        encoder = _encoder(self.tsi, content, blocks)
        entry = self._entry(queued.object, len(content), _digest(encoder) or md5_of(content), blocks)
        self._transmission = _Transmission(queued, encoder, entry.toi)
        self._last_copies = _LAST_COPIES
        self._repeat_table()
        return True

    def _take(self, transmission: _Transmission, limit: int) -> list[bytes]:
        """Up to ``limit`` packets of the object being sent, with its TOI; none at its end."""
        read = transmission.encoder.read
        head = b""
        toi = transmission.toi.to_bytes(2, "big")
        packets: list[bytes] = []
        while len(packets) < limit and (packet := read()) is not None:
            if packet[10:12] == b"\0\0":
                # The encoder's own table.
                continue
            if packet[1] & _CLOSE_OBJECT:
                flags = packet[1] if transmission.queued.last else packet[1] & ~_CLOSE_OBJECT
                packets.append(packet[:1] + bytes((flags,)) + packet[2:10] + toi + packet[12:])
                continue
            head = head or packet[:10] + toi
            packets.append(head + packet[12:])
        return packets

    def _transmission_done(self, transmission: _Transmission, done: list[Callable[[], None]]) -> None:
        self._transmission = None
        if transmission.queued.on_sent is not None:
            done.append(transmission.queued.on_sent)

    def _entry(self, item: Object, size_bytes: int, md5: bytes, blocks: Blocks) -> FileEntry:
        """The file's line in the table, with its TOI: the one it had, if it is what it was."""
        entry = FileEntry(
            toi=0,
            location=item.location,
            content_type=item.content_type,
            size_bytes=size_bytes,
            md5=md5,
            blocks=blocks,
            etag=item.etag,
            cache=item.cache,
            content_encoding=item.content_encoding,
        )
        before = self._files.get(item.location)
        if before is not None and (before.md5, before.size_bytes) == (entry.md5, entry.size_bytes):
            entry = replace(entry, toi=before.toi)
        else:
            self._forget(item.location)
            if len(self._files) >= _REMEMBERED:
                self._forget(next(iter(self._files)))
            entry = replace(entry, toi=self._new_toi())
        self._files[item.location] = entry
        self._files.move_to_end(item.location)
        return entry

    def _new_toi(self) -> int:
        while self._next_toi in self._tois:
            self._next_toi = (self._next_toi + 1) % _TOIS or 1
        toi = self._next_toi
        self._next_toi = (toi + 1) % _TOIS or 1
        self._tois.add(toi)
        return toi

    def _forget(self, location: str) -> None:
        entry = self._files.pop(location, None)
        if entry is not None:
            self._tois.discard(entry.toi)

    def _repeat_table(self) -> None:
        """The table is next: the instance in force, or a new one where the files or the time ask for it."""
        listed = tuple(self._files.values())[-self._fdt.files :]
        if not listed:
            return
        if listed != self._listed or self._clock.now_ns() / 1e9 >= self._renewal_s:
            self._table = self._table_packets(listed)
            self._listed = listed
        self._pending.extend(self._table)
        self._since_table = 0

    def _table_packets(self, listed: tuple[FileEntry, ...], *, closing: bool = False) -> list[bytes]:
        now_s = self._clock.now_ns() // 10**9
        # Renewed at half of its life, so that no receiver is ever without a valid one.
        self._renewal_s = now_s + self._fdt.lifetime_s / 2
        xml = fdt_xml(
            listed or tuple(self._files.values())[-self._fdt.files :],
            now_s + self._fdt.lifetime_s,
            self._fdt.profile,
            complete=closing,
        )
        instance, version = self._instance, self._fdt.version
        blocks = self._fec.blocks(len(xml), self.payload_bytes - _EXT_FDT_BYTES)
        if blocks.encoding_id == NO_CODE:
            packets = fdt_packets(xml, self.tsi, instance, version, self.payload_bytes, close_session=closing)
        else:
            # Its symbols are as much in need of parity as those of the files that nobody knows without it.
            encoder = _encoder(self.tsi, xml, blocks)
            packets = [
                as_table_packet(packet, instance, version, close_session=closing)
                for packet in iter(encoder.read, None)
                if packet[10:12] != b"\0\0"
            ]
        self._instance = (self._instance + 1) % INSTANCES
        return packets


def _call_with(callback: Callable[[OSError], None], error: OSError) -> Callable[[], None]:
    return lambda: callback(error)


def _digest(encoder: sender.Sender) -> bytes | None:
    """The digest that flute-alc has made of the object already: its own table, which comes first, shows it.

    None: the table has more than one packet.
    """
    found = _DIGEST.search(encoder.read() or b"")
    return base64.b64decode(found.group(1)) if found else None


def _encoder(tsi: int, content: bytes, blocks: Blocks) -> sender.Sender:
    """flute-alc's sender of this one object; its TOI is 1 and its table not wanted."""
    config = sender.Config()
    config.multiplex_files = 1
    if blocks.encoding_id == NO_CODE:
        oti = sender.Oti.new_no_code(blocks.symbol_bytes, blocks.source_symbols)
    elif blocks.encoding_id == REED_SOLOMON:
        oti = sender.Oti.new_reed_solomon_rs28(blocks.symbol_bytes, blocks.source_symbols, blocks.parity_symbols)
    else:
        oti = sender.Oti.new_reed_solomon_rs28_under_specified(
            blocks.symbol_bytes, blocks.source_symbols, blocks.parity_symbols
        )
    encoder = sender.Sender(tsi, sender.Oti.new_no_code(blocks.symbol_bytes, 64), config)
    encoder.add_object_from_buffer(content, "application/octet-stream", "file:///", oti)
    return encoder
