"""The ledger: what each application session has used under its PCC rule, rated (TS 26.512 A.3.1, TS 32.255).

Counters are cumulative and keyed by (policy association, PCC rule, start of the user plane): a report that comes twice,
or after a later one, changes nothing; those of different starts add up. Works within the store's transactions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    UniqueConstraint,
    delete,
    func,
    insert,
    select,
    update,
)

from nf.common.resources import decode_page_token, encode_page_token, page_limit
from nf.common.store import Reader, Transaction
from nf.common.usage import COUNTER_NAMES, NOTHING, Counters, counters_of, increment, latest, usage_of
from nf.pcf.rating import NOT_RATED, Rated, Terms, rate
from nf.pcf.v1.operator_policies_pb2 import LedgerEntry
from nf.smf.v1.pdu_session_pb2 import PccRuleUsage

metadata = MetaData()

_Serial = BigInteger().with_variant(Integer, "sqlite")

# One row per PCC rule of an application session, kept when the session has ended.
rules = Table(
    "ledger_rules",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("sm_policy_id", String, nullable=False),
    Column("pcc_rule_id", String, nullable=False),
    Column("app_session_id", String, nullable=False),
    Column("supi", String, nullable=False),
    Column("sponsor_id", String, nullable=False),
    Column("rating_group", BigInteger, nullable=False),
    Column("excess_rating_group", BigInteger, nullable=False),
    Column("compliant", Boolean, nullable=False),
    UniqueConstraint("sm_policy_id", "pcc_rule_id"),
    Index("ledger_rules_by_app_session", "app_session_id", "id"),
    Index("ledger_rules_by_supi", "supi", "id"),
    sqlite_autoincrement=True,
)

# One row per rule and start of the user plane.
usages = Table(
    "ledger_usages",
    metadata,
    Column("rule", BigInteger, primary_key=True, autoincrement=False),
    Column("recovery_ns", BigInteger, primary_key=True, autoincrement=False),
    *(Column(name, BigInteger, nullable=False) for name in COUNTER_NAMES),
    Column("zero_rated_bytes", BigInteger, nullable=False),
    Column("charged_bytes", BigInteger, nullable=False),
    Column("dropped_bytes", BigInteger, nullable=False),
)

TABLES: Final = (rules, usages)

_counters = tuple(usages.c[name] for name in COUNTER_NAMES)
_rated = (usages.c.zero_rated_bytes, usages.c.charged_bytes, usages.c.dropped_bytes)


@dataclass(frozen=True, slots=True)
class LedgerRule:
    """A PCC rule in the ledger."""

    row: int
    sm_policy_id: str
    pcc_rule_id: str
    app_session_id: str
    terms: Terms
    compliant: bool


@dataclass(frozen=True, slots=True)
class Account:
    """All that a rule has used and what of it was paid for by whom."""

    counters: Counters = NOTHING
    rated: Rated = NOT_RATED


def open_rule(
    transaction: Transaction,
    *,
    sm_policy_id: str,
    pcc_rule_id: str,
    app_session_id: str,
    supi: str,
    sponsor_id: str,
    terms: Terms,
) -> None:
    """Opens the account of a new PCC rule."""
    transaction.connection.execute(
        insert(rules).values(
            sm_policy_id=sm_policy_id,
            pcc_rule_id=pcc_rule_id,
            app_session_id=app_session_id,
            supi=supi,
            sponsor_id=sponsor_id,
            rating_group=terms.rating_group,
            excess_rating_group=terms.excess_rating_group,
            compliant=True,
        )
    )


def set_terms(transaction: Transaction, *, sm_policy_id: str, pcc_rule_id: str, terms: Terms, sponsor_id: str) -> None:
    """What is measured from now on is rated so; what was recorded before keeps its rating."""
    transaction.connection.execute(
        update(rules)
        .where(rules.c.sm_policy_id == sm_policy_id, rules.c.pcc_rule_id == pcc_rule_id)
        .values(rating_group=terms.rating_group, excess_rating_group=terms.excess_rating_group, sponsor_id=sponsor_id)
    )


def discard_rule(transaction: Transaction, rule: LedgerRule) -> None:
    """Forgets a rule that has never been in force."""
    transaction.connection.execute(delete(usages).where(usages.c.rule == rule.row))
    transaction.connection.execute(delete(rules).where(rules.c.id == rule.row))


def find_rule(reader: Reader, *, sm_policy_id: str, pcc_rule_id: str) -> LedgerRule | None:
    """The rule that the SMF calls so; None: it belongs to no application session."""
    query = select(rules).where(rules.c.sm_policy_id == sm_policy_id, rules.c.pcc_rule_id == pcc_rule_id)
    row = reader.connection.execute(query).mappings().one_or_none()
    return None if row is None else _rule(row)


def rule_of_session(reader: Reader, app_session_id: str) -> LedgerRule | None:
    """The rule that an application session has, or had last."""
    query = select(rules).where(rules.c.app_session_id == app_session_id).order_by(rules.c.id.desc()).limit(1)
    row = reader.connection.execute(query).mappings().one_or_none()
    return None if row is None else _rule(row)


def _rule(row: RowMapping) -> LedgerRule:
    return LedgerRule(
        row=row["id"],
        sm_policy_id=row["sm_policy_id"],
        pcc_rule_id=row["pcc_rule_id"],
        app_session_id=row["app_session_id"],
        terms=Terms(row["rating_group"], row["excess_rating_group"]),
        compliant=row["compliant"],
    )


def record_usage(transaction: Transaction, rule: LedgerRule, report: PccRuleUsage) -> bool:
    """Takes a cumulative report into the account; False: it told nothing new."""
    recovery_ns = report.recovery_time_stamp.ToNanoseconds()
    which = (usages.c.rule == rule.row, usages.c.recovery_ns == recovery_ns)
    row = transaction.connection.execute(select(*_counters, *_rated).where(*which)).one_or_none()
    before = Account() if row is None else Account(tuple(row[: len(NOTHING)]), Rated(*row[len(NOTHING) :]))
    after = latest(before.counters, counters_of(report.usage))
    if after == before.counters:
        return False
    rated = before.rated + rate(increment(before.counters, after), rule.terms)
    values = {
        **dict(zip(COUNTER_NAMES, after, strict=True)),
        "zero_rated_bytes": rated.zero_rated_bytes,
        "charged_bytes": rated.charged_bytes,
        "dropped_bytes": rated.dropped_bytes,
    }
    if row is None:
        transaction.connection.execute(insert(usages).values(rule=rule.row, recovery_ns=recovery_ns, **values))
    else:
        transaction.connection.execute(update(usages).where(*which).values(**values))
    return True


def record_compliance(transaction: Transaction, rule: LedgerRule, compliant: bool) -> bool:
    """Notes whether the rule's traffic keeps to its bit rate; False: it is no change."""
    if rule.compliant == compliant:
        return False
    transaction.connection.execute(update(rules).where(rules.c.id == rule.row).values(compliant=compliant))
    return True


