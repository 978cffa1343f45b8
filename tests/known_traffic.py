"""Captures of which every packet is known: what it is was decided before its bytes were made; nobody has to parse it.

A packet's truth is its flow, its IP total length, how much of it must have been captured to see that, and the datagram
of which it is a fragment. What can be seen of it (`seen`) follows from that, the snaplen, and the packets before.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import captures
from captures import (
    DESTINATION_OPTIONS,
    ETHERNET,
    FRAGMENT,
    HOP_BY_HOP,
    ROUTING,
    SECOND_NS,
    TCP,
    UDP,
    Captured,
)

FEATURES = ("steps back", "tags", "options", "extensions", "fragments", "snaplen 96")
SERVERS4, UES4 = 0xC6336400, 0x0A2D0000
SERVERS6, UES6 = 0x20010DB8_000A0000_00000000_00000000, 0x20010DB8_00450000_00000000_00000000
FIRST_REMEMBERED_NS = 60 * SECOND_NS
# How long a later fragment waits for its first, and how many do.
HELD_NS, MOST_HELD = SECOND_NS, 1024
WITHOUT_PORTS = (1, 47, 89)
HIDDEN = 255


class Flow(NamedTuple):
    """A packet's addresses, protocol and ports, as far as they can be seen."""

    family: int
    source: int
    destination: int
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    ports_known: bool = True


@dataclass(frozen=True, slots=True)
class Known:
    """A packet and the truth about it. ``flow`` is None for what is not IP; ``malformed`` packets have none either.

    gap_bits, gap_ns: time after the packet before it, as bits at the offered rate, and as it is (also back in time).
    protocol_at, ports_at: bytes of the frame that must have been captured to know the protocol and the ports.
    datagram: what a fragment belongs to; ``first`` tells whether it is its first. next_header: of a later one.
    """

    data: bytes
    gap_bits: int
    gap_ns: int
    flow: Flow | None = None
    ip_length: int = 0
    malformed: bool = False
    protocol_at: int = 0
    ports_at: int = 0
    datagram: int = 0
    first: bool = False
    next_header: int = 0


class Seen(NamedTuple):
    """What a user plane can know of a packet, and when it judges it; ``number`` is its place in the capture."""

    flow: Flow | None
    ip_length: int
    malformed: bool
    number: int
    at_ns: int


def known_traffic(feature: str, *, packets: int = 20_000, flows: int = 24, seed: int = 0) -> list[Known]:
    """A random mixture in which ``feature`` is frequent; sizes, gaps, addresses, protocols, ports are always mixed."""
    draw = random.Random(f"{feature} {seed}")
    chosen = [_flow(draw) for _ in range(flows)]
    made: list[Known] = []
    waiting: list[tuple[Known, ...]] = []
    while len(made) < packets:
        # The fragments of a datagram come one by one, others between them, the first not always first.
        if waiting and draw.random() < 0.6:
            pieces = waiting.pop(0)
        else:
            pieces = tuple(_packets(draw, feature, draw.choice(chosen), datagram=len(made) + 1))
        made.append(pieces[0])
        if len(pieces) > 1:
            waiting.append(pieces[1:])
    return made


