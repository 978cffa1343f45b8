"""N4 sessions → rules of the engine (TS 29.244 §5.2, §5.4).

A PDR becomes one rule, whose filters are those of its PDI (`upf.n4.filters`). A QER becomes one bucket per direction,
which outlives the PDRs that name it: a rule without filters holds it. The QER that a PDR names first gives a packet its
colour, those that it names further are aggregates above it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.v1.types_pb2 import EnforcementMethod
from upf.counters import AVERAGING_WINDOW_NS
from upf.dscp import MAX_DSCP
from upf.errors import UpfError
from upf.n4.filters import ACCESS, CORE, described_filters, filters_of, is_reference
from upf.n4.forwarding import check_forwarding, drops
from upf.n4.v1.n4_pb2 import GateStatus, Pdr, Qer, SdfFilter, Session, SourceInterface
from upf.rules import MAX_AGGREGATES, Aggregate, Marker, Mode, Policer, Rule
from upf.units import DEFAULT_BURST_MS, default_burst_bytes

__all__ = ["ACCESS", "CORE", "Detection", "Interface", "Made", "detection_of", "rules_of"]

Interface: TypeAlias = SourceInterface.ValueType

_MODES: Final[Mapping[EnforcementMethod.ValueType, Mode]] = {
    # As in PFCP, a bit rate that says nothing else is enforced.
    EnforcementMethod.ENFORCEMENT_METHOD_UNSPECIFIED: Mode.POLICE,
    EnforcementMethod.ENFORCEMENT_METHOD_POLICE: Mode.POLICE,
    EnforcementMethod.ENFORCEMENT_METHOD_MONITOR: Mode.MONITOR,
    EnforcementMethod.ENFORCEMENT_METHOD_MARK: Mode.MARK,
    EnforcementMethod.ENFORCEMENT_METHOD_SHAPE: Mode.SHAPE,
}
_DIRECTIONS: Final = {CORE: "dl", ACCESS: "ul"}
_Dscp = tuple[int | None, int | None, int | None]


@dataclass(frozen=True, slots=True)
class Detection:
    """What a rule of the engine stands for: a PDR of a session, with what polices and counts it."""

    cp_seid: int
    pdr_id: int
    qer_id: int
    urr_id: int
    source_interface: Interface
    mode: Mode
    averaging_window_ns: int


@dataclass(frozen=True, slots=True)
class _Direction:
    """What a QER does in one direction."""

    bucket_id: str
    policer: Policer | None
    gate_open: bool
    queue_bytes: int


@dataclass(frozen=True, slots=True)
class _Enforcement:
    """A QER, read."""

    qer: Qer
    mode: Mode
    dscp: _Dscp
    directions: Mapping[Interface, _Direction]


@dataclass(frozen=True, slots=True)
class _MadePdr:
    """What a PDR came to, and all that this depends on beside the PDR: its URR and QERs, the FARs of the session."""

    urr_id: int
    qers: tuple[tuple[int, _Enforcement], ...]
    fars: tuple[bytes, ...]
    rules: list[tuple[Interface, Rule]]


@dataclass(slots=True)
class Made:
    """What the QERs of a session came to, by their identifiers, and its PDRs, each as it was written."""

    qers: dict[int, tuple[bytes, _Enforcement, list[tuple[Interface, Rule]]]] = field(default_factory=dict)
    pdrs: dict[bytes, _MadePdr] = field(default_factory=dict)


def rule_name(cp_seid: int, pdr_id: int) -> str:
    """The name of a PDR's rule."""
    return f"{cp_seid}/{pdr_id}"


def bucket_name(cp_seid: int, qer_id: int, interface: Interface) -> str:
    """The name of a QER's bucket in one direction, and of the rule that holds it."""
    return f"{cp_seid}/qer/{qer_id}/{'downlink' if interface == CORE else 'uplink'}"


def cp_seid_of(rule: str) -> int:
    """The session whose rule has this name."""
    return int(rule.partition("/")[0])


def detection_of(session: Session, rule: str) -> Detection | None:
    """What a rule of the session stands for; None where that is not a PDR, or none that is there."""
    for pdr in session.pdrs:
        if rule_name(session.cp_seid, pdr.pdr_id) == rule:
            qer = next((qer for qer in session.qers if qer.qer_id == _leading_qer(pdr)), None)
            return Detection(
                session.cp_seid,
                pdr.pdr_id,
                qer.qer_id if qer is not None else 0,
                pdr.urr_id,
                pdr.pdi.source_interface,
                _MODES[qer.enforcement_method] if qer is not None else Mode.MONITOR,
                (qer.averaging_window_ms * 1_000_000 if qer is not None else 0) or AVERAGING_WINDOW_NS,
            )
    return None


