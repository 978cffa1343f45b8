"""Any bytes as what a TCP client sends first: the answer holds as the stream grows, and however it is cut to segments.

An input is three bytes that choose cuts and the order of the segments, and the stream.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from upf.names import http, tls
from upf.names.answer import Answer, Name, No
from upf.names.patterns import read_name
from upf.names.segments import RequestReader

SYN: Final = 0x02


def check(data: bytes) -> None:
    random, stream = Random(data[:3]), data[3:]
    for parse in (tls.parse_stream, http.parse_stream):
        holds_while_it_grows(parse, stream, random)
    is_found_in_segments(stream, random)


def holds_while_it_grows(parse: Callable[[bytes], Answer], stream: bytes, random: Random) -> None:
    settled: Answer | None = None
    for end in (*sorted(random.choices(range(len(stream) + 1), k=6)), len(stream)):
        answer = parse(stream[:end])
        if isinstance(answer, Name):
            assert read_name(answer.name.encode()) == answer.name, answer
        if settled is not None:
            assert answer == settled, f"{parse.__module__}: {settled} at first, then {answer}"
        if answer is No.NAME or (isinstance(answer, Name) and answer.final):
            settled = answer


def is_found_in_segments(stream: bytes, random: Random) -> None:
    """In any order, after a SYN: what is said in the end is what a reader of the whole stream says."""
    first = random.choice((0, 7, (1 << 32) - 5))
    edges = [0, *sorted(random.choices(range(len(stream) + 1), k=random.randrange(8))), len(stream)]
    pieces = [(low, stream[low:high]) for low, high in itertools.pairwise(edges)]
    random.shuffle(pieces)
    reader = RequestReader()
    reader.feed(segment(first, b"", SYN))
    answer: Answer = No.MORE_NEEDED
    for offset, piece in pieces:
        answer = reader.feed(segment(first + 1 + offset, piece, 0))
        assert reader.held_bytes <= len(stream) <= 4096
    whole = tls.parse_stream(stream)
    expected = http.parse_stream(stream) if whole is No.NAME else whole
    if stream:
        assert answer == expected, f"{answer} in segments, {expected} in one piece"


def segment(sequence: int, data: bytes, flags: int) -> bytes:
    ports, acknowledged = bytes(4), bytes(4)
    return ports + (sequence % (1 << 32)).to_bytes(4, "big") + acknowledged + bytes((0x50, flags)) + bytes(6) + data


def seeds() -> Iterator[bytes]:
    from named_traffic import client_hello, handshake, http_request, records, with_extension

    hello = handshake("video.example.com")
    streams = [
        client_hello("a.example.org"),
        records(hello, 40, 100),
        records(with_extension(hello, 0xFE0D, bytes(8), first=True)),
        http_request("www.example.com:8080"),
        http_request("www.example.com", "http://other.example.com/path?query"),
        b"CONNECT www.example.com:443 HTTP/1.1\r\n\r\n",
        b"\r\nOPTIONS * HTTP/1.0\r\nHost:\texample.com. \r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ]
    for number, stream in enumerate(streams):
        yield bytes((number, 2, 3)) + stream
