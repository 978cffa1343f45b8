"""Consumption records as a file: CSV (RFC 4180), JSON Lines or Parquet, a page of records at a time.

The properties bear the names of TS 26.512; what is memory here is one page, and one row group of a Parquet file.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from nf.af.v1.consumption_reporting_pb2 import (
    EXPORT_FORMAT_CSV,
    EXPORT_FORMAT_JSON_LINES,
    EXPORT_FORMAT_PARQUET,
    CellIdentifierType,
    ConsumptionRecord,
    EndpointAddress,
    ExportFormat,
)
from nf.common.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    import pyarrow

COLUMNS: Final = (
    "provisioningSessionId",
    "sessionId",
    "mediaPlayerEntry",
    "reportingClientId",
    "mediaConsumed",
    "startTime",
    "duration",
    "locations",
    "clientEndpointAddress",
    "serverEndpointAddress",
    "receiveTime",
)
# Media types of the files.
MEDIA_TYPES: Final = {
    EXPORT_FORMAT_CSV: "text/csv; charset=utf-8",
    EXPORT_FORMAT_JSON_LINES: "application/jsonl",
    EXPORT_FORMAT_PARQUET: "application/vnd.apache.parquet",
}
_PREFIX: Final = "CELL_IDENTIFIER_TYPE_"


class Writer(Protocol):
    """Turns records into the bytes of a file."""

    def begin(self) -> bytes:
        """What stands before the records."""
        ...

    def write(self, records: Sequence[ConsumptionRecord]) -> bytes:
        """The next records; at least one."""
        ...

    def end(self) -> bytes:
        """What stands after the records."""
        ...


def writer_of(wanted: ExportFormat.ValueType) -> Writer:
    """The writer of a format. Raises InvalidArgument for none, FailedPrecondition where Parquet cannot be written."""
    if wanted == EXPORT_FORMAT_CSV:
        return _Csv()
    if wanted == EXPORT_FORMAT_JSON_LINES:
        return _JsonLines()
    if wanted == EXPORT_FORMAT_PARQUET:
        return _Parquet()
    raise InvalidArgument.of("format", "expected CSV, JSON_LINES or PARQUET")


class _Csv:
    """One line per record; several cells have a blank between them: "NCGI:262-01-00000000A NCGI:…"."""

    def begin(self) -> bytes:
        return self._lines([COLUMNS])

    def write(self, records: Sequence[ConsumptionRecord]) -> bytes:
        return self._lines([self._row(record) for record in records])

    def end(self) -> bytes:
        return b""

    @staticmethod
    def _lines(rows: Sequence[Sequence[str | int]]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        return text.getvalue().encode()

    @staticmethod
    def _row(record: ConsumptionRecord) -> Sequence[str | int]:
        unit = record.consumption_reporting_unit
        return (
            record.provisioning_session_id,
            record.session_id,
            record.media_player_entry,
            record.reporting_client_id,
            unit.media_consumed,
            unit.start_time.ToJsonString(),
            unit.duration_s,
            " ".join(f"{kind}:{cell}" for kind, cell in _cells(record)),
            _socket_of(unit.client_endpoint_address) if unit.HasField("client_endpoint_address") else "",
            _socket_of(unit.server_endpoint_address) if unit.HasField("server_endpoint_address") else "",
            record.receive_time.ToJsonString(),
        )


class _JsonLines:
    """One object per line; what is not known is left out."""

    def begin(self) -> bytes:
        return b""

    def write(self, records: Sequence[ConsumptionRecord]) -> bytes:
        return "".join(json.dumps(self._object(each), ensure_ascii=False) + "\n" for each in records).encode()

    def end(self) -> bytes:
        return b""

    @staticmethod
    def _object(record: ConsumptionRecord) -> dict[str, object]:
        unit = record.consumption_reporting_unit
        told: dict[str, object] = {"provisioningSessionId": record.provisioning_session_id}
        if record.session_id:
            told["sessionId"] = record.session_id
        told |= {
            "mediaPlayerEntry": record.media_player_entry,
            "reportingClientId": record.reporting_client_id,
            "mediaConsumed": unit.media_consumed,
            "startTime": unit.start_time.ToJsonString(),
            "duration": unit.duration_s,
        }
        if unit.locations:
            told["locations"] = [{"locationIdentifierType": kind, "location": cell} for kind, cell in _cells(record)]
        if unit.HasField("client_endpoint_address"):
            told["clientEndpointAddress"] = _endpoint(unit.client_endpoint_address)
        if unit.HasField("server_endpoint_address"):
            told["serverEndpointAddress"] = _endpoint(unit.server_endpoint_address)
        told["receiveTime"] = record.receive_time.ToJsonString()
        return told


class _Parquet:
    """A row group per page of records; times in nanoseconds UTC, cells as a list of structures."""

    def __init__(self) -> None:
        try:
            self._arrow = importlib.import_module("pyarrow")
            parquet = importlib.import_module("pyarrow.parquet")
        except ModuleNotFoundError:
            raise FailedPrecondition(
                "format: PARQUET needs pyarrow, which is not installed at the AF: pip install 'castcore[parquet]'"
            ) from None
        arrow = self._arrow
        text, time = arrow.string(), arrow.timestamp("ns", tz="UTC")
        cell = arrow.struct([("locationIdentifierType", text), ("location", text)])
        types = {"startTime": time, "receiveTime": time, "duration": arrow.uint32(), "locations": arrow.list_(cell)}
        self._schema = arrow.schema([(name, types.get(name, text)) for name in COLUMNS])
        self._sink = _Sink()
        self._writer = parquet.ParquetWriter(self._sink, self._schema)

    def begin(self) -> bytes:
        return self._sink.take()

    def write(self, records: Sequence[ConsumptionRecord]) -> bytes:
        self._writer.write_table(self._table(records), row_group_size=len(records))
        return self._sink.take()

    def end(self) -> bytes:
        self._writer.close()
        return self._sink.take()

    def _table(self, records: Sequence[ConsumptionRecord]) -> pyarrow.Table:
        units = [record.consumption_reporting_unit for record in records]
        columns: dict[str, list[object]] = {
            "provisioningSessionId": [record.provisioning_session_id for record in records],
            "sessionId": [record.session_id or None for record in records],
            "mediaPlayerEntry": [record.media_player_entry for record in records],
            "reportingClientId": [record.reporting_client_id for record in records],
            "mediaConsumed": [unit.media_consumed for unit in units],
            "startTime": [unit.start_time.ToNanoseconds() for unit in units],
            "duration": [unit.duration_s for unit in units],
            "locations": [
                [{"locationIdentifierType": kind, "location": cell} for kind, cell in _cells(record)]
                for record in records
            ],
            "clientEndpointAddress": [_socket_of(unit.client_endpoint_address) or None for unit in units],
            "serverEndpointAddress": [_socket_of(unit.server_endpoint_address) or None for unit in units],
            "receiveTime": [record.receive_time.ToNanoseconds() for record in records],
        }
        return self._arrow.table(columns, schema=self._schema)


class _Sink(io.RawIOBase):
    """Where the Parquet writer writes to: what it has written is taken away piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: object) -> int:
        kept = bytes(memoryview(piece))  # type: ignore[arg-type]
        self._pieces.append(kept)
        self._written += len(kept)
        return len(kept)

    def tell(self) -> int:
        return self._written

    def take(self) -> bytes:
        """What has been written since."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def _cells(record: ConsumptionRecord) -> list[tuple[str, str]]:
    return [
        (CellIdentifierType.Name(each.location_identifier_type).removeprefix(_PREFIX), each.location)
        for each in record.consumption_reporting_unit.locations
    ]


def _endpoint(address: EndpointAddress) -> dict[str, str | int]:
    named = {"hostname": address.hostname, "ipv4Addr": address.ipv4_addr, "ipv6Addr": address.ipv6_addr}
    return {name: value for name, value in named.items() if value} | {"portNumber": address.port_number}


def _socket_of(address: EndpointAddress) -> str:
    """The address as text ("192.0.2.1:443", "[2001:db8::1]:443"); empty for none."""
    if not address.HasField("port_number"):
        return ""
    host = address.hostname or address.ipv4_addr or (f"[{address.ipv6_addr}]" if address.ipv6_addr else "")
    return f"{host}:{address.port_number}"
