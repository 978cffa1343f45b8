"""Points in time as the text of RFC 3339 ("2026-03-01T12:00:00Z"), with nanoseconds where they are set."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

_DATE_TIME: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
# Years 1 to 9999.
MIN_SECONDS: Final = -62_135_596_800
MAX_SECONDS: Final = 253_402_300_799
_EXPECTED: Final = 'expected a date and time of RFC 3339 such as "2026-03-01T12:00:00Z"'


def moment_of(moment: Timestamp) -> datetime:
    """The moment in UTC. Raises ValueError, which says what is expected, for what a client has made up."""
    try:
        return moment.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"expected a time in the years 1 to 9999, found {moment.seconds} s and {moment.nanos} ns since 1970"
        ) from None


def date_time_text(moment: Timestamp) -> str:
    """The moment in UTC; its fraction has 3, 6 or 9 digits, or is left out when it is 0."""
    # Not time.strftime: it writes years before 1000 with fewer digits.
    year, month, day, hour, minute, second = time.gmtime(moment.seconds)[:6]
    text = f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}"
    nanos = moment.nanos
    if not nanos:
        return text + "Z"
    if nanos % 1_000_000 == 0:
        return f"{text}.{nanos // 1_000_000:03d}Z"
    if nanos % 1000 == 0:
        return f"{text}.{nanos // 1000:06d}Z"
    return f"{text}.{nanos:09d}Z"


def parse_date_time(text: str) -> tuple[int, int]:
    """Seconds since 1970 and nanoseconds. Raises ValueError, which says what is expected."""
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{_EXPECTED}, found {text[:64]!r}")
    minutes, second, fraction, zone = match.groups()
    # A leap second is the first moment after it, as every clock that knows none has it.
    leap = second == "60"
    try:
        moment = datetime.fromisoformat(f"{minutes}:{'59' if leap else second}{zone.upper()}")
        seconds = int(moment.timestamp()) + leap
    except (ValueError, OverflowError):
        raise ValueError(f"{_EXPECTED}, found {text!r}") from None
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise ValueError(f"{_EXPECTED} in the years 1 to 9999, found {text!r}")
    return seconds, int(fraction.ljust(9, "0")) if fraction else 0
