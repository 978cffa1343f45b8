"""What the UPF has counted, by URR and start of the UPF, and what keeps to its bit rate (TS 29.244 §5.2.2, §7.5.8).

A URR's counters begin anew with the UPF and with the URR; a PCC rule's usage since the UPF's start is the sum over all
URRs that it has had since. Reports are cumulative: only what is news is told. Works within the store's transactions.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from types import MappingProxyType
from typing import Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from nf.common.statements import Statement
from nf.common.store import Reader, Transaction
from nf.common.usage import COUNTER_NAMES, NOTHING, Counters, counters_of, latest, total, usage_of
from nf.smf.n4_rules import IdAllocation, rule_of_qer, rule_of_urr, urr_key
from nf.smf.v1.pdu_session_pb2 import PccRuleCompliance, PccRuleUsage, PduSession
from upf.n4.v1.n4_pb2 import ComplianceReport, UsageReport

SOURCE: Final = "smf"
PATH: Final = "N4"

metadata = MetaData()

# The N4 identifiers of each PDU session, and the highest that it ever had.
allocations = Table(
    "n4_allocations",
    metadata,
    Column("cp_seid", BigInteger, primary_key=True, autoincrement=False),
    Column("ids", String, nullable=False),
    Column("highest", BigInteger, nullable=False),
)

# What each URR has counted since each start of the UPF. "removed_by": the revision that has removed its rule, or 0.
urr_usages = Table(
    "urr_usages",
    metadata,
    Column("cp_seid", BigInteger, primary_key=True, autoincrement=False),
    Column("urr_id", BigInteger, primary_key=True, autoincrement=False),
    Column("recovery_ns", BigInteger, primary_key=True, autoincrement=False),
    Column("pcc_rule_id", String, nullable=False),
    Column("removed_by", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in COUNTER_NAMES),
)

# Directions of QERs whose traffic has been reported on.
qer_compliances = Table(
    "qer_compliances",
    metadata,
    Column("cp_seid", BigInteger, primary_key=True, autoincrement=False),
    Column("qer_id", BigInteger, primary_key=True, autoincrement=False),
    Column("source_interface", Integer, primary_key=True, autoincrement=False),
    Column("compliant", Boolean, nullable=False),
)

TABLES: Final = (allocations, urr_usages, qer_compliances)

_ids_as_text: Final = json.JSONEncoder(sort_keys=True).encode

_counters = tuple(urr_usages.c[name] for name in COUNTER_NAMES)

_session: Final[BindParameter[int]] = bindparam("s")
_this_urr = (
    urr_usages.c.cp_seid == _session,
    urr_usages.c.urr_id == bindparam("u"),
    urr_usages.c.recovery_ns == bindparam("t"),
)
_this_qer = (qer_compliances.c.cp_seid == _session, qer_compliances.c.qer_id == bindparam("q"))
_this_direction = (*_this_qer, qer_compliances.c.source_interface == bindparam("i"))
_ALLOCATION: Final = Statement(
    select(allocations.c.ids, allocations.c.highest).where(allocations.c.cp_seid == _session)
)
_KEEP_ALLOCATION: Final = Statement(
    update(allocations).where(allocations.c.cp_seid == _session).values(ids=bindparam("i"), highest=bindparam("h"))
)
_INSERT_ALLOCATION: Final = Statement(insert(allocations))
_FORGET: Final = tuple(Statement(delete(table).where(table.c.cp_seid == _session)) for table in TABLES)
_COUNTED: Final = Statement(select(*_counters).where(*_this_urr))
_COUNT: Final = Statement(
    update(urr_usages).where(*_this_urr).values({name: bindparam(f"v_{name}") for name in COUNTER_NAMES})
)
_INSERT_USAGE: Final = Statement(insert(urr_usages))
_USAGES: Final = Statement(
    select(urr_usages.c.pcc_rule_id, *_counters)
    .where(urr_usages.c.cp_seid == _session, urr_usages.c.recovery_ns == bindparam("t"))
    .order_by(urr_usages.c.pcc_rule_id)
)
_REMOVED: Final = Statement(
    select(urr_usages.c.urr_id, urr_usages.c.pcc_rule_id, urr_usages.c.removed_by).where(
        urr_usages.c.cp_seid == _session
    )
)
_DROP_TOLD: Final = Statement(
    delete(urr_usages).where(
        urr_usages.c.cp_seid == _session, urr_usages.c.removed_by > 0, urr_usages.c.removed_by < bindparam("v")
    )
)
_MARK_REMOVED: Final = Statement(
    update(urr_usages)
    .where(urr_usages.c.cp_seid == _session, urr_usages.c.pcc_rule_id == bindparam("r"), urr_usages.c.removed_by == 0)
    .values(removed_by=bindparam("v"))
)
_URRS: Final = Statement(
    select(urr_usages.c.urr_id).where(urr_usages.c.cp_seid == _session, urr_usages.c.recovery_ns == bindparam("t"))
)
_COMPLIANT: Final = Statement(select(qer_compliances.c.compliant).where(*_this_qer))
_KEEP_COMPLIANT: Final = Statement(update(qer_compliances).where(*_this_direction).values(compliant=bindparam("c")))
_INSERT_COMPLIANT: Final = Statement(insert(qer_compliances))
_OBSERVED_QERS: Final = Statement(
    select(qer_compliances.c.qer_id).where(qer_compliances.c.cp_seid == _session).distinct()
)
_FORGET_QER: Final = Statement(delete(qer_compliances).where(*_this_qer))


def allocation_of(reader: Reader, cp_seid: int) -> IdAllocation:
    """The N4 identifiers of a session; none for a session that has none yet."""
    rows = reader.rows(_ALLOCATION, {"s": cp_seid})
    return IdAllocation(MappingProxyType(json.loads(rows[0][0])), rows[0][1]) if rows else IdAllocation()


def keep_allocation(transaction: Transaction, cp_seid: int, ids: IdAllocation) -> None:
    """Keeps the N4 identifiers of a session."""
    text = _ids_as_text(dict(ids.ids))
    if transaction.change(_KEEP_ALLOCATION, {"s": cp_seid, "i": text, "h": ids.highest}) == 0:
        transaction.change(_INSERT_ALLOCATION, {"cp_seid": cp_seid, "ids": text, "highest": ids.highest})


def forget_session(transaction: Transaction, cp_seid: int) -> None:
    """Drops all that is kept of a released session."""
    for statement in _FORGET:
        transaction.change(statement, {"s": cp_seid})


def record_usage(
    transaction: Transaction,
    session: PduSession,
    ids: IdAllocation,
    recovery_ns: int,
    reports: Iterable[UsageReport],
) -> None:
    """Takes the UPF's reports on a session, and tells the usage of the PCC rules for which they were news."""
    changed = [
        rule
        for report in reports
        if (rule := rule_of_urr(ids, report.urr_id)) is not None
        and _take(transaction, session.cp_seid, rule, recovery_ns, report)
    ]
    for usage in usage_of_rules(transaction, session, recovery_ns, changed):
        transaction.emit("USAGE_REPORT", _subject(session, usage.pcc_rule_id), usage, source=SOURCE, path=PATH)