def rules_of(
    session: Session, *, burst_ms: int = DEFAULT_BURST_MS, made: Made | None = None
) -> list[tuple[Interface, Rule]]:
    """The rules that enforce the session, each beside the source interface of the packets that it is about.

    burst_ms: how deep a bucket is whose QER does not say, as time at its rate.
    made: what was made of the session as it was before, at that ``burst_ms``. What is the same is taken from there, so
    that a change costs about as much as it changes; it holds what was made of this session afterwards.

    Raises InvalidArgument that names every field that cannot be enforced, what was found and what was expected.
    """
    violations: list[FieldViolation] = []
    builder = _Builder(session, violations, burst_ms, made if made is not None else Made())
    rules = builder.build()
    if violations:
        raise InvalidArgument(f"session {session.cp_seid}: the rules cannot be enforced", violations=violations)
    if made is not None:
        made.qers, made.pdrs = builder.made.qers, builder.made.pdrs
    return rules


def _leading_qer(pdr: Pdr) -> int:
    """The QER that says what becomes of the PDR's packets; 0: none."""
    return pdr.qer_id or (pdr.further_qer_ids[0] if pdr.further_qer_ids else 0)


class _Builder:
    """Builds the rules of one session and collects what is wrong with it."""

    def __init__(self, session: Session, violations: list[FieldViolation], burst_ms: int, known: Made) -> None:
        self.made = Made()
        self._known = known
        self._session = session
        self._burst_ms = burst_ms
        self._violations = violations
        self._qers: dict[int, _Enforcement] = {}
        self._urr_ids = {urr.urr_id for urr in session.urrs}
        self._fars = tuple(far.SerializeToString(deterministic=True) for far in session.fars)
        self._described: dict[int, SdfFilter] = {}

    def build(self) -> list[tuple[Interface, Rule]]:
        session = self._session
        self._check_identifiers("pdrs", "pdr_id", [pdr.pdr_id for pdr in session.pdrs])
        self._check_identifiers("qers", "qer_id", [qer.qer_id for qer in session.qers])
        self._check_identifiers("urrs", "urr_id", [urr.urr_id for urr in session.urrs])
        self._check_identifiers("fars", "far_id", [far.far_id for far in session.fars])
        check_forwarding(session, self._wrong)
        self._described = described_filters(session.pdrs, self._wrong)
        rules = [rule for at, qer in enumerate(session.qers) for rule in self._qer(at, qer)]
        for at, pdr in enumerate(session.pdrs):
            rules += self._pdr(at, pdr)
        return rules

    def _qer(self, at: int, qer: Qer) -> list[tuple[Interface, Rule]]:
        written = qer.SerializeToString(deterministic=True)
        known = self._known.qers.get(qer.qer_id)
        if known is None or known[0] != written:
            before = len(self._violations)
            rules = list(self._read_qer(at, qer))
            known = written, self._qers[qer.qer_id], rules
            if len(self._violations) > before:
                return rules
        self._qers[qer.qer_id] = known[1]
        self.made.qers[qer.qer_id] = known
        return known[2]

    def _pdr(self, at: int, pdr: Pdr) -> list[tuple[Interface, Rule]]:
        written = pdr.SerializeToString(deterministic=True)
        known = self._known.pdrs.get(written)
        if known is not None and self._still_holds(known):
            self.made.pdrs[written] = known
            return known.rules
        before = len(self._violations)
        rules = self._checked_pdr(at, pdr)
        # What refers to the filters of other PDRs depends on these too.
        if len(self._violations) == before and not any(is_reference(sdf) for sdf in pdr.pdi.sdf_filters):
            ids = (*((pdr.qer_id,) if pdr.qer_id else ()), *pdr.further_qer_ids)
            qers = tuple((qer_id, self._qers[qer_id]) for qer_id in ids)
            self.made.pdrs[written] = _MadePdr(pdr.urr_id, qers, self._fars, rules)
        return rules

    def _still_holds(self, known: _MadePdr) -> bool:
        """Whether what a PDR depends on is there, and as it was."""
        if known.urr_id and known.urr_id not in self._urr_ids:
            return False
        return known.fars == self._fars and all(self._qers.get(qer_id) is qer for qer_id, qer in known.qers)

    def _checked_pdr(self, at: int, pdr: Pdr) -> list[tuple[Interface, Rule]]:
        if pdr.qer_id and pdr.qer_id not in self._qers:
            self._wrong(f"pdrs[{at}].qer_id", f"found {pdr.qer_id}, expected a QER of the session")
        elif pdr.urr_id and pdr.urr_id not in self._urr_ids:
            self._wrong(f"pdrs[{at}].urr_id", f"found {pdr.urr_id}, expected a URR of the session")
        elif self._further_qers_exist(at, pdr):
            return list(self._read_pdr(at, pdr))
        return []

    def _wrong(self, field: str, description: str) -> None:
        self._violations.append(FieldViolation(f"session.{field}", description))

    def _check_identifiers(self, rules: str, field: str, ids: list[int]) -> None:
        if len(set(ids)) == len(ids) and 0 not in ids:
            return
        for at, number in enumerate(ids):
            if not number:
                self._wrong(f"{rules}[{at}].{field}", "found 0, expected an identifier from 1 on")
            elif number in ids[:at]:
                self._wrong(f"{rules}[{at}].{field}", f"found {number} a second time, expected one of its own")

    # --- QERs -----------------------------------------------------------------------------------------------------

    def _read_qer(self, at: int, qer: Qer) -> Iterator[tuple[Interface, Rule]]:
        mode = _MODES.get(qer.enforcement_method)
        if mode is None:
            self._wrong(
                f"qers[{at}].enforcement_method",
                f"found {qer.enforcement_method}, expected MONITOR, POLICE, MARK or SHAPE",
            )
            mode = Mode.POLICE
        directions = {
            CORE: self._direction(
                at, CORE, qer.HasField("mbr_dl_bps"), qer.mbr_dl_bps, qer.burst_dl_bytes,
                qer.gbr_dl_bps if qer.HasField("gbr_dl_bps") else None, qer.gate_status_dl, qer.queue_dl_bytes, mode,
            ),
            ACCESS: self._direction(
                at, ACCESS, qer.HasField("mbr_ul_bps"), qer.mbr_ul_bps, qer.burst_ul_bytes,
                qer.gbr_ul_bps if qer.HasField("gbr_ul_bps") else None, qer.gate_status_ul, qer.queue_ul_bytes, mode,
            ),
        }  # fmt: skip
        self._qers[qer.qer_id] = _Enforcement(qer, mode, self._dscp(at, qer, mode), directions)
        for interface, direction in directions.items():
            if direction.policer is not None:
                holder = self._rule(
                    f"qers[{at}]",
                    name=direction.bucket_id,
                    precedence=0,
                    policer=direction.policer,
                    mode=mode,
                    bucket_id=direction.bucket_id,
                    queue_bytes=direction.queue_bytes,
                )
                yield interface, holder

    def _direction(
        self,
        at: int,
        interface: Interface,
        bounded: bool,
        mbr_bps: int,
        burst_bytes: int,
        gbr_bps: int | None,
        gate: GateStatus.ValueType,
        queue_bytes: int,
        mode: Mode,
    ) -> _Direction:
        name, qer_id = _DIRECTIONS[interface], self._session.qers[at].qer_id
        policer = None
        if bounded:
            policer = self._policer(at, name, mbr_bps, gbr_bps, burst_bytes)
        elif gbr_bps is not None:
            self._wrong(f"qers[{at}].gbr_{name}_bps", f"found {gbr_bps} without mbr_{name}_bps, expected both or none")
        if mode is Mode.SHAPE:
            queue_bytes = queue_bytes or (default_burst_bytes(mbr_bps) if policer is not None else 0)
        elif queue_bytes:
            self._wrong(f"qers[{at}].queue_{name}_bytes", f"found {queue_bytes}, expected 0 unless SHAPE holds back")
        if gate not in GateStatus.values():
            self._wrong(f"qers[{at}].gate_status_{name}", f"found {gate}, expected OPEN or CLOSED")
        return _Direction(
            bucket_id=bucket_name(self._session.cp_seid, qer_id, interface),
            policer=policer,
            gate_open=gate != GateStatus.GATE_STATUS_CLOSED,
            queue_bytes=queue_bytes,
        )

    def _policer(self, at: int, name: str, mbr_bps: int, gbr_bps: int | None, burst_bytes: int) -> Policer | None:
        field = f"mbr_{name}_bps"
        try:
            whole = Policer(mbr_bps, burst_bytes or default_burst_bytes(mbr_bps, self._burst_ms))
            if gbr_bps is None:
                return whole
            field = f"gbr_{name}_bps"
            guaranteed = Policer(gbr_bps, burst_bytes or default_burst_bytes(gbr_bps, self._burst_ms))
            return Policer(
                gbr_bps,
                guaranteed.burst_bytes,
                Marker.TRTCM,
                excess_rate_bps=mbr_bps,
                excess_burst_bytes=whole.burst_bytes,
            )
        except UpfError as error:
            if "burst_bytes" in str(error):
                field = f"burst_{name}_bytes"
            if "excess_rate_bps" in str(error):
                self._wrong(f"qers[{at}].{field}", f"found {gbr_bps}, expected at most mbr_{name}_bps, {mbr_bps}")
            else:
                self._wrong(f"qers[{at}].{field}", str(error))
            return None

    def _dscp(self, at: int, qer: Qer, mode: Mode) -> _Dscp:
        found: list[int | None] = []
        for name in ("dscp_green", "dscp_yellow", "dscp_red"):
            value: int | None = getattr(qer, name) if qer.HasField(name) else None
            if value is not None and mode is not Mode.MARK:
                self._wrong(f"qers[{at}].{name}", f"found {value}, expected none unless the method is MARK")
            elif value is not None and value > MAX_DSCP:
                self._wrong(f"qers[{at}].{name}", f"found {value}, expected 0 to {MAX_DSCP}")
                value = None
            found.append(value)
        green, yellow, red = found
        return green, yellow, red

    # --- PDRs -----------------------------------------------------------------------------------------------------

    def _further_qers_exist(self, at: int, pdr: Pdr) -> bool:
        ids = list(pdr.further_qer_ids)
        if not ids:
            return True
        before = len(self._violations)
        if len(ids) > MAX_AGGREGATES:
            self._wrong(f"pdrs[{at}].further_qer_ids", f"found {len(ids)}, expected {MAX_AGGREGATES} at most")
        leading = self._qers.get(_leading_qer(pdr))
        for number, qer_id in enumerate(ids):
            field = f"pdrs[{at}].further_qer_ids[{number}]"
            further = self._qers.get(qer_id)
            if further is None or leading is None:
                self._wrong(field, f"found {qer_id}, expected a QER of the session")
            elif qer_id == pdr.qer_id or qer_id in ids[:number]:
                self._wrong(field, f"found {qer_id} a second time, expected each QER once")
            elif further.qer.enforcement_method and further.mode is not leading.mode:
                found = f"found QER {qer_id} with method {further.mode}"
                self._wrong(field, f"{found}, expected {leading.mode} as QER {_leading_qer(pdr)}")
        return len(self._violations) == before

    def _read_pdr(self, at: int, pdr: Pdr) -> Iterator[tuple[Interface, Rule]]:
        interface = pdr.pdi.source_interface
        if interface not in (ACCESS, CORE):
            self._wrong(f"pdrs[{at}].pdi.source_interface", "found none, expected ACCESS or CORE")
            return
        own = self._qers.get(pdr.qer_id)
        leading = self._qers.get(_leading_qer(pdr))
        named = [self._qers[qer_id].directions[interface] for qer_id in pdr.further_qer_ids]
        direction = own.directions[interface] if own is not None else None
        policer = direction.policer if direction is not None else None
        mode = leading.mode if leading is not None else Mode.MONITOR
        # A direction without a bit rate has nothing to hold back for.
        shaped = mode is Mode.SHAPE and policer is not None
        rule = self._rule(
            f"pdrs[{at}]",
            name=rule_name(self._session.cp_seid, pdr.pdr_id),
            precedence=pdr.precedence,
            filters=filters_of(pdr.pdi, self._described, partial(self._wrong_in, f"pdrs[{at}].pdi")),
            policer=policer,
            mode=mode if shaped or mode is not Mode.SHAPE else Mode.POLICE,
            bucket_id=direction.bucket_id if direction is not None and policer is not None else "",
            aggregates=tuple(self._aggregates(at, pdr, named)),
            gate_open=all(each.gate_open for each in (direction, *named) if each is not None)
            and not drops(self._session, pdr),
            dscp=leading.dscp if leading is not None and mode is Mode.MARK else (None, None, None),
            queue_bytes=direction.queue_bytes if direction is not None and shaped else 0,
        )
        yield interface, rule

    def _wrong_in(self, parent: str, field: str, description: str) -> None:
        self._wrong(f"{parent}.{field}", description)

    def _aggregates(self, at: int, pdr: Pdr, named: list[_Direction]) -> Iterator[Aggregate]:
        for number, direction in enumerate(named):
            if direction.policer is None:
                continue
            try:
                yield Aggregate(direction.bucket_id, direction.policer)
            except UpfError as error:
                field = f"pdrs[{at}].further_qer_ids[{number}]"
                self._wrong(field, f"found {pdr.further_qer_ids[number]}, expected a QER without GBR: {error}")

    def _rule(
        self,
        field: str,
        *,
        name: str,
        precedence: int,
        policer: Policer | None,
        mode: Mode,
        bucket_id: str,
        filters: tuple[object, ...] = (),
        **options: object,
    ) -> Rule:
        try:
            return Rule(name, precedence, filters, policer, mode, bucket_id=bucket_id, **options)  # type: ignore[arg-type]
        except UpfError as error:
            self._wrong(field, str(error))
            return Rule(name, precedence, (), None, Mode.POLICE)
