"""JSON schemas of the contracts' messages as the codec writes and reads them, for the OpenAPI document."""

from __future__ import annotations

import json
from enum import Enum
from functools import cache
from importlib.resources import files
from typing import Final, TypeAlias, cast

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from nf.common.bit_rate import BIT_RATE_PATTERN
from nf.common.codec import enum_text
from nf.common.v1 import options_pb2 as options

Schema: TypeAlias = "dict[str, object]"

_FD: Final = FieldDescriptor
_INTEGERS: Final = {
    _FD.CPPTYPE_INT32: ("int32", -(2**31), 2**31 - 1),
    _FD.CPPTYPE_INT64: ("int64", -(2**63), 2**63 - 1),
    _FD.CPPTYPE_UINT32: ("uint32", 0, 2**32 - 1),
    _FD.CPPTYPE_UINT64: ("uint64", 0, 2**64 - 1),
}
_DATE_TIME: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)


class Use(Enum):
    """What a schema is of."""

    # What castcore sends: all that is required is there.
    ANSWER = ""
    # What clients send: what castcore sets is ignored there.
    REQUEST = "Input"
    # The same where a door refuses what the contract does not know.
    STRICT_REQUEST = "StrictInput"
    # A merge patch: everything may be left out, or null to take it away.
    PATCH = "Patch"


# These have schemas of their own also where requests and answers are alike.
_APART: Final = (Use.PATCH, Use.STRICT_REQUEST)


