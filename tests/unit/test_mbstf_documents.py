"""What the MBSTF reads and how it calls objects: object manifests, HLS playlists, live MPDs, names, code points."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from nf.common.clock import ManualClock
from nf.common.dash.parsing import parse
from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.mbstf.dscp import dscp_of
from nf.mbstf.hls_playlist import PlaylistRefused, is_playlist, read_playlist
from nf.mbstf.live_segments import Positions, due_segments
from nf.mbstf.naming import Names
from nf.mbstf.object_manifest import ManifestObject, ManifestRefused, is_manifest, read_manifest
from nf.mbstf.timers import Timers
from nf.mbstf.v1.dist_session_pb2 import DistSession, ObjDistributionData

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.clause("TS 26.517 §6")
def test_a_manifest_says_how_often_it_and_its_objects_are_looked_at_and_repeated() -> None:
    document = {
        "updateInterval": 30,
        "objects": [
            {"locator": "http://o.example/a", "repetitionInterval": 1500, "keepUpdatedInterval": 10, "more": 1},
            {
                "locator": "https://o.example/b",
                "earliestFetchTime": "2026-03-01T13:00:00+01:00",
                "latestFetchTime": "2026-03-01T12:10:00.5Z",
            },
        ],
    }
    manifest = read_manifest(json.dumps(document).encode(), "m")
    assert manifest.update_interval == timedelta(seconds=30)
    assert manifest.objects == (
        ManifestObject("http://o.example/a", timedelta(milliseconds=1500), timedelta(seconds=10)),
        ManifestObject(
            "https://o.example/b",
            earliest_fetch_time=NOON,
            latest_fetch_time=NOON + timedelta(minutes=10, milliseconds=500),
        ),
    )


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (b"{", r"m: expected an object manifest in JSON"),
        (b"[]", r"m: objects: expected a list, found list"),
        (b'{"objects": [1]}', r"m: objects\[0\]: expected an object, found int"),
        (b'{"objects": [{"locator": "a"}]}', r"m: objects\[0\].locator: expected an absolute .* URL, found 'a'"),
        (b'{"objects": [], "updateInterval": 0}', r"m.updateInterval: expected a whole number from 1 on, found 0"),
        (
            b'{"objects": [{"locator": "http://a/b", "earliestFetchTime": "noon"}]}',
            r"objects\[0\].earliestFetchTime: expected a date and time",
        ),
        (b'{"objects": [{"locator": "http://a/b"}, {"locator": "http://a/b"}]}', "expected each locator once"),
    ],
)
def test_a_manifest_that_is_none_is_refused_with_what_is_wrong(document: bytes, told: str) -> None:
    with pytest.raises(ManifestRefused, match=told):
        read_manifest(document, "m")


def test_a_manifest_is_told_from_an_object_by_its_type_or_its_form() -> None:
    form = b'{"objects": [{"locator": "x"}]}'
    assert is_manifest("application/3gpp-mbs-object-manifest+json; charset=utf-8", b"")
    assert is_manifest("application/json", form)
    assert not is_manifest("text/plain", form)
    assert not is_manifest("application/json", b'{"objects": 1}')


def test_a_playlist_names_variants_or_segments_with_their_numbers() -> None:
    main = read_playlist(
        b'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",URI="audio/p.m3u8"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n'
        b"video/p.m3u8\n",
        "http://h.example/x/main.m3u8",
    )
    assert main.playlists == ("http://h.example/x/audio/p.m3u8", "http://h.example/x/video/p.m3u8")
    media = read_playlist(
        b'#EXTM3U\r\n#EXT-X-TARGETDURATION:4\r\n#EXT-X-MEDIA-SEQUENCE:17\r\n#EXT-X-MAP:URI="i.mp4"\r\n'
        b"#EXTINF:3.5,title\r\na.m4s\r\n#EXTINF:4,\r\n/b.m4s?x=1\r\n#EXT-X-ENDLIST\r\n",
        "http://h.example/x/p.m3u8",
    )
    assert [(each.number, each.url, each.duration_s) for each in media.segments] == [
        (17, "http://h.example/x/a.m4s", 3.5),
        (18, "http://h.example/b.m4s?x=1", 4.0),
    ]
    assert media.initializations == ("http://h.example/x/i.mp4",)
    assert (media.target_duration_s, media.ended) == (4.0, True)
    assert is_playlist(b"\xef\xbb\xbf#EXTM3U\n")
    with pytest.raises(PlaylistRefused, match=r"p:2: EXT-X-TARGETDURATION: expected a number, found 'soon'"):
        read_playlist(b"#EXTM3U\n#EXT-X-TARGETDURATION:soon\n", "p")
    with pytest.raises(PlaylistRefused, match="expected #EXTM3U in the first line, found '<MPD>'"):
        read_playlist(b"<MPD>", "p")


MPD = b"""<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" profiles="urn:mpeg:dash:profile:isoff-live:2011"
 availabilityStartTime="2026-03-01T12:00:00Z" minimumUpdatePeriod="PT5S" minBufferTime="PT1S">
 <Period id="1" start="PT0S"><AdaptationSet contentType="video" mimeType="video/mp4">
 <SegmentTemplate media="$RepresentationID$-$Number$" initialization="$RepresentationID$-i" duration="2"/>
 <Representation id="a" bandwidth="1"/><Representation id="b" bandwidth="2"/></AdaptationSet></Period></MPD>"""


def test_segments_of_a_live_presentation_are_due_as_they_appear_each_once() -> None:
    presentation, positions = parse(MPD, "http://d.example/m.mpd"), Positions()

    def due(after_s: float) -> tuple[list[str], datetime | None]:
        found = due_segments(presentation, positions, NOON + timedelta(seconds=after_s))
        return [each.urls[0].removeprefix("http://d.example/") for each in found.media], found.upcoming

    assert due(1) == ([], NOON + timedelta(seconds=2))
    assert due(2) == (["a-1", "b-1"], NOON + timedelta(seconds=4))
    assert due(3) == ([], NOON + timedelta(seconds=4))
    assert due(8.5) == (["a-2", "b-2", "a-3", "b-3", "a-4", "b-4"], NOON + timedelta(seconds=10))
    # Who comes later begins two segments before the live edge.
    late = due_segments(presentation, Positions(), NOON + timedelta(seconds=101))
    assert [each.number for each in late.media] == [49, 49, 50, 50]
    assert late.initializations == ("http://d.example/a-i", "http://d.example/b-i")


def test_objects_keep_their_path_below_another_base() -> None:
    data = ObjDistributionData(
        obj_acquisition_method=shared.OBJ_ACQUISITION_METHOD_PULL,
        obj_acquisition_ids_pull=["v/1.m4s"],
        obj_ingest_base_url="http://origin.example/in/",
        obj_distribution_base_url="http://media.example/out/",
    )
    names = Names(DistSession(dist_session_id="s", obj_distribution_data=data), "http://mbstf.example")
    assert names.absolute("v/1.m4s") == "http://origin.example/in/v/1.m4s"
    assert names.location("http://origin.example/in/v/1%20a") == "http://media.example/out/v/1%20a"
    assert names.repair_path("http://media.example/out/v/1%20a") == "v/1 a"
    assert names.location("http://elsewhere.example/x") == "http://elsewhere.example/x"
    assert names.repair_path("http://elsewhere.example/x") == "http://elsewhere.example/x"
    assert names.repair_base == "http://mbstf.example/mbs-as/s/"
    data.ClearField("obj_distribution_base_url")
    data.ClearField("obj_ingest_base_url")
    data.obj_acquisition_ids_pull[0] = "http://origin.example/deep/er/1.m4s"
    names = Names(DistSession(dist_session_id="s", obj_distribution_data=data), "")
    assert names.distribution_base == "http://origin.example/deep/er/"


@pytest.mark.parametrize(
    ("text", "found"), [("", 0), ("0", 0), ("46", 46), ("ef", 46), ("AF41", 34), ("AF13", 14), ("CS5", 40), ("LE", 1)]
)
def test_code_points_have_numbers_and_names(text: str, found: int) -> None:
    assert dscp_of(text) == found


@pytest.mark.parametrize("text", ["64", "-1", "AF44", "CS8", "46 "])
def test_other_code_points_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"expected 0 to 63, or a name such as 'AF41', 'EF' or 'CS5', found '{text}'"):
        dscp_of(text)


async def test_calls_come_at_their_moments_in_their_order_and_not_when_cancelled() -> None:
    clock = ManualClock(NOON)
    timers, came = Timers(clock), []
    timers.start()
    timers.at(NOON + timedelta(seconds=3), lambda: came.append(3))
    cancelled = timers.at(NOON + timedelta(seconds=2), lambda: came.append(2))
    timers.at(NOON + timedelta(seconds=1), lambda: came.append(1))
    cancelled.cancel()
    await clock.until_asleep()
    last = asyncio.Event()
    timers.at(NOON + timedelta(seconds=4), last.set)
    clock.advance(timedelta(seconds=10))
    await last.wait()
    assert came == [1, 3]
    await timers.stop()
