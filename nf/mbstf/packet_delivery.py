"""The packet distribution method (TS 26.502 §6.2): what comes in is repackaged for the session, or forwarded as it is.

Packets leave at the session's bit rate. What comes faster waits for a moment at most; the rest is dropped and counted.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections import deque
from typing import Final

from nf.common.resources import copy_of
from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.mbstf.delivery import Delivery, Watch
from nf.mbstf.dscp import dscp_of
from nf.mbstf.packet_ingest import IngestAddresses
from nf.mbstf.requests import ip_address, tunnel_end
from nf.mbstf.sending import Endpoint, PacedSender, Senders
from nf.mbstf.v1.dist_session_pb2 import DistSession, DistSessionProgress, PktDistributionData

# What is received in one go; others come to their turn in between.
_AT_ONCE: Final = 64
_LARGEST: Final = 65_535
# A jumbo frame; a longer packet is left out.
_LONGEST_PACKET: Final = 9000
# How much may wait where the session has no bound on the delay, and the least that may at any rate.
_WAIT_MS: Final = 100
_LEAST_BYTES: Final = 15_000
_HEADERS: Final = {4: 28, 6: 48}


class PacketQueue:
    """Packets between the event loop, which puts them, and the sender's thread, which takes them."""

    def __init__(self, max_bytes: int, header_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._header_bytes = header_bytes
        self._packets: deque[bytes] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, packet: bytes) -> bool:
        """Whether there was room for it."""
        size = len(packet) + self._header_bytes
        with self._lock:
            if self._bytes + size > self.max_bytes:
                return False
            self._packets.append(packet)
            self._bytes += size
            return True

    def batch(self, limit: int) -> list[bytes]:
        """Up to ``limit`` packets, in the order in which they came."""
        with self._lock:
            taken = [self._packets.popleft() for _ in range(min(limit, len(self._packets)))]
            self._bytes -= sum(map(len, taken)) + len(taken) * self._header_bytes
        return taken


class PacketDelivery(Delivery):
    """What runs of a session of the packet method."""

    def __init__(
        self,
        session: DistSession,
        watch: Watch,
        addresses: IngestAddresses,
        senders: Senders,
        *,
        ingest_required: bool,
    ) -> None:
        super().__init__(session, watch)
        data = session.pkt_distribution_data
        self._addresses = addresses
        self._senders = senders
        self._required = data.ingest_required if data.HasField("ingest_required") else ingest_required
        self._forwards = (
            data.pkt_distribution_operating_mode == shared.PKT_DISTRIBUTION_OPERATING_MODE_PACKET_FORWARD_ONLY
        )
        self._egress = _known_end(data)
        self._group = None if self._forwards else ip_address(session.up_traffic_flow_info.dest_ip_addr)
        self._header_bytes = 0 if self._group is None else _HEADERS[self._group.version]
        self._socket: socket.socket | None = None
        self._closes = False
        self._queue: PacketQueue | None = None
        self._sender: PacedSender | None = None
        self._sent_before = DistSessionProgress()

    async def load(self) -> None:
        """Packets need nothing that is not there."""

    def begin_ingest(self, *, resumed: bool) -> None:
        """Listens from now on. Raises IngestAddressTaken."""
        self._socket, self._closes = self._addresses.open(self.session)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._receive, self._socket)
        self.watch.expect(True)
        if not self._required:
            self.note_first()

    async def end_ingest(self) -> None:
        """Listens no longer."""
        opened, self._socket = self._socket, None
        if opened is not None:
            asyncio.get_running_loop().remove_reader(opened.fileno())
            if self._closes:
                opened.close()

    def begin_sending(self) -> None:
        """Sends what comes from now on."""
        if self._sender is not None:
            return
        queue = PacketQueue(self._room(), self._header_bytes)
        endpoint = None
        if self._group is not None:
            source = ip_address(self.session.source_ip_addr)
            endpoint = Endpoint(str(source), str(self._group), self.session.up_traffic_flow_info.port_number)
        self._sender = self._senders.open(
            queue,
            endpoint,
            tunnel_end(self.session.mb_upf_tun_addr),
            mbr_bps=self.session.mbr_bps,
            dscp=dscp_of(self.session.dscp_marking),
            raw=self._forwards,
            mtu=_LONGEST_PACKET,
            on_failure=self.sending_failed,
        )
        self._queue = queue

    def end_sending(self) -> None:
        """Sends nothing any more."""
        sender, self._sender, self._queue = self._sender, None, None
        if sender is not None:
            sender.close()
            self._sent_before.packets_sent += sender.packets
            self._sent_before.bytes_sent += sender.bytes

    def change(self, session: DistSession) -> None:
        """Goes on with another tunnel or bit rate."""
        self.session = session
        if self._sender is not None and self._queue is not None and session.HasField("mb_upf_tun_addr"):
            self._sender.retarget(tunnel_end(session.mb_upf_tun_addr))
            self._sender.set_rate(session.mbr_bps)
            self._queue.max_bytes = self._room()

    def progress(self) -> DistSessionProgress:
        """What has come in and gone out."""
        progress = copy_of(self.counted)
        progress.packets_sent = self._sent_before.packets_sent
        progress.bytes_sent = self._sent_before.bytes_sent
        if self._sender is not None:
            progress.packets_sent += self._sender.packets
            progress.bytes_sent += self._sender.bytes
        return progress

    def _room(self) -> int:
        wait_ms = self.session.max_delay_ms or _WAIT_MS
        return max(_LEAST_BYTES, self.session.mbr_bps * wait_ms // 8000)

    def _receive(self, opened: socket.socket) -> None:
        came = False
        for _ in range(_AT_ONCE):
            try:
                packet, sender = opened.recvfrom(_LARGEST)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self.watch.problem(error.strerror or str(error))
                break
            if self._egress is not None and (sender[0], sender[1]) != self._egress:
                self._refuse(f"a packet of {sender[0]} port {sender[1]}, expected {self._egress[0]} {self._egress[1]}")
                continue
            if self._forwards and not _is_ip_packet(packet):
                self._refuse(f"{len(packet)} bytes that are no IP packet")
                continue
            came = True
            self.counted.ingested += 1
            self.counted.ingested_bytes += len(packet)
            if self._queue is not None and not self._queue.put(packet):
                self.counted.packets_dropped += 1
        if came:
            self.watch.ingested()
            self.note_first()
            if self._sender is not None:
                self._sender.wake()

    def _refuse(self, why: str) -> None:
        self.counted.ingest_failures += 1
        self.watch.problem(why)


def _known_end(data: PktDistributionData) -> tuple[str, int] | None:
    """Who alone may send to the session; None: anyone."""
    ingest = data.mb_stf_ingest_addr
    if not ingest.HasField("af_egress_tun_addr"):
        return None
    host, port = tunnel_end(ingest.af_egress_tun_addr)
    return str(ipaddress.ip_address(host)), port


def _is_ip_packet(packet: bytes) -> bool:
    """Whether that is one IP packet, whole and nothing else."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        return header >= 20 and int.from_bytes(packet[2:4]) == len(packet) >= header
    if len(packet) >= 40 and packet[0] >> 4 == 6:
        return int.from_bytes(packet[4:6]) + 40 == len(packet)
    return False
