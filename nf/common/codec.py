"""Protos as the JSON of 3GPP APIs and back, driven by the descriptors and their options.

BitRate strings, enums without their prefix, 64-bit integers as numbers, what is set kept though it is false; unknown
properties are ignored (TS 29.500 §6.6.2), wrong types refused. Each descriptor is read once, into a plan of functions.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, Protocol, TypeAlias, TypeVar, cast

from google.protobuf import descriptor_pool
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from nf.common.bit_rate import bit_rate_text
from nf.common.codec_values import (
    Refused,
    entry_of,
    enum_texts,
    expected,
    format_of,
    is_map,
    is_timestamp,
    read_date_time,
    reader_of,
)
from nf.common.date_time import date_time_text
from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.json_text import SHOWN_LENGTH, decode, encode
from nf.common.v1 import options_pb2 as options

M = TypeVar("M", bound=Message)

_Write: TypeAlias = Callable[[object], object]
_WriteMessage: TypeAlias = Callable[[Message], dict[str, object]]
_Set: TypeAlias = Callable[[Message, object], None]

_FD: Final = FieldDescriptor
_MAX_VIOLATIONS: Final = 32


def to_json(message: Message, *, internal: bool = False) -> dict[str, object]:
    """The message as a JSON object; ``internal``: with castcore's own properties."""
    return _plan_of(_descriptor_of(message), _Extent.ALL if internal else _Extent.API).write(message)


def answer_json(message: Message) -> dict[str, object]:
    """The message as a JSON object for a client: without what is its to set and nobody's to read."""
    return _plan_of(_descriptor_of(message), _Extent.ANSWER).write(message)


def from_json(message_type: type[M], tree: object, *, internal: bool = False, strict: bool = False) -> M:
    """The message that a JSON value describes; ``strict``: with no property that the message does not have.

    Raises InvalidArgument with a violation for every property that is missing or of another type or form than expected.
    """
    message = message_type()
    extent = _Extent.STRICT if strict else _Extent.ALL if internal else _Extent.API
    try:
        _plan_of(_descriptor_of(message_type), extent).fill(message, tree)
    except Refused as refused:
        found = refused.violations[:_MAX_VIOLATIONS]
        raise InvalidArgument(
            "; ".join(f"{each.field or 'body'}: {each.description}" for each in found), violations=found
        ) from None
    return message


def dumps(message: Message, *, internal: bool = False) -> bytes:
    """The message as the text of a JSON object."""
    return encode(to_json(message, internal=internal))


def loads(message_type: type[M], body: bytes, *, internal: bool = False, strict: bool = False) -> M:
    """The message that the text of a JSON object describes. Raises InvalidArgument."""
    return from_json(message_type, decode(body), internal=internal, strict=strict)


def json_path(descriptor: Descriptor | None, path: str) -> str:
    """The path of a property in JSON for a path of proto field names; a first name that is unknown is left out.

    The domain's words for a request's parts: ``policy_template.qos_specification.max_btr_dl_bps`` is
    ``qoSSpecification.maxBtrDl`` of a policy template. What is no path of the message comes back as it is.
    """
    names = path.split(".")
    for start in (0, 1):
        found = _json_names(descriptor, names[start:])
        if found:
            return found
    return path


def enum_text(descriptor: EnumDescriptor | None, number: int) -> str:
    """The value as JSON has it; a number that the contract does not know, as digits."""
    return enum_texts(descriptor).get(number, str(number))


class _Items(Protocol):
    """A repeated field."""

    def add(self) -> Message: ...

    def append(self, item: object) -> None: ...


class _Extent(Enum):
    """Which properties there are."""

    # Those of the API.
    API = 0
    # castcore's own too.
    ALL = 1
    # Those of the API that clients may read.
    ANSWER = 2
    # Those of the API, and whatever else is there is refused.
    STRICT = 3


class _Plan:
    """How the messages of one type are written and filled."""

    __slots__ = ("fill", "write")

    write: _WriteMessage
    fill: _Set


_plans: dict[tuple[str, _Extent], _Plan] = {}


def _descriptor_of(message: Message | type[Message]) -> Descriptor:
    return cast(Descriptor, message.DESCRIPTOR)


