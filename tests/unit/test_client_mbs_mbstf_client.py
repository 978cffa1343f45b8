"""The MBSTF client whole: multicast on loopback, loss, repair by HTTP, what the application gets, the report."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from nf.client.mbs.announcement import RepairServers
from nf.client.mbs.mbstf_client import MbstfClient
from nf.client.mbs.multicast import MulticastSocket
from nf.client.mbs.reception import ReceivedFile
from nf.client.mbs.reception_report import HowReceived
from nf.client.mbs.repair import HttpRepair, back_off, ranges_to_ask, repair_url
from nf.client.mbs.session_description import SessionDescription
from nf.client.mbs.sink import DirectorySink, UnsafeLocation, place_of
from nf.common.clock import ManualClock
from nf.mbstf.flute import FluteSession
from nf.mbstf.flute_fec import Fec, fec_of
from nf.mbstf.objects import Object

REED_SOLOMON = fec_of("urn:ietf:rmt:fec:encoding:5", 20)
AT_ONCE = timedelta()
START = datetime(2026, 1, 1, tzinfo=UTC)


class Packets:
    """A source of these packets; then it ends, or waits for more."""

    def __init__(self, packets: Sequence[bytes], *, ends: bool = True) -> None:
        self._batches: asyncio.Queue[list[bytes]] = asyncio.Queue()
        self.give(packets)
        if ends:
            self.close()

    def give(self, packets: Sequence[bytes]) -> None:
        for at in range(0, len(packets), 100):
            self._batches.put_nowait(list(packets[at : at + 100]))

    async def receive(self) -> list[bytes]:
        return await self._batches.get()

    def close(self) -> None:
        self._batches.put_nowait([])


class Server:
    """An HTTP server of objects by path: ranges, entity tags, and the faults that it is told to have."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[str] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                path = lines[0].split()[1]
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
                asked = headers.get("range", "")
                self.requests.append((path, asked))
                fault = self.faults.pop(0) if self.faults else ""
                if fault == "hang up":
                    break
                writer.write(self.answer(path, asked, fault))
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    def answer(self, path: str, asked: str, fault: str) -> bytes:
        content = self.objects.get(path)
        if content is None or fault == "503":
            return f"HTTP/1.1 {'404 Not Found' if content is None else '503 No'}\r\ncontent-length: 0\r\n\r\n".encode()
        if fault == "damage":
            content = bytes(len(content))
        if fault == "long":
            content += b"more"
        if asked and fault != "whole":
            start, end = (int(each) for each in asked.removeprefix("bytes=").split("-"))
            part = content[start : end + 1]
            where = f"content-range: bytes {start}-{end}/{len(content)}\r\n"
            return f"HTTP/1.1 206 Part\r\n{where}content-length: {len(part)}\r\n\r\n".encode() + part
        return f"HTTP/1.1 200 OK\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    serving = Server()
    opened = await asyncio.start_server(serving.serve, "127.0.0.1", 0)
    serving.url = f"http://127.0.0.1:{opened.sockets[0].getsockname()[1]}/repair"
    yield serving
    opened.close()


class Application:
    """Takes files; refuses those whose location ends so."""

    def __init__(self, refuses: str = "\0") -> None:
        self.files: dict[str, ReceivedFile] = {}
        self.refuses = refuses

    async def __call__(self, file: ReceivedFile) -> None:
        if file.location.endswith(self.refuses):
            raise OSError("no space left")
        self.files[file.location] = file

    def contents(self) -> dict[str, bytes]:
        return {location: file.content for location, file in self.files.items()}


def packets_of(contents: dict[str, bytes], fec: Fec, *, etag: str | None = "v1") -> list[bytes]:
    session = FluteSession(7, fec=fec)
    for location, content in contents.items():
        session.add(Object(location, content, "video/mp4", etag))
    packets = []
    while batch := session.batch(64):
        packets += batch
    return packets


def segments(count: int, rng: random.Random) -> dict[str, bytes]:
    sizes = [0, *(rng.randrange(60_000, 200_000) for _ in range(count - 1))]
    return {f"http://origin.example/live/{number}.m4s": rng.randbytes(size) for number, size in enumerate(sizes)}


