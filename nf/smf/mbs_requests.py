"""What a request about an MBS session must be by itself, whatever the state (TS 29.532 §6.2.6, TS 29.571 §5.9)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.mbs_session_ids import session_id_violations, ssm_violations
from nf.common.resources import copy_of, new_id
from nf.common.v1.mbs_pb2 import MbsServiceArea, MbsServiceType, Ncgi, PlmnId, Ssm, Tai
from nf.smf.v1.mbs_session_pb2 import MbsSession, MbsSessionActivityStatus

MULTICAST: Final = MbsServiceType.MBS_SERVICE_TYPE_MULTICAST
BROADCAST: Final = MbsServiceType.MBS_SERVICE_TYPE_BROADCAST
INACTIVE: Final = MbsSessionActivityStatus.MBS_SESSION_ACTIVITY_STATUS_INACTIVE

# What a client may change of a session.
MAY_CHANGE: Final = (
    "mbs_service_area",
    "mbs_serv_info",
    "activity_status",
    "start_time",
    "termination_time",
    "mbs_fsa_id_list",
)
# What the SMF sets.
_OWN: Final = (
    "tmgi",
    "expiration_time",
    "area_session_id",
    "ingress_tun_addr",
    "red_mbs_serv_area",
    "state",
    "mbs_policy_id",
    "decision",
    "cp_seid",
    "create_time",
    "etag",
)
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_TAC: Final = re.compile(r"[0-9A-Fa-f]{4}|[0-9A-Fa-f]{6}")
_CELL: Final = re.compile(r"[0-9A-Fa-f]{9}")
_FSA: Final = re.compile(r"[0-9A-Fa-f]{6}")
_SLICE_DIFFERENTIATOR: Final = re.compile(r"[0-9A-Fa-f]{6}")
_MAX_AREA_SESSION: Final = 65_535


def ssm_of(session: MbsSession) -> Ssm:
    """Source and group of the session's packets."""
    return session.ssm if session.HasField("ssm") else session.mbs_session_id.ssm


def requested_part(session: MbsSession) -> MbsSession:
    """What the client has asked for, without what the SMF has set."""
    asked = copy_of(session)
    for field in _OWN:
        asked.ClearField(field)
    return asked


def requested_session(request: MbsSession) -> MbsSession:
    """What is asked for, with a new reference where none is given. Raises InvalidArgument naming what is wrong."""
    _raise(_violations(request))
    asked = requested_part(request)
    asked.mbs_session_ref = asked.mbs_session_ref or new_id()
    return asked


def check_changed(session: MbsSession) -> None:
    """Raises InvalidArgument for what is wrong with a session that is to become so."""
    _raise(_violations(session))


def _raise(violations: Iterator[FieldViolation]) -> None:
    found = [FieldViolation(f"mbs_session.{each.field}", each.description) for each in violations]
    if found:
        raise InvalidArgument.of_all(found)


def _plmn_violations(plmn_id: PlmnId, field: str) -> Iterator[FieldViolation]:
    for part, digits, expected in (("mcc", (3,), "three digits"), ("mnc", (2, 3), "two or three digits")):
        text = getattr(plmn_id, part)
        if len(text) not in digits or not (text.isascii() and text.isdecimal()):
            yield FieldViolation(f"{field}.{part}", f"expected {expected}, got {text!r}")


def _tai_violations(tai: Tai, field: str) -> Iterator[FieldViolation]:
    yield from _plmn_violations(tai.plmn_id, f"{field}.plmn_id")
    if not _TAC.fullmatch(tai.tac):
        yield FieldViolation(f"{field}.tac", f"expected four or six hexadecimal digits, got {tai.tac!r}")


def _cell_violations(cell: Ncgi, field: str) -> Iterator[FieldViolation]:
    yield from _plmn_violations(cell.plmn_id, f"{field}.plmn_id")
    if not _CELL.fullmatch(cell.nr_cell_id):
        yield FieldViolation(f"{field}.nr_cell_id", f"expected nine hexadecimal digits, got {cell.nr_cell_id!r}")


