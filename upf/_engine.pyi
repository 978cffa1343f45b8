from collections.abc import Callable, Iterable
from typing import Final

from upf.active_flow import ActiveFlow
from upf.captures.formats import CaptureFormat
from upf.captures.writing import OutputFormat
from upf.compliance import TimeSlot, Violation
from upf.counters import FlowCounters, Measure, RuleCounters, Totals
from upf.flow_records import FlowRecord
from upf.journal import JournalOptions
from upf.names.inspector import InspectorCounters
from upf.rules import Rule

MALFORMED_REASONS: Final[tuple[str, ...]]
GTPU_MESSAGES: Final[tuple[str, ...]]
MALFORMED: Final[int]
UNMATCHED: Final[int]
CONFORMING: Final[int]
EXCEEDING: Final[int]
DROPPED: Final[int]
YELLOW: Final[int]
HELD: Final[int]

class Walk:
    def section(self) -> tuple[str, list[tuple[int, int, int, int]]]: ...

class Engine:
    @property
    def packets(self) -> int: ...
    def __init__(
        self,
        *,
        max_flows: int = ...,
        flow_idle_timeout_ns: int = ...,
        flow_times: bool = ...,
        pass_unmatched: bool = ...,
        measure: Measure = ...,
        gtpu: bool = ...,
        journal: JournalOptions | None = ...,
    ) -> None: ...
    def install(self, rules: Iterable[Rule]) -> None: ...
    def update(self, *, add: Iterable[Rule] = ..., remove: Iterable[str] = ...) -> None: ...
    def run(
        self,
        capture: bytes | bytearray | memoryview,
        capture_format: CaptureFormat | Walk,
        *,
        offset: int,
        max_packets: int,
        time_offset_ns: int = ...,
        emit: Callable[[memoryview], object] | None = ...,
        verdicts: bytearray | None = ...,
    ) -> tuple[int, int, bool]: ...
    def run_timed(
        self,
        capture: bytes | bytearray | memoryview,
        capture_format: CaptureFormat | Walk,
        *,
        offset: int,
        max_packets: int,
        time_offset_ns: int = ...,
        emit: Callable[[memoryview], object] | None = ...,
    ) -> tuple[int, int, bool, list[int]]: ...
    def finish(self, *, emit: Callable[[memoryview], object] | None = ...) -> None: ...
    def begin_output(self, output_format: OutputFormat) -> None: ...
    def take_flow_records(self) -> list[FlowRecord]: ...
    def take_slots(self) -> list[TimeSlot]: ...
    def take_violations(self) -> list[Violation]: ...
    def end_journal(self, *, max_records: int) -> bool: ...
    def reset_flow_counters(self) -> None: ...
    def totals(self) -> Totals: ...
    def rule_counters(self) -> dict[str, RuleCounters]: ...
    def harvest(self) -> dict[str, RuleCounters]: ...
    def inspection(self) -> InspectorCounters | None: ...
    def lookups(self) -> tuple[int, int, int]: ...
    def flows(self) -> list[FlowCounters]: ...
    def top_flows(self, n: int, since_ns: int) -> list[ActiveFlow]: ...

def time_span_ns(
    capture: bytes | bytearray | memoryview, capture_format: CaptureFormat | Walk, *, offset: int
) -> tuple[int, int]: ...
def dissect(
    link_type: int, data: bytes | bytearray | memoryview, wire_length: int, *, gtpu: bool = ...
) -> tuple[int, int, int, int, int, int, int] | None: ...
