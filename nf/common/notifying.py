"""The callbacks of a function in one piece: where they may go, what sends them, and what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nf.common.callback_hosts import CallbackHosts
from nf.common.callbacks import Backoff, Callbacks, own_body
from nf.common.config import NotifyingSection
from nf.common.events import everything
from nf.common.outgoing_http import HttpSender
from nf.common.store import Store
from nf.common.tls import Credentials
from nf.common.v1.events_pb2 import Event
from nf.common.v1.notifications_pb2 import NotificationSubscription

_NOBODY: Final[tuple[str, ...]] = ()


class Notifying:
    """Tells subscribers a function's events by HTTP between ``start`` and ``stop``; ``wake`` it after a change.

    For functions whose subscribers are told all that they ask for. ``body`` is what a notification says.
    """

    def __init__(
        self,
        store: Store,
        config: NotifyingSection,
        *,
        function: str,
        tls: Credentials | None = None,
        body: Callable[[NotificationSubscription, Event], bytes] = own_body,
    ) -> None:
        self.hosts = CallbackHosts(config.callback_hosts, setting=f"{function}.callback_hosts")
        self._sender = HttpSender(self.hosts, timeout_s=config.callback_timeout_s, tls=tls)
        self._callbacks = Callbacks(
            store,
            self._sender,
            function=function,
            visible=lambda _: everything,
            audience=lambda _: _NOBODY,
            body=body,
            backoff=Backoff(longest_s=config.callback_longest_pause_s),
        )

    async def start(self) -> None:
        """Begins with what there is to tell."""
        await self._callbacks.start()

    async def stop(self) -> None:
        """Ends; what is not told yet is told after the next start."""
        await self._callbacks.stop()
        await self._sender.close()

    def wake(self) -> None:
        """Has the subscriptions looked at anew."""
        self._callbacks.wake()
