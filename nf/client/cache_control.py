"""How long an answer over HTTP may be kept (RFC 9111 §5.2.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_NEVER: Final = re.compile(r"no-(?:store|cache)", re.IGNORECASE)
_MAX_AGE: Final = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?([0-9]+)", re.IGNORECASE)


def max_age_s(headers: Mapping[str, str], default_s: float) -> float:
    """The seconds from now on; ``default_s`` where nothing is said, 0 where it may not be kept."""
    control = headers.get("cache-control", "")
    if _NEVER.search(control):
        return 0.0
    match = _MAX_AGE.search(control)
    if match is None:
        return default_s
    age = headers.get("age", "0")
    return max(0.0, float(match[1]) - (float(age) if age.isascii() and age.isdecimal() else 0.0))