def _area_violations(area: MbsServiceArea, field: str) -> Iterator[FieldViolation]:
    if not area.ncgi_list and not area.tai_list:
        yield FieldViolation(field, "expected an ncgi_list or a tai_list, got neither")
    for at, tai in enumerate(area.tai_list):
        yield from _tai_violations(tai, f"{field}.tai_list[{at}]")
    for at, each in enumerate(area.ncgi_list):
        yield from _tai_violations(each.tai, f"{field}.ncgi_list[{at}].tai")
        if not each.cell_list:
            yield FieldViolation(f"{field}.ncgi_list[{at}].cell_list", "expected one cell at least, got none")
        for number, cell in enumerate(each.cell_list):
            yield from _cell_violations(cell, f"{field}.ncgi_list[{at}].cell_list[{number}]")


def _identity_violations(session: MbsSession) -> Iterator[FieldViolation]:
    has_id = session.HasField("mbs_session_id")
    if has_id:
        yield from session_id_violations(session.mbs_session_id, "mbs_session_id")
    elif not session.tmgi_alloc_req:
        yield FieldViolation("mbs_session_id", "expected it or tmgi_alloc_req, got neither")
    if session.tmgi_alloc_req and session.mbs_session_id.HasField("tmgi"):
        yield FieldViolation("tmgi_alloc_req", "expected none beside a TMGI in mbs_session_id")
    if session.HasField("ssm"):
        yield from ssm_violations(session.ssm, "ssm")
    elif not session.mbs_session_id.HasField("ssm"):
        yield FieldViolation("ssm", "expected source and group of the session's packets, here or in mbs_session_id")


def _violations(session: MbsSession) -> Iterator[FieldViolation]:
    if session.mbs_session_ref and not _IDENTIFIER.fullmatch(session.mbs_session_ref):
        found = repr(session.mbs_session_ref)
        yield FieldViolation("mbs_session_ref", f"expected 1 to 128 of A-Z a-z 0-9 . _ ~ -, got {found}")
    if session.service_type not in (MULTICAST, BROADCAST):
        yield FieldViolation("service_type", f"expected MULTICAST or BROADCAST, got {session.service_type}")
    yield from _identity_violations(session)
    if session.HasField("mbs_service_area"):
        yield from _area_violations(session.mbs_service_area, "mbs_service_area")
    elif session.location_dependent:
        yield FieldViolation("mbs_service_area", "expected one, as the session is location_dependent, got none")
    if session.snssai.sst > 255:
        yield FieldViolation("snssai.sst", f"expected 0 to 255, got {session.snssai.sst}")
    if session.snssai.sd and not _SLICE_DIFFERENTIATOR.fullmatch(session.snssai.sd):
        yield FieldViolation("snssai.sd", f"expected six hexadecimal digits, got {session.snssai.sd!r}")
    if session.activity_status not in MbsSessionActivityStatus.values():
        yield FieldViolation("activity_status", f"expected ACTIVE or INACTIVE, got {session.activity_status}")
    elif session.activity_status == INACTIVE and session.service_type != MULTICAST:
        yield FieldViolation("activity_status", "expected ACTIVE: of multicast sessions only there are INACTIVE ones")
    for at, area in enumerate(session.mbs_fsa_id_list):
        if not _FSA.fullmatch(area):
            yield FieldViolation(f"mbs_fsa_id_list[{at}]", f"expected six hexadecimal digits, got {area!r}")
    if session.area_session_policy_id > _MAX_AREA_SESSION:
        found = str(session.area_session_policy_id)
        yield FieldViolation("area_session_policy_id", f"expected 0 to {_MAX_AREA_SESSION}, got {found}")
    for field in ("start_time", "termination_time"):
        if session.HasField(field) and not 0 <= getattr(session, field).seconds < 253_402_300_800:
            yield FieldViolation(field, "expected a time of this era")
    if (
        session.HasField("start_time")
        and session.HasField("termination_time")
        and session.termination_time.ToNanoseconds() < session.start_time.ToNanoseconds()
    ):
        yield FieldViolation("termination_time", "expected one after start_time")
