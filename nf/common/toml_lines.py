"""On which line of a TOML document a key stands; the standard library's parser does not say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

KeyPath = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[\[|\[)\s*(?P<key>.*?)\s*\]{1,2}\s*(#.*)?$")
_PART = re.compile(
    r"""\s*(?:"(?P<basic>(?:[^"\\]|\\.)*)"|'(?P<literal>[^']*)'|(?P<bare>[A-Za-z0-9_-]+))\s*(?P<dot>\.?)"""
)
_VALUE = re.compile(
    r'"""(?:[^\\]|\\.)*?"""' r"|'''.*?'''" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'" r"|#[^\n]*" r"|[\[\]{}]" r"|\n",
    re.DOTALL,
)


def key_lines(text: str) -> Mapping[KeyPath, int]:
    """The line (from 1) of every table and key of a valid document, keys of inline tables excepted."""
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, statement in _statements(text):
        header = _HEADER.match(statement)
        if header is not None:
            table = _resolve(_split(header["key"])[0], counts)
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            lines[table] = line
        else:
            path = (*table, *_split(statement)[0])
            for length in range(len(table) + 1, len(path) + 1):
                lines.setdefault(path[:length], line)
    return lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """The line of ``path``, or of the nearest thing around it that has one; 1 at worst."""
    return next((lines[path[:length]] for length in range(len(path), 0, -1) if path[:length] in lines), 1)


def _resolve(path: KeyPath, counts: Mapping[KeyPath, int]) -> KeyPath:
    """A header's path, where a name of an array of tables stands for its last element; the last part stays."""
    resolved: KeyPath = ()
    for index, part in enumerate(path):
        resolved = (*resolved, part)
        if index < len(path) - 1 and resolved in counts:
            resolved = (*resolved, counts[resolved])
    return resolved


def _split(text: str) -> tuple[KeyPath, int]:
    """The dotted key that ``text`` begins with, and where it ends."""
    parts: list[str] = []
    position = 0
    while (match := _PART.match(text, position)) is not None:
        parts.append(next(each for each in (match["basic"], match["literal"], match["bare"]) if each is not None))
        position = match.end()
        if not match["dot"]:
            break
    return tuple(parts), position


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every header and key-value pair; a value may go over several lines."""
    position = 0
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        stripped = text[position:end].strip()
        line = text.count("\n", 0, position) + 1
        if not stripped or stripped.startswith("#"):
            position = end + 1
        elif stripped.startswith("["):
            yield line, text[position:end]
            position = end + 1
        else:
            stop = _value_end(text, position + _split(text[position:end])[1])
            yield line, text[position:stop]
            position = stop


def _value_end(text: str, position: int) -> int:
    """Just behind the line on which the value that begins at ``position`` ends."""
    depth = 0
    for match in _VALUE.finditer(text, position):
        token = match[0]
        if token in "[{":
            depth += 1
        elif token in "]}":
            depth -= 1
        elif token == "\n" and depth == 0:
            return match.end()
    return len(text)
