"""Rating: which measured bytes the subscriber pays for (TS 26.512 A.3.1, TS 32.255 rating groups).

What passes within the bit rate is rated by the rule's rating group, what passes beyond it by its excess rating group.
Increments are rated, never totals: bytes keep the rating that was in force when they were measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nf.common.usage import Counters, counter_bytes
from nf.pcf.v1.sm_policy_control_pb2 import ChargingData

# Paid for by the subscriber in the ordinary way.
RATING_GROUP_ORDINARY: Final = 1
# Not paid for by the subscriber; a sponsor may.
RATING_GROUP_ZERO_RATED: Final = 2


@dataclass(frozen=True, slots=True)
class Terms:
    """The rating groups of a PCC rule."""

    rating_group: int
    excess_rating_group: int


@dataclass(frozen=True, slots=True)
class Rated:
    """Bytes by who pays for them; each passed byte is in one of the first two, no dropped one is."""

    zero_rated_bytes: int = 0
    charged_bytes: int = 0
    dropped_bytes: int = 0

    def __add__(self, other: Rated) -> Rated:
        return Rated(
            self.zero_rated_bytes + other.zero_rated_bytes,
            self.charged_bytes + other.charged_bytes,
            self.dropped_bytes + other.dropped_bytes,
        )


NOT_RATED: Final = Rated()


def terms_of(charging: ChargingData) -> Terms:
    """The terms that a PCC rule carries."""
    return Terms(rating_group=charging.rating_group, excess_rating_group=charging.excess_rating_group)


def rate(increment: Counters, terms: Terms) -> Rated:
    """What an increment of a rule's usage costs under the terms in force, both directions together."""
    rated = Rated(dropped_bytes=counter_bytes(increment, "dropped"))
    for volume_bytes, group in (
        (counter_bytes(increment, "conforming"), terms.rating_group),
        (counter_bytes(increment, "exceeding"), terms.excess_rating_group),
    ):
        free = group == RATING_GROUP_ZERO_RATED
        rated += Rated(zero_rated_bytes=volume_bytes) if free else Rated(charged_bytes=volume_bytes)
    return rated
