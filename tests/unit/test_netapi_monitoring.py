"""Monitoring on a store, its clock moved by hand: what is counted, told, and final when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from nf.common.clock import ManualClock
from nf.common.errors import InvalidArgument, NotFound
from nf.common.store import Store, Transaction, url_for
from nf.common.v1.types_pb2 import PolicedVolume, Usage, Volume
from nf.netapi import thresholds, usage_records
from nf.netapi.callers import OPERATOR, Caller
from nf.netapi.config import NetapiSection
from nf.netapi.errors import BookingOver, NotMeasured
from nf.netapi.monitoring import Monitoring
from nf.netapi.v1 import monitoring_pb2 as api
from nf.netapi.v1.access_pb2 import Device, DeviceAccess
from nf.netapi.v1.booking_pb2 import Booking, NetworkAccessId
from nf.netapi.v1.coverage_pb2 import CAPABILITY_GEOFENCING, CAPABILITY_QUALITY_ON_DEMAND
from nf.pcf.v1.policy_authorization_pb2 import EventNotification

T0 = datetime(2026, 5, 1, 12, tzinfo=UTC)
CONFIG = NetapiSection(usage_interval_s=10, usage_lag_s=2, unused_after_s=60, threshold_period_s=1)
WAITING, IN_USE, ENDED = DeviceAccess.STATE_WAITING, DeviceAccess.STATE_IN_USE, DeviceAccess.STATE_ENDED
PROVIDER = Caller("acme")


class Bench:
    """A booking "b" of two areas ("n1", "n2") under "acme", with its monitoring."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store, self.clock = store, clock
        self.monitoring = Monitoring(store, CONFIG)
        self.booking = Booking(booking_id="b", agreement_id="acme", state=Booking.STATE_BOOKED)

    async def book(self) -> None:
        def work(tx: Transaction) -> None:
            for number in (1, 2):
                issued = NetworkAccessId(
                    network_access_id=f"n{number}", booking_id="b", area_id=f"a{number}", profile_id="p", active=True,
                    devices=5, capability=CAPABILITY_QUALITY_ON_DEMAND,
                )  # fmt: skip
                tx.insert(issued, issued.network_access_id, parent="b")
            tx.insert(self.booking, "b", parent="acme")

        await self.store.write(work)

    async def turn(self, state: Booking.State.ValueType) -> None:
        """The booking has this state from now on."""
        self.booking.state = state
        if state == Booking.STATE_ACTIVE:
            self.booking.current_period.start_time.FromDatetime(self.clock.now())

        def work(tx: Transaction) -> None:
            tx.update(self.booking, "b")
            self.monitoring.on_booking(tx, self.booking, ())

        await self.store.write(work)

    async def access(self, name: str, state: DeviceAccess.State.ValueType, *, ip: str = "", at: str = "n1") -> None:
        access = self._access(name, state, ip, at)
        await self.store.write(lambda tx: self.monitoring.on_access(tx, access, WAITING))

    async def report(self, session: str, passed: int, *, dropped: int = 0, at: datetime | None = None) -> None:
        """A cumulative report: packets of 1000 bytes."""
        volumes = {
            "offered": _packets(passed + dropped),
            "conforming": _packets(passed),
            "dropped": _packets(dropped),
        }
        usage = Usage(downlink=PolicedVolume(**volumes))
        told = EventNotification(app_session_id=session, usage=usage)
        access = self._access(session.partition(".")[0], IN_USE, "", "n1")
        when = at or self.clock.now()
        await self.store.write(lambda tx: self.monitoring.on_usage(tx, access, told, when))

    async def usage(self, name: str = "n1") -> api.NetworkAccessUsage:
        return await self.store.read(lambda r: self.monitoring.usage_of(r, r.require(NetworkAccessId, name)))

    async def events(self, kind: type[Message], *types: str) -> list[Message]:
        told = []
        for event in await self.store.read(lambda r: r.events(0)):
            if event.type in types:
                payload = kind()
                assert event.payload.Unpack(payload)
                assert list(event.audience) == ["agreement/acme"]
                told.append(payload)
        return told

    async def until(self, count: int, kind: type[Message], *types: str) -> list[Message]:
        """These events, once there are so many."""
        sequence = 0
        while len(found := await self.events(kind, *types)) < count:
            await self.store.wait_sequence(sequence)
            sequence = self.store.sequence
        return found

    async def pass_time(self, seconds: float) -> None:
        """Time passes; the timer has slept before."""
        await self.clock.until_asleep()
        self.clock.advance(timedelta(seconds=seconds))

    def _access(self, name: str, state: DeviceAccess.State.ValueType, ip: str, at: str) -> DeviceAccess:
        return DeviceAccess(
            access_id=name, network_access_id=at, booking_id="b", agreement_id="acme", state=state,
            device=Device(ipv4_address=ip or "10.0.0.1"),
        )  # fmt: skip


