"""Tables of a rules file, key by key: typed, with every problem told as file, table, key, found, expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from upf.rules import MTU_BYTES
from upf.units import DEFAULT_BURST_MS, UnitError, default_burst_bytes, parse_bit_rate, parse_burst

T = TypeVar("T")

EXPECTED_RATE: Final = "a string such as '5 Mbps'"
EXPECTED_BURST: Final = "a string such as '125000 B' or '50 ms'"


class TableReader:
    """Reads one table, and gathers what is wrong with it.

    ``burst_ms``: the depth of a bucket for which none is given, as time at its rate.
    """

    def __init__(
        self,
        source: str,
        kind: str,
        position: int,
        table: Mapping[str, object],
        *,
        burst_ms: int = DEFAULT_BURST_MS,
    ) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self._source = source
        self._kind = kind
        self._table = table
        self._burst_ms = burst_ms
        name = table.get("name")
        self._label = repr(name) if isinstance(name, str) and name else str(position)

    def _key(self, key: str) -> str:
        """A key as the author of the table knows it."""
        return f"key {key!r}"

    def _at(self, key: str) -> str:
        """How a problem's line begins."""
        return f"{self._source}: {self._kind} {self._label}: {self._key(key)}"

    def _check_keys(self, keys: Sequence[str]) -> None:
        for key in self._table:
            if key not in keys:
                self.problems.append(f"{self._at(key)}: unknown, expected one of {', '.join(keys)}")

    def _name(self) -> str | None:
        name = self._typed("name", str, "a string", required=True)
        if name == "":
            self._wrong("name", name, "a name")
        return name

    def _rate(self, key: str) -> int | None:
        """The bit rate of the key; None where there is none, or none that can be read."""
        text = self._typed(key, str, EXPECTED_RATE)
        return None if text is None else self._read(key, lambda: parse_bit_rate(text))

    def _burst(self, key: str, rate_bps: int, fate: str) -> int | None:
        """The depth that the key gives a bucket of that rate, or its default; None where it cannot be read.

        ``fate``: what becomes of packets that are longer than the bucket is deep.
        """
        text = self._typed(key, str, EXPECTED_BURST)
        if text is None:
            return None if key in self._table else default_burst_bytes(rate_bps, self._burst_ms)
        burst_bytes = self._read(key, lambda: parse_burst(text, rate_bps))
        if burst_bytes is not None and burst_bytes < MTU_BYTES:
            self.warnings.append(f"{self._at(key)}: {burst_bytes} B: packets longer than that {fate}")
        return burst_bytes

    def _choice(self, key: str, choices: Sequence[str], default: str) -> str:
        quoted = [repr(str(choice)) for choice in choices]
        expected = f"{', '.join(quoted[:-1])} or {quoted[-1]}"
        text = self._typed(key, str, expected)
        if text is not None and text not in choices:
            self._wrong(key, text, expected)
        return text if text is not None and text in choices else default

    def _read(self, key: str, parse: Callable[[], int]) -> int | None:
        try:
            return parse()
        except UnitError as error:
            self.problems.append(f"{self._at(key)}: {error.detail}")
            return None

    def _typed(self, key: str, kind: type[T], expected: str, *, required: bool = False) -> T | None:
        if key not in self._table:
            if required:
                self.problems.append(f"{self._at(key)}: missing, expected {expected}")
            return None
        value = self._table[key]
        # To Python true is an integer; to a reader of the file it is not.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self._wrong(key, value, expected)
            return None
        return value

    def _wrong(self, key: str, found: object, expected: str) -> None:
        self.problems.append(f"{self._at(key)}: found {describe(found)}, expected {expected}")


def describe(value: object) -> str:
    """A value of the file as its reader knows it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    return repr(value)
