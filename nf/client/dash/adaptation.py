"""Bit rate adaptation: which combination is played next, within what the policy allows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nf.client.dash.combinations import Combination

# Of the throughput that is estimated so much is counted on.
SAFETY: Final = 0.9


def choose(
    candidates: Sequence[Combination],
    throughput_bps: float | None,
    *,
    ceiling_bps: float | None = None,
    safety: float = SAFETY,
) -> Combination:
    """The best of the candidates (in the order of their bandwidth, one at least) that the network can carry.

    Throughput unknown, it is the lowest: the first segment tells. So it is where the network can carry none.
    ceiling_bps: no more than that can be sustained, whatever the throughput (the player paces itself).
    """
    if throughput_bps is None:
        return candidates[0]
    budget_bps = throughput_bps * safety
    if ceiling_bps is not None:
        budget_bps = min(budget_bps, ceiling_bps)
    carried = [each for each in candidates if each.bandwidth_bps <= budget_bps]
    return carried[-1] if carried else candidates[0]
