"""N4 sessions → rules of the engine (TS 29.244 §5.2).

A PDR becomes one rule. Its filters are written for the downlink: with source interface core they match as written,
with access source and destination change places (§5.2.1A.2A); either way only packets of the session's UE address
match. A QER becomes one bucket per direction, which outlives the PDRs that name it: a rule without filters holds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Final

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.v1.types_pb2 import EnforcementMethod
from upf.errors import UpfError
from upf.n4.v1.n4_pb2 import Pdr, Qer, Session, SourceInterface
from upf.rules import Mode, Policer, Rule
from upf.sdf import Direction, SdfFilter, parse_filter
from upf.units import default_burst_bytes

ACCESS: Final = SourceInterface.SOURCE_INTERFACE_ACCESS
CORE: Final = SourceInterface.SOURCE_INTERFACE_CORE

_MODES: Final[Mapping[EnforcementMethod.ValueType, Mode]] = {
    # As in PFCP, a bit rate that says nothing else is enforced.
    EnforcementMethod.ENFORCEMENT_METHOD_UNSPECIFIED: Mode.POLICE,
    EnforcementMethod.ENFORCEMENT_METHOD_POLICE: Mode.POLICE,
    EnforcementMethod.ENFORCEMENT_METHOD_MONITOR: Mode.MONITOR,
}
_EVERYTHING: Final = "permit out ip from any to any"


@dataclass(frozen=True, slots=True)
class Detection:
    """What a rule of the engine stands for: a PDR of a session, with what polices and counts it."""

    cp_seid: int
    pdr_id: int
    qer_id: int
    urr_id: int
    source_interface: SourceInterface.ValueType


def rule_name(cp_seid: int, pdr_id: int) -> str:
    """The name of a PDR's rule."""
    return f"{cp_seid}/{pdr_id}"


def detections(session: Session) -> dict[str, Detection]:
    """What the rules of the session's PDRs stand for, by rule name."""
    return {
        rule_name(session.cp_seid, pdr.pdr_id): Detection(
            session.cp_seid, pdr.pdr_id, pdr.qer_id, pdr.urr_id, pdr.pdi.source_interface
        )
        for pdr in session.pdrs
    }


def rules_of(session: Session) -> list[Rule]:
    """The rules that enforce the session.

    Raises InvalidArgument that names every field that cannot be enforced, what was found and what was expected.
    """
    violations: list[FieldViolation] = []
    rules = _Builder(session, violations).build()
    if violations:
        raise InvalidArgument(f"session {session.cp_seid}: the rules cannot be enforced", violations=violations)
    return rules


