"""Live traffic of a UPF: the devices that it owns, and what carries packets from one to the other under an SMF."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack

from prometheus_client import CollectorRegistry

from upf.engine import Engine
from upf.live.bump import DOWNLINK, UPLINK, Bump
from upf.live.devices import TunDevice
from upf.live.metrics import LiveMetrics
from upf.live.n3 import N3Bump, N3Socket
from upf.tunnels import Tunnel

OpenDevices = Callable[[], tuple[TunDevice | N3Socket, TunDevice]]
"""Makes the access side, a device or a socket on N3, and the device of the core side, or neither. Raises UpfError."""


class LiveTraffic:
    """Between ``start`` and ``stop`` packets pass, once ``forwarding`` is set; until then they are held off."""

    def __init__(
        self, open_devices: OpenDevices, *, uplink: Engine, downlink: Engine, registry: CollectorRegistry
    ) -> None:
        self._open_devices = open_devices
        self._engines: Mapping[str, Engine] = {UPLINK: uplink, DOWNLINK: downlink}
        self._registry = registry
        self._forwarding = False
        self._bump: Bump | None = None
        self._failure = asyncio.Event()
        self._undo = ExitStack()

    @property
    def forwarding(self) -> bool:
        """Whether packets pass; may be set at any time."""
        return self._forwarding

    @forwarding.setter
    def forwarding(self, forwarding: bool) -> None:
        self._forwarding = forwarding
        if self._bump is not None:
            self._bump.forwarding = forwarding

    def change_tunnels(self, add: Iterable[Tunnel], remove: Iterable[str] = ()) -> None:
        """As `N3Bump.change_tunnels`, for an access side on N3. Raises UpfError."""
        if isinstance(self._bump, N3Bump):
            self._bump.change_tunnels(add, remove)

    async def start(self) -> None:
        """Makes the devices. Raises UpfError, and leaves nothing behind then."""
        # Not in the event loop: the kernel may take its time.
        access, core = await asyncio.to_thread(self._open_devices)
        self._undo.enter_context(access)
        self._undo.enter_context(core)
        try:
            loop = asyncio.get_running_loop()
            kind = N3Bump if isinstance(access, N3Socket) else Bump
            bump = kind(
                access,
                core,
                uplink=self._engines[UPLINK],
                downlink=self._engines[DOWNLINK],
                forwarding=self._forwarding,
                on_failure=lambda: loop.call_soon_threadsafe(self._failure.set),
            )
            bump.start()
            self._undo.callback(bump.stop)
            metrics = LiveMetrics(bump, self._engines)
            self._registry.register(metrics)
            self._undo.callback(self._registry.unregister, metrics)
            self._bump = bump
        except BaseException:
            self._undo.close()
            raise

    async def stop(self) -> None:
        """Ends what passes; the devices go."""
        self._bump = None
        await asyncio.to_thread(self._undo.close)

    async def failed(self) -> Exception:
        """Returns when a device can be used no longer: why."""
        await self._failure.wait()
        assert self._bump is not None
        assert self._bump.failure is not None
        return self._bump.failure
