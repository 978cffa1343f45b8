"""Differentiated services code points by number and by name (RFC 2474, 2597, 3246, 5865, 8622)."""

from __future__ import annotations

from typing import Final

_NAMES: Final = {
    "DF": 0,
    "BE": 0,
    "LE": 1,
    "EF": 46,
    "VA": 44,
    **{f"CS{selector}": selector << 3 for selector in range(8)},
    **{f"AF{group}{drop}": (group << 3) | (drop << 1) for group in range(1, 5) for drop in range(1, 4)},
}
MAX_DSCP: Final = 63


def dscp_of(text: str) -> int:
    """The code point that a marking stands for; 0 for the empty one. Raises ValueError, saying what is expected."""
    if not text:
        return 0
    named = _NAMES.get(text.strip().upper())
    if named is not None:
        return named
    if text.isascii() and text.isdecimal() and int(text) <= MAX_DSCP:
        return int(text)
    raise ValueError(f"expected 0 to {MAX_DSCP}, or a name such as 'AF41', 'EF' or 'CS5', found {text!r}")
