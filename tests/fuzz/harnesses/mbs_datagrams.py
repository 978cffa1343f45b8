"""Any datagrams out of an Nmb9 tunnel: each is counted once, what is whole leaves as it came, and nothing else does.

An input is datagrams, each with its length before it (two bytes, little-endian).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

import captures
from multicast import udp_packet

from upf._mbs import BATCH, DROPPED, FORWARDED, MALFORMED, UNMATCHED, Branch, Replicator, Session
from upf.malformation import Malformation
from upf.parsing import parse_packet

FLOWS: Final = (("198.51.100.7", "232.45.0.1"), ("2001:db8:a::7", "ff3e::8000:1"))
START_NS: Final = 1_700_000_000 * 10**9
GAP_NS: Final = 10**5
# What stands in front of a packet for a tun device.
VNET_BYTES: Final = 10
# Where it is sent from UDP sockets, there is none: what can be sent so is looked at all the same.
NO_INTERFACE: Final = 1 << 30


def check(data: bytes) -> None:
    datagrams = list(read(data))
    replicator, session, other = Replicator(forwarding=True), Session(), Session()
    sink, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with sink, receiver:
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        branches = Branch("tun", sink.fileno()), Branch("udp", -1, interface=NO_INTERFACE)
        for each, (source, group) in zip((session, other), FLOWS, strict=True):
            addresses = ip_address(source).packed, ip_address(group).packed
            replicator.put(each, 0, *addresses, rate_bps=8_000_000, burst_bytes=700, forwards=True, branches=branches)
        offered = [(START_NS + at * GAP_NS, datagram) for at, datagram in enumerate(datagrams)]
        verdicts = replicator.offer(0, offered)
        left = list(received(receiver))
    assert len(verdicts) == len(datagrams)
    forwarded = [each for each, verdict in zip(datagrams, verdicts, strict=True) if verdict == FORWARDED]
    assert len(left) == len(forwarded)
    for sent, came in zip(left, forwarded, strict=True):
        assert sent[:VNET_BYTES] == bytes(VNET_BYTES)
        packet = sent[VNET_BYTES:]
        assert came.startswith(packet)
        found = parse_packet(captures.RAW, packet, len(packet), gtpu=False)
        assert found is not None
        assert not isinstance(found, Malformation)
        assert found.length == len(packet)
    counted = [replicator.counters(each) for each in (session, other)]
    assert sum(each.forwarded_packets for each in counted) == len(forwarded)
    assert sum(each.dropped_packets for each in counted) == verdicts.count(DROPPED)
    assert all(each.received_bytes == each.forwarded_bytes + each.dropped_bytes for each in counted)
    assert sum(each.forwarded_bytes for each in counted) == sum(map(len, left)) - VNET_BYTES * len(left)
    # Both sessions have the same branches, and each of them tells of both.
    tun, udp = counted[0].branches
    assert (tun.sent_packets, dict(tun.errors)) == (len(left), {})
    assert (udp.sent_packets, sum(udp.errors.values())) == (0, len(left))
    ingress = replicator.ingress()
    assert ingress.unmatched_packets == verdicts.count(UNMATCHED)
    assert sum(ingress.malformed.values()) == verdicts.count(MALFORMED)


def read(data: bytes) -> Iterator[bytes]:
    at = count = 0
    while at + 2 <= len(data) and count < BATCH:
        length = int.from_bytes(data[at : at + 2], "little")
        yield data[at + 2 : at + 2 + length]
        at += 2 + length
        count += 1


def received(receiver: socket.socket) -> Iterator[bytes]:
    with suppress(BlockingIOError):
        while True:
            yield receiver.recv(1 << 17)


def written(datagrams: list[bytes]) -> bytes:
    return b"".join(len(datagram).to_bytes(2, "little") + datagram for datagram in datagrams)


def seeds() -> Iterator[bytes]:
    (source, group), (source6, group6) = FLOWS
    whole = [udp_packet(source, group, b"four"), udp_packet(source6, group6, b"six", checksum=False)]
    tcp = bytes((0x11, 0x22, 0x33, 0x44)) + bytes(16)
    fragments = [bytearray(each) for each in whole]
    fragments[0][6:8] = b"\x20\x00"
    fragments[1][6] = 44
    options = captures.ipv6(source6, group6, 60, bytes((17, 0, 1, 4, 0, 0, 0, 0)) + whole[1][40:])
    yield written(whole)
    yield written([*map(bytes, fragments), captures.ipv4(source, group, captures.TCP, tcp), options])
    yield written([whole[0] + b"padding", whole[1][:-1], b"", b"\x45", udp_packet(source, group, bytes(600)), *whole])
