"""The reference journal: flow records, time slots and violations in plain Python; the oracle of the engine's journal.

It is told every packet that has a flow, with the verdict of `upf.reference`, and keeps everything: flows are never
evicted here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from upf.compliance import REORDER_NS, FlowName, TimeSlot, Violation
from upf.flow_records import Beginning, Ending, FlowRecord
from upf.journal import JournalOptions
from upf.parsing import FlowKey
from upf.sdf import PORT_PROTOCOLS

FIN: Final = 1
SYN: Final = 2
RST: Final = 4


@dataclass(frozen=True, slots=True)
class Noted:
    """One packet of a flow, and what became of it; ``tcp_flags`` are 0 where it has none, or none was captured.

    ``passes_ns`` is when it passed, if that was later than it came.
    """

    ts_ns: int
    flow: FlowKey
    length: int
    rule: str
    passed: bool
    excess: bool
    tcp_flags: int = 0
    passes_ns: int | None = None


class ReferenceJournal:
    """What the engine notes under the same options."""

    def __init__(self, options: JournalOptions) -> None:
        self._options = options
        self._open: dict[FlowKey, FlowRecord] = {}
        self._closing: dict[FlowKey, Ending] = {}
        self._slots: dict[tuple[str, int], list[int]] = {}
        self._violating: dict[str, Violation] = {}
        self._latest_ns: int | None = None
        self.records: list[FlowRecord] = []
        self.violations: list[Violation] = []

    def note(self, packet: Noted) -> None:
        """Takes the next packet."""
        self._latest_ns = packet.ts_ns if self._latest_ns is None else max(self._latest_ns, packet.ts_ns)
        if self._options.flow_timeout_ns:
            self._note_flow(packet)
        if self._options.slot_ns:
            self._slot(packet.rule, packet.ts_ns)[0] += packet.length
            if packet.passed:
                slot = self._slot(packet.rule, packet.ts_ns if packet.passes_ns is None else packet.passes_ns)
                slot[1] += packet.length
                slot[2] += packet.length if packet.excess else 0
            if packet.excess:
                self._note_excess(packet)

    def end(self) -> None:
        """The input has ended."""
        for flow, record in list(self._open.items()):
            assert self._latest_ns is not None
            idle = self._latest_ns - record.end_ns > self._options.flow_timeout_ns
            self._end_flow(flow, Ending.IDLE if idle else Ending.END_OF_INPUT)
        self.violations += self._violating.values()
        self._violating.clear()

    def slots(self) -> Mapping[tuple[str, int], TimeSlot]:
        """Every slot in which there was a packet, whole, by rule and number."""
        return {key: TimeSlot(*key, *volumes) for key, volumes in self._slots.items()}

    def _slot(self, rule: str, at_ns: int) -> list[int]:
        return self._slots.setdefault((rule, at_ns // self._options.slot_ns), [0, 0, 0])

    def _note_flow(self, packet: Noted) -> None:
        flow = packet.flow
        record = self._open.get(flow)
        if record is not None:
            if packet.ts_ns > record.end_ns + self._options.flow_timeout_ns:
                self._end_flow(flow, Ending.IDLE)
                record = None
            elif flow in self._closing and packet.tcp_flags & SYN:
                self._end_flow(flow, self._closing[flow])
                record = None
        if record is None:
            record = _begun(packet)
        self._open[flow] = replace(
            record,
            rule=packet.rule,
            end_ns=max(record.end_ns, packet.ts_ns),
            packets=record.packets + 1,
            bytes=record.bytes + packet.length,
            passed_packets=record.passed_packets + packet.passed,
            passed_bytes=record.passed_bytes + packet.length * packet.passed,
            excess_packets=record.excess_packets + packet.excess,
            excess_bytes=record.excess_bytes + packet.length * packet.excess,
        )
        if packet.tcp_flags & (FIN | RST):
            self._closing.setdefault(flow, Ending.RST if packet.tcp_flags & RST else Ending.FIN)

    def _end_flow(self, flow: FlowKey, ending: Ending) -> None:
        self.records.append(replace(self._open.pop(flow), ended=self._closing.pop(flow, ending)))

    def _note_excess(self, packet: Noted) -> None:
        violation = self._violating.get(packet.rule)
        if violation is not None:
            since_ns = packet.ts_ns - violation.end_ns
            if since_ns >= self._options.window_ns or since_ns < -REORDER_NS:
                self.violations.append(self._violating.pop(packet.rule))
                violation = None
        if violation is None:
            violation = Violation(packet.rule, flow_name(packet.flow), packet.ts_ns, packet.ts_ns, 0, 0)
        self._violating[packet.rule] = replace(
            violation,
            end_ns=max(violation.end_ns, packet.ts_ns),
            excess_packets=violation.excess_packets + 1,
            excess_bytes=violation.excess_bytes + packet.length,
        )


def flow_name(flow: FlowKey) -> FlowName:
    """A flow as reports name it."""
    address = IPv4Address if flow.family == 4 else IPv6Address
    ported = flow.ports_known and flow.protocol in PORT_PROTOCOLS
    return FlowName(
        source=address(flow.src),
        destination=address(flow.dst),
        protocol=flow.protocol,
        source_port=flow.src_port if ported else None,
        destination_port=flow.dst_port if ported else None,
        spi=flow.spi,
        teid=flow.teid,
        qfi=flow.qfi,
    )


def _begun(packet: Noted) -> FlowRecord:
    name = flow_name(packet.flow)
    return FlowRecord(
        *name,
        rule=packet.rule,
        start_ns=packet.ts_ns,
        end_ns=packet.ts_ns,
        packets=0,
        bytes=0,
        passed_packets=0,
        passed_bytes=0,
        excess_packets=0,
        excess_bytes=0,
        began=Beginning.SYN if packet.tcp_flags & SYN else Beginning.PACKET,
        ended=Ending.END_OF_INPUT,
    )