def _plan_of(descriptor: Descriptor | None, extent: _Extent) -> _Plan:
    assert descriptor is not None
    key = (descriptor.full_name, extent)
    plan = _plans.get(key)
    if plan is None:
        # Known before it is made: messages may hold each other.
        plan = _plans[key] = _Plan()
        if descriptor.full_name == AnyMessage.DESCRIPTOR.full_name:
            plan.write, plan.fill = _any_plan(extent)
        else:
            plan.write, plan.fill = _message_plan(descriptor, extent)
    return plan


def _message_plan(descriptor: Descriptor, extent: _Extent) -> tuple[_WriteMessage, _Set]:
    shown = [
        each
        for each in descriptor.fields
        if extent is _Extent.ALL or not each.GetOptions().Extensions[options.internal]
    ]
    if extent is _Extent.ANSWER:
        shown = [each for each in shown if not each.GetOptions().Extensions[options.write_only]]
    writers = {field.number: (field.json_name, _writer_of(field, extent)) for field in shown}
    setters = {field.json_name: _setter_of(field, extent) for field in shown}
    required = [field for field in shown if field.GetOptions().Extensions[options.required]]
    # Written though nothing is set: what has no presence of its own. An enum has no value that says so.
    lists = [field.json_name for field in required if field.is_repeated and not is_map(field)]
    scalars = [
        (field.json_name, writers[field.number][1](field.default_value))
        for field in required
        if not (field.is_repeated or field.has_presence or field.cpp_type == _FD.CPPTYPE_ENUM)
    ]
    demanded = [field.json_name for field in required if not field.GetOptions().Extensions[options.read_only]]

    def write(message: Message) -> dict[str, object]:
        tree: dict[str, object] = {}
        for field, value in message.ListFields():
            entry = writers.get(field.number)
            if entry is not None:
                tree[entry[0]] = entry[1](value)
        for name in lists:
            if name not in tree:
                tree[name] = []
        for name, default in scalars:
            if name not in tree:
                tree[name] = default
        return tree

    def fill(message: Message, tree: object) -> None:
        if type(tree) is not dict:
            raise expected("an object", tree)
        wrong: tuple[FieldViolation, ...] = ()
        for name, value in tree.items():
            setter = setters.get(name)
            if setter is not None:
                try:
                    setter(message, value)
                except Refused as refused:
                    wrong += refused.under(name)
            elif extent is _Extent.STRICT:
                wrong += (FieldViolation(name, "expected nothing of this name"),)
        for name in demanded:
            if name not in tree:
                wrong += (FieldViolation(name, "expected, found nothing"),)
        if wrong:
            raise Refused(*wrong)

    return write, fill


def _any_plan(extent: _Extent) -> tuple[_WriteMessage, _Set]:
    def write(message: Message) -> dict[str, object]:
        wrapped = cast(AnyMessage, message)
        name = wrapped.TypeName()
        try:
            content = GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))()
        except KeyError:
            return {"@type": wrapped.type_url}
        wrapped.Unpack(content)
        return {"@type": name, **_plan_of(_descriptor_of(content), extent).write(content)}

    def fill(message: Message, tree: object) -> None:
        name = tree.get("@type") if isinstance(tree, dict) else None
        if not isinstance(name, str):
            raise expected("an object with the property @type", tree)
        try:
            content = GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))()
        except KeyError:
            raise Refused(FieldViolation("@type", f"expected a known type, found {name[:SHOWN_LENGTH]!r}")) from None
        _plan_of(_descriptor_of(content), extent).fill(content, tree)
        cast(AnyMessage, message).Pack(content)

    return write, fill


def _writer_of(field: FieldDescriptor, extent: _Extent) -> _Write:
    if is_map(field):
        write_value = _element_writer(entry_of(field)["value"], extent)
        return lambda value: {
            str(key): write_value(each) for key, each in cast("Mapping[object, object]", value).items()
        }
    write = _element_writer(field, extent)
    if field.is_repeated:
        return lambda value: [write(each) for each in cast("list[object]", value)]
    return write


def _element_writer(field: FieldDescriptor, extent: _Extent) -> _Write:
    kind = field.cpp_type
    if kind == _FD.CPPTYPE_MESSAGE:
        if is_timestamp(field):
            return lambda value: date_time_text(cast(Timestamp, value))
        plan = _plan_of(field.message_type, extent)
        return lambda value: plan.write(cast(Message, value))
    if kind == _FD.CPPTYPE_ENUM:
        texts = enum_texts(field.enum_type)
        return lambda value: texts.get(cast(int, value), str(value))
    if field.type == _FD.TYPE_BYTES:
        return lambda value: base64.b64encode(cast(bytes, value)).decode()
    if format_of(field) == options.FORMAT_BIT_RATE:
        return lambda value: bit_rate_text(cast(int, value))
    return lambda value: value


