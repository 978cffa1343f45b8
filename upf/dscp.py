"""Differentiated services code points by name: RFC 2474, 2597, 3246, 5865, 8622."""

from __future__ import annotations

from typing import Final

MAX_DSCP: Final = 63

_BY_NAME: Final = {
    "DF": 0,
    "LE": 1,
    "VOICE-ADMIT": 44,
    "EF": 46,
    **{f"CS{selector}": 8 * selector for selector in range(8)},
    **{f"AF{af_class}{drop}": 8 * af_class + 2 * drop for af_class in (1, 2, 3, 4) for drop in (1, 2, 3)},
}

EXPECTED_DSCP: Final = f"a name such as 'AF12', 'EF' or 'CS1', or a number 0 to {MAX_DSCP}"


def dscp_of(value: object) -> int | None:
    """The code point that a name (of any case) or a number, also as text, stands for; None where it is none."""
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdecimal() and len(value) < 4 else _BY_NAME.get(value.upper())
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_DSCP:
        return None
    return value
