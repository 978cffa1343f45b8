"""The periods of ingest sessions as they are stored, worked out once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from nf.common.store import Reader
from nf.mbsf.periods import Periods
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession
from nf.mbsf.v1.user_data_ingest_pb2 import ActivePeriod, MbsUserDataIngSession


def periods_of(reader: Reader, record: DistributionSession) -> Periods:
    """The periods of the ingest session that it belongs to."""
    session = reader.get(MbsUserDataIngSession, record.mbs_ing_session_id)
    if session is None:
        # Never acknowledged, or forgotten before its parts: nothing of it is wanted.
        return _NEVER
    return session_periods(session)


def session_periods(session: MbsUserDataIngSession) -> Periods:
    """The periods of an ingest session."""
    return _periods(
        session.create_time.ToNanoseconds(), tuple(each.SerializeToString() for each in session.act_periods)
    )


@lru_cache(maxsize=4096)
def _periods(created_ns: int, periods: tuple[bytes, ...]) -> Periods:
    created = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=created_ns // 1000)
    return Periods([ActivePeriod.FromString(each) for each in periods], created)


def _never() -> Periods:
    past = ActivePeriod()
    past.start_time.FromSeconds(0)
    past.stop_time.FromSeconds(1)
    return Periods([past], datetime(1970, 1, 1, tzinfo=UTC))


_NEVER: Final = _never()
