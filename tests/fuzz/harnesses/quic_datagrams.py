"""Any datagrams of a QUIC client, as they stand or as the frames of Initial packets that are protected here.

An input is a byte of flags and datagrams, each behind two bytes that say its length: 11 bits, and how it is dressed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from named_traffic import V1, V2, crypto, handshake, quic_initial

from upf.names.answer import Name
from upf.names.patterns import read_name
from upf.names.quic import MAX_CRYPTO_BYTES, InitialReader

CONNECTION_IDS: Final = (b"\x01\x02\x03\x04\x05\x06\x07\x08", b"", bytes(20))
RAW, INITIAL, COALESCED = 0, 1, 2


def check(data: bytes) -> None:
    if not data:
        return
    version = V2 if data[0] & 1 else V1
    reader, at, number = InitialReader(), 1, 0
    while at + 2 <= len(data) and number < 12:
        word = int.from_bytes(data[at : at + 2], "big")
        kind, length = word >> 14, word & 0x7FF
        content = data[at + 2 : at + 2 + length]
        at += 2 + length
        if kind != RAW:
            connection_id = CONNECTION_IDS[(data[0] >> 1) % len(CONNECTION_IDS)]
            dressed = quic_initial(
                content, connection_id, version=version, number=number, number_bytes=1 + number % 4, padded_to=4
            )
            content = dressed * 2 if kind == COALESCED else dressed
        number += 1
        answer = reader.feed(content)
        assert reader.held_bytes <= 2 * MAX_CRYPTO_BYTES, reader.held_bytes
        if isinstance(answer, Name):
            assert read_name(answer.name.encode()) == answer.name, answer


def seeds() -> Iterator[bytes]:
    hello = handshake("video.example.com")
    half = len(hello) // 2
    ack = b"\x02\x01\x00\x01\x00\x00\x00"
    datagrams = (
        [crypto(0, hello)],
        [crypto(half, hello[half:]), crypto(0, hello[:half])],
        [ack + b"\x01" + crypto(0, hello[:100]) + bytes(40), crypto(50, hello[50:])],
    )
    for flags in range(6):
        for frames in datagrams:
            pieces = ((INITIAL << 14 | len(piece)).to_bytes(2, "big") + piece for piece in frames)
            yield bytes((flags,)) + b"".join(pieces)
    for version in (V1, V2):
        datagram = quic_initial(crypto(0, hello), CONNECTION_IDS[0], version=version, padded_to=0)
        yield b"\0" + len(datagram).to_bytes(2, "big") + datagram
