"""How a player plays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nf.client.dash.adaptation import SAFETY


@dataclass(frozen=True, slots=True)
class Settings:
    """How a player plays.

    buffer_s: it pauses while so much is buffered. resume_s: so much is buffered before it plays, and after a stall.
    connections: 1, or 2: audio has one of its own. ignore_filter: the greedy player, which neither filters nor paces.
    paced: under a filter it reads no faster than the threshold. scopes: schemes by which service descriptions address
    it. safety: the part of the estimated throughput that is counted on.
    """

    buffer_s: float = 12.0
    resume_s: float = 1.0
    connections: int = 2
    ignore_filter: bool = False
    paced: bool = True
    safety: float = SAFETY
    language: str = ""
    scopes: frozenset[str] = frozenset()
    tries: int = 3
    retry_delay_s: float = 0.5


DEFAULTS: Final = Settings()
