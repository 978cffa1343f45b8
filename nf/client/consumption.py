"""Consumption reporting of one media session, as pure logic (TS 26.501 §5.6).

Told what happens and when, it answers with what to do; ``due`` says when it wants ``tick`` to be called. A unit is what
was consumed of one medium without a change, in one place. A unit that goes on is reported with its beginning and its
duration so far, so that whoever counts keeps the longest of those that begin together.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from nf.af.v1.consumption_reporting_pb2 import (
    ConsumptionReport,
    ConsumptionReportingUnit,
    EndpointAddress,
    TypedLocation,
)
from nf.af.v1.media_session_pb2 import ClientConsumptionReportingConfiguration
from nf.client.m7 import Connection, Endpoint, Preferences
from nf.client.machine import CONSUMPTION_REPORTING, Effect, Happening, Reporting

# A session that changes more often than it reports tells what it has before a report becomes too long.
MAX_UNITS: Final = 500


class Trigger(Enum):
    """Why a report is sent (TS 26.501 §5.6.3)."""

    START = auto()
    STOP = auto()
    ONGOING = auto()
    LOCATION_CHANGE = auto()


@dataclass(frozen=True, slots=True)
class SendReport:
    """A report to send, to one of the servers; where none is named, to the AF itself."""

    report: ConsumptionReport
    trigger: Trigger
    server_addresses: tuple[str, ...]


class Withdraw(Enum):
    """What must not leave any more, of reports that have been made and not been taken yet: the user has said no."""

    REPORTS = auto()
    LOCATIONS = auto()


Output: TypeAlias = SendReport | Withdraw

_TRIGGERS: Final = {
    Happening.ALLOW: Trigger.START,
    Happening.BEGIN: Trigger.START,
    Happening.INTERVAL: Trigger.ONGOING,
    Happening.MOVE: Trigger.LOCATION_CHANGE,
    Happening.END: Trigger.STOP,
}


@dataclass(frozen=True, slots=True)
class _Consumed:
    media_consumed: str
    connection: Connection | None


@dataclass(frozen=True, slots=True)
class _Unit:
    """A unit that goes on: nothing of this changes while it does."""

    consumed: _Consumed
    begun: datetime
    location: TypedLocation | None
    access: bool


class ConsumptionReporting:
    """The reporting of one media session.

    ``seed`` decides, once, whether the session is in the sample; without one that is chance. Times are aware, UTC.
    """

    def __init__(
        self,
        media_player_entry: str,
        reporting_client_id: str,
        *,
        preferences: Preferences | None = None,
        seed: int | str | None = None,
    ) -> None:
        self._entry = media_player_entry
        self._client_id = reporting_client_id
        self._preferences = preferences if preferences is not None else Preferences()
        self._percentile = random.Random(seed).random() * 100.0
        self._state = Reporting.OFF
        self._configuration: ClientConsumptionReportingConfiguration | None = None
        self._location: TypedLocation | None = None
        self._consumed: dict[str, _Consumed] = {}
        self._open: dict[str, _Unit] = {}
        self._closed: list[ConsumptionReportingUnit] = []
        # The units that were told last; the final report repeats them where there is nothing else to tell.
        self._told: list[ConsumptionReportingUnit] = []
        self._timer_from: datetime | None = None

    @property
    def state(self) -> Reporting:
        """Where reporting stands."""
        return self._state

    @property
    def due(self) -> datetime | None:
        """When the next report is due; None: the timer does not run."""
        if self._timer_from is None or self._configuration is None:
            return None
        if not self._configuration.HasField("reporting_interval_s"):
            return None
        return self._timer_from + timedelta(seconds=self._configuration.reporting_interval_s)

    @property
    def sampled(self) -> bool:
        """Whether the session is among those that report; a share that is changed counts for the same draw."""
        return self._configuration is not None and self._percentile < self._configuration.sample_percentage

    def configure(self, configuration: ClientConsumptionReportingConfiguration | None, now: datetime) -> list[Output]:
        """The AF's configuration is this now; None: it wants no reports (steps 4 and 9)."""
        self._configuration = configuration
        return self._adjust(now)

    def prefer(self, preferences: Preferences, now: datetime) -> list[Output]:
        """The user allows this now (steps 7 and 8). What is withdrawn is not sent any more, not even if it waits."""
        former, self._preferences = self._preferences, preferences
        outputs = self._adjust(now)
        if former.may_report and not preferences.may_report:
            outputs.append(Withdraw.REPORTS)
        elif former.may_share_location and not preferences.may_share_location:
            outputs.append(Withdraw.LOCATIONS)
        return outputs

    def media_changed(
        self, medium: str, media_consumed: str | None, now: datetime, connection: Connection | None = None
    ) -> list[Output]:
        """Of a medium this is consumed now, or nothing (step 11). What is consumed already is no change."""
        former = self._consumed.get(medium)
        if media_consumed is None:
            if former is None:
                return []
            del self._consumed[medium]
        else:
            if former is not None and former.media_consumed == media_consumed and self._same_access(former, connection):
                return []
            self._consumed[medium] = _Consumed(media_consumed, connection)
        if self._state in (Reporting.OFF, Reporting.READY):
            return self._step(Happening.BEGIN, now)
        outputs: list[Output] = []
        if self._state is Reporting.REPORTING and len(self._closed) + len(self._open) >= MAX_UNITS:
            outputs += self._step(Happening.INTERVAL, now)
        return outputs + self._step(Happening.CHANGE, now, medium)

    def locate(self, location: TypedLocation | None, now: datetime) -> list[Output]:
        """The UE is in this cell now; None: that is not known."""
        former = self._told_location()
        self._location = location
        told = self._told_location()
        if told == former:
            return []
        if told is None:
            # Not to know where one is is no change of location, but no unit goes on in a cell that is not known.
            self._renew(now)
            return []
        return self._step(Happening.MOVE, now)

    def tick(self, now: datetime) -> list[Output]:
        """The time has come to ``now``."""
        if self.due is None or now < self.due:
            return []
        return self._step(Happening.INTERVAL, now)

    def end(self, now: datetime) -> list[Output]:
        """Consumption stops: the timer is disabled, the final report made (steps 14 and 15)."""
        return self._step(Happening.END, now)

    def _adjust(self, now: datetime) -> list[Output]:
        allowed = self.sampled and self._preferences.may_report
        # What goes on under other conditions than before is closed under those that it had.
        self._renew(now)
        outputs = self._step(Happening.ALLOW if allowed else Happening.FORBID, now)
        if self._told_location() is None:
            for unit in (*self._closed, *self._told):
                unit.ClearField("locations")
        return outputs

    def _renew(self, now: datetime) -> None:
        """Units of which something else is told now than before go on as new ones."""
        told = self._told_location(), self._tells_access()
        for medium, unit in list(self._open.items()):
            if (unit.location, unit.access) != told:
                self._close(medium, now)
                self._begin(medium, now)

    def _step(self, happening: Happening, now: datetime, medium: str | None = None) -> list[Output]:
        """One step of the life cycle; units of ``medium`` alone, where one is named, are closed and opened."""
        step = CONSUMPTION_REPORTING.step(self._state, happening)
        self._state = step.state
        outputs: list[Output] = []
        for effect in step.effects:
            match effect:
                case Effect.DISABLE_TIMER:
                    self._timer_from = None
                case Effect.CLOSE_UNITS:
                    for each in [medium] if medium is not None else list(self._open):
                        self._close(each, now)
                case Effect.OPEN_UNITS:
                    for each in [medium] if medium is not None else list(self._consumed):
                        self._begin(each, now)
                case Effect.DISCARD:
                    self._open.clear()
                    self._closed.clear()
                    self._told.clear()
                case Effect.SEND_REPORT:
                    outputs += self._report(_TRIGGERS[happening], now)
                case Effect.RESET_TIMER:
                    self._timer_from = now
        return outputs

    def _begin(self, medium: str, now: datetime) -> None:
        consumed = self._consumed.get(medium)
        if consumed is not None:
            self._open[medium] = _Unit(consumed, now, self._told_location(), self._tells_access())

    def _close(self, medium: str, now: datetime) -> None:
        unit = self._open.pop(medium, None)
        # What ends when it begins has not been consumed.
        if unit is not None and now > unit.begun:
            self._closed.append(_told(unit, now))

    def _report(self, trigger: Trigger, now: datetime) -> list[Output]:
        units = [*self._closed, *(_told(unit, now) for unit in self._open.values())]
        if not units and trigger is Trigger.STOP:
            # All has been told: the stop itself is worth a report, and whoever counts counts its units once.
            units = self._told
        self._closed, self._told = [], units or self._told
        if not units or self._configuration is None:
            return []
        report = ConsumptionReport(
            media_player_entry=self._entry,
            reporting_client_id=self._client_id,
            consumption_reporting_units=units,
        )
        return [SendReport(report, trigger, tuple(self._configuration.server_addresses))]

    def _told_location(self) -> TypedLocation | None:
        """The location, where it may be told."""
        wanted = self._configuration is not None and self._configuration.location_reporting
        return self._location if wanted and self._preferences.may_share_location else None

    def _tells_access(self) -> bool:
        return self._configuration is not None and self._configuration.access_reporting

    def _same_access(self, former: _Consumed, connection: Connection | None) -> bool:
        return not self._tells_access() or connection in (None, former.connection)


def _told(unit: _Unit, now: datetime) -> ConsumptionReportingUnit:
    """The unit as it is reported, as far as it has gone."""
    start_time = Timestamp()
    start_time.FromDatetime(unit.begun)
    told = ConsumptionReportingUnit(
        media_consumed=unit.consumed.media_consumed,
        start_time=start_time,
        # Whole seconds, half ones up. A clock that was set back makes no duration negative.
        duration_s=max(0, (now - unit.begun + timedelta(milliseconds=500)) // timedelta(seconds=1)),
        locations=[] if unit.location is None else [unit.location],
    )
    connection = unit.consumed.connection
    if unit.access and connection is not None:
        told.client_endpoint_address.CopyFrom(_endpoint(connection.client))
        told.server_endpoint_address.CopyFrom(_endpoint(connection.server, hostname=connection.server_name))
    return told


def _endpoint(endpoint: Endpoint, *, hostname: str = "") -> EndpointAddress:
    address = EndpointAddress(hostname=hostname, port_number=endpoint.port)
    if endpoint.address.version == 4:
        address.ipv4_addr = str(endpoint.address)
    else:
        address.ipv6_addr = str(endpoint.address)
    return address
