"""Multicast for tests: packets of an MBS session as an MBSTF sends them, and those who listen."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 10.0
LOOPBACK = 1
# linux/in.h
_IP_ADD_SOURCE_MEMBERSHIP, _MCAST_JOIN_SOURCE_GROUP, _IP_RECVTTL = 39, 46, 12


def udp_packet(
    source: str,
    group: str,
    payload: bytes,
    *,
    source_port: int = 4000,
    port: int = 5000,
    hops: int = 5,
    tos: int = 0x28,
    checksum: bool = True,
) -> bytes:
    """An IPv4 or IPv6 packet with UDP in it."""
    version = 6 if ":" in source else 4
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    addresses = socket.inet_pton(family, source) + socket.inet_pton(family, group)
    length = 8 + len(payload)
    udp = struct.pack(">HHHH", source_port, port, length, 0) + payload
    if checksum:
        total = internet_checksum(addresses + struct.pack(">II", length, 17) + udp) or 0xFFFF
        udp = udp[:6] + struct.pack(">H", total) + udp[8:]
    if version == 6:
        return struct.pack(">IHBB", 6 << 28 | tos << 20, length, 17, hops) + addresses + udp
    head = struct.pack(">BBHHHBBH", 0x45, tos, 20 + length, 0, 0x4000, hops, 17, 0) + addresses
    return head[:10] + struct.pack(">H", internet_checksum(head)) + head[12:] + udp


def internet_checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) & ~1])) + (data[-1] << 8 if len(data) & 1 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@contextmanager
def receiver(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A UDP socket at a free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        bound.bind((host, 0))
        bound.settimeout(PATIENCE_S)
        yield bound


@contextmanager
def listener(source: str, group: str, port: int = 5000, interface: int = LOOPBACK) -> Iterator[socket.socket]:
    """A UDP socket that has joined a source-specific group on an interface."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as joined:
        joined.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        joined.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        joined.bind((group, port))
        joined.settimeout(PATIENCE_S)
        level = socket.IPPROTO_IP if family == socket.AF_INET else socket.IPPROTO_IPV6
        # struct group_source_req: both addresses in the room of a sockaddr_storage each.
        request = struct.pack("=I4x", interface) + _storage(group) + _storage(source)
        joined.setsockopt(level, _MCAST_JOIN_SOURCE_GROUP, request)
        if family == socket.AF_INET:
            joined.setsockopt(level, _IP_RECVTTL, 1)
            joined.setsockopt(level, socket.IP_RECVTOS, 1)
        else:
            joined.setsockopt(level, socket.IPV6_RECVHOPLIMIT, 1)
            joined.setsockopt(level, socket.IPV6_RECVTCLASS, 1)
        yield joined


def heard(joined: socket.socket) -> tuple[bytes, str, int, int, int]:
    """The next datagram: payload, source, source port, hops, ToS or traffic class."""
    payload, ancillary, _, sender = joined.recvmsg(70_000, 256)
    found = {(level, kind): int.from_bytes(value[:4], "little") for level, kind, value in ancillary}
    if joined.family == socket.AF_INET:
        hops, tos = found[socket.IPPROTO_IP, 2], found[socket.IPPROTO_IP, 1] & 0xFF
    else:
        hops = found[socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT]
        tos = found[socket.IPPROTO_IPV6, socket.IPV6_TCLASS]
    return payload, sender[0], sender[1], hops, tos


def _storage(address: str) -> bytes:
    if ":" in address:
        packed = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, address), 0)
    else:
        packed = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(address))
    return packed.ljust(128, b"\0")
