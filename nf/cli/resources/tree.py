"""Messages as trees for scripts: names and units of the contracts, whole numbers, enums without their prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

if TYPE_CHECKING:
    from google._upb._message import EnumDescriptor as UpbEnumDescriptor
    from google._upb._message import FieldDescriptor as UpbFieldDescriptor
    from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

Tree: TypeAlias = "dict[str, Tree] | list[Tree] | str | int | float | bool | None"


def tree_of(message: Message) -> dict[str, Tree]:
    """The message by its field names. What can be absent is left out when it is; everything else is always there."""
    tree: dict[str, Tree] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if _is_map(field):
            held = field.message_type.fields_by_name["value"]  # type: ignore[union-attr]
            tree[field.name] = {str(key): _value(held, each) for key, each in value.items()}
        elif field.is_repeated:
            tree[field.name] = [_value(field, each) for each in value]
        else:
            tree[field.name] = _value(field, value)
    return tree


def enum_text(enum: EnumDescriptor | UpbEnumDescriptor, number: int) -> str:
    """The value's name without the prefix that the enum's values share; "" for the unspecified one."""
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    first = enum.values[0].name
    if value.name == first:
        return ""
    return value.name.removeprefix(first.removesuffix("UNSPECIFIED"))


def time_text(time: Timestamp) -> str:
    """RFC 3339, UTC."""
    return time.ToJsonString()


def _is_map(field: FieldDescriptor | UpbFieldDescriptor) -> bool:
    return field.is_repeated and field.message_type is not None and field.message_type.GetOptions().map_entry


def _value(field: FieldDescriptor | UpbFieldDescriptor, value: object) -> Tree:
    if isinstance(value, Timestamp):
        return time_text(value)
    if isinstance(value, AnyMessage):
        return _payload(value)
    if isinstance(value, Message):
        return tree_of(value)
    if field.enum_type is not None:
        assert isinstance(value, int)
        return enum_text(field.enum_type, value)
    if isinstance(value, bytes):
        return value.hex()
    assert isinstance(value, str | int | float | bool)
    return value


def _payload(packed: AnyMessage) -> Tree:
    """What is packed, named by its type; of a type that is not known here the name alone."""
    name = packed.TypeName()
    try:
        message = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))()
    except KeyError:
        return {"@type": name}
    packed.Unpack(message)
    return {"@type": name, **tree_of(message)}
