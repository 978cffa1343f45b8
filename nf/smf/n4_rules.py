"""PCC rules → N4 rules, and the difference between two sets of them (TS 29.244 §5.2, TS 23.501 §5.8.2.11).

Each flow of a PCC rule becomes two PDRs, one per source interface, both with the description written for the downlink
(TS 29.244 §5.2.1A.2A); a UE with an IPv4 address and an IPv6 prefix has them for each that the flow can be about. The
PDRs of a rule share its QER (where it has a bit rate, or the session a tunnel) and its URR. Those of a flow that is not
enabled name another QER further, whose gates are closed. A session-AMBR is one more QER, which the PDRs of all rules
name that have no guaranteed bit rate (TS 23.501 §5.7.1.8) and whose excess is not let pass on purpose (MONITOR, MARK).
A session with a tunnel has two FARs, one per direction. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeVar

from nf.common.v1.types_pb2 import EnforcementMethod
from nf.pcf.v1.sm_policy_control_pb2 import PccRule, SmPolicyDecision
from nf.smf.flows import ACCESS, CORE, concerned, interfaces_of, is_closed, precedence_of, sdf_filter
from nf.smf.v1.pdu_session_pb2 import PduSession
from upf.n4.v1.n4_pb2 import (
    ApplyAction,
    DestinationInterface,
    Far,
    FTeid,
    GateStatus,
    ModifySessionRequest,
    OuterHeaderRemoval,
    Pdi,
    Pdr,
    Qer,
    Session,
    SourceInterface,
    Urr,
)

DEFAULT_QFI: Final = 1

_NAMES: Final = {CORE: "core", ACCESS: "access"}
# What the QER is allocated under that closes the gates of flows; no flow opens it.
_CLOSED: Final = "gate/closed"
# What the QER of the session-AMBR is allocated under.
_AMBR: Final = "ambr/session"
_SHARED: Final = {_AMBR, _CLOSED}
# What the identifiers of one PCC rule alone are allocated under begins so, and goes on with its name.
_OF_ONE_RULE: Final = ("pdr", "qer", "urr")
_NOTHING: Final = Session()
_LETS_PASS: Final = (EnforcementMethod.ENFORCEMENT_METHOD_MONITOR, EnforcementMethod.ENFORCEMENT_METHOD_MARK)

_Rule = TypeVar("_Rule", Pdr, Qer, Urr, Far)


@dataclass(frozen=True, slots=True)
class IdAllocation:
    """The N4 identifiers of one session by what they stand for.

    What stays keeps its identifier, and with it its bucket and its counters; none is ever given twice.
    """

    ids: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    highest: int = 0

    def without(self, keys: Iterable[str]) -> IdAllocation:
        """The allocation in which ``keys`` get new identifiers when they are next asked for."""
        dropped = set(keys)
        return IdAllocation({key: value for key, value in self.ids.items() if key not in dropped}, self.highest)


def urr_key(pcc_rule_id: str) -> str:
    """What the URR of a PCC rule is allocated under."""
    return f"urr/{pcc_rule_id}"


def qer_key(pcc_rule_id: str) -> str:
    """What the QER of a PCC rule is allocated under."""
    return f"qer/{pcc_rule_id}"


def rule_of_urr(ids: IdAllocation, urr_id: int) -> str | None:
    """The PCC rule whose usage the URR counts; None when the session has no such URR."""
    return _rule_of(ids, "urr/", urr_id)


def rule_of_qer(ids: IdAllocation, qer_id: int) -> str | None:
    """The PCC rule whose bit rate the QER enforces; None when the session has no such QER."""
    return _rule_of(ids, "qer/", qer_id)


def _rule_of(ids: IdAllocation, prefix: str, number: int) -> str | None:
    return next(
        (key[len(prefix) :] for key, value in ids.ids.items() if value == number and key.startswith(prefix)), None
    )


@dataclass(slots=True)
class _Allocator:
    """Hands out the identifiers of one session: the known ones again, new ones above all that ever were."""

    known: IdAllocation
    used: dict[str, int] = field(default_factory=dict)
    highest: int = 0

    def __call__(self, key: str) -> int:
        number = self.used.get(key, self.known.ids.get(key))
        if number is None:
            self.highest = number = max(self.highest, self.known.highest) + 1
        self.used[key] = number
        return number


def _ue_addresses(pdu_session: PduSession) -> Iterator[tuple[str, str]]:
    if pdu_session.ue_ipv4_address:
        yield "ipv4", pdu_session.ue_ipv4_address
    if pdu_session.ue_ipv6_prefix:
        yield "ipv6", pdu_session.ue_ipv6_prefix


def local_teid(pdu_session: PduSession) -> int:
    """The TEID of the session's packets on N3: it is chosen here, so that the tunnel outlives the UPF."""
    return pdu_session.cp_seid