def _subject(session: PduSession, pcc_rule_id: str) -> str:
    return f"sm-policies/{session.sm_policy_id}/pcc-rules/{pcc_rule_id}"


def _take(transaction: Transaction, cp_seid: int, rule: str, recovery_ns: int, report: UsageReport) -> bool:
    counted = counters_of(report.usage)
    if counted == NOTHING:
        return False
    which = {"s": cp_seid, "u": report.urr_id, "t": recovery_ns}
    rows = transaction.rows(_COUNTED, which)
    before: Counters = rows[0] if rows else NOTHING
    after = latest(before, counted)
    if after == before:
        return False
    values = dict(zip(COUNTER_NAMES, after, strict=True))
    if rows:
        transaction.change(_COUNT, {**which, **{f"v_{name}": value for name, value in values.items()}})
        return True
    key = {"cp_seid": cp_seid, "urr_id": report.urr_id, "recovery_ns": recovery_ns}
    transaction.change(_INSERT_USAGE, {**key, "pcc_rule_id": rule, "removed_by": 0, **values})
    return True


def usage_of_rules(
    reader: Reader, session: PduSession, recovery_ns: int, pcc_rule_ids: Collection[str] | None = None
) -> list[PccRuleUsage]:
    """What these rules (None: all of which usage is kept) have used since that start of the UPF, if anything."""
    if pcc_rule_ids is not None and not pcc_rule_ids:
        return []
    parts: dict[str, list[Counters]] = {}
    for rule, *counters in reader.rows(_USAGES, {"s": session.cp_seid, "t": recovery_ns}):
        if pcc_rule_ids is None or rule in pcc_rule_ids:
            parts.setdefault(rule, []).append(tuple(counters))
    found = []
    for rule, counted in parts.items():
        usage = PccRuleUsage(sm_policy_id=session.sm_policy_id, pcc_rule_id=rule, usage=usage_of(total(counted)))
        usage.recovery_time_stamp.FromNanoseconds(recovery_ns)
        found.append(usage)
    return found


