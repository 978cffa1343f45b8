"""What belongs to the call that is being served: its correlation ID, its deadline, and whether its server is stopping.

Kept in context variables, so that they reach logs, events, and the calls that this one makes in turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from nf.common.resources import new_id

CORRELATION_KEY = "x-correlation-id"
AUTHORIZATION_KEY = "authorization"
_MAX_CORRELATION_ID = 128

_correlation_id: ContextVar[str] = ContextVar("correlation_id", default="")
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
_stopping: ContextVar[asyncio.Event | None] = ContextVar("stopping", default=None)


def correlation_id() -> str:
    """The correlation ID in force; empty when no request is behind what runs."""
    return _correlation_id.get()


def adopt_correlation_id(received: str) -> str:
    """Binds the ID that a request brought, or a new one if that is empty or unfit for a header, and returns it."""
    fit = 0 < len(received) <= _MAX_CORRELATION_ID and received.isascii() and received.isprintable()
    bound = received if fit else new_id()
    _correlation_id.set(bound)
    return bound


def set_correlation_id(known: str) -> None:
    """Binds the ID that something is known to have been caused by; empty: no request has caused it."""
    _correlation_id.set(known)


def adopt_deadline(remaining_s: float | None) -> None:
    """Binds the deadline of the call that is being served; None: it has none."""
    _deadline.set(None if remaining_s is None else time.monotonic() + remaining_s)


def deadline() -> float | None:
    """The deadline in force (time.monotonic()); None: there is none."""
    return _deadline.get()


def remaining_s() -> float | None:
    """Seconds left of the deadline in force, at least 0; None: there is none."""
    deadline = _deadline.get()
    return None if deadline is None else max(0.0, deadline - time.monotonic())


@contextmanager
def own_deadline(seconds: float | None) -> Iterator[None]:
    """Work that must not die with the caller's deadline (undoing, finishing) runs under one of its own.

    None: calls made inside have their channel's default deadline only.
    """
    before = _deadline.get()
    adopt_deadline(seconds)
    try:
        yield
    finally:
        _deadline.set(before)


def adopt_stopping(stopping: asyncio.Event) -> None:
    """Binds the event that is set when the server of this call begins to stop."""
    _stopping.set(stopping)


def stopping() -> asyncio.Event | None:
    """Set when the server of the call begins to stop: endless streams end then. None: no server is behind what runs."""
    return _stopping.get()
