"""Bit rates and burst sizes as text: BitRate of TS 29.571 §5.5.2, bytes, and time at a rate.

Everything is computed in integers: a text that does not stand for a whole number of bit/s (or bytes) is refused, never
rounded.
"""

from __future__ import annotations

import re
from typing import Final

from upf.errors import UpfError

# Tokens are bit-nanoseconds: see `upf.policing`.
BIT_NS_PER_BYTE: Final = 8 * 1_000_000_000
MIN_RATE_BPS: Final = 1
MAX_RATE_BPS: Final = 10 * 1000**4
MIN_BURST_BYTES: Final = 64
MAX_BURST_BYTES: Final = 512 * 1024**2
MIN_DEFAULT_BURST_BYTES: Final = 15_000
# What a bucket is deep for which no depth was given, as time at its rate.
DEFAULT_BURST_MS: Final = 100
# Live TCP that loses the end of a burst waits 200 ms for its timer: a shallower bucket overflows meanwhile.
LIVE_BURST_MS: Final = 250

_RATE_UNITS: Final = {"bps": 1, "Kbps": 1000, "Mbps": 1000**2, "Gbps": 1000**3, "Tbps": 1000**4}
_SIZE_UNITS: Final = {"B": 1, "KB": 1000, "MB": 1000**2, "KiB": 1024, "MiB": 1024**2}
_TIME_UNITS_PER_S: Final = {"ns": 1000**3, "us": 1000**2, "ms": 1000, "s": 1}

_QUANTITY: Final = re.compile(r"([0-9]{1,24})(?:\.([0-9]{1,24}))? ([A-Za-z]+)")
_EXPECTED_RATE: Final = "'<number> bps', Kbps, Mbps, Gbps or Tbps, such as '5 Mbps'"
_EXPECTED_QUEUE: Final = "bytes ('100 KB', also B, MB, KiB, MiB) or time at the rate ('200 ms', also ns, us, s)"
_EXPECTED_BURST: Final = "bytes ('125000 B', also KB, MB, KiB, MiB) or time at the rate ('50 ms', also ns, us, s)"


class UnitError(UpfError):
    """A bit rate or burst that cannot be read.

    ``detail`` is the message without the name of the quantity, for those who know a better name (a key, an option).
    """

    def __init__(self, quantity: str, found: object, expected: str) -> None:
        self.detail = f"found {found!r}, expected {expected}"
        super().__init__(f"{quantity}: {self.detail}")


def parse_bit_rate(text: str) -> int:
    """Read a BitRate, e.g. ``5 Mbps`` or ``1.5 Gbps``, as bit/s (TS 29.571 §5.5.2; multiples of 1000).

    Raises UnitError unless it is a whole number of bit/s from 1 bps to 10 Tbps.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or match[3] not in _RATE_UNITS:
        raise UnitError("bit rate", text, _EXPECTED_RATE)
    numerator, denominator = _decimal(match)
    rate_bps, rest = divmod(numerator * _RATE_UNITS[match[3]], denominator)
    if rest:
        raise UnitError("bit rate", text, "a whole number of bit/s")
    if not MIN_RATE_BPS <= rate_bps <= MAX_RATE_BPS:
        raise UnitError("bit rate", text, "1 bps to 10 Tbps")
    return rate_bps


def format_bit_rate(rate_bps: int) -> str:
    """Write bit/s as a BitRate in the largest unit that it reaches, exactly: ``1500000`` is ``1.5 Mbps``."""
    unit, scale = next(((u, s) for u, s in reversed(_RATE_UNITS.items()) if rate_bps >= s), ("bps", 1))
    whole, rest = divmod(rate_bps, scale)
    decimals = f"{rest:0{len(str(scale)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{decimals} {unit}" if decimals else f"{whole} {unit}"


def parse_burst(text: str, rate_bps: int) -> int:
    """Read the depth of a bucket in bytes: a size (``125000 B``), or a time at the rate (``50 ms``, floored to bytes).

    Raises UnitError unless it is a whole number of bytes from 64 B to 512 MiB.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or (match[3] not in _SIZE_UNITS and match[3] not in _TIME_UNITS_PER_S):
        raise UnitError("burst", text, _EXPECTED_BURST)
    numerator, denominator = _decimal(match)
    if match[3] in _TIME_UNITS_PER_S:
        burst_bytes = numerator * rate_bps // (denominator * _TIME_UNITS_PER_S[match[3]] * 8)
        found = f"{text} ({burst_bytes} B at {format_bit_rate(rate_bps)})"
    else:
        burst_bytes, rest = divmod(numerator * _SIZE_UNITS[match[3]], denominator)
        found = text
        if rest:
            raise UnitError("burst", text, "a whole number of bytes")
    if burst_bytes < MIN_BURST_BYTES:
        raise UnitError("burst", found, f"at least {MIN_BURST_BYTES} B: fewer would let no packet pass")
    if burst_bytes > MAX_BURST_BYTES:
        raise UnitError("burst", found, "at most 512 MiB: beyond it the bucket's arithmetic would leave 64 bits")
    return burst_bytes