def repair_of(server: Server, *more: str) -> HttpRepair:
    servers = RepairServers((server.url, *more), AT_ONCE, AT_ONCE)
    return HttpRepair(servers, bases=["http://origin.example/"], rng=random.Random(1))


def kept(packets: list[bytes], loss: float, seed: int) -> list[bytes]:
    rng = random.Random(seed)
    return [packet for packet in packets if rng.random() >= loss]


@pytest.mark.clause("TS 26.346 §9.3.5")
@pytest.mark.parametrize("fec", [Fec(), REED_SOLOMON], ids=["no code", "Reed-Solomon"])
async def test_thirty_per_cent_of_loss_are_repaired_by_http(fec: Fec, server: Server) -> None:
    contents = segments(20, random.Random(1))
    server.objects = {f"/repair/live/{location.rpartition('/')[2]}": data for location, data in contents.items()}
    application = Application()
    packets = kept(packets_of(contents, fec), 0.3, 2)
    report = await MbstfClient(7, Packets(packets), application, repair=repair_of(server)).run()
    assert application.contents() == contents
    repaired = {each.location: each for each in report.objects if each.how is HowReceived.REPAIRED}
    assert len(repaired) + report.count(HowReceived.MULTICAST) == 20
    assert len(repaired) > 10
    assert {location for location, file in application.files.items() if file.repaired} == set(repaired)
    assert report.packets == len(packets)
    assert report.symbols_missing > 0
    assert sum(each.repair_requests for each in report.objects) == len(server.requests)


@pytest.mark.clause("TS 26.346 §8")
async def test_five_per_cent_of_loss_need_no_repair_with_reed_solomon(server: Server) -> None:
    contents = segments(20, random.Random(1))
    application = Application()
    packets = kept(packets_of(contents, REED_SOLOMON), 0.05, 3)
    report = await MbstfClient(7, Packets(packets), application, repair=repair_of(server)).run()
    assert application.contents() == contents
    assert (report.count(HowReceived.MULTICAST), report.symbols_missing, server.requests) == (20, 0, [])
    assert report.symbols_restored > 50


async def test_a_small_loss_is_repaired_by_its_byte_ranges_only(server: Server) -> None:
    content = random.Random(4).randbytes(1_000_000)
    location = "http://origin.example/a"
    server.objects = {"/repair/a": content}
    data = packets_of({location: content}, Fec())
    packets = [packet for number, packet in enumerate(data) if number not in (30, 31, 400)]
    application = Application()
    report = await MbstfClient(7, Packets(packets), application, repair=repair_of(server)).run()
    assert application.contents() == {location: content}
    assert [asked != "" for _, asked in server.requests] == [True, True]
    assert (report.objects[0].repair_requests, report.objects[0].repair_bytes) == (2, 3 * 1340)
    assert report.objects[0].symbols_missing == 3


@pytest.mark.parametrize("fault", ["503", "hang up", "damage", "long", "whole"])
async def test_a_server_with_a_fault_is_asked_again(fault: str, server: Server) -> None:
    content = random.Random(4).randbytes(100_000)
    location = "http://origin.example/a"
    server.objects = {"/repair/a": content}
    server.faults = [fault]
    packets = packets_of({location: content}, Fec())
    application = Application()
    report = await MbstfClient(7, Packets(packets[:30]), application, repair=repair_of(server)).run()
    assert application.contents() == {location: content}
    assert report.objects[0].how is HowReceived.REPAIRED
    assert len(server.requests) == (1 if fault in ("whole", "long") else 2)


async def test_another_server_is_asked_where_one_is_not_there(server: Server) -> None:
    content = bytes(5000)
    server.objects = {"/repair/a": content}
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        packets = packets_of({"http://origin.example/a": content}, Fec())
        for seed in (1, 2, 3):
            servers = RepairServers((nobody, server.url), AT_ONCE, AT_ONCE)
            repair = HttpRepair(servers, bases=["http://origin.example/"], rng=random.Random(seed))
            report = await MbstfClient(7, Packets(packets[:3]), Application(), repair=repair).run()
            assert report.count(HowReceived.REPAIRED) == 1


