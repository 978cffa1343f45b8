"""Events as CloudEvents 1.0 in structured JSON, and the signature that goes with them (RFC 2104).

What the platform's own events look like; a door has types and data of its own, in the same envelope.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from nf.common.codec import to_json
from nf.common.date_time import date_time_text
from nf.common.json_text import encode
from nf.common.v1.events_pb2 import Event
from nf.netapi.v1.monitoring_pb2 import EventSink

CONTENT_TYPE: Final = "application/cloudevents+json"
SIGNATURE_HEADER: Final = "castcore-signature"
OWN_TYPES: Final = "org.castcore.netapi."

Data: TypeAlias = Mapping[str, object]
# What a door makes of an event for one of its sinks: type and data of the CloudEvent; None: it is not told there.
CloudEventOf: TypeAlias = Callable[[Event, EventSink], tuple[str, Data] | None]


def own_cloud_event(event: Event, sink: EventSink) -> tuple[str, Data] | None:
    """Any event in castcore's own words: "BOOKING_STATE" is "org.castcore.netapi.booking-state"."""
    del sink
    return OWN_TYPES + event.type.lower().replace("_", "-"), to_json(payload_of(event))


def payload_of(event: Event) -> Message:
    """The message that belongs to the event's type."""
    descriptor = descriptor_pool.Default().FindMessageTypeByName(event.payload.type_url.rpartition("/")[2])
    return message_factory.GetMessageClass(descriptor).FromString(event.payload.value)


def envelope(event: Event, sink: EventSink, event_type: str, data: Data, *, source: str) -> bytes:
    """The CloudEvent for one sink. Every try has the same id, and no other event of this source has it.

    At the platform's own sinks it also says what it is about, where it stands in the event log, and what caused it.
    """
    tree: dict[str, object] = {
        "specversion": "1.0",
        "id": f"{sink.sink_id}.{event.sequence}",
        "source": source,
        "type": event_type,
        "time": date_time_text(event.event_time),
        "datacontenttype": "application/json",
    }
    if not sink.door:
        tree["subject"] = event.subject
        tree["sequence"] = str(event.sequence)
        if event.correlation_id:
            tree["correlationid"] = event.correlation_id
    return encode({**tree, "data": data})


def signature(secret: str, body: bytes) -> str:
    """The value of the header: HMAC-SHA256 of the body under the secret's UTF-8 bytes, hexadecimal."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
