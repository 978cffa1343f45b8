"""Nmb2 and Nmb9 of the object method: from a provider's web server to files put together from the tunnel's packets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from dash_server import DashServer, answer
from mbstf_stack import (
    ACTIVE,
    DEACTIVATING,
    ESTABLISHED,
    INACTIVE,
    Files,
    Inner,
    Mbstf,
    Tunnel,
    object_session,
    running,
    tunnel,
)

from nf.common.clock import ManualClock
from nf.common.errors import (
    DeadlineExceeded,
    EtagMismatch,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.mbstf.v1 import dist_session_pb2 as nmb2

SINGLE = shared.OBJ_DISTRIBUTION_OPERATING_MODE_SINGLE
COLLECTION = shared.OBJ_DISTRIBUTION_OPERATING_MODE_COLLECTION
CAROUSEL = shared.OBJ_DISTRIBUTION_OPERATING_MODE_CAROUSEL
STREAMING = shared.OBJ_DISTRIBUTION_OPERATING_MODE_STREAMING
PULL, PUSH = shared.OBJ_ACQUISITION_METHOD_PULL, shared.OBJ_ACQUISITION_METHOD_PUSH


def pulled(mode: int, base: str, *ids: str, **more: object) -> dict[str, object]:
    return {
        "obj_distribution_operating_mode": mode,
        "obj_acquisition_method": PULL,
        "obj_ingest_base_url": base,
        "obj_acquisition_ids_pull": ids,
        **more,
    }


@pytest.mark.clause("TS 26.502 §4.6.1 step 2b", "TS 26.502 §4.6.1 step 3", "TS 29.581 §5.2.2.4")
async def test_a_single_object_is_fetched_when_established_and_sent_when_active(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40
    async with DashServer({"/a/clip.mp4": content}) as origin, tunnel() as nmb9, running(tmp_path) as mbstf:
        data = pulled(SINGLE, f"{origin.url}/a", "clip.mp4", obj_distribution_base_url="http://example.com/a/")
        created = await mbstf.create(object_session("s", nmb9.address, **data))
        assert (created.dist_session_state, origin.paths) == (INACTIVE, [])
        assert (await mbstf.go("s", ESTABLISHED)).dist_session_state == ESTABLISHED
        assert origin.paths == ["/a/clip.mp4"]
        assert nmb9.received == []
        await mbstf.go("s", ACTIVE)
        files = Files(tmp_path / "received", created.flute_tsi)
        received = await nmb9.until(lambda packets: files.take(packets) == {"a/clip.mp4": content})
        assert {(each.source, each.group, each.port) for each in received} == {("127.0.0.1", "232.1.2.3", 5000)}
        await mbstf.go("s", INACTIVE)
        events = await mbstf.events()
        assert [(each.type, each.path) for each in events] == [
            ("DATA_INGEST_SESSION_ESTABLISHED", "Nmb8"),
            ("SESSION_ACTIVATED", ""),
            ("SESSION_DEACTIVATED", ""),
            ("DATA_INGEST_SESSION_TERMINATED", "Nmb8"),
        ]


@pytest.fixture
async def nmb9() -> AsyncIterator[Tunnel]:
    async with tunnel() as end:
        yield end


@pytest.fixture
async def mbstf(tmp_path: Path) -> AsyncIterator[Mbstf]:
    async with running(tmp_path, carried_interval_s=0.1, fetch_attempts=1) as running_mbstf:
        yield running_mbstf


def files_of(tmp_path: Path, session: nmb2.DistSession) -> Files:
    return Files(tmp_path / "received", session.flute_tsi)


async def test_a_collection_is_every_object_of_its_list_and_its_manifest_an_empty_one_too(
    tmp_path: Path, mbstf: Mbstf, nmb9: Tunnel
) -> None:
    contents = {f"{number}.m4s": bytes([number]) * 3000 * number for number in range(6)}
    async with DashServer({f"/v/{name}": content for name, content in contents.items()}) as origin:
        listed = {"objects": [{"locator": f"{origin.url}/v/{name}"} for name in ("3.m4s", "4.m4s", "5.m4s")]}
        origin.resources["/v/manifest"] = lambda _: answer(
            json.dumps(listed).encode(), "200 OK", "Content-Type: application/3gpp-mbs-object-manifest+json"
        )
        ids = ("0.m4s", "1.m4s", f"{origin.url}/v/2.m4s", "manifest")
        base = "http://media.example/"
        data = pulled(COLLECTION, f"{origin.url}/v/", *ids, obj_distribution_base_url=base)
        session = await mbstf.create(object_session("s", nmb9.address, **data))
        await mbstf.go("s", ACTIVE)
        files = files_of(tmp_path, session)
        await nmb9.until(lambda packets: files.take(packets) == contents)
        assert (await mbstf.get("s")).progress.objects == 6
        assert (await mbstf.get("s")).progress.objects_bytes == sum(map(len, contents.values()))


async def test_a_carousel_repeats_its_objects_and_sends_what_has_changed_at_the_origin(
    tmp_path: Path, mbstf: Mbstf, nmb9: Tunnel
) -> None:
    async with DashServer({"/a": b"old" * 500, "/b": b"same" * 500}) as origin:
        listed = [
            {"locator": f"{origin.url}/a", "repetitionInterval": 100, "keepUpdatedInterval": 1},
            {"locator": f"{origin.url}/b", "repetitionInterval": 200},
        ]
        origin.resources["/m"] = lambda _: answer(
            json.dumps({"objects": listed}).encode(), "200 OK", "Content-Type: application/json"
        )
        session = await mbstf.create(object_session("s", nmb9.address, **pulled(CAROUSEL, f"{origin.url}/", "m")))
        await mbstf.go("s", ACTIVE)
        files = files_of(tmp_path, session)
        await nmb9.until(lambda packets: files.take(packets) == {"a": b"old" * 500, "b": b"same" * 500})
        origin.resources["/a"] = b"new" * 700
        await nmb9.until(lambda packets: files.take(packets).get("a") == b"new" * 700)
        # An origin that is asked whether it has changed is told what is known of it.
        asked = [each.headers.get("if-none-match") for each in origin.asked if each.path == "/a"]
        assert asked[0] is None
        assert all(asked[1:])
        assert (await mbstf.get("s")).progress.objects_sent > 4


async def test_a_live_presentation_is_followed_and_its_segments_are_sent_in_their_order(
    tmp_path: Path, mbstf: Mbstf, nmb9: Tunnel
) -> None:
    began = datetime.now(UTC) - timedelta(seconds=10)
    mpd = f"""<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" profiles="urn:mpeg:dash:profile:isoff-live:2011"
      availabilityStartTime="{began:%Y-%m-%dT%H:%M:%SZ}" minimumUpdatePeriod="PT1S" minBufferTime="PT1S">
      <Period id="1" start="PT0S"><AdaptationSet contentType="video" mimeType="video/mp4">
      <SegmentTemplate media="$RepresentationID$/$Number$.m4s" initialization="$RepresentationID$/init.mp4"
       timescale="4" duration="1" startNumber="1"/>
      <Representation id="v" bandwidth="100000"/></AdaptationSet></Period></MPD>"""
    async with DashServer({"/live/m.mpd": mpd.encode(), "/live/v/init.mp4": b"init"}) as origin:
        origin.resources |= {f"/live/v/{number}.m4s": b"%d" % number * 1000 for number in range(1, 200)}
        base = "http://tv.example/"
        data = pulled(STREAMING, f"{origin.url}/live/", "m.mpd", obj_distribution_base_url=base)
        session = await mbstf.create(object_session("s", nmb9.address, **data))
        await mbstf.go("s", ACTIVE)
        files = files_of(tmp_path, session)
        received: dict[str, bytes] = {}

        def enough(packets: list[Inner]) -> bool:
            received.update(files.take(packets))
            return len([each for each in received if each.endswith(".m4s") and received[each]]) >= 6

        await nmb9.until(enough)
    segments = [int(path.rpartition("/")[2][:-4]) for path in origin.paths if path.endswith(".m4s")]
    # From two segments behind the live edge on, each once.
    assert segments == list(range(segments[0], segments[0] + len(segments)))
    assert segments[0] >= 38
    assert received["m.mpd"] == mpd.encode()
    assert received["v/init.mp4"] == b"init"
    for number in segments[:5]:
        assert received[f"v/{number}.m4s"] == b"%d" % number * 1000


async def test_an_hls_playlist_is_followed_until_its_end(tmp_path: Path, mbstf: Mbstf, nmb9: Tunnel) -> None:
    names = ["first.ts", "second.ts", "third.ts"]

    def playlist(upto: int, end: str = "") -> bytes:
        lines = [f"#EXTINF:1.0,\n{name}" for name in names[:upto]]
        return "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXT-X-MEDIA-SEQUENCE:7", *lines, end]).encode()

    main = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow/p.m3u8\n"
    async with DashServer({"/h/main.m3u8": main, "/h/low/p.m3u8": playlist(2)}) as origin:
        origin.resources |= {f"/h/low/{name}": name.encode() * 100 for name in names}
        data = pulled(STREAMING, f"{origin.url}/h/", "main.m3u8", obj_distribution_base_url="http://tv.example/")
        session = await mbstf.create(object_session("s", nmb9.address, **data))
        await mbstf.go("s", ACTIVE)
        files = files_of(tmp_path, session)
        await nmb9.until(lambda packets: {"low/first.ts", "low/second.ts"} <= files.take(packets).keys())
        origin.resources["/h/low/p.m3u8"] = playlist(3, "#EXT-X-ENDLIST")
        await nmb9.until(lambda packets: files.take(packets).get("low/third.ts") == b"third.ts" * 100)
        assert [path for path in origin.paths if path.endswith(".ts")] == [f"/h/low/{name}" for name in names]
        await nmb9.until(lambda packets: files.take(packets).get("low/p.m3u8") == playlist(3, "#EXT-X-ENDLIST"))


@pytest.mark.clause("TS 26.502 §4.6.1 step 2b", "TS 29.581 §6.1.6.2.6")
async def test_what_is_pushed_establishes_the_session_and_survives_a_restart(tmp_path: Path, nmb9: Tunnel) -> None:
    pushed = {"obj_distribution_operating_mode": CAROUSEL, "obj_acquisition_method": PUSH}
    async with running(tmp_path) as mbstf, httpx.AsyncClient(verify=False) as provider:
        session = await mbstf.create(object_session("s", nmb9.address, **pushed))
        url = session.obj_distribution_data.obj_ingest_base_url
        assert url == f"{mbstf.http_url}/mbs-ingest/s/"
        # Too soon: nothing is taken in before the session is being established.
        refused = await provider.put(f"{url}a.txt", content=b"a")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        establishing = asyncio.create_task(mbstf.go("s", ESTABLISHED))
        async with asyncio.timeout(10):
            answered = await provider.put(f"{url}d/a.txt", content=b"first" * 400)
            while answered.status_code == 503:
                answered = await provider.put(f"{url}d/a.txt", content=b"first" * 400)
        assert answered.status_code == 201
        assert (await establishing).dist_session_state == ESTABLISHED
        assert (await provider.post(f"{url}b.txt", content=b"b")).status_code == 201
        assert (await provider.put(f"{url}d/a.txt", content=b"second" * 400)).status_code == 204
        assert (await provider.put(f"{url}gone", content=b"g")).status_code == 201
        assert (await provider.delete(f"{url}gone")).status_code == 204
        assert (await provider.delete(f"{url}gone")).status_code == 404
        await mbstf.go("s", ACTIVE)
        await mbstf.stop()
        packets = len(nmb9.received)
        await mbstf.start()
        files = files_of(tmp_path, session)
        name = "mbs-ingest/s/"
        wanted = {f"{name}d/a.txt": b"second" * 400, f"{name}b.txt": b"b"}
        await nmb9.until(lambda received: files.take(received[packets:]) == wanted)
        assert (await mbstf.get("s")).dist_session_state == ACTIVE


@pytest.mark.clause("TS 26.502 §4.6.1 step 2b")
async def test_a_session_whose_object_is_not_to_be_had_stays_as_it_was(mbstf: Mbstf, nmb9: Tunnel) -> None:
    async with DashServer() as origin:
        await mbstf.create(object_session("s", nmb9.address, **pulled(SINGLE, f"{origin.url}/", "missing")))
        before = await mbstf.get("s")
        with pytest.raises(FailedPrecondition, match=r"/missing: expected 200, found 404") as raised:
            await mbstf.update("s", dist_session_state=ACTIVE, mbr_bps=5_000_000)
        assert raised.value.reason == "SERVICE_MANAGEMENT_FAILURE"
        assert await mbstf.get("s") == before
        (event,) = await mbstf.events()
        report = nmb2.DistSessionEventReport()
        event.payload.Unpack(report)
        assert (event.type, report.dist_session_state) == ("SERVICE_MANAGEMENT_FAILURE", INACTIVE)
        assert report.problem.detail == f"{origin.url}/missing: expected 200, found 404 Not Found"
        # A session that should be created in a state that it cannot reach is not created.
        wanted = object_session("t", nmb9.address, **pulled(SINGLE, f"{origin.url}/", "missing"))
        wanted.dist_session_state = ESTABLISHED
        with pytest.raises(FailedPrecondition, match="found 404"):
            await mbstf.create(wanted)
        with pytest.raises(NotFound):
            await mbstf.get("t")


async def test_establishing_that_takes_too_long_is_given_up_and_inactive_ends_it_sooner(
    mbstf: Mbstf, nmb9: Tunnel
) -> None:
    pushed = {"obj_distribution_operating_mode": SINGLE, "obj_acquisition_method": PUSH}
    wanted = object_session("s", nmb9.address, **pushed)
    wanted.establish_timeout_ms = 50
    await mbstf.create(wanted)
    with pytest.raises(DeadlineExceeded, match=r"nothing was ingested within 0.05 s"):
        await mbstf.go("s", ESTABLISHED)
    await mbstf.update("s", establish_timeout_ms=60_000)
    establishing = asyncio.create_task(mbstf.go("s", ESTABLISHED))
    async with httpx.AsyncClient(verify=False) as provider, asyncio.timeout(10):
        # It is under way as soon as what belongs to another path is refused for that reason.
        answered = await provider.delete(f"{mbstf.http_url}/mbs-ingest/s/x")
        while answered.status_code == 503:
            answered = await provider.delete(f"{mbstf.http_url}/mbs-ingest/s/x")
    assert (await mbstf.go("s", INACTIVE)).dist_session_state == INACTIVE
    with pytest.raises(FailedPrecondition, match="wanted INACTIVE"):
        await establishing


@pytest.mark.clause("TS 29.581 §5.2.2.4")
async def test_forbidden_changes_are_refused_with_what_was_found(mbstf: Mbstf, nmb9: Tunnel) -> None:
    async with DashServer({"/o": b"o"}) as origin:
        await mbstf.create(object_session("s", None, **pulled(SINGLE, f"{origin.url}/", "o")))
        with pytest.raises(FailedPrecondition, match="DEACTIVATING is not reached from INACTIVE"):
            await mbstf.go("s", DEACTIVATING)
        with pytest.raises(FailedPrecondition, match="expected mb_upf_tun_addr before it is ACTIVE"):
            await mbstf.go("s", ACTIVE)
        await mbstf.update("s", dist_session_state=ESTABLISHED, mb_upf_tun_addr=nmb9.address)
        with pytest.raises(InvalidArgument, match="dscp_marking: changed in INACTIVE only, the session is ESTABLISHED"):
            await mbstf.update("s", dscp_marking="EF")
        await mbstf.go("s", ACTIVE)
        with pytest.raises(
            FailedPrecondition, match=r"ESTABLISHED is not reached from ACTIVE \(possible: DEACTIVATING"
        ):
            await mbstf.go("s", ESTABLISHED)
        await mbstf.go("s", DEACTIVATING)
        with pytest.raises(FailedPrecondition, match=r"ACTIVE is not reached from DEACTIVATING \(possible: INACTIVE"):
            await mbstf.go("s", ACTIVE)
        await mbstf.go("s", INACTIVE)
        stale = nmb2.DistSession(dist_session_id="s", etag="stale", mbr_bps=1_000_000)
        with pytest.raises(EtagMismatch, match="has changed"):
            await mbstf.nmb2.UpdateDistSession(nmb2.UpdateDistSessionRequest(dist_session=stale))


async def test_a_changed_tunnel_is_taken_up_while_active(mbstf: Mbstf, nmb9: Tunnel) -> None:
    async with DashServer({"/o": b"o" * 20_000}) as origin, tunnel() as other:
        data = pulled(CAROUSEL, f"{origin.url}/", "o", repetition_interval_ms=100)
        await mbstf.create(object_session("s", nmb9.address, **data))
        await mbstf.go("s", ACTIVE)
        await nmb9.until(lambda packets: len(packets) > 20)
        await mbstf.update("s", mb_upf_tun_addr=other.address)
        await other.until(lambda packets: len(packets) > 20)
        assert [each.type for each in await mbstf.events()] == ["DATA_INGEST_SESSION_ESTABLISHED", "SESSION_ACTIVATED"]


async def test_receivers_repair_at_the_mbstf_whole_or_in_part(mbstf: Mbstf, nmb9: Tunnel) -> None:
    async with DashServer({"/a/o.bin": bytes(range(200))}) as origin, httpx.AsyncClient(verify=False) as client:
        data = pulled(SINGLE, f"{origin.url}/a/", "o.bin", obj_distribution_base_url="http://media.example/x/")
        session = await mbstf.create(object_session("s", nmb9.address, **data))
        url = f"{session.obj_distribution_data.obj_repair_base_url}o.bin"
        assert (await client.get(url)).status_code == 404
        await mbstf.go("s", ESTABLISHED)
        whole = await client.get(url)
        assert (whole.status_code, whole.content) == (200, bytes(range(200)))
        assert whole.headers["content-location"] == "http://media.example/x/o.bin"
        for wanted, content, told in (
            ("bytes=10-19", bytes(range(10, 20)), "bytes 10-19/200"),
            ("bytes=190-", bytes(range(190, 200)), "bytes 190-199/200"),
            ("bytes=-5", bytes(range(195, 200)), "bytes 195-199/200"),
        ):
            part = await client.get(url, headers={"range": wanted})
            assert (part.status_code, part.content, part.headers["content-range"]) == (206, content, told)
        assert (await client.get(url, headers={"range": "bytes=200-"})).status_code == 416
        assert (await client.get(url, headers={"if-none-match": whole.headers["etag"]})).status_code == 304


async def test_objects_that_the_mbsf_gives_are_sent_again_and_again_beside_the_sessions_own(
    tmp_path: Path, mbstf: Mbstf, nmb9: Tunnel
) -> None:
    async with DashServer({"/o": b"own"}) as origin:
        session = await mbstf.create(object_session("s", nmb9.address, **pulled(SINGLE, f"{origin.url}/", "o")))
        given = nmb2.CarriedObject(location="http://mbsf.example/usd", content_type="application/json", content=b"{1}")
        await mbstf.update("s", dist_session_state=ACTIVE, carried_objects=[given])
        files = files_of(tmp_path, session)
        await nmb9.until(lambda packets: files.take(packets) == {"o": b"own", "usd": b"{1}"})
        given.content = b"{2}"
        await mbstf.update("s", carried_objects=[given])
        await nmb9.until(lambda packets: files.take(packets).get("usd") == b"{2}")


@pytest.mark.clause("TS 26.502 §4.6.1 step 4")
async def test_sending_that_ends_by_itself_is_told(mbstf: Mbstf, nmb9: Tunnel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> list[bytes]:
        raise MemoryError("no packets")

    async with DashServer({"/o": b"o"}) as origin:
        await mbstf.create(object_session("s", nmb9.address, **pulled(SINGLE, f"{origin.url}/", "o")))
        await mbstf.go("s", ESTABLISHED)
        monkeypatch.setattr("nf.mbstf.flute.FluteSession.batch_and_callbacks", fail)
        await mbstf.go("s", ACTIVE)
        events = await mbstf.events("SESSION_ACTIVATED", "SERVICE_MANAGEMENT_FAILURE")
        report = nmb2.DistSessionEventReport()
        events[-1].payload.Unpack(report)
        assert report.problem.detail == "sending has ended: MemoryError('no packets')"
        assert report.dist_session_state == ACTIVE


async def test_an_active_session_fetches_and_sends_again_after_a_restart(tmp_path: Path, nmb9: Tunnel) -> None:
    async with DashServer({"/o": b"o" * 3000}) as origin, running(tmp_path) as mbstf:
        session = await mbstf.create(object_session("s", nmb9.address, **pulled(SINGLE, f"{origin.url}/", "o")))
        await mbstf.create(object_session("idle", nmb9.address, **pulled(SINGLE, f"{origin.url}/", "o")))
        await mbstf.go("s", ACTIVE)
        files = files_of(tmp_path, session)
        await nmb9.until(lambda packets: files.take(packets) == {"o": b"o" * 3000})
        await mbstf.stop()
        packets, asked = len(nmb9.received), len(origin.asked)
        await mbstf.start()
        again = Files(tmp_path / "again", session.flute_tsi)
        await nmb9.until(lambda received: again.take(received[packets:]) == {"o": b"o" * 3000})
        assert origin.paths[asked:] == ["/o"]
        assert (await mbstf.get("idle")).dist_session_state == INACTIVE


async def test_an_object_that_is_too_large_is_neither_fetched_nor_taken(tmp_path: Path, nmb9: Tunnel) -> None:
    async with (
        DashServer({"/large": b"x" * 1001}) as origin,
        running(tmp_path, object_max_bytes=1000, session_max_bytes=1500, fetch_attempts=1) as mbstf,
        httpx.AsyncClient(verify=False) as provider,
    ):
        await mbstf.create(object_session("s", nmb9.address, **pulled(SINGLE, f"{origin.url}/", "large")))
        with pytest.raises(FailedPrecondition, match=r"/large: expected at most 1000 bytes .*found 1001"):
            await mbstf.go("s", ESTABLISHED)
        pushed = {"obj_distribution_operating_mode": COLLECTION, "obj_acquisition_method": PUSH}
        session = await mbstf.create(object_session("p", nmb9.address, **pushed))
        url = session.obj_distribution_data.obj_ingest_base_url
        establishing = asyncio.create_task(mbstf.go("p", ESTABLISHED))
        answered = await provider.put(f"{url}large", content=b"x" * 1001)
        while answered.status_code == 503:
            answered = await provider.put(f"{url}large", content=b"x" * 1001)
        assert (answered.status_code, answered.json()["title"]) == (413, "Object refused")
        assert (await provider.put(f"{url}a", content=b"a" * 1000)).status_code == 201
        await establishing
        refused = await provider.put(f"{url}b", content=b"b" * 501)
        assert (refused.status_code, (await mbstf.get("p")).progress.objects) == (413, 1)
        assert "the session holds 1000 of 1500" in refused.json()["detail"]
        assert (await provider.put(f"{url}a", content=b"c" * 900)).status_code == 204


@pytest.mark.clause("TS 26.502 §4.6.2")
async def test_an_origin_that_no_longer_gives_what_is_to_be_kept_updated_is_an_ingest_failure_until_it_does(
    tmp_path: Path, nmb9: Tunnel
) -> None:
    clock = ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
    async with DashServer({"/o": b"o"}) as origin, running(tmp_path, clock, fetch_attempts=1) as mbstf:
        data = pulled(CAROUSEL, f"{origin.url}/", "o", keep_updated_interval_s=1)
        await mbstf.create(object_session("s", nmb9.address, **data))
        await mbstf.go("s", ACTIVE)

        async def until(failed: bool) -> None:
            async with asyncio.timeout(20):
                while (await mbstf.get("s")).ingest_failed is not failed:
                    clock.advance(timedelta(seconds=1))

        origin.resources.clear()
        await until(failed=True)
        origin.resources["/o"] = b"o"
        await until(failed=False)
        events = await mbstf.events()
        assert [each.type for each in events] == [
            "DATA_INGEST_SESSION_ESTABLISHED",
            "SESSION_ACTIVATED",
            "DATA_INGEST_FAILURE",
            "DATA_INGEST_SESSION_ESTABLISHED",
        ]
        report = nmb2.DistSessionEventReport()
        events[2].payload.Unpack(report)
        assert report.problem.detail.endswith(f": {origin.url}/o: expected 200, found 404 Not Found")
