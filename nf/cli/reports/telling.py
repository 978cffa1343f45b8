"""What ``castcore reports`` prints and writes: tables for eyes, JSON a line for scripts, files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC
from pathlib import Path
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nf.af.v1 import consumption_reporting_pb2 as messages
from nf.af.v1.consumption_reporting_pb2_grpc import ConsumptionReportsServiceStub
from nf.common.channels import Channels
from nf.common.codec import to_json
from nf.common.errors import InvalidArgument

FORMATS: Final = {
    "csv": messages.EXPORT_FORMAT_CSV,
    "jsonl": messages.EXPORT_FORMAT_JSON_LINES,
    "parquet": messages.EXPORT_FORMAT_PARQUET,
}


async def tell_records(channels: Channels, wanted: messages.ConsumptionFilter, *, limit: int, as_json: bool) -> None:
    """Prints records, at most ``limit`` of them unless that is 0."""
    table = _table("received", "client", "medium", "began", "seconds", "cells", "entry")
    count = 0
    async for each in _records(channels, wanted, limit):
        count += 1
        if as_json:
            print(json.dumps(to_json(each), ensure_ascii=False))
            continue
        unit = each.consumption_reporting_unit
        table.add_row(
            _moment(each.receive_time),
            Text(each.reporting_client_id),
            Text(unit.media_consumed),
            _moment(unit.start_time),
            f"{unit.duration_s:,}",
            ", ".join(cell.location for cell in unit.locations),
            Text(each.media_player_entry),
        )
    if not as_json:
        _print(table, count, "no consumption")


async def tell_aggregates(
    channels: Channels,
    wanted: messages.ConsumptionFilter,
    *,
    bucket_s: int,
    by_area: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Prints clients and seconds per medium and period, and draws them where it is asked for."""
    request = messages.AggregateConsumptionRequest(filter=wanted, bucket_s=bucket_s, by_area=by_area)
    stub = ConsumptionReportsServiceStub(channels.get("af"))
    answer = await stub.AggregateConsumption(request)
    found = answer.consumption_aggregates
    if plot is not None:
        from nf.cli.reports.plot import draw

        draw(plot, found)
    if as_json:
        for each in found:
            print(json.dumps(to_json(each), ensure_ascii=False))
        return
    table = _table("from", "to", "medium", *(["cell"] if by_area else []), "clients", "seconds")
    for each in found:
        table.add_row(
            _moment(each.start_time),
            _moment(each.end_time),
            Text(each.media_consumed),
            *([each.area or "-"] if by_area else []),
            f"{each.client_count:,}",
            f"{each.consumed_s:,.3f}".removesuffix(".000"),
        )
    _print(table, len(found), "no consumption")


async def write_export(channels: Channels, wanted: messages.ConsumptionFilter, form: str, output: Path | None) -> None:
    """Writes records to a file, which is there when all of them are; None: to standard output."""
    request = messages.ExportConsumptionRequest(filter=wanted, format=FORMATS[form])
    stub = ConsumptionReportsServiceStub(channels.get("af"))
    pieces = stub.ExportConsumption(request)
    if output is None:
        async for piece in pieces:
            sys.stdout.buffer.write(piece.chunk)
        sys.stdout.buffer.flush()
        return
    partial = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            async for piece in pieces:
                file.write(piece.chunk)
        partial.replace(output)
    except OSError as error:
        raise InvalidArgument(f"option '--output': {output}: {error.strerror}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


async def _records(
    channels: Channels, wanted: messages.ConsumptionFilter, limit: int
) -> AsyncIterator[messages.ConsumptionRecord]:
    stub = ConsumptionReportsServiceStub(channels.get("af"))
    request = messages.ListConsumptionReportingUnitsRequest(filter=wanted, page_size=min(limit, 1000) or 1000)
    left = limit or sys.maxsize
    while True:
        page = await stub.ListConsumptionReportingUnits(request)
        for each in page.consumption_records[:left]:
            yield each
        left -= len(page.consumption_records)
        if not page.next_page_token or left <= 0:
            return
        request.page_token = page.next_page_token


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        number = column in ("seconds", "clients")
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    return table


def _print(table: Table, count: int, nothing: str) -> None:
    if not count:
        print(nothing, file=sys.stderr)
        return
    console = Console(highlight=False)
    console.width = max(console.width, 120)
    console.print(table)


def _moment(moment: Timestamp) -> str:
    return moment.ToDatetime(UTC).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
