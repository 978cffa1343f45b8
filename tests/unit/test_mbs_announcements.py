"""Announcements: what the MBSF makes of its resources, the client reads, alone or in one piece (TS 26.517 §5)."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nf.client.mbs.announcement import DESCRIPTIONS_TYPE, AnnouncedService, Document, parse
from nf.client.mbs.errors import AnnouncementInvalid
from nf.common.codec import from_json, to_json
from nf.common.json_text import encode
from nf.common.v1 import mbs_distribution_pb2 as distribution
from nf.common.v1 import mbs_pb2 as mbs
from nf.mbsf.announcement import Announced, Announcement, announce, bundle
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1.announcement_pb2 import MbsFlow
from nf.mbsf.v1.user_service_pb2 import MbsUserService

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
BASE = "http://mbsf.test/3gpp-mbs5/v1/"
PLMN = {"mcc": "001", "mnc": "01"}
SERVICE = from_json(
    MbsUserService,
    {
        "extServiceIds": ["urn:example:news", "urn:example:old"],
        "servType": "BROADCAST",
        "servClass": "urn:oma:bcast:oma_bsc:st:1.0",
        "servAnnModes": ["VIA_MBS_5"],
        "servNameDescs": [{"servName": "Nachrichten", "language": "de"}, {"servName": "News", "language": "en"}],
        "mainServLang": "en",
    },
)
INFO = {
    "distrMethod": "OBJECT",
    "maxContBitRate": "2 Mbps",
    "mbsSessionId": {"tmgi": {"mbsServiceId": "0000a1", "plmnId": PLMN}},
    "fecConfig": {"fecScheme": "urn:ietf:rmt:fec:encoding:5", "fecOverHead": 20},
    "objDistrInfo": {
        "operatingMode": "STREAMING",
        "objAcqMethod": "PULL",
        "objAcqIds": ["http://origin.test/live/news.mpd"],
        "objIngUri": "http://origin.test/live/",
        "objDistrUri": "http://news.test/",
        "objRepairUri": "http://repair.test/",
    },
    "tgtServAreas": {"taiList": [{"plmnId": PLMN, "tac": "0001"}]},
    "mbsFSAId": "00000a",
}
GOLDEN = {
    "name": ["News", "Nachrichten"],
    "serviceLanguage": ["en", "de"],
    "serviceId": "urn:example:news",
    "distributionSessionDescription": {
        "distributionMethod": "OBJECT",
        "conformanceProfile": "urn:3GPP:26517:17:baseline",
        "sessionDescriptionLocator": "http://mbsf.test/3gpp-mbs5/v1/session-descriptions/d1",
        "objectRepairParameters": {
            "postObjectRepair": {"serviceLocators": ["http://repair.test/"], "offsetTime": 1, "randomTimePeriod": 5}
        },
        "mbsAppService": [{"basePattern": "http://news.test/"}],
    },
    "appServiceDescription": {
        "mediaEntryPointLocator": "http://news.test/news.mpd",
        "mimeType": "application/dash+xml",
    },
    "scheduleDescription": [
        {
            "sessionSchedule": [{"start": "2026-03-01T12:00:00Z", "stop": "2026-03-01T13:00:00Z", "index": 0}],
            "serviceId": "urn:example:news",
            "serviceClass": "urn:oma:bcast:oma_bsc:st:1.0",
        }
    ],
    "availabilityInfo": [
        {"mbsServiceArea": [{"taiList": [{"plmnId": PLMN, "tac": "0001"}]}], "mbsFSAId": "00000a"},
    ],
}


def locate(name: str) -> str:
    return f"{BASE}session-descriptions/{name}"


def session(name: str = "d1", *, tsi: int | None = 7, **changes: object) -> Announced:
    info = from_json(ingest.MbsDistributionSessionInfo, {**INFO, **changes})
    info.mbs_dist_session_id = name
    flow = MbsFlow(source="192.0.2.1", group="232.0.0.1", port=5000, tsi=tsi)
    return Announced(info, flow, ((START, START + HOUR),), 3)


def read(announcement: Announcement) -> AnnouncedService:
    made = announcement.bundle()
    (service,) = parse(made.content_type, made.content).services()
    return service


@pytest.mark.clause("TS 26.517 §5.2")
def test_an_announcement_is_the_document_that_it_was_decided_to_be() -> None:
    announcement = announce(SERVICE, [session()], locate=locate)
    assert to_json(announcement.description) == GOLDEN
    ((url, text),) = announcement.session_descriptions
    assert url == GOLDEN["distributionSessionDescription"]["sessionDescriptionLocator"]  # type: ignore[index]
    assert "s=News\r\n" in text
    assert "a=mbs-servicetype:broadcast 2701193488\r\n" in text


def test_the_client_knows_of_the_service_what_the_provider_has_set() -> None:
    found = read(announce(SERVICE, [session()], locate=locate))
    assert (found.service_id, found.service_class) == ("urn:example:news", SERVICE.serv_class)
    assert found.names == (("News", "en"), ("Nachrichten", "de"))
    assert (found.entry_point, found.entry_point_type) == ("http://news.test/news.mpd", "application/dash+xml")
    assert found.periods == ((START, START + HOUR),)
    assert [found.is_on(START + timedelta(minutes=each)) for each in (-1, 0, 59, 60)] == [False, True, True, False]
    (only,) = found.sessions
    assert only.is_object
    assert only.base_patterns == ("http://news.test/",)
    assert only.repair is not None
    assert only.repair.locators == ("http://repair.test/",)
    assert (only.repair.offset, only.repair.random_period) == (timedelta(seconds=1), timedelta(seconds=5))
    description = only.description
    assert (str(description.group), description.port, description.tsi) == ("232.0.0.1", 5000, 7)
    assert description.tmgi == from_json(mbs.Tmgi, {"mbsServiceId": "0000a1", "plmnId": PLMN})
    assert (description.fec_encoding_id, description.fec_overhead_percent) == (5, 20)
    assert description.version == 3


def test_several_distribution_sessions_are_a_list_of_which_the_first_stands_by_itself_too() -> None:
    packets = {
        "distrMethod": "PACKET",
        "pckDistrInfo": {"operatingMode": "PACKET_PROXY", "pckIngMethod": "UNICAST", "ingEndpointAddrs": {}},
    }
    both = [session("d1"), session("d2", tsi=None, **packets)]
    announcement = announce(SERVICE, both, locate=locate, service_id="urn:example:old")
    description = announcement.description
    assert [each.session_description_locator for each in description.distribution_session_descriptions] == [
        locate("d1"),
        locate("d2"),
    ]
    assert description.distribution_session_description == description.distribution_session_descriptions[0]
    found = read(announcement)
    assert found.service_id == "urn:example:old"
    assert [each.is_object for each in found.sessions] == [True, False]
    assert found.sessions[1].description.protocol == "UDP"
    # An area is told once.
    assert len(description.availability_info) == 1


def test_a_service_with_nothing_to_receive_says_what_it_is() -> None:
    announcement = announce(SERVICE, [], locate=locate)
    assert to_json(announcement.description) == {
        "name": ["News", "Nachrichten"], "serviceLanguage": ["en", "de"], "serviceId": "urn:example:news"
    }  # fmt: skip
    assert read(announcement).sessions == ()


def test_the_same_resources_make_the_same_document_and_a_change_makes_another() -> None:
    first, again = (announce(SERVICE, [session()], locate=locate).bundle() for _ in range(2))
    other = announce(SERVICE, [session(maxContBitRate="3 Mbps")], locate=locate).bundle()
    assert first == again
    assert first.etag == again.etag != other.etag


def test_several_services_come_in_one_piece() -> None:
    second = MbsUserService()
    second.CopyFrom(SERVICE)
    second.ext_service_ids[0] = "urn:example:sports"
    made = bundle((announce(SERVICE, [session("d1")], locate=locate), announce(second, [session("d2")], locate=locate)))
    found = parse(made.content_type, made.content).services()
    assert [each.service_id for each in found] == ["urn:example:news", "urn:example:sports"]
    assert [each.sessions[0].locator for each in found] == [locate("d1"), locate("d2")]


def test_session_descriptions_that_did_not_come_along_are_named_to_be_fetched() -> None:
    announcement = announce(SERVICE, [session()], locate=lambda name: f"session-descriptions/{name}")
    document = parse(
        "application/json", encode(to_json(announcement.description)), f"{BASE}user-service-descriptions/x"
    )
    assert document.missing(f"{BASE}x") == (locate("d1"),)
    with pytest.raises(AnnouncementInvalid, match="sessionDescriptionLocator: expected a session description there"):
        document.services(f"{BASE}x")
    text = announcement.session_descriptions[0][1]
    (found,) = document.services(f"{BASE}x", {locate("d1"): text})
    assert found.sessions[0].description.port == 5000


def test_an_override_moves_or_cancels_the_period_that_it_names() -> None:
    tree = json.loads(json.dumps(GOLDEN))
    del tree["distributionSessionDescription"]
    schedule = tree["scheduleDescription"][0]
    schedule["sessionSchedule"] = [
        {"start": f"2026-03-0{day}T12:00:00Z", "stop": f"2026-03-0{day}T13:00:00Z", "index": day} for day in (1, 2, 3)
    ]
    schedule["sessionScheduleOverride"] = [
        {"index": 1, "cancelled": True},
        {"index": 2, "cancelled": False, "stop": "2026-03-02T12:30:00Z"},
    ]
    (found,) = parse("application/json", encode(tree)).services()
    begin = START + timedelta(days=1)
    assert found.periods == ((begin, begin + HOUR / 2), (begin + timedelta(days=1), begin + timedelta(days=1) + HOUR))
    # The message says what was said.
    assert len(found.description.schedule_description[0].session_schedule) == 3


CONTENT = announce(SERVICE, [session()], locate=locate).bundle()


@pytest.mark.parametrize(
    ("content_type", "content", "why"),
    [
        ("text/html", b"", "content-type: expected application/json"),
        ("application/json", b"{", "announcement: body: no JSON: "),
        ("application/json", b"7", "announcement: expected an object, found the number 7"),
        ("application/json", b"[{}]", r"announcement\[0\]: serviceId: expected, found nothing"),
        ("application/json", b'{"serviceId": 7}', "announcement: serviceId: expected a string, found the number 7"),
        ("multipart/related", CONTENT.content, "content-type: expected a boundary, found ''"),
        ("multipart/related; boundary=x", CONTENT.content, "announcement: expected parts between boundaries 'x'"),
        (CONTENT.content_type, CONTENT.content[:-8], "announcement: expected the end --mbs-"),
        (CONTENT.content_type, b"--%b--" % CONTENT.content_type.split("=")[1].split(";")[0].encode(),
         "announcement: expected a part with descriptions, found none"),
        (CONTENT.content_type, CONTENT.content.replace(DESCRIPTIONS_TYPE.encode(), b"text/html"),
         "part 0, content-type: expected application/json or "),
        (CONTENT.content_type, CONTENT.content.replace(b"Content-Location", b"Location"),
         "part 1, content-location: expected a URL, found nothing"),
        (CONTENT.content_type, CONTENT.content.replace(b"s=News", b"s=\xff"), "part 1: expected UTF-8, found byte 0x"),
        (CONTENT.content_type, CONTENT.content.replace(b"Content-Type: ", b"junk\r\n\r\n", 1), "part 0, content-type"),
        (CONTENT.content_type, CONTENT.content.replace(b"\r\nContent-Type: ", b" x Content-Type: ", 1),
         "part 0: expected header fields, an empty line and content"),
        (CONTENT.content_type, CONTENT.content.replace(b"FLUTE/UDP", b"RTP/AVP"),
         "session description http://mbsf.test/.*/session-descriptions/d1: expected FLUTE/UDP, found RTP/AVP"),
        (CONTENT.content_type, CONTENT.content.replace(b'"stop":"2026-03-01T13', b'"stop":"2026-03-01T11'),
         "service 'urn:example:news', stop: expected a time after"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_announcement_is_named(content_type: str, content: bytes, why: str) -> None:
    with pytest.raises(AnnouncementInvalid, match=why):
        parse(content_type, content).services()


names = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
uris = st.from_regex(r"urn:[a-z]{2,8}:[A-Za-z0-9:._-]{1,20}", fullmatch=True)
moments = st.integers(0, 4_000_000_000).map(lambda each: datetime.fromtimestamp(each, UTC))


@given(
    st.lists(uris, min_size=1, max_size=3),
    st.lists(st.tuples(names, st.sampled_from(("en", "de", "fr"))), min_size=1, max_size=4),
    st.lists(st.tuples(moments, st.integers(1, 10**6)), max_size=4),
    st.lists(st.tuples(st.integers(1, 65535), st.booleans(), st.booleans()), max_size=4),
)
def test_whatever_is_announced_is_read_again(
    ids: list[str],
    named: list[tuple[str, str]],
    times: list[tuple[datetime, int]],
    flows: list[tuple[int, bool, bool]],
) -> None:
    service = MbsUserService(ext_service_ids=ids, serv_class=ids[0], main_serv_lang="de")
    for text, language in named:
        service.serv_name_descs.add(serv_name=text, language=language)
    periods = tuple((begin, begin + timedelta(seconds=length)) for begin, length in times)
    sessions = []
    for number, (port, is_object, has_repair) in enumerate(flows):
        method = distribution.DISTRIBUTION_METHOD_OBJECT if is_object else distribution.DISTRIBUTION_METHOD_PACKET
        info = ingest.MbsDistributionSessionInfo(
            mbs_dist_session_id=f"d{number}", distr_method=method, max_cont_bit_rate_bps=1000
        )
        if has_repair:
            info.obj_distr_info.obj_repair_uri = f"http://repair.test/{number}/"
        flow = MbsFlow(source="2001:db8::1", group="ff3e::1", port=port, tsi=number if is_object else None)
        sessions.append(Announced(info, flow, periods, number))
    found = read(announce(service, sessions, locate=locate))
    assert found.service_id == ids[0]
    assert sorted(found.names) == sorted(each for each in named if each[0])
    languages = [language for _, language in found.names]
    assert languages == sorted(languages, key=lambda each: each != "de")
    assert found.periods == (tuple(sorted(set(periods))) if sessions else ())
    assert [(each.description.port, each.is_object, each.repair is not None) for each in found.sessions] == flows
    assert [each.description.tsi for each in found.sessions] == [
        number if is_object else None for number, (_, is_object, _) in enumerate(flows)
    ]


@given(st.binary(max_size=300) | st.binary(max_size=100).map(lambda each: CONTENT.content[:200] + each))
def test_no_bytes_make_the_parser_fall_over(content: bytes) -> None:
    for content_type in ("application/json", CONTENT.content_type):
        with suppress(AnnouncementInvalid):
            assert isinstance(parse(content_type, content), Document)


@pytest.mark.skipif(
    not os.environ.get("OFFICIAL_OPENAPI"), reason="OFFICIAL_OPENAPI names no directory with the files of 3GPP"
)
@pytest.mark.filterwarnings("default::DeprecationWarning")
@pytest.mark.clause("TS 26.517 §5.2")
def test_an_announcement_is_as_the_official_file_says() -> None:
    from official_schemas import OfficialSchemas

    official = OfficialSchemas(Path(os.environ["OFFICIAL_OPENAPI"]))
    file, pointer = "TS26517_MBSUserServiceAnnouncement.yaml", "/components/schemas/UserServiceDescription"
    for sessions in ([], [session()], [session("d1"), session("d2")]):
        made = to_json(announce(SERVICE, sessions, locate=locate).description)
        assert official.errors(file, pointer, made) == []
    assert official.errors(file, pointer, {**GOLDEN, "scheduleDescription": [{}]}) != []