def at_rate(known: Sequence[Known], offered_bps: int, *, nanoseconds: bool) -> list[Captured]:
    """The packets at the times at which they come when about so much IP traffic is offered, as a file states them."""
    now_ns, unit_ns = captures.START_NS, 1 if nanoseconds else 1000
    captured = []
    for packet in known:
        now_ns += packet.gap_bits * SECOND_NS // offered_bps + packet.gap_ns
        captured.append(Captured(now_ns // unit_ns * unit_ns, packet.data, len(packet.data)))
    return captured


def seen(known: Sequence[Known], times_ns: Sequence[int], snaplen: int) -> Iterator[Seen]:
    """What can be known of packets where ``snaplen`` bytes were captured, in the order in which they are judged."""
    firsts: dict[int, tuple[int, Flow]] = {}
    held: list[tuple[int, int, Seen]] = []
    now_ns = 0
    for number, (packet, now_ns) in enumerate(zip(known, times_ns, strict=True)):
        while held and abs(now_ns - held[0][0]) > HELD_NS:
            yield held.pop(0)[2]._replace(at_ns=now_ns)
        flow = packet.flow
        followers: list[Seen] = []
        if flow is not None:
            if packet.protocol_at > snaplen:
                flow = Flow(*flow[:3], HIDDEN, ports_known=False)
            elif packet.datagram and not packet.first:
                first_ns, first = firsts.get(packet.datagram, (0, flow))
                if abs(now_ns - first_ns) > FIRST_REMEMBERED_NS:
                    if len(held) == MOST_HELD:
                        yield held.pop(0)[2]._replace(at_ns=now_ns)
                    flow = Flow(*flow[:3], packet.next_header, ports_known=False)
                    held.append((now_ns, packet.datagram, Seen(flow, packet.ip_length, False, number, 0)))
                    continue
                flow = first
            elif packet.ports_at > snaplen:
                flow = Flow(*flow[:4], ports_known=False)
            elif packet.first:
                firsts[packet.datagram] = (now_ns, flow)
                followers = [each[2]._replace(flow=flow, at_ns=now_ns) for each in held if each[1] == packet.datagram]
                held = [each for each in held if each[1] != packet.datagram]
        yield Seen(flow, packet.ip_length, packet.malformed, number, now_ns)
        yield from followers
    for each in held:
        yield each[2]._replace(at_ns=now_ns)


def _flow(draw: random.Random) -> Flow:
    family = draw.choice((4, 4, 6))
    servers, ues = (SERVERS4, UES4) if family == 4 else (SERVERS6, UES6)
    source, destination = servers + draw.randrange(16), ues + draw.randrange(4)
    if draw.random() < 0.1:
        return Flow(family, source, destination, draw.choice(WITHOUT_PORTS))
    protocol = draw.choice((UDP, UDP, TCP, TCP, 132))
    return Flow(
        family, source, destination, protocol, draw.choice((80, 443, 443, 8000, 8050)), draw.randint(1024, 65535)
    )


def _gap(draw: random.Random, feature: str, bits: int) -> tuple[int, int]:
    """(bits at the offered rate, nanoseconds) until the packet comes."""
    fate = draw.random()
    if feature == "steps back" and fate < 0.027:
        if fate < 0.025:
            return 0, -draw.randrange(1, 2_000_000)
        # Around the 10 s beyond which a step back is a clock that was set.
        return 0, -draw.choice((9, 10, 10, 11, 30)) * SECOND_NS + draw.randrange(-1, 2)
    if feature in ("steps back", "fragments") and fate > 0.9995:
        return 0, draw.choice((1, 9, 59, 61)) * SECOND_NS
    if fate < 0.2:
        return 0, 0
    return bits * (draw.randrange(2000) if fate < 0.95 else draw.randrange(10_000)) // 1000, 0


def _packets(draw: random.Random, feature: str, flow: Flow, *, datagram: int) -> Iterator[Known]:
    """One packet of a flow, the fragments of one, or at times something that no rule wants."""
    mixed = feature == "snaplen 96"
    tags: tuple[int, ...] = ()
    if feature == "tags" or (mixed and draw.random() < 0.3):
        tags = draw.choice(((), (0x8100,), (0x88A8, 0x8100), (0x9100, 0x8100, 0x8100)))
    fate = draw.random()
    if fate < 0.01:
        yield Known(captures.linked(captures.payload(46), ETHERNET, 0x0806, vlans=tags), 400, 0)
        return
    if fate < 0.02:
        bad = captures.ipv4(flow.source & 0xFFFFFFFF, 1, flow.protocol, captures.payload(40))
        bad = draw.choice((b"\x44" + bad[1:], b"\x65" + bad[1:], bad[:2] + b"\0\x13" + bad[4:]))
        yield Known(captures.framed(bad, ETHERNET, vlans=tags, family=4), 400, 0, malformed=True)
        return
    length = draw.choice((8, 40, draw.randint(8, 1400), draw.randint(8, 1400), 1372))
    content = captures.payload(length)
    if flow.protocol not in WITHOUT_PORTS:
        content = captures.ports(flow.source_port, flow.destination_port, length)
    fragmented = (feature == "fragments" and draw.random() < 0.4) or (mixed and draw.random() < 0.1)
    if fragmented:
        content += captures.payload(draw.randint(0, 1400))
    make = _ipv4 if flow.family == 4 else _ipv6
    for packet, truth in make(draw, feature, flow, content, datagram if fragmented else 0):
        frame = captures.framed(packet, ETHERNET, vlans=tags)
        link_bytes = len(frame) - len(packet)
        gap_bits, gap_ns = _gap(draw, feature, len(packet) * 8)
        yield Known(
            frame.ljust(60, b"\0"),
            gap_bits,
            gap_ns,
            flow,
            len(packet),
            protocol_at=truth.protocol_at and link_bytes + truth.protocol_at,
            ports_at=truth.ports_at and link_bytes + truth.ports_at,
            datagram=truth.datagram,
            first=truth.first,
            next_header=truth.next_header,
        )


class _Truth(NamedTuple):
    """Of an IP packet: see Known; lengths without the link header, 0 where nothing beyond the IP header matters."""

    protocol_at: int = 0
    ports_at: int = 0
    datagram: int = 0
    first: bool = False
    next_header: int = 0


def _ipv4(
    draw: random.Random, feature: str, flow: Flow, content: bytes, datagram: int
) -> Iterator[tuple[bytes, _Truth]]:
    options = b""
    if feature == "options" or (feature == "snaplen 96" and draw.random() < 0.3):
        options = b"\x01" * (4 * draw.randint(0, 10))
    ports_at = 0 if flow.protocol in WITHOUT_PORTS else 24 + len(options)
    # Numbered by datagram, and at most some hundreds of them at a time: never the same one twice within a minute.
    identification = datagram % 65536
    # Without ports there is nothing for the later fragments to follow.
    followed = datagram if ports_at else 0
    pieces = _pieces(draw, content, datagram)
    for offset, piece, more in _disordered(draw, pieces):
        packet = captures.ipv4(
            flow.source,
            flow.destination,
            flow.protocol,
            piece,
            options=options,
            identification=identification,
            fragment_offset=offset,
            more_fragments=more,
        )
        first = bool(followed and offset == 0 and more)
        whole = offset == 0 and not more
        yield packet, _Truth(0, ports_at if offset == 0 else 0, 0 if whole else followed, first, flow.protocol)


def _ipv6(
    draw: random.Random, feature: str, flow: Flow, content: bytes, datagram: int
) -> Iterator[tuple[bytes, _Truth]]:
    kinds: list[int] = []
    if feature == "extensions" or (feature == "snaplen 96" and draw.random() < 0.5):
        kinds = draw.choices((ROUTING, DESTINATION_OPTIONS, 135, 139, 140), k=draw.randint(0, 3))
        kinds = [HOP_BY_HOP, *kinds] if draw.random() < 0.3 else kinds
    size = draw.choice((8, 16, 24))
    with_ports = 0 if flow.protocol in WITHOUT_PORTS else 4
    if not datagram:
        first_kind, headers = captures.chain(kinds, flow.protocol, length=size)
        at = 40 + len(headers)
        packet = captures.ipv6(flow.source, flow.destination, first_kind, headers + content)
        yield packet, _Truth(at if headers else 0, at + with_ports if with_ports else 0)
        return
    # What stands behind the fragment header is fragmented too.
    split = draw.randint(0, len(kinds))
    inner, inner_headers = captures.chain(kinds[split:], flow.protocol, length=size)
    outer, outer_headers = captures.chain(kinds[:split], FRAGMENT, length=size)
    fragment_at = 40 + len(outer_headers) + 8
    for offset, piece, more in _disordered(draw, _pieces(draw, inner_headers + content, datagram)):
        header = captures.fragment_header(inner, datagram, offset, more=more)
        packet = captures.ipv6(flow.source, flow.destination, outer, outer_headers + header + piece)
        if offset:
            yield packet, _Truth(fragment_at, 0, datagram, False, inner)
        else:
            at = fragment_at + len(inner_headers)
            yield packet, _Truth(at, at + with_ports if with_ports else 0, datagram if more else 0, more)


def _pieces(draw: random.Random, content: bytes, datagram: int) -> list[tuple[int, bytes, bool]]:
    """(offset, content, whether more follow); the first is long enough for the ports and what stands before them."""
    size = draw.randrange(128, 1400) // 8 * 8 if datagram else len(content)
    return [
        (offset, content[offset : offset + size], offset + size < len(content))
        for offset in range(0, len(content), size)
    ]


def _disordered(draw: random.Random, pieces: list[tuple[int, bytes, bool]]) -> list[tuple[int, bytes, bool]]:
    fate = draw.random()
    if len(pieces) > 1 and fate < 0.1:
        return pieces[1:]
    return pieces[::-1] if fate < 0.25 else pieces
