"""The player against a real HTTP server: real connections and segments, in a time that tests move."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dash_documents import adaptation_set, mpd, title
from dash_server import Asked, DashServer, answer

from nf.af.v1.media_session_pb2 import ServiceDescriptorFilter
from nf.cli.certs.making import make_files
from nf.client.dash.errors import NothingToPlay, SegmentUnavailable
from nf.client.dash.http_connection import connect
from nf.client.dash.playback import State
from nf.client.dash.player import DashPlayer
from nf.client.dash.segment_index import listed
from nf.client.dash.settings import Settings
from nf.client.m7 import Connection, Preferences
from nf.common.clock import ManualClock
from nf.common.dash.errors import MpdError
from nf.common.dash.mpd import ByteRange, SegmentBase

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
VIDEO = {"sd": 1_000_000, "hd": 4_000_000, "uhd": 12_000_000}
AUDIO = {"a": 100_000}


class VirtualClock(ManualClock):
    """Whoever sleeps has slept at once: time passes by sleeping, and when it is said to."""

    def __init__(self) -> None:
        super().__init__(START)

    async def sleep_until(self, moment: datetime) -> None:
        self.advance(max(moment - self.now(), timedelta()))
        await asyncio.sleep(0)


@dataclass
class Listener:
    """What the player tells, in its order; ``on_open`` is called for each connection before it is used."""

    on_open: Callable[[Connection], None] = lambda _: None
    told: list[tuple[str, object]] = field(default_factory=list)
    opened: list[Connection] = field(default_factory=list)
    closed: list[Connection] = field(default_factory=list)

    def media_changed(self, medium: str, media_consumed: str | None, connection: Connection | None = None) -> None:
        self.told.append((medium, media_consumed))

    async def connection_opened(self, connection: Connection) -> None:
        self.opened.append(connection)
        self.told.append(("opened", connection.client.port))
        self.on_open(connection)

    def connection_closed(self, connection: Connection) -> None:
        self.closed.append(connection)

    def preferences_changed(self, preferences: Preferences) -> None:
        self.told.append(("preferences", preferences))

    def stopped(self) -> None:
        self.told.append(("stopped", None))

    def failed(self, error: Exception) -> None:
        self.told.append(("failed", type(error)))


def presentation(document: bytes, segments: int = 5) -> dict[str, bytes]:
    """A server's content: the MPD, and segments of two seconds at their bandwidth (a hundredth of it, to be quick)."""
    content = {"/m.mpd": document}
    for name, rate in (VIDEO | AUDIO).items():
        content |= {f"/{name}-{number}.m4s": bytes(rate * 2 // 800) for number in range(1, segments + 1)}
    return content


async def played(
    server: DashServer, settings: Settings, listener: Listener, clock: VirtualClock, *, filter_bps: int | None = None
) -> DashPlayer:
    """Plays the presentation to its end."""
    player = DashPlayer(clock, settings, opener=connect)
    if filter_bps is not None:
        player.set_filter(ServiceDescriptorFilter(operating_bandwidth_max_bps=filter_bps))
    await player.start(f"{server.url}/m.mpd", listener)
    try:
        await player.finished()
    finally:
        await player.stop()
    return player


UNPACED = Settings(paced=False, buffer_s=6.0)


@pytest.mark.clause("TS 26.512 A.3.2 step 7", "TS 26.512 A.3.2 step 8", "TS 26.512 A.3.2 step 9")
async def test_the_mpd_is_fetched_after_the_notification_and_the_filter_holds_from_the_first_segment() -> None:
    clock = VirtualClock()
    async with DashServer(presentation(title(VIDEO, AUDIO))) as server:
        player = DashPlayer(clock, UNPACED)

        def notified(_: Connection) -> None:
            # Whoever listens is asked before anything has been fetched.
            assert server.asked == []
            player.set_filter(ServiceDescriptorFilter(operating_bandwidth_max_bps=5_000_000))

        listener = Listener(notified)
        await player.start(f"{server.url}/m.mpd", listener)
        results = await player.finished()
        await player.stop()
        assert server.paths[0] == "/m.mpd"
    assert results.representations("video") == ["sd", "hd", "hd", "hd", "hd"]
    assert results.representations("audio") == ["a"] * 5
    assert all(each.combination_bps <= 5_000_000 and each.compliant and each.filtered for each in results.transfers)
    assert [(each.number, each.start_s, each.duration_s) for each in results.transfers if each.medium == "video"] == [
        (number, 2.0 * (number - 1), 2.0) for number in range(1, 6)
    ]
    assert results.media_bytes == 2_500 + 4 * 10_000 + 5 * 250
    assert (results.stalls, results.stalled_s, results.connections) == ((), 0, 2)
    assert player.state is State.ENDED


async def test_connections_are_told_with_the_addresses_that_the_server_sees() -> None:
    listener = Listener()
    async with DashServer(presentation(title(VIDEO, AUDIO))) as server:
        await played(server, UNPACED, listener, VirtualClock())
        ports = {each.port for each in server.asked}
        port = int(server.url.rpartition(":")[2])
    assert {each.client.port for each in listener.opened} == ports
    assert {(str(each.server.address), each.server.port, each.protocol) for each in listener.opened} == {
        ("127.0.0.1", port, 6)
    }
    # Audio has a connection of its own, and every one is told to be closed in the end.
    audio = {each.port for each in server.asked if each.path.startswith("/a-")}
    video = {each.port for each in server.asked if not each.path.startswith("/a-")}
    assert (len(audio), len(video), audio & video) == (1, 1, set())
    assert sorted(each.client.port for each in listener.closed) == sorted(ports)


async def test_what_is_consumed_is_told_at_each_change_and_at_the_end() -> None:
    listener = Listener()
    async with DashServer(presentation(title(VIDEO, AUDIO))) as server:
        player = DashPlayer(VirtualClock(), Settings(connections=1, paced=False))
        player.set_preferences(Preferences(may_share_location=True))
        await player.start(f"{server.url}/m.mpd", listener)
        await player.finished()
        await player.stop()
    assert [each for each in listener.told if each[0] != "opened"] == [
        ("preferences", Preferences(may_share_location=True)),
        ("video", "sd"),
        ("audio", "a"),
        ("video", "uhd"),
        ("video", None),
        ("audio", None),
        ("stopped", None),
    ]
    assert len(listener.opened) == 1


@pytest.mark.clause("TS 26.512 A.3.2 step 9")
async def test_a_greedy_player_takes_the_best_whatever_it_is_told() -> None:
    async with DashServer(presentation(title(VIDEO, AUDIO))) as server:
        greedy = Settings(ignore_filter=True)
        player = await played(server, greedy, Listener(), VirtualClock(), filter_bps=5_000_000)
    results = player.results
    assert results.representations("video") == ["sd", "uhd", "uhd", "uhd", "uhd"]
    assert [each.compliant for each in results.transfers if each.medium == "video"] == [True, *[False] * 4]
    assert not any(each.filtered for each in results.transfers)


async def test_a_filter_that_changes_counts_from_the_next_segment() -> None:
    clock = VirtualClock()
    player = DashPlayer(clock, Settings(paced=False, buffer_s=2.0))
    async with DashServer(presentation(title(VIDEO, AUDIO))) as server:

        def before(asked: Asked) -> None:
            if asked.path == "/uhd-3.m4s":
                player.set_filter(ServiceDescriptorFilter(operating_bandwidth_max_bps=1_100_000))

        server.before = before
        await player.start(f"{server.url}/m.mpd", Listener())
        results = await player.finished()
        await player.stop()
    assert results.representations("video") == ["sd", "uhd", "uhd", "sd", "sd"]


async def test_a_paced_player_reads_no_faster_than_the_threshold() -> None:
    clock = VirtualClock()
    async with DashServer(presentation(title(VIDEO, AUDIO))) as server:
        server.resources = {path: body * 100 if path != "/m.mpd" else body for path, body in server.resources.items()}
        player = await played(server, Settings(), Listener(), clock, filter_bps=5_000_000)
    results = player.results
    assert results.representations("video") == ["sd", "hd", "hd", "hd", "hd"]
    # Ten seconds at 4.1 Mbit/s come at no more than 0.95 of 5 Mbit/s.
    assert results.media_bytes == 250_000 + 4 * 1_000_000 + 5 * 25_000
    fetching_s = (clock.now() - START).total_seconds()
    assert results.media_bytes * 8 / 4_750_000 - 0.1 < fetching_s < 13
    assert results.stalls == ()


async def test_it_pauses_while_the_buffer_is_full() -> None:
    async with DashServer(presentation(title(VIDEO, AUDIO))) as server:
        clock = VirtualClock()
        player = await played(server, UNPACED, Listener(), clock)
    # Six seconds are ahead at most; the whole takes as long as it plays.
    assert max(each.buffer_s for each in player.results.transfers) == pytest.approx(6.0, abs=0.01)
    assert player.results.pauses == 2
    assert (clock.now() - START).total_seconds() == pytest.approx(10.0, abs=0.01)


async def test_a_slow_server_makes_it_choose_less_and_a_stop_of_the_server_stalls_it() -> None:
    clock = VirtualClock()

    def before(asked: Asked) -> None:
        # The virtual network: 0.08 s for an SD segment, five for HD.
        if asked.path.startswith("/hd") or asked.path.startswith("/uhd"):
            clock.advance(timedelta(seconds=5))

    async with DashServer(presentation(title(VIDEO)), before=before) as server:
        player = await played(server, Settings(paced=False, connections=1, buffer_s=4.0), Listener(), clock)
    results = player.results
    assert results.representations("video")[:3] == ["sd", "uhd", "sd"]
    assert [each.position_s for each in results.stalls] == [2.0]
    assert results.stalled_s == pytest.approx(3.0, abs=0.01)


async def test_where_nothing_complies_the_lowest_is_played_and_said_to_exceed() -> None:
    async with DashServer(presentation(title(VIDEO, AUDIO))) as server:
        player = await played(server, UNPACED, Listener(), VirtualClock(), filter_bps=500_000)
    assert player.results.representations("video") == ["sd"] * 5
    assert not any(each.compliant for each in player.results.transfers)


async def test_a_connection_that_the_server_ends_is_opened_anew_and_told() -> None:
    listener = Listener()
    async with DashServer(presentation(title(VIDEO)), answers_per_connection=2) as server:
        player = await played(server, Settings(connections=1, paced=False, retry_delay_s=0), listener, VirtualClock())
    # An MPD and five segments, two over each.
    assert len(player.results.transfers) == 5
    assert len(listener.opened) == len({each.client.port for each in listener.opened}) >= 3
    assert len(listener.closed) == len(listener.opened)


async def test_alternatives_chunks_redirections_and_ranges_are_understood() -> None:
    document = mpd(
        "<BaseURL>gone/</BaseURL><BaseURL>here/</BaseURL><Period><AdaptationSet mimeType='video/mp4'>"
        "<SegmentList duration='5'><Initialization sourceURL='i' range='2-4'/><SegmentURL media='1'/>"
        "<SegmentURL media='2' mediaRange='10-'/></SegmentList><Representation id='v' bandwidth='8'/>"
        "</AdaptationSet></Period>"
    )
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nt: u\r\n\r\n"
    content = {
        "/m.mpd": lambda _: answer(b"", "302 Found", "Location: /deep/m.mpd"),
        "/deep/m.mpd": document,
        "/deep/here/i": b"0123456",
        "/deep/here/1": lambda _: chunked,
        "/deep/here/2": bytes(17),
    }
    async with DashServer(content) as server:
        player = await played(server, UNPACED, Listener(), VirtualClock())
    assert [each.body_bytes for each in player.results.transfers] == [5, 7]
    assert player.results.other_bytes == len(document) + 3
    assert server.paths == [
        "/m.mpd", "/deep/m.mpd", "/deep/gone/i", "/deep/here/i", "/deep/gone/1", "/deep/here/1",
        "/deep/gone/2", "/deep/here/2",
    ]  # fmt: skip


async def test_a_live_presentation_is_followed_to_its_end() -> None:
    clock = VirtualClock()
    clock.advance(timedelta(seconds=20))
    attributes = (
        'type="dynamic" availabilityStartTime="2026-01-31T12:00:00Z" minimumUpdatePeriod="PT2S" '
        'timeShiftBufferDepth="PT10S"'
    )

    def document(asked: Asked) -> bytes:
        """What has been recorded so far; at second 32 that is all."""
        elapsed = (clock.now() - START).total_seconds()
        timeline = "".join(f'<S t="{at}" d="2"/>' for at in range(10, 32, 2) if at + 2 <= elapsed)
        template = f'<SegmentTemplate media="v-$Time$"><SegmentTimeline>{timeline}</SegmentTimeline></SegmentTemplate>'
        end = ' duration="PT32S"' if elapsed >= 32 else ""
        update = attributes if elapsed < 32 else attributes.replace('minimumUpdatePeriod="PT2S" ', "")
        return answer(mpd(f'<Period start="PT0S"{end}>{adaptation_set("video", {"v": 8}, template)}</Period>', update))

    content = {"/m.mpd": document} | {f"/v-{at}": bytes(2) for at in range(0, 40, 2)}
    async with DashServer(content) as server:
        player = await played(server, Settings(paced=False, resume_s=0.1), Listener(), clock)
    results = player.results
    # It began three segments behind the live edge, and had every segment after that.
    assert [each.start_s for each in results.transfers] == [float(at) for at in range(14, 32, 2)]
    assert results.mpd_fetches >= 6
    assert (results.skipped_s, results.stalls) == (0, ())
    # It kept behind the live edge: the end was played after it had been recorded.
    assert clock.now() >= START + timedelta(seconds=36)


async def test_numbered_live_segments_are_asked_for_when_they_are_complete() -> None:
    clock = VirtualClock()
    clock.advance(timedelta(seconds=100.5))
    asked_at: dict[str, float] = {}
    attributes = (
        'type="dynamic" availabilityStartTime="2026-01-31T12:00:00Z" mediaPresentationDuration="PT108S" '
        'suggestedPresentationDelay="PT3S"'
    )
    template = '<SegmentTemplate media="v-$Number$" duration="2"/>'
    document = mpd(f'<Period start="PT0S">{adaptation_set("video", {"v": 8}, template)}</Period>', attributes)
    content = {"/m.mpd": document} | {f"/v-{number}": bytes(2) for number in range(1, 60)}

    def before(asked: Asked) -> None:
        asked_at.setdefault(asked.path, (clock.now() - START).total_seconds())

    async with DashServer(content, before=before) as server:
        await played(server, Settings(paced=False), Listener(), clock)
    # At 97.5 the segment from 96 on plays; the one from 100 on is complete at 102.
    assert [path for path in server.paths if path != "/m.mpd"] == [f"/v-{number}" for number in range(49, 55)]
    assert asked_at["/v-50"] == pytest.approx(100.5)
    assert asked_at["/v-51"] == pytest.approx(102.05)
    assert asked_at["/v-54"] == pytest.approx(108.05)


async def test_what_the_server_does_not_have_fails_the_presentation_with_the_address() -> None:
    content = presentation(title(VIDEO, AUDIO))
    del content["/sd-1.m4s"]
    listener = Listener()
    async with DashServer(content) as server:
        with pytest.raises(SegmentUnavailable) as failure:
            await played(server, UNPACED, listener, VirtualClock())
        assert str(failure.value) == f"{server.url}/sd-1.m4s: found status 404, expected 200"
        assert server.paths.count("/sd-1.m4s") == 3
    assert listener.told[-1] == ("failed", SegmentUnavailable) or ("failed", SegmentUnavailable) in listener.told
    assert len(listener.closed) == 2


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (answer(b"<MPD", "200 OK"), MpdError),
        (answer(mpd("<Period/>")), NothingToPlay),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n<MPD", SegmentUnavailable),
        (b"SSH-2.0-x\r\n\r\n", SegmentUnavailable),
    ],
)
async def test_an_entry_that_cannot_be_played_is_refused_at_the_start(body: bytes, error: type[Exception]) -> None:
    async with DashServer({"/m.mpd": lambda _: body}, answers_per_connection=1) as server:
        listener = Listener()
        player = DashPlayer(VirtualClock(), UNPACED)
        with pytest.raises(error):
            await player.start(f"{server.url}/m.mpd", listener)
        await player.stop()
    assert len(listener.closed) == len(listener.opened) > 0


