"""Names of flows, from their packets and from DNS answers: the state behind domain filters, of engine and oracle.

Given the packets of a flow until its names are settled, it says the names that are known with each. All time is packet
time, and everything kept is bounded: what exceeds a bound is given up or forgotten, the oldest first, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from upf.names import dns
from upf.names.addresses import AddressNames, Chain
from upf.names.connection import TCP, UDP, UDP_HEADER_BYTES, Connection
from upf.names.segments import Stream, opens

INSPECTED: Final = frozenset({TCP, UDP})
_MAX_DNS_STREAMS: Final = 256
_ConnectionKey = tuple[int, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Limits:
    """What is kept at the most: counts, and bytes of packets that are waited with.

    ``packets``: looked into of one connection. ``connections``: whose names are kept, among them the ``pending``.
    """

    packets: int = 64
    pending: int = 16_384
    pending_bytes: int = 64 << 20
    connections: int = 262_144
    addresses: int = 65_536


@dataclass(frozen=True, slots=True)
class InspectorCounters:
    """What the inspector has done.

    ``inspected`` packets were looked into. Connections: ``named`` have said a name; ``given_up`` have been looked into
    for as long as the limits allow without having said their last; ``forgotten`` had to leave, so that their names are
    looked for anew if anyone asks. ``learned``: addresses in DNS answers; ``forgotten_addresses`` had to leave before
    their time.
    """

    inspected: int = 0
    named: int = 0
    given_up: int = 0
    forgotten: int = 0
    learned: int = 0
    forgotten_addresses: int = 0


class Inspector:
    """Finds the names of flows."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._addresses = AddressNames(self._limits.addresses)
        self._connections: dict[_ConnectionKey, Connection] = {}
        # In the order in which they began; what each keeps, and the sum.
        self._pending: dict[_ConnectionKey, int] = {}
        self._pending_bytes = 0
        self._dns_streams: dict[_ConnectionKey, Stream] = {}
        self._inspected = self._named = self._given_up = self._forgotten = self._learned = 0

    def inspect(
        self,
        now_ns: int,
        family: int,
        source: int,
        destination: int,
        protocol: int,
        source_port: int,
        destination_port: int,
        segment: bytes | None,
    ) -> tuple[tuple[str, ...], bool]:
        """Look into a packet, and say the names of its flow and whether they are settled.

        A flow whose names are settled need not be asked about again. ``segment``: what was captured of the transport
        header and what follows it, empty in all fragments but the first; None: ports are not known.
        """
        if segment is None or protocol not in INSPECTED:
            return _flat(self._chains(now_ns, family, source, destination)), True
        if source_port == dns.PORT or destination_port == dns.PORT:
            key = (family, protocol, source, source_port, destination, destination_port)
            if source_port == dns.PORT:
                self._learn(now_ns, key, segment)
            # Answers are for ever listened to, questions never.
            return _flat(self._chains(now_ns, family, source, destination)), source_port != dns.PORT
        forward = (source, source_port) <= (destination, destination_port)
        if forward:
            key = (family, protocol, source, source_port, destination, destination_port)
        else:
            key = (family, protocol, destination, destination_port, source, source_port)
        connection = self._connections.get(key)
        if connection is None or (connection.settled and protocol == TCP and opens(segment)):
            connection = self._open(key, self._chains(now_ns, family, source, destination))
        if not connection.settled:
            self._look_into(key, connection, protocol, forward, segment)
        return connection.names, connection.settled

    def counters(self) -> InspectorCounters:
        """What was done so far."""
        return InspectorCounters(
            inspected=self._inspected,
            named=self._named,
            given_up=self._given_up,
            forgotten=self._forgotten,
            learned=self._learned,
            forgotten_addresses=self._addresses.forgotten,
        )

    def _chains(self, now_ns: int, family: int, source: int, destination: int) -> tuple[Chain, ...]:
        """What the DNS says of either address: who of the two is the server need not be known."""
        return self._addresses.chains_of(now_ns, family, destination) + self._addresses.chains_of(
            now_ns, family, source
        )

    def _open(self, key: _ConnectionKey, chains: tuple[Chain, ...]) -> Connection:
        if self._connections.pop(key, None) is None and len(self._connections) >= self._limits.connections:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            self._no_longer_pending(oldest)
            self._forgotten += 1
        connection = self._connections[key] = Connection(chains)
        self._pending[key] = 0
        if len(self._pending) > self._limits.pending:
            self._give_up(next(iter(self._pending)))
        return connection

    def _look_into(
        self, key: _ConnectionKey, connection: Connection, protocol: int, forward: bool, segment: bytes
    ) -> None:
        said = connection.said
        connection.feed(protocol, forward, segment)
        self._inspected += 1
        self._named += connection.said and not said
        if connection.settled:
            self._no_longer_pending(key)
        elif connection.packets >= self._limits.packets:
            self._give_up(key)
        else:
            held_bytes = connection.held_bytes
            self._pending_bytes += held_bytes - self._pending[key]
            self._pending[key] = held_bytes
            while self._pending_bytes > self._limits.pending_bytes:
                self._give_up(next(iter(self._pending)))

    def _give_up(self, key: _ConnectionKey) -> None:
        self._connections[key].settle()
        self._no_longer_pending(key)
        self._given_up += 1

    def _no_longer_pending(self, key: _ConnectionKey) -> None:
        self._pending_bytes -= self._pending.pop(key, 0)

    def _learn(self, now_ns: int, key: _ConnectionKey, segment: bytes) -> None:
        """What a packet from a DNS server answers."""
        self._inspected += 1
        messages = [segment[UDP_HEADER_BYTES:]] if key[1] == UDP else self._messages(key, segment)
        for message in messages:
            for found in dns.parse_response(message):
                self._addresses.learn(now_ns, found)
                self._learned += 1

    def _messages(self, key: _ConnectionKey, segment: bytes) -> list[bytes]:
        """The messages that a segment of a TCP connection completes."""
        stream = self._dns_streams.pop(key, None) or Stream()
        if not stream.add(segment):
            if not stream.full:
                self._dns_streams[key] = stream
            return []
        messages, length = dns.split_messages(stream.beginning())
        stream.drop(length)
        self._dns_streams[key] = stream
        if len(self._dns_streams) > _MAX_DNS_STREAMS:
            del self._dns_streams[next(iter(self._dns_streams))]
        return messages


def _flat(chains: tuple[Chain, ...]) -> tuple[str, ...]:
    return tuple(name for chain in chains for name in chain)
