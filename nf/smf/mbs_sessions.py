"""MBS sessions in the store: their transitions, their identifiers, and what they are told by (TS 29.532, TS 29.571)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nf.common.mbs_session_ids import ssm_key, tmgi_key
from nf.common.resources import copy_of, new_id
from nf.common.store import Reader, Transaction
from nf.common.v1.mbs_pb2 import MbsServiceArea, MbsSessionId, Tmgi, TunnelAddress
from nf.pcf.v1.mbs_policy_control_pb2 import MbsPolicyCtxtData
from nf.smf.config import GnbSection
from nf.smf.errors import MbsServiceAreaNotSupported, MbsSessionAlreadyCreated, OverlappingMbsServiceArea
from nf.smf.mbs_areas import overlap, served
from nf.smf.mbs_machine import MBS_SESSION, Effect, Event, State
from nf.smf.mbs_requests import BROADCAST
from nf.smf.tmgi import TMGI, TmgiRange, allocate, free_with_session, require
from nf.smf.usage_log import SOURCE
from nf.smf.v1.mbs_session_pb2 import (
    BroadcastDeliveryStatus,
    MbsSession,
    MbsSessionEventReport,
    MbsSessionEventType,
)
from nf.smf.v1.tmgi_pb2 import AllocatedTmgi

_LAST_CP_SEID: Final = "last mbs cp_seid"
_SSM: Final = "ssm"
_EVENT: Final = "MBS_SESSION_EVENT_TYPE_"

_EXPIRY: Final = MbsSessionEventType.MBS_SESSION_EVENT_TYPE_MBS_REL_TMGI_EXPIRY
_DELIVERY: Final = MbsSessionEventType.MBS_SESSION_EVENT_TYPE_BROADCAST_DELIVERY_STATUS
_INGRESS: Final = MbsSessionEventType.MBS_SESSION_EVENT_TYPE_INGRESS_TUNNEL_ADD_CHANGE
_DELIVERIES: Final = {
    Effect.NOTIFY_DELIVERY_STARTED: BroadcastDeliveryStatus.BROADCAST_DELIVERY_STATUS_STARTED,
    Effect.NOTIFY_DELIVERY_TERMINATED: BroadcastDeliveryStatus.BROADCAST_DELIVERY_STATUS_TERMINATED,
}


def insert_session(
    transaction: Transaction, requested: MbsSession, tmgis: TmgiRange, gnbs: Sequence[GnbSection]
) -> MbsSession:
    """A new session, CREATING, with its TMGI and the identifiers that are never given again.

    Raises UnknownTmgi, NoTmgiLeft, MbsSessionAlreadyCreated, OverlappingMbsServiceArea, MbsServiceAreaNotSupported.
    """
    session = copy_of(requested)
    others = check_area(transaction, session, gnbs)
    allocated = _tmgi_of(transaction, session, others, tmgis)
    session.tmgi.CopyFrom(allocated.tmgi)
    if session.location_dependent:
        session.area_session_id = _unused({each.area_session_id for each in others})
    session.cp_seid = transaction.cursor(_LAST_CP_SEID) + 1
    session.mbs_policy_id = new_id()
    session.state = MbsSession.State.ValueType(MBS_SESSION.step(State.ABSENT, Event.REQUESTED).state.value)
    session.create_time.FromDatetime(transaction.clock.now())
    transaction.set_cursor(_LAST_CP_SEID, session.cp_seid)
    lookups = {TMGI: tmgi_key(session.tmgi)}
    if session.mbs_session_id.HasField("ssm"):
        lookups[_SSM] = ssm_key(session.mbs_session_id.ssm)
    return transaction.insert(session, session.mbs_session_ref, lookups=lookups)


def check_area(reader: Reader, session: MbsSession, gnbs: Sequence[GnbSection]) -> list[MbsSession]:
    """The other sessions of its MBS session ID; sets what is left of its service area where that is less.

    Raises MbsSessionAlreadyCreated, OverlappingMbsServiceArea, MbsServiceAreaNotSupported.
    """
    others = [each for each in _of_one_id(reader, session) if each.mbs_session_ref != session.mbs_session_ref]
    for other in others:
        if other.state == MbsSession.STATE_RELEASING:
            continue
        name = repr(other.mbs_session_ref)
        if not session.location_dependent or not other.location_dependent:
            raise MbsSessionAlreadyCreated(
                f"MBS session {name} has this MBS session ID; several have one only if all are location_dependent",
                metadata={"mbs_session_ref": other.mbs_session_ref},
            )
        if common := overlap(session.mbs_service_area, other.mbs_service_area):
            raise OverlappingMbsServiceArea(
                f"mbs_service_area: expected none that others of this MBS session ID have, got {common} of {name}",
                metadata={"mbs_session_ref": other.mbs_session_ref},
            )
    session.ClearField("red_mbs_serv_area")
    if session.HasField("mbs_service_area"):
        left = served(gnbs, session.mbs_service_area)
        if left == MbsServiceArea():
            raise MbsServiceAreaNotSupported("mbs_service_area: expected one that a gNB serves, got none of theirs")
        if left != session.mbs_service_area:
            session.red_mbs_serv_area.CopyFrom(left)
    return others


def step(transaction: Transaction, session: MbsSession, event: Event) -> MbsSession:
    """Does in the store what ``event`` brings about; returns the session as it is then. Raises InvalidTransition."""
    transition = MBS_SESSION.step(State(session.state), event)
    changed = copy_of(session)
    if Effect.FORGET in transition.effects:
        transaction.delete(MbsSession, session.mbs_session_ref)
        free_with_session(transaction, session.tmgi)
    elif transition.state.value != session.state or event in (Event.CHANGED, Event.RESTORED):
        changed.state = MbsSession.State.ValueType(transition.state.value)
        changed = transaction.update(changed, session.mbs_session_ref)
    for effect in transition.effects:
        # Delivery has begun with the answer that has the tunnel's address.
        if effect in _DELIVERIES and session.service_type == BROADCAST and changed.ingress_tun_addr:
            _tell(
                transaction,
                changed,
                MbsSessionEventReport(event_type=_DELIVERY, broadcast_del_status=_DELIVERIES[effect]),
            )
        elif effect is Effect.NOTIFY_TMGI_EXPIRY:
            _tell(transaction, changed, MbsSessionEventReport(event_type=_EXPIRY))
    return changed


def move_ingress(transaction: Transaction, session: MbsSession, ingress: TunnelAddress) -> MbsSession:
    """The session with another ingress tunnel, of which the MBSF is told (INGRESS_TUNNEL_ADD_CHANGE)."""
    moved = copy_of(session)
    del moved.ingress_tun_addr[:]
    moved.ingress_tun_addr.append(ingress)
    moved = transaction.update(moved, session.mbs_session_ref)
    tell_ingress(transaction, moved)
    return moved


def tell_ingress(transaction: Transaction, session: MbsSession) -> None:
    """Tells the MBSF where the session's packets have to go from now on."""
    report = MbsSessionEventReport(event_type=_INGRESS, ingress_tun_addr=session.ingress_tun_addr)
    _tell(transaction, session, report)


