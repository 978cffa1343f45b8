"""Watch streams and subscribers: no gap, no repeat, through concurrent writes, reconnects and restarts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from policy_service import Policies, open_store, registrations

from nf.common import call
from nf.common.channels import Channels
from nf.common.clock import SystemClock
from nf.common.errors import Unavailable
from nf.common.events import Watch
from nf.common.in_process import InProcess
from nf.common.server import GrpcServer
from nf.common.store import Store, Transaction, url_for
from nf.common.subscribe import Subscriber
from nf.common.telemetry import Telemetry
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.common.v1.types_pb2 import Volume
from nf.pcf.v1.policy_authorization_pb2_grpc import PcfEventsServiceStub


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def consumer(tmp_path: Path) -> AsyncIterator[Store]:
    opened = Store.open(url_for(tmp_path, "af"), clock=SystemClock())
    yield opened
    await opened.close()


@pytest.fixture(params=["socket", "in process"])
def in_process(request: pytest.FixtureRequest) -> InProcess | None:
    return InProcess() if request.param == "in process" else None


@asynccontextmanager
async def serving(
    store: Store, in_process: InProcess | None, address: str = "127.0.0.1:0"
) -> AsyncIterator[GrpcServer]:
    server = GrpcServer("pcf", Telemetry(), in_process=in_process)
    server.add(*registrations(Policies(store), store))
    await server.start(address)
    yield server
    await server.stop(0.2)


async def emit(store: Store, subject: str = "things/1") -> int:
    return await store.write(lambda tx: tx.emit("HAPPENED", subject, Volume(), source="pcf"))


async def emit_many(store: Store, count: int) -> None:
    """So many events by concurrent writes, some of which fail."""
    chance = random.Random(3)

    async def one(fails: bool) -> None:
        def work(tx: Transaction) -> None:
            tx.emit("HAPPENED", "things/1", Volume(), source="pcf")
            if fails:
                raise LookupError

        if fails:
            with pytest.raises(LookupError):
                await store.write(work)
        else:
            await store.write(work)
        await asyncio.sleep(0)

    fates = [False] * count + [True] * (count // 5)
    chance.shuffle(fates)
    for begin in range(0, len(fates), 64):
        await asyncio.gather(*(one(fails) for fails in fates[begin : begin + 64]))


async def sequences(events: AsyncIterator[Event], last: int) -> list[int]:
    seen = []
    async for event in events:
        seen.append(event.sequence)
        if event.sequence == last:
            break
    return seen


async def test_every_follower_sees_each_event_once_under_concurrent_writes(store: Store) -> None:
    watch = Watch(store)
    starts = (0, 0, 100, 399)
    followers = [asyncio.create_task(sequences(watch.follow(after), 600)) for after in starts]
    await emit_many(store, 600)
    for after, follower in zip(starts, followers, strict=True):
        assert await follower == list(range(after + 1, 601))


async def test_a_follower_that_comes_late_sees_what_is_kept_then_what_comes(store: Store) -> None:
    await emit_many(store, 120)
    following = asyncio.create_task(sequences(Watch(store).follow(50), 130))
    await emit_many(store, 10)
    assert await following == list(range(51, 131))


async def test_a_subject_takes_along_what_stands_below_it_only(store: Store) -> None:
    for subject in ("a/1", "a/10", "a/1/b", "b", "a"):
        await emit(store, subject)
    watch = Watch(store)
    assert [each.subject async for each in watch.follow(0, "a/1", no_follow=True)] == ["a/1", "a/1/b"]
    assert [each.subject async for each in watch.follow(0, "a", no_follow=True)] == ["a/1", "a/10", "a/1/b", "a"]
    assert [each.sequence async for each in watch.follow(2, no_follow=True)] == [3, 4, 5]


async def test_without_follow_the_stream_ends_after_what_is_kept(store: Store) -> None:
    await emit_many(store, 1100)
    assert [each.sequence async for each in Watch(store).follow(0, no_follow=True)] == list(range(1, 1101))


async def test_a_sequence_that_no_log_reaches_has_nothing_after_it(store: Store) -> None:
    await emit(store)
    assert [event async for event in Watch(store).follow(2**64 - 1, no_follow=True)] == []


async def test_a_follower_ends_when_it_is_told_to(store: Store) -> None:
    until = asyncio.Event()
    following = asyncio.create_task(sequences(Watch(store).follow(0, until=until), 99))
    await emit(store)
    until.set()
    assert await following in ([], [1])


async def test_a_stream_resumes_after_a_sequence(store: Store, in_process: InProcess | None) -> None:
    async with serving(store, in_process) as server:
        channels = Channels({"pcf": server.address}, in_process=in_process)
        stub = PcfEventsServiceStub(channels.get("pcf"))
        seen: list[int] = []
        writing = asyncio.create_task(emit_many(store, 300))
        while len(seen) < 300:
            stream = stub.WatchEvents(WatchEventsRequest(after_sequence=seen[-1] if seen else 0))
            async for response in stream:
                seen.append(response.event.sequence)
                if len(seen) % 70 == 0 or len(seen) == 300:
                    stream.cancel()
                    break
        await writing
        await channels.close()
    assert seen == list(range(1, 301))


async def test_streams_end_cleanly_when_the_server_stops(store: Store, in_process: InProcess | None) -> None:
    async with serving(store, in_process) as server:
        channels = Channels({"pcf": server.address}, in_process=in_process)
        stub = PcfEventsServiceStub(channels.get("pcf"))
        seen: list[int] = []
        begun = asyncio.Event()

        async def follow() -> None:
            async for response in stub.WatchEvents(WatchEventsRequest()):
                seen.append(response.event.sequence)
                begun.set()

        following = asyncio.create_task(follow())
        await emit(store)
        await begun.wait()
        await server.stop(5.0)
        await following
        assert seen == [1]
        await channels.close()


class Recorder:
    """Keeps what it has handled as the consumer's own events, so that the transaction is shown."""

    def __init__(self, consumer: Store) -> None:
        self.consumer = consumer
        self.fail_at: set[int] = set()

    def handle(self, tx: Transaction, event: Event) -> None:
        tx.emit("HANDLED", f"handled/{event.sequence}", Volume(packets=event.sequence), source="af")
        if event.sequence in self.fail_at:
            self.fail_at.discard(event.sequence)
            raise RuntimeError("a fault while handling")

    async def handled(self) -> list[int]:
        events = await self.consumer.read(lambda reader: reader.events(0, 10_000))
        return [int(event.subject.removeprefix("handled/")) for event in events]


