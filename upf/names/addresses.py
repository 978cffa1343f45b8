"""What DNS answers have said about addresses, for as long as they said it (RFC 1035 §3.2.1)."""

from __future__ import annotations

from typing import Final

from upf.names.dns import Resolution

# An answer holds a little beyond its TTL, for whoever has just taken it: even a TTL of 0 is good for one use.
GRACE_NS: Final = 1_000_000_000
MAX_CHAINS: Final = 16

# The names that lead to an address in one answer.
Chain = tuple[str, ...]


class AddressNames:
    """Chains of names by address, each with the packet time at which it ends; the longest not confirmed leave first.

    max_addresses: how many addresses are known at the most; what had to leave before its time is counted in
    ``forgotten``.
    """

    def __init__(self, max_addresses: int) -> None:
        self.forgotten = 0
        self._max_addresses = max_addresses
        self._chains: dict[tuple[int, int], dict[Chain, int]] = {}

    def __len__(self) -> int:
        return len(self._chains)

    def learn(self, now_ns: int, found: Resolution) -> None:
        """An answer that has been seen."""
        key = (found.family, found.address)
        chains = self._chains.pop(key, {})
        self._chains[key] = chains
        until_ns = now_ns + found.ttl_s * 1_000_000_000 + GRACE_NS
        chains[found.names] = max(until_ns, chains.pop(found.names, until_ns))
        if len(chains) > MAX_CHAINS:
            del chains[next(iter(chains))]
        if len(self._chains) > self._max_addresses:
            oldest = self._chains.pop(next(iter(self._chains)))
            self.forgotten += any(end_ns >= now_ns for end_ns in oldest.values())

    def chains_of(self, now_ns: int, family: int, address: int) -> tuple[Chain, ...]:
        """The chains that lead to the address at that time."""
        chains = self._chains.get((family, address))
        if chains is None:
            return ()
        return tuple(chain for chain, until_ns in chains.items() if now_ns <= until_ns)
