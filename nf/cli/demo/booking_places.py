"""Where the demo's areas are, and what can be booked there."""

from __future__ import annotations

from typing import Final

from nf.cli.demo.booking_media import Encoding
from nf.cli.demo.booking_network import DNN
from nf.netapi.v1 import coverage_pb2 as coverage

# Two regions of a station along the road from Vienna to Linz.
EAST, WEST = "vienna", "linz"
EDITIONS: Final = {EAST: "VIE", WEST: "LNZ"}
# What is played where no region is.
NATIONAL: Final = "NAT"

RADIO, RADIO_HD, REGION = "radio", "radio-hd", "region"
# What is sent, a little less than what is booked for it.
STANDARD: Final = Encoding(1_000)
HIGH: Final = Encoding(1_350)
RADIO_BPS: Final = 320_000
RADIO_HD_BPS: Final = 400_000

_EAST: Final = ((48.10, 16.20), (48.10, 16.60), (48.32, 16.60), (48.32, 16.20))
_WEST_CENTER: Final = (48.306, 14.286)
_WEST_RADIUS_M: Final = 15_000

# Where the listeners who stay are.
IN_EAST: Final = (48.21, 16.37)
IN_WEST: Final = (48.30, 14.29)

# The car's track, stretch by stretch: where it is, and by which points it drives.
TRACK: Final = (
    ("", ((48.15, 17.05), (48.18, 16.85))),
    (EAST, ((48.19, 16.50), (48.20, 16.38), (48.21, 16.25))),
    ("", ((48.20, 15.63), (48.13, 15.14))),
    (WEST, ((48.25, 14.44), (48.30, 14.30))),
    ("", ((48.16, 14.03),)),
)


def areas() -> list[coverage.ServiceArea]:
    """The two regions, with what can be booked in them."""
    capacity = coverage.AreaCapacity(downlink_bps=100_000_000, uplink_bps=20_000_000, devices=200)
    boundary = [point(each) for each in _EAST]
    return [
        coverage.ServiceArea(
            area_id=EAST,
            name="Vienna",
            geometry=coverage.Geometry(polygon=coverage.Polygon(boundary=boundary)),
            capacity=capacity,
        ),
        coverage.ServiceArea(
            area_id=WEST,
            name="Linz",
            geometry=coverage.Geometry(circle=coverage.Circle(center=point(_WEST_CENTER), radius_m=_WEST_RADIUS_M)),
            capacity=capacity,
        ),
    ]


def profiles() -> list[coverage.CapabilityProfile]:
    """Quality on Demand for two encodings, and geofencing."""
    return [
        _quality(RADIO, "live audio without interruptions", RADIO_BPS, price=2),
        _quality(RADIO_HD, "the same in high quality", RADIO_HD_BPS, price=3),
        coverage.CapabilityProfile(
            profile_id=REGION,
            description="which editorial region a listener is in",
            capability=coverage.CAPABILITY_GEOFENCING,
            geofencing=coverage.GeofencingProfile(verify=True, retrieve=True, notify=True),
            price_units_per_device_hour=1,
        ),
    ]


def point(place: tuple[float, float]) -> coverage.Point:
    """Of latitude and longitude."""
    return coverage.Point(latitude=place[0], longitude=place[1])


def _quality(profile_id: str, description: str, rate_bps: int, *, price: int) -> coverage.CapabilityProfile:
    return coverage.CapabilityProfile(
        profile_id=profile_id,
        description=description,
        capability=coverage.CAPABILITY_QUALITY_ON_DEMAND,
        qos=coverage.QosProfile(
            five_qi=3,
            guaranteed_downlink_bps=rate_bps,
            max_downlink_bps=rate_bps,
            packet_delay_budget_ms=50,
            packet_error_loss_ppm=1000,
        ),
        dnn=DNN,
        price_units_per_device_hour=price,
    )
