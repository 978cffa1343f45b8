"""Domain names and patterns of them: ``example.com`` is that name, ``*.example.com`` is every name below it.

A wildcard stands for one label or more, as in the DNS (RFC 4592 §2.1), and never for none: ``*.example.com`` wants
``a.example.com`` and ``b.a.example.com`` but not ``example.com``. Case does not count (RFC 4343), nor does the dot at
the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

MAX_NAME_LENGTH: Final = 253
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# A last label of digits alone is an address or a mistaken one, never a name (RFC 3696 §2).
_NUMBER_LAST: Final = re.compile(r"(?:.*\.)?[0-9]+")


def read_name(text: bytes) -> str | None:
    """A name as the network brings it, in lower case without the dot at the end; None where it is none.

    An address is no name. No more is asked of labels than of those of a pattern: letters, digits, underscores, inner
    hyphens.
    """
    if len(text) > MAX_NAME_LENGTH + 1:
        return None
    name = text.decode("latin-1").lower().removesuffix(".")
    if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name) or _NUMBER_LAST.fullmatch(name):
        return None
    return name


def matches(pattern: str, name: str) -> bool:
    """Whether a name is one that the pattern wants; both in the form of `read_name`."""
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and len(name) >= len(pattern)
    return name == pattern


def places_wanting(places: Mapping[str, int], names: Iterable[str]) -> tuple[int, ...]:
    """Of many patterns, each with its place, the places of those that want any of the names, ascending.

    Takes as long as the names have labels, however many patterns there are.
    """
    found: set[int] = set()
    for name in names:
        place = places.get(name)
        if place is not None:
            found.add(place)
        dot = name.find(".")
        while dot >= 0:
            place = places.get("*" + name[dot:])
            if place is not None:
                found.add(place)
            dot = name.find(".", dot + 1)
    return tuple(sorted(found))