def _setter_of(field: FieldDescriptor, extent: _Extent) -> _Set:
    name = field.name
    if is_map(field):
        return _map_setter(field, extent)
    if field.is_repeated:
        return _list_setter(field, extent)
    if field.cpp_type == _FD.CPPTYPE_MESSAGE and not is_timestamp(field):
        plan = _plan_of(field.message_type, extent)

        def set_message(message: Message, value: object) -> None:
            part = getattr(message, name)
            part.SetInParent()
            plan.fill(part, value)

        return _one_of(field, set_message)
    if is_timestamp(field):

        def set_timestamp(message: Message, value: object) -> None:
            seconds, nanos = read_date_time(value)
            part = getattr(message, name)
            part.seconds, part.nanos = seconds, nanos
            part.SetInParent()

        return _one_of(field, set_timestamp)
    read = reader_of(field)

    def set_scalar(message: Message, value: object) -> None:
        setattr(message, name, read(value))

    return _one_of(field, set_scalar)


def _one_of(field: FieldDescriptor, setter: _Set) -> _Set:
    choice = field.containing_oneof
    # An optional scalar has a oneof of its own, which is no choice.
    if choice is None or len(choice.fields) == 1:
        return setter
    name = choice.name
    names = {each.name: each.json_name for each in choice.fields}

    def set_one(message: Message, value: object) -> None:
        other = message.WhichOneof(name)
        if other is not None:
            raise Refused(
                FieldViolation("", f"expected only one of {', '.join(names.values())}, found {names[other]} too")
            )
        setter(message, value)

    return set_one


def _list_setter(field: FieldDescriptor, extent: _Extent) -> _Set:
    name = field.name
    if field.cpp_type == _FD.CPPTYPE_MESSAGE and not is_timestamp(field):
        plan = _plan_of(field.message_type, extent)

        def add(items: _Items, part: object) -> None:
            plan.fill(items.add(), part)

    elif is_timestamp(field):

        def add(items: _Items, part: object) -> None:
            seconds, nanos = read_date_time(part)
            items.append(Timestamp(seconds=seconds, nanos=nanos))

    else:
        read = reader_of(field)

        def add(items: _Items, part: object) -> None:
            items.append(read(part))

    def set_list(message: Message, value: object) -> None:
        if type(value) is not list:
            raise expected("an array", value)
        items = getattr(message, name)
        wrong: tuple[FieldViolation, ...] = ()
        for index, part in enumerate(value):
            try:
                add(items, part)
            except Refused as refused:
                wrong += refused.under(f"[{index}]")
                if len(wrong) >= _MAX_VIOLATIONS:
                    break
        if wrong:
            raise Refused(*wrong)

    return set_list


def _map_setter(field: FieldDescriptor, extent: _Extent) -> _Set:
    name = field.name
    of_key, of_value = (entry_of(field)[each] for each in ("key", "value"))
    if of_key.type != _FD.TYPE_STRING:
        raise TypeError(f"{field.full_name}: the codec knows maps with keys of text only")
    plan = _plan_of(of_value.message_type, extent) if of_value.cpp_type == _FD.CPPTYPE_MESSAGE else None
    read = reader_of(of_value) if plan is None else None
    read_key = reader_of(of_key)

    def set_map(message: Message, value: object) -> None:
        if type(value) is not dict:
            raise expected("an object", value)
        entries = getattr(message, name)
        wrong: tuple[FieldViolation, ...] = ()
        for key, part in value.items():
            try:
                if plan is not None:
                    plan.fill(entries[read_key(key)], part)
                elif read is not None:
                    entries[read_key(key)] = read(part)
            except Refused as refused:
                wrong += refused.under(key)
        if wrong:
            raise Refused(*wrong)

    return set_map


def _json_names(descriptor: Descriptor | None, names: list[str]) -> str:
    path: list[str] = []
    within = descriptor
    for each in names:
        name, bracket, index = each.partition("[")
        field = within.fields_by_name.get(name) if within is not None else None
        if field is None:
            return ""
        path.append(field.json_name + bracket + index)
        within = field.message_type
        if is_map(field):
            within = entry_of(field)["value"].message_type
    return ".".join(path)
