"""Consumption reporting of a media session: what is reported when, by times that the test gives (TS 26.501 §5.6)."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nf.af.v1.consumption_reporting_pb2 import (
    CELL_IDENTIFIER_TYPE_NCGI,
    ConsumptionReport,
    ConsumptionReportingUnit,
    TypedLocation,
)
from nf.af.v1.media_session_pb2 import ClientConsumptionReportingConfiguration
from nf.client.consumption import MAX_UNITS, ConsumptionReporting, Output, SendReport, Trigger, Withdraw
from nf.client.m7 import Connection, Endpoint, Preferences
from nf.client.machine import Reporting

START = datetime(2026, 5, 1, 20, 0, tzinfo=UTC)
MPD = "https://media.example.com/title1.mpd"
HERE = TypedLocation(location_identifier_type=CELL_IDENTIFIER_TYPE_NCGI, location="001-01-000000001")
THERE = TypedLocation(location_identifier_type=CELL_IDENTIFIER_TYPE_NCGI, location="001-01-000000002")
BOTH = Preferences(may_report=True, may_share_location=True)

Told = tuple[str, float, int]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def configuration(interval_s: int | None = 10, **changes: object) -> ClientConsumptionReportingConfiguration:
    content: dict = {"reporting_interval_s": interval_s, "sample_percentage": 100.0, **changes}
    return ClientConsumptionReportingConfiguration(**content)


def connection(port: int) -> Connection:
    return Connection(
        Endpoint(ip_address("10.45.0.2"), port), Endpoint(ip_address("2001:db8::7"), 443), server_name="cdn.example.com"
    )


def reporting(preferences: Preferences | None = None, **changes: object) -> ConsumptionReporting:
    made = ConsumptionReporting(MPD, "client-1", preferences=preferences, seed=1)
    assert made.configure(configuration(**changes), at(0)) == []
    return made


def only(outputs: list[Output]) -> SendReport:
    (output,) = outputs
    assert isinstance(output, SendReport)
    return output


def units(report: ConsumptionReport) -> list[Told]:
    return [
        (unit.media_consumed, (unit.start_time.ToDatetime(UTC) - START).total_seconds(), unit.duration_s)
        for unit in report.consumption_reporting_units
    ]


def told(outputs: list[Output]) -> tuple[Trigger, list[Told]]:
    output = only(outputs)
    return output.trigger, units(output.report)


def cells(outputs: list[Output]) -> list[list[str]]:
    report = only(outputs).report
    return [[each.location for each in unit.locations] for unit in report.consumption_reporting_units]


class TestTriggers:
    @pytest.mark.clause("TS 26.501 §5.6.3")
    def test_the_start_of_consumption_is_reported(self):
        session = reporting()
        output = only(session.media_changed("video", "v1", at(1)))
        assert output.trigger is Trigger.START
        assert (output.report.media_player_entry, output.report.reporting_client_id) == (MPD, "client-1")
        assert units(output.report) == [("v1", 1, 0)]
        assert output.report.consumption_reporting_units[0].HasField("duration_s")
        assert session.media_changed("audio", "a1", at(1)) == []

    @pytest.mark.clause("TS 26.501 §5.6.3")
    def test_reports_are_sent_at_intervals_which_every_report_restarts(self):
        session = reporting(BOTH, location_reporting=True)
        session.locate(HERE, at(0))
        session.media_changed("video", "v1", at(1))
        assert session.due == at(11)
        assert session.tick(at(10.999)) == []
        assert told(session.tick(at(11))) == (Trigger.ONGOING, [("v1", 1, 10)])
        assert session.due == at(21)
        assert told(session.locate(THERE, at(15)))[0] is Trigger.LOCATION_CHANGE
        assert session.due == at(25)
        assert session.tick(at(21)) == []

    @pytest.mark.clause("TS 26.501 §5.6.3")
    def test_the_stop_is_reported_and_disables_the_timer(self):
        session = reporting()
        session.media_changed("video", "v1", at(1))
        assert told(session.end(at(5))) == (Trigger.STOP, [("v1", 1, 4)])
        assert (session.due, session.state) == (None, Reporting.ENDED)
        assert session.tick(at(100)) == []
        assert session.end(at(101)) == []
        assert session.media_changed("video", "v2", at(102)) == []

    @pytest.mark.clause("TS 26.501 §5.6.3")
    def test_a_change_of_location_is_reported_and_closes_the_units(self):
        session = reporting(BOTH, location_reporting=True)
        session.locate(HERE, at(0))
        assert cells(session.media_changed("video", "v1", at(1))) == [["001-01-000000001"]]
        session.media_changed("audio", "a1", at(1))
        outputs = session.locate(THERE, at(4))
        assert told(outputs) == (
            Trigger.LOCATION_CHANGE,
            [("v1", 1, 3), ("a1", 1, 3), ("v1", 4, 0), ("a1", 4, 0)],
        )
        assert cells(outputs) == [["001-01-000000001"]] * 2 + [["001-01-000000002"]] * 2
        assert session.locate(THERE, at(5)) == []

    @pytest.mark.parametrize("wanted", [False, True])
    @pytest.mark.parametrize("allowed", [False, True])
    @pytest.mark.clause("TS 26.501 §5.6.3", "TS 26.501 §5.6.2")
    def test_location_needs_the_configuration_and_the_users_consent(self, wanted: bool, allowed: bool):
        session = reporting(Preferences(may_share_location=allowed), location_reporting=wanted)
        session.locate(HERE, at(0))
        assert cells(session.media_changed("video", "v1", at(1))) == [
            ["001-01-000000001"] if wanted and allowed else []
        ]
        assert len(session.locate(THERE, at(2))) == (wanted and allowed)

    def test_without_an_interval_only_start_stop_and_change_are_reported(self):
        session = reporting(interval_s=None)
        session.media_changed("video", "v1", at(1))
        assert session.due is None
        assert session.tick(at(10_000)) == []
        assert told(session.end(at(10_000))) == (Trigger.STOP, [("v1", 1, 9999)])


class TestUnits:
    @pytest.mark.clause("TS 26.501 §5.6.1 step 11")
    def test_a_change_of_a_media_property_closes_the_unit(self):
        session = reporting()
        session.media_changed("video", "v1", at(0))
        session.media_changed("audio", "a1", at(0))
        assert session.media_changed("video", "v2", at(3)) == []
        assert session.media_changed("video", "v2", at(4)) == []
        session.media_changed("audio", None, at(6))
        assert told(session.tick(at(10))) == (
            Trigger.ONGOING, [("v1", 0, 3), ("a1", 0, 6), ("v2", 3, 7)],
        )  # fmt: skip
        assert told(session.tick(at(20))) == (Trigger.ONGOING, [("v2", 3, 17)])

    def test_a_pause_is_no_consumption_and_an_interval_without_any_no_report(self):
        session = reporting()
        session.media_changed("video", "v1", at(0))
        session.media_changed("video", None, at(3))
        assert told(session.tick(at(10))) == (Trigger.ONGOING, [("v1", 0, 3)])
        assert session.tick(at(20)) == []
        assert session.due == at(30)
        assert session.media_changed("video", "v1", at(25)) == []
        assert told(session.tick(at(30))) == (Trigger.ONGOING, [("v1", 25, 5)])

    @pytest.mark.clause("TS 26.501 §5.6.3")
    def test_a_stop_with_nothing_new_repeats_what_was_told_last(self):
        session = reporting()
        session.media_changed("video", "v1", at(0))
        session.media_changed("video", None, at(3))
        session.tick(at(10))
        assert told(session.end(at(12))) == (Trigger.STOP, [("v1", 0, 3)])

    def test_what_was_never_consumed_is_never_reported(self):
        session = reporting()
        assert session.end(at(5)) == []

    def test_what_ends_when_it_begins_is_no_unit(self):
        session = reporting()
        session.media_changed("video", "v1", at(0))
        session.media_changed("video", "v2", at(0))
        assert told(session.end(at(4))) == (Trigger.STOP, [("v2", 0, 4)])

    @pytest.mark.parametrize(("lasted", "duration_s"), [(0.4, 0), (0.5, 1), (1.49, 1), (1.5, 2), (59.5, 60)])
    def test_durations_are_whole_seconds(self, lasted: float, duration_s: int):
        session = reporting(interval_s=None)
        session.media_changed("video", "v1", at(0))
        assert told(session.end(at(lasted))) == (Trigger.STOP, [("v1", 0, duration_s)])

    def test_a_clock_that_is_set_back_makes_no_negative_duration(self):
        session = reporting()
        session.media_changed("video", "v1", at(100))
        assert told(session.locate(None, at(50)) or session.end(at(50))) == (Trigger.STOP, [("v1", 100, 0)])

    def test_a_session_that_changes_without_end_reports_before_the_report_is_too_long(self):
        session = reporting(interval_s=None)
        session.media_changed("video", "v0", at(0))
        outputs = [each for n in range(1, 2 * MAX_UNITS) for each in session.media_changed("video", f"v{n}", at(n))]
        assert len(outputs) >= 1
        for output in outputs:
            assert isinstance(output, SendReport)
            assert len(output.report.consumption_reporting_units) <= MAX_UNITS

    @pytest.mark.clause("TS 26.512 §11.3")
    def test_addresses_of_the_connection_are_told_where_access_is_reported(self):
        session = reporting(access_reporting=True)
        report = only(session.media_changed("video", "v1", at(0), connection(50000))).report
        unit = report.consumption_reporting_units[0]
        assert (unit.client_endpoint_address.ipv4_addr, unit.client_endpoint_address.port_number) == (
            "10.45.0.2", 50000,
        )  # fmt: skip
        assert (unit.server_endpoint_address.ipv6_addr, unit.server_endpoint_address.hostname) == (
            "2001:db8::7", "cdn.example.com",
        )  # fmt: skip
        assert session.media_changed("video", "v1", at(1)) == []
        session.media_changed("video", "v1", at(2), connection(50001))
        assert told(session.end(at(5))) == (Trigger.STOP, [("v1", 0, 2), ("v1", 2, 3)])

    def test_another_connection_is_no_change_where_access_is_not_reported(self):
        session = reporting()
        report = only(session.media_changed("video", "v1", at(0), connection(50000))).report
        assert not report.consumption_reporting_units[0].HasField("client_endpoint_address")
        session.media_changed("video", "v1", at(2), connection(50001))
        assert told(session.end(at(5))) == (Trigger.STOP, [("v1", 0, 5)])


class TestSampling:
    def test_the_share_of_sessions_that_report_is_the_percentage(self):
        sampled = 0
        for seed in range(2000):
            session = ConsumptionReporting(MPD, "c", seed=seed)
            session.configure(configuration(sample_percentage=25.0), at(0))
            sampled += session.sampled
        # Four standard deviations of the binomial distribution.
        assert abs(sampled - 500) < 4 * (2000 * 0.25 * 0.75) ** 0.5

    @pytest.mark.parametrize(("percentage", "reports"), [(0.0, 0), (100.0, 1)])
    def test_none_and_all_are_exact(self, percentage: float, reports: int):
        for seed in range(200):
            session = ConsumptionReporting(MPD, "c", seed=seed)
            session.configure(configuration(sample_percentage=percentage), at(0))
            assert len(session.media_changed("video", "v1", at(0))) == reports

    def test_the_draw_is_made_once(self):
        session = ConsumptionReporting(MPD, "c", seed=7)
        verdicts = []
        for percentage in [50.0, 10.0, 50.0, 90.0, 50.0]:
            session.configure(configuration(sample_percentage=percentage), at(0))
            verdicts.append(session.sampled)
        assert verdicts[0] == verdicts[2] == verdicts[4]
        again = ConsumptionReporting(MPD, "c", seed=7)
        again.configure(configuration(sample_percentage=50.0), at(0))
        assert again.sampled == verdicts[0]


class TestChangesInMidSession:
    @pytest.mark.clause("TS 26.501 §5.6.1 step 9")
    def test_another_interval_counts_from_the_last_report(self):
        session = reporting()
        session.media_changed("video", "v1", at(0))
        assert session.configure(configuration(30), at(4)) == []
        assert session.due == at(30)
        session.configure(configuration(2), at(5))
        assert session.due == at(2)
        assert told(session.tick(at(5))) == (Trigger.ONGOING, [("v1", 0, 5)])
        session.configure(configuration(None), at(6))
        assert session.due is None

    @pytest.mark.clause("TS 26.501 §5.6.1 step 9")
    def test_a_configuration_that_is_removed_ends_reporting_and_one_that_comes_begins_it(self):
        session = reporting()
        session.media_changed("video", "v1", at(0))
        assert session.configure(None, at(4)) == []
        assert (session.due, session.state) == (None, Reporting.SILENT)
        session.media_changed("video", "v2", at(5))
        assert session.tick(at(50)) == []
        # What was consumed in between is nobody's business.
        assert told(session.configure(configuration(), at(60))) == (Trigger.START, [("v2", 60, 0)])
        assert told(session.end(at(63))) == (Trigger.STOP, [("v2", 60, 3)])

    def test_reporting_that_was_never_configured_says_nothing_at_the_end(self):
        session = ConsumptionReporting(MPD, "c")
        session.media_changed("video", "v1", at(0))
        assert session.state is Reporting.SILENT
        assert session.end(at(5)) == []

    @pytest.mark.clause("TS 26.501 §5.6.1 step 9")
    def test_a_smaller_sample_silences_and_a_larger_one_calls_back(self):
        session = reporting()
        session.media_changed("video", "v1", at(0))
        session.configure(configuration(sample_percentage=0.0), at(4))
        assert session.state is Reporting.SILENT
        assert told(session.configure(configuration(), at(9))) == (Trigger.START, [("v1", 9, 0)])

    @pytest.mark.clause("TS 26.501 §5.6.1 step 9")
    def test_location_that_comes_to_be_wanted_begins_new_units(self):
        session = reporting(BOTH)
        session.locate(HERE, at(0))
        session.media_changed("video", "v1", at(0))
        assert session.configure(configuration(location_reporting=True), at(4)) == []
        outputs = session.tick(at(10))
        assert told(outputs) == (Trigger.ONGOING, [("v1", 0, 4), ("v1", 4, 6)])
        assert cells(outputs) == [[], ["001-01-000000001"]]

    @pytest.mark.clause("TS 26.501 §5.6.1 step 7", "TS 26.501 §5.6.1 step 8")
    def test_consent_to_location_that_is_withdrawn_takes_back_what_was_not_sent(self):
        session = reporting(BOTH, location_reporting=True)
        session.locate(HERE, at(0))
        session.media_changed("video", "v1", at(0))
        session.media_changed("video", "v2", at(2))
        assert session.prefer(Preferences(may_share_location=False), at(4)) == [Withdraw.LOCATIONS]
        assert session.locate(THERE, at(5)) == []
        outputs = session.tick(at(10))
        assert told(outputs) == (Trigger.ONGOING, [("v1", 0, 2), ("v2", 2, 2), ("v2", 4, 6)])
        assert cells(outputs) == [[], [], []]

    @pytest.mark.clause("TS 26.501 §5.6.1 step 7", "TS 26.501 §5.6.1 step 8")
    def test_a_user_who_says_no_is_not_reported_not_even_at_the_end(self):
        session = reporting()
        session.media_changed("video", "v1", at(0))
        assert session.prefer(Preferences(may_report=False), at(4)) == [Withdraw.REPORTS]
        assert (session.state, session.due) == (Reporting.SILENT, None)
        assert session.tick(at(50)) == []
        assert session.end(at(60)) == []

    @pytest.mark.clause("TS 26.501 §5.6.1 step 7", "TS 26.501 §5.6.1 step 8")
    def test_a_user_who_says_yes_is_reported_from_then_on(self):
        session = reporting(Preferences(may_report=False))
        assert session.media_changed("video", "v1", at(0)) == []
        assert told(session.prefer(Preferences(may_report=True), at(7))) == (Trigger.START, [("v1", 7, 0)])

    def test_a_location_that_is_lost_closes_the_unit_and_is_no_report(self):
        session = reporting(BOTH, location_reporting=True)
        session.locate(HERE, at(0))
        session.media_changed("video", "v1", at(0))
        assert session.locate(None, at(4)) == []
        outputs = session.tick(at(10))
        assert cells(outputs) == [["001-01-000000001"], []]

    def test_reports_go_where_the_configuration_says_now(self):
        session = reporting(server_addresses=["http://a.example.com"])
        assert only(session.media_changed("video", "v1", at(0))).server_addresses == ("http://a.example.com",)
        session.configure(configuration(server_addresses=["http://b.example.com"]), at(1))
        assert only(session.end(at(2))).server_addresses == ("http://b.example.com",)


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["video", "audio", "locate", "configure", "prefer", "tick"]),
        st.integers(0, 3),
        st.integers(0, 30_000),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(_STEPS)
def test_whatever_happens_units_of_a_medium_never_overlap_and_nothing_forbidden_is_told(steps: list):
    """The longest of the units that begin together is what counts: those must be what was consumed while allowed."""
    session = ConsumptionReporting(MPD, "c", seed=1)
    now, allowed, located = at(0), False, False
    configured, preferences = None, Preferences()
    longest: dict[tuple[str, datetime], ConsumptionReportingUnit] = {}
    outputs: list[Output] = []
    for what, choice, later_ms in [*steps, ("end", 0, 500)]:
        now += timedelta(milliseconds=later_ms)
        if what in ("video", "audio"):
            outputs = session.media_changed(what, f"{what}{choice}" if choice else None, now)
        elif what == "locate":
            outputs = session.locate((None, HERE, THERE, HERE)[choice], now)
        elif what == "configure":
            configured = (
                None if choice == 0 else configuration(10 if choice == 1 else None, location_reporting=choice > 1)
            )
            outputs = session.configure(configured, now)
        elif what == "prefer":
            preferences = Preferences(may_report=bool(choice & 1), may_share_location=bool(choice & 2))
            outputs = session.prefer(preferences, now)
        elif what == "tick":
            outputs = session.tick(now)
        else:
            outputs = session.end(now)
        allowed = configured is not None and preferences.may_report
        located = configured is not None and configured.location_reporting and preferences.may_share_location
        for output in outputs:
            if not isinstance(output, SendReport):
                continue
            assert allowed
            assert output.report.consumption_reporting_units
            for unit in output.report.consumption_reporting_units:
                assert located or not unit.locations
                key = unit.media_consumed, unit.start_time.ToDatetime(UTC)
                if key not in longest or unit.duration_s >= longest[key].duration_s:
                    longest[key] = unit
    for medium in ("video", "audio"):
        spans = sorted(
            (begun, begun + timedelta(seconds=unit.duration_s))
            for (media, begun), unit in longest.items()
            if media.startswith(medium)
        )
        for (_, ended), (begun, _) in itertools.pairwise(spans):
            # Durations are rounded.
            assert ended <= begun + timedelta(milliseconds=500)
