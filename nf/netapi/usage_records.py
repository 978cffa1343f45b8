"""What was used of a network access ID in all, and whether more may come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from nf.common.store import Reader, Transaction
from nf.netapi.callers import audience_of
from nf.netapi.v1.metering_pb2 import UsageMeter
from nf.netapi.v1.monitoring_pb2 import UsageRecord, UsageRecorded

SOURCE: Final = "netapi"


def record_of(meter: UsageMeter, now: datetime) -> UsageRecord:
    """The record as it stands."""
    return UsageRecord(
        network_access_id=meter.network_access_id,
        booking_id=meter.booking_id,
        area_id=meter.area_id,
        profile_id=meter.profile_id,
        peak_devices=meter.peak,
        devices=meter.devices,
        usage=meter.usage,
        used_ms=used_ms(meter, now),
        final=meter.final,
    )


def used_ms(meter: UsageMeter, now: datetime) -> int:
    """For how long in all at least one device has had it, up to now."""
    if not meter.HasField("in_use_since"):
        return meter.used_ms
    running = now - meter.in_use_since.ToDatetime(now.tzinfo)
    return meter.used_ms + max(0, round(running.total_seconds() * 1000))


def records_of(reader: Reader, booking_id: str) -> list[UsageRecord]:
    """The records of a booking, in the order in which its IDs were issued."""
    now = reader.clock.now()
    return [record_of(each, now) for each in reader.all(UsageMeter, parent=booking_id)]


def tell(transaction: Transaction, booking_id: str, meters: Sequence[UsageMeter]) -> None:
    """Tells the records of a booking that are final now."""
    now = transaction.clock.now()
    told = UsageRecorded(booking_id=booking_id, usage_records=[record_of(each, now) for each in meters])
    audience = tuple({audience_of(each.agreement_id) for each in meters})
    transaction.emit("USAGE_RECORDED", f"bookings/{booking_id}", told, source=SOURCE, audience=audience)
