"""Addresses and their names in DNS responses (RFC 1035 §4, RFC 3596 AAAA), along chains of CNAME."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from upf.names.patterns import read_name

PORT: Final = 53
MAX_RECORDS: Final = 512
# Names that lead to one address, at the most, and the aliases behind each other among them.
MAX_NAMES: Final = 32
# A TTL with the highest bit set means 0 (RFC 2181 §8); nobody keeps an answer for longer than a week (RFC 8767 §4).
MAX_TTL_S: Final = 7 * 86_400

_MAX_POINTERS: Final = 64
_MAX_WIRE_NAME: Final = 255
_A, _CNAME, _AAAA = 1, 5, 28
_INTERNET: Final = 1
_ADDRESS_BYTES: Final = {_A: 4, _AAAA: 16}


@dataclass(frozen=True, slots=True)
class Resolution:
    """An address that an answer gives, and the names that lead to it there: its own and those that are aliases of it.

    ``ttl_s`` is the least TTL on the way.
    """

    family: int
    address: int
    names: tuple[str, ...]
    ttl_s: int


def parse_response(message: bytes) -> tuple[Resolution, ...]:
    """The addresses in the answers of a response; none where it is no response, or says an error.

    Of a message that ends early, what is there counts.
    """
    if len(message) < 12:
        return ()
    flags = int.from_bytes(message[2:4], "big")
    # A response (QR) to a standard query (opcode 0) without an error (RCODE 0).
    if flags & 0xF80F != 0x8000:
        return ()
    questions, answers = int.from_bytes(message[4:6], "big"), int.from_bytes(message[6:8], "big")
    at = 12
    for _ in range(min(questions, MAX_RECORDS)):
        end = _skip_name(message, at)
        if end is None:
            return ()
        at = end + 4
    return _resolutions(*_read_answers(message, at, min(answers, MAX_RECORDS)))


def split_messages(stream: bytes) -> tuple[list[bytes], int]:
    """The whole messages at the beginning of a TCP stream (RFC 1035 §4.2.2), and the bytes that they take."""
    messages, at = [], 0
    while len(stream) - at >= 2:
        end = at + 2 + int.from_bytes(stream[at : at + 2], "big")
        if end > len(stream):
            break
        messages.append(stream[at + 2 : end])
        at = end
    return messages, at


_Aliases = dict[str, list[tuple[str, int]]]
_Addresses = list[tuple[str, int, int, int]]


def _read_answers(message: bytes, at: int, count: int) -> tuple[_Aliases, _Addresses]:
    """Aliases by the name that they lead to, and addresses: (name, family, address, TTL)."""
    aliases: _Aliases = {}
    addresses: _Addresses = []
    for _ in range(count):
        owner_at, end = at, _skip_name(message, at)
        if end is None or end + 10 > len(message):
            break
        kind, record_class = (
            int.from_bytes(message[end : end + 2], "big"),
            int.from_bytes(message[end + 2 : end + 4], "big"),
        )
        ttl_s = int.from_bytes(message[end + 4 : end + 8], "big")
        data_at = end + 10
        at = data_at + int.from_bytes(message[end + 8 : data_at], "big")
        if at > len(message):
            break
        if record_class != _INTERNET or kind not in (_A, _AAAA, _CNAME):
            continue
        owner = _read_name(message, owner_at)
        ttl_s = 0 if ttl_s >> 31 else min(ttl_s, MAX_TTL_S)
        if owner is None:
            continue
        if kind == _CNAME:
            target = _read_name(message, data_at)
            if target is not None:
                aliases.setdefault(target, []).append((owner, ttl_s))
        elif at - data_at == _ADDRESS_BYTES[kind]:
            address = int.from_bytes(message[data_at:at], "big")
            addresses.append((owner, 4 if kind == _A else 6, address, ttl_s))
    return aliases, addresses


def _resolutions(aliases: _Aliases, addresses: _Addresses) -> tuple[Resolution, ...]:
    known: dict[str, tuple[tuple[str, ...], int]] = {}
    found = []
    for owner, family, address, ttl_s in addresses:
        if owner not in known:
            known[owner] = _leading_to(owner, aliases)
        names, chain_ttl_s = known[owner]
        found.append(Resolution(family, address, names, min(ttl_s, chain_ttl_s)))
    return tuple(found)


def _leading_to(owner: str, aliases: _Aliases) -> tuple[tuple[str, ...], int]:
    """The name and its aliases, and theirs; the least TTL of the aliases."""
    names, ttl_s = [owner], MAX_TTL_S
    # Grows while it is walked: an alias may itself have aliases.
    for name in names:
        for alias, alias_ttl_s in aliases.get(name, ()):
            if alias not in names and len(names) < MAX_NAMES:
                names.append(alias)
                ttl_s = min(ttl_s, alias_ttl_s)
    return tuple(names), ttl_s


def _skip_name(message: bytes, at: int) -> int | None:
    """Where the name ends in the record; None where it does not."""
    for _ in range(_MAX_WIRE_NAME):
        if at >= len(message):
            return None
        length = message[at]
        if length >> 6 == 3:
            return at + 2
        if length >> 6:
            return None
        at += 1 + length
        if not length:
            return at
    return None


def _read_name(message: bytes, at: int) -> str | None:
    """A name, its compression undone (RFC 1035 §4.1.4); None where it is none that a pattern could want.

    A pointer leads to what stands before, so no name leads back to itself.
    """
    labels: list[bytes] = []
    start, length, pointers = at, 0, 0
    while at < len(message):
        size = message[at]
        if size >> 6 == 3:
            pointers += 1
            target = int.from_bytes(message[at : at + 2], "big") & 0x3FFF
            if at + 2 > len(message) or target >= start or pointers > _MAX_POINTERS:
                return None
            at = start = target
            continue
        if size >> 6:
            return None
        if not size:
            return read_name(b".".join(labels))
        label = message[at + 1 : at + 1 + size]
        length += 1 + size
        if length > _MAX_WIRE_NAME or b"." in label:
            return None
        labels.append(label)
        at += 1 + size
    return None
