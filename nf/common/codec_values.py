"""Scalars of protos as the JSON of 3GPP APIs has them: what is read, and what is expected where it is wrong."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from nf.common.bit_rate import parse_bit_rate
from nf.common.date_time import parse_date_time
from nf.common.errors import FieldViolation
from nf.common.json_text import type_name
from nf.common.v1 import options_pb2 as options

Read: TypeAlias = Callable[[object], object]

_FD: Final = FieldDescriptor
_BOUNDS: Final = {
    _FD.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    _FD.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    _FD.CPPTYPE_UINT32: (0, 2**32 - 1),
    _FD.CPPTYPE_UINT64: (0, 2**64 - 1),
}
# Between the words of an enum's name.
_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Refused(Exception):
    """What was found wrong in a value, with paths from there."""

    def __init__(self, *violations: FieldViolation) -> None:
        super().__init__()
        self.violations = violations

    def under(self, name: str) -> tuple[FieldViolation, ...]:
        """The same, with paths from where ``name`` is."""
        return tuple(
            FieldViolation(
                f"{name}{'' if not each.field or each.field[0] == '[' else '.'}{each.field}", each.description
            )
            for each in self.violations
        )


def expected(what: str, value: object) -> Refused:
    """Something else was found."""
    return Refused(FieldViolation("", f"expected {what}, found {type_name(value)}"))


def reader_of(field: FieldDescriptor) -> Read:
    """What makes the field's value of one of JSON, or of each of its items. It raises Refused."""
    kind = field.cpp_type
    if field.type == _FD.TYPE_BYTES:
        return _read_bytes
    if kind == _FD.CPPTYPE_STRING:
        return _read_text
    if kind == _FD.CPPTYPE_BOOL:
        return _read_bool
    if kind in (_FD.CPPTYPE_DOUBLE, _FD.CPPTYPE_FLOAT):
        return _read_number
    if kind == _FD.CPPTYPE_ENUM:
        return _enum_reader(field.enum_type)
    if format_of(field) == options.FORMAT_BIT_RATE:
        return _read_bit_rate
    return _integer_reader(*_BOUNDS[kind])


def _read_text(value: object) -> object:
    if type(value) is not str:
        raise expected("a string", value)
    # JSON can escape halves of characters, which are no text.
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Refused(FieldViolation("", "expected text, found a surrogate that stands alone")) from None
    return value


def _read_bool(value: object) -> object:
    if type(value) is not bool:
        raise expected("true or false", value)
    return value


def _read_number(value: object) -> object:
    if type(value) is not float and type(value) is not int:
        raise expected("a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise expected("a number of at most 1.8e308", value)
    return number


def _integer_reader(least: int, greatest: int) -> Read:
    def read(value: object) -> object:
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise expected("an integer", value)
        if not least <= value <= greatest:
            raise expected(f"an integer from {least} to {greatest}", value)
        return value

    return read


def _enum_reader(descriptor: EnumDescriptor | None) -> Read:
    numbers = {text: number for number, text in enum_texts(descriptor).items() if number}
    known = " or ".join(numbers) if len(numbers) <= 2 else f"one of {', '.join(numbers)}"

    def read(value: object) -> object:
        number = numbers.get(value) if type(value) is str else None
        if number is None:
            raise expected(known, value)
        return number

    return read


def _read_bytes(value: object) -> object:
    if type(value) is str:
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise expected("bytes in base64", value)


def _read_bit_rate(value: object) -> object:
    if type(value) is not str:
        raise expected('a bit rate such as "5.000 Mbps"', value)
    try:
        return parse_bit_rate(value)
    except ValueError as error:
        raise Refused(FieldViolation("", str(error))) from None


def read_date_time(value: object) -> tuple[int, int]:
    """Seconds and nanoseconds since 1970. Raises Refused."""
    if type(value) is not str:
        raise expected("a date and time of RFC 3339", value)
    try:
        return parse_date_time(value)
    except ValueError as error:
        raise Refused(FieldViolation("", str(error))) from None


def enum_texts(descriptor: EnumDescriptor | None) -> dict[int, str]:
    """What JSON has for the numbers of an enum."""
    assert descriptor is not None
    prefix = _WORDS.sub("_", descriptor.name).upper() + "_"
    return {
        each.number: each.GetOptions().Extensions[options.value_name] or each.name.removeprefix(prefix)
        for each in descriptor.values
    }


def format_of(field: FieldDescriptor) -> options.Format.ValueType:
    """The form that the contract gives the field."""
    return field.GetOptions().Extensions[options.format]


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map."""
    return field.is_repeated and field.message_type is not None and field.message_type.GetOptions().map_entry


def is_timestamp(field: FieldDescriptor) -> bool:
    """Whether the field is a moment, or several."""
    return field.message_type is not None and field.message_type.full_name == Timestamp.DESCRIPTOR.full_name


def entry_of(field: FieldDescriptor) -> Mapping[str, FieldDescriptor]:
    """The fields "key" and "value" of a map."""
    assert field.message_type is not None
    return field.message_type.fields_by_name
