"""What a request for a geofence must be by itself, and when a geofence ends by itself (phase B step 1b)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from nf.common.errors import FieldViolation, InvalidArgument
from nf.netapi import geometry
from nf.netapi.devices import check_device
from nf.netapi.v1.location_pb2 import Geofence

EXPIRED: Final = "EXPIRED"
TOKEN_EXPIRED: Final = "TOKEN_EXPIRED"


def checked_request(requested: Geofence, now: datetime) -> Geofence:
    """What of the request counts. Raises InvalidArgument naming what is wrong."""
    found: list[FieldViolation] = []
    if not requested.entered and not requested.left:
        found.append(FieldViolation("geofence.entered", "expected it or left to be true, found neither"))
    if not requested.network_access_id:
        for field in ("device", "area"):
            if not requested.HasField(field):
                found.append(
                    FieldViolation(f"geofence.{field}", "expected one without a network_access_id, found none")
                )
    if requested.HasField("expire_time"):
        try:
            expiry = requested.expire_time.ToDatetime(UTC)
        except (ValueError, OverflowError):
            found.append(FieldViolation("geofence.expire_time", "expected a time, found none that there is"))
        else:
            if expiry <= now:
                why = f"expected a time to come, found {expiry.isoformat()}"
                found.append(FieldViolation("geofence.expire_time", why))
    if found:
        raise InvalidArgument.of_all(found)
    checked = Geofence(
        network_access_id=requested.network_access_id,
        entered=requested.entered,
        left=requested.left,
        initial_event=requested.initial_event,
        max_events=requested.max_events,
    )
    if requested.HasField("device"):
        checked.device.CopyFrom(check_device(requested.device, "geofence.device"))
    if requested.HasField("area"):
        geometry.check(requested.area, "geofence.area")
        checked.area.CopyFrom(requested.area)
    if requested.HasField("expire_time"):
        checked.expire_time.CopyFrom(requested.expire_time)
    return checked


def expiry_of(geofence: Geofence) -> tuple[datetime | None, str]:
    """When a geofence ends by itself (None: it does not), and why then."""
    ends = []
    if geofence.HasField("expire_time"):
        ends.append((geofence.expire_time.ToDatetime(UTC), EXPIRED))
    if geofence.HasField("token_expire_time"):
        ends.append((geofence.token_expire_time.ToDatetime(UTC), TOKEN_EXPIRED))
    return min(ends, default=(None, EXPIRED))
