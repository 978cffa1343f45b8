"""One connection whose name is looked for: what its sides have said so far, and what the DNS says of its addresses."""

from __future__ import annotations

from typing import Final

from upf.names.addresses import Chain
from upf.names.answer import Answer, Name, No
from upf.names.quic import InitialReader, is_long_header
from upf.names.segments import RequestReader

TCP: Final = 6
UDP: Final = 17
UDP_HEADER_BYTES: Final = 8


class Connection:
    """The names of one connection. ``settled``: no packet that is yet to come changes them.

    chains: what the DNS said of its two addresses when its first packet came. ``packets``: how many were looked into.
    """

    __slots__ = ("_chains", "_readers", "_said", "_silent", "packets", "settled")

    def __init__(self, chains: tuple[Chain, ...]) -> None:
        self.settled = False
        self.packets = 0
        self._chains = chains
        self._said: Name | None = None
        self._readers: dict[bool, RequestReader | InitialReader] = {}
        self._silent: set[bool] = set()

    @property
    def held_bytes(self) -> int:
        """Bytes of packets kept."""
        return sum(reader.held_bytes for reader in self._readers.values())

    @property
    def said(self) -> bool:
        """Whether the connection itself has said a name."""
        return self._said is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Its names as far as they are known.

        What a client says outweighs what the DNS says of an address, which many names may share: then only names stay
        that one answer has given together with it, its aliases. Where the client hides its name, all stay.
        """
        said = self._said
        if said is None:
            return tuple(name for chain in self._chains for name in chain)
        aliases = (name for chain in self._chains if said.hidden or said.name in chain for name in chain)
        return (said.name, *aliases)

    def feed(self, protocol: int, forward: bool, segment: bytes) -> None:
        """Look into a packet: its transport header and what follows; ``forward`` tells the directions apart."""
        self.packets += 1
        if forward in self._silent:
            return
        if protocol == UDP:
            self._take(forward, self._feed_datagram(forward, segment[UDP_HEADER_BYTES:]), client=True)
            return
        reader = self._readers.setdefault(forward, RequestReader())
        if isinstance(reader, RequestReader):
            self._take(forward, reader.feed(segment), client=reader.is_client)

    def settle(self) -> None:
        """What is known now is all that will be known."""
        self.settled = True
        self._readers = {}

    def _feed_datagram(self, forward: bool, datagram: bytes) -> Answer:
        reader = self._readers.get(forward)
        if reader is None:
            if not is_long_header(datagram):
                return No.NAME
            reader = self._readers[forward] = InitialReader()
        return reader.feed(datagram)

    def _take(self, forward: bool, answer: Answer, *, client: bool) -> None:
        if isinstance(answer, Name):
            self._said = answer
            if answer.final:
                self.settle()
        elif answer is No.NAME:
            self._silent.add(forward)
            self._readers.pop(forward, None)
            # Only a client says a name. Who of two is the client is known where the connection was seen to open.
            if client or len(self._silent) == 2:
                self.settle()