def _packets(count: int) -> Volume:
    return Volume(packets=count, bytes=1000 * count)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = ManualClock(T0)
    store = Store.open(url_for(tmp_path, "netapi"), clock=clock)
    bench = Bench(store, clock)
    await bench.book()
    await bench.turn(Booking.STATE_BOOKED)
    await bench.turn(Booking.STATE_ACTIVE)
    yield bench
    await bench.monitoring.stop()
    await store.close()


@pytest.mark.clause("5G-MAG live media distribution monitor")
async def test_usage_is_the_sum_of_all_sessions_ended_ones_included_with_rates_and_loss(bench: Bench):
    await bench.access("x", IN_USE, ip="10.0.0.1")
    await bench.access("y", IN_USE, ip="10.0.0.2")
    for second in range(1, 13):
        bench.clock.advance(timedelta(seconds=1))
        await bench.report("x.1", 125 * second)
        await bench.report("y.1", 250 * second, dropped=25 * second)
    found = await bench.usage()
    assert (found.devices, found.devices_in_use, found.peak_devices, found.booked_devices) == (2, 2, 2, 5)
    # (125 + 250) packets of 8000 bits in a second, of 400 offered 25 dropped.
    assert (found.downlink_bps, found.uplink_bps) == (3_000_000, 0)
    assert abs(found.loss_ppm - 62_500) < 100
    assert found.interval_ms == 10_000
    assert found.measured_time.ToDatetime(UTC) == bench.clock.now()
    assert not found.HasField("delay_ms")
    await bench.access("x", WAITING)
    await bench.access("x", IN_USE)
    # Another installation of the same access counts from nothing again.
    await bench.report("x.2", 10)
    await bench.access("x", ENDED)
    await bench.report("x.1", 1600)
    found = await bench.usage()
    assert found.usage.downlink.conforming == _packets(1600 + 10 + 3000)
    assert found.usage.downlink.dropped == _packets(300)
    assert (found.devices, found.devices_in_use, found.used) == (1, 1, True)


async def test_reports_that_come_twice_or_late_count_once(bench: Bench):
    await bench.access("x", IN_USE)
    for passed in (10, 30, 30, 20, 30):
        await bench.report("x.1", passed)
    assert (await bench.usage()).usage.downlink.conforming == _packets(30)


async def test_rates_fall_to_nothing_when_nothing_is_reported_and_are_absent_when_nobody_uses_it(bench: Bench):
    await bench.access("x", IN_USE)
    bench.clock.advance(timedelta(seconds=2))
    await bench.report("x.1", 1000)
    assert (await bench.usage()).downlink_bps == 4_000_000
    bench.clock.advance(timedelta(seconds=12))
    assert (await bench.usage()).downlink_bps == 0
    await bench.access("x", WAITING)
    bench.clock.advance(timedelta(seconds=1))
    found = await bench.usage()
    assert not found.HasField("downlink_bps")
    assert not found.HasField("loss_ppm")
    assert found.devices == 1


async def test_an_access_that_is_told_twice_is_counted_once_and_a_device_once_however_often_it_comes(bench: Bench):
    for _ in range(2):
        await bench.access("x", IN_USE)
    await bench.access("x", ENDED)
    await bench.access("x", ENDED)
    await bench.access("z", IN_USE)
    found = await bench.usage()
    assert (found.devices, found.devices_in_use, found.peak_devices) == (1, 1, 1)
    (record, _) = await bench.store.read(lambda r: usage_records.records_of(r, "b"))
    assert (record.devices, record.peak_devices) == (1, 1)


@pytest.mark.clause("5G-MAG live media distribution monitor")
async def test_a_booking_that_nobody_uses_is_told_once_in_a_period(bench: Bench):
    await bench.access("x", IN_USE)
    await bench.monitoring.start()
    await bench.pass_time(60)
    (unused,) = await bench.until(1, api.BookingUnused, "BOOKING_UNUSED")
    assert unused == api.BookingUnused(booking_id="b", network_access_ids=["n2"])
    await bench.access("x", WAITING)
    await bench.pass_time(59)
    await bench.access("x", IN_USE)
    await bench.access("x", WAITING)
    await bench.pass_time(60)
    told = await bench.until(2, api.BookingUnused, "BOOKING_UNUSED")
    assert told[1] == api.BookingUnused(booking_id="b", network_access_ids=["n1"])
    await bench.access("x", IN_USE)
    await bench.access("x", WAITING)
    bench.clock.advance(timedelta(seconds=600))
    await bench.turn(Booking.STATE_BOOKED)
    assert len(await bench.events(api.BookingUnused, "BOOKING_UNUSED")) == 2
    await bench.turn(Booking.STATE_ACTIVE)
    await bench.pass_time(60)
    told = await bench.until(3, api.BookingUnused, "BOOKING_UNUSED")
    assert sorted(told[2].network_access_ids) == ["n1", "n2"]


