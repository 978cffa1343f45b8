"""Which forward error correction a distribution session uses, from ``fecConfig`` of TS 29.580 (RFC 5445, RFC 5510).

The schemes are named by the IANA registry of RFC 5052: ``urn:ietf:rmt:fec:encoding:<FEC encoding ID>``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from nf.common.errors import InvalidArgument

NO_CODE: Final = 0
REED_SOLOMON: Final = 5
# Reed–Solomon over GF(2^8) as small block systematic code, FEC instance 0.
REED_SOLOMON_UNDERSPECIFIED: Final = 129

_NAMES: Final = {
    NO_CODE: "Compact No-Code",
    REED_SOLOMON: "Reed-Solomon over GF(2^8)",
    REED_SOLOMON_UNDERSPECIFIED: "Small Block Systematic (Reed-Solomon)",
}
_URN: Final = re.compile(r"urn:ietf:rmt:fec:encoding:(\d+)(?::0)?", re.IGNORECASE)
SUPPORTED: Final = ", ".join(f"urn:ietf:rmt:fec:encoding:{number} ({name})" for number, name in _NAMES.items())

# Symbols of a block, source and parity together: elements of GF(2^8) but zero.
_FIELD: Final = 255
# Source symbols of a block, unless an object needs more: long enough that random losses even out within a block.
_SOURCE_BLOCK: Final = 128
# A percentage of few symbols protects nothing: what a block of few source symbols has at least.
_LEAST_PARITY: Final = 4
# What the encoder counts blocks up to in the schemes whose block numbers are short.
_BLOCKS: Final = {NO_CODE: 65535, REED_SOLOMON: 255, REED_SOLOMON_UNDERSPECIFIED: 1 << 20}
_NO_CODE_BLOCK: Final = 1024

# Bytes in front of the symbol: LCT header with 16-bit TSI and TOI, EXT_FTI, FEC payload ID.
_HEADER: Final = {NO_CODE: 12 + 16 + 4, REED_SOLOMON: 12 + 12 + 4, REED_SOLOMON_UNDERSPECIFIED: 12 + 16 + 8}


@dataclass(frozen=True, slots=True)
class Blocks:
    """How one object is cut: bytes of a symbol, symbols of the longest block, parity symbols of each block."""

    encoding_id: int
    symbol_bytes: int
    source_symbols: int
    parity_symbols: int


@dataclass(frozen=True, slots=True)
class Fec:
    """A scheme and its overhead in percent of the source symbols."""

    encoding_id: int = NO_CODE
    overhead_percent: int = 0

    def symbol_bytes(self, payload_bytes: int) -> int:
        """The longest symbol, a multiple of four, of an ALC packet that has ``payload_bytes`` altogether."""
        return (payload_bytes - _HEADER[self.encoding_id]) // 4 * 4

    def largest_object_bytes(self, payload_bytes: int) -> int:
        """The longest object in ALC packets of ``payload_bytes``."""
        return _BLOCKS[self.encoding_id] * self._longest_block() * self.symbol_bytes(payload_bytes)

    def blocks(self, size_bytes: int, payload_bytes: int) -> Blocks:
        """How an object of ``size_bytes`` is cut. Raises InvalidArgument for more than the scheme can number."""
        symbol_bytes = self.symbol_bytes(payload_bytes)
        if size_bytes == 0 or self.encoding_id == NO_CODE:
            return Blocks(NO_CODE, Fec().symbol_bytes(payload_bytes), _NO_CODE_BLOCK, 0)
        largest = self.largest_object_bytes(payload_bytes)
        if size_bytes > largest:
            raise InvalidArgument.of(
                "fecInformation.fecScheme",
                f"an object of {size_bytes} bytes: {_NAMES[self.encoding_id]} in packets of {payload_bytes} bytes takes"
                f" at most {largest}; expected a shorter object, or another of {SUPPORTED}",
            )
        symbols = -(-size_bytes // symbol_bytes)
        # As few blocks as there can be: of the usual length, or of what their number leaves.
        usual = min(_SOURCE_BLOCK, self._longest_block())
        longest = max(usual, -(-symbols // _BLOCKS[self.encoding_id]))
        source = -(-symbols // -(-symbols // longest))
        return Blocks(self.encoding_id, symbol_bytes, source, self._parity(source))

    def _parity(self, source_symbols: int) -> int:
        if self.overhead_percent == 0:
            return 0
        return max(min(_LEAST_PARITY, _FIELD - source_symbols), -(-source_symbols * self.overhead_percent // 100))

    def _longest_block(self) -> int:
        if self.encoding_id == NO_CODE:
            return _NO_CODE_BLOCK
        return next(length for length in range(_FIELD, 0, -1) if length + self._parity(length) <= _FIELD)


def fec_of(scheme: str, overhead_percent: int, *, field: str = "fecInformation") -> Fec:
    """What ``fecScheme`` and ``fecOverHead`` ask for. Raises InvalidArgument naming the property under ``field``."""
    match = _URN.fullmatch(scheme.strip())
    encoding_id = int(match.group(1)) if match else -1
    if encoding_id not in _NAMES:
        raise InvalidArgument.of(f"{field}.fecScheme", f"{scheme!r} is not supported; expected one of {SUPPORTED}")
    if not 0 <= overhead_percent <= 100:
        raise InvalidArgument.of(
            f"{field}.fecOverHead", f"expected a percentage from 0 to 100, found {overhead_percent}"
        )
    if encoding_id == NO_CODE and overhead_percent != 0:
        raise InvalidArgument.of(
            f"{field}.fecOverHead", f"{_NAMES[NO_CODE]} has no repair symbols: expected 0, found {overhead_percent}"
        )
    if encoding_id != NO_CODE and overhead_percent == 0:
        raise InvalidArgument.of(
            f"{field}.fecOverHead", f"{_NAMES[encoding_id]} needs repair symbols: expected 1 to 100, found 0"
        )
    return Fec(encoding_id, overhead_percent)
