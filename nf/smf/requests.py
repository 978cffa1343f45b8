"""What a request to the SMF must be by itself, whatever the state (TS 29.502 §6.1.6, TS 29.512 §5.6)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.reader import MAX_INTEGER
from nf.common.resources import new_id
from nf.common.v1.mbs_pb2 import Ncgi
from nf.common.v1.types_pb2 import Snssai
from nf.pcf.v1.sm_policy_control_pb2 import FlowInformation, SmPolicyDecision
from nf.smf.v1.pdu_session_pb2 import PduSession, TunnelInfo

_UE_PREFIX_BITS: Final = 64
_MAX_PRECEDENCE: Final = 255
_MAX_QFI: Final = 63
_MAX_PORT: Final = 65_535
MAX_AMBR_BPS: Final = 10_000_000_000_000
_IDENTIFIER = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNN = re.compile(rf"(?=.{{1,100}}\Z){_LABEL}(?:\.{_LABEL})*")
_SLICE_DIFFERENTIATOR = re.compile(r"[0-9A-Fa-f]{6}")
_TOS = re.compile(r"[0-9A-Fa-f]{4}")
_MCC = re.compile(r"[0-9]{3}")
_MNC = re.compile(r"[0-9]{2,3}")
_NR_CELL = re.compile(r"[0-9A-Fa-f]{9}")
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]{1,8}")


@dataclass(frozen=True, slots=True)
class SessionAmbr:
    """What the flows of a session without a guaranteed bit rate may use together; None: as much as they want."""

    dl_bps: int | None = None
    ul_bps: int | None = None


NO_AMBR: Final = SessionAmbr()


def _slice_violations(s_nssai: Snssai) -> Iterator[FieldViolation]:
    if s_nssai.sst > 255:
        yield FieldViolation("s_nssai.sst", f"expected 0 to 255, got {s_nssai.sst}")
    if s_nssai.sd and not _SLICE_DIFFERENTIATOR.fullmatch(s_nssai.sd):
        yield FieldViolation("s_nssai.sd", f"expected six hexadecimal digits, got {s_nssai.sd!r}")


def _address_violations(session: PduSession) -> Iterator[FieldViolation]:
    ipv4, prefix = session.ue_ipv4_address, session.ue_ipv6_prefix
    if not ipv4 and not prefix:
        yield FieldViolation("ue_ipv4_address", "expected an address or a ue_ipv6_prefix, got neither")
    if ipv4:
        try:
            address = IPv4Address(ipv4)
        except ValueError:
            yield FieldViolation("ue_ipv4_address", f"expected an IPv4 address, got {ipv4!r}")
        else:
            if address.is_unspecified or address.is_multicast or address.is_loopback or int(address) == 0xFFFFFFFF:
                yield FieldViolation("ue_ipv4_address", f"expected the address of a host, got {ipv4!r}")
    if prefix:
        try:
            network = IPv6Network(prefix)
        except ValueError:
            network = None
        if network is None or network.prefixlen != _UE_PREFIX_BITS or network.is_multicast:
            yield FieldViolation("ue_ipv6_prefix", f"expected an IPv6 prefix of /64, got {prefix!r}")


def _tunnel_violations(session: PduSession) -> Iterator[FieldViolation]:
    if session.qfi > _MAX_QFI:
        yield FieldViolation("qfi", f"expected 1 to {_MAX_QFI}, or 0 for 1, got {session.qfi}")
    if not session.HasField("an_tunnel_info"):
        return
    end = session.an_tunnel_info
    if bool(end.ipv4_addr) == bool(end.ipv6_addr):
        yield FieldViolation("an_tunnel_info.ipv4_addr", f"expected it or ipv6_addr, got {_both_or_neither(end)}")
    for field, text, kind in (("ipv4_addr", end.ipv4_addr, IPv4Address), ("ipv6_addr", end.ipv6_addr, IPv6Address)):
        try:
            host = kind(text) if text else None
        except ValueError:
            yield FieldViolation(f"an_tunnel_info.{field}", f"expected an address, got {text!r}")
            continue
        if host is not None and (host.is_unspecified or host.is_multicast):
            yield FieldViolation(f"an_tunnel_info.{field}", f"expected the address of a host, got {text!r}")
    if not end.gtp_teid:
        yield FieldViolation("an_tunnel_info.gtp_teid", "expected an identifier from 1 on, got 0")
    if end.port > _MAX_PORT:
        yield FieldViolation("an_tunnel_info.port", f"expected 1 to {_MAX_PORT}, or 0 for 2152, got {end.port}")


def _location_violations(cell: Ncgi) -> Iterator[FieldViolation]:
    for name, text, form, expected in (
        ("plmn_id.mcc", cell.plmn_id.mcc, _MCC, "three digits"),
        ("plmn_id.mnc", cell.plmn_id.mnc, _MNC, "two or three digits"),
        ("nr_cell_id", cell.nr_cell_id, _NR_CELL, "nine hexadecimal digits"),
    ):
        if not form.fullmatch(text):
            yield FieldViolation(f"user_location.{name}", f"expected {expected}, got {text!r}")


def check_user_location(cell: Ncgi) -> None:
    """Raises InvalidArgument naming every property of a cell that is wrong."""
    found = list(_location_violations(cell))
    if found:
        raise InvalidArgument.of_all(found)


def _both_or_neither(end: TunnelInfo) -> str:
    return f"both {end.ipv4_addr!r} and {end.ipv6_addr!r}" if end.ipv4_addr else "neither"


def _violations(session: PduSession) -> Iterator[FieldViolation]:
    if session.sm_context_ref and not _IDENTIFIER.fullmatch(session.sm_context_ref):
        found = repr(session.sm_context_ref)
        yield FieldViolation("sm_context_ref", f"expected 1 to 128 of A-Z a-z 0-9 . _ ~ -, got {found}")
    if not session.supi:
        yield FieldViolation("supi", "expected a SUPI, e.g. 'imsi-001010000000001', got none")
    if not 1 <= session.pdu_session_id <= 15:
        yield FieldViolation("pdu_session_id", f"expected 1 to 15, got {session.pdu_session_id}")
    if not _DNN.fullmatch(session.dnn):
        yield FieldViolation("dnn", f"expected a data network name, e.g. 'internet', got {session.dnn!r}")
    yield from _slice_violations(session.s_nssai)
    yield from _address_violations(session)
    yield from _tunnel_violations(session)
    if session.HasField("user_location"):
        yield from _location_violations(session.user_location)
    for field in ("session_ambr_dl_bps", "session_ambr_ul_bps"):
        if session.HasField(field) and not 1 <= getattr(session, field) <= MAX_AMBR_BPS:
            yield FieldViolation(field, f"expected 1 to {MAX_AMBR_BPS} bit/s, got {getattr(session, field)}")


def requested_session(request: PduSession, ambr: SessionAmbr = NO_AMBR) -> PduSession:
    """What is asked for, addresses in canonical form, a new reference where none is given.

    ``ambr`` is what a session has that asks for none. Raises InvalidArgument naming every property that is wrong.
    """
    found = [FieldViolation(f"pdu_session.{each.field}", each.description) for each in _violations(request)]
    if found:
        raise InvalidArgument.of_all(found)
    session = requested_part(request)
    session.sm_context_ref = session.sm_context_ref or new_id()
    if session.ue_ipv6_prefix:
        session.ue_ipv6_prefix = str(IPv6Network(session.ue_ipv6_prefix))
    if ambr.dl_bps is not None and not session.HasField("session_ambr_dl_bps"):
        session.session_ambr_dl_bps = ambr.dl_bps
    if ambr.ul_bps is not None and not session.HasField("session_ambr_ul_bps"):
        session.session_ambr_ul_bps = ambr.ul_bps
    return session


def requested_part(session: PduSession) -> PduSession:
    """The session without what the SMF and the PCF have set."""
    return PduSession(
        sm_context_ref=session.sm_context_ref,
        supi=session.supi,
        gpsi=session.gpsi,
        pdu_session_id=session.pdu_session_id,
        dnn=session.dnn,
        s_nssai=session.s_nssai if session.HasField("s_nssai") else None,
        ue_ipv4_address=session.ue_ipv4_address,
        ue_ipv6_prefix=session.ue_ipv6_prefix,
        an_tunnel_info=session.an_tunnel_info if session.HasField("an_tunnel_info") else None,
        qfi=session.qfi,
        user_location=session.user_location if session.HasField("user_location") else None,
        session_ambr_dl_bps=session.session_ambr_dl_bps if session.HasField("session_ambr_dl_bps") else None,
        session_ambr_ul_bps=session.session_ambr_ul_bps if session.HasField("session_ambr_ul_bps") else None,
    )


def _flow_violations(flow: FlowInformation, field: str) -> Iterator[FieldViolation]:
    for name, form, expected in (
        ("tos_traffic_class", _TOS, "four hexadecimal digits, or none"),
        ("spi", _HEXADECIMAL, "up to eight hexadecimal digits"),
        ("flow_label", _HEXADECIMAL, "up to eight hexadecimal digits"),
    ):
        text: str = getattr(flow, name)
        if text and not form.fullmatch(text):
            yield FieldViolation(f"{field}.{name}", f"expected {expected}, got {text!r}")


def check_decision(decision: SmPolicyDecision) -> None:
    """Raises InvalidArgument naming every property of a decision that is wrong (flows: the UPF says)."""
    found: list[FieldViolation] = []
    names = [rule.pcc_rule_id for rule in decision.pcc_rules]
    if not 1 <= decision.revision <= MAX_INTEGER:
        found.append(FieldViolation("decision.revision", f"expected 1 to {MAX_INTEGER}, got {decision.revision}"))
    if len(set(names)) < len(names):
        found.append(FieldViolation("decision.pcc_rules", f"expected different pcc_rule_id, got {names}"))
    for at, rule in enumerate(decision.pcc_rules):
        field = f"decision.pcc_rules[{at}]"
        if not rule.pcc_rule_id or "/" in rule.pcc_rule_id:
            found.append(
                FieldViolation(f"{field}.pcc_rule_id", f"expected a name without '/', got {rule.pcc_rule_id!r}")
            )
        if rule.precedence > _MAX_PRECEDENCE:
            found.append(FieldViolation(f"{field}.precedence", f"expected 0 to 255, got {rule.precedence}"))
        labels = [flow.pack_filt_id for flow in rule.flow_infos]
        if len(set(labels)) < len(labels):
            found.append(FieldViolation(f"{field}.flow_infos", f"expected different pack_filt_id, got {labels}"))
        for number, flow in enumerate(rule.flow_infos):
            found += _flow_violations(flow, f"{field}.flow_infos[{number}]")
    if found:
        raise InvalidArgument.of_all(found)
