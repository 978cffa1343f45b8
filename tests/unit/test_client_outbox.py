"""Reports that wait: their order, their bounds, their pauses, and the file in which they wait."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nf.af.v1.consumption_reporting_pb2 import ConsumptionReport, ConsumptionReportingUnit, TypedLocation
from nf.client.journal import Journal
from nf.client.outbox import FIRST_BACKOFF_S, MAX_BACKOFF_S, Outbox
from nf.common.errors import (
    CastcoreError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def report(name: str, cell: str = "") -> ConsumptionReport:
    locations = [TypedLocation(location=cell)] if cell else []
    unit = ConsumptionReportingUnit(media_consumed="v1", locations=locations)
    return ConsumptionReport(media_player_entry="mpd", reporting_client_id=name, consumption_reporting_units=[unit])


def waiting(outbox: Outbox) -> list[str]:
    """The clients of what waits, in the order in which it goes; the outbox is empty then."""
    found = []
    while (each := outbox.next()) is not None:
        found.append(each.report.reporting_client_id)
        outbox.sent(each)
    return found


def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "reports" / "client.jsonl")


def test_reports_go_in_the_order_in_which_they_were_made():
    outbox = Outbox()
    assert (outbox.due(NOW), outbox.next()) == (None, None)
    for name in "abc":
        outbox.add("session", report(name))
    assert outbox.due(NOW) == NOW
    assert waiting(outbox) == ["a", "b", "c"]
    assert (outbox.counts.sent, len(outbox), outbox.due(NOW)) == (3, 0, None)


def test_a_retry_has_the_same_bytes():
    outbox = Outbox()
    first = outbox.add("session", report("a"))
    body = first.body
    outbox.failed(first, Unavailable("away"), NOW)
    again = outbox.next()
    assert again is not None
    assert (again.body, again.number) == (body, first.number)


@pytest.mark.parametrize("error", [Unavailable("x"), ResourceExhausted("x"), Internal("x")])
def test_pauses_grow_up_to_a_minute_while_the_af_is_away(error: CastcoreError):
    outbox = Outbox(seed=1)
    now, pauses = NOW, []
    for _ in range(12):
        each = outbox.add("session", report("a")) if not len(outbox) else outbox.next()
        assert each is not None
        outbox.failed(each, error, now)
        due = outbox.due(now)
        assert due is not None
        pauses.append((due - now).total_seconds())
        now = due
    bounds = [min(FIRST_BACKOFF_S * 2**n, MAX_BACKOFF_S) for n in range(12)]
    assert all(bound / 2 <= pause <= bound for pause, bound in zip(pauses, bounds, strict=True))
    assert outbox.last_error is error
    each = outbox.next()
    assert each is not None
    outbox.sent(each)
    outbox.add("session", report("b"))
    assert (outbox.due(now), outbox.last_error) == (now, None)


@pytest.mark.parametrize("error", [InvalidArgument("x"), PermissionDenied("x"), NotFound("x"), FailedPrecondition("x")])
def test_a_report_that_the_af_refuses_does_not_hold_up_the_others(error: CastcoreError):
    outbox = Outbox()
    refused = outbox.add("session", report("a"))
    outbox.add("session", report("b"))
    outbox.failed(refused, error, NOW)
    assert (outbox.counts.refused, outbox.due(NOW)) == (1, NOW)
    assert waiting(outbox) == ["b"]


def test_the_oldest_is_given_up_where_there_are_too_many():
    outbox = Outbox(limit=3)
    for name in "abcde":
        outbox.add("session", report(name))
    assert outbox.counts.overflowed == 2
    assert waiting(outbox) == ["c", "d", "e"]


def test_what_was_given_up_while_it_was_on_its_way_is_counted_once():
    outbox = Outbox(limit=1)
    away = outbox.add("session", report("a"))
    outbox.add("session", report("b"))
    outbox.sent(away)
    assert (outbox.counts.overflowed, outbox.counts.sent, len(outbox)) == (1, 0, 1)


@pytest.mark.clause("TS 26.501 §5.6.1 step 8")
def test_what_the_user_withdraws_is_not_sent():
    outbox = Outbox()
    outbox.add("one", report("a", cell="001-01-1"))
    outbox.add("two", report("b", cell="001-01-1"))
    outbox.withdraw_locations()
    first = outbox.next()
    assert first is not None
    assert not first.report.consumption_reporting_units[0].locations
    outbox.withdraw("one")
    assert outbox.counts.withdrawn == 1
    assert waiting(outbox) == ["b"]


class TestJournal:
    def test_what_waits_is_found_again(self, tmp_path: Path):
        outbox = Outbox(journal=journal(tmp_path))
        for name in "abc":
            outbox.add(f"session-{name}", report(name), [f"http://{name}.example.com"])
        first = outbox.next()
        assert first is not None
        outbox.sent(first)
        bodies = [each.body for each in outbox._waiting.values()]
        # Nothing is closed: the application was killed.
        again = Outbox(journal=journal(tmp_path))
        assert [each.body for each in again._waiting.values()] == bodies
        found = again.next()
        assert found is not None
        assert (found.provisioning_session_id, found.server_addresses) == ("session-b", ("http://b.example.com",))
        assert waiting(again) == ["b", "c"]
        again.close()
        empty = Outbox(journal=journal(tmp_path))
        assert len(empty) == 0
        empty.close()
        outbox.close()

    def test_a_line_that_was_torn_is_no_report(self, tmp_path: Path):
        kept = journal(tmp_path)
        outbox = Outbox(journal=kept)
        outbox.add("session", report("a"))
        outbox.add("session", report("b"))
        outbox.close()
        path = tmp_path / "reports" / "client.jsonl"
        path.write_text(path.read_text()[:-20])
        again = Outbox(journal=journal(tmp_path))
        assert waiting(again) == ["a"]
        again.close()

    def test_a_file_that_is_another_one_is_refused_and_left_alone(self, tmp_path: Path):
        path = tmp_path / "notes.txt"
        path.write_text("dear diary\nI was here\n")
        with pytest.raises(FailedPrecondition, match=r"notes\.txt: line 1 is none of this file's: 'dear diary'"):
            Outbox(journal=Journal(path))
        assert path.read_text() == "dear diary\nI was here\n"

    def test_locations_that_are_withdrawn_are_in_the_file_no_longer(self, tmp_path: Path):
        outbox = Outbox(journal=journal(tmp_path))
        outbox.add("session", report("a", cell="001-01-000000001"))
        outbox.withdraw_locations()
        outbox.close()
        again = Outbox(journal=journal(tmp_path))
        found = again.next()
        assert found is not None
        assert b"001-01" not in found.body
        again.close()

    def test_the_file_does_not_grow_with_what_has_gone(self, tmp_path: Path):
        outbox = Outbox(journal=journal(tmp_path))
        for n in range(2000):
            outbox.sent(outbox.add("session", report(str(n))))
        outbox.close()
        lines = (tmp_path / "reports" / "client.jsonl").read_text().splitlines()
        assert len(lines) < 1100
        assert all(isinstance(json.loads(line), dict) for line in lines)

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path):
        (tmp_path / "file").write_text("")
        with pytest.raises(FailedPrecondition, match=r"client\.jsonl: cannot be"):
            Outbox(journal=Journal(tmp_path / "file" / "client.jsonl"))


def test_a_pause_ends_when_it_is_told_to():
    outbox = Outbox()
    outbox.failed(outbox.add("session", report("a")), Unavailable("x"), NOW)
    assert outbox.due(NOW) > NOW
    outbox.hurry()
    assert outbox.due(NOW + timedelta(0)) == NOW
