"""The rules of the user plane: what is detected (filters), and what is done with it (policers, a mode).

Rules come from N4 (`upf.n4.rules`), from the options of a command or from a rules file (`upf.rules_file`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from upf.dscp import MAX_DSCP
from upf.errors import UpfError
from upf.sdf import SdfFilter
from upf.tunnels import Tunnel
from upf.units import BIT_NS_PER_BYTE, MAX_BURST_BYTES, MAX_RATE_BPS, MIN_BURST_BYTES, MIN_RATE_BPS

DEFAULT_PRECEDENCE: Final = 100
MAX_PRECEDENCE: Final = 2**32 - 1
# Below one packet of the usual MTU a bucket lets no full packet pass, however long it fills.
MTU_BYTES: Final = 1500
MAX_AGGREGATES: Final = 4
# What a shaping bucket may owe at the most: as much as a bucket may hold.
MAX_QUEUE_BIT_NS: Final = MAX_BURST_BYTES * BIT_NS_PER_BYTE


class RulesError(UpfError):
    """Rules that cannot be used; ``problems`` holds every one found, a line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Mode(StrEnum):
    """What becomes of a packet that exceeds the bit rate.

    MONITOR: counted and passed. POLICE: dropped. MARK: passed; every packet bears the DSCP of its colour. SHAPE: held
    back until the tokens are there, or dropped where the queue is full.
    """

    MONITOR = "monitor"
    POLICE = "police"
    MARK = "mark"
    SHAPE = "shape"


class FlowDirection(StrEnum):
    """Which way the packets of a rule go, where traffic has two sides (FlowDirection of TS 29.512 §5.6.3.3).

    Filters are written for the downlink: `upf.directions` says what they are for the uplink.
    """

    DOWN = "down"
    UP = "up"
    BOTH = "both"


class Marker(StrEnum):
    """How a policer tells colours: two of one bucket, or three of two buckets as an RFC says."""

    TOKEN_BUCKET = "token-bucket"
    SRTCM = "rfc2697"
    TRTCM = "rfc2698"
    DIFFSERV_TRTCM = "rfc4115"


class Colour(IntEnum):
    """What a policer makes of a packet: within the committed rate, within the excess, or beyond."""

    GREEN = 0
    YELLOW = 1
    RED = 2


