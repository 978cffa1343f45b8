"""JSON as text (RFC 8259): bytes to values and back, strictly, with the byte at fault named."""

from __future__ import annotations

import json
from typing import Final

from nf.common.errors import FieldViolation, InvalidArgument

# So much of a text that was found is shown.
SHOWN_LENGTH: Final = 64


def encode(tree: object) -> bytes:
    """The text of a JSON value."""
    return _encode(tree).encode()


def decode(body: bytes) -> object:
    """The value that a JSON text in UTF-8 stands for (RFC 8259).

    Raises InvalidArgument, which names the byte at fault, for anything else, and for a property that is there twice.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise _no_json(f"expected UTF-8, found byte 0x{body[error.start]:02x} at byte {error.start}") from None
    try:
        value: object = _decode(text)
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode())
        raise _no_json(f"{error.msg[:1].lower()}{error.msg[1:]} at byte {offset}") from None
    except _NoJson as error:
        raise _no_json(str(error)) from None
    except RecursionError:
        raise _no_json("nested too deeply") from None
    except ValueError:
        # What the interpreter refuses to make of text: an integer of thousands of digits.
        raise _no_json(
            "expected numbers of a size that computers have, found an integer of thousands of digits"
        ) from None
    return value


def type_name(value: object) -> str:
    """What a JSON value is, for people."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return f"the number {str(value)[:SHOWN_LENGTH]}"
    if isinstance(value, str):
        return f"the string {value[:SHOWN_LENGTH]!r}"
    return "an array" if isinstance(value, list) else "an object"


class _NoJson(Exception):
    """Text that Python would take for JSON."""


def _no_json(why: str) -> InvalidArgument:
    return InvalidArgument(f"body: no JSON: {why}", violations=(FieldViolation("body", f"no JSON: {why}"),))


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _NoJson(f"the property {twice[:SHOWN_LENGTH]!r} is there twice in one object")
    return tree


def _constant(name: str) -> object:
    raise _NoJson(f"expected a number, found {name}")


_decode = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant).decode
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
