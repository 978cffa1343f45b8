"""ALC packets as a receiver reads them: LCT (RFC 5651), FLUTE's EXT_FDT (RFC 3926), FEC schemes 0, 5 and 129.

Nothing in a packet is trusted: what does not fit raises MalformedPacket, whose ``reason`` is one of a few words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

NO_CODE: Final = 0
REED_SOLOMON: Final = 5
REED_SOLOMON_UNDERSPECIFIED: Final = 129

# Headers that are known by heart.
_HEADERS: Final = 256

_EXT_FDT: Final = 192
_EXT_FTI: Final = 64
# Bytes of EXT_FTI and of the FEC payload ID.
_FTI_BYTES: Final = {NO_CODE: 16, REED_SOLOMON: 12, REED_SOLOMON_UNDERSPECIFIED: 16}
_PAYLOAD_ID_BYTES: Final = {NO_CODE: 4, REED_SOLOMON: 4, REED_SOLOMON_UNDERSPECIFIED: 8}


class MalformedPacket(ValueError):
    """A packet that is no packet of FLUTE; ``reason`` says in a word or two what is wrong with it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class TransmissionInformation:
    """How an object is cut: FEC Object Transmission Information (RFC 5052).

    ``max_symbols`` is how many a block has with its parity; where the scheme has none, as many as source symbols.
    """

    encoding_id: int
    transfer_length: int
    symbol_bytes: int
    max_source_symbols: int
    max_symbols: int


@dataclass(frozen=True, slots=True)
class LctHeader:
    """What the header of a packet says; ``instance`` is the FDT instance's number where it carries one."""

    tsi: int
    toi: int
    close_session: bool
    close_object: bool
    encoding_id: int
    instance: int | None
    version: int | None
    information: TransmissionInformation | None


class AlcPacket(NamedTuple):
    """A packet: its header, which symbol of which block it carries, and that; a packet without one has it empty."""

    header: LctHeader
    block: int
    number: int
    symbol: bytes


class PacketParser:
    """Parses packets; a header that has come before, as most have, is not taken apart again."""

    def __init__(self) -> None:
        self._headers: dict[bytes, LctHeader] = {}

    def parse(self, data: bytes) -> AlcPacket:
        """The packet that these bytes are. Raises MalformedPacket."""
        if len(data) < 8:
            raise MalformedPacket("too short")
        end = data[2] * 4
        header = self._headers.get(data[:end])
        if header is None:
            header = parse_header(data)
            if len(self._headers) >= _HEADERS:
                self._headers.clear()
            self._headers[data[:end]] = header
        encoding_id = header.encoding_id
        symbol_at = end + _PAYLOAD_ID_BYTES[encoding_id]
        if len(data) < symbol_at:
            if len(data) != end:
                raise MalformedPacket("FEC payload ID")
            return AlcPacket(header, 0, 0, b"")
        word = int.from_bytes(data[end:symbol_at], "big")
        if encoding_id == NO_CODE:
            return AlcPacket(header, word >> 16, word & 0xFFFF, data[symbol_at:])
        if encoding_id == REED_SOLOMON:
            return AlcPacket(header, word >> 8, word & 0xFF, data[symbol_at:])
        # Between the two stands the length of the block.
        return AlcPacket(header, word >> 32, word & 0xFFFF, data[symbol_at:])


def parse_header(data: bytes) -> LctHeader:
    """The header that these bytes begin with. Raises MalformedPacket."""
    first, flags, words, encoding_id = data[:4]
    if first >> 4 != 1:
        raise MalformedPacket("LCT version")
    half = flags >> 4 & 1
    tsi_at = 4 + 4 * ((first >> 2 & 3) + 1)
    toi_at = tsi_at + 4 * (flags >> 7) + 2 * half
    at = toi_at + 4 * (flags >> 5 & 3) + 2 * half
    end = words * 4
    if not at <= end <= len(data):
        raise MalformedPacket("header length")
    if tsi_at == toi_at or toi_at == at:
        raise MalformedPacket("no TSI or TOI")
    if encoding_id not in _PAYLOAD_ID_BYTES:
        raise MalformedPacket("FEC encoding ID")
    instance = version = information = None
    ext_at = at
    while ext_at < end:
        kind = data[ext_at]
        size = 4 if kind >= 128 else 4 * data[ext_at + 1]
        if size == 0 or ext_at + size > end:
            raise MalformedPacket("header extension")
        if kind == _EXT_FDT:
            word = int.from_bytes(data[ext_at + 1 : ext_at + 4], "big")
            version, instance = word >> 20, word & 0xFFFFF
        elif kind == _EXT_FTI:
            if size != _FTI_BYTES[encoding_id]:
                raise MalformedPacket("EXT_FTI")
            information = _information(encoding_id, data[ext_at + 2 : ext_at + size])
        ext_at += size
    toi = int.from_bytes(data[toi_at:at], "big")
    if (toi == 0) is not (instance is not None):
        raise MalformedPacket("EXT_FDT")
    return LctHeader(
        tsi=int.from_bytes(data[tsi_at:toi_at], "big"),
        toi=toi,
        close_session=bool(flags & 2),
        close_object=bool(flags & 1),
        encoding_id=encoding_id,
        instance=instance,
        version=version,
        information=information,
    )


def _information(encoding_id: int, data: bytes) -> TransmissionInformation:
    length = int.from_bytes(data[:6], "big")
    if encoding_id == NO_CODE:
        source = int.from_bytes(data[10:14], "big")
        information = TransmissionInformation(encoding_id, length, int.from_bytes(data[8:10], "big"), source, source)
    elif encoding_id == REED_SOLOMON:
        information = TransmissionInformation(encoding_id, length, int.from_bytes(data[6:8], "big"), data[8], data[9])
    else:
        information = TransmissionInformation(
            encoding_id,
            length,
            int.from_bytes(data[8:10], "big"),
            int.from_bytes(data[10:12], "big"),
            int.from_bytes(data[12:14], "big"),
        )
    if not is_consistent(information):
        raise MalformedPacket("EXT_FTI")
    return information


def is_consistent(information: TransmissionInformation) -> bool:
    """Whether an object can be cut so."""
    if information.symbol_bytes < 1 or information.max_source_symbols < 1:
        return False
    if information.encoding_id == NO_CODE:
        return True
    return information.max_source_symbols <= information.max_symbols <= 255
