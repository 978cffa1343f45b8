"""What a consumption report may say, and which cells there are."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from nf.af import consumption_reports
from nf.af.cell_identities import CGI, ECGI, NCGI, check_area, normalised
from nf.af.v1.consumption_reporting_pb2 import (
    CELL_IDENTIFIER_TYPE_NCGI,
    ConsumptionReport,
    ConsumptionReportingUnit,
    EndpointAddress,
    TypedLocation,
)
from nf.common.errors import InvalidArgument


def unit(**changes) -> ConsumptionReportingUnit:
    made = ConsumptionReportingUnit(media_consumed="video-1", duration_s=10)
    made.start_time.FromSeconds(1_790_000_000)
    made.MergeFrom(ConsumptionReportingUnit(**changes))
    return made


def report(*units: ConsumptionReportingUnit, **changes) -> ConsumptionReport:
    made = ConsumptionReport(
        media_player_entry="https://cdn.example.com/a.mpd",
        reporting_client_id="client",
        consumption_reporting_units=units or [unit()],
    )
    made.MergeFrom(ConsumptionReport(**changes))
    return made


@pytest.mark.clause("TS 23.003 §4.3.1", "TS 23.003 §19.6")
@pytest.mark.parametrize(
    ("kind", "written", "kept"),
    [
        (CGI, "262-01-2A3B-0001", "262-01-2A3B-0001"),
        (CGI, "262-001-2a3b-1", "262-001-2A3B-0001"),
        (CGI, "262:01:2A3B:1", "262-01-2A3B-0001"),
        (CGI, "262012A3B0001", "262-01-2A3B-0001"),
        (CGI, "2620012A3B0001", "262-001-2A3B-0001"),
        (CGI, '{"plmnId": {"mcc": "262", "mnc": "01"}, "lac": "2A3B", "cellId": "0001"}', "262-01-2A3B-0001"),
        (ECGI, "262-01-0ABCDEF", "262-01-0ABCDEF"),
        (ECGI, " 262.01.abcdef ", "262-01-0ABCDEF"),
        (ECGI, "262010ABCDEF", "262-01-0ABCDEF"),
        (ECGI, '{"plmnId": {"mcc": "262", "mnc": "01"}, "eutraCellId": "0abcdef"}', "262-01-0ABCDEF"),
        (NCGI, "262-01-00000000A", "262-01-00000000A"),
        (NCGI, "262-01-FFFFFFFFF", "262-01-FFFFFFFFF"),
        (NCGI, "26200100000000A", "262-001-00000000A"),
        (NCGI, '{"plmnId": {"mcc": "262", "mnc": "01"}, "nrCellId": "00000000A"}', "262-01-00000000A"),
    ],
)
def test_a_cell_is_kept_in_one_form_however_it_is_written(kind: int, written: str, kept: str):
    assert normalised(kind, written) == kept
    assert normalised(kind, kept) == kept
    check_area(kept)


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        (CGI, ""),
        (CGI, "262-01-2A3B"),
        (CGI, "262-01-12A3B-0001"),
        (CGI, "262-01-2A3B-00010"),
        (CGI, "26-01-2A3B-0001"),
        (CGI, "262-1-2A3B-0001"),
        (CGI, "262-01-2A3G-0001"),
        (CGI, "262-01--0001"),
        (CGI, "٢٦٢-01-2A3B-0001"),
        (ECGI, "262-01-10ABCDEF"),
        (ECGI, "262-01-00000000A"),
        (ECGI, "2620ABCDEF"),
        (NCGI, "262-01-1000000000"),
        (NCGI, "262-01-2A3B-0001"),
        (NCGI, "262-01-" + "0" * 300),
        (NCGI, '{"plmnId": {"mcc": "262"}, "nrCellId": "00000000A"}'),
        (NCGI, '{"plmnId": "26201", "nrCellId": "00000000A"}'),
        (NCGI, '{"plmnId": {"mcc": 262, "mnc": "01"}, "nrCellId": "00000000A"}'),
        (NCGI, "{"),
    ],
)
def test_what_is_no_cell_is_refused_with_the_form_that_is_expected(kind: int, written: str):
    with pytest.raises(ValueError, match=r"expected (CGI: MCC-MNC-LAC-CI|ECGI: MCC-MNC-ECI|NCGI: MCC-MNC-NCI)"):
        normalised(kind, written)


@pytest.mark.parametrize("area", ["262", "262-01", "262-001-2A3B", "262-01-2A3B-0001", "262-01-0ABCDEF"])
def test_an_area_is_a_cell_or_what_cells_begin_with(area: str):
    check_area(area)


@pytest.mark.parametrize("area", ["", "26", "262-", "262-1", "262-01-2a3b", "262-01-2A3B-1", "262-01-%"])
def test_anything_else_is_no_area(area: str):
    with pytest.raises(ValueError, match="expected a cell or its first parts"):
        check_area(area)


@pytest.mark.clause("TS 26.501 §5.6.2")
@pytest.mark.parametrize(
    ("wrong", "field", "why"),
    [
        (
            ConsumptionReport(reporting_client_id="c", consumption_reporting_units=[unit()]),
            "media_player_entry",
            "found nothing",
        ),
        (
            ConsumptionReport(media_player_entry="e", consumption_reporting_units=[unit()]),
            "reporting_client_id",
            "found nothing",
        ),
        (report(reporting_client_id="c" * 4097), "reporting_client_id", "at most 4096 characters, found 4097"),
        (report(reporting_client_id="a\0b"), "reporting_client_id", "without the character U+0000"),
        (
            ConsumptionReport(media_player_entry="e", reporting_client_id="c"),
            "consumption_reporting_units",
            "1 to 1000 units, found nothing",
        ),
        (report(*[unit()] * 1001), "consumption_reporting_units", "found 1001"),
        (report(location_type=2), "location", "found nothing"),
        (report(location="262-01-00000000A"), "location_type", "found nothing"),
        (report(location_type=3, location="262-01-00000000A"), "location_type", "found 3"),
        (report(location_type=1, location="262-01-00000000A"), "location", "expected ECGI"),
        (report(ConsumptionReportingUnit()), "consumption_reporting_units[0].media_consumed", "found nothing"),
        (
            report(unit(), unit(client_endpoint_address=EndpointAddress(hostname="h"))),
            "consumption_reporting_units[1].client_endpoint_address.port_number",
            "found nothing",
        ),
        (
            report(unit(server_endpoint_address=EndpointAddress(ipv4_addr="::1", port_number=70000))),
            "consumption_reporting_units[0].server_endpoint_address.port_number",
            "found 70000",
        ),
        (
            report(unit(locations=[TypedLocation(location="262-01-00000000A")])),
            "consumption_reporting_units[0].locations[0].location_identifier_type",
            "expected CGI, ECGI or NCGI",
        ),
        (
            report(unit(locations=[TypedLocation(location_identifier_type=CELL_IDENTIFIER_TYPE_NCGI, location="x")])),
            "consumption_reporting_units[0].locations[0].location",
            "expected NCGI",
        ),
    ],
)
def test_what_is_wrong_with_a_report_is_named(wrong: ConsumptionReport, field: str, why: str):
    with pytest.raises(InvalidArgument) as refused:
        consumption_reports.check(wrong)
    first = refused.value.violations[0]
    assert (first.field, why in first.description) == (field, True), first


def test_everything_wrong_is_named_at_once():
    bad = ConsumptionReportingUnit()
    with pytest.raises(InvalidArgument) as refused:
        consumption_reports.check(ConsumptionReport(consumption_reporting_units=[unit(), bad]))
    path = "consumption_reporting_units[1]"
    assert [each.field for each in refused.value.violations] == [
        "media_player_entry",
        "reporting_client_id",
        f"{path}.media_consumed",
        f"{path}.start_time",
        f"{path}.duration_s",
    ]


@pytest.mark.parametrize("seconds", [-1, 4_102_444_800])
def test_a_start_that_no_clock_shows_is_refused(seconds: int):
    wrong = unit()
    wrong.start_time.seconds = seconds
    with pytest.raises(InvalidArgument, match="expected a time from 1970 to 2099"):
        consumption_reports.check(report(wrong))


def test_client_entry_medium_and_start_tell_units_apart_and_nothing_else_does():
    def key(told: ConsumptionReport, session: str = "session") -> bytes:
        checked = consumption_reports.check(told)
        return checked.key_of(checked.units[0], session)

    same = key(report())
    assert key(report(unit(duration_s=99))) == same
    assert key(report(unit(), location_type=2, location="262-01-00000000A")) == same
    later = unit()
    later.start_time.nanos = 1
    others = [
        key(report(reporting_client_id="other")),
        key(report(media_player_entry="other")),
        key(report(unit(media_consumed="other"))),
        key(report(later)),
        key(report(), "other"),
    ]
    assert len({same, *others}) == 6


def test_a_report_is_told_by_its_content_and_its_session():
    checked = consumption_reports.check(report())
    assert checked.key_in("one") == consumption_reports.check(report()).key_in("one")
    assert checked.key_in("one") != checked.key_in("two")
    assert checked.key_in("one") != consumption_reports.check(report(unit(duration_s=11))).key_in("one")


TEXTS = st.sampled_from(["", "a", "a\0", "a" * 4097])
TYPES = st.sampled_from([0, 1, 2, 3])
CELLS = st.sampled_from(["", "262-01-00000000A", "262-01-0ABCDEF", "nowhere"])
ENDPOINTS = st.builds(
    EndpointAddress,
    hostname=TEXTS,
    ipv4_addr=st.sampled_from(["", "192.0.2.1", "2001:db8::1"]),
    port_number=st.sampled_from([None, 0, 443, 65_536]),
)
UNITS = st.builds(
    ConsumptionReportingUnit,
    media_consumed=TEXTS,
    start_time=st.none()
    | st.builds(Timestamp, seconds=st.sampled_from([-1, 0, 1, 4_102_444_800]), nanos=st.sampled_from([-1, 0, 10**9])),
    duration_s=st.sampled_from([None, 0, 10]),
    locations=st.lists(st.builds(TypedLocation, location_identifier_type=TYPES, location=CELLS), max_size=2),
    client_endpoint_address=st.none() | ENDPOINTS,
    server_endpoint_address=st.none() | ENDPOINTS,
)
REPORTS = st.builds(
    ConsumptionReport,
    media_player_entry=TEXTS,
    reporting_client_id=TEXTS,
    consumption_reporting_units=st.lists(UNITS, max_size=2),
    location_type=st.none() | TYPES,
    location=st.none() | CELLS,
)


@given(REPORTS, st.integers(0, 4))
def test_what_is_refused_is_told_why_and_nothing_else_is_refused(told: ConsumptionReport, sound: int):
    # Much is wrong with what is made of all that may be wrong: some of it is put right.
    if sound:
        told.media_player_entry = told.reporting_client_id = "a"
        if not told.consumption_reporting_units:
            told.consumption_reporting_units.add()
    for each in told.consumption_reporting_units:
        if sound > 1:
            each.media_consumed, each.duration_s = "a", 10
            each.start_time.FromSeconds(0)
        if sound > 2:
            each.ClearField("client_endpoint_address")
            each.ClearField("server_endpoint_address")
    if sound > 3:
        told.ClearField("location_type")
        told.ClearField("location")
    wrong = consumption_reports.violations(told)
    if wrong:
        with pytest.raises(InvalidArgument) as refused:
            consumption_reports.check(told)
        assert list(refused.value.violations) == wrong
    else:
        assert len(consumption_reports.check(told).units) == len(told.consumption_reporting_units)
