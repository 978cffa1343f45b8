"""The process around the functions: uvloop, and a clean stop on SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import TypeVar

import uvloop

T = TypeVar("T")


def run(main: Callable[[asyncio.Event], Coroutine[object, object, T]]) -> T:
    """Runs ``main(stop)`` on uvloop and returns its result; ``stop`` is set by the first SIGTERM or SIGINT.

    A second SIGINT cancels ``main``, for when the clean stop takes too long; KeyboardInterrupt is raised then.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_with_signals(main))


async def _with_signals(main: Callable[[asyncio.Event], Coroutine[object, object, T]]) -> T:
    stop = asyncio.Event()
    task = asyncio.ensure_future(main(stop))

    def interrupt() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        if stop.is_set() and task.cancelled():
            raise KeyboardInterrupt from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        loop.remove_signal_handler(signal.SIGINT)