class Schemas:
    """Collects the schemas of the messages that a document refers to."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def of(self, message: type[Message] | Descriptor, use: Use) -> Schema:
        """A reference to the schema of a message, which is made if it is not there."""
        descriptor = cast(Descriptor, message if isinstance(message, Descriptor) else message.DESCRIPTOR)
        if descriptor.full_name == AnyMessage.DESCRIPTOR.full_name:
            return {
                "type": "object",
                "required": ["@type"],
                "properties": {"@type": {"type": "string"}},
                "description": "A message, with its type beside its properties.",
            }
        name = _name_of(descriptor) + (use.value if use in _APART or not _alike(descriptor) else "")
        if name not in self.components:
            # There before it is made: messages may hold each other.
            made = self.components[name] = {}
            made.update(self._object(descriptor, use))
        return {"$ref": f"#/components/schemas/{name}"}

    def _object(self, descriptor: Descriptor, use: Use) -> Schema:
        properties: Schema = {}
        required = []
        for field in descriptor.fields:
            extensions = field.GetOptions().Extensions
            is_ours = use is not Use.ANSWER and extensions[options.read_only]
            if extensions[options.internal] or is_ours or (use is Use.ANSWER and extensions[options.write_only]):
                continue
            properties[field.json_name] = self._property(field, use)
            if extensions[options.required] and use is not Use.PATCH:
                required.append(field.json_name)
        schema: Schema = {"type": "object", "properties": properties}
        if use is Use.STRICT_REQUEST:
            schema["additionalProperties"] = False
        if required:
            schema["required"] = required
        choices = [each for each in descriptor.oneofs if len(each.fields) > 1]
        if choices and use is not Use.PATCH:
            names = [[field.json_name for field in each.fields] for each in choices]
            schema["allOf"] = [
                {"not": {"required": [first, second]}}
                for each in names
                for index, first in enumerate(each)
                for second in each[index + 1 :]
            ]
        return {**_described(descriptor.file.package, _path_of(descriptor)), **schema}

    def _property(self, field: FieldDescriptor, use: Use) -> Schema:
        extensions = field.GetOptions().Extensions
        holder = field.containing_type
        assert holder is not None
        about = _described(holder.file.package, f"{_path_of(holder)}.{field.name}")
        if extensions[options.read_only] and use is Use.ANSWER:
            about["readOnly"] = True
        schema = self._repeated(field, use) if field.is_repeated else self._single(field, use)
        if use is Use.PATCH:
            return {**about, "anyOf": [schema, {"type": "null"}]}
        return {**about, "allOf": [schema]} if "$ref" in schema else {**schema, **about}

    def _repeated(self, field: FieldDescriptor, use: Use) -> Schema:
        kind = field.message_type
        extensions = field.GetOptions().Extensions
        if kind is not None and kind.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._single(kind.fields_by_name["value"], use)}
        # A patch replaces a list whole.
        schema: Schema = {"type": "array", "items": self._single(field, Use.REQUEST if use is Use.PATCH else use)}
        if extensions[options.min_size]:
            schema["minItems"] = extensions[options.min_size]
        if extensions[options.max_size]:
            schema["maxItems"] = extensions[options.max_size]
        return schema

    def _single(self, field: FieldDescriptor, use: Use) -> Schema:
        if field.message_type is not None:
            if field.message_type.full_name == Timestamp.DESCRIPTOR.full_name:
                return {"type": "string", "format": "date-time", "pattern": _DATE_TIME}
            return self.of(field.message_type, use)
        if field.enum_type is not None:
            texts = [enum_text(field.enum_type, each.number) for each in field.enum_type.values if each.number]
            return {"type": "string", "enum": texts}
        return _scalar(field)


def _scalar(field: FieldDescriptor) -> Schema:
    extensions = field.GetOptions().Extensions
    if field.type == _FD.TYPE_BYTES:
        return {"type": "string", "format": "byte"}
    if field.cpp_type == _FD.CPPTYPE_BOOL:
        return {"type": "boolean"}
    if extensions[options.format] == options.FORMAT_BIT_RATE:
        return {"type": "string", "pattern": BIT_RATE_PATTERN, "examples": ["5.000 Mbps"]}
    if field.cpp_type == _FD.CPPTYPE_STRING:
        schema: Schema = {"type": "string"}
        if extensions[options.format] == options.FORMAT_URI:
            schema["format"] = "uri"
        if extensions[options.pattern]:
            schema["pattern"] = extensions[options.pattern]
        if not field.is_repeated:
            if extensions[options.min_size]:
                schema["minLength"] = extensions[options.min_size]
            if extensions[options.max_size]:
                schema["maxLength"] = extensions[options.max_size]
        return schema
    if field.cpp_type in _INTEGERS:
        name, least, greatest = _INTEGERS[field.cpp_type]
        schema = {"type": "integer", "format": name, "minimum": least, "maximum": greatest}
    else:
        schema = {"type": "number", "format": "double"}
    told = {each.name for each, _ in field.GetOptions().ListFields() if each.is_extension}
    for bound in ("minimum", "maximum"):
        if bound in told:
            value = extensions[options.minimum if bound == "minimum" else options.maximum]
            schema[bound] = int(value) if schema["type"] == "integer" else value
    return schema


def _alike(descriptor: Descriptor) -> bool:
    """Whether requests and answers have one schema: nothing at any depth is one side's alone."""
    return not _has_one_way(descriptor, frozenset())


def _has_one_way(descriptor: Descriptor, seen: frozenset[str]) -> bool:
    if descriptor.full_name in seen:
        return False
    seen |= {descriptor.full_name}
    return any(
        field.GetOptions().Extensions[options.read_only]
        or field.GetOptions().Extensions[options.write_only]
        or (field.message_type is not None and _has_one_way(field.message_type, seen))
        for field in descriptor.fields
    )


def _name_of(descriptor: Descriptor) -> str:
    return _path_of(descriptor).replace(".", "")


def _path_of(descriptor: Descriptor) -> str:
    return descriptor.full_name.removeprefix(descriptor.file.package).lstrip(".")


def _described(package: str, path: str) -> Schema:
    text = _descriptions(package).get(path)
    return {"description": text} if text else {}


@cache
def _descriptions(package: str) -> dict[str, str]:
    try:
        text = files(package).joinpath("descriptions.json").read_text()
    except (ModuleNotFoundError, FileNotFoundError):
        return {}
    return cast("dict[str, str]", json.loads(text))