async def test_what_cannot_be_repaired_is_reported_with_its_reason(server: Server) -> None:
    packets = packets_of({"http://origin.example/a": bytes(5000)}, Fec())
    report = await MbstfClient(7, Packets(packets[:3]), Application(), repair=repair_of(server)).run()
    (told,) = report.objects
    assert (told.how, told.repair_requests) == (HowReceived.FAILED, 3)
    assert told.failure == f"{server.url}/a: 404"
    without = await MbstfClient(7, Packets(packets[:3]), Application()).run()
    assert [each.failure for each in without.objects] == ["not repaired"]
    assert without.as_json()["objects"] == {"MULTICAST": 0, "REPAIRED": 0, "NOT_STORED": 0, "FAILED": 1}


async def test_a_file_that_the_application_cannot_take_does_not_end_the_reception() -> None:
    contents = {f"http://origin.example/{name}": name.encode() for name in "abc"}
    application = Application(refuses="b")
    report = await MbstfClient(7, Packets(packets_of(contents, Fec())), application).run()
    assert set(application.files) == {"http://origin.example/a", "http://origin.example/c"}
    assert [each.how.value for each in report.objects] == ["MULTICAST", "NOT_STORED", "MULTICAST"]
    assert report.objects[1].failure == "no space left"


async def test_the_end_that_the_sender_tells_ends_the_reception() -> None:
    session = FluteSession(7)
    session.add(Object("http://origin.example/a", bytes(5000)))
    packets = session.batch(100)
    session.close_session()
    application = Application()
    report = await MbstfClient(7, Packets(packets + session.batch(100), ends=False), application).run()
    assert (len(application.files), report.count(HowReceived.MULTICAST)) == (1, 1)


async def test_silence_ends_the_reception() -> None:
    clock = ManualClock(START)
    packets = Packets(packets_of({"http://origin.example/a": b"a"}, Fec()), ends=False)
    client = MbstfClient(7, packets, Application(), idle=timedelta(seconds=10), clock=clock)
    running = asyncio.create_task(client.run())
    await clock.until_asleep()
    clock.advance(timedelta(seconds=10))
    report = await running
    assert report.count(HowReceived.MULTICAST) == 1
    assert report.ended_at - report.started_at == timedelta(seconds=10)


async def test_an_object_that_nothing_comes_for_is_repaired_while_the_session_goes_on(server: Server) -> None:
    clock = ManualClock(START)
    content = bytes(50_000)
    server.objects = {"/repair/a": content}
    packets = Packets(packets_of({"http://origin.example/a": content}, Fec())[:20], ends=False)
    arrived = asyncio.Event()

    async def application(file: ReceivedFile) -> None:
        assert file.repaired
        arrived.set()

    client = MbstfClient(
        7, packets, application, repair=repair_of(server), repair_after=timedelta(seconds=5), clock=clock
    )
    running = asyncio.create_task(client.run())
    for _ in range(2):
        await clock.until_asleep()
        clock.advance(timedelta(seconds=5))
    await arrived.wait()
    client.stop()
    report = await running
    assert [(each.how, each.repair_requests) for each in report.objects] == [(HowReceived.REPAIRED, 1)]


async def test_multicast_of_one_source_is_received_on_loopback(tmp_path: Path) -> None:
    description = SessionDescription(
        "live", ip_address("127.0.0.9"), ip_address("232.7.7.7"), free_port(), "FLUTE/UDP", tsi=7
    )
    contents = {f"http://origin.example/live/{name}": bytes(3000) for name in ("a", "b")}
    client = MbstfClient.join(description, DirectorySink(tmp_path, base="http://origin.example/"))
    running = asyncio.create_task(client.run())
    packets = packets_of(contents, Fec())
    with sending("127.0.0.9") as right, sending("127.0.0.10") as wrong:
        foreign = packets_of({"http://evil.example/a": b"foreign"}, Fec())
        for packet in foreign:
            wrong.sendto(packet, ("232.7.7.7", description.port))
        for packet in packets:
            right.sendto(packet, ("232.7.7.7", description.port))
    client.stop()
    report = await running
    assert report.packets == len(packets)
    assert files_under(tmp_path) == {"live/a": bytes(3000), "live/b": bytes(3000)}


