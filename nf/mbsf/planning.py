"""What a distribution session needs next, by its record, its periods and the time (TS 26.502 §4.6.1). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from nf.mbsf.machine import STARTING, WORK, Effect, Event, State
from nf.mbsf.periods import FAR, Periods, Window
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession

# A TMGI is refreshed when so much of what was left of its time is left.
_REFRESHED_AT: Final = 0.25
# The store counts nanoseconds with 63 bits; what comes later than they reach is not waited for.
NEVER_DUE: Final = datetime(2262, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Plan:
    """At most one of: an event of the machine, a call to make. ``due`` is when to look again; None: when it changes.

    ``window`` is the period that PERIOD_NEARS is about, or, with a call, the one that is under way. ``ingest_failed``
    says why SEVERE_ERROR is.
    """

    event: Event | None = None
    work: Effect | None = None
    ingest_failed: bool = False
    refresh_tmgi: bool = False
    tell_replica: bool = False
    due: datetime | None = None
    window: Window | None = None


def plan(record: DistributionSession, periods: Periods, now: datetime, lead: timedelta) -> Plan:
    """What is to be done at ``now``; ``lead``: so long before its start a session is established."""
    state = State(record.stage)
    if state is State.PROVISIONING:
        # Whoever provisions it goes on with it.
        return Plan()
    if state is State.INACTIVE:
        return _rest(record, periods, now, lead)
    if state in STARTING:
        window = _wanted(record, periods, now, lead)
        return Plan(event=Event.PERIOD_OVER) if window is None else Plan(work=WORK[state], window=window, due=now)
    if state is State.ESTABLISHED:
        return _established(record, periods, now, lead)
    if state is State.ACTIVE:
        return _active(record, periods, now)
    return Plan(work=WORK[state], due=now)


def _rest(record: DistributionSession, periods: Periods, now: datetime, lead: timedelta) -> Plan:
    if record.destroyed or periods.is_over(now):
        return Plan(event=Event.EXPIRED)
    if record.replica_stale:
        return Plan(tell_replica=True, due=now)
    held = record.held_until.ToDatetime(UTC) if record.HasField("held_until") else None
    if held is not None and held >= FAR:
        # It failed in a period that has no end: only a change begins another try.
        return Plan()
    window = periods.next(now, not_before=held)
    if window is None:
        # What is left of the period that failed passes, and then it expires.
        last = periods.next(now)
        return Plan(due=None if last is None or last.stop >= NEVER_DUE else last.stop)
    # Not while the period in which it failed is on: what is begun then is for that period.
    begins = window.start - lead if held is None else max(window.start - lead, held)
    if begins <= now:
        return Plan(event=Event.PERIOD_NEARS, window=window)
    return Plan(due=begins if window.start < NEVER_DUE else None)


def _wanted(record: DistributionSession, periods: Periods, now: datetime, lead: timedelta) -> Window | None:
    """The window that it is established for; None: it is to be no longer."""
    window = None if record.destroyed else periods.next(now)
    return window if window is not None and window.start - lead <= now else None


def _established(record: DistributionSession, periods: Periods, now: datetime, lead: timedelta) -> Plan:
    window = _wanted(record, periods, now, lead)
    if window is None:
        return Plan(event=Event.PERIOD_OVER)
    if record.tunnel_stale or record.carried_stale:
        return Plan(tell_replica=True, window=window, due=now)
    if window.start <= now:
        return Plan(work=Effect.ACTIVATE, window=window, due=now)
    return _kept(record, window.start, now)


def _active(record: DistributionSession, periods: Periods, now: datetime) -> Plan:
    window = None if record.destroyed else periods.next(now)
    if window is None or window.start > now:
        return Plan(event=Event.PERIOD_OVER)
    if record.tunnel_stale or record.carried_stale:
        return Plan(tell_replica=True, window=window, due=now)
    if not record.HasField("ingest_severe_at"):
        return _kept(record, window.stop, now)
    severe_at = record.ingest_severe_at.ToDatetime(UTC)
    if severe_at <= now:
        return Plan(event=Event.SEVERE_ERROR, ingest_failed=True)
    return _kept(record, min(window.stop, severe_at), now)


def _kept(record: DistributionSession, until: datetime, now: datetime) -> Plan:
    """It stays as it is ``until`` then, with its TMGI refreshed in time."""
    moments = [until] if until < NEVER_DUE else []
    if record.tmgi_allocated and record.HasField("tmgi_expiry"):
        expiry = record.tmgi_expiry.ToDatetime(UTC)
        refreshed = record.tmgi_refreshed.ToDatetime(UTC)
        at = expiry - (expiry - refreshed) * _REFRESHED_AT
        if at <= now:
            return Plan(refresh_tmgi=True, due=now)
        moments.append(at)
    return Plan(due=min(moments, default=None))
