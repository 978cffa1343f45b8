"""The server name in QUIC Initial packets: versions 1 (RFC 9000, RFC 9001) and 2 (RFC 9369), and late drafts of 1.

Initial packets are protected with keys that follow from the destination connection ID of the client's first one, so
whoever sees the connection begin can read them. Version Negotiation, Retry and unknown versions say nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final, NamedTuple

from upf.names import tls
from upf.names.answer import Answer, Name, No
from upf.names.assembly import Assembly

# The ClientHello's message header stands before what `tls.MAX_HELLO_BYTES` counts.
MAX_CRYPTO_BYTES: Final = 4 + tls.MAX_HELLO_BYTES
MAX_CRYPTO_PIECES: Final = 128
# Coalesced packets looked at in a datagram, and connection IDs remembered: the client's first, and one after a Retry.
MAX_PACKETS: Final = 4
MAX_KEYS: Final = 2

_LONG_HEADER: Final = 0x80
_MAX_CONNECTION_ID: Final = 20
# RFC 9001 §5.4.2: the sample begins as if the packet number had all of its four bytes.
_SAMPLE_BYTES: Final = 16
_PADDING, _PING, _ACK, _ACK_ECN, _CRYPTO = 0, 1, 2, 3, 6


@dataclass(frozen=True, slots=True)
class _Version:
    """What differs between versions: the salt of the keys, their labels, the type bits of an Initial and of a Retry."""

    salt: bytes
    label: bytes
    initial: int
    retry: int


_DRAFT_23: Final = _Version(bytes.fromhex("c3eef712c72ebb5a11a7d2432bb46365bef9f502"), b"quic ", 0, 3)
_DRAFT_29: Final = _Version(bytes.fromhex("afbfec289993d24c9e9786f19c6111e04390a899"), b"quic ", 0, 3)
_VERSIONS: Final = {
    0x00000001: _Version(bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"), b"quic ", 0, 3),
    0x6B3343CF: _Version(bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"), b"quicv2 ", 1, 0),
    **{0xFF000000 | draft: _DRAFT_23 for draft in range(23, 29)},
    **{0xFF000000 | draft: _DRAFT_29 for draft in range(29, 33)},
}


class Keys(NamedTuple):
    """What protects the Initial packets of one sender (RFC 9001 §5.1)."""

    key: bytes
    iv: bytes
    header_key: bytes


class InitialReader:
    """The client's Initial packets of one connection, as they come; it keeps what they have said so far."""

    def __init__(self) -> None:
        self._crypto = Assembly(MAX_CRYPTO_BYTES, MAX_CRYPTO_PIECES)
        self._keys: dict[tuple[int, bytes], Keys] = {}
        self._seen_quic = False

    @property
    def held_bytes(self) -> int:
        """Bytes kept."""
        return self._crypto.held_bytes

    def feed(self, datagram: bytes) -> Answer:
        """Take the payload of the next datagram of this direction."""
        at = 0
        for _ in range(MAX_PACKETS):
            packet = _read_long_header(datagram, at)
            if packet is None:
                break
            self._seen_quic = True
            if packet.initial:
                self._read_initial(packet)
            at = packet.end
        if not self._seen_quic:
            return No.NAME
        answer = tls.parse_hello(self._crypto.beginning)
        if isinstance(answer, Name) and not answer.final and len(self._crypto.beginning) >= MAX_CRYPTO_BYTES:
            return Name(answer.name, answer.hidden)
        return answer

    def _read_initial(self, packet: _Packet) -> None:
        """Decrypt a packet with the keys of a connection ID that is known, or else of its own."""
        number, own = packet.version, (packet.version, packet.connection_id)
        for known, keys in self._keys.items():
            if known[0] == number and (frames := _unprotect(packet, keys)) is not None:
                self._read_frames(frames)
                return
        if own in self._keys:
            return
        keys = client_keys(number, packet.connection_id)
        frames = _unprotect(packet, keys)
        if frames is not None:
            if len(self._keys) >= MAX_KEYS:
                del self._keys[next(iter(self._keys))]
            self._keys[own] = keys
            self._read_frames(frames)

    def _read_frames(self, frames: bytes) -> None:
        """Place what CRYPTO frames bring; other frames of Initial packets (RFC 9000 §12.4) are passed over."""
        at: int | None = 0
        while at is not None and at < len(frames):
            kind = frames[at]
            at += 1
            if kind == _PADDING:
                at = len(frames) - len(frames[at:].lstrip(b"\0"))
            elif kind in (_ACK, _ACK_ECN):
                at = _skip_ack(frames, at, ecn=kind == _ACK_ECN)
            elif kind == _CRYPTO:
                offset, at = _read_number(frames, at)
                length, at = _read_number(frames, at)
                if at is None or at + length > len(frames):
                    return
                self._crypto.add(offset, frames[at : at + length])
                at += length
            elif kind != _PING:
                return


