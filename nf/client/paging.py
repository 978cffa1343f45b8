"""Lists of any function, a page after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def pages(fetch: Callable[[str], Awaitable[tuple[Sequence[T], str]]]) -> AsyncIterator[T]:
    """Everything, a page after the other; ``fetch`` takes a page token and gives the next."""
    token = ""
    while True:
        items, token = await fetch(token)
        for each in items:
            yield each
        if not token:
            return