class _Builder:
    """Builds the rules of one session and collects what is wrong with it."""

    def __init__(self, session: Session, violations: list[FieldViolation]) -> None:
        self._session = session
        self._violations = violations
        self._qers: dict[int, tuple[Mode, dict[SourceInterface.ValueType, Policer | None]]] = {}

    def build(self) -> list[Rule]:
        session = self._session
        self._check_identifiers("pdrs", "pdr_id", [pdr.pdr_id for pdr in session.pdrs])
        self._check_identifiers("qers", "qer_id", [qer.qer_id for qer in session.qers])
        self._check_identifiers("urrs", "urr_id", [urr.urr_id for urr in session.urrs])
        rules = [rule for at, qer in enumerate(session.qers) for rule in self._read_qer(at, qer)]
        urr_ids = {urr.urr_id for urr in session.urrs}
        for at, pdr in enumerate(session.pdrs):
            if pdr.qer_id and pdr.qer_id not in self._qers:
                self._wrong(f"pdrs[{at}].qer_id", f"found {pdr.qer_id}, expected a QER of the session")
            elif pdr.urr_id and pdr.urr_id not in urr_ids:
                self._wrong(f"pdrs[{at}].urr_id", f"found {pdr.urr_id}, expected a URR of the session")
            else:
                rules += self._read_pdr(at, pdr)
        return rules

    def _wrong(self, field: str, description: str) -> None:
        self._violations.append(FieldViolation(f"session.{field}", description))

    def _check_identifiers(self, rules: str, field: str, ids: list[int]) -> None:
        for at, number in enumerate(ids):
            if not number:
                self._wrong(f"{rules}[{at}].{field}", "found 0, expected an identifier from 1 on")
            elif number in ids[:at]:
                self._wrong(f"{rules}[{at}].{field}", f"found {number} a second time, expected one of its own")

    def _read_qer(self, at: int, qer: Qer) -> Iterator[Rule]:
        mode = _MODES.get(qer.enforcement_method)
        if mode is None:
            name = EnforcementMethod.Name(qer.enforcement_method).removeprefix("ENFORCEMENT_METHOD_")
            self._wrong(f"qers[{at}].enforcement_method", f"found {name}, expected MONITOR or POLICE")
            mode = Mode.POLICE
        policers = {
            CORE: self._policer(at, "dl", qer.mbr_dl_bps, qer.burst_dl_bytes) if qer.HasField("mbr_dl_bps") else None,
            ACCESS: self._policer(at, "ul", qer.mbr_ul_bps, qer.burst_ul_bytes) if qer.HasField("mbr_ul_bps") else None,
        }
        self._qers[qer.qer_id] = mode, policers
        for interface, policer in policers.items():
            if policer is not None:
                bucket = self._bucket_id(qer.qer_id, interface)
                yield Rule(name=bucket, precedence=0, filters=(), policer=policer, mode=mode, bucket_id=bucket)

    def _policer(self, at: int, direction: str, rate_bps: int, burst_bytes: int) -> Policer | None:
        try:
            return Policer(rate_bps, burst_bytes or default_burst_bytes(rate_bps))
        except UpfError as error:
            field = f"burst_{direction}_bytes" if "burst" in str(error) else f"mbr_{direction}_bps"
            self._wrong(f"qers[{at}].{field}", str(error))
            return None

    def _bucket_id(self, qer_id: int, interface: SourceInterface.ValueType) -> str:
        return f"{self._session.cp_seid}/qer/{qer_id}/{'downlink' if interface == CORE else 'uplink'}"

    def _read_pdr(self, at: int, pdr: Pdr) -> Iterator[Rule]:
        interface = pdr.pdi.source_interface
        if interface not in (ACCESS, CORE):
            self._wrong(f"pdrs[{at}].pdi.source_interface", "found none, expected ACCESS or CORE")
            return
        mode, policers = self._qers.get(pdr.qer_id, (Mode.MONITOR, {}))
        policer = policers.get(interface)
        yield Rule(
            name=rule_name(self._session.cp_seid, pdr.pdr_id),
            precedence=pdr.precedence,
            filters=tuple(self._filters(at, pdr)),
            policer=policer,
            mode=mode,
            bucket_id=self._bucket_id(pdr.qer_id, interface) if policer is not None else "",
        )

    def _filters(self, at: int, pdr: Pdr) -> Iterator[SdfFilter]:
        texts = [sdf.flow_description for sdf in pdr.pdi.sdf_filters]
        for number, text in enumerate(texts or [_EVERYTHING]):
            field = f"pdrs[{at}].pdi.sdf_filters[{number}].flow_description"
            try:
                sdf_filter = parse_filter(text)
                if sdf_filter.direction is not Direction.OUT:
                    raise UpfError("expected 'out': N4 filters are written for the downlink")
                sdf_filter = limited_to_ue(sdf_filter, pdr.pdi.ue_ip_address)
            except UpfError as error:
                self._wrong(field, f"{text!r}: {error}")
                continue
            yield sdf_filter if pdr.pdi.source_interface == CORE else sdf_filter.swapped()


def limited_to_ue(sdf_filter: SdfFilter, ue_ip_address: str) -> SdfFilter:
    """The downlink filter, its destination narrowed to the UE's address or prefix.

    Raises UpfError when the UE's address is none, or none that the filter could match.
    """
    try:
        ue = ip_network(ue_ip_address)
    except ValueError:
        raise UpfError(f"UE address {ue_ip_address!r}: expected an address or prefix") from None
    if sdf_filter.family not in (0, ue.version):
        raise UpfError(f"an IPv{sdf_filter.family} filter cannot match UE address {ue_ip_address}")
    bits = ue.max_prefixlen
    shorter = bits - min(sdf_filter.dst_prefix_length, ue.prefixlen)
    if sdf_filter.dst_network >> shorter != int(ue.network_address) >> shorter:
        raise UpfError(f"the destination does not contain UE address {ue_ip_address}")
    if sdf_filter.dst_prefix_length > ue.prefixlen:
        return sdf_filter
    return replace(sdf_filter, family=ue.version, dst_network=int(ue.network_address), dst_prefix_length=ue.prefixlen)
