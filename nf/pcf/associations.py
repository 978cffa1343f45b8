"""Policy associations (N7) in the store: opened and closed by the SMF, found by the UE's address (TS 29.512 §4.2)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Network
from typing import Final

from sqlalchemy import BigInteger, Column, MetaData, String, Table, bindparam, delete, insert, select, update

from nf.common.resources import copy_of
from nf.common.statements import Statement
from nf.common.store import Reader, Transaction
from nf.common.v1.types_pb2 import ProblemDetails
from nf.pcf.decision import default_rule
from nf.pcf.errors import AmbiguousPduSession, PduSessionNotAvailable, PolicyAssociationExists
from nf.pcf.ledger import discard_rule, rule_of_session
from nf.pcf.machine import Event, State
from nf.pcf.policies import dnn_key, slice_key
from nf.pcf.requests import prefix_of
from nf.pcf.sessions import step
from nf.pcf.v1.policy_authorization_pb2 import AppSession, AppSessionContextReqData
from nf.pcf.v1.sm_policy_control_pb2 import SmPolicy, SmPolicyDecision

_IPV4: Final = "ipv4_address"
_IPV6: Final = "ipv6_address_prefix"

metadata = MetaData()

# Which decision the SMF is known to enforce. While it is not the latest one sent, that one's fate is unknown.
confirmations = Table(
    "confirmations",
    metadata,
    Column("sm_policy_id", String, primary_key=True),
    Column("revision", BigInteger, nullable=False),
)

TABLES: Final = (confirmations,)

_which = confirmations.c.sm_policy_id == bindparam("p")
_INSERT: Final = Statement(insert(confirmations))
_DELETE: Final = Statement(delete(confirmations).where(_which))
_REVISION: Final = Statement(select(confirmations.c.revision).where(_which))
_CONFIRM: Final = Statement(update(confirmations).where(_which).values(revision=bindparam("v")))


def _canonical(policy: SmPolicy) -> SmPolicy:
    stored = copy_of(policy)
    stored.ClearField("decision")
    stored.ClearField("etag")
    if policy.ipv4_address:
        stored.ipv4_address = str(IPv4Address(policy.ipv4_address))
    if policy.ipv6_address_prefix:
        stored.ipv6_address_prefix = str(IPv6Network(policy.ipv6_address_prefix))
    return stored


def open_association(transaction: Transaction, requested: SmPolicy) -> SmPolicy:
    """A new association with its default rule; the known one for a repeat.

    An older one of the same UE address in the same data network and slice is closed: its SMF has lost it.
    Raises PolicyAssociationExists when the identifier is taken by another content.
    """
    policy = _canonical(requested)
    known = transaction.get(SmPolicy, policy.sm_policy_id)
    if known is not None:
        if _canonical(known) != policy:
            raise PolicyAssociationExists(f"sm policy {policy.sm_policy_id!r} exists with other content")
        return known
    for older in _with_address(transaction, ipv4=policy.ipv4_address, ipv6_prefix=policy.ipv6_address_prefix):
        same_dnn = dnn_key(older.dnn) == dnn_key(policy.dnn)
        if same_dnn and slice_key(older.slice_info) == slice_key(policy.slice_info):
            close_association(transaction, older.sm_policy_id)
    policy.decision.CopyFrom(SmPolicyDecision(revision=1, pcc_rules=[default_rule()]))
    lookups = {_IPV4: policy.ipv4_address, _IPV6: policy.ipv6_address_prefix}
    transaction.change(_INSERT, {"sm_policy_id": policy.sm_policy_id, "revision": 1})
    return transaction.insert(policy, policy.sm_policy_id, lookups=lookups)


def close_association(transaction: Transaction, sm_policy_id: str) -> bool:
    """Removes an association and ends its application sessions; False: there was none."""
    if not transaction.delete(SmPolicy, sm_policy_id):
        return False
    transaction.change(_DELETE, {"p": sm_policy_id})
    gone = PduSessionNotAvailable(f"the PDU session of policy association {sm_policy_id!r} has been released")
    problem = ProblemDetails(title=gone.reason, detail=gone.message, cause=gone.cause)
    for session in transaction.all(AppSession, parent=sm_policy_id):
        if session.state == AppSession.STATE_TERMINATED:
            continue
        after = step(transaction, session, Event.PDU_SESSION_GONE, problem=problem)
        if session.state == AppSession.STATE_AUTHORIZING and State(after.state) is State.ABSENT:
            discard_unused_rule(transaction, session.app_session_id)
    return True


def discard_unused_rule(transaction: Transaction, app_session_id: str) -> None:
    """Takes the rule of a session that was never authorised out of the ledger."""
    rule = rule_of_session(transaction, app_session_id)
    if rule is not None:
        discard_rule(transaction, rule)


def _with_address(reader: Reader, *, ipv4: str, ipv6_prefix: str) -> list[SmPolicy]:
    found = reader.find(SmPolicy, _IPV4, ipv4) if ipv4 else []
    found += reader.find(SmPolicy, _IPV6, ipv6_prefix) if ipv6_prefix else []
    return list({policy.sm_policy_id: policy for policy in found}.values())


def find_association(reader: Reader, request: AppSessionContextReqData) -> SmPolicy:
    """The association of the PDU session that an AF's request is about (session binding, TS 29.513 §6.2).

    ``request`` has passed ``check_service_information``. Raises PduSessionNotAvailable, and AmbiguousPduSession where
    the address occurs in several data networks or slices and the request does not tell which.
    """
    address = request.ue_ipv4 or request.ue_ipv6
    candidates = _with_address(
        reader,
        ipv4=str(IPv4Address(request.ue_ipv4)) if request.ue_ipv4 else "",
        ipv6_prefix=prefix_of(request.ue_ipv6) if request.ue_ipv6 else "",
    )
    fitting = [
        policy
        for policy in candidates
        if dnn_key(request.dnn) in ("", dnn_key(policy.dnn))
        and request.supi in ("", policy.supi)
        and (not request.HasField("slice_info") or slice_key(request.slice_info) == slice_key(policy.slice_info))
    ]
    if not fitting:
        why = "no PDU session has it" if not candidates else "its PDU session is in another data network or slice"
        raise PduSessionNotAvailable(f"UE address {address}: {why}", metadata={"ue_address": address})
    if len(fitting) > 1:
        where = ", ".join(f"{policy.dnn} (slice {slice_key(policy.slice_info)})" for policy in fitting)
        raise AmbiguousPduSession(f"UE address {address}: it occurs in {where}; say which by dnn or slice_info")
    return fitting[0]


def confirmed_revision(reader: Reader, sm_policy_id: str) -> int:
    """The decision that the SMF is known to enforce; 0: there is no such association."""
    return int(reader.value(_REVISION, {"p": sm_policy_id}) or 0)


def confirm(transaction: Transaction, sm_policy_id: str, revision: int) -> None:
    """Notes that the fate of every decision up to ``revision`` is known."""
    transaction.change(_CONFIRM, {"p": sm_policy_id, "v": revision})
