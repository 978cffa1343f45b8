"""Tables and indented lines: resources for eyes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, TypeVar

from google.protobuf.message import Message
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nf.cli.resources.tree import Tree

M = TypeVar("M")

_NARROWEST: Final = 100

Columns = Sequence[tuple[str, Callable[[Message], str]]]
"""Heads, and what of a resource stands below them (``nf.cli.resources.reading.columns``)."""


def table(columns: Columns, resources: Sequence[Message]) -> Table:
    """A row a resource; columns in which no resource has anything are left out."""
    rows = [[shown(each) for _, shown in columns] for each in resources]
    used = [number for number in range(len(columns)) if any(row[number] for row in rows)]
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number in used:
        head, _ = columns[number]
        figures = all(_is_figure(row[number]) for row in rows)
        drawn.add_column(head, justify="right" if figures else "left", overflow="fold", no_wrap=number == 0)
    for row in rows:
        drawn.add_row(*(Text(row[number]) for number in used))
    return drawn


def _is_figure(text: str) -> bool:
    return text.replace(",", "").replace(".", "").isdecimal() or not text


def console() -> Console:
    """A console for standard output, wide enough for a table."""
    shown = Console(highlight=False)
    # What goes into a pipe is not broken into lines for a terminal that is not there.
    if not shown.is_terminal:
        return Console(highlight=False, width=400)
    return shown if shown.width >= _NARROWEST else Console(highlight=False, width=_NARROWEST)


def lines(tree: Tree, depth: int = 0) -> list[str]:
    """A tree for eyes: a line a property, indented below what it belongs to; what is empty is left out."""
    pad, told = "  " * depth, []
    assert isinstance(tree, dict)
    for name, value in tree.items():
        if value in ("", [], {}):
            continue
        if isinstance(value, dict):
            told += [f"{pad}{name}:", *lines(value, depth + 1)]
        elif isinstance(value, list):
            told.append(f"{pad}{name}:")
            for each in value:
                if isinstance(each, dict):
                    begin, *more = lines(each, depth + 2) or [""]
                    told += [f"{pad}  - {begin.strip()}", *more]
                else:
                    told.append(f"{pad}  - {scalar(each)}")
        else:
            told.append(f"{pad}{name}: {scalar(value)}")
    return told


def scalar(value: Tree) -> str:
    """A value in a line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


async def first(items: AsyncIterator[M], limit: int) -> AsyncIterator[M]:
    """At most ``limit`` of them, all if that is 0."""
    count = 0
    async for each in items:
        yield each
        count += 1
        if count == limit:
            return
