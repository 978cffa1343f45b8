"""Meters as the store keeps them, and what they show of how a network access ID is used."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from nf.common.clock import to_ns
from nf.netapi.config import NetapiSection
from nf.netapi.usage import Sample, Window, is_settled, measure
from nf.netapi.v1.metering_pb2 import SessionUsage, UsageMeter, UsageSample
from nf.netapi.v1.monitoring_pb2 import NetworkAccessUsage

_NS_PER_MS = 1_000_000


def window_of(config: NetapiSection) -> Window:
    """Over how long means are taken, as configured."""
    return Window(round(config.usage_interval_s * 1e9), round(config.usage_lag_s * 1e9))


def series_of(kept: UsageMeter | SessionUsage) -> list[Sample]:
    """The samples that are kept."""
    return [
        Sample(each.at_ns, each.downlink_bytes, each.uplink_bytes, each.offered_packets, each.dropped_packets)
        for each in kept.samples
    ]


def keep_series(kept: UsageMeter | SessionUsage, series: Iterable[Sample]) -> None:
    """Keeps these samples in the place of others."""
    del kept.samples[:]
    kept.samples.extend(UsageSample(**each._asdict()) for each in series)


def usage_of_meter(meter: UsageMeter, booked_devices: int, now: datetime, window: Window) -> NetworkAccessUsage:
    """How a network access ID is used now. Rates and loss are absent where no device has it in use."""
    shown = NetworkAccessUsage(
        network_access_id=meter.network_access_id,
        booking_id=meter.booking_id,
        devices=meter.present,
        devices_in_use=meter.in_use,
        booked_devices=booked_devices,
        peak_devices=meter.peak,
        usage=meter.usage,
        used=meter.used,
    )
    series, now_ns = series_of(meter), to_ns(now)
    if not meter.in_use and is_settled(series, now_ns, window):
        return shown
    measured = measure(series, now_ns, window)
    if measured is None:
        return shown
    shown.downlink_bps, shown.uplink_bps = measured.downlink_bps, measured.uplink_bps
    if measured.loss_ppm is not None:
        shown.loss_ppm = measured.loss_ppm
    shown.interval_ms = round(measured.interval_ns / _NS_PER_MS)
    shown.measured_time.FromNanoseconds(measured.until_ns)
    return shown
