"""What a change of a distribution session makes of it, and whether a repeat is one (TS 29.581 §5.2.2). Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.resources import apply_mask, copy_of
from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.mbstf.errors import DistSessionExists
from nf.mbstf.machine import State
from nf.mbstf.requests import CHANGEABLE, LIVE_FIELDS, check_session, requested_part
from nf.mbstf.sessions import state_name, state_of
from nf.mbstf.v1.dist_session_pb2 import DistSession

STATE_ALONE: Final = ["dist_session_state"]


def changed_session(
    known: DistSession,
    changes: DistSession,
    mask: FieldMask,
    check_fec: Callable[[shared.FecConfig], None],
    reserve: Callable[[DistSession], DistSession],
) -> DistSession:
    """The session as it is wanted; ``reserve`` chooses what it leaves to the MBSTF. Raises InvalidArgument."""
    if list(mask.paths) == STATE_ALONE and changes.dist_session_state in shared.DistSessionState.values():
        # What most requests are: nothing else need be looked at.
        wanted = copy_of(known)
        wanted.dist_session_state = changes.dist_session_state
        return wanted
    wanted = _with_addresses(apply_mask(known, requested_part(changes), mask, CHANGEABLE), known)
    if state_of(known) is not State.INACTIVE:
        _check_live(known, wanted)
    check_session(wanted, check_fec)
    if wanted.HasField("obj_distribution_data") != known.HasField("obj_distribution_data"):
        raise InvalidArgument.of(
            "dist_session.obj_distribution_data", "a session keeps its distribution method: expected the same"
        )
    # What the MBSTF chooses where the session does not say is chosen again.
    return reserve(wanted) if state_of(known) is State.INACTIVE else wanted


def _check_live(known: DistSession, wanted: DistSession) -> None:
    before, after = requested_part(known), requested_part(wanted)
    changed = {field.name for field in known.DESCRIPTOR.fields if not _same(before, after, field.name)}
    fixed = sorted(changed - set(LIVE_FIELDS))
    if fixed:
        state = state_name(state_of(known))
        raise InvalidArgument(
            f"{', '.join(fixed)}: changed in INACTIVE only, the session is {state}",
            violations=[
                FieldViolation(f"dist_session.{each}", f"changed in INACTIVE only, found {state}") for each in fixed
            ],
        )


def _same(before: DistSession, after: DistSession, field: str) -> bool:
    return bool(getattr(before, field) == getattr(after, field))


def _with_addresses(wanted: DistSession, known: DistSession) -> DistSession:
    """``wanted`` with what the MBSTF has set in ``known`` and a client cannot change."""
    if wanted.HasField("pkt_distribution_data") and known.HasField("pkt_distribution_data"):
        kept, before = copy_of(wanted), known.pkt_distribution_data.mb_stf_ingest_addr
        ingest = kept.pkt_distribution_data.mb_stf_ingest_addr
        for field in ("mb_stf_ingress_tun_addr", "mb_stf_listen_addr"):
            if before.HasField(field):
                getattr(ingest, field).CopyFrom(getattr(before, field))
        return kept
    return wanted


def check_repeat(known: DistSession, requested: DistSession) -> DistSession:
    """The session that exists, asked for once more. Raises DistSessionExists where something else is asked for."""
    before = requested_part(known)
    # What has happened to it since is no other content; what it was given is none of the request's.
    before.dist_session_state = requested.dist_session_state
    if not requested.HasField("source_ip_addr"):
        before.ClearField("source_ip_addr")
    if not requested.HasField("mb_upf_tun_addr"):
        before.ClearField("mb_upf_tun_addr")
    if before != requested:
        raise DistSessionExists(f"distribution session {known.dist_session_id!r} exists with other content")
    return known