def _fars(pdu_session: PduSession, new_id: _Allocator) -> dict[SourceInterface.ValueType, Far]:
    """Where packets that come from an interface go; none without a tunnel."""
    if not pdu_session.HasField("an_tunnel_info"):
        return {}
    end = pdu_session.an_tunnel_info
    to_core = Far(far_id=new_id("far/core"), apply_action=ApplyAction.APPLY_ACTION_FORW)
    to_core.forwarding_parameters.destination_interface = DestinationInterface.DESTINATION_INTERFACE_CORE
    to_access = Far(far_id=new_id("far/access"), apply_action=ApplyAction.APPLY_ACTION_FORW)
    to_access.forwarding_parameters.destination_interface = DestinationInterface.DESTINATION_INTERFACE_ACCESS
    outer_header = to_access.forwarding_parameters.outer_header_creation
    outer_header.teid, outer_header.port = end.gtp_teid, end.port
    outer_header.ipv4_address, outer_header.ipv6_address = end.ipv4_addr, end.ipv6_addr
    return {CORE: to_access, ACCESS: to_core}


def _tunnelled(pdr: Pdr, pdu_session: PduSession, fars: Mapping[SourceInterface.ValueType, Far]) -> Pdr:
    """The PDR with what the session's tunnel makes of it."""
    interface = pdr.pdi.source_interface
    if interface in fars:
        pdr.far_id = fars[interface].far_id
        if interface == ACCESS:
            pdr.pdi.local_f_teid.CopyFrom(FTeid(teid=local_teid(pdu_session)))
            pdr.outer_header_removal = OuterHeaderRemoval.OUTER_HEADER_REMOVAL_GTP_U_UDP_IP
    return pdr


def has_ambr(pdu_session: PduSession) -> bool:
    """Whether the session has a session-AMBR, in either direction."""
    return pdu_session.HasField("session_ambr_dl_bps") or pdu_session.HasField("session_ambr_ul_bps")


def counts_to_ambr(rule: PccRule) -> bool:
    """Whether the session-AMBR bounds the flows of a rule."""
    qos = rule.qos
    guaranteed = qos.HasField("gbr_dl_bps") or qos.HasField("gbr_ul_bps")
    return not guaranteed and qos.enforcement_method not in _LETS_PASS


def _is_bounded(rule: PccRule, pdu_session: PduSession) -> bool:
    return has_ambr(pdu_session) and counts_to_ambr(rule)


def _has_closed(rule: PccRule, pdu_session: PduSession) -> bool:
    return any(is_closed(flow, interface) for flow in rule.flow_infos for interface in interfaces_of(flow))


def _ambr_qer(pdu_session: PduSession, qer_id: int) -> Qer:
    return Qer(
        qer_id=qer_id,
        mbr_dl_bps=pdu_session.session_ambr_dl_bps if pdu_session.HasField("session_ambr_dl_bps") else None,
        mbr_ul_bps=pdu_session.session_ambr_ul_bps if pdu_session.HasField("session_ambr_ul_bps") else None,
    )


def _pdrs(
    rule: PccRule,
    addresses: list[tuple[str, str]],
    qer_id: int,
    urr_id: int,
    new_id: _Allocator,
    further_qer_ids: tuple[int, ...],
) -> Iterator[Pdr]:
    for flow in rule.flow_infos:
        precedence = precedence_of(rule.precedence, flow)
        for family, address in concerned(flow, addresses):
            for interface in interfaces_of(flow):
                pdr_id = new_id(f"pdr/{rule.pcc_rule_id}/{flow.pack_filt_id}/{_NAMES[interface]}/{family}")
                yield Pdr(
                    pdr_id=pdr_id,
                    precedence=precedence,
                    pdi=Pdi(source_interface=interface, ue_ip_address=address, sdf_filters=[sdf_filter(flow, pdr_id)]),
                    qer_id=qer_id,
                    urr_id=urr_id,
                    further_qer_ids=[*further_qer_ids, *((new_id(_CLOSED),) if is_closed(flow, interface) else ())],
                )


