"""What a composition root gets and gives: ``nf/<function>/compose.py: build(ctx) -> Function``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.routing import BaseRoute

from nf.common.channels import Channels
from nf.common.clock import Clock
from nf.common.server import Registration
from nf.common.store import Store
from nf.common.telemetry import Telemetry
from nf.common.tls import Credentials

Config = TypeVar("Config")


@dataclass(frozen=True, slots=True)
class Context(Generic[Config]):
    """What a function stands on. ``config`` is its own section of the configuration."""

    name: str
    config: Config
    clock: Clock
    store: Store
    channels: Channels
    telemetry: Telemetry
    # Where the HTTP doors of this process are; empty where it has none.
    http_url: str = ""
    # What the function shows its peers; None: it speaks in clear text.
    tls: Credentials | None = None


async def _nothing() -> None:
    return


async def _never() -> Exception:
    await asyncio.Event().wait()
    raise AssertionError


@dataclass(frozen=True, slots=True)
class Function:
    """A composed function: its services, its HTTP ``routes``, and the background work between ``start`` and ``stop``.

    ``prepare`` makes what calls need to be there: it comes before the first of them, and ``stop`` undoes it too.
    ``failed`` returns when that work can go on no more: why. Most functions mend what befalls them, and never fail.
    """

    name: str
    servicers: Sequence[Registration]
    routes: Sequence[BaseRoute] = ()
    prepare: Callable[[], Awaitable[None]] = _nothing
    start: Callable[[], Awaitable[None]] = _nothing
    stop: Callable[[], Awaitable[None]] = _nothing
    failed: Callable[[], Coroutine[None, None, Exception]] = _never