@pytest.mark.parametrize("scheme", ["http", "ftp"])
async def test_without_a_server_or_with_an_address_that_is_none_the_start_says_so(scheme: str) -> None:
    async with DashServer() as server:
        gone = server.url.replace("http", scheme)
    error, told = (SegmentUnavailable, "Connect") if scheme == "http" else (NothingToPlay, "expected 'http://HOST…'")
    with pytest.raises(error, match=told):
        await DashPlayer(VirtualClock(), UNPACED).start(f"{gone}/m.mpd", Listener())


def sidx(*segments: tuple[int, int], offset: int = 0) -> bytes:
    """A segment index (version 0, timescale 10, from 30 on) of segments with these sizes and durations."""
    references = b"".join(struct.pack(">III", size, duration, 0x90000000) for size, duration in segments)
    body = struct.pack(">IIIIIHH", 0, 1, 10, 30, offset, 0, len(segments)) + references
    return struct.pack(">I4s", len(body) + 8, b"sidx") + body


async def test_a_single_file_is_played_by_its_segment_index() -> None:
    index = sidx((100, 20), (50, 20), (70, 10), offset=8)
    head = bytes(40)
    content = head + index + bytes(8) + b"a" * 100 + b"b" * 50 + b"c" * 70
    asked: list[str] = []
    addressing = (
        f'<BaseURL>v.mp4</BaseURL><SegmentBase timescale="10" presentationTimeOffset="30" '
        f'indexRange="40-{40 + len(index) - 1}"/>'
    )
    document = mpd(
        f"<Period>{adaptation_set('video', {'v': 400}, addressing)}</Period>", 'mediaPresentationDuration="PT5S"'
    )
    document = document.replace(b"<BaseURL>v.mp4</BaseURL>", b"").replace(
        b'bandwidth="400"/>', b'bandwidth="400"><BaseURL>v.mp4</BaseURL></Representation>'
    )

    def before(request: Asked) -> None:
        asked.append(request.headers.get("range", ""))

    async with DashServer({"/m.mpd": document, "/v.mp4": content}, before=before) as server:
        player = await played(server, UNPACED, Listener(), VirtualClock())
    assert [(each.start_s, each.duration_s, each.body_bytes) for each in player.results.transfers] == [
        (0.0, 2.0, 100), (2.0, 2.0, 50), (4.0, 1.0, 70),
    ]  # fmt: skip
    first = 40 + len(index) + 8
    assert asked == [
        "", f"bytes=40-{39 + len(index)}", "bytes=0-39",
        f"bytes={first}-{first + 99}", f"bytes={first + 100}-{first + 149}", f"bytes={first + 150}-{first + 219}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("index", "problem"),
    [
        (b"", "found no segment index (sidx) in @indexRange"),
        (sidx((1 << 31 | 5, 20)), "found a segment index of indexes, expected one of segments"),
        (sidx((5, 20), (5, 20))[:-4], "found a segment index that is cut short, expected all of it in @indexRange"),
        (sidx(), "found a segment index without segments"),
        (sidx((5, 0)), "found an empty segment in the segment index"),
    ],
)
def test_an_index_that_is_none_is_refused(index: bytes, problem: str) -> None:
    with pytest.raises(MpdError) as refusal:
        listed(SegmentBase(None, ByteRange(0, 99), 1, 0), index, "v.mp4")
    assert str(refusal.value) == f"v.mp4: {problem}"