def _qer(rule: PccRule, qer_id: int, qfi: int) -> Qer:
    qos = rule.qos
    return Qer(
        qer_id=qer_id,
        mbr_ul_bps=qos.max_br_ul_bps if qos.HasField("max_br_ul_bps") else None,
        mbr_dl_bps=qos.max_br_dl_bps if qos.HasField("max_br_dl_bps") else None,
        burst_ul_bytes=qos.burst_bytes,
        burst_dl_bytes=qos.burst_bytes,
        enforcement_method=qos.enforcement_method,
        gbr_ul_bps=qos.gbr_ul_bps if qos.HasField("gbr_ul_bps") else None,
        gbr_dl_bps=qos.gbr_dl_bps if qos.HasField("gbr_dl_bps") else None,
        dscp_green=qos.dscp_green if qos.HasField("dscp_green") else None,
        dscp_yellow=qos.dscp_yellow if qos.HasField("dscp_yellow") else None,
        dscp_red=qos.dscp_red if qos.HasField("dscp_red") else None,
        queue_ul_bytes=qos.queue_bytes,
        queue_dl_bytes=qos.queue_bytes,
        qfi=qfi,
    )


def n4_session(
    pdu_session: PduSession, decision: SmPolicyDecision, known: IdAllocation, *, measurement_period_ms: int = 0
) -> tuple[Session, IdAllocation]:
    """The N4 session that enforces ``decision``, and the identifiers it uses.

    A rule without flows keeps its QER and URR: its bucket and counters wait for the next flow.
    ``measurement_period_ms`` of 0 leaves the period of usage reports to the UPF.
    """
    new_id = _Allocator(known, highest=known.highest)
    session = _part(pdu_session, decision.pcc_rules, new_id, measurement_period_ms)
    session.fars.extend(_fars(pdu_session, new_id).values())
    session.qers.extend(_shared_qers(pdu_session, new_id.used))
    return session, IdAllocation(MappingProxyType(new_id.used), new_id.highest)


def _part(pdu_session: PduSession, rules: Iterable[PccRule], new_id: _Allocator, measurement_period_ms: int) -> Session:
    """What of the N4 session is there for these rules alone."""
    session = Session(cp_seid=pdu_session.cp_seid)
    addresses = list(_ue_addresses(pdu_session))
    fars = _fars(pdu_session, new_id)
    qfi = (pdu_session.qfi or DEFAULT_QFI) if fars else 0
    for rule in rules:
        urr_id = new_id(urr_key(rule.pcc_rule_id))
        session.urrs.add(urr_id=urr_id, measurement_period_ms=measurement_period_ms)
        qer_id = 0
        if qfi or rule.qos.HasField("max_br_dl_bps") or rule.qos.HasField("max_br_ul_bps"):
            qer_id = new_id(qer_key(rule.pcc_rule_id))
            session.qers.append(_qer(rule, qer_id, qfi))
        further_qer_ids = (new_id(_AMBR),) if _is_bounded(rule, pdu_session) else ()
        pdrs = _pdrs(rule, addresses, qer_id, urr_id, new_id, further_qer_ids)
        session.pdrs.extend(_tunnelled(pdr, pdu_session, fars) for pdr in pdrs)
    return session


def _shared_qers(pdu_session: PduSession, ids: Mapping[str, int]) -> Iterator[Qer]:
    """The QERs among these identifiers that the PDRs of several rules may name."""
    if (ambr := ids.get(_AMBR)) is not None:
        yield _ambr_qer(pdu_session, ambr)
    if (closed := ids.get(_CLOSED)) is not None:
        gate = GateStatus.GATE_STATUS_CLOSED
        yield Qer(qer_id=closed, gate_status_ul=gate, gate_status_dl=gate)


