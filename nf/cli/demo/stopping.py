"""A story that Ctrl-C ends, with everything that it has started."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


async def unless_stopped(stop: asyncio.Event, story: Coroutine[object, object, T]) -> T:
    """What the story comes to. ``stop`` ends it: it is let clean up, and KeyboardInterrupt is raised."""
    playing = asyncio.create_task(story)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((playing, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not playing.done():
            playing.cancel()
            await asyncio.wait((playing,))
    if playing.cancelled():
        raise KeyboardInterrupt
    return playing.result()
