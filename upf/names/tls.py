"""The server name in a TLS ClientHello (RFC 8446 §4.1.2, RFC 6066 §3), whatever the version.

An encrypted ClientHello (its extension is 0xfe0d, real or GREASE) leaves only the outer name to read.
"""

from __future__ import annotations

from typing import Final

from upf.names.answer import Answer, Name, No
from upf.names.patterns import read_name

MAX_HELLO_BYTES: Final = 16_384
_HANDSHAKE_RECORD: Final = 22
_CLIENT_HELLO: Final = 1
# RFC 8446 §5.1: a plaintext record holds 2^14 bytes at the most.
_MAX_RECORD_BYTES: Final = 16_384
_SERVER_NAME: Final = 0
_HOST_NAME: Final = 0
_ENCRYPTED_CLIENT_HELLO: Final = 0xFE0D


def parse_stream(stream: bytes) -> Answer:
    """The name in the beginning of what a client sends over TCP: records (RFC 8446 §5.1) that hold its hello."""
    hello = bytearray()
    at = 0
    while at < len(stream):
        if stream[at] != _HANDSHAKE_RECORD or stream[at + 1 : at + 2] not in (b"", b"\x03"):
            return No.NAME
        if len(stream) - at < 5:
            break
        length = int.from_bytes(stream[at + 3 : at + 5], "big")
        if not 0 < length <= _MAX_RECORD_BYTES:
            return No.NAME
        hello += stream[at + 5 : at + 5 + length]
        if hello[:1] not in (b"", bytes((_CLIENT_HELLO,))):
            return No.NAME
        at += 5 + length
        if len(hello) >= 4 and len(hello) - 4 >= int.from_bytes(hello[1:4], "big"):
            break
    return parse_hello(bytes(hello))


def parse_hello(message: bytes) -> Answer:
    """The name in the beginning of a handshake message, which is all of it or as much as has come."""
    if message[:1] not in (b"", bytes((_CLIENT_HELLO,))):
        return No.NAME
    if len(message) < 4:
        return No.MORE_NEEDED
    length = int.from_bytes(message[1:4], "big")
    if length > MAX_HELLO_BYTES:
        return No.NAME
    whole = len(message) >= 4 + length
    hello = message[4 : 4 + length]
    # Version and random are always as long, what follows says how long it is.
    at = 2 + 32
    for length_bytes in (1, 2, 1):
        at += length_bytes + int.from_bytes(hello[at : at + length_bytes], "big")
    name, hidden = _walk_extensions(hello, at + 2, at + 2 + int.from_bytes(hello[at : at + 2], "big"))
    if name is not None:
        return Name(name, hidden, final=whole)
    return No.NAME if whole else No.MORE_NEEDED


def _walk_extensions(hello: bytes, at: int, end: int) -> tuple[str | None, bool]:
    """The server name, and whether there is an encrypted hello; of the extensions that are there whole."""
    name: str | None = None
    hidden = False
    end = min(end, len(hello))
    while at + 4 <= end:
        kind = hello[at] << 8 | hello[at + 1]
        content_at = at + 4
        at = content_at + (hello[at + 2] << 8 | hello[at + 3])
        if at > end:
            break
        if kind == _SERVER_NAME and name is None:
            name = _host_name(hello[content_at:at])
        elif kind == _ENCRYPTED_CLIENT_HELLO:
            hidden = True
    return name, hidden


def _host_name(extension: bytes) -> str | None:
    """The first host name of a server name list."""
    at = 2
    while at + 3 <= len(extension):
        kind, name_at = extension[at], at + 3
        at = name_at + (extension[at + 1] << 8 | extension[at + 2])
        if kind == _HOST_NAME:
            return read_name(extension[name_at:at]) if at <= len(extension) else None
    return None
