"""Bit rates as the text of TS 29.571 §5.5.2 ("5.000 Mbps"), exact both ways."""

from __future__ import annotations

import re
from typing import Final

# Of any rate that a 64-bit number holds.
MAX_BIT_RATE_BPS: Final = 2**64 - 1
# What the text looks like; the specification's own pattern.
BIT_RATE_PATTERN: Final = r"^[0-9]+(\.[0-9]+)? (bps|Kbps|Mbps|Gbps|Tbps)$"

_BIT_RATE: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))? (bps|Kbps|Mbps|Gbps|Tbps)")
_DIGITS: Final = {"bps": 0, "Kbps": 3, "Mbps": 6, "Gbps": 9, "Tbps": 12}
_UNITS: Final = tuple(sorted(((digits, unit) for unit, digits in _DIGITS.items()), reverse=True))
# Longer texts are nothing that a rate is written with; they would cost time.
_MAX_LENGTH: Final = 64
_EXPECTED: Final = 'expected a bit rate such as "5.000 Mbps" (bps, Kbps, Mbps, Gbps, Tbps)'


def bit_rate_text(rate_bps: int) -> str:
    """The rate in the greatest unit of which it is at least one, with three decimals or as many more as it needs."""
    for digits, unit in _UNITS:
        if digits and rate_bps >= 10**digits:
            whole, rest = divmod(rate_bps, 10**digits)
            return f"{whole}.{f'{rest:0{digits}d}'.rstrip('0'):0<3} {unit}"
    return f"{rate_bps} bps"


def parse_bit_rate(text: str) -> int:
    """The rate in bit/s. Raises ValueError, which says what is expected, for what is no whole number of bit/s."""
    match = _BIT_RATE.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        raise ValueError(f"{_EXPECTED}, found {text[:_MAX_LENGTH]!r}")
    whole, fraction, unit = match.groups()
    digits = _DIGITS[unit]
    kept = (fraction or "").rstrip("0")
    if len(kept) > digits:
        raise ValueError(f"expected a whole number of bit/s, found {text!r}")
    rate_bps = int(whole + kept.ljust(digits, "0"))
    if rate_bps > MAX_BIT_RATE_BPS:
        raise ValueError(f"expected at most {MAX_BIT_RATE_BPS} bps, found {text!r}")
    return rate_bps