async def test_what_has_no_flute_is_not_joined() -> None:
    description = SessionDescription("x", ip_address("127.0.0.9"), ip_address("232.7.7.7"), free_port(), "UDP")
    with pytest.raises(ValueError, match="FLUTE/UDP"):
        MbstfClient.join(description, Application())


async def test_a_socket_that_is_closed_ends_and_one_that_cannot_join_raises() -> None:
    opened = MulticastSocket("127.0.0.9", "232.7.7.7", free_port())
    opened.close()
    opened.close()
    assert await opened.receive() == []
    with pytest.raises(OSError, match=r".+"):
        MulticastSocket("127.0.0.9", "232.7.7.7", free_port(), interface="192.0.2.1")
    with pytest.raises(OSError, match=r".+"):
        MulticastSocket("::1", "ff3e::8000:1", free_port(), interface="nowhere0")


def test_the_back_off_is_the_offset_and_a_random_part_of_the_period() -> None:
    servers = RepairServers(("http://a/",), timedelta(seconds=5), timedelta(seconds=10))
    waits = [back_off(servers, random.Random(seed)).total_seconds() for seed in range(200)]
    assert 5 <= min(waits) < 5.5
    assert 14.5 < max(waits) < 15


@pytest.mark.parametrize(
    ("locator", "location", "expected"),
    [
        ("http://r/x", "http://o/base/a/b", "http://r/x/a/b"),
        ("http://r/x/", "http://o/base/a?q=1", "http://r/x/a?q=1"),
        ("http://r/x", "http://other/c/d?q", "http://r/x/c/d?q"),
    ],
)
def test_a_repair_server_has_an_object_under_what_follows_the_base(locator: str, location: str, expected: str) -> None:
    assert repair_url(locator, location, ["http://o/base/"]) == expected


def test_ranges_close_together_are_one_and_many_are_the_whole() -> None:
    assert ranges_to_ask([(0, 10), (5000, 5010), (90_000, 90_010)], 100_000) == [(0, 5010), (90_000, 90_010)]
    assert ranges_to_ask([(0, 80_000)], 100_000) is None
    assert ranges_to_ask([(n * 10_000, n * 10_000 + 10) for n in range(17)], 1_000_000) is None


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("http://o/base/a/b.m4s", "a/b.m4s"),
        ("http://other/c/d.m4s", "c/d.m4s"),
        ("file:///a.txt", "a.txt"),
        ("http://o/base/a%20b?x=/../1", "a b?x=%2F..%2F1"),
        ("http://o/base/%C3%A4", "ä"),
    ],
)
def test_a_file_has_its_place_by_its_location(location: str, place: str) -> None:
    assert place_of(location, "http://o/base/") == place


@pytest.mark.parametrize(
    "location",
    [
        "http://o/../a", "http://o/a/%2e%2e/b", "http://o/a/..%2Fb", "http://o/", "http://o", "http://o/a//b",
        "http://o/a%00b", "http://o/a%5Cb", "http://o/%ff", "http://o/" + "x" * 300, "http://[", "..", "http://o/.",
    ],
)  # fmt: skip
async def test_a_location_that_leads_elsewhere_is_refused(location: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeLocation):
        place_of(location)
    with pytest.raises(UnsafeLocation):
        await DirectorySink(tmp_path / "sink")(ReceivedFile(location, b"x", "", "", "", 1))
    assert files_under(tmp_path) == {}


async def test_a_link_out_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "sink").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "sink" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafeLocation, match="outside"):
        await DirectorySink(tmp_path / "sink")(ReceivedFile("http://o/link/a", b"x", "", "", "", 1))
    assert list((tmp_path / "outside").iterdir()) == []


async def test_a_newer_file_takes_the_place_of_an_older(tmp_path: Path) -> None:
    sink = DirectorySink(tmp_path)
    for content in (b"one", b"two"):
        await sink(ReceivedFile("http://o/a/b", content, "", "", "", 1))
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "a").iterdir()] == [("b", b"two")]


def files_under(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


def sending(source: str) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((source, 0))
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    return opened
