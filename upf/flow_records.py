"""The life of flows: one record for each, from its first packet to what ended it, and the files that hold them.

A flow is what has one flow key, in one direction. Its record begins with its first packet (a SYN or another) and ends
with FIN or RST, with an idle gap, by eviction from a full flow table, or with the input. Packets after a FIN belong to
the record that it ends; only a SYN on the same key begins another.
"""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self, TextIO

from upf.errors import UpfError
from upf.pending import PendingFile

if TYPE_CHECKING:
    import pyarrow

# A flow that is idle for longer than this has ended; its next packet begins another record.
FLOW_TIMEOUT_NS: Final = 300_000_000_000
# Records in one row group of a parquet file, and thus in memory before they are written.
ROW_GROUP_RECORDS: Final = 1 << 16


class Beginning(StrEnum):
    """What a record begins with."""

    SYN = "syn"
    PACKET = "packet"


class Ending(StrEnum):
    """What a record ends by."""

    FIN = "fin"
    RST = "rst"
    IDLE = "idle"
    EVICTED = "evicted"
    END_OF_INPUT = "end"


@dataclass(frozen=True, slots=True)
class FlowRecord:
    """One flow from beginning to end.

    Ports, SPI, TEID and QFI are None where the flow has none (or, of a fragment without its first, none that is known).
    Times are those of the packets, nanoseconds since 1970 UTC: of the first one, and the latest. Bytes are counted as
    the rules count them. ``excess`` is what was above the rate, whatever became of it; ``rule`` is empty where none
    wants the flow.
    """

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    protocol: int
    source_port: int | None
    destination_port: int | None
    spi: int | None
    teid: int | None
    qfi: int | None
    rule: str
    start_ns: int
    end_ns: int
    packets: int
    bytes: int
    passed_packets: int
    passed_bytes: int
    excess_packets: int
    excess_bytes: int
    began: Beginning
    ended: Ending

    @property
    def dropped_packets(self) -> int:
        """Packets that did not go on."""
        return self.packets - self.passed_packets

    @property
    def dropped_bytes(self) -> int:
        """Bytes that did not go on."""
        return self.bytes - self.passed_bytes

    @property
    def conforming_packets(self) -> int:
        """Packets within the rate."""
        return self.packets - self.excess_packets

    @property
    def conforming_bytes(self) -> int:
        """Bytes within the rate."""
        return self.bytes - self.excess_bytes


# The columns of every format, in order.
COLUMNS: Final = (
    "source",
    "destination",
    "protocol",
    "source_port",
    "destination_port",
    "spi",
    "teid",
    "qfi",
    "rule",
    "start_ns",
    "end_ns",
    "packets",
    "bytes",
    "passed_packets",
    "passed_bytes",
    "dropped_packets",
    "dropped_bytes",
    "conforming_packets",
    "conforming_bytes",
    "excess_packets",
    "excess_bytes",
    "began",
    "ended",
)


def row_of(record: FlowRecord) -> tuple[str | int | None, ...]:
    """The record's values, in the order of COLUMNS."""
    return (
        str(record.source),
        str(record.destination),
        record.protocol,
        record.source_port,
        record.destination_port,
        record.spi,
        record.teid,
        record.qfi,
        record.rule,
        record.start_ns,
        record.end_ns,
        record.packets,
        record.bytes,
        record.passed_packets,
        record.passed_bytes,
        record.packets - record.passed_packets,
        record.bytes - record.passed_bytes,
        record.packets - record.excess_packets,
        record.bytes - record.excess_bytes,
        record.excess_packets,
        record.excess_bytes,
        record.began.value,
        record.ended.value,
    )


class _Format(Protocol):
    """Writes records as they end."""

    def write(self, records: Iterable[FlowRecord]) -> None: ...

    def finish(self) -> None:
        """Writes what a whole file has at its end."""


class _Csv:
    """A header, then a line for each record; absent values are empty."""

    def __init__(self, stream: TextIO) -> None:
        self._rows = csv.writer(stream, lineterminator="\n")
        self._rows.writerow(COLUMNS)

    def write(self, records: Iterable[FlowRecord]) -> None:
        self._rows.writerows(map(row_of, records))

    def finish(self) -> None:
        """Nothing follows the last line."""


