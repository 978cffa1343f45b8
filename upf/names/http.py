"""The host that an HTTP/1 request asks (RFC 9112 §3.2): in its target or, mostly, in its Host field.

HTTP/2 without TLS (h2c) is not looked into.
"""

from __future__ import annotations

import re
from typing import Final

from upf.names.answer import Answer, Name, No
from upf.names.patterns import read_name

MAX_HEAD_BYTES: Final = 16_384
_UNFINISHED_LINE: Final = re.compile(
    rb"[A-Z-]{0,24}(?: [\x21-\xff]*(?: (?:H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[0-9]\r?)?)?)?)?)?)?)?)?)?)?"
)
_REQUEST_LINE: Final = re.compile(rb"([A-Z-]{1,24}) ([\x21-\xff]+) HTTP/1\.[0-9]\r?")
_AUTHORITY: Final = re.compile(rb"[a-zA-Z][a-zA-Z0-9+.-]*://(?:[^/?#@]*@)?([^/?#@]*)(?:[/?#].*)?")


def parse_stream(stream: bytes) -> Answer:
    """The name in the beginning of what a client sends over TCP."""
    # A client may send an empty line before its request (RFC 9112 §2.2).
    line, newline, rest = stream[:MAX_HEAD_BYTES].lstrip(b"\r\n").partition(b"\n")
    if not newline:
        return _unfinished(stream) if _UNFINISHED_LINE.fullmatch(line) else No.NAME
    request = _REQUEST_LINE.fullmatch(line)
    if request is None:
        return No.NAME
    method, target = request.groups()
    authority = _AUTHORITY.fullmatch(target)
    if method == b"CONNECT":
        return _host(target)
    if authority is not None:
        return _host(authority[1])
    return _host_field(rest) or _unfinished(stream)


def _host_field(fields: bytes) -> Answer | None:
    """What the fields say; None where they end too early."""
    at = 0
    while True:
        end = fields.find(b"\n", at)
        if end < 0:
            return None
        line = fields[at:end].removesuffix(b"\r")
        if not line:
            return No.NAME
        field, _, value = line.partition(b":")
        if field.lower() == b"host":
            return _host(value.strip(b" \t"))
        at = end + 1


def _host(authority: bytes) -> Answer:
    host, colon, port = authority.rpartition(b":")
    if not colon:
        host = port
    elif port and not port.isdigit():
        return No.NAME
    name = read_name(host)
    return No.NAME if name is None else Name(name)


def _unfinished(stream: bytes) -> Answer:
    return No.MORE_NEEDED if len(stream) < MAX_HEAD_BYTES else No.NAME