def parse_duration(text: str) -> int:
    """Read a time (``2 s``, ``300 ms``) as nanoseconds.

    Raises UnitError unless it is a whole number of nanoseconds, and more than none.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or match[3] not in _TIME_UNITS_PER_S:
        raise UnitError("time", text, "'<number> s', ms, us or ns, such as '2 s'")
    numerator, denominator = _decimal(match)
    duration_ns, rest = divmod(numerator * 1_000_000_000, denominator * _TIME_UNITS_PER_S[match[3]])
    if rest or not duration_ns:
        raise UnitError("time", text, "a whole number of nanoseconds, and more than none")
    return duration_ns


def default_burst_bytes(rate_bps: int, milliseconds: int = DEFAULT_BURST_MS) -> int:
    """The depth of a bucket for which none was given: a time at the rate, at least 15,000 bytes, at most 512 MiB."""
    return min(max(rate_bps * milliseconds // 8000, MIN_DEFAULT_BURST_BYTES), MAX_BURST_BYTES)


def parse_queue(text: str, rate_bps: int) -> tuple[int, int]:
    """Read the bound of a queue: a size (``100 KB``) as (bytes, 0), a time (``200 ms``) as (0, ns).

    Raises UnitError unless it is a whole number of them, and at most 512 MiB at the rate.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or (match[3] not in _SIZE_UNITS and match[3] not in _TIME_UNITS_PER_S):
        raise UnitError("queue", text, _EXPECTED_QUEUE)
    numerator, denominator = _decimal(match)
    timed = match[3] in _TIME_UNITS_PER_S
    scale = 10**9 // _TIME_UNITS_PER_S[match[3]] if timed else _SIZE_UNITS[match[3]]
    value, rest = divmod(numerator * scale, denominator)
    if rest:
        raise UnitError("queue", text, "a whole number of ns" if timed else "a whole number of bytes")
    if value * (rate_bps if timed else BIT_NS_PER_BYTE) > MAX_BURST_BYTES * BIT_NS_PER_BYTE:
        at_rate = f" at {format_bit_rate(rate_bps)}" if timed else ""
        raise UnitError(
            "queue", text, f"at most 512 MiB{at_rate}: beyond it the bucket's arithmetic would leave 64 bits"
        )
    return (0, value) if timed else (value, 0)


def default_queue_bytes(rate_bps: int) -> int:
    """The bound of a queue for which none was given: 200 ms at the rate, at least 15,000 bytes, at most 512 MiB."""
    return min(max(rate_bps // 40, MIN_DEFAULT_BURST_BYTES), MAX_BURST_BYTES)


def _decimal(match: re.Match[str]) -> tuple[int, int]:
    """The number as a fraction (numerator, power of ten)."""
    decimals = match[2] or ""
    return int(match[1] + decimals), 10 ** len(decimals)
