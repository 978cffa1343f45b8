"""What subscriptions of CAMARA APIs have in common: how they are delivered, when they end, whose they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from nf.common.errors import InvalidArgument
from nf.common.json_text import SHOWN_LENGTH
from nf.common.store import Reader
from nf.netapi.attachments import device_key
from nf.netapi.callers import Caller

_HTTP: Final = "HTTP"
_POST: Final = "POST"


def check_delivery(protocol: str, method: str | None) -> None:
    """Raises InvalidArgument unless events are to be sent by HTTP, by POST where that is said."""
    if protocol != _HTTP:
        found = repr(protocol[:SHOWN_LENGTH])
        raise InvalidArgument(f"protocol: expected {_HTTP}, found {found}", reason="INVALID_PROTOCOL")
    if method is not None and method != _POST:
        raise InvalidArgument.of("protocolSettings.method", f"expected {_POST}, found {method[:SHOWN_LENGTH]!r}")


def check_expiry(expires: Timestamp, now: datetime) -> datetime:
    """When a subscription ends, which is to come. Raises InvalidArgument."""
    end = expires.ToDatetime(UTC)
    if end <= now:
        field = "config.subscriptionExpireTime"
        raise InvalidArgument.of(field, f"expected a time to come, found {expires.ToJsonString()}")
    return end


def seen_by(reader: Reader, caller: Caller) -> Callable[[str], bool]:
    """Whether a caller may know of a subscription, by its device's key: the user of a device of its own only."""
    if caller.device is None:
        return lambda _: True
    own = device_key(reader, caller.device)
    return lambda key: key == own
