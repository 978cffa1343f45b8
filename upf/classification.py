"""Which rule wants a packet, in plain Python: every rule is tried in order, with what is known of the flow's names.

Part of the reference user plane (`upf.reference`). A flow whose names may yet become known is asked about with every
packet (`upf.names.inspector`); once they are settled they stay with the flow for as long as the rules do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from upf.names import dns
from upf.names.inspector import INSPECTED, Inspector, InspectorCounters
from upf.names.patterns import matches
from upf.parsing import FlowKey
from upf.rules import Rule
from upf.sdf import SdfFilter


class Headers(NamedTuple):
    """What filters compare of a packet. ``tos`` is the traffic class of IPv6; the flow label is None in IPv4."""

    flow: FlowKey
    tos: int = 0
    flow_label: int | None = None

    def reversed(self) -> Headers:
        """Those of a packet of the other direction."""
        flow = self.flow
        other = flow._replace(src=flow.dst, dst=flow.src, src_port=flow.dst_port, dst_port=flow.src_port)
        return self._replace(flow=other)


class Classifier:
    """The rules in the order in which they are tried, and the names of flows."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._inspector: Inspector | None = None
        self.install(rules)

    def install(self, rules: Sequence[Rule]) -> None:
        """Replaces the rules, which stand in the order in which they are tried. What is known of names stays."""
        self._filters = [(sdf_filter, rule) for rule in rules for sdf_filter in rule.filters]
        named = [sdf_filter for sdf_filter, _ in self._filters if sdf_filter.domain]
        if named and self._inspector is None:
            self._inspector = Inspector()
        self._asks_names = bool(named)
        # Such a filter does not see the other direction, whose attributes are others.
        self._asks_all = any(str(replace(each.attributes, domain="", filter_id=0)) for each in named)
        self._tos_mask = 0
        for sdf_filter, _ in self._filters:
            self._tos_mask |= sdf_filter.tos_mask
        self._asks_flow_label = any(sdf_filter.flow_label is not None for sdf_filter, _ in self._filters)
        self._settled: dict[Headers, tuple[str, ...]] = {}

    def inspection(self) -> InspectorCounters | None:
        """What looking into packets for names has done; None where no rule has asked for a name."""
        return None if self._inspector is None else self._inspector.counters()

    def rule_of(self, now_ns: int, headers: Headers, segment: bytes | None) -> Rule | None:
        """The rule that wants a packet; ``segment`` as in `Inspector.inspect`."""
        names = self._names_of(now_ns, headers, segment) if self._asks_names else ()
        for sdf_filter, rule in self._filters:
            if _wants(sdf_filter, headers) and _has_name(sdf_filter, names):
                return rule
        return None

    def key_of(self, headers: Headers) -> Headers:
        """What makes a flow under these rules: nothing of the headers that none of them looks at."""
        label = headers.flow_label if self._asks_flow_label else None
        return headers._replace(tos=headers.tos & self._tos_mask, flow_label=label or 0)

    def _names_of(self, now_ns: int, headers: Headers, segment: bytes | None) -> tuple[str, ...]:
        flow = headers.flow
        key = self.key_of(headers)
        if key in self._settled:
            return self._settled[key]
        names: tuple[str, ...] = ()
        settled = True
        if self._inspector is not None and self._is_of_interest(headers):
            names, settled = self._inspector.inspect(now_ns, *flow[:6], segment)
        if settled:
            self._settled[key] = names
        return names

    def _is_of_interest(self, headers: Headers) -> bool:
        """Whether a name could change the rule of this flow or of the other direction, or the packet tells names."""
        flow = headers.flow
        if self._asks_all or (flow.protocol in INSPECTED and dns.PORT in (flow.src_port, flow.dst_port)):
            return True
        return self._awaits_name(headers) or self._awaits_name(headers.reversed())

    def _awaits_name(self, headers: Headers) -> bool:
        """Whether a rule that asks for a name is tried before any that does not."""
        first: Rule | None = None
        for sdf_filter, rule in self._filters:
            if _wants(sdf_filter, headers):
                if not sdf_filter.domain:
                    return first is not None and first is not rule
                first = first or rule
        return first is not None


def _wants(sdf_filter: SdfFilter, headers: Headers) -> bool:
    flow = headers.flow
    return sdf_filter.matches(
        *flow[:6],
        ports_known=flow.ports_known,
        tos=headers.tos,
        flow_label=headers.flow_label,
        spi=flow.spi,
        teid=flow.teid,
        qfi=flow.qfi,
    )


def _has_name(sdf_filter: SdfFilter, names: Iterable[str]) -> bool:
    return not sdf_filter.domain or any(matches(sdf_filter.domain, name) for name in names)
