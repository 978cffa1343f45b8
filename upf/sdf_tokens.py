"""The words of a service data flow filter, and the error that says which of them is not as the grammar has it."""

from __future__ import annotations

import re
from typing import Final

from upf.errors import UpfError

END: Final = "the end of the filter"
_OPTIONS: Final = frozenset({"frag", "ipoptions", "tcpoptions", "established", "setup", "tcpflags", "icmptypes"})


class FilterError(UpfError):
    """A filter that is not of the grammar; ``column`` counts from 1."""

    def __init__(self, *, expected: str, got: str, column: int) -> None:
        self.expected = expected
        self.got = got
        self.column = column
        super().__init__(f"sdf filter: expected {expected}, got {got} at column {column}")


class Tokens:
    """The words of a filter and where they begin."""

    def __init__(self, text: str) -> None:
        self._words = [(match[0], match.start() + 1) for match in re.finditer(r"\S+", text)]
        self._end_column = len(text.rstrip()) + 1
        self._next = 0

    def peek(self) -> str | None:
        """The next word, None at the end."""
        return self._words[self._next][0] if self._next < len(self._words) else None

    def take(self, expected: str) -> tuple[str, int]:
        """The next word and its column."""
        if self._next == len(self._words):
            raise FilterError(expected=expected, got=END, column=self._end_column)
        word = self._words[self._next]
        self._next += 1
        return word

    def take_word(self, expected: str, *allowed: str) -> str:
        """The next word, which must be one of ``allowed``."""
        word, column = self.take(expected)
        if word not in allowed:
            raise FilterError(expected=expected, got=describe_word(word), column=column)
        return word


def parse_number(text: str, maximum: int, *, hexadecimal: bool = False) -> int | None:
    """A number up to ``maximum``, else None; no sign, no other script's digits, no superfluous digits.

    Decimal; after ``0x`` also hexadecimal where that is allowed.
    """
    digits, base, longest = text, 10, len(str(maximum))
    if hexadecimal and text[:2] in ("0x", "0X"):
        digits, base, longest = text[2:], 16, len(f"{maximum:x}")
    # isdigit() knows digits of every script, int() knows underscores: neither belongs here.
    if not re.fullmatch("[0-9]+" if base == 10 else "[0-9a-fA-F]+", digits) or len(digits) > longest:
        return None
    number = int(digits, base)
    return number if number <= maximum else None


def describe_word(word: str) -> str:
    """The word, and why it is refused where another dialect of the grammar would take it."""
    if word.startswith("!"):
        return f"{word!r} (inversion is not allowed)"
    if word in _OPTIONS:
        return f"{word!r} (options are not allowed)"
    return repr(word)


def any_of(*choices: str) -> str:
    """The choices as an error lists them."""
    return " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))
