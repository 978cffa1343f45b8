"""Sinks on a store, its clock moved by hand, and a receiver that is told what to answer."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nf.common.callback_hosts import CallbackHostNotAllowed
from nf.common.clock import ManualClock
from nf.common.errors import InvalidArgument
from nf.common.outgoing_http import Answered, NotSent
from nf.common.store import Store, Transaction, url_for
from nf.common.v1.events_pb2 import Event
from nf.common.v1.notifications_pb2 import NotificationDelivery, NotificationSubscription
from nf.netapi.cloud_events import Data
from nf.netapi.config import NetapiSection
from nf.netapi.errors import InvalidSink
from nf.netapi.sinks import SinkCredential, Sinks, subject_of
from nf.netapi.v1 import monitoring_pb2 as api
from nf.netapi.v1.booking_pb2 import Booking, BookingChanged

T0 = datetime(2026, 5, 1, 12, tzinfo=UTC)
URL = "http://127.0.0.1:9/hook"


@dataclass
class Receiver:
    """Takes what is sent, unless the next answer is another."""

    answers: list[Answered | NotSent] = field(default_factory=list)
    requests: list[tuple[str, bytes, Mapping[str, str]]] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def post(self, url: str, content: bytes, headers: Mapping[str, str]) -> Answered:
        async with self.changed:
            self.requests.append((url, content, headers))
            answer = self.answers.pop(0) if self.answers else Answered(204)
            if isinstance(answer, Answered) and answer.is_success:
                self.taken.append(json.loads(content))
            self.changed.notify_all()
        if isinstance(answer, NotSent):
            raise answer
        return answer

    async def close(self) -> None:
        return

    async def until(self, count: int, requests: int = 0) -> list[dict[str, Any]]:
        """What was taken, once it is so many."""
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: len(self.taken) >= count and len(self.requests) >= requests)
        return self.taken


def door(event: Event, sink: api.EventSink) -> tuple[str, Data] | None:
    """A door that tells of bookings that are active, and of the end of its sinks."""
    changed, about = BookingChanged(), api.EventSinkChanged()
    if event.payload.Unpack(about):
        return "org.example.ended", {"why": api.EventSinkEnd.Name(about.event_sink.end), "id": sink.sink_id}
    event.payload.Unpack(changed)
    if changed.booking.state != Booking.STATE_ACTIVE:
        return None
    return "org.example.active", {"booking": changed.booking.booking_id}


class Bench:
    """Sinks that send to one receiver; ``restart`` is as after a crash: what was not noted is not known."""

    def __init__(self, store: Store, clock: ManualClock, **config: object) -> None:
        self.store, self.clock = store, clock
        self.receiver = Receiver()
        self.config = NetapiSection(**config)
        self.ended: list[tuple[str, api.EventSinkEnd.ValueType]] = []
        self.sinks = self._made()

    def _made(self) -> Sinks:
        sinks = Sinks(self.store, self.config, doors={"example": door}, followers=(self._note,))
        sinks._sender = sinks._callbacks.sender = self.receiver  # type: ignore[assignment]
        return sinks

    def _note(self, _: Transaction, sink: api.EventSink) -> None:
        self.ended.append((sink.sink_id, sink.end))

    async def create(self, agreement_id: str = "acme", url: str = URL, **wanted: Any) -> str:
        name = await self.store.write(lambda tx: self.sinks.create_sink(tx, agreement_id, url, **wanted))
        self.sinks.wake()
        return name

    async def end(self, name: str, **how: Any) -> None:
        await self.store.write(lambda tx: self.sinks.end_sink(tx, name, **how))
        self.sinks.wake()

    async def happen(self, count: int = 1, *, agreement_id: str = "acme", state: int = Booking.STATE_ACTIVE) -> None:
        def work(tx: Transaction) -> None:
            for number in range(count):
                booking = Booking(booking_id=f"b{number}", agreement_id=agreement_id, state=state)  # type: ignore[arg-type]
                tx.emit(
                    "BOOKING_STATE", f"bookings/b{number}", BookingChanged(booking=booking), source="netapi",
                    audience=(f"agreement/{agreement_id}",),
                )  # fmt: skip

        await self.store.write(work)

    async def restart(self) -> None:
        await self.sinks.stop()
        self.sinks = self._made()
        await self.sinks.start()

    async def until_gone(self, name: str) -> None:
        """Nothing is left of a sink."""
        kinds = (api.EventSink, api.EventSinkSecrets, NotificationSubscription, NotificationDelivery)
        async with asyncio.timeout(20):
            while any(await self.store.read(lambda r: [r.get(kind, name) for kind in kinds])):  # noqa: ASYNC110
                await asyncio.sleep(0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = Store.open(url_for(tmp_path, "netapi"), clock=ManualClock(T0))
    yield opened
    await opened.close()


@pytest.fixture
async def bench(store: Store) -> AsyncIterator[Bench]:
    assert isinstance(store.clock, ManualClock)
    bench = Bench(store, store.clock)
    await bench.sinks.start()
    yield bench
    await bench.sinks.stop()


@pytest.mark.clause("5G-MAG live media distribution notifications")
async def test_an_event_is_a_cloud_event_signed_and_shown_the_token(bench: Bench):
    credential = SinkCredential("opaque-token", T0 + timedelta(days=1))
    name = await bench.create(credential=credential, secret="s3cret", headers={"x-lab": "7"})
    await bench.happen()
    (event,) = await bench.receiver.until(1)
    sequence = bench.store.sequence
    assert event == {
        "specversion": "1.0",
        "id": f"{name}.{sequence}",
        "source": f"urn:castcore:netapi:{bench.store.instance_id}",
        "type": "org.castcore.netapi.booking-state",
        "time": "2026-05-01T12:00:00Z",
        "datacontenttype": "application/json",
        "subject": "bookings/b0",
        "sequence": str(sequence),
        "data": {"booking": {"bookingId": "b0", "agreementId": "acme", "state": "ACTIVE"}},
    }
    url, body, headers = bench.receiver.requests[0]
    assert url == URL
    assert headers["content-type"] == "application/cloudevents+json"
    assert headers["castcore-signature"] == "sha256=" + hmac.digest(b"s3cret", body, hashlib.sha256).hex()
    assert headers["authorization"] == "Bearer opaque-token"
    assert headers["x-lab"] == "7"


async def test_a_provider_is_told_what_is_its_own_and_the_operator_everything(bench: Bench):
    await bench.create("acme", url=URL + "/acme")
    await bench.create("", url=URL + "/operator")
    await bench.happen(agreement_id="rival")
    await bench.happen(agreement_id="acme")
    await bench.receiver.until(3)
    told = sorted((url.rpartition("/")[2], json.loads(body)["sequence"]) for url, body, _ in bench.receiver.requests)
    assert told == [("acme", "2"), ("operator", "1"), ("operator", "2")]


async def test_what_fails_is_sent_again_later_the_same_and_in_order_over_a_restart(bench: Bench):
    bench.receiver.answers = [Answered(500), NotSent("nobody listens"), Answered(429, 3.0)]
    await bench.create()
    await bench.happen(3)
    await bench.receiver.until(0, requests=1)
    # The first pause is of half a second at the most.
    await bench.clock.until_asleep()
    assert len(bench.receiver.requests) == 1
    bench.clock.advance(timedelta(seconds=0.5))
    await bench.receiver.until(0, requests=2)
    await bench.clock.until_asleep()
    await bench.restart()
    await bench.receiver.until(0, requests=3)
    await bench.clock.until_asleep()
    bench.clock.advance(timedelta(seconds=2.9))
    await bench.clock.until_asleep()
    assert len(bench.receiver.requests) == 3
    bench.clock.advance(timedelta(seconds=0.1))
    events = await bench.receiver.until(3)
    assert [event["sequence"] for event in events] == ["1", "2", "3"]
    bodies = [body for _, body, _ in bench.receiver.requests]
    assert bodies[:4] == [bodies[0]] * 4
    assert [headers["castcore-attempt"] for _, _, headers in bench.receiver.requests] == ["1", "2", "3", "4", "1", "1"]


async def test_a_door_tells_in_its_own_words_and_only_what_it_wants(bench: Bench):
    await bench.create(door="example", url="https://127.0.0.1:9/hook")
    await bench.happen(state=Booking.STATE_BOOKED)
    await bench.happen()
    (event,) = await bench.receiver.until(1)
    assert (event["type"], event["data"]) == ("org.example.active", {"booking": "b0"})
    assert not {"subject", "sequence", "correlationid"} & event.keys()


async def test_a_sink_has_its_fill_and_is_told_its_end_as_the_last(bench: Bench):
    name = await bench.create(door="example", url="https://127.0.0.1:9/hook", max_events=2, sink_id="mine")
    await bench.happen(5)
    events = await bench.receiver.until(3)
    assert [event["type"] for event in events] == ["org.example.active"] * 2 + ["org.example.ended"]
    assert events[2]["data"] == {"why": "EVENT_SINK_END_MAX_EVENTS", "id": "mine"}
    await bench.until_gone(name)
    assert bench.ended == [("mine", api.EVENT_SINK_END_MAX_EVENTS)]
    assert len(bench.receiver.taken) == 3


@pytest.mark.parametrize(
    ("wanted", "after", "why"),
    [
        ({"expires": T0 + timedelta(seconds=100)}, 100, "EXPIRED"),
        ({"credential": SinkCredential("t", T0 + timedelta(seconds=3600))}, 3540, "ACCESS_TOKEN_EXPIRED"),
        ({"credential": SinkCredential("t", T0 + timedelta(seconds=100))}, 90, "ACCESS_TOKEN_EXPIRED"),
    ],
)
async def test_a_sink_whose_time_or_whose_tokens_time_ends_is_told_so_and_ends(
    bench: Bench, wanted: dict[str, Any], after: float, why: str
):
    name = await bench.create(door="example", url="https://127.0.0.1:9/hook", **wanted)
    await bench.clock.until_asleep()
    bench.clock.advance(timedelta(seconds=after - 0.1))
    await bench.happen()
    await bench.receiver.until(1)
    await bench.clock.until_asleep()
    bench.clock.advance(timedelta(seconds=0.1))
    events = await bench.receiver.until(2)
    assert events[1]["data"]["why"] == f"EVENT_SINK_END_{why}"
    await bench.until_gone(name)
    await bench.happen()
    await bench.happen(agreement_id="acme")
    assert len(bench.receiver.taken) == 2


async def test_with_an_expired_token_nothing_is_sent_any_more_though_the_last_word_was_not_taken(bench: Bench):
    credential = SinkCredential("t", T0 + timedelta(seconds=3600))
    name = await bench.create(credential=credential)
    bench.receiver.answers = [NotSent("away")] * 1000
    await bench.clock.until_asleep()
    bench.clock.advance(timedelta(seconds=3540))
    await bench.receiver.until(0, requests=1)
    for _ in range(60):
        await bench.clock.until_asleep()
        bench.clock.advance(timedelta(seconds=1))
    await bench.until_gone(name)
    tried = len(bench.receiver.requests)
    await bench.happen()
    bench.clock.advance(timedelta(seconds=120))
    await bench.store.write(lambda tx: None)
    assert len(bench.receiver.requests) == tried


async def test_a_sink_that_is_ended_is_told_all_that_was_before_and_its_end(bench: Bench):
    bench.receiver.answers = [Answered(503)]
    name = await bench.create()
    await bench.happen(2)
    await bench.receiver.until(0, requests=1)
    await bench.end(name, why=api.EVENT_SINK_END_TERMINATED)
    await bench.end(name)
    await bench.happen()
    async with asyncio.timeout(20):
        while len(bench.receiver.taken) < 3:
            bench.clock.advance(timedelta(seconds=1))
            await asyncio.sleep(0)
    types = [event["type"].removeprefix("org.castcore.netapi.") for event in bench.receiver.taken]
    assert types == ["booking-state", "booking-state", "event-sink-ended"]
    assert bench.receiver.taken[2]["data"]["eventSink"]["end"] == "TERMINATED"
    await bench.until_gone(name)
    assert bench.ended == [(name, api.EVENT_SINK_END_TERMINATED)]


async def test_a_sink_may_end_without_another_word(bench: Bench):
    name = await bench.create()
    await bench.end(name, told=False)
    await bench.until_gone(name)
    await bench.happen()
    assert bench.receiver.requests == []


async def test_a_receiver_that_is_gone_ends_its_sink(bench: Bench):
    bench.receiver.answers = [Answered(410)]
    name = await bench.create()
    await bench.happen(2)
    await bench.until_gone(name)
    assert bench.ended == [(name, api.EVENT_SINK_END_GONE)]
    assert len(bench.receiver.requests) == 1
    told = await bench.store.read(lambda r: [event.type for event in r.events(0)])
    assert told[-1] == "EVENT_SINK_ENDED"


async def test_a_sink_may_be_told_its_beginning_first(bench: Bench):
    name = await bench.create(announced=True, event_types=["THRESHOLD_CROSSED"])
    await bench.happen()
    (event,) = await bench.receiver.until(1)
    assert (event["type"], event["subject"]) == ("org.castcore.netapi.event-sink-started", subject_of(name))
    found = await bench.store.read(lambda r: bench.sinks.require(r, name, "acme"))
    assert found.delivery.delivered_events == 0


async def test_no_event_and_no_answer_has_the_secrets(bench: Bench):
    credential = SinkCredential("opaque-token")
    name = await bench.create(credential=credential, secret="s3cret", announced=True)
    await bench.end(name, told=False)
    logged = await bench.store.read(lambda r: b"".join(event.SerializeToString() for event in r.events(0)))
    assert b"EventSinkChanged" in logged
    assert b"s3cret" not in logged
    assert b"opaque-token" not in logged


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"door": "example"}, InvalidSink),
        ({"url": "ftp://127.0.0.1/"}, InvalidArgument),
        ({"url": "http://192.0.2.1/"}, CallbackHostNotAllowed),
        ({"url": "http://169.254.169.254/"}, CallbackHostNotAllowed),
        ({"headers": {"Authorization": "Bearer mine"}}, InvalidArgument),
        ({"headers": {"Castcore-Signature": "sha256=00"}}, InvalidArgument),
        ({"headers": {"x-a": "b\r\nx-c: d"}}, InvalidArgument),
        ({"headers": {"": "b"}}, InvalidArgument),
        ({"credential": SinkCredential("t", T0)}, InvalidArgument),
        ({"expires": T0}, InvalidArgument),
    ],
)
async def test_a_sink_that_cannot_be_is_refused_and_nothing_of_it_stays(
    bench: Bench, wanted: dict[str, Any], error: type[Exception]
):
    with pytest.raises(error):
        await bench.create(**wanted)
    assert await bench.store.read(lambda r: r.all(api.EventSink)) == []
    assert await bench.store.read(lambda r: r.all(NotificationSubscription)) == []


async def test_a_lab_may_have_http_sinks_at_its_doors(store: Store):
    assert isinstance(store.clock, ManualClock)
    bench = Bench(store, store.clock, http_sinks=True)
    assert await bench.create(door="example")
