"""What connections say of their names, made for tests: TLS hellos, HTTP requests, QUIC Initial packets, DNS answers."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise

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


def udp(source_port: int, destination_port: int, data: bytes) -> bytes:
    """A UDP datagram."""
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(data), 0) + data


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
