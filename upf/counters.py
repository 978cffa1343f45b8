"""What the user plane has counted, as the engine and its oracle report it.

Bytes are IP total lengths where nothing else was asked for (`Measure`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

# Time over which a bit rate is judged (AverWindow of TS 29.571 §5.5.2, whose default this is): traffic that exceeds
# its rate is said to keep to it again when nothing has exceeded for as long.
AVERAGING_WINDOW_NS: Final = 2_000_000_000


class Measure(StrEnum):
    """What is a packet's length: its frame on the wire, its IP total length, or its IP payload.

    The payload is what follows the IP header and the IPv6 extension headers, the transport header included. In GTP-U
    the frame is the outer one, the rest is of the packet within.
    """

    L2 = "l2"
    L3 = "l3"
    L4 = "l4"


@dataclass(frozen=True, slots=True)
class RuleCounters:
    """Packets that one rule has detected, by what its policer made of them.

    ``conforming``: green. ``yellow``: within the excess that a three-colour marker allows. ``exceeding``: red, passed
    all the same (monitor, mark). ``dropped``: red and not passed (police, shape), or stopped by a closed gate
    (``gated``, contained in dropped). ``delayed``: held back (shape), with the longest and the summed delay.
    Packet times, 0 where there was none: ``first_ns`` and ``last_ns`` of the first packet and the latest;
    ``last_excess_ns`` of the latest above the rate, ``excess_since_ns`` of the first above it since it was kept to for
    AVERAGING_WINDOW_NS.
    """

    conforming_packets: int = 0
    conforming_bytes: int = 0
    exceeding_packets: int = 0
    exceeding_bytes: int = 0
    dropped_packets: int = 0
    dropped_bytes: int = 0
    first_ns: int = 0
    last_ns: int = 0
    excess_since_ns: int = 0
    last_excess_ns: int = 0
    yellow_packets: int = 0
    yellow_bytes: int = 0
    gated_packets: int = 0
    delayed_packets: int = 0
    delay_max_ns: int = 0
    delay_sum_ns: int = 0

    @property
    def packets(self) -> int:
        """All packets of the rule."""
        return self.passed_packets + self.dropped_packets

    @property
    def bytes(self) -> int:
        """All bytes of the rule."""
        return self.passed_bytes + self.dropped_bytes

    @property
    def passed_packets(self) -> int:
        """Packets that went on."""
        return self.conforming_packets + self.yellow_packets + self.exceeding_packets

    @property
    def passed_bytes(self) -> int:
        """Bytes that went on."""
        return self.conforming_bytes + self.yellow_bytes + self.exceeding_bytes


@dataclass(frozen=True, slots=True)
class FlowCounters:
    """One 5-tuple. ``conforming`` is green or yellow, ``excess`` exceeding or dropped, as the mode of its rule says.

    ``rule`` is empty where no rule wants the flow; ``ports_known`` is false for fragments whose first was not seen.
    ``spi`` is that of ESP and AH, ``teid`` and ``qfi`` those of the GTP-U tunnel in which the flow was; None: none.
    """

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    protocol: int
    source_port: int
    destination_port: int
    ports_known: bool
    rule: str
    conforming_packets: int
    conforming_bytes: int
    excess_packets: int
    excess_bytes: int
    first_ns: int
    last_ns: int
    spi: int | None = None
    teid: int | None = None
    qfi: int | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything that came in: ``packets`` = malformed + unmatched + those of the rules.

    ``bytes`` likewise, malformed packets having none. ``fragments_without_first`` had to be judged without ports; those
    that are held for their first are counted nowhere yet. ``gtpu`` are messages of GTP-U by their type, those that
    carry a packet (``g_pdu``) only if that could be read.
    """

    packets: int
    bytes: int
    malformed: Mapping[str, int]
    unmatched_packets: int
    unmatched_bytes: int
    flows: int
    aged_flows: int
    evicted_flows: int
    time_steps_back: int
    fragments_without_first: int
    gtpu: Mapping[str, int] = field(default_factory=dict)

    @property
    def malformed_packets(self) -> int:
        """Malformed packets of every reason."""
        return sum(self.malformed.values())


@dataclass(frozen=True, slots=True)
class WireCounters:
    """What came in one direction of live traffic, and what became of it.

    Packets are those of a wire: of a super-packet, the segments that it stands for; bytes from the IP header on.
    ``held_off`` came while nothing was to be forwarded, ``queued`` are held back now (shaping, and fragments that came
    before their first). ``errors`` are packets that should have passed, by what kept them from it. At any time,
    ``packets`` = passed + dropped + malformed + held_off + queued + errors, and likewise ``bytes``.
    """

    packets: int
    bytes: int
    passed_packets: int
    passed_bytes: int
    dropped_packets: int
    dropped_bytes: int
    malformed_packets: int
    malformed_bytes: int
    held_off_packets: int
    held_off_bytes: int
    queued_packets: int
    queued_bytes: int
    errors: Mapping[str, int]
    error_bytes: int
    reads: int
    writes: int

    @property
    def error_packets(self) -> int:
        """Packets that should have passed and could not."""
        return sum(self.errors.values())