def tell_expiry(transaction: Transaction, tmgi: Tmgi) -> None:
    """Tells that a TMGI has expired on which no session was."""
    report = MbsSessionEventReport(event_type=_EXPIRY, mbs_session_id=MbsSessionId(tmgi=tmgi))
    _emit(transaction, f"tmgis/{tmgi_key(tmgi)}", report)


def session_id_of(session: MbsSession) -> MbsSessionId:
    """The session's ID with its TMGI, whether that was given or allocated."""
    whole = copy_of(session.mbs_session_id)
    whole.tmgi.CopyFrom(session.tmgi)
    return whole


def policy_context_of(session: MbsSession) -> MbsPolicyCtxtData:
    """What the PCF is told of a session."""
    asked = MbsPolicyCtxtData(
        mbs_session_id=session_id_of(session),
        dnn=session.dnn,
        snssai=session.snssai if session.HasField("snssai") else None,
        mbs_serv_info=session.mbs_serv_info if session.HasField("mbs_serv_info") else None,
        mbs_policy_auth_ref=session.mbs_policy_auth_ref,
        service_type=session.service_type,
    )
    if session.HasField("area_session_policy_id"):
        asked.area_sess_pol_id = session.area_session_policy_id
    return asked


def _of_one_id(reader: Reader, session: MbsSession) -> list[MbsSession]:
    """The sessions with the same TMGI, or the same SSM as MBS session ID."""
    found: dict[str, MbsSession] = {}
    keys = {}
    if session.HasField("tmgi"):
        keys[TMGI] = tmgi_key(session.tmgi)
    elif session.mbs_session_id.HasField("tmgi"):
        keys[TMGI] = tmgi_key(session.mbs_session_id.tmgi)
    if session.mbs_session_id.HasField("ssm"):
        keys[_SSM] = ssm_key(session.mbs_session_id.ssm)
    for field, key in keys.items():
        found |= {each.mbs_session_ref: each for each in reader.find(MbsSession, field, key)}
    return list(found.values())


def _tmgi_of(
    transaction: Transaction, session: MbsSession, others: Sequence[MbsSession], tmgis: TmgiRange
) -> AllocatedTmgi:
    if session.mbs_session_id.HasField("tmgi"):
        return require(transaction, session.mbs_session_id.tmgi)
    for other in others:
        # The areas of one session share its TMGI.
        return require(transaction, other.tmgi)
    (allocated,) = allocate(transaction, tmgis, 1, mbs_session_ref=session.mbs_session_ref)
    return allocated


def _unused(taken: set[int]) -> int:
    number = 1
    while number in taken:
        number += 1
    return number


def _tell(transaction: Transaction, session: MbsSession, report: MbsSessionEventReport) -> None:
    report.mbs_session_ref = session.mbs_session_ref
    report.mbs_session_id.CopyFrom(session_id_of(session))
    if session.HasField("area_session_id"):
        report.area_session_id = session.area_session_id
    _emit(transaction, f"mbs-sessions/{session.mbs_session_ref}", report)


def _emit(transaction: Transaction, subject: str, report: MbsSessionEventReport) -> None:
    report.time_stamp.FromNanoseconds(transaction.clock.now_ns())
    event_type = MbsSessionEventType.Name(report.event_type).removeprefix(_EVENT)
    transaction.emit(event_type, subject, report, source=SOURCE)