def account_of(reader: Reader, rule: LedgerRule) -> Account:
    """All that a rule has used, over all starts of the user plane."""
    sums = [func.coalesce(func.sum(column), 0) for column in (*_counters, *_rated)]
    row = reader.connection.execute(select(*sums).where(usages.c.rule == rule.row)).one()
    numbers = [int(number) for number in row]
    return Account(tuple(numbers[: len(NOTHING)]), Rated(*numbers[len(NOTHING) :]))


def list_entries(
    reader: Reader, *, app_session_id: str, supi: str, page_size: int, page_token: str
) -> tuple[list[LedgerEntry], str]:
    """One page of entries in the order in which their rules were made, and the token that goes on.

    An empty ``app_session_id`` or ``supi`` is any. Raises InvalidArgument for a token of another list.
    """
    scope = f"ledger\0{app_session_id}\0{supi}"
    limit = page_limit(page_size)
    query = select(rules).where(rules.c.id > decode_page_token(scope, page_token)).order_by(rules.c.id)
    if app_session_id:
        query = query.where(rules.c.app_session_id == app_session_id)
    if supi:
        query = query.where(rules.c.supi == supi)
    rows = reader.connection.execute(query.limit(limit + 1)).mappings().all()
    entries = [_entry(reader, row) for row in rows[:limit]]
    return entries, encode_page_token(scope, rows[limit - 1]["id"]) if len(rows) > limit else ""


def _entry(reader: Reader, row: RowMapping) -> LedgerEntry:
    account = account_of(reader, _rule(row))
    return LedgerEntry(
        app_session_id=row["app_session_id"],
        pcc_rule_id=row["pcc_rule_id"],
        supi=row["supi"],
        sponsor_id=row["sponsor_id"],
        usage=usage_of(account.counters),
        zero_rated_bytes=account.rated.zero_rated_bytes,
        charged_bytes=account.rated.charged_bytes,
        dropped_bytes=account.rated.dropped_bytes,
    )
