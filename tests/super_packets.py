"""Super-packets made with scapy, and the segments that they stand for, worked out without the engine."""

from __future__ import annotations

import struct

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

NEEDS_CHECKSUM = 1
TCP4, TCP6, USO, ECN = 1, 4, 5, 0x80
PLAIN = bytes(10)


def packet_bytes(source: str, destination: str, transport: Packet, payload: bytes, **ip: int) -> bytes:
    header = IPv6 if ":" in source else IP
    return bytes(header(src=source, dst=destination, **ip) / transport / Raw(payload))


def super_packet(packet: bytes, segment_bytes: int, *, ecn: bool = False) -> bytes:
    """An IP packet as the kernel hands it over: virtio-net header, and the pseudo-header's sum for a checksum."""
    start = 40 if packet[0] >> 4 == 6 else (packet[0] & 15) * 4
    protocol = packet[6] if packet[0] >> 4 == 6 else packet[9]
    kind, offset = (USO, 6) if protocol == 17 else (TCP6 if packet[0] >> 4 == 6 else TCP4, 16)
    header = struct.pack("=BBHHHH", NEEDS_CHECKSUM, kind | (ECN if ecn else 0), 0, segment_bytes, start, offset)
    addresses = packet[8:40] if packet[0] >> 4 == 6 else packet[12:20]
    pseudo = addresses + struct.pack("!II", len(packet) - start, protocol)
    at = start + offset
    return header + packet[:at] + _folded(pseudo).to_bytes(2, "big") + packet[at + 2 :]


def segments_of(message: bytes) -> list[bytes]:
    """IP packets with whole checksums, of a super-packet or an ordinary one behind its virtio-net header."""
    flags, kind, _, segment_bytes, _, _ = struct.unpack("=BBHHHH", message[:10])
    whole = (IPv6 if message[10] >> 4 == 6 else IP)(message[10:])
    if kind == 0:
        return [_finished(whole.copy())] if flags & NEEDS_CHECKSUM else [message[10:]]
    layer = TCP if TCP in whole else UDP
    payload = bytes(whole[layer].payload)
    count = -(-len(payload) // segment_bytes)
    segments = []
    for at in range(count):
        segment = whole.copy()
        if isinstance(segment, IP):
            segment.id = (whole.id + at) & 0xFFFF
        if layer is TCP:
            segment[TCP].seq = (whole[TCP].seq + at * segment_bytes) & 0xFFFFFFFF
            if at != count - 1:
                segment[TCP].flags = int(segment[TCP].flags) & ~0x09
            if at != 0:
                segment[TCP].flags = int(segment[TCP].flags) & ~0x80
        segment[layer].remove_payload()
        segment[layer].add_payload(Raw(payload[at * segment_bytes : (at + 1) * segment_bytes]))
        segments.append(_finished(segment))
    return segments


def _finished(packet: Packet) -> bytes:
    """With the lengths and checksums that scapy works out."""
    for layer, fields in ((IP, ("len", "chksum")), (IPv6, ("plen",)), (TCP, ("chksum",)), (UDP, ("len", "chksum"))):
        if layer in packet:
            for field in fields:
                packet[layer].delfieldval(field)
    return bytes(packet)


def _folded(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
