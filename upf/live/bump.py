"""A bump in the wire: two tun devices, and between them one wire for each direction with an engine of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from upf.counters import WireCounters
from upf.engine import Engine, Wire
from upf.errors import UpfError

UPLINK: Final = "uplink"
DOWNLINK: Final = "downlink"


class Side(Protocol):
    """What packets come from and go to: a tun device, or something like it."""

    @property
    def place(self) -> object:
        """Where it is, for messages."""
        ...

    @property
    def fd(self) -> int:
        """Its file descriptor, which does not block."""
        ...


class Bump:
    """Packets from the access side to the core side (uplink) and back (downlink), each in a thread of its own.

    The devices stay the caller's, and must outlive ``stop()``. on_failure: called, in the thread that failed, when a
    device can be used no longer; ``failure`` says why.
    """

    def __init__(
        self,
        access: Side,
        core: Side,
        *,
        uplink: Engine,
        downlink: Engine,
        forwarding: bool = True,
        on_failure: Callable[[], object] | None = None,
    ) -> None:
        self.failure: UpfError | None = None
        # The client of a connection says the name that the rules of the other direction may ask for.
        downlink.share_names(uplink)
        self._on_failure = on_failure
        upwards, downwards = self._make_wires(access, core, uplink, downlink)
        self._wires = {UPLINK: upwards, DOWNLINK: downwards}
        self.forwarding = forwarding
        self._ends = {UPLINK: (access, core), DOWNLINK: (core, access)}
        self._threads: list[threading.Thread] = []

    def _make_wires(self, access: Side, core: Side, uplink: Engine, downlink: Engine) -> tuple[Wire, Wire]:
        """Those of the uplink and of the downlink."""
        return Wire(uplink, access.fd, core.fd), Wire(downlink, core.fd, access.fd)

    @property
    def forwarding(self) -> bool:
        """Whether packets go on at all; while they do not, they are taken and let fall."""
        return all(wire.forwarding for wire in self._wires.values())

    @forwarding.setter
    def forwarding(self, forwarding: bool) -> None:
        for wire in self._wires.values():
            wire.forwarding = forwarding

    def start(self) -> None:
        """Begins to forward."""
        self._threads = [
            threading.Thread(target=self._run, args=(direction,), name=f"castcore {direction}", daemon=True)
            for direction in self._wires
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends both directions; what shaping holds back leaves at once."""
        for wire in self._wires.values():
            wire.stop()
        for thread in self._threads:
            thread.join()
        self._threads = []

    def counters(self) -> Mapping[str, WireCounters]:
        """By direction: ``uplink``, ``downlink``."""
        return {direction: wire.counters() for direction, wire in self._wires.items()}

    def _run(self, direction: str) -> None:
        try:
            self._wires[direction].run()
        except OSError as error:
            source, sink = self._ends[direction]
            device = source if error.filename == "source" else sink
            self.failure = UpfError(f"device {device.place}: {error.strerror}: it, or its host, has been removed")
        except Exception as error:
            self.failure = UpfError(f"{direction}: {error}")
        if self.failure is not None and self._on_failure is not None:
            self._on_failure()
