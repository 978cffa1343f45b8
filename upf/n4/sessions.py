"""N4 sessions as data: what a modification makes of a session (TS 29.244 §6.3.3). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

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
    violations = [
        *_unknown("remove_pdr_ids", request.remove_pdr_ids, (pdr.pdr_id for pdr in session.pdrs)),
        *_unknown("remove_qer_ids", request.remove_qer_ids, (qer.qer_id for qer in session.qers)),
        *_unknown("remove_urr_ids", request.remove_urr_ids, (urr.urr_id for urr in session.urrs)),
        *_unknown("query_urr_ids", request.query_urr_ids, (urr.urr_id for urr in session.urrs)),
        *_unknown("remove_far_ids", request.remove_far_ids, (far.far_id for far in session.fars)),
    ]
    if violations:
        raise InvalidArgument(f"session {session.cp_seid}: rules that are not there", violations=violations)
    after = Session()
    after.CopyFrom(session)
    _change(after.pdrs, lambda pdr: pdr.pdr_id, request.create_or_update_pdrs, request.remove_pdr_ids)
    _change(after.qers, lambda qer: qer.qer_id, request.create_or_update_qers, request.remove_qer_ids)
    _change(after.urrs, lambda urr: urr.urr_id, request.create_or_update_urrs, request.remove_urr_ids)
    _change(after.fars, lambda far: far.far_id, request.create_or_update_fars, request.remove_far_ids)
    return after


def _unknown(field: str, ids: Sequence[int], rules: Iterable[int]) -> list[FieldViolation]:
    if not ids:
        return []
    known = set(rules)
    return [
        FieldViolation(f"{field}[{at}]", f"found {number}, expected a rule of the session")
        for at, number in enumerate(ids)
        if number not in known
    ]


def _change(
    rules: RepeatedCompositeFieldContainer[N4Rule],
    number_of: Callable[[N4Rule], int],
    created: Sequence[N4Rule],
    removed: Sequence[int],
) -> None:
    """Rules that are updated keep their places; what is removed goes, even if it was created at once."""
    if not created and not removed:
        return
    places = {number_of(rule): at for at, rule in enumerate(rules)}
    for rule in created:
        at = places.setdefault(number_of(rule), len(rules))
        if at < len(rules):
            rules[at].CopyFrom(rule)
        else:
            rules.append(rule)
    for at in sorted({places[number] for number in removed}, reverse=True):
        del rules[at]
