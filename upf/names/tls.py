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
    hello = _Reader(message[4 : 4 + length], whole=len(message) >= 4 + length)
    hello.skip(2 + 32)
    hello.skip(hello.number(1))
    hello.skip(hello.number(2))
    hello.skip(hello.number(1))
    name: str | None = None
    hidden = False
    left = hello.number(2)
    while left >= 4 and not hello.over:
        kind, size = hello.number(2), hello.number(2)
        content = hello.take(size)
        left -= 4 + size
        if hello.over or left < 0:
            break
        if kind == _SERVER_NAME and name is None:
            name = _host_name(content)
        elif kind == _ENCRYPTED_CLIENT_HELLO:
            hidden = True
    if name is not None:
        return Name(name, hidden, final=hello.whole)
    return No.NAME if hello.whole else No.MORE_NEEDED


def _host_name(extension: bytes) -> str | None:
    """The first host name of a server name list."""
    names = _Reader(extension, whole=True)
    names.skip(2)
    while not names.over:
        kind = names.number(1)
        name = names.take(names.number(2))
        if kind == _HOST_NAME and not names.over:
            return read_name(name)
    return None


class _Reader:
    """Takes fields from the front; where they end too early it is ``over`` and gives zeros."""

    def __init__(self, data: bytes, *, whole: bool) -> None:
        self._data = data
        self._at = 0
        self.whole = whole
        self.over = False

    def take(self, length: int) -> bytes:
        field = self._data[self._at : self._at + length]
        self._at += length
        self.over = self.over or len(field) < length
        return field

    def skip(self, length: int) -> None:
        self.take(length)

    def number(self, length: int) -> int:
        field = self.take(length)
        return int.from_bytes(field, "big") if not self.over else 0