class _JsonLines:
    """An object for each record, a line each; as an array, or one after the other."""

    def __init__(self, stream: TextIO, *, array: bool) -> None:
        self._stream = stream
        self._array = array
        self._before = "[\n" if array else ""

    def write(self, records: Iterable[FlowRecord]) -> None:
        for record in records:
            self._stream.write(self._before + json.dumps(dict(zip(COLUMNS, row_of(record), strict=True))))
            self._before = ",\n" if self._array else "\n"

    def finish(self) -> None:
        if self._array:
            self._stream.write("[]\n" if self._before == "[\n" else "\n]\n")
        elif self._before:
            self._stream.write("\n")


class _Parquet:
    """Typed columns in row groups of ROW_GROUP_RECORDS."""

    _STRINGS: Final = ("source", "destination", "rule", "began", "ended")
    _SMALL: Final = {"protocol": "uint8", "source_port": "uint16", "destination_port": "uint16", "qfi": "uint8"}
    _WORDS: Final = ("spi", "teid")

    def __init__(self, path: Path) -> None:
        self._arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
        self._schema: pyarrow.Schema = self._arrow.schema([(name, self._type_of(name)) for name in COLUMNS])
        self._writer = parquet.ParquetWriter(path, self._schema)
        self._rows: list[tuple[str | int | None, ...]] = []

    def _type_of(self, column: str) -> pyarrow.DataType:
        if column in self._STRINGS:
            return self._arrow.string()
        if column in self._WORDS:
            return self._arrow.uint32()
        small = self._SMALL.get(column, "int64")
        return getattr(self._arrow, small)()

    def write(self, records: Iterable[FlowRecord]) -> None:
        for record in records:
            self._rows.append(row_of(record))
            if len(self._rows) == ROW_GROUP_RECORDS:
                self._write_group()

    def finish(self) -> None:
        if self._rows:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        columns = [
            self._arrow.array(values, type=field.type)
            for values, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
        ]
        self._writer.write_table(self._arrow.Table.from_arrays(columns, schema=self._schema))
        self._rows.clear()


SUFFIXES: Final = (".csv", ".json", ".jsonl", ".parquet")


def check_flows_path(path: Path) -> None:
    """Raises UpfError, one line, where the name does not tell a format, or what writes it is not installed."""
    if path.suffix not in SUFFIXES:
        raise UpfError(
            f"option '--flows': found {str(path)!r}, expected a name that ends in .csv, .json (an array), .jsonl (an "
            "object a line) or .parquet"
        )
    if path.suffix == ".parquet":
        try:
            importlib.import_module("pyarrow.parquet")
        except ImportError:
            raise UpfError(
                f"option '--flows': {path}: a parquet file needs pyarrow, which is not installed: "
                "pip install 'castcore[parquet]'"
            ) from None


class FlowFile:
    """The file that ``--flows`` names, in the format that its name ends in; a context manager.

    The file appears when the context is left without an error. Raises UpfError where the format is not known or not
    available, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        check_flows_path(path)
        self._pending = PendingFile(path)
        self._stream: TextIO | None = None
        try:
            self._format = self._begin(path.suffix)
        except OSError as error:
            self._pending.discard()
            raise self._pending.failed(error) from None

    def _begin(self, suffix: str) -> _Format:
        if suffix == ".parquet":
            return _Parquet(self._pending.working_path)
        self._stream = self._pending.working_path.open("w", encoding="utf-8", newline="")
        return _Csv(self._stream) if suffix == ".csv" else _JsonLines(self._stream, array=suffix == ".json")

    def write(self, records: Iterable[FlowRecord]) -> None:
        """Appends records."""
        try:
            self._format.write(records)
        except OSError as error:
            raise self._pending.failed(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._format.finish()
            if self._stream is not None:
                self._stream.close()
        except OSError as failure:
            self._pending.discard()
            if kind is None:
                raise self._pending.failed(failure) from None
        else:
            self._pending.__exit__(kind, error, trace)