async def test_nothing_is_told_of_between_periods(bench: Bench):
    await bench.turn(Booking.STATE_BOOKED)
    await bench.monitoring.start()
    bench.clock.advance(timedelta(hours=1))
    await bench.report("x.1", 1)
    assert await bench.events(api.BookingUnused, "BOOKING_UNUSED") == []


@pytest.mark.clause("5G-MAG live media distribution notifications")
async def test_a_threshold_is_told_when_it_is_crossed_by_reports_and_restored_by_time_alone(bench: Bench):
    wanted = api.Threshold(network_access_id="n1", metric=api.METRIC_DOWNLINK_THROUGHPUT, above=2_000_000, for_ms=2000)
    made = await bench.store.write(lambda tx: thresholds.create(tx, PROVIDER, wanted))
    await bench.access("x", IN_USE)
    for second in range(1, 5):
        bench.clock.advance(timedelta(seconds=1))
        await bench.report("x.1", 500 * second)
    (crossed,) = await bench.events(api.ThresholdEvent, "THRESHOLD_CROSSED")
    assert crossed.threshold.threshold_id == made.threshold_id
    assert crossed.threshold.crossed
    assert (crossed.usage.downlink_bps, crossed.usage.interval_ms) == (4_000_000, 3000)
    assert crossed.threshold.beyond_since.ToDatetime(UTC) == T0 + timedelta(seconds=1)
    # Nothing comes any more.
    await bench.monitoring.start()
    for _ in range(16):
        await bench.pass_time(1)
    (restored,) = await bench.until(1, api.ThresholdEvent, "THRESHOLD_RESTORED")
    assert not restored.threshold.crossed
    assert restored.usage.downlink_bps <= 2_000_000


async def test_too_few_devices_are_told_of_after_their_time_without_any_report(bench: Bench):
    wanted = api.Threshold(network_access_id="n1", metric=api.METRIC_DEVICES, below=1, for_ms=5000)

    def work(tx: Transaction) -> None:
        thresholds.create(tx, PROVIDER, wanted)
        bench.monitoring.look_soon(tx, "n1")

    await bench.access("x", IN_USE)
    await bench.store.write(work)
    await bench.monitoring.start()
    await bench.access("x", WAITING)
    await bench.pass_time(4.999)
    assert await bench.events(api.ThresholdEvent, "THRESHOLD_CROSSED") == []
    await bench.pass_time(0.001)
    (crossed,) = await bench.until(1, api.ThresholdEvent, "THRESHOLD_CROSSED")
    assert crossed.usage.devices_in_use == 0
    await bench.access("x", IN_USE)
    assert len(await bench.events(api.ThresholdEvent, "THRESHOLD_RESTORED")) == 1


async def test_too_few_devices_are_no_news_between_periods(bench: Bench):
    wanted = api.Threshold(network_access_id="n1", metric=api.METRIC_DEVICES, below=1)
    await bench.turn(Booking.STATE_BOOKED)
    await bench.store.write(lambda tx: thresholds.create(tx, PROVIDER, wanted))
    await bench.access("x", WAITING)
    assert await bench.events(api.ThresholdEvent, "THRESHOLD_CROSSED") == []
    await bench.turn(Booking.STATE_ACTIVE)
    assert len(await bench.events(api.ThresholdEvent, "THRESHOLD_CROSSED")) == 1
    await bench.turn(Booking.STATE_BOOKED)
    assert len(await bench.events(api.ThresholdEvent, "THRESHOLD_RESTORED")) == 1


async def test_a_threshold_stands_over_a_restart(bench: Bench):
    wanted = api.Threshold(network_access_id="n1", metric=api.METRIC_DEVICES, above=0, for_ms=3000)
    await bench.store.write(lambda tx: thresholds.create(tx, PROVIDER, wanted))
    await bench.access("x", IN_USE)
    bench.clock.advance(timedelta(seconds=3))
    again = Monitoring(bench.store, CONFIG)
    await again.start()
    await bench.until(1, api.ThresholdEvent, "THRESHOLD_CROSSED")
    await again.stop()


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (api.Threshold(metric=api.METRIC_DEVICES, above=1), "threshold.network_access_id"),
        (api.Threshold(network_access_id="n1", above=1), "threshold.metric"),
        (api.Threshold(network_access_id="n1", metric=api.METRIC_DEVICES), "threshold.above"),
        (api.Threshold(network_access_id="n1", metric=api.METRIC_DEVICES, above=1, below=2), "threshold.above"),
        (api.Threshold(network_access_id="n1", metric=api.METRIC_DEVICES, below=0), "threshold.below"),
        (api.Threshold(network_access_id="n1", metric=api.METRIC_LOSS, above=1_000_001), "threshold.above"),
    ],
)
async def test_a_threshold_that_cannot_be_is_refused_and_what_is_wrong_named(
    bench: Bench, wanted: api.Threshold, field: str
):
    with pytest.raises(InvalidArgument) as refused:
        await bench.store.write(lambda tx: thresholds.create(tx, PROVIDER, wanted))
    assert [each.field for each in refused.value.violations] == [field]


