"""Sending to the MB-UPF (Nmb9): payloads in inner (S,G) packets, these in the UDP tunnel, paced to the session's MBR.

A rate counts the total lengths of inner IP packets. A stream leaves as its rate has it, packet by packet: in no second
more than one per cent above it, nor ten in a tenth of a second. What could not be sent in time (the machine was
elsewhere) is made up for where it was up to 6 ms, and given up beyond.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol, TypeAlias, runtime_checkable

import structlog

from nf.common.errors import InvalidArgument, Unavailable
from nf.mbstf._sending import Pacer, Stream

_log = structlog.get_logger(__name__)

_Batch: TypeAlias = tuple[list[bytes], list[Callable[[], None]]]

# How far ahead of the network packets are made: as long as whoever makes them may be kept from it.
_AHEAD_S: Final = 0.5
_FEWEST, _MOST = 32, 8192
# Packets made in one go: one stream does not keep others waiting.
_BATCH: Final = 64
_SEND_BUFFER_BYTES: Final = 4 << 20
# What is not larger crosses every tunnel of the way whole.
INNER_MTU: Final = 1400
_LARGEST_PACKET: Final = 65_000
_UDP: Final = 17
_NICENESS: Final = -15


class PayloadSource(Protocol):
    """Where a stream's payloads come from."""

    def batch(self, limit: int) -> list[bytes]:
        """Up to ``limit`` payloads, in order; none: there is nothing to send until the stream is woken."""
        ...


