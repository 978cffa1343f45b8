"""A UDP flow at a steady rate, each packet with its number and the time at which it was sent.

The sender is a process of its own, so that its pace is not the test's.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
import sys
import threading
import time
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from live.networks import Network

SENDER = Path(__file__).with_name("steady_sender.py")
_STAMP = struct.Struct("=QQ")
# Python has no name for it: what a privileged process may ask for beyond the bound of the system.
_SO_RCVBUFFORCE = 33
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A packet that came: its number, and when it was sent and received (monotonic, nanoseconds)."""

    number: int
    sent_ns: int
    received_ns: int


class SteadyFlow:
    """What has arrived of a flow that is being sent; when each packet was ``sent`` is known when it has ended."""

    def __init__(self, receiver: socket.socket) -> None:
        self.sent_ns: Sequence[int] = ()
        self._arrivals: list[Arrival] = []
        self._receiver = receiver
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._receive, name="steady flow")
        self._thread.start()

    @property
    def sent(self) -> int:
        """How many packets."""
        return len(self.sent_ns)

    @property
    def arrivals(self) -> list[Arrival]:
        """All of them, in the order in which they came."""
        with self._changed:
            return list(self._arrivals)

    async def until(self, happened: Callable[[list[Arrival]], bool]) -> list[Arrival]:
        """The arrivals, as soon as something is true of them."""
        return await asyncio.to_thread(self._until, happened)

    async def more(self, count: int) -> list[Arrival]:
        """So many arrivals that are yet to come."""
        begun = len(self.arrivals)
        return (await self.until(lambda arrivals: len(arrivals) >= begun + count))[begun:]

    def _until(self, happened: Callable[[list[Arrival]], bool]) -> list[Arrival]:
        with self._changed:
            if not self._changed.wait_for(lambda: happened(self._arrivals), _PATIENCE_S):
                raise AssertionError(f"it did not happen; {len(self._arrivals)} packets have come")
            return list(self._arrivals)

    def end(self) -> None:
        """What is under way arrives first: the receiver ends when nothing has come for a while."""
        self._ended = True
        self._thread.join()

    def _receive(self) -> None:
        self._receiver.settimeout(0.2)
        while True:
            try:
                data = self._receiver.recv(2048)
            except TimeoutError:
                if self._ended:
                    return
                continue
            arrival = Arrival(*_STAMP.unpack_from(data), time.monotonic_ns())
            with self._changed:
                self._arrivals.append(arrival)
                self._changed.notify_all()


def missing(arrivals: list[Arrival]) -> int:
    """How many packets between the first and the last have not come."""
    return arrivals[-1].number - arrivals[0].number + 1 - len(arrivals)


@asynccontextmanager
async def steady_flow(
    source: Network, source_port: int, sink: Network, sink_end: tuple[str, int], *, ip_bytes: int, gap_us: int
) -> AsyncIterator[SteadyFlow]:
    """A flow that is sent from here to the end of the block; a packet that the sender's host refuses is not sent."""
    with sink.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver, NamedTemporaryFile() as times:
        receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        receiver.bind(("0.0.0.0", sink_end[1]))
        flow = SteadyFlow(receiver)
        words = (sys.executable, SENDER, source_port, *sink_end, ip_bytes, gap_us, times.name)
        try:
            with source.process(*words) as sender:
                try:
                    yield flow
                finally:
                    sender.send_signal(signal.SIGTERM)
                    said, _ = await asyncio.to_thread(sender.communicate)
                    flow.sent_ns = array("q", times.read())
                    assert int(said) == flow.sent
        finally:
            await asyncio.to_thread(flow.end)
