"""A flow at work, as the engine tells it to those who watch."""

from __future__ import annotations

from dataclasses import dataclass

from upf.compliance import FlowName


@dataclass(frozen=True, slots=True)
class ActiveFlow:
    """What a flow has had so far; ``passed`` as its rule's mode and gate are now.

    ``rule`` is empty where no rule wants it. ``first_ns`` is the time of its first packet, 0 where the engine does not
    keep that, ``last_ns`` of the latest.
    """

    name: FlowName
    rule: str
    packets: int
    bytes: int
    passed_packets: int
    passed_bytes: int
    first_ns: int
    last_ns: int
