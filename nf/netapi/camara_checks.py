"""What the contracts' options say of a message that came through a CAMARA door, checked: forms, bounds, sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, TypeVar, cast
from uuid import UUID

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from nf.common.codec_values import is_map, is_timestamp
from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.json_text import SHOWN_LENGTH
from nf.common.v1 import options_pb2 as options

M = TypeVar("M", bound=Message)

_FD: Final = FieldDescriptor
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class OutOfRange(InvalidArgument):
    """A number is beyond its bounds."""

    reason = "OUT_OF_RANGE"


def checked(message: M) -> M:
    """The message, if all that is set in it is as its options say.

    Raises OutOfRange where numbers alone are beyond their bounds, InvalidArgument with every violation otherwise.
    """
    found = list(_violations(message))
    if found:
        violations = tuple(violation for violation, _ in found)
        text = "; ".join(f"{each.field}: {each.description}" for each in violations)
        error = OutOfRange if all(is_range for _, is_range in found) else InvalidArgument
        raise error(text, violations=violations)
    return message


def uuid_hex(field: str, text: str) -> str:
    """The 32 hexadecimal digits of a UUID. Raises InvalidArgument."""
    if not _UUID.fullmatch(text):
        raise InvalidArgument.of(field, f"expected a UUID, found {text[:SHOWN_LENGTH]!r}")
    return UUID(text).hex


def uuid_text(hex_digits: str) -> str:
    """An identifier of the platform (32 hexadecimal digits) as a UUID."""
    return str(UUID(hex_digits))


@lru_cache(maxsize=256)
def _bounds(field: FieldDescriptor) -> tuple[float | None, float | None]:
    told = {each.name for each, _ in field.GetOptions().ListFields() if each.is_extension}
    extensions = field.GetOptions().Extensions
    return (
        extensions[options.minimum] if "minimum" in told else None,
        extensions[options.maximum] if "maximum" in told else None,
    )


def _violations(message: Message) -> Iterator[tuple[FieldViolation, bool]]:
    """What is wrong, with paths of JSON; and whether it is a number beyond its bounds."""
    present = dict(message.ListFields())
    for field in cast(Descriptor, message.DESCRIPTOR).fields:
        if is_map(field) or is_timestamp(field):
            continue
        if field in present:
            value: object = present[field]
        elif field.GetOptions().Extensions[options.required] and not field.is_repeated and not field.has_presence:
            # Set to what it is anyway, which leaves no trace.
            value = field.default_value
            if field.enum_type is not None:
                continue
        else:
            continue
        yield from (
            _repeated(field, cast("Iterable[object]", value))
            if field.is_repeated
            else _single(field, field.json_name, value)
        )


def _repeated(field: FieldDescriptor, values: Iterable[object]) -> Iterator[tuple[FieldViolation, bool]]:
    items, name = list(values), field.json_name
    extensions = field.GetOptions().Extensions
    least, most = extensions[options.min_size], extensions[options.max_size]
    if len(items) < least or (most and len(items) > most):
        wanted = f"{least} to {most}" if most else f"at least {least}"
        yield FieldViolation(name, f"expected {wanted} items, found {len(items)}"), False
    for index, each in enumerate(items):
        yield from _single(field, f"{name}[{index}]", each)


def _single(field: FieldDescriptor, path: str, value: object) -> Iterator[tuple[FieldViolation, bool]]:
    if isinstance(value, Message):
        for violation, is_range in _violations(value):
            yield FieldViolation(f"{path}.{violation.field}", violation.description), is_range
    elif isinstance(value, str):
        why = _wrong_text(field, value)
        if why:
            yield FieldViolation(path, f"expected {why}, found {value[:SHOWN_LENGTH]!r}"), False
    elif isinstance(value, int | float) and not isinstance(value, bool) and field.enum_type is None:
        least, greatest = _bounds(field)
        if (least is not None and value < least) or (greatest is not None and value > greatest):
            ends = [f"at least {least:.15g}"] if least is not None else []
            ends += [f"at most {greatest:.15g}"] if greatest is not None else []
            yield FieldViolation(path, f"expected {' and '.join(ends)}, found {value}"), True


def _wrong_text(field: FieldDescriptor, value: str) -> str:
    extensions = field.GetOptions().Extensions
    if extensions[options.pattern] and not re.search(extensions[options.pattern], value):
        return f"what matches {extensions[options.pattern]}"
    # Of a list they bound the number of its items.
    if field.is_repeated:
        return ""
    least, most = extensions[options.min_size], extensions[options.max_size]
    if len(value) < least:
        return f"at least {least} characters"
    return f"at most {most} characters" if most and len(value) > most else ""
