"""Admission of guaranteed bit rates: what an operator policy may guarantee to all its sessions together.

What sessions have is not taken from them when a policy comes to allow less: only what is new has to fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from nf.common.store import Reader
from nf.pcf.errors import RequestedServiceTemporarilyNotAuthorized
from nf.pcf.machine import State
from nf.pcf.v1.operator_policies_pb2 import OperatorPolicy
from nf.pcf.v1.policy_authorization_pb2 import AppSession, Enforcement

_HOLDING: Final = frozenset({State.AUTHORIZING, State.ACTIVE, State.INTERRUPTED})


def admit(
    reader: Reader,
    app_session_id: str,
    wanted: Enforcement,
    had: Enforcement,
    policies: Iterable[OperatorPolicy],
    *,
    on_their_way: Mapping[str, Enforcement],
) -> None:
    """Raises RequestedServiceTemporarilyNotAuthorized when what ``wanted`` guarantees beyond ``had`` does not fit.

    ``on_their_way``: what sessions will have when the SMF has answered, by their identifiers. Until then each counts
    with the more of both.
    """
    policy = next((each for each in policies if each.operator_policy_id == wanted.operator_policy_id), None)
    if policy is None:
        return
    same = had.operator_policy_id == wanted.operator_policy_id
    for way, limited, most_bps in (
        ("dl", policy.HasField("guaranteed_total_dl_bps"), policy.guaranteed_total_dl_bps),
        ("ul", policy.HasField("guaranteed_total_ul_bps"), policy.guaranteed_total_ul_bps),
    ):
        field = f"guaranteed_bit_rate_{way}_bps"
        asked_bps: int = getattr(wanted, field)
        if not limited or asked_bps <= (getattr(had, field) if same else 0):
            continue
        others_bps = sum(
            max(
                getattr(each, field) if each.operator_policy_id == policy.operator_policy_id else 0
                for each in (
                    session.asc_resp_data.enforcement,
                    on_their_way.get(session.app_session_id, session.asc_resp_data.enforcement),
                )
            )
            for session in reader.all(AppSession)
            if session.app_session_id != app_session_id and State(session.state) in _HOLDING
        )
        if others_bps + asked_bps > most_bps:
            raise RequestedServiceTemporarilyNotAuthorized(
                f"mir_bw_{way}_bps: {asked_bps} bit/s cannot be guaranteed: of the {most_bps} bit/s of operator policy"
                f" {policy.operator_policy_id!r}, {others_bps} bit/s are taken",
                metadata={"field": f"mir_bw_{way}_bps", "free_bps": str(max(0, most_bps - others_bps))},
            )
