"""N4 sessions as data: what a modification makes of a session (TS 29.244 §6.3.3). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from nf.common.errors import FieldViolation, InvalidArgument, NotFound
from upf.n4.v1.n4_pb2 import Far, ModifySessionRequest, Pdr, Qer, Session, Urr

N4Rule = TypeVar("N4Rule", Pdr, Qer, Urr, Far)


class SessionNotFound(NotFound):
    """No session has this identifier."""

    reason = "SESSION_CONTEXT_NOT_FOUND"
    cause = "SESSION_CONTEXT_NOT_FOUND"


def modified(session: Session, request: ModifySessionRequest) -> Session:
    """The session after the modification; rules keep their order, new ones follow.

    Raises InvalidArgument naming the rules that are to be removed or queried and are not there.
    """
    pdrs = {pdr.pdr_id: pdr for pdr in session.pdrs}
    qers = {qer.qer_id: qer for qer in session.qers}
    urrs = {urr.urr_id: urr for urr in session.urrs}
    fars = {far.far_id: far for far in session.fars}
    violations = [
        *_unknown("remove_pdr_ids", request.remove_pdr_ids, pdrs),
        *_unknown("remove_qer_ids", request.remove_qer_ids, qers),
        *_unknown("remove_urr_ids", request.remove_urr_ids, urrs),
        *_unknown("query_urr_ids", request.query_urr_ids, urrs),
        *_unknown("remove_far_ids", request.remove_far_ids, fars),
    ]
    if violations:
        raise InvalidArgument(f"session {session.cp_seid}: rules that are not there", violations=violations)
    pdrs |= {pdr.pdr_id: pdr for pdr in request.create_or_update_pdrs}
    qers |= {qer.qer_id: qer for qer in request.create_or_update_qers}
    urrs |= {urr.urr_id: urr for urr in request.create_or_update_urrs}
    fars |= {far.far_id: far for far in request.create_or_update_fars}
    return Session(
        cp_seid=session.cp_seid,
        pdrs=_without(pdrs, request.remove_pdr_ids),
        qers=_without(qers, request.remove_qer_ids),
        urrs=_without(urrs, request.remove_urr_ids),
        fars=_without(fars, request.remove_far_ids),
    )


def _unknown(field: str, ids: Iterable[int], known: Mapping[int, N4Rule]) -> list[FieldViolation]:
    return [
        FieldViolation(f"{field}[{at}]", f"found {number}, expected a rule of the session")
        for at, number in enumerate(ids)
        if number not in known
    ]


def _without(rules: Mapping[int, N4Rule], removed: Iterable[int]) -> list[N4Rule]:
    gone = set(removed)
    return [rule for number, rule in rules.items() if number not in gone]