def mark_removed(transaction: Transaction, cp_seid: int, in_force: Collection[str], revision: int) -> bool:
    """Notes which rules a decision has removed; what earlier ones had removed has been told and is dropped.

    Returns whether any usage had been kept.
    """
    kept = transaction.rows(_REMOVED, {"s": cp_seid})
    if any(0 < removed_by < revision for _, _, removed_by in kept):
        transaction.change(_DROP_TOLD, {"s": cp_seid, "v": revision})
    for rule in {rule for _, rule, removed_by in kept if not removed_by and rule not in in_force}:
        transaction.change(_MARK_REMOVED, {"s": cp_seid, "r": rule, "v": revision})
    return bool(kept)


def counted_urrs(reader: Reader, cp_seid: int, recovery_ns: int) -> set[int]:
    """The URRs that have counted something since that start of the UPF: made anew, they need new identifiers."""
    return {urr_id for (urr_id,) in reader.rows(_URRS, {"s": cp_seid, "t": recovery_ns})}


def _kept_to(reader: Reader, cp_seid: int, qer_id: int) -> bool:
    return all(compliant for (compliant,) in reader.rows(_COMPLIANT, {"s": cp_seid, "q": qer_id}))


def record_compliance(
    transaction: Transaction, session: PduSession, ids: IdAllocation, reports: Iterable[ComplianceReport]
) -> None:
    """Takes the UPF's reports; a PCC rule keeps to its bit rate while both directions do, and a change is told."""
    for report in reports:
        rule = rule_of_qer(ids, report.qer_id)
        if rule is None:
            continue
        before = _kept_to(transaction, session.cp_seid, report.qer_id)
        _keep_compliance(transaction, session.cp_seid, report)
        after = _kept_to(transaction, session.cp_seid, report.qer_id)
        if after != before:
            _tell_compliance(transaction, session, rule, compliant=after, since_ns=report.since_ns)


def _keep_compliance(transaction: Transaction, cp_seid: int, report: ComplianceReport) -> None:
    which = {"s": cp_seid, "q": report.qer_id, "i": int(report.source_interface)}
    if transaction.change(_KEEP_COMPLIANT, {**which, "c": report.compliant}) == 0:
        key = {"cp_seid": cp_seid, "qer_id": report.qer_id, "source_interface": int(report.source_interface)}
        transaction.change(_INSERT_COMPLIANT, {**key, "compliant": report.compliant})


def _tell_compliance(
    transaction: Transaction, session: PduSession, rule: str, *, compliant: bool, since_ns: int
) -> None:
    payload = PccRuleCompliance(
        sm_policy_id=session.sm_policy_id, pcc_rule_id=rule, compliant=compliant, since_ns=since_ns
    )
    transaction.emit("QOS_NOTIF", _subject(session, rule), payload, source=SOURCE, path=PATH)


def reset_compliance(
    transaction: Transaction, session: PduSession, before: IdAllocation, after: IdAllocation, *, all_anew: bool
) -> None:
    """Forgets the compliance of QERs that are gone (or, with ``all_anew``, of all: their buckets are full again).

    A rule that stays and was beyond its bit rate is told to keep to it again, from now on.
    """
    gone = before.ids.items() - after.ids.items()
    if not all_anew and not any(key.startswith("qer/") for key, _ in gone):
        # Compliance is kept of QERs of rules that the session has.
        return
    for (qer_id,) in transaction.rows(_OBSERVED_QERS, {"s": session.cp_seid}):
        rule, stays = rule_of_qer(before, qer_id), rule_of_qer(after, qer_id) is not None
        if stays and not all_anew:
            continue
        kept = _kept_to(transaction, session.cp_seid, qer_id)
        transaction.change(_FORGET_QER, {"s": session.cp_seid, "q": qer_id})
        if rule is not None and urr_key(rule) in after.ids and not kept:
            _tell_compliance(transaction, session, rule, compliant=True, since_ns=transaction.clock.now_ns())
