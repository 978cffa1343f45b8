"""How resources of a running stack are read and shown: page by page, in columns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from nf.cli.figures import rate
from nf.cli.resources.tree import enum_text, time_text
from nf.common.channels import Channels
from nf.common.v1.types_pb2 import Snssai

Filters = Mapping[str, str]

# So many are asked for at a time.
PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Reading:
    """How a kind is read and shown: ``columns`` are heads and what of a resource stands below them."""

    items: Callable[[Channels, Filters], AsyncIterator[Message]]
    one: Callable[[Channels, str], Awaitable[Message]]
    columns: Sequence[tuple[str, Callable[[Message], str]]]


def _text(name: str) -> Callable[[Message], str]:
    """The field as it is: a dotted path; enums without prefix, times in RFC 3339, repeated fields by their number.

    Empty where what it belongs to is not set, or it is not true.
    """

    def shown(resource: Message) -> str:
        message = resource
        *above, last = name.split(".")
        for part in above:
            if not message.HasField(part):
                return ""
            message = getattr(message, part)
        field = message.DESCRIPTOR.fields_by_name[last]
        if field.has_presence and not message.HasField(last):
            return ""
        value = getattr(message, last)
        if field.is_repeated:
            return str(len(value))
        if isinstance(value, bool):
            return "yes" if value else ""
        if field.enum_type is not None:
            return enum_text(field.enum_type, value)
        if field.message_type is not None and field.message_type.name == "Timestamp":
            return time_text(value)
        if isinstance(value, Snssai):
            return f"{value.sst}-{value.sd}" if value.sd else str(value.sst)
        if last.endswith("_bps"):
            return rate(value) if value else ""
        if last.endswith("_bytes"):
            return f"{value:,}"
        return str(value)

    return shown


def columns(**fields: str) -> tuple[tuple[str, Callable[[Message], str]], ...]:
    """Heads and what stands below them: the paths of fields."""
    return tuple((head.replace("_", " "), _text(field)) for head, field in fields.items())
