"""One object on its way in: its symbols in any order, blocks restored from their parity, what is missing (RFC 5052)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from nf.client.mbs._erasures import recover
from nf.client.mbs.alc import NO_CODE, TransmissionInformation

# From the first byte on, up to the second.
ByteRange: TypeAlias = tuple[int, int]


@dataclass(slots=True)
class _Block:
    """A source block: which of its symbols are in the content, and its parity symbols while they are needed."""

    first_symbol: int
    length: int
    present: set[int] = field(default_factory=set)
    parity: dict[int, bytes] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        return len(self.present) == self.length


class ObjectReception:
    """The symbols of one object; ``push`` them, ``fill`` in what was fetched otherwise, until ``is_whole``."""

    def __init__(self, information: TransmissionInformation) -> None:
        self.information = information
        symbols = -(-information.transfer_length // information.symbol_bytes)
        count = -(-symbols // information.max_source_symbols)
        self._content = bytearray(information.transfer_length)
        self._count = count
        self._smaller, self._longer = divmod(symbols, count) if count else (0, 0)
        # Those of which something has come.
        self._blocks: dict[int, _Block] = {}
        self._whole_blocks = 0
        self.symbols_received = 0
        self.symbols_repeated = 0
        self.symbols_restored = 0
        self.source_symbols = symbols

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self._whole_blocks == self._count

    def content(self) -> bytes:
        """The object."""
        return bytes(self._content)

    def push(self, block_number: int, number: int, symbol: bytes) -> bool:
        """Takes a symbol. False: the object has no such symbol."""
        information = self.information
        if block_number >= self._count:
            return False
        block = self._block(block_number)
        if number >= block.length:
            if information.encoding_id == NO_CODE or number >= information.max_symbols:
                return False
            if len(symbol) != information.symbol_bytes:
                return False
            if block.is_whole or number in block.parity:
                self.symbols_repeated += 1
                return True
            block.parity[number] = symbol
        else:
            start = (block.first_symbol + number) * information.symbol_bytes
            end = min(start + information.symbol_bytes, information.transfer_length)
            # The last one of an object may come with its padding.
            if len(symbol) not in (end - start, information.symbol_bytes):
                return False
            if number in block.present:
                self.symbols_repeated += 1
                return True
            self._content[start:end] = symbol[: end - start]
            block.present.add(number)
        self.symbols_received += 1
        self._restore(block)
        return True

    def missing_symbols(self) -> int:
        """How many more symbols it takes."""
        return sum(max(0, block.length - len(block.present) - len(block.parity)) for block in self._unfinished())

    def missing_ranges(self) -> list[ByteRange]:
        """The bytes whose source symbols, with the parity that has come, make the object whole; ranges in order."""
        size, end = self.information.symbol_bytes, self.information.transfer_length
        ranges: list[ByteRange] = []
        for block in self._unfinished():
            wanted = block.length - len(block.present) - len(block.parity)
            absent = (number for number in range(block.length) if number not in block.present)
            for number, _ in zip(absent, range(wanted), strict=False):
                start = (block.first_symbol + number) * size
                if ranges and ranges[-1][1] == start:
                    ranges[-1] = (ranges[-1][0], min(start + size, end))
                else:
                    ranges.append((start, min(start + size, end)))
        return ranges

    def fill(self, start: int, data: bytes) -> None:
        """Takes the bytes from ``start`` on; symbols that they do not cover wholly are left out."""
        size, length = self.information.symbol_bytes, self.information.transfer_length
        for block in self._unfinished():
            for number in range(block.length):
                at = (block.first_symbol + number) * size
                end = min(at + size, length)
                if number not in block.present and start <= at and end <= start + len(data):
                    self._content[at:end] = data[at - start : end - start]
                    block.present.add(number)
            self._restore(block)

    def _block(self, number: int) -> _Block:
        if number not in self._blocks:
            first = number * self._smaller + min(number, self._longer)
            self._blocks[number] = _Block(first, self._smaller + (number < self._longer))
        return self._blocks[number]

    def _unfinished(self) -> Iterator[_Block]:
        for number in range(self._count):
            block = self._block(number)
            if not block.is_whole:
                yield block

    def _restore(self, block: _Block) -> None:
        """Restores the block if enough of it has come, and counts it once it is whole."""
        if not block.is_whole:
            if len(block.present) + len(block.parity) < block.length:
                return
            size, length = self.information.symbol_bytes, self.information.transfer_length
            missing = [number for number in range(block.length) if number not in block.present]
            numbers: list[int] = sorted(block.present)
            symbols: list[bytes] = []
            for number in numbers:
                start = (block.first_symbol + number) * size
                symbols.append(bytes(self._content[start : start + size]).ljust(size, b"\0"))
            parity = sorted(block.parity.items())[: len(missing)]
            numbers += [number for number, _ in parity]
            symbols += [symbol for _, symbol in parity]
            self.symbols_restored += len(missing)
            self._put(block, missing, recover(numbers, symbols, missing), size, length)
        block.parity.clear()
        self._whole_blocks += 1

    def _put(self, block: _Block, numbers: Sequence[int], symbols: Sequence[bytes], size: int, length: int) -> None:
        for number, symbol in zip(numbers, symbols, strict=True):
            start = (block.first_symbol + number) * size
            end = min(start + size, length)
            self._content[start:end] = symbol[: end - start]
            block.present.add(number)
