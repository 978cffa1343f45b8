"""The reference memory for fragments (RFC 791, RFC 8200 §4.5): firsts with their ports, and those that came earlier.

A later fragment that comes before its first is held until that comes, for FRAGMENT_HOLD_NS of packet time at the most.
Everything is bounded: beyond a bound the oldest goes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from upf.parsing import FlowKey, Fragment, Packet

FRAGMENT_LIFETIME_NS: Final = 60 * 1_000_000_000
FRAGMENT_HOLD_NS: Final = 1_000_000_000
MAX_FRAGMENTS: Final = 8192
MAX_HELD: Final = 1024
MAX_HELD_BYTES: Final = 4 << 20


class Held(NamedTuple):
    """A later fragment that waits for its first; ``packet`` is without ports as long as it has not come."""

    ts_ns: int
    packet: Packet
    data: bytes
    wire_length: int


class Fragments:
    """First fragments by their datagram, and later ones in the order of their coming."""

    def __init__(self) -> None:
        self._firsts: dict[tuple[int, ...], tuple[int, FlowKey]] = {}
        self._held: list[Held] = []

    def remember(self, ts_ns: int, fragment: Fragment, flow: FlowKey) -> list[tuple[Held, FlowKey]]:
        """Keeps a first fragment with its ports; returns those that were held for it, with the flow that is theirs."""
        self._firsts.pop(fragment.key, None)
        self._firsts[fragment.key] = (ts_ns, flow)
        if len(self._firsts) > MAX_FRAGMENTS:
            del self._firsts[next(iter(self._firsts))]
        followers = [held for held in self._held if held.packet.fragment and held.packet.fragment.key == fragment.key]
        self._held = [held for held in self._held if held not in followers]
        return [(held, _following(held.packet.flow, flow)) for held in followers]

    def flow_of(self, ts_ns: int, fragment: Fragment, flow: FlowKey) -> FlowKey | None:
        """The flow of a later fragment, ``flow`` with what its first told; None where that is not remembered."""
        stored = self._firsts.get(fragment.key)
        if stored is None or abs(ts_ns - stored[0]) > FRAGMENT_LIFETIME_NS:
            return None
        return _following(flow, stored[1])

    def hold(self, held: Held) -> Iterator[Held]:
        """Takes a later fragment; yields those that had to go for it."""
        while len(self._held) >= MAX_HELD or self._held_bytes() + len(held.data) > MAX_HELD_BYTES:
            yield self._held.pop(0)
        self._held.append(held)

    def expired(self, ts_ns: int) -> Iterator[Held]:
        """Lets go of those whose time is over; an older one that must wait keeps the newer ones behind it waiting."""
        while self._held and abs(ts_ns - self._held[0].ts_ns) > FRAGMENT_HOLD_NS:
            yield self._held.pop(0)

    def drain(self) -> Iterator[Held]:
        """Lets go of all."""
        while self._held:
            yield self._held.pop(0)

    def _held_bytes(self) -> int:
        return sum(len(held.data) for held in self._held)


def _following(flow: FlowKey, first: FlowKey) -> FlowKey:
    """Protocol, ports and SPI are the first's; the tunnel's QFI is the fragment's own."""
    return first._replace(teid=flow.teid, qfi=flow.qfi)
