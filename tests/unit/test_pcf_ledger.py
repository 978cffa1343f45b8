"""The ledger under every order of reports: exact, monotonic, the same whatever is repeated."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nf.common.clock import ManualClock
from nf.common.errors import InvalidArgument
from nf.common.store import Store, Transaction, url_for
from nf.common.usage import COUNTER_NAMES, Counters, total, usage_of
from nf.pcf import associations, ledger
from nf.pcf.rating import RATING_GROUP_ORDINARY, RATING_GROUP_ZERO_RATED, Rated, Terms, rate
from nf.smf.v1.pdu_session_pb2 import PccRuleUsage

FREE = Terms(RATING_GROUP_ZERO_RATED, RATING_GROUP_ORDINARY)
SPARED = Terms(RATING_GROUP_ZERO_RATED, RATING_GROUP_ZERO_RATED)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    opened = Store.open(url_for(tmp_path, "pcf"), clock=clock, tables=(*ledger.TABLES, *associations.TABLES))
    try:
        yield opened
    finally:
        await opened.close()


def open_rule(transaction: Transaction, pcc_rule_id: str = "s.2", app_session_id: str = "s") -> None:
    ledger.open_rule(
        transaction,
        sm_policy_id="p",
        pcc_rule_id=pcc_rule_id,
        app_session_id=app_session_id,
        supi="imsi-001010000000001",
        sponsor_id="acme",
        terms=FREE,
    )


def report(counters: Counters, *, recovery_s: int = 1) -> PccRuleUsage:
    made = PccRuleUsage(sm_policy_id="p", pcc_rule_id="s.2", usage=usage_of(counters))
    made.recovery_time_stamp.FromSeconds(recovery_s)
    return made


def take(transaction: Transaction, *reports: PccRuleUsage) -> list[bool]:
    taken = []
    for each in reports:
        rule = ledger.find_rule(transaction, sm_policy_id="p", pcc_rule_id="s.2")
        assert rule is not None
        taken.append(ledger.record_usage(transaction, rule, each))
    return taken


def account(transaction: Transaction) -> ledger.Account:
    rule = ledger.find_rule(transaction, sm_policy_id="p", pcc_rule_id="s.2")
    assert rule is not None
    return ledger.account_of(transaction, rule)


def growing(draw: random.Random, steps: int) -> list[Counters]:
    """Cumulative counters, each at least the one before."""
    series = [tuple(draw.randrange(3000) for _ in COUNTER_NAMES)]
    for _ in range(steps - 1):
        series.append(tuple(before + draw.choice((0, draw.randrange(3000))) for before in series[-1]))
    return series


@pytest.mark.parametrize("seed", range(20))
async def test_any_order_and_repetition_of_reports_ends_in_the_same_account(store: Store, seed: int) -> None:
    draw = random.Random(seed)
    starts = {recovery_s: growing(draw, 8) for recovery_s in (1, 2, 3)}
    reports = [report(each, recovery_s=recovery_s) for recovery_s, series in starts.items() for each in series]
    shuffled = draw.sample(reports * 2, k=len(reports) * 2)

    def work(transaction: Transaction) -> list[ledger.Account]:
        open_rule(transaction)
        seen = []
        for each in shuffled:
            take(transaction, each)
            seen.append(account(transaction))
        return seen

    seen = await store.write(work)
    expected = total(series[-1] for series in starts.values())
    assert seen[-1].counters == expected
    assert seen[-1].rated == rate(expected, FREE)
    for before, after in itertools.pairwise(seen):
        assert all(late >= early for early, late in zip(before.counters, after.counters, strict=True))
        assert after.rated.zero_rated_bytes >= before.rated.zero_rated_bytes
        assert after.rated.charged_bytes >= before.rated.charged_bytes


async def test_a_report_is_news_once(store: Store) -> None:
    counters = tuple(range(1, 17))

    def work(transaction: Transaction) -> list[bool]:
        open_rule(transaction)
        return take(transaction, report(counters), report(counters), report(counters, recovery_s=2))

    assert await store.write(work) == [True, False, True]


async def test_bytes_keep_the_rating_of_the_time_at_which_they_were_counted(store: Store) -> None:
    exceeding = COUNTER_NAMES.index("downlink_exceeding_bytes")

    def at(number: int) -> Counters:
        return tuple(number if index == exceeding else 0 for index in range(16))

    def work(transaction: Transaction) -> Rated:
        open_rule(transaction)
        take(transaction, report(at(100)))
        ledger.set_terms(transaction, sm_policy_id="p", pcc_rule_id="s.2", terms=SPARED, sponsor_id="acme")
        take(transaction, report(at(150)), report(at(100)))
        return account(transaction).rated

    assert await store.write(work) == Rated(zero_rated_bytes=50, charged_bytes=100)


async def test_entries_are_listed_page_by_page_and_by_session_and_subscriber(store: Store) -> None:
    def work(transaction: Transaction) -> None:
        for number in range(5):
            open_rule(transaction, f"s{number % 2}.{number}", f"s{number % 2}")

    await store.write(work)

    async def listed(token: str = "", *, app_session_id: str = "", supi: str = "") -> tuple[list[str], str]:
        entries, following = await store.read(
            lambda reader: ledger.list_entries(
                reader, app_session_id=app_session_id, supi=supi, page_size=2, page_token=token
            )
        )
        return [entry.pcc_rule_id for entry in entries], following

    first, token = await listed()
    second, token = await listed(token)
    third, token = await listed(token)
    assert (first, second, third, token) == (["s0.0", "s1.1"], ["s0.2", "s1.3"], ["s0.4"], "")
    assert await listed(app_session_id="s1") == (["s1.1", "s1.3"], "")
    assert await listed(supi="imsi-001010000000009") == ([], "")
    _, token = await listed()
    with pytest.raises(InvalidArgument, match="not a token of this list"):
        await listed(token, app_session_id="s1")
