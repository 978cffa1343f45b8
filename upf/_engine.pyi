from collections.abc import Iterable
from typing import Final

from upf.capture import CaptureFormat
from upf.counters import FlowCounters, Measure, RuleCounters, Totals
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

class Engine:
    output_nanoseconds: bool
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
    ) -> None: ...
    def install(self, rules: Iterable[Rule]) -> None: ...
    def update(self, *, add: Iterable[Rule] = ..., remove: Iterable[str] = ...) -> None: ...
    def run(
        self,
        capture: bytes | bytearray | memoryview,
        capture_format: CaptureFormat,
        *,
        offset: int,
        max_packets: int,
        time_offset_ns: int = ...,
        emit: bool = ...,
        verdicts: bytearray | None = ...,
    ) -> tuple[int, int, bool]: ...
    def finish(self, *, emit: bool = ...) -> None: ...
    def take_output(self) -> bytes: ...
    def reset_flow_counters(self) -> None: ...
    def totals(self) -> Totals: ...
    def rule_counters(self) -> dict[str, RuleCounters]: ...
    def harvest(self) -> dict[str, RuleCounters]: ...
    def inspection(self) -> InspectorCounters | None: ...
    def lookups(self) -> tuple[int, int, int]: ...
    def flows(self) -> list[FlowCounters]: ...

def time_span_ns(
    capture: bytes | bytearray | memoryview, capture_format: CaptureFormat, *, offset: int
) -> tuple[int, int]: ...
def dissect(
    link_type: int, data: bytes | bytearray | memoryview, wire_length: int, *, gtpu: bool = ...
) -> tuple[int, int, int, int, int, int, int] | None: ...