@dataclass(frozen=True, slots=True)
class Policer:
    """A marker and its buckets.

    ``rate_bps`` and ``burst_bytes`` are the committed ones (CIR, CBS). ``excess_rate_bps`` is the PIR of RFC 2698, the
    EIR of RFC 4115; ``excess_burst_bytes`` the EBS of RFC 2697 and RFC 4115, the PBS of RFC 2698. With
    ``colour_aware`` a packet never leaves with a better colour than its DSCP brings (`upf.policing.colour_of_dscp`).

    Raises UpfError outside 1 bps..10 Tbps and 64 B..512 MiB, where a bucket that the marker has is missing, or one
    that it has not is given.
    """

    rate_bps: int
    burst_bytes: int
    marker: Marker = Marker.TOKEN_BUCKET
    excess_rate_bps: int = 0
    excess_burst_bytes: int = 0
    colour_aware: bool = False

    def __post_init__(self) -> None:
        self._within("rate_bps", self.rate_bps, MIN_RATE_BPS, MAX_RATE_BPS)
        self._within("burst_bytes", self.burst_bytes, MIN_BURST_BYTES, MAX_BURST_BYTES)
        if self.marker is Marker.TOKEN_BUCKET:
            self._absent("excess_burst_bytes", self.excess_burst_bytes)
        else:
            self._within("excess_burst_bytes", self.excess_burst_bytes, MIN_BURST_BYTES, MAX_BURST_BYTES)
        if self.marker in (Marker.TOKEN_BUCKET, Marker.SRTCM):
            self._absent("excess_rate_bps", self.excess_rate_bps)
        else:
            # The PIR of RFC 2698 contains the CIR; the EIR of RFC 4115 comes beside it.
            least_bps = self.rate_bps if self.marker is Marker.TRTCM else MIN_RATE_BPS
            self._within("excess_rate_bps", self.excess_rate_bps, least_bps, MAX_RATE_BPS)

    def _within(self, field: str, found: int, least: int, most: int) -> None:
        if not least <= found <= most:
            raise UpfError(f"policer: {field}: found {found}, expected {least} to {most}")

    def _absent(self, field: str, found: int) -> None:
        if found:
            raise UpfError(f"policer: {field}: found {found}, expected 0: marker {self.marker} has none")

    @property
    def filling_ns(self) -> int:
        """The time in which every bucket of the policer is full, whatever was left in it; rounded up."""
        if self.marker is Marker.SRTCM:
            return _filling_ns(self.burst_bytes + self.excess_burst_bytes, self.rate_bps)
        excess_ns = _filling_ns(self.excess_burst_bytes, self.excess_rate_bps) if self.excess_rate_bps else 0
        return max(_filling_ns(self.burst_bytes, self.rate_bps), excess_ns)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A two-colour bucket above a rule's own: that of a session (AMBR), or of whatever shares its ``bucket_id``.

    Raises UpfError where the id is empty or the policer is no plain token bucket.
    """

    bucket_id: str
    policer: Policer

    def __post_init__(self) -> None:
        if not self.bucket_id:
            raise UpfError("aggregate: bucket_id: found '', expected an identifier")
        if self.policer.marker is not Marker.TOKEN_BUCKET or self.policer.colour_aware:
            marker = f"{self.policer.marker}{', colour-aware' if self.policer.colour_aware else ''}"
            raise UpfError(f"aggregate {self.bucket_id!r}: marker: found {marker}, expected {Marker.TOKEN_BUCKET}")


@dataclass(frozen=True, slots=True)
class Rule:
    """Packets that any of ``filters`` matches, and what is done with them.

    Rules are tried by precedence, lower first, then in the order given. The policer gives each packet a colour; without
    one every packet is green. Rules with the same ``bucket_id`` share one bucket (and have equal policers); an empty
    one is the rule's own. With ``per_flow`` each flow has such a bucket. Where one of the ``aggregates`` (4 at most)
    lacks the tokens, the packet is red; own bucket and aggregates are charged together or not at all. A rule whose
    gate is not open drops everything and charges nothing.

    ``dscp``: what mode MARK writes into green, yellow and red packets; None leaves the field as it came.
    ``queue_bytes`` or ``queue_ns``: what mode SHAPE may owe at the most, as volume or as time. ``direction``: which
    engines have the rule, where there is one for each direction; an engine does not look at it.

    Raises RulesError.
    """

    name: str
    precedence: int
    filters: tuple[SdfFilter, ...]
    policer: Policer | None
    mode: Mode
    per_flow: bool = False
    bucket_id: str = ""
    aggregates: tuple[Aggregate, ...] = ()
    gate_open: bool = True
    dscp: tuple[int | None, int | None, int | None] = (None, None, None)
    queue_bytes: int = 0
    queue_ns: int = 0
    direction: FlowDirection = FlowDirection.BOTH

    def __post_init__(self) -> None:
        if self.aggregates:
            self._check_aggregates(self.aggregates)
        if self.mode is Mode.MARK:
            self._check_dscp(self.dscp)
        elif self.mode is Mode.SHAPE:
            self._check_queue()

    def _check_aggregates(self, aggregates: Sequence[Aggregate]) -> None:
        if len(aggregates) > MAX_AGGREGATES:
            self._wrong("aggregates", len(aggregates), f"{MAX_AGGREGATES} at most")
        own = self.bucket_id if self.policer is not None else ""
        ids = [own, *(aggregate.bucket_id for aggregate in aggregates)]
        for at, bucket_id in enumerate(ids):
            if bucket_id in ids[:at]:
                self._wrong("aggregates", repr(bucket_id), "buckets that the rule is not charged to already")

    def _check_dscp(self, dscp: Sequence[int | None]) -> None:
        if len(dscp) != len(Colour) or not all(value is None or 0 <= value <= MAX_DSCP for value in dscp):
            self._wrong("dscp", dscp, f"for green, yellow and red each None or 0 to {MAX_DSCP}")

    def _check_queue(self) -> None:
        if self.policer is None:
            self._wrong("policer", "none", f"one: mode {self.mode} needs a bit rate")
        elif self.policer.marker is not Marker.TOKEN_BUCKET or self.policer.colour_aware:
            self._wrong("marker", self.policer.marker, f"a colour-blind {Marker.TOKEN_BUCKET}: mode {self.mode}")
        elif self.queue_bytes and self.queue_ns:
            self._wrong("queue_ns", self.queue_ns, f"0 beside queue_bytes {self.queue_bytes}")
        elif not (self.queue_bytes >= 0 and self.queue_ns >= 0 and self.queue_bit_ns <= MAX_QUEUE_BIT_NS):
            found = f"{self.queue_bytes} B, {self.queue_ns} ns at {self.policer.rate_bps} bps"
            self._wrong("queue", found, "0 to 512 MiB: beyond it the bucket's arithmetic would leave 64 bits")

    def _wrong(self, field: str, found: object, expected: str) -> None:
        raise RulesError([f"rule {self.name!r}: {field}: found {found}, expected {expected}"])

    @property
    def queue_bit_ns(self) -> int:
        """What the bucket may owe at the most, in bit-nanoseconds; 0 unless the mode is SHAPE."""
        if self.mode is not Mode.SHAPE or self.policer is None:
            return 0
        return self.queue_bytes * BIT_NS_PER_BYTE + self.queue_ns * self.policer.rate_bps

    @property
    def filling_ns(self) -> int:
        """The time in which every bucket of the rule is full, whatever was left in it or owed; rounded up."""
        longest_ns = max((aggregate.policer.filling_ns for aggregate in self.aggregates), default=0)
        if self.policer is None:
            return longest_ns
        return max(longest_ns, self.policer.filling_ns + -(-self.queue_bit_ns // self.policer.rate_bps))


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules in the order in which they were written, and what is odd about them though usable.

    ``tunnels``: sessions on N3, where live traffic comes that way.
    """

    rules: tuple[Rule, ...]
    warnings: tuple[str, ...] = ()
    tunnels: tuple[Tunnel, ...] = ()


