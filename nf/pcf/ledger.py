"""The ledger: what each application session has used under its PCC rule, rated (TS 26.512 A.3.1, TS 32.255).

Counters are cumulative and keyed by (policy association, PCC rule, start of the user plane): a report that comes twice,
or after a later one, changes nothing; those of different starts add up. Works within the store's transactions.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    bindparam,
    delete,
    insert,
    select,
    update,
)

from nf.common.resources import decode_page_token, encode_page_token, page_limit
from nf.common.statements import Row, Statement, Value
from nf.common.store import Reader, Transaction
from nf.common.usage import COUNTER_NAMES, NOTHING, Counters, counters_of, increment, latest, total, usage_of
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

_RULE_COLUMNS: Final = tuple(column.name for column in rules.columns if column.name != "id")
_USAGE_COLUMNS: Final = tuple(column.name for column in usages.columns)
_RATED_NAMES: Final = tuple(column.name for column in _rated)
_rule_columns = (
    rules.c.id,
    rules.c.sm_policy_id,
    rules.c.pcc_rule_id,
    rules.c.app_session_id,
    rules.c.rating_group,
    rules.c.excess_rating_group,
    rules.c.compliant,
)
_named = (rules.c.sm_policy_id == bindparam("p"), rules.c.pcc_rule_id == bindparam("r"))
_this_usage = (usages.c.rule == bindparam("r"), usages.c.recovery_ns == bindparam("t"))
_OPEN_RULE: Final = Statement(insert(rules), _RULE_COLUMNS)
_SET_TERMS: Final = Statement(
    update(rules)
    .where(*_named)
    .values(rating_group=bindparam("g"), excess_rating_group=bindparam("e"), sponsor_id=bindparam("s"))
)
_FIND_RULE: Final = Statement(select(*_rule_columns).where(*_named))
_RULE_OF_SESSION: Final = Statement(
    select(*_rule_columns).where(rules.c.app_session_id == bindparam("s")).order_by(rules.c.id.desc()).limit(1)
)
_DELETE_USAGES: Final = Statement(delete(usages).where(usages.c.rule == bindparam("r")))
_DELETE_RULE: Final = Statement(delete(rules).where(rules.c.id == bindparam("r")))
_USAGE: Final = Statement(select(*_counters, *_rated).where(*_this_usage))
_INSERT_USAGE: Final = Statement(insert(usages), _USAGE_COLUMNS)
_UPDATE_USAGE: Final = Statement(
    update(usages)
    .where(*_this_usage)
    .values({name: bindparam(f"v_{name}") for name in (*COUNTER_NAMES, *_RATED_NAMES)})
)
_SET_COMPLIANT: Final = Statement(update(rules).where(rules.c.id == bindparam("r")).values(compliant=bindparam("c")))
_ACCOUNT: Final = Statement(select(*_counters, *_rated).where(usages.c.rule == bindparam("r")))


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

    def __add__(self, other: Account) -> Account:
        return Account(total((self.counters, other.counters)), self.rated + other.rated)


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
    row: dict[str, Value] = {
        "sm_policy_id": sm_policy_id,
        "pcc_rule_id": pcc_rule_id,
        "app_session_id": app_session_id,
        "supi": supi,
        "sponsor_id": sponsor_id,
        "rating_group": terms.rating_group,
        "excess_rating_group": terms.excess_rating_group,
        "compliant": True,
    }
    transaction.change(_OPEN_RULE, row)


def set_terms(transaction: Transaction, *, sm_policy_id: str, pcc_rule_id: str, terms: Terms, sponsor_id: str) -> None:
    """What is measured from now on is rated so; what was recorded before keeps its rating."""
    changed: dict[str, Value] = {
        "p": sm_policy_id,
        "r": pcc_rule_id,
        "g": terms.rating_group,
        "e": terms.excess_rating_group,
    }
    transaction.change(_SET_TERMS, {**changed, "s": sponsor_id})


def discard_rule(transaction: Transaction, rule: LedgerRule) -> None:
    """Forgets a rule that has never been in force."""
    transaction.change(_DELETE_USAGES, {"r": rule.row})
    transaction.change(_DELETE_RULE, {"r": rule.row})


def find_rule(reader: Reader, *, sm_policy_id: str, pcc_rule_id: str) -> LedgerRule | None:
    """The rule that the SMF calls so; None: it belongs to no application session."""
    return _rule(reader.rows(_FIND_RULE, {"p": sm_policy_id, "r": pcc_rule_id}))


def rule_of_session(reader: Reader, app_session_id: str) -> LedgerRule | None:
    """The rule that an application session has, or had last."""
    return _rule(reader.rows(_RULE_OF_SESSION, {"s": app_session_id}))


def _rule(rows: Sequence[Row]) -> LedgerRule | None:
    """The rule of the only row, if there is one."""
    if not rows:
        return None
    row, sm_policy_id, pcc_rule_id, app_session_id, rating_group, excess_rating_group, compliant = rows[0]
    terms = Terms(rating_group, excess_rating_group)
    return LedgerRule(row, sm_policy_id, pcc_rule_id, app_session_id, terms, bool(compliant))


def record_usage(transaction: Transaction, rule: LedgerRule, report: PccRuleUsage) -> bool:
    """Takes a cumulative report into the account; False: it told nothing new."""
    which = {"r": rule.row, "t": report.recovery_time_stamp.ToNanoseconds()}
    rows = transaction.rows(_USAGE, which)
    before = _account_of(rows[0]) if rows else Account()
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
    if rows:
        transaction.change(_UPDATE_USAGE, {**which, **{f"v_{name}": value for name, value in values.items()}})
    else:
        transaction.change(_INSERT_USAGE, {"rule": which["r"], "recovery_ns": which["t"], **values})
    return True


def record_compliance(transaction: Transaction, rule: LedgerRule, compliant: bool) -> bool:
    """Notes whether the rule's traffic keeps to its bit rate; False: it is no change."""
    if rule.compliant == compliant:
        return False
    transaction.change(_SET_COMPLIANT, {"r": rule.row, "c": compliant})
    return True


def account_of(reader: Reader, rule: LedgerRule) -> Account:
    """All that a rule has used, over all starts of the user plane."""
    return _account(reader, rule.row)


def _account(reader: Reader, rule: int) -> Account:
    account = Account()
    for row in reader.rows(_ACCOUNT, {"r": rule}):
        account += _account_of(row)
    return account


def _account_of(row: Row) -> Account:
    """What one row of usage says."""
    return Account(tuple(row[: len(NOTHING)]), Rated(*row[len(NOTHING) :]))


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
    account = _account(reader, row["id"])
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