def n4_change(
    pdu_session: PduSession, decision: SmPolicyDecision, known: IdAllocation, *, measurement_period_ms: int = 0
) -> tuple[ModifySessionRequest, IdAllocation]:
    """What puts ``decision`` in force in place of the session's own, and the identifiers that are in use then.

    The `modification` from the one N4 session to the other, at the cost of the PCC rules that differ: what is there for
    the others is the same in both. ``known``: what the session's own decision uses.
    """
    before = {rule.pcc_rule_id: rule for rule in pdu_session.decision.pcc_rules}
    after = {rule.pcc_rule_id: rule for rule in decision.pcc_rules}
    changed = [name for name, rule in after.items() if before.get(name) != rule]
    differing = {*changed, *(before.keys() - after.keys())}
    ids = {key: number for key, number in known.ids.items() if _pcc_rule_of(key) not in differing}

    new_id = _Allocator(known, highest=known.highest)
    old = new = _NOTHING
    if changed:
        was = [before[name] for name in changed if name in before]
        old = _part(pdu_session, was, _Allocator(known), measurement_period_ms) if was else _NOTHING
        new = _part(pdu_session, [after[name] for name in changed], new_id, measurement_period_ms)
    ids |= new_id.used
    for key, is_for in ((_AMBR, _is_bounded), (_CLOSED, _has_closed)):
        if key in ids and key not in new_id.used and not any(is_for(rule, pdu_session) for rule in decision.pcc_rules):
            del ids[key]
    request = ModifySessionRequest(
        cp_seid=pdu_session.cp_seid,
        create_or_update_pdrs=_changed(*({pdr.pdr_id: pdr for pdr in each.pdrs} for each in (old, new))),
        create_or_update_qers=_changed(*({qer.qer_id: qer for qer in each.qers} for each in (old, new))),
        create_or_update_urrs=_changed(*({urr.urr_id: urr for urr in each.urrs} for each in (old, new))),
        query_urr_ids=[known.ids[urr_key(name)] for name in before if name in after],
    )
    if coming := ids.keys() & _SHARED - known.ids.keys():
        request.create_or_update_qers.extend(_shared_qers(pdu_session, {key: ids[key] for key in coming}))
    for number, key in sorted((known.ids[key], key) for key in known.ids.keys() - ids.keys()):
        if key.startswith("pdr/"):
            request.remove_pdr_ids.append(number)
        elif key.startswith("urr/"):
            request.remove_urr_ids.append(number)
        else:
            request.remove_qer_ids.append(number)
    return request, IdAllocation(MappingProxyType(ids), new_id.highest)


def _pcc_rule_of(key: str) -> str | None:
    """The PCC rule for which alone there is what is allocated under the key; None where several may use it."""
    kind, name = key.split("/", 2)[:2]
    return name if kind in _OF_ONE_RULE else None


def _changed(before: Mapping[int, _Rule], after: Mapping[int, _Rule]) -> list[_Rule]:
    return [rule for number, rule in after.items() if before.get(number) != rule]


def _removed(before: Mapping[int, _Rule], after: Mapping[int, _Rule]) -> list[int]:
    return [number for number in before if number not in after]


def modification(before: Session, after: Session) -> ModifySessionRequest:
    """What turns the one into the other, asking for the usage of every URR that stays."""
    pdrs = {pdr.pdr_id: pdr for pdr in before.pdrs}, {pdr.pdr_id: pdr for pdr in after.pdrs}
    qers = {qer.qer_id: qer for qer in before.qers}, {qer.qer_id: qer for qer in after.qers}
    urrs = {urr.urr_id: urr for urr in before.urrs}, {urr.urr_id: urr for urr in after.urrs}
    fars = {far.far_id: far for far in before.fars}, {far.far_id: far for far in after.fars}
    return ModifySessionRequest(
        cp_seid=after.cp_seid,
        create_or_update_pdrs=_changed(*pdrs),
        remove_pdr_ids=_removed(*pdrs),
        create_or_update_qers=_changed(*qers),
        remove_qer_ids=_removed(*qers),
        create_or_update_urrs=_changed(*urrs),
        remove_urr_ids=_removed(*urrs),
        query_urr_ids=[number for number in urrs[0] if number in urrs[1]],
        create_or_update_fars=_changed(*fars),
        remove_far_ids=_removed(*fars),
    )


def changes_nothing(request: ModifySessionRequest) -> bool:
    """Whether a modification would only ask for usage."""
    return not (
        request.create_or_update_pdrs
        or request.remove_pdr_ids
        or request.create_or_update_qers
        or request.remove_qer_ids
        or request.create_or_update_urrs
        or request.remove_urr_ids
        or request.create_or_update_fars
        or request.remove_far_ids
    )
