"""What the parsers of a flow's first bytes say: a name, that there is none, or that they need more."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class No(Enum):
    """Why there is no name."""

    NAME = "another protocol, or one that says no name here"
    MORE_NEEDED = "what was seen may be the beginning of a name"


@dataclass(frozen=True, slots=True)
class Name:
    """A name that a client says, as `patterns.read_name` writes it.

    ``hidden``: the client offers an encrypted hello, so this may be only the name of who decrypts it. ``final``: no
    byte that is yet to come can change the two.
    """

    name: str
    hidden: bool = False
    final: bool = True


Answer = Name | No
