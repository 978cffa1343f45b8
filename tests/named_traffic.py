"""What connections say of their names, made for tests: TLS hellos, HTTP requests, QUIC Initial packets, DNS answers."""

from __future__ import annotations

import random
import ssl
import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from ipaddress import ip_address
from itertools import pairwise

from captures import DESTINATION_OPTIONS, ICMP, ICMPV6, TCP, UDP, chain, gtpu, ipv4, ipv6, pdu_session, udp
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from scapy.layers.dns import DNS, DNSQR, DNSRR

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
V1, V2 = 1, 0x6B3343CF
SALTS = {
    V1: bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"),
    V2: bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"),
}


@cache
def client_hello(name: str) -> bytes:
    """The first flight of a TLS client: the record in which OpenSSL says hello."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake needs an answer")


def handshake(name: str) -> bytes:
    """The ClientHello message of `client_hello`, without the record around it."""
    return client_hello(name)[5:]


def with_extension(hello: bytes, kind: int, content: bytes, *, first: bool = False) -> bytes:
    """A ClientHello message with one more extension."""
    at = 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at : at + 2], "big")
    at += 1 + hello[at]
    extension = struct.pack("!HH", kind, len(content)) + content
    extensions = extension + hello[at + 2 :] if first else hello[at + 2 :] + extension
    body = hello[4:at] + struct.pack("!H", len(extensions)) + extensions
    return b"\x01" + len(body).to_bytes(3, "big") + body


def records(message: bytes, *sizes: int) -> bytes:
    """A handshake message in TLS records of these sizes, the last taking what is left."""
    pieces, at = [], 0
    for size in (*sizes, len(message)):
        piece = message[at : at + size]
        at += size
        if piece:
            pieces.append(b"\x16\x03\x01" + struct.pack("!H", len(piece)) + piece)
    return b"".join(pieces)


def http_request(host: str, target: str = "/") -> bytes:
    return f"GET {target} HTTP/1.1\r\nUser-Agent: test\r\nHost: {host}\r\nAccept: */*\r\n\r\n".encode()


def tcp(source_port: int, destination_port: int, sequence: int, data: bytes = b"", *, flags: int = ACK) -> bytes:
    """A TCP segment."""
    return struct.pack("!HHIIBBHHH", source_port, destination_port, sequence, 0, 0x50, flags, 65535, 0, 0) + data


def dns_answer(question: str, answers: Iterable[tuple[str, str, int, str]]) -> bytes:
    """A DNS response; each answer is (owner, type, TTL in seconds, data)."""
    message = DNS(
        qr=1, qd=DNSQR(qname=question), an=[DNSRR(rrname=o, type=t, ttl=ttl, rdata=d) for o, t, ttl, d in answers]
    )
    return bytes(message)


# --- QUIC: RFC 9001 with the means of `cryptography`, apart from what is tested -----------------------------------


def expand_label(secret: bytes, label: str, length: int) -> bytes:
    name = b"tls13 " + label.encode()
    info = struct.pack("!HB", length, len(name)) + name + b"\0"
    return HKDFExpand(hashes.SHA256(), length, info).derive(secret)


def initial_keys(version: int, connection_id: bytes, sender: str = "client in") -> tuple[bytes, bytes, bytes]:
    """Key, IV and header protection key."""
    extract = hmac.HMAC(SALTS[version], hashes.SHA256())
    extract.update(connection_id)
    secret = expand_label(extract.finalize(), sender, 32)
    prefix = "quicv2" if version == V2 else "quic"
    return (
        expand_label(secret, f"{prefix} key", 16),
        expand_label(secret, f"{prefix} iv", 12),
        expand_label(secret, f"{prefix} hp", 16),
    )


def varint(number: int) -> bytes:
    for size, bits in ((1, 6), (2, 14), (4, 30), (8, 62)):
        if number < 1 << bits:
            return (number | (size.bit_length() - 1) << bits).to_bytes(size, "big")
    raise ValueError(number)


def crypto(offset: int, data: bytes) -> bytes:
    """A CRYPTO frame."""
    return b"\x06" + varint(offset) + varint(len(data)) + data


def quic_initial(
    frames: bytes,
    connection_id: bytes,
    *,
    version: int = V1,
    keys_of: bytes | None = None,
    number: int = 0,
    number_bytes: int = 4,
    token: bytes = b"",
    padded_to: int = 1162,
    sender: str = "client in",
) -> bytes:
    """A protected Initial packet; ``keys_of`` is the connection ID that its keys follow from, if it is another."""
    key, iv, header_key = initial_keys(version, connection_id if keys_of is None else keys_of, sender)
    frames = frames.ljust(padded_to, b"\0")
    first = 0xC0 | (0x10 if version == V2 else 0) | (number_bytes - 1)
    header = bytes((first,)) + struct.pack("!IB", version, len(connection_id)) + connection_id + b"\0"
    header += varint(len(token)) + token + struct.pack("!H", 0x4000 | (number_bytes + len(frames) + 16))
    packet_number = number.to_bytes(number_bytes, "big")
    header += packet_number
    nonce = (int.from_bytes(iv, "big") ^ number).to_bytes(12, "big")
    packet = bytearray(header + AESGCM(key).encrypt(nonce, frames, header))
    at = len(header) - number_bytes
    mask = Cipher(AES(header_key), ECB()).encryptor().update(bytes(packet[at + 4 : at + 20]))
    packet[0] ^= mask[0] & 0x0F
    for i in range(number_bytes):
        packet[at + i] ^= mask[1 + i]
    return bytes(packet)


def in_pieces(data: bytes, cuts: Sequence[int]) -> list[tuple[int, bytes]]:
    """The data cut at these places, each piece with its offset."""
    edges = [0, *sorted(cuts), len(data)]
    return [(low, data[low:high]) for low, high in pairwise(edges) if low < high]


# --- whole connections, mixed ---------------------------------------------------------------------------------------

NAMES = ("video.example.com", "a.cdn.example.net", "example.com", "other.example.org", "deep.a.video.example.com")
UES = {4: ["10.45.0.1", "10.45.0.2"], 6: ["2001:db8:45::1", "2001:db8:45::2"]}
SERVERS = {4: ["198.51.100.7", "198.51.100.8", "203.0.113.9"], 6: ["2001:db8:a::7", "2001:db8:a::8"]}
RESOLVERS = {4: "192.0.2.53", 6: "2001:db8::53"}


def mixture(seed: int, connections: int) -> list[tuple[int, bytes]]:
    """Packets of connections of every kind among each other, on raw IP: (time in ns, packet)."""
    draw = random.Random(seed)
    waiting = [list(_perhaps_tunnelled(draw, number, _connection(draw, number))) for number in range(connections)]
    now_ns = 1_600_000_000 * 10**9
    packets = []
    begun: list[list[bytes]] = []
    while waiting or begun:
        if waiting and (len(begun) < 6 or draw.random() < 0.1):
            begun.append(waiting.pop())
        one = draw.choice(begun)
        now_ns += draw.choice((0, 1000, 10**6, 10**8, 2 * 10**9))
        packets.append((now_ns, one.pop(0)))
        begun = [each for each in begun if each]
    return packets


def _perhaps_tunnelled(draw: random.Random, number: int, packets: Iterable[bytes]) -> Iterator[bytes]:
    """The packets as they are or, each direction under a TEID of its own, in GTP-U."""
    tunnelled = draw.random() < 0.3
    for packet in packets:
        if not tunnelled:
            yield packet
            continue
        family = packet[0] >> 4
        source = packet[12:16] if family == 4 else packet[8:24]
        uplink = any(source == ip_address(ue).packed for ue in UES[family])
        teid = 1 + number % 4 + 100 * uplink
        message = gtpu(packet, teid=teid, extensions=[pdu_session(1 + number % 3, pdu_type=uplink)])
        gnb, upf = "192.0.2.1", "192.0.2.2"
        yield ipv4(*((gnb, upf) if uplink else (upf, gnb)), UDP, udp(2152, 2152, message))


def _connection(draw: random.Random, number: int) -> Iterator[bytes]:
    family = draw.choice((4, 4, 6))
    ue, server = draw.choice(UES[family]), draw.choice(SERVERS[family])
    name = draw.choice(NAMES)
    kind = draw.choice(("tls", "tls", "http", "quic", "dns", "dns", "tcp", "udp", "icmp"))
    if kind == "dns":
        yield from _resolved(draw, family, ue, name)
        return
    port, server_port = 20_000 + number, draw.choice((443, 80, 5004))
    if kind == "icmp":
        # Its flows are told apart by their addresses alone.
        protocol = ICMP if family == 4 else ICMPV6
        yield from (_ip(draw, family, *ends, protocol, bytes(40)) for ends in ((ue, server), (server, ue)))
    elif kind in ("quic", "udp"):
        datagrams = _initials(draw, name) if kind == "quic" else [draw.randbytes(draw.randint(0, 60))]
        for at, data in enumerate(datagrams + [draw.randbytes(100) for _ in range(draw.randint(0, 6))]):
            if at and draw.random() < 0.4:
                yield _ip(draw, family, server, ue, UDP, udp(server_port, port, draw.randbytes(200)))
            yield _ip(draw, family, ue, server, UDP, udp(port, server_port, data))
    else:
        yield from _tcp_packets(draw, kind, name, (family, ue, server, port, server_port))


def _tcp_packets(draw: random.Random, kind: str, name: str, ends: tuple[int, str, str, int, int]) -> Iterator[bytes]:
    family, ue, server, port, server_port = ends
    hello = client_hello(name)
    if draw.random() < 0.3:
        hello = records(with_extension(handshake(name), draw.choice((0xFE0D, 0x1A1A)), bytes(300)), 200)
    stream = {"tls": hello, "http": http_request(name), "tcp": draw.randbytes(300)}[kind]
    start = draw.randrange(1 << 32)

    def up(offset: int, data: bytes, flags: int = ACK) -> bytes:
        segment = tcp(port, server_port, (start + offset) % (1 << 32), data, flags=flags)
        return _ip(draw, family, ue, server, TCP, segment)

    def down(data: bytes, flags: int = ACK) -> bytes:
        return _ip(draw, family, server, ue, TCP, tcp(server_port, port, 7, data, flags=flags))

    if draw.random() < 0.8:
        yield up(-1, b"", SYN)
        yield down(b"", SYN | ACK)
    pieces = in_pieces(stream, [draw.randrange(1, len(stream)) for _ in range(draw.randint(0, 3))])
    pieces += draw.sample(pieces, draw.randint(0, len(pieces)))
    if draw.random() < 0.4:
        draw.shuffle(pieces)
    for offset, data in pieces:
        yield up(offset, data)
        if draw.random() < 0.3:
            yield down(draw.randbytes(draw.choice((0, 50))))
    for _ in range(draw.randint(0, 12)):
        yield down(draw.randbytes(draw.randint(0, 1200))) if draw.random() < 0.8 else up(len(stream), b"")
    if draw.random() < 0.2:
        # The same five-tuple begins again.
        start = draw.randrange(1 << 32)
        yield up(-1, b"", SYN)
        yield up(0, client_hello(draw.choice(NAMES)))


def _resolved(draw: random.Random, family: int, ue: str, name: str) -> Iterator[bytes]:
    kind, owner = ("A" if family == 4 else "AAAA"), name
    answers = []
    if draw.random() < 0.5:
        owner = draw.choice(NAMES)
        answers.append((name, "CNAME", draw.choice((1, 60)), owner))
    answers += [(owner, kind, draw.choice((0, 3, 60)), address) for address in draw.sample(SERVERS[family], 2)]
    message = dns_answer(name, answers)
    if draw.random() < 0.2:
        message = message[: draw.randrange(len(message))]
    yield _ip(draw, family, ue, RESOLVERS[family], UDP, udp(5353, 53, message[:30]))
    if draw.random() < 0.3:
        framed = len(message).to_bytes(2, "big") + message
        for offset, data in in_pieces(framed, [len(framed) // 2]):
            yield _ip(draw, family, RESOLVERS[family], ue, TCP, tcp(53, 5353, 1 + offset, data))
    else:
        yield _ip(draw, family, RESOLVERS[family], ue, UDP, udp(53, 5353, message))


def _initials(draw: random.Random, name: str) -> list[bytes]:
    hello, connection_id = handshake(name), draw.randbytes(8)
    version = draw.choice((V1, V2))
    pieces = in_pieces(hello, [draw.randrange(1, len(hello)) for _ in range(draw.randint(0, 2))])
    return [
        quic_initial(crypto(*piece), connection_id, version=version, number=number)
        for number, piece in enumerate(pieces)
    ]


def _ip(draw: random.Random, family: int, source: str, destination: str, protocol: int, content: bytes) -> bytes:
    """A packet, of IPv4 at times with options or as the first fragment of more."""
    if family == 6:
        headers = (DESTINATION_OPTIONS,) if draw.random() < 0.1 else ()
        first, chained = chain(headers, protocol)
        return ipv6(source, destination, first, chained + content)
    options = b"\1\1\1\1" if draw.random() < 0.1 else b""
    packet = ipv4(source, destination, protocol, content, options=options, more_fragments=draw.random() < 0.03)
    return packet[:1] + draw.choice((b"\0", b"\0", b"\x28", b"\xb8")) + packet[2:]
