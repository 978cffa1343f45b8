"""The kept inputs: for every harness a text file with one a line, in hexadecimal digits.

corpus/ holds those that between them reach what has been reached, made anew at times; findings/ what once failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
# What is kept stays small: a few hundred short inputs say all that is to say.
LONGEST_KEPT = 600
MOST_KEPT = 250


def harnesses() -> list[str]:
    return sorted(path.stem for path in (HERE / "harnesses").glob("[a-z]*.py"))


def harness(name: str) -> ModuleType:
    return import_module(f"fuzz.harnesses.{name}")


def inputs(name: str) -> Iterator[bytes]:
    """Those that were kept, and those that the harness makes itself."""
    yield from kept(name)
    yield from kept(name, "findings")
    yield from harness(name).seeds()


def kept(name: str, which: str = "corpus") -> list[bytes]:
    path = HERE / which / f"{name}.txt"
    return [bytes.fromhex(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(name: str, found: Iterable[bytes]) -> int:
    """Replace what is kept by what of this is short enough, the shortest first; tells how many those are."""
    chosen = sorted({data for data in found if 0 < len(data) <= LONGEST_KEPT}, key=lambda data: (len(data), data))
    lines = [data.hex() for data in chosen[:MOST_KEPT]]
    (HERE / "corpus").mkdir(exist_ok=True)
    (HERE / "corpus" / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return len(lines)