def subscriber(recorder: Recorder, channels: Channels) -> Subscriber:
    async def open_stream(after: int) -> AsyncIterator[Event]:
        stub = PcfEventsServiceStub(channels.get("pcf"))
        async for response in stub.WatchEvents(WatchEventsRequest(after_sequence=after)):
            yield response.event

    return Subscriber("pcf", recorder.consumer, open_stream, recorder.handle, first_backoff_s=0.01, max_backoff_s=0.02)


async def test_each_event_takes_effect_once_through_faults_and_restarts(
    store: Store, consumer: Store, in_process: InProcess | None
) -> None:
    recorder = Recorder(consumer)
    recorder.fail_at = {7, 40, 41}
    async with serving(store, in_process) as first:
        channels = Channels({"pcf": first.address}, in_process=in_process)
        following = subscriber(recorder, channels)
        await following.start()
        await emit_many(store, 60)
        await consumer.wait_sequence(49)
    await emit_many(store, 20)
    async with serving(store, in_process, first.address):
        await consumer.wait_sequence(69)
        await following.stop()
        following = subscriber(recorder, channels)
        await following.start()
        await emit_many(store, 20)
        await consumer.wait_sequence(99)
        await following.stop()
    await channels.close()
    assert await recorder.handled() == list(range(1, 101))
    assert await consumer.read(lambda reader: reader.cursor("pcf")) == 100


async def test_preparation_comes_before_the_write_and_is_repeated_when_it_fails(store: Store, consumer: Store) -> None:
    prepared: list[int] = []

    async def prepare(event: Event) -> None:
        prepared.append(event.sequence)
        if prepared == [1]:
            raise Unavailable("the peer is away")

    recorder = Recorder(consumer)
    following = Subscriber(
        "pcf", consumer, Watch(store).follow, recorder.handle, prepare=prepare, first_backoff_s=0.001
    )
    await following.start()
    await emit(store)
    await emit(store)
    await consumer.wait_sequence(1)
    await following.stop()
    assert prepared == [1, 1, 2]
    assert await recorder.handled() == [1, 2]


async def test_an_effect_carries_the_correlation_id_of_its_cause_and_no_other(store: Store, consumer: Store) -> None:
    call.set_correlation_id("corr-9")
    await emit(store)
    call.set_correlation_id("")
    await emit(store)
    recorder = Recorder(consumer)
    following = Subscriber("pcf", consumer, Watch(store).follow, recorder.handle)
    call.set_correlation_id("of who has started the function")
    await following.start()
    await consumer.wait_sequence(1)
    await following.stop()
    events = await consumer.read(lambda reader: reader.events(0))
    assert [each.correlation_id for each in events] == ["corr-9", ""]