async def test_what_nothing_measures_others_own_and_what_is_over_have_no_thresholds(bench: Bench):
    devices = api.Threshold(network_access_id="n1", metric=api.METRIC_DEVICES, above=1)
    delay = api.Threshold(network_access_id="n1", metric=api.METRIC_DELAY, above=1)
    with pytest.raises(NotFound, match="n1"):
        await bench.store.write(lambda tx: thresholds.create(tx, Caller("rival"), devices))
    with pytest.raises(NotMeasured):
        await bench.store.write(lambda tx: thresholds.create(tx, PROVIDER, delay))
    fence = NetworkAccessId(network_access_id="g", booking_id="b", capability=CAPABILITY_GEOFENCING)
    await bench.store.write(lambda tx: tx.insert(fence, "g"))
    loss = api.Threshold(network_access_id="g", metric=api.METRIC_LOSS, above=1)
    with pytest.raises(NotMeasured, match="geofencing"):
        await bench.store.write(lambda tx: thresholds.create(tx, PROVIDER, loss))
    made = await bench.store.write(lambda tx: thresholds.create(tx, OPERATOR, devices))
    await bench.store.write(lambda tx: thresholds.remove(tx, Caller("rival"), made.threshold_id))
    listed = await bench.store.read(lambda r: thresholds.page(r, PROVIDER, "", page_size=0, page_token=""))
    assert listed.items == [made]
    assert made.agreement_id == "acme"
    await bench.turn(Booking.STATE_EXPIRED)
    with pytest.raises(BookingOver):
        await bench.store.write(lambda tx: thresholds.create(tx, PROVIDER, devices))
    listed = await bench.store.read(lambda r: thresholds.page(r, PROVIDER, "n1", page_size=0, page_token=""))
    assert listed.items == []


@pytest.mark.clause("5G-MAG live media distribution D.1")
async def test_a_record_is_final_when_the_booking_is_over_and_the_last_access_has_ended(bench: Bench):
    await bench.access("x", IN_USE)
    bench.clock.advance(timedelta(seconds=7))
    await bench.access("y", IN_USE, ip="10.0.0.2")
    await bench.report("x.1", 70)
    await bench.turn(Booking.STATE_RELEASED)
    await bench.access("x", ENDED)
    bench.clock.advance(timedelta(seconds=3))
    running = await bench.store.read(lambda r: usage_records.records_of(r, "b"))
    assert [each.final for each in running] == [False, False]
    assert running[0].used_ms == 10_000
    assert await bench.events(api.UsageRecorded, "USAGE_RECORDED") == []
    await bench.report("y.1", 7)
    await bench.access("y", ENDED)
    (told,) = await bench.events(api.UsageRecorded, "USAGE_RECORDED")
    final = await bench.store.read(lambda r: usage_records.records_of(r, "b"))
    assert list(told.usage_records) == final
    first, second = final
    assert (first.final, first.peak_devices, first.devices, first.used_ms) == (True, 2, 2, 10_000)
    assert first.usage.downlink.conforming == _packets(77)
    assert (first.area_id, first.profile_id) == ("a1", "p")
    assert (second.final, second.devices, second.used_ms) == (True, 0, 0)
    # A report that comes after all is not lost, and told.
    await bench.report("y.1", 8)
    told = await bench.events(api.UsageRecorded, "USAGE_RECORDED")
    assert told[1].usage_records[0].usage.downlink.conforming == _packets(78)


@settings(max_examples=10)
@given(st.lists(st.tuples(st.sampled_from(["x.1", "x.2", "y.1"]), st.integers(0, 1000)), max_size=25))
async def test_the_sum_is_exact_whatever_the_order_of_reports(reports: list[tuple[str, int]]):
    with TemporaryDirectory() as folder:
        clock = ManualClock(T0)
        store = Store.open(url_for(Path(folder), "netapi"), clock=clock)
        bench = Bench(store, clock)
        await bench.book()
        for session, passed in reports:
            await bench.report(session, passed)
        most = {name: max(passed for each, passed in reports if each == name) for name, _ in reports}
        assert (await bench.usage()).usage.downlink.conforming == _packets(sum(most.values()))
        await store.close()