def in_order(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules in the order in which they are tried: by precedence, then as given.

    Raises RulesError where two have one name, or share a bucket and differ in its parameters.
    """
    problems = []
    names: set[str] = set()
    # What a bucket is, and the rule that said so first.
    buckets: dict[str, tuple[tuple[Policer, int], str]] = {}
    for rule in rules:
        if rule.name in names:
            problems.append(f"rule {rule.name!r}: the name is taken by another rule")
        names.add(rule.name)
        for bucket_id, bucket in shared_buckets(rule):
            first, first_name = buckets.setdefault(bucket_id, (bucket, rule.name))
            if first != bucket:
                problems.append(f"rule {rule.name!r}: bucket {bucket_id!r} has other parameters in rule {first_name!r}")
    if problems:
        raise RulesError(problems)
    return tuple(sorted(rules, key=lambda rule: rule.precedence))


def shared_buckets(rule: Rule) -> Iterator[tuple[str, tuple[Policer, int]]]:
    """The buckets that the rule may share with others, and what they must then agree about."""
    # A flow's own bucket is shared with nobody. One that may owe is another than one that may not, be its queue as
    # short as it likes.
    if rule.bucket_id and rule.policer is not None and not rule.per_flow:
        yield rule.bucket_id, (rule.policer, rule.queue_bit_ns if rule.mode is Mode.SHAPE else -1)
    for aggregate in rule.aggregates:
        yield aggregate.bucket_id, (aggregate.policer, -1)


def _filling_ns(burst_bytes: int, rate_bps: int) -> int:
    return -(-burst_bytes * BIT_NS_PER_BYTE // rate_bps)
