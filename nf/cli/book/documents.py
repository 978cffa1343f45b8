"""Messages of the platform's contracts from files: TOML or JSON, with the contracts' names or those of their JSON.

Rates are "5 Mbps" or whole numbers of bit/s, times RFC 3339 (or TOML's own). A name that is unknown is refused.
"""

from __future__ import annotations

import difflib
import json
import sys
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from nf.common import codec
from nf.common.codec_values import enum_texts, format_of, is_timestamp
from nf.common.errors import InvalidArgument
from nf.common.v1.options_pb2 import FORMAT_BIT_RATE

M = TypeVar("M", bound=Message)


def read(file: Path) -> object:
    """What the file holds: JSON where its name ends so or it begins so, else TOML; "-" is standard input.

    Raises InvalidArgument.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidArgument(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{file}: a byte at {error.start} is not UTF-8") from None
    try:
        if file.suffix in (".json", ".geojson") or text.lstrip()[:1] in ("{", "["):
            return cast("object", json.loads(text))
        return tomllib.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"{file}: {error}") from None


def message_of(message_type: type[M], tree: object, where: str) -> M:
    """The message that a tree describes. Raises InvalidArgument for every property that is wrong."""
    try:
        renamed = _renamed(cast("Descriptor", message_type.DESCRIPTOR), tree, "")
        return codec.from_json(message_type, renamed, internal=True)
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: {error}") from None


def _renamed(descriptor: Descriptor, tree: object, path: str) -> object:
    """The tree with the names that the codec knows."""
    if not isinstance(tree, Mapping):
        raise InvalidArgument(f"{path or 'the document'}: expected a table, found {type(tree).__name__}")
    named: dict[str, object] = {}
    for name, value in tree.items():
        below = f"{path}.{name}" if path else str(name)
        field = _field(descriptor, str(name))
        if field is None:
            known = [each.name for each in descriptor.fields]
            close = difflib.get_close_matches(str(name), known, n=1)
            expected = repr(close[0]) if close else f"one of {', '.join(known)}"
            raise InvalidArgument(f"{below}: an unknown name, expected {expected}")
        items = value if field.is_repeated and isinstance(value, list) else [value]
        made = [_value(field, each, f"{below}[{at}]" if field.is_repeated else below) for at, each in enumerate(items)]
        named[field.json_name] = made if items is value else made[0]
    return named


def _field(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    return (
        descriptor.fields_by_name.get(name)
        or descriptor.fields_by_camelcase_name.get(name)
        or next((each for each in descriptor.fields if each.json_name == name), None)
    )


def _value(field: FieldDescriptor, value: object, path: str) -> object:
    if isinstance(value, datetime) and is_timestamp(field):
        # A TOML time without a zone is UTC, as the contracts' times are.
        return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, str) and is_timestamp(field):
        return value
    if field.message_type is not None and not is_timestamp(field):
        return _renamed(field.message_type, value, path)
    if field.enum_type is not None and isinstance(value, str):
        texts = enum_texts(field.enum_type).values()
        return next((text for text in texts if text == value.upper().replace("-", "_")), value)
    if format_of(field) == FORMAT_BIT_RATE and type(value) is int:
        return f"{value} bps"
    return value
