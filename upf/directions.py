"""Which rules an engine has, by the direction of its packets: filters are written for the downlink.

An uplink packet is matched against the downlink filter with source and destination exchanged (TS 29.244 §5.2.1A.2A).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from upf.rules import FlowDirection, Rule


def downlink_rules(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """What the engine of packets towards the UE has: filters as they are written."""
    return tuple(rule for rule in rules if rule.direction is not FlowDirection.UP)


def uplink_rules(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """What the engine of packets from the UE has: every filter with source and destination exchanged."""
    return tuple(_exchanged(rule) for rule in rules if rule.direction is not FlowDirection.DOWN)


def capture_rules(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """What the one engine of a capture has.

    A capture has no sides: filters match as they are written, except those of rules for the uplink alone, which are
    exchanged so that they detect what they would detect live.
    """
    return tuple(_exchanged(rule) if rule.direction is FlowDirection.UP else rule for rule in rules)


def _exchanged(rule: Rule) -> Rule:
    return replace(rule, filters=tuple(sdf_filter.swapped() for sdf_filter in rule.filters))
