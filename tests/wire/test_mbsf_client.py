"""The MBSF client against a server of MBS-5 that answers as it is told (TS 26.517 §5.3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nf.client.mbs.announcement import DESCRIPTIONS_TYPE
from nf.client.mbs.errors import AnnouncementInvalid, AnnouncementWithdrawn
from nf.client.mbs.mbsf_client import MAX_BYTES, MbsfClient, mbs_5_root
from nf.common.clock import ManualClock
from nf.common.codec import to_json
from nf.common.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable
from nf.common.http import HttpServer, application
from nf.common.json_text import encode
from nf.common.telemetry import Telemetry
from nf.common.v1 import mbs_distribution_pb2 as distribution
from nf.mbsf.announcement import Announced, Announcement, announce, bundle
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1.announcement_pb2 import MbsFlow
from nf.mbsf.v1.user_service_pb2 import MbsUserService

START = datetime(2026, 5, 1, tzinfo=UTC)
# Slashes and all: it is one segment of the path.
NEWS = "https://provider.test/services/news?a=1"


def announcement(port: int = 5000, service_id: str = NEWS, base: str = "http://x") -> Announcement:
    info = ingest.MbsDistributionSessionInfo(
        mbs_dist_session_id="d1", distr_method=distribution.DISTRIBUTION_METHOD_OBJECT, max_cont_bit_rate_bps=1000
    )
    flow = MbsFlow(source="127.0.0.1", group="232.0.0.1", port=port, tsi=1)
    service = MbsUserService(ext_service_ids=[service_id], serv_class="urn:class")
    return announce(service, [Announced(info, flow)], locate=lambda name: f"{base}/sdp/{name}")


@dataclass
class Mbs5:
    """``answers`` are what the next requests for a description get, then the last of them, ``answer``.

    ``asked`` are path and If-None-Match of each request.
    """

    answer: Response = field(default_factory=lambda: Response(status_code=404))
    sdp: bytes = b""
    answers: list[Response] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def tells(self, told: Announcement, *, etag: str = "", max_age_s: int = 10) -> None:
        made = told.bundle()
        headers = {"cache-control": f"max-age={max_age_s}", "content-type": made.content_type}
        self.answer = Response(made.content, headers={**headers, "etag": f'"{etag or made.etag}"'})

    async def serve(self, request: Request) -> Response:
        self.asked.append((request.scope["raw_path"].decode(), request.headers.get("if-none-match", "")))
        if request.url.path.startswith("/sdp/"):
            return Response(self.sdp, media_type="application/sdp")
        if self.answers:
            self.answer = self.answers.pop(0)
        etag = self.answer.headers.get("etag")
        if etag is not None and request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"cache-control": "max-age=20", "etag": etag})
        return self.answer


@pytest.fixture
async def mbs5() -> AsyncIterator[Mbs5]:
    told = Mbs5()
    server = HttpServer(application(Telemetry(), lambda: True, [Route("/{path:path}", told.serve)]))
    told.url = await server.start("127.0.0.1:0")
    yield told
    await server.stop()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture(params=["HTTP/1.1", "h2c"])
async def client(request: pytest.FixtureRequest, mbs5: Mbs5, clock: ManualClock) -> AsyncIterator[MbsfClient]:
    made = MbsfClient(mbs5.url, http2=request.param == "h2c", clock=clock)
    yield made
    await made.close()


@pytest.mark.clause("TS 26.517 §5.3", "RFC 9111 §4")
async def test_an_announcement_is_kept_as_long_as_permitted_and_asked_for_by_its_entity_tag(
    mbs5: Mbs5, client: MbsfClient, clock: ManualClock
) -> None:
    mbs5.tells(announcement())
    found = await client.service(NEWS)
    assert (found.service_id, found.sessions[0].description.port) == (NEWS, 5000)
    path = "/3gpp-mbs5/v1/user-service-descriptions/https%3A%2F%2Fprovider.test%2Fservices%2Fnews%3Fa%3D1"
    assert mbs5.asked == [(path, "")]
    clock.advance(timedelta(seconds=9))
    assert await client.service(NEWS) is found
    assert len(mbs5.asked) == 1
    clock.advance(timedelta(seconds=1))
    # Not modified: what is kept is good again, as long as this answer says.
    assert await client.service(NEWS) is found
    assert mbs5.asked[1:] == [(path, mbs5.answer.headers["etag"])]
    clock.advance(timedelta(seconds=19))
    assert await client.service(NEWS) is found
    assert len(mbs5.asked) == 2
    mbs5.tells(announcement(port=5001))
    clock.advance(timedelta(seconds=1))
    assert (await client.service(NEWS)).sessions[0].description.port == 5001


async def test_what_is_announced_no_more_is_told_apart_from_what_never_was(mbs5: Mbs5, client: MbsfClient) -> None:
    with pytest.raises(NotFound) as raised:
        await client.service(NEWS)
    assert not isinstance(raised.value, AnnouncementWithdrawn)
    mbs5.tells(announcement())
    await client.service(NEWS)
    mbs5.answer = Response(status_code=410)
    with pytest.raises(AnnouncementWithdrawn, match="the service is announced no more"):
        await client.refresh(NEWS)
    # What is gone is not kept.
    with pytest.raises(AnnouncementWithdrawn):
        await client.service(NEWS)
    assert mbs5.asked[-1][1] == ""


async def test_session_descriptions_that_do_not_come_along_are_fetched(mbs5: Mbs5, client: MbsfClient) -> None:
    told = announcement(base=mbs5.url)
    mbs5.sdp = told.session_descriptions[0][1].encode()
    mbs5.answer = Response(encode(to_json(told.description)), media_type="application/json")
    assert (await client.service(NEWS)).sessions[0].description.port == 5000
    assert [path for path, _ in mbs5.asked][1:] == ["/sdp/d1"]
    mbs5.sdp = b"v=0\r\n"
    with pytest.raises(AnnouncementInvalid, match="session description, line 1: expected a line m="):
        await client.refresh(NEWS)
    mbs5.sdp = b"\xff"
    with pytest.raises(AnnouncementInvalid, match="/sdp/d1: expected UTF-8"):
        await client.refresh(NEWS)


async def test_services_of_a_class_are_found_together(mbs5: Mbs5, client: MbsfClient) -> None:
    made = bundle((announcement(), announcement(5002, "urn:sports")))
    mbs5.answer = Response(made.content, headers={"content-type": made.content_type})
    found = await client.discover("urn:a b")
    assert [each.service_id for each in found] == [NEWS, "urn:sports"]
    mbs5.answer = Response(status_code=204)
    assert await client.discover("urn:none") == ()


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (Response(b"[]", media_type="application/json"), AnnouncementInvalid, "expected the service .*, found none"),
        (Response(b"{", media_type=DESCRIPTIONS_TYPE), AnnouncementInvalid, "no JSON"),
        (Response(b"x" * (MAX_BYTES + 1), media_type="application/json"), AnnouncementInvalid, f"at most {MAX_BYTES}"),
        (Response(status_code=304), AnnouncementInvalid, "found 304 to an unconditional request"),
        (Response(status_code=403), PermissionDenied, "403"),
        (Response(status_code=503), Unavailable, "503"),
    ],
)
async def test_an_answer_that_is_of_no_use_is_an_error_that_says_why(
    mbs5: Mbs5, answer: Response, error: type[Exception], told: str
) -> None:
    mbs5.answer = answer
    client = MbsfClient(mbs5.url)
    with pytest.raises(error, match=told):
        await client.service(NEWS)
    await client.close()


async def test_news_come_when_there_are_any(mbs5: Mbs5, clock: ManualClock) -> None:
    client = MbsfClient(mbs5.url, clock=clock)
    news = client.watch(NEWS)

    async def following(looks: int = 1) -> tuple[int, float]:
        """The port of the next news, 0 for a withdrawal, and how long it took: so many pauses were slept through."""
        begun = clock.now()
        task = asyncio.ensure_future(anext(news))
        for _ in range(looks - 1):
            await clock.until_asleep()
            assert not task.done()
            clock.advance(timedelta(seconds=20))
        service = (await task).service
        return service.sessions[0].description.port if service else 0, (clock.now() - begun).total_seconds()

    mbs5.tells(announcement())
    assert await following() == (5000, 0)
    mbs5.tells(announcement(5001))
    assert await following(looks=2) == (5001, 20)
    mbs5.answer = Response(status_code=410)
    assert await following(looks=2) == (0, 20)
    mbs5.tells(announcement(5002))
    assert await following(looks=2) == (5002, 20)
    # Nobody there, nonsense, the same under another entity tag, and not modified: that is no news.
    told = mbs5.answer
    nothing = [Response(status_code=503), Response(b"{", media_type=DESCRIPTIONS_TYPE)]
    again = Response(told.body, headers={**dict(told.headers), "etag": '"other"'})
    mbs5.answers = [*nothing, again, again, Response(status_code=404)]
    assert await following(looks=6) == (0, 100)
    await news.aclose()
    await client.close()


def test_a_root_is_taken_as_it_is_or_completed() -> None:
    assert mbs_5_root("http://a:1") == "http://a:1/3gpp-mbs5/v1"
    assert mbs_5_root("https://a/mbs/v2/") == "https://a/mbs/v2"
    for url in ("a:1", "ftp://a", "http://"):
        with pytest.raises(InvalidArgument, match="MBS-5 address: expected an absolute http or https URL"):
            mbs_5_root(url)


async def test_nobody_answering_is_told() -> None:
    client = MbsfClient("http://127.0.0.1:9")
    with pytest.raises(Unavailable):
        await client.service("x")
    await client.close()
