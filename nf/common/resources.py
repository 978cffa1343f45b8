"""What resources have in common: identifiers, entity tags, field masks, page tokens (after AIP 134, 154, 158)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Collection
from typing import TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from nf.common.errors import EtagMismatch, FieldViolation, InvalidArgument

M = TypeVar("M", bound=Message)

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
ETAG_DIGITS = 16
# What a UUID says of itself: that it is a random one (version 4 of RFC 9562).
_UUID_MARKS, _RANDOM_UUID = 0xF << 76 | 0b11 << 62, 0x4 << 76 | 0b10 << 62
# Fields that the store sets: they say nothing of the content.
_OF_THE_STORE = ("etag", "update_time")


def new_id() -> str:
    """A new identifier: 32 hexadecimal digits, those of a random UUID."""
    return f"{int.from_bytes(os.urandom(16)) & ~_UUID_MARKS | _RANDOM_UUID:032x}"


def copy_of(message: M) -> M:
    """A message of its own with the same content."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def digest_of(message: Message) -> str:
    """SHA-256 over the canonical encoding of the content, hexadecimal."""
    return hashlib.sha256(message.SerializeToString(deterministic=True)).hexdigest()


def etag_of(message: Message) -> str:
    """The entity tag: a digest of the content without its ``etag`` and ``update_time`` fields."""
    own = [name for name in _OF_THE_STORE if name in message.DESCRIPTOR.fields_by_name]
    if own:
        message = copy_of(message)
        for name in own:
            message.ClearField(name)
    return digest_of(message)[:ETAG_DIGITS]


def check_etag(current: str, expected: str, what: str) -> None:
    """Raises EtagMismatch, naming ``what``, when ``expected`` is not empty and not ``current``."""
    if expected and expected != current:
        raise EtagMismatch(
            f"{what} has changed: etag is {current!r}, expected {expected!r}", metadata={"etag": current}
        )


def apply_mask(current: M, changes: M, mask: FieldMask, allowed: Collection[str]) -> M:
    """``current`` with the masked top-level fields of ``changes``; an empty mask means every allowed field.

    A masked field that ``changes`` does not set is cleared. Raises InvalidArgument for a path that is unknown or not
    among ``allowed``.
    """
    paths = list(mask.paths) or list(allowed)
    fields = current.DESCRIPTOR.fields_by_name
    violations = [
        FieldViolation(
            "update_mask",
            f"{path!r}: {'may not be changed' if path in fields else 'unknown field'}; expected any of "
            + ", ".join(allowed),
        )
        for path in paths
        if path not in allowed
    ]
    if violations:
        raise InvalidArgument(
            "update_mask " + "; ".join(each.description for each in violations), violations=violations
        )
    updated = copy_of(current)
    for path in paths:
        # A field that the changes do not set is one that the caller wants gone.
        updated.ClearField(path)
    for field, value in changes.ListFields():
        if field.name not in paths:
            continue
        if field.is_repeated or field.message_type is not None:
            getattr(updated, field.name).MergeFrom(value)
        else:
            setattr(updated, field.name, value)
    return updated


def page_limit(page_size: int) -> int:
    """How many items a page has: 0 leaves it to the server; more than 1000 becomes 1000."""
    if page_size < 0:
        raise InvalidArgument.of("page_size", f"expected 0 or more, got {page_size}")
    return min(page_size, MAX_PAGE_SIZE) or DEFAULT_PAGE_SIZE


def encode_page_token(scope: str, position: int) -> str:
    """An opaque token that goes on after ``position``; good for the same ``scope`` (kind, parent) only."""
    seal = hashlib.sha256(f"{scope}\0{position}".encode()).digest()[:6]
    return base64.urlsafe_b64encode(seal + str(position).encode()).decode().rstrip("=")


def decode_page_token(scope: str, token: str) -> int:
    """The position that ``encode_page_token`` was given; 0 for the empty token. Raises InvalidArgument."""
    if not token:
        return 0
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        position = int(raw[6:])
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument.of("page_token", f"not a token of this list: {token!r}") from error
    if encode_page_token(scope, position) != token:
        raise InvalidArgument.of("page_token", f"not a token of this list: {token!r}")
    return position