def is_long_header(datagram: bytes) -> bool:
    """Whether a datagram may begin with a QUIC packet that has a long header, of any version."""
    return len(datagram) >= 7 and datagram[0] >= _LONG_HEADER


def client_keys(version: int, connection_id: bytes) -> Keys:
    """The keys of the client's Initial packets; ``version`` is one that is known."""
    known = _VERSIONS[version]
    initial = hmac.digest(known.salt, connection_id, hashlib.sha256)
    secret = _expand(initial, b"client in", 32)
    return Keys(
        key=_expand(secret, known.label + b"key", 16),
        iv=_expand(secret, known.label + b"iv", 12),
        header_key=_expand(secret, known.label + b"hp", 16),
    )


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446 §7.1 with an empty context; one block of SHA-256 is enough for it."""
    label = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes((len(label),)) + label + b"\0"
    return hmac.digest(secret, info + b"\x01", hashlib.sha256)[:length]


class _Packet(NamedTuple):
    """A packet with a long header. ``number_at``, ``end``: where its packet number begins, and what follows it."""

    version: int
    connection_id: bytes
    initial: bool
    data: bytes
    number_at: int
    end: int


def _read_long_header(datagram: bytes, start: int) -> _Packet | None:
    """The packet at ``start`` (RFC 9000 §17.2); None where no packet can be told from it, or nothing comes after it."""
    if not is_long_header(datagram[start : start + 7]):
        return None
    first, number = datagram[start], int.from_bytes(datagram[start + 1 : start + 5], "big")
    at = start + 5
    length = datagram[at]
    connection_id = datagram[at + 1 : at + 1 + length]
    at += 1 + length
    if length > _MAX_CONNECTION_ID or at >= len(datagram):
        return None
    at += 1 + datagram[at]
    version = _VERSIONS.get(number)
    kind = first >> 4 & 3
    if version is None or kind == version.retry or at > len(datagram):
        # Of another version only this is known (RFC 8999 §5.1). It may well be followed by one that is spoken here.
        return _Packet(number, connection_id, False, b"", 0, len(datagram))
    initial = kind == version.initial
    position: int | None = at
    if initial:
        token_length, position = _read_number(datagram, at)
        position = None if position is None else position + token_length
    length, position = _read_number(datagram, position)
    if position is None or position + length > len(datagram):
        return _Packet(number, connection_id, False, b"", 0, len(datagram))
    end = position + length
    return _Packet(number, connection_id, initial, datagram[start:end], position - start, end)


def _unprotect(packet: _Packet, keys: Keys) -> bytes | None:
    """The frames of an Initial packet (RFC 9001 §5.3, §5.4); None where these are not its keys."""
    # Takes long to import, and most captures do without.
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import ECB

    sample = packet.data[packet.number_at + 4 : packet.number_at + 4 + _SAMPLE_BYTES]
    if len(sample) < _SAMPLE_BYTES:
        return None
    mask = Cipher(AES(keys.header_key), ECB()).encryptor().update(sample)
    first = packet.data[0] ^ mask[0] & 0x0F
    length = 1 + (first & 3)
    frames_at = packet.number_at + length
    protected = packet.data[packet.number_at : frames_at]
    number = bytes(byte ^ cover for byte, cover in zip(protected, mask[1:], strict=False))
    header = bytes((first,)) + packet.data[1 : packet.number_at] + number
    # A connection's first packets are numbered from 0: their truncated number is the whole one.
    nonce = bytes(a ^ b for a, b in zip(keys.iv, number.rjust(12, b"\0"), strict=True))
    try:
        return AESGCM(keys.key).decrypt(nonce, packet.data[frames_at:], header)
    except InvalidTag:
        return None


def _skip_ack(frames: bytes, at: int | None, *, ecn: bool) -> int | None:
    """Where an ACK frame ends (RFC 9000 §19.3)."""
    for _ in range(2):
        _, at = _read_number(frames, at)
    ranges, at = _read_number(frames, at)
    _, at = _read_number(frames, at)
    if ranges > len(frames):
        return None
    for _ in range(2 * ranges + 3 * ecn):
        _, at = _read_number(frames, at)
    return at


def _read_number(data: bytes, at: int | None) -> tuple[int, int | None]:
    """A variable-length integer (RFC 9000 §16) and what follows it; (0, None) where it ends too early."""
    if at is None or at >= len(data):
        return 0, None
    length = 1 << (data[at] >> 6)
    if at + length > len(data):
        return 0, None
    value = int.from_bytes(data[at : at + length], "big") & ((1 << (8 * length - 2)) - 1)
    return value, at + length
