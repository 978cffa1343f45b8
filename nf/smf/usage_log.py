"""What the UPF has counted, by URR and start of the UPF, and what keeps to its bit rate (TS 29.244 §5.2.2, §7.5.8).

A URR's counters begin anew with the UPF and with the URR; a PCC rule's usage since the UPF's start is the sum over all
URRs that it has had since. Reports are cumulative: only what is news is told. Works within the store's transactions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, String, Table, delete, insert, select, update

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

_counters = tuple(urr_usages.c[name] for name in COUNTER_NAMES)


def allocation_of(reader: Reader, cp_seid: int) -> IdAllocation:
    """The N4 identifiers of a session; none for a session that has none yet."""
    query = select(allocations.c.ids, allocations.c.highest).where(allocations.c.cp_seid == cp_seid)
    row = reader.connection.execute(query).one_or_none()
    return IdAllocation() if row is None else IdAllocation(MappingProxyType(json.loads(row.ids)), row.highest)


def keep_allocation(transaction: Transaction, cp_seid: int, ids: IdAllocation) -> None:
    """Keeps the N4 identifiers of a session."""
    values = {"ids": json.dumps(dict(ids.ids), sort_keys=True), "highest": ids.highest}
    which = allocations.c.cp_seid == cp_seid
    if transaction.connection.execute(update(allocations).where(which).values(**values)).rowcount == 0:
        transaction.connection.execute(insert(allocations).values(cp_seid=cp_seid, **values))


def forget_session(transaction: Transaction, cp_seid: int) -> None:
    """Drops all that is kept of a released session."""
    for table in TABLES:
        transaction.connection.execute(delete(table).where(table.c.cp_seid == cp_seid))


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
    for usage in usage_of_rules(transaction, session, recovery_ns, dict.fromkeys(changed)):
        transaction.emit("USAGE_REPORT", _subject(session, usage.pcc_rule_id), usage, source=SOURCE, path=PATH)


def _subject(session: PduSession, pcc_rule_id: str) -> str:
    return f"sm-policies/{session.sm_policy_id}/pcc-rules/{pcc_rule_id}"


def _take(transaction: Transaction, cp_seid: int, rule: str, recovery_ns: int, report: UsageReport) -> bool:
    which = (
        urr_usages.c.cp_seid == cp_seid,
        urr_usages.c.urr_id == report.urr_id,
        urr_usages.c.recovery_ns == recovery_ns,
    )
    row = transaction.connection.execute(select(*_counters).where(*which)).one_or_none()
    before: Counters = NOTHING if row is None else tuple(row)
    after = latest(before, counters_of(report.usage))
    if after == before:
        return False
    values = dict(zip(COUNTER_NAMES, after, strict=True))
    if row is not None:
        transaction.connection.execute(update(urr_usages).where(*which).values(**values))
        return True
    key = {"cp_seid": cp_seid, "urr_id": report.urr_id, "recovery_ns": recovery_ns}
    transaction.connection.execute(insert(urr_usages).values(**key, pcc_rule_id=rule, removed_by=0, **values))
    return True


def usage_of_rules(
    reader: Reader, session: PduSession, recovery_ns: int, pcc_rule_ids: Iterable[str]
) -> list[PccRuleUsage]:
    """What these rules have used since that start of the UPF; rules that have used nothing are left out."""
    found = []
    for rule in pcc_rule_ids:
        query = select(*_counters).where(
            urr_usages.c.cp_seid == session.cp_seid,
            urr_usages.c.pcc_rule_id == rule,
            urr_usages.c.recovery_ns == recovery_ns,
        )
        parts = [tuple(row) for row in reader.connection.execute(query)]
        if parts:
            usage = PccRuleUsage(sm_policy_id=session.sm_policy_id, pcc_rule_id=rule, usage=usage_of(total(parts)))
            usage.recovery_time_stamp.FromNanoseconds(recovery_ns)
            found.append(usage)
    return found


def mark_removed(transaction: Transaction, cp_seid: int, in_force: Iterable[str], revision: int) -> None:
    """Notes which rules a decision has removed; what earlier ones had removed has been told and is dropped."""
    rules = list(in_force)
    mine = urr_usages.c.cp_seid == cp_seid
    earlier = (urr_usages.c.removed_by > 0, urr_usages.c.removed_by < revision)
    transaction.connection.execute(delete(urr_usages).where(mine, *earlier))
    removed = (urr_usages.c.removed_by == 0, urr_usages.c.pcc_rule_id.not_in(rules))
    transaction.connection.execute(update(urr_usages).where(mine, *removed).values(removed_by=revision))


def rules_with_usage(reader: Reader, cp_seid: int) -> list[str]:
    """The rules, in force or removed by the latest decision, of which usage is kept."""
    query = select(urr_usages.c.pcc_rule_id).where(urr_usages.c.cp_seid == cp_seid).distinct()
    return sorted(reader.connection.execute(query.order_by(urr_usages.c.pcc_rule_id)).scalars())


def counted_urrs(reader: Reader, cp_seid: int, recovery_ns: int) -> set[int]:
    """The URRs that have counted something since that start of the UPF: made anew, they need new identifiers."""
    query = select(urr_usages.c.urr_id).where(urr_usages.c.cp_seid == cp_seid, urr_usages.c.recovery_ns == recovery_ns)
    return set(reader.connection.execute(query).scalars())


def _kept_to(reader: Reader, cp_seid: int, qer_id: int) -> bool:
    query = select(qer_compliances.c.compliant).where(
        qer_compliances.c.cp_seid == cp_seid, qer_compliances.c.qer_id == qer_id
    )
    return all(reader.connection.execute(query).scalars())


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
    key = {"cp_seid": cp_seid, "qer_id": report.qer_id, "source_interface": int(report.source_interface)}
    which = [qer_compliances.c[name] == value for name, value in key.items()]
    changed = update(qer_compliances).where(*which).values(compliant=report.compliant)
    if transaction.connection.execute(changed).rowcount == 0:
        transaction.connection.execute(insert(qer_compliances).values(**key, compliant=report.compliant))


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
    query = select(qer_compliances.c.qer_id).where(qer_compliances.c.cp_seid == session.cp_seid).distinct()
    for qer_id in list(transaction.connection.execute(query).scalars()):
        rule, stays = rule_of_qer(before, qer_id), rule_of_qer(after, qer_id) is not None
        if stays and not all_anew:
            continue
        kept = _kept_to(transaction, session.cp_seid, qer_id)
        which = (qer_compliances.c.cp_seid == session.cp_seid, qer_compliances.c.qer_id == qer_id)
        transaction.connection.execute(delete(qer_compliances).where(*which))
        if rule is not None and urr_key(rule) in after.ids and not kept:
            _tell_compliance(transaction, session, rule, compliant=True, since_ns=transaction.clock.now_ns())