async def test_it_plays_over_tls_from_a_server_that_it_can_trust_alone(tmp_path: Path) -> None:
    make_files(tmp_path, ("http",), alternatives=(), days=2, clients=())
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(tmp_path / "http.pem", tmp_path / "http.key")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    content = presentation(title(VIDEO, AUDIO))
    async with DashServer(content, tls=served, answers_per_connection=4) as server:
        listener = Listener()
        player = DashPlayer(VirtualClock(), Settings(retry_delay_s=0), tls=trusting)
        player.set_filter(ServiceDescriptorFilter(operating_bandwidth_max_bps=5_000_000))
        await player.start(f"{server.url}/m.mpd", listener)
        results = await player.finished()
        await player.stop()
        assert results.representations("video") == ["sd", "hd", "hd", "hd", "hd"]
        assert results.media_bytes == 2_500 + 4 * 10_000 + 5 * 250
        assert len(listener.opened) == len(listener.closed) >= 4

        stranger = Listener()
        with pytest.raises(SegmentUnavailable, match="certificate verify failed"):
            await DashPlayer(VirtualClock(), Settings()).start(f"{server.url}/m.mpd", stranger)
        assert len(stranger.opened) == len(stranger.closed) == 1


async def test_a_player_that_is_stopped_stops_at_once_and_closes_everything() -> None:
    listener = Listener()
    async with DashServer(presentation(title(VIDEO, AUDIO))) as server:
        clock = ManualClock(START)
        player = DashPlayer(clock, UNPACED)
        await player.start(f"{server.url}/m.mpd", listener)
        # It has filled its buffer, and time stands still.
        await clock.until_asleep()
        await player.stop()
        await player.stop()
    assert len(player.results.transfers) == 6
    assert listener.told[-2:] == [("video", None), ("audio", None)]
    assert len(listener.closed) == 2