@runtime_checkable
class TellingSource(PayloadSource, Protocol):
    """A source that is told when its payloads have left."""

    def batch_and_callbacks(self, limit: int) -> tuple[list[bytes], list[Callable[[], None]]]:
        """As ``batch``, and what is to be called once these payloads have left."""
        ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where inner packets come from and go to: (S,G) with the UDP ports. Raises InvalidArgument for what is none."""

    source: str
    group: str
    port: int
    source_port: int | None = None
    hop_limit: int = 64

    def __post_init__(self) -> None:
        source, group = _address("source", self.source), _address("group", self.group)
        if source.version != group.version:
            raise InvalidArgument.of("group", f"expected an address of IPv{source.version} as the source, got {group}")
        if not group.is_multicast:
            raise InvalidArgument.of("group", f"expected a multicast address, got {group}")
        for name, port in (("port", self.port), ("source_port", self.source_port)):
            if port is not None and not 0 < port < 1 << 16:
                raise InvalidArgument.of(name, f"expected 1 to 65535, got {port}")
        if not 0 < self.hop_limit < 256:
            raise InvalidArgument.of("hop_limit", f"expected 1 to 255, got {self.hop_limit}")

    def header(self, dscp: int) -> bytes:
        """What each packet begins with: IP (not to be fragmented) and UDP; lengths, checksums, identification zero."""
        source, group = _address("source", self.source), _address("group", self.group)
        ports = struct.pack("!HHHH", self.source_port or self.port, self.port, 0, 0)
        if source.version == 4:
            ip = struct.pack("!BBHHHBBH", 0x45, dscp << 2, 0, 0, 0x4000, self.hop_limit, _UDP, 0)
        else:
            ip = struct.pack("!IHBB", 6 << 28 | dscp << 22, 0, _UDP, self.hop_limit)
        return ip + source.packed + group.packed + ports


@dataclass(frozen=True, slots=True)
class SendingCounters:
    """What a stream did: packets that left and their bytes (IP total lengths), and what did not.

    ``refused``: of those, what the system would not send. ``oversized``: longer than the MTU. ``waiting``: made, not
    sent yet. ``given_up_s``: time that stalls took and that was not made up for.
    """

    packets: int
    bytes: int
    refused: int
    oversized: int
    waiting: int
    given_up_s: float


class PacedSender:
    """One stream: of ``Senders.open``. All methods are thread-safe."""

    def __init__(self, source: PayloadSource, on_failure: Callable[[Exception], None] | None) -> None:
        self._source = source
        self._on_failure = on_failure
        self._oversized = 0
        self._put = 0
        # What is called once so many packets have left.
        self._awaited: deque[tuple[int, list[Callable[[], None]]]] = deque()
        self._stream: Stream | None = None
        self._closed = False
        self.failure: Exception | None = None

    @property
    def packets(self) -> int:
        """Inner packets that left."""
        return self.counters().packets

    @property
    def bytes(self) -> int:
        """The total lengths of the inner packets that left."""
        return self.counters().bytes

    def counters(self) -> SendingCounters:
        """What left so far; after ``close`` as it was then."""
        packets, size, refused, given_up_ns, waiting = self._open_stream().counters()
        return SendingCounters(packets, size, refused, self._oversized, waiting, given_up_ns / 1e9)

    def wake(self) -> None:
        """The source has payloads (again)."""
        if not self._closed:
            self._open_stream().wake()

    def retarget(self, tunnel: tuple[str, int]) -> None:
        """Sends to another tunnel address from the next packet on. Raises InvalidArgument for what is none."""
        self._open_stream().retarget(_sockaddr(tunnel))

    def set_rate(self, mbr_bps: int | None) -> None:
        """Another rate, from the next packet on; None: unpaced. Raises InvalidArgument for what is none."""
        self._open_stream().set_rate(_rate(mbr_bps))

    def close(self) -> None:
        """Nothing leaves after this has returned; payloads taken from the source and not sent yet are forgotten."""
        self._closed = True
        self._open_stream().close()

    def _open_stream(self) -> Stream:
        if self._stream is None:
            raise RuntimeError("the stream is not open")
        return self._stream

    def _refill(self) -> None:
        stream = self._open_stream()
        try:
            left = stream.counters()[0]
            while self._awaited and self._awaited[0][0] <= left and not self._closed:
                for callback in self._awaited.popleft()[1]:
                    callback()
            wakes = stream.wakes()
            limit = min(stream.room(), _BATCH)
            if limit == 0:
                return
            payloads, callbacks = self._batch(limit)
            if payloads:
                oversized = stream.put(payloads)
                self._oversized += oversized
                self._put += len(payloads) - oversized
            if callbacks:
                self._awaited.append((self._put, callbacks))
            if not payloads:
                stream.dry(wakes)
        except Exception as error:
            self.failure = error
            self.close()
            _log.exception("a source of payloads failed")
            if self._on_failure is not None:
                self._on_failure(error)

    def _batch(self, limit: int) -> _Batch:
        if isinstance(self._source, TellingSource):
            return self._source.batch_and_callbacks(limit)
        return self._source.batch(limit), []


class Senders:
    """Every stream of one MBSTF: a thread that sends, and one that makes packets half a second ahead.

    ``source`` is the address that tunnels start from, by default the one the system chooses.
    """

    def __init__(self, *, source: str | None = None) -> None:
        self._source = source
        self._sockets: list[socket.socket] = []
        self._pacer: Pacer | None = None
        self._maker: threading.Thread | None = None

    def start(self) -> None:
        """Starts both threads. Raises OSError where there is no socket to be had."""
        if self._pacer is not None:
            return
        by_family = {family: _tunnel_socket(family, self._source) for family in (socket.AF_INET, socket.AF_INET6)}
        self._sockets = [opened for opened in by_family.values() if opened is not None]
        if not self._sockets:
            raise Unavailable(f"Nmb9: no socket could be opened at {self._source or 'any address'}")
        v4, v6 = by_family[socket.AF_INET], by_family[socket.AF_INET6]
        self._pacer = Pacer(-1 if v4 is None else v4.fileno(), -1 if v6 is None else v6.fileno())
        self._maker = threading.Thread(target=_make, args=(self._pacer,), name="nmb9-packets", daemon=True)
        self._maker.start()

    def stop(self) -> None:
        """Ends every stream; nothing leaves after this has returned."""
        if self._pacer is None or self._maker is None:
            return
        self._pacer.stop()
        self._maker.join()
        for opened in self._sockets:
            opened.close()
        self._pacer = self._maker = None
        self._sockets = []

    def open(
        self,
        source: PayloadSource,
        endpoint: Endpoint | None,
        tunnel: tuple[str, int],
        *,
        mbr_bps: int | None,
        dscp: int = 0,
        raw: bool = False,
        mtu: int = INNER_MTU,
        on_failure: Callable[[Exception], None] | None = None,
    ) -> PacedSender:
        """A stream of what ``source`` has, at ``mbr_bps`` (None: unpaced), through ``tunnel`` (address and port).

        ``raw``: payloads are whole IP packets (no ``endpoint``); else they go into UDP from ``endpoint``. Inner packets
        longer than ``mtu`` are left out and counted. A source that raises ends its own stream: ``on_failure`` is told,
        on the thread that makes packets. Raises InvalidArgument.
        """
        if self._pacer is None:
            raise Unavailable("the sending of user data has not begun")
        if (endpoint is None) is not raw:
            raise InvalidArgument.of("endpoint", "expected one, except for packets that are whole already")
        if not 0 <= dscp < 64:
            raise InvalidArgument.of("dscpMarking", f"expected 0 to 63, got {dscp}")
        if not 68 <= mtu <= _LARGEST_PACKET:
            raise InvalidArgument.of("mtu", f"expected 68 to {_LARGEST_PACKET}, got {mtu}")
        rate_bps = _rate(mbr_bps)
        ahead = int(rate_bps * _AHEAD_S / 8 / mtu) if rate_bps else _MOST // 8
        sender = PacedSender(source, on_failure)
        header = b"" if endpoint is None else endpoint.header(dscp)
        capacity = max(_FEWEST, min(_MOST, ahead))
        # The maker may have it before open() returns: the stream is set under its feet, once and before the first use.
        sender._stream = self._pacer.open(sender, capacity, mtu, rate_bps, _sockaddr(tunnel), header)
        sender._stream.wake()
        return sender


def _make(pacer: Pacer) -> None:
    # Before other work, where the system allows it: what is not made in time is not sent in time.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
    while (stream := pacer.next_wanted()) is not None:
        owner = stream.owner
        if isinstance(owner, PacedSender) and owner._stream is stream and not owner._closed:
            owner._refill()


def _rate(mbr_bps: int | None) -> int:
    if mbr_bps is None:
        return 0
    if mbr_bps < 1:
        raise InvalidArgument.of("mbr", f"expected at least 1 bit/s, got {mbr_bps}")
    return mbr_bps


# Sessions share their source, their tunnel and often their group.
@lru_cache(maxsize=4096)
def _address(field: str, text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise InvalidArgument.of(field, f"expected an IP address, got {text!r}") from None


def _sockaddr(tunnel: tuple[str, int]) -> bytes:
    host, port = tunnel
    address = _address("mbUpfTunAddr", host)
    if not 0 < port < 1 << 16:
        raise InvalidArgument.of("mbUpfTunAddr.portNumber", f"expected 1 to 65535, got {port}")
    if address.version == 4:
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + address.packed + bytes(8)
    return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", port, 0) + address.packed + struct.pack("=I", 0)


def _tunnel_socket(family: socket.AddressFamily, source: str | None) -> socket.socket | None:
    """A UDP socket of this family, bound to ``source`` if that is one of its addresses; None where there cannot be."""
    if source is not None and (_address("source", source).version == 4) is not (family == socket.AF_INET):
        return None
    try:
        opened = socket.socket(family, socket.SOCK_DGRAM)
    except OSError:
        return None
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    if source is not None:
        try:
            opened.bind((source, 0))
        except OSError:
            opened.close()
            raise
    return opened
