"""What the engine's journal is asked to note beside its counters."""

from __future__ import annotations

from dataclasses import dataclass

from upf.counters import AVERAGING_WINDOW_NS


@dataclass(frozen=True, slots=True)
class JournalOptions:
    """What is noted, and how it is told apart.

    ``flow_timeout_ns``: idle time that ends a flow's record; 0: no records. ``slot_ns``: the length of the time slots
    in which each rule is looked at; 0: no slots and no violations. ``window_ns``: a violation is over when nothing has
    exceeded the rate for as long.
    """

    flow_timeout_ns: int = 0
    slot_ns: int = 0
    window_ns: int = AVERAGING_WINDOW_NS
