"""PDU sessions in the store: their transitions, how they are found, what they are told by (TS 29.502, TS 29.512)."""

from __future__ import annotations

from typing import Final

from nf.common.resources import copy_of, new_id
from nf.common.store import Reader, Transaction
from nf.common.v1.mbs_pb2 import Ncgi
from nf.pcf.v1.sm_policy_control_pb2 import SmPolicy
from nf.smf.errors import PduSessionExists, PduSessionNotFound, UeAddressInUse
from nf.smf.machine import PDU_SESSION, Effect, Event, State
from nf.smf.usage_log import SOURCE, forget_session
from nf.smf.v1.pdu_session_pb2 import PduSession, PduSessionStatus

_LAST_CP_SEID: Final = "last cp_seid"
_SM_POLICY: Final = "sm_policy_id"
_CP_SEID: Final = "cp_seid"
_IDENTITY: Final = "identity"
_IPV4: Final = "ipv4"
_IPV6: Final = "ipv6"


def insert_session(transaction: Transaction, requested: PduSession) -> PduSession:
    """A new session, ACTIVATING. Raises PduSessionExists and UeAddressInUse.

    Its identifiers at N4 and N7 are never given again.
    """
    # The case of a data network name means nothing (TS 23.003 §9A).
    dnn = requested.dnn.lower()
    lookups = {
        _IDENTITY: f"{requested.supi} {requested.pdu_session_id}",
        _IPV4: f"{dnn} {requested.ue_ipv4_address}" if requested.ue_ipv4_address else "",
        _IPV6: f"{dnn} {requested.ue_ipv6_prefix}" if requested.ue_ipv6_prefix else "",
    }
    for known in transaction.find(PduSession, _IDENTITY, lookups[_IDENTITY]):
        raise PduSessionExists(
            f"{requested.supi} has a PDU session {requested.pdu_session_id}: {known.sm_context_ref!r}",
            metadata={"sm_context_ref": known.sm_context_ref},
        )
    for field in (_IPV4, _IPV6):
        for known in transaction.find(PduSession, field, lookups[field]) if lookups[field] else ():
            raise UeAddressInUse(
                f"UE address {lookups[field].split()[1]} is in use in {requested.dnn!r} by {known.sm_context_ref!r}",
                metadata={"sm_context_ref": known.sm_context_ref},
            )
    session = copy_of(requested)
    session.cp_seid = transaction.cursor(_LAST_CP_SEID) + 1
    session.sm_policy_id = new_id()
    session.state = PduSession.State.ValueType(PDU_SESSION.step(State.ABSENT, Event.REQUESTED).state.value)
    session.create_time.FromDatetime(transaction.clock.now())
    transaction.set_cursor(_LAST_CP_SEID, session.cp_seid)
    lookups |= {_SM_POLICY: session.sm_policy_id, _CP_SEID: str(session.cp_seid)}
    return transaction.insert(session, session.sm_context_ref, lookups=lookups)


def by_sm_policy(reader: Reader, sm_policy_id: str) -> PduSession | None:
    """The session that has this policy association."""
    return next(iter(reader.find(PduSession, _SM_POLICY, sm_policy_id)), None)


def by_cp_seid(reader: Reader, cp_seid: int) -> PduSession | None:
    """The session that has this identifier at the SMF's end of N4."""
    return next(iter(reader.find(PduSession, _CP_SEID, str(cp_seid))), None)


def step(transaction: Transaction, session: PduSession, event: Event) -> PduSession:
    """Does in the store what ``event`` brings about; returns the session as it is then. Raises InvalidTransition."""
    transition = PDU_SESSION.step(State(session.state), event)
    changed = copy_of(session)
    if Effect.FORGET in transition.effects:
        transaction.delete(PduSession, session.sm_context_ref)
        forget_session(transaction, session.cp_seid)
    else:
        changed.state = PduSession.State.ValueType(transition.state.value)
        changed = transaction.update(changed, session.sm_context_ref)
    if Effect.NOTIFY_PDU_SESSION_STATUS in transition.effects:
        _tell(transaction, "PDU_SESSION_STATUS", changed)
    return changed


def keep_user_location(transaction: Transaction, sm_context_ref: str, user_location: Ncgi | None) -> PduSession:
    """Takes note of the cell that a session's UE is in; None: not known. Raises PduSessionNotFound."""
    session = transaction.get(PduSession, sm_context_ref)
    if session is None:
        raise PduSessionNotFound(f"PDU session {sm_context_ref!r} does not exist")
    changed = copy_of(session)
    changed.ClearField("user_location")
    if user_location is not None:
        changed.user_location.CopyFrom(user_location)
    if changed == session:
        return session
    changed = transaction.update(changed, sm_context_ref)
    if changed.state == PduSession.STATE_ACTIVE:
        _tell(transaction, "USER_LOCATION", changed)
    return changed


def _tell(transaction: Transaction, event_type: str, session: PduSession) -> None:
    status = PduSessionStatus(
        sm_policy_id=session.sm_policy_id,
        state=session.state,
        sm_context_ref=session.sm_context_ref,
        supi=session.supi,
        gpsi=session.gpsi,
        dnn=session.dnn,
        s_nssai=session.s_nssai if session.HasField("s_nssai") else None,
        ue_ipv4_address=session.ue_ipv4_address,
        ue_ipv6_prefix=session.ue_ipv6_prefix,
        user_location=session.user_location if session.HasField("user_location") else None,
    )
    transaction.emit(event_type, f"sm-policies/{session.sm_policy_id}", status, source=SOURCE)


def sm_policy_of(session: PduSession) -> SmPolicy:
    """What the PCF is told of a session when its policy association is opened."""
    return SmPolicy(
        sm_policy_id=session.sm_policy_id,
        supi=session.supi,
        gpsi=session.gpsi,
        pdu_session_id=session.pdu_session_id,
        dnn=session.dnn,
        slice_info=session.s_nssai if session.HasField("s_nssai") else None,
        ipv4_address=session.ue_ipv4_address,
        ipv6_address_prefix=session.ue_ipv6_prefix,
    )
