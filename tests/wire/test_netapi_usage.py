"""What the UPF has measured of what is booked, as its provider sees it: usage, thresholds, records, on packets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.message import Message
from netapi_core import AMBR_BPS, ENDED, GFBR_BPS, IN_USE, MFBR_BPS, RADIO, SIZE, Core, conforming, netapi_core, of

from nf.common.v1.events_pb2 import WatchEventsRequest
from nf.netapi.v1 import booking_pb2 as booking
from nf.netapi.v1 import monitoring_pb2 as api


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    async with netapi_core(tmp_path) as made:
        yield made


async def told(core: Core, event_type: str, payload: Message) -> None:
    """Fills in the payload of the first event of this type, once there is one."""
    async with asyncio.timeout(20):
        async for answer in core.provider.bookings.WatchEvents(WatchEventsRequest()):
            if answer.event.type == event_type:
                assert answer.event.payload.Unpack(payload)
                return


async def usage_of(core: Core, made: booking.Booking, offered_packets: int) -> api.NetworkAccessUsage:
    """The usage, once as much has been reported."""
    request = api.GetBookingUsageRequest(booking_id=made.booking_id)
    async with asyncio.timeout(20):
        while True:
            (usage,) = (await core.provider.monitoring.GetBookingUsage(request)).usages
            if usage.usage.downlink.offered.packets >= offered_packets:
                return usage
            await asyncio.sleep(0)


@pytest.mark.clause("5G-MAG live media distribution monitor", "5G-MAG live media distribution notifications")
@pytest.mark.clause("5G-MAG live media distribution D.1")
async def test_usage_is_what_the_upf_counts_to_the_byte_and_final_after_the_release(core: Core) -> None:
    made = await core.book()
    await core.move(0)
    used = await core.use(made)
    (issued,) = made.network_access_ids
    wanted = api.Threshold(network_access_id=issued.network_access_id, metric=api.METRIC_LOSS, above=100_000)
    await core.provider.monitoring.CreateThreshold(api.CreateThresholdRequest(threshold=wanted))

    packets = core.traffic(radio_bps=GFBR_BPS, elsewhere_bps=AMBR_BPS // 2)
    core.clock.advance(timedelta(seconds=5))
    await core.drive(packets)
    sent = len(of(packets, RADIO))
    usage = await usage_of(core, made, sent)
    assert (usage.usage.downlink.conforming.packets, usage.usage.downlink.conforming.bytes) == (sent, sent * SIZE)
    assert (usage.devices, usage.devices_in_use, usage.peak_devices, usage.used) == (1, 1, 1, True)
    assert usage.loss_ppm == 0

    more = core.traffic(radio_bps=2 * MFBR_BPS, elsewhere_bps=AMBR_BPS // 2)
    core.clock.advance(timedelta(seconds=5))
    await core.drive(more)
    passed = conforming(of(more, RADIO), MFBR_BPS)[RADIO]
    offered = len(of(more, RADIO))
    usage = await usage_of(core, made, sent + offered)
    assert usage.usage.downlink.conforming.bytes == sent * SIZE + passed
    assert usage.usage.downlink.dropped.packets == offered - passed // SIZE
    crossed = api.ThresholdEvent()
    await told(core, "THRESHOLD_CROSSED", crossed)
    assert crossed.threshold.crossed
    assert crossed.usage.loss_ppm > 100_000

    await core.provider.bookings.ReleaseBooking(booking.ReleaseBookingRequest(booking_id=made.booking_id))
    await core.until(lambda each: each.state == ENDED)
    recorded = api.UsageRecorded()
    await told(core, "USAGE_RECORDED", recorded)
    records = api.GetUsageRecordsRequest(booking_id=made.booking_id)
    (record,) = (await core.provider.monitoring.GetUsageRecords(records)).usage_records
    assert list(recorded.usage_records) == [record]
    assert (record.final, record.devices, record.peak_devices, record.used_ms) == (True, 1, 1, 10_000)
    assert record.usage.downlink.conforming.bytes == sent * SIZE + passed
    assert used.state == IN_USE


@pytest.mark.clause("5G-MAG live media distribution monitor")
async def test_what_an_access_has_used_before_it_left_the_area_is_kept_and_added_to(core: Core) -> None:
    made = await core.book()
    await core.move(0)
    await core.use(made)
    total = 0
    for _ in range(2):
        packets = core.traffic(radio_bps=GFBR_BPS, elsewhere_bps=AMBR_BPS // 2, seconds=1)
        total += len(of(packets, RADIO))
        await core.drive(packets)
        await core.move(5_000)
        await core.until(lambda each: each.app_session_id == "")
        # What the network still measures of the device outside is best effort, and nobody's booking.
        await core.drive(core.traffic(radio_bps=GFBR_BPS // 4, elsewhere_bps=AMBR_BPS // 4, seconds=1))
        await core.move(0)
        await core.until(lambda each: each.state == IN_USE)
    usage = await usage_of(core, made, total)
    assert usage.usage.downlink.offered.packets == total
    assert usage.usage.downlink.conforming.bytes == total * SIZE
