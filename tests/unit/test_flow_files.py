"""Flow records in files: every format holds the same, and a file is there whole or not at all."""

from __future__ import annotations

import csv
import json
from ipaddress import ip_address
from pathlib import Path

import pyarrow.parquet
import pytest

from upf import flow_records
from upf.errors import UpfError
from upf.flow_records import COLUMNS, Beginning, Ending, FlowFile, FlowRecord, row_of


def record(number: int = 0) -> FlowRecord:
    return FlowRecord(
        source=ip_address("198.51.100.7"),
        destination=ip_address("2001:db8::2") if number % 2 else ip_address("10.45.0.2"),
        protocol=17,
        source_port=443,
        destination_port=None if number % 3 else 5000 + number,
        spi=0xFFFFFFFF if number % 5 else None,
        teid=number,
        qfi=63,
        rule='a "name", with a comma',
        start_ns=1_760_000_000_000_000_000 + number,
        end_ns=1_760_000_000_000_000_001 + number,
        packets=10,
        bytes=15_000,
        passed_packets=7,
        passed_bytes=10_500,
        excess_packets=4,
        excess_bytes=6_000,
        began=Beginning.SYN,
        ended=Ending.FIN,
    )


RECORDS = [record(number) for number in range(10)]
ROWS = [dict(zip(COLUMNS, row_of(each), strict=True)) for each in RECORDS]


def written(path: Path, *chunks: list[FlowRecord]) -> Path:
    with FlowFile(path) as flows:
        for chunk in chunks:
            flows.write(chunk)
    return path


def test_a_row_tells_what_was_dropped_and_what_conformed_beside_what_is_counted() -> None:
    row = ROWS[0]
    assert (row["dropped_packets"], row["dropped_bytes"]) == (3, 4_500)
    assert (row["conforming_packets"], row["conforming_bytes"]) == (6, 9_000)
    assert (row["began"], row["ended"]) == ("syn", "fin")


def test_csv_has_a_header_and_leaves_empty_what_is_absent(tmp_path: Path) -> None:
    path = written(tmp_path / "flows.csv", RECORDS[:4], [], RECORDS[4:])
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows == [{name: "" if value is None else str(value) for name, value in row.items()} for row in ROWS]


def test_json_is_an_array_and_jsonl_an_object_a_line(tmp_path: Path) -> None:
    assert json.loads(written(tmp_path / "flows.json", RECORDS[:1], RECORDS[1:]).read_text()) == ROWS
    lines = written(tmp_path / "flows.jsonl", RECORDS[:1], RECORDS[1:]).read_text().splitlines()
    assert [json.loads(line) for line in lines] == ROWS


def test_parquet_has_typed_columns_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_records, "ROW_GROUP_RECORDS", 4)
    path = written(tmp_path / "flows.parquet", RECORDS[:7], RECORDS[7:])
    file = pyarrow.parquet.ParquetFile(path)
    assert file.metadata.num_row_groups == 3
    table = file.read()
    assert table.to_pylist() == ROWS
    types = {field.name: str(field.type) for field in table.schema}
    assert types["source"] == types["ended"] == "string"
    assert (types["start_ns"], types["bytes"], types["spi"], types["source_port"]) == (
        "int64",
        "int64",
        "uint32",
        "uint16",
    )


@pytest.mark.parametrize(("suffix", "content"), [("csv", ",".join(COLUMNS) + "\n"), ("json", "[]\n"), ("jsonl", "")])
def test_without_a_record_the_file_is_there_all_the_same(tmp_path: Path, suffix: str, content: str) -> None:
    assert written(tmp_path / f"flows.{suffix}").read_text() == content


def test_parquet_without_a_record_has_the_columns(tmp_path: Path) -> None:
    table = pyarrow.parquet.read_table(written(tmp_path / "flows.parquet"))
    assert (table.num_rows, tuple(table.column_names)) == (0, COLUMNS)


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_an_interrupt_leaves_what_was_there_before(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"flows.{suffix}"
    path.write_text("of yesterday")

    def interrupted() -> None:
        with FlowFile(path) as flows:
            flows.write(RECORDS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "of yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_tells_no_format_is_refused_by_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(UpfError, match=r"option '--flows': found '.*flows.xlsx', expected a name that ends in .csv"):
        FlowFile(tmp_path / "flows.xlsx")


def test_a_directory_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UpfError, match=r"nowhere/flows.csv: cannot be written: No such file or directory$"):
        FlowFile(tmp_path / "nowhere" / "flows.csv")


def test_a_link_stays_a_link_to_the_file_that_is_written(tmp_path: Path) -> None:
    target, link = tmp_path / "target.csv", tmp_path / "link.csv"
    target.write_text("")
    link.symlink_to(target)
    written(link, RECORDS)
    assert link.is_symlink()
    assert len(target.read_text().splitlines()) == 11
