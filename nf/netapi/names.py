"""Names that operators choose: of agreements, service areas and capability profiles."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from nf.common.errors import FieldViolation

MAX_LENGTH: Final = 256
# CAMARA's profiles are called so, and it does in a path.
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,256}")


def name_violations(field: str, name: str) -> Iterator[FieldViolation]:
    """What is wrong with a name."""
    if not _NAME.fullmatch(name):
        found = repr(name[:64]) if name else "nothing"
        yield FieldViolation(field, f"expected 1 to {MAX_LENGTH} letters, digits and '_', '.', '-', found {found}")


def text_violations(field: str, text: str) -> Iterator[FieldViolation]:
    """What is wrong with a text for people."""
    if len(text) > MAX_LENGTH:
        yield FieldViolation(field, f"expected at most {MAX_LENGTH} characters, found {len(text)}")


def repeated_violations(field: str, names: Sequence[str]) -> Iterator[FieldViolation]:
    """What stands in a list more than once."""
    seen: set[str] = set()
    for index, each in enumerate(names):
        if each in seen:
            yield FieldViolation(f"{field}[{index}]", f"expected each once, found {each!r} again")
        seen.add(each)
