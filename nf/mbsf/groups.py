"""Multicast groups for distribution sessions whose provider has named none: one each, from the configured prefix."""

from __future__ import annotations

import ipaddress
from typing import Final

from nf.common.errors import ResourceExhausted
from nf.common.store import Transaction
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession

# The lookup by which the session that has a group is found.
BY_GROUP: Final = "group"
_LAST: Final = "last multicast group"


class MulticastGroups:
    """The groups of a prefix, handed out in turn, so that one that was given back is not used again soon."""

    def __init__(self, prefix: str) -> None:
        self._network = ipaddress.ip_network(prefix)

    def take(self, transaction: Transaction) -> str:
        """A group that no session has. Raises ResourceExhausted."""
        size = self._network.num_addresses
        position = transaction.cursor(_LAST)
        for _ in range(size):
            position = position % size + 1
            group = str(self._network[position - 1])
            if not transaction.find(DistributionSession, BY_GROUP, group):
                transaction.set_cursor(_LAST, position)
                return group
        raise ResourceExhausted(f"all {size} multicast groups of {self._network} are taken")
