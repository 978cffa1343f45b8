"""Conditional requests: entity tags, times, and what follows from them (RFC 9110 §8.8, §13)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from nf.common.errors import EtagMismatch

_ENTITY_TAG: Final = re.compile(r'\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|$)')


def moment_of(moment: datetime | Timestamp | None) -> datetime | None:
    """The moment, of whatever kind; an empty Timestamp is none."""
    if isinstance(moment, Timestamp):
        return moment.ToDatetime(UTC) if moment.seconds else None
    return moment


@lru_cache(1024)
def http_date(moment: datetime) -> str:
    """The moment as HTTP has it: "Sun, 01 Mar 2026 12:00:00 GMT"."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def parse_http_date(text: str) -> datetime | None:
    """The moment that a header field says; None for what is no date, which HTTP has us ignore."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def entity_tags(header: str) -> tuple[tuple[bool, str], ...]:
    """(is weak, tag) of a list of entity tags; what is none ends it."""
    tags, position = [], 0
    while match := _ENTITY_TAG.match(header, position):
        tags.append((match[1] is not None, match[2]))
        position = match.end()
        if position >= len(header):
            break
    return tuple(tags)


def is_not_modified(headers: Mapping[str, str], etag: str, last_modified: datetime | None) -> bool:
    """Whether the client has what it would get: the answer to a GET is 304 then."""
    none_match = headers.get("if-none-match")
    if none_match is not None:
        # The weak comparison: a tag that a cache has weakened still names the same content.
        return none_match.strip() == "*" or (bool(etag) and any(tag == etag for _, tag in entity_tags(none_match)))
    since = headers.get("if-modified-since")
    if since is None or last_modified is None:
        return False
    moment = parse_http_date(since)
    return moment is not None and last_modified.replace(microsecond=0) <= moment


def check_preconditions(headers: Mapping[str, str], etag: str, last_modified: datetime | None, what: str) -> None:
    """Raises EtagMismatch (412) when a request that changes ``what`` was meant for another state of it."""
    match = headers.get("if-match")
    if match is not None:
        if match.strip() != "*" and (False, etag) not in entity_tags(match):
            raise _mismatch(what, etag, f"If-Match {match}")
    elif (unmodified := headers.get("if-unmodified-since")) is not None and last_modified is not None:
        moment = parse_http_date(unmodified)
        if moment is not None and last_modified.replace(microsecond=0) > moment:
            raise _mismatch(what, etag, f"If-Unmodified-Since {unmodified}")
    none_match = headers.get("if-none-match")
    if none_match is not None:
        stripped = none_match.strip()
        if stripped == "*" or any(tag == etag for _, tag in entity_tags(none_match)):
            raise _mismatch(what, etag, f"If-None-Match {none_match}")


def _mismatch(what: str, etag: str, condition: str) -> EtagMismatch:
    return EtagMismatch(f'{what} is not as demanded: etag is "{etag}", found {condition}', metadata={"etag": etag})
