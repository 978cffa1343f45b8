"""Addresses from a segment template (ISO/IEC 23009-1 §5.3.9.4.4): ``$Number%05d$`` and its kind."""

from __future__ import annotations

import re
from typing import Final

_PART: Final = re.compile(r"\$(?:(RepresentationID)|(Number|Time|Bandwidth)(?:%0([0-9]{1,3})d)?|())\$")
_EXPECTED: Final = "$RepresentationID$, $Number$, $Time$ or $Bandwidth$ (these with %0…d), or $$"


def check(template: str, *, initialization: bool = False) -> str:
    """What is wrong with a template; empty: nothing."""
    left = _PART.sub("", template)
    if "$" in left:
        return f"expected of what stands between '$': {_EXPECTED}"
    names = {match[2] for match in _PART.finditer(template) if match[2]}
    if initialization and names & {"Number", "Time"}:
        return "expected no $Number$ and no $Time$ in the address of the initialization"
    if {"Number", "Time"} <= names:
        return "expected $Number$ or $Time$, not both"
    return ""


def expand(template: str, *, representation_id: str, bandwidth_bps: int, number: int = 0, time: int = 0) -> str:
    """The address that a template, which has been checked, stands for."""
    values = {"Number": number, "Time": time, "Bandwidth": bandwidth_bps}

    def part(match: re.Match[str]) -> str:
        if match[1]:
            return representation_id
        if match[2]:
            return f"{values[match[2]]:0{int(match[3] or 1)}d}"
        return "$"

    return _PART.sub(part, template)
