"""One media session from the start of playback to its end (TS 26.501 §5.6.1, TS 26.512 A.3.2 steps 6 to 9).

It listens to the player, keeps the dynamic policy in step with its sockets, and makes the consumption reports. What the
network or the AF cannot do is told in the log and in ``policy_error``; it never keeps the user from playing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from nf.af.v1.consumption_reporting_pb2 import TypedLocation
from nf.af.v1.media_session_pb2 import (
    ClientConsumptionReportingConfiguration,
    DynamicPolicy,
    M5QosSpecification,
    ServiceAccessInformation,
    ServiceDescriptorFilter,
)
from nf.client.alarm import Alarm
from nf.client.consumption import ConsumptionReporting, Output, SendReport, Withdraw
from nf.client.descriptor_filter import KnownFilters
from nf.client.dynamic_policy import DynamicPolicyHandler, Flow, SdfMethod, best_method
from nf.client.m5 import M5
from nf.client.m7 import Connection, MediaPlayer, Preferences
from nf.client.machine import Reporting
from nf.client.outbox import Outbox
from nf.client.report_sender import ReportSender
from nf.client.service_access import ServiceAccess
from nf.common.background import Background, follow_for_ever
from nf.common.clock import Clock
from nf.common.errors import Cancelled, CastcoreError, DeadlineExceeded, Unavailable
from nf.common.telemetry import logger

# How long the end of playback may wait for the final report to be taken; after that it waits in the outbox.
FINAL_REPORT_WAIT_S: Final = 3.0

_AWAY: Final = (Unavailable, DeadlineExceeded, Cancelled)


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What the application wants of a media session.

    ``network_policy_id``: the dynamic policy to activate, empty: none. ``sdf_method``: how connections are described,
    None: as the AF recommends. ``known_filters``: the service descriptor filters to look up by a value of the answer.
    ``seed`` decides whether the session is in the sample of those that report.
    """

    provisioning_session_id: str
    network_policy_id: str = ""
    qos_specification: M5QosSpecification | None = None
    sdf_method: SdfMethod | None = None
    known_filters: KnownFilters = field(default_factory=dict)
    preferences: Preferences = field(default_factory=Preferences)
    seed: int | str | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the media sessions of one handler share. ``narrate`` is told each step of the procedures."""

    m5: M5
    clock: Clock
    access: ServiceAccess
    outbox: Outbox
    sender: ReportSender
    client_id: str
    narrate: Callable[[str], None] = lambda _: None
    final_report_wait_s: float = FINAL_REPORT_WAIT_S


class MediaSession:
    """A media session; ``MediaSessionHandler.start`` makes one. It is the listener of its player (M7)."""

    def __init__(
        self,
        surroundings: Surroundings,
        player: MediaPlayer,
        entry: str,
        options: SessionOptions,
        location: TypedLocation | None,
    ) -> None:
        self._around = surroundings
        self._player = player
        self._entry = entry
        self._options = options
        self._reporting = ConsumptionReporting(
            entry, surroundings.client_id, preferences=options.preferences, seed=options.seed
        )
        self._reporting.locate(location, surroundings.clock.now())
        self._policy = DynamicPolicyHandler(
            surroundings.m5,
            surroundings.clock,
            on_filter=self._filter,
            access=surroundings.access,
            known_filters=options.known_filters,
        )
        self._alarm = Alarm(surroundings.clock, lambda: self._reporting.due)
        self._timer = Background("reporting interval")
        self._refresh = Background("service access information")
        self._watch = Background("dynamic policy")
        self._changes: set[asyncio.Task[None]] = set()
        self._method = SdfMethod.FIVE_TUPLE
        self._connections: dict[Connection, None] = {}
        self._policy_turn = asyncio.Lock()
        self._policy_wanted = bool(options.network_policy_id)
        self._ended = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None
        self.policy_error: CastcoreError | None = None
        self.player_error: Exception | None = None

    @property
    def entry(self) -> str:
        """The Media Player Entry."""
        return self._entry

    @property
    def policy(self) -> DynamicPolicy | None:
        """The dynamic policy as last heard of; None: none is active."""
        return self._policy.policy

    @property
    def flows(self) -> tuple[Flow, ...]:
        """The connections that the dynamic policy covers."""
        return self._policy.flows

    @property
    def reporting(self) -> Reporting:
        """Where consumption reporting stands."""
        return self._reporting.state

    async def start(self) -> None:
        """Steps 3 to 6. Raises NotFound where the service is not provisioned, and what the player raises."""
        clock, options = self._around.clock, self._options
        self._say("3  start of playback", self._entry)
        information = await self._information()
        configuration = _configuration(information)
        self._say("4  consumption reporting configuration", "present" if configuration is not None else "absent")
        if information is not None:
            methods = information.dynamic_policy_invocation_configuration.sdf_methods
            self._method = options.sdf_method or best_method(methods)
        self._do(self._reporting.configure(configuration, clock.now()))
        self._say("5  consumption reporting", self._reporting.state.name)
        self._refresh.begin(lambda: self._around.access.follow(options.provisioning_session_id, self._configured))
        self._timer.begin(self._report_at_intervals)
        self._player.set_preferences(options.preferences)
        self._say("6  start the player", self._entry)
        try:
            await self._player.start(self._entry, self)
        except BaseException:
            await self._let_go()
            raise

    async def stop(self) -> None:
        """Steps 13 to 17, in their order; returns when the player has stopped. May be called again."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="stop of a media session")
        await asyncio.shield(self._stopping)

    async def ended(self) -> None:
        """Returns when the player has come to its end, has failed, or has been stopped."""
        await self._ended.wait()

    def set_preferences(self, preferences: Preferences) -> None:
        """The user's preferences, by way of the player (steps 7 and 8)."""
        self._say("7  user preferences", _told(preferences))
        self._player.set_preferences(preferences)

    def locate(self, location: TypedLocation | None) -> None:
        """The UE is in this cell now."""
        self._do(self._reporting.locate(location, self._around.clock.now()))

    # What the player tells (M7).

    def media_changed(self, medium: str, media_consumed: str | None, connection: Connection | None = None) -> None:
        """Of a medium this is consumed from now on (step 11)."""
        self._say("11 media consumed", f"{medium}: {media_consumed or 'nothing'}")
        self._do(self._reporting.media_changed(medium, media_consumed, self._around.clock.now(), connection))

    async def connection_opened(self, connection: Connection) -> None:
        """A connection is open; returns when the policy covers it, or will not."""
        self._connections[connection] = None
        if self._policy_wanted:
            await self._keep_in_step()

    def connection_closed(self, connection: Connection) -> None:
        """A connection has been closed."""
        self._connections.pop(connection, None)
        if self._policy_wanted and self._policy.policy is not None and self._stopping is None:
            self._spawn(self._keep_in_step())

    def preferences_changed(self, preferences: Preferences) -> None:
        """The player passes the user's preferences on (step 8)."""
        self._say("8  preferences to the handler", _told(preferences))
        self._do(self._reporting.prefer(preferences, self._around.clock.now()))

    def stopped(self) -> None:
        """The presentation has come to its end."""
        self._end_reporting()
        self._ended.set()

    def failed(self, error: Exception) -> None:
        """The presentation cannot go on."""
        self.player_error = error
        logger("client").warning("player.failed", error=str(error))
        self.stopped()

    # What goes on inside.

    async def _stop(self) -> None:
        self._say("13 stop of playback", "")
        self._end_reporting()
        sender = self._around.sender
        with suppress(TimeoutError):
            async with asyncio.timeout(self._around.final_report_wait_s):
                await sender.flush()
        self._say("15 final report", f"{len(self._around.outbox)} waiting")
        self._say("17 stop the player", "")
        try:
            await self._player.stop()
        finally:
            await self._let_go()
            self._ended.set()

    def _end_reporting(self) -> None:
        if self._reporting.state is not Reporting.ENDED:
            self._say("14 stop consumption reporting", "the timer is disabled")
            self._do(self._reporting.end(self._around.clock.now()))

    async def _let_go(self) -> None:
        self._end_reporting()
        for background in (self._timer, self._refresh, self._watch):
            await background.end()
        for task in list(self._changes):
            task.cancel()
        async with self._policy_turn:
            self._policy_wanted = False
            if self._policy.policy is None:
                return
            try:
                await self._policy.deactivate()
                self._say("   dynamic policy", "deactivated")
            except CastcoreError as error:
                # The AF ends it with the PDU session at the latest.
                self._refused(error)
                await self._policy.forget()

    async def _information(self) -> ServiceAccessInformation | None:
        try:
            return await self._around.access.get(self._options.provisioning_session_id)
        except _AWAY as error:
            # Playing does not depend on it; it is asked for again.
            logger("client").warning("service_access.unknown", error=str(error))
            self.policy_error = error
            return None

    def _configured(self, information: ServiceAccessInformation | None) -> None:
        configuration = _configuration(information)
        self._do(self._reporting.configure(configuration, self._around.clock.now()))
        self._say("9  consumption reporting configuration", "present" if configuration is not None else "absent")

    async def _report_at_intervals(self) -> None:
        while True:
            await self._alarm.ring()
            self._do(self._reporting.tick(self._around.clock.now()))

    def _do(self, outputs: Iterable[Output]) -> None:
        around = self._around
        for output in outputs:
            match output:
                case SendReport():
                    units = len(output.report.consumption_reporting_units)
                    self._say("12 consumption report", f"{output.trigger.name}, {units} units")
                    around.outbox.add(self._options.provisioning_session_id, output.report, output.server_addresses)
                case Withdraw.REPORTS:
                    around.outbox.withdraw(self._options.provisioning_session_id)
                case Withdraw.LOCATIONS:
                    around.outbox.withdraw_locations()
            around.sender.changed()
        self._alarm.changed()

    async def _keep_in_step(self) -> None:
        """Activates the policy, or tells the network which connections are open now."""
        async with self._policy_turn:
            flows = tuple(dict.fromkeys(Flow.of(each, self._method) for each in self._connections))
            if not self._policy_wanted or (flows == self._policy.flows and not self._policy.is_over):
                return
            try:
                if self._policy.is_over:
                    await self._watch.end()
                    await self._policy.forget()
                if self._policy.policy is not None:
                    await self._policy.set_flows(flows)
                    self._say("   dynamic policy", f"{len(flows)} flows")
                elif flows:
                    await self._activate(flows)
            except CastcoreError as error:
                self._refused(error)

    async def _activate(self, flows: tuple[Flow, ...]) -> None:
        options = self._options
        policy = await self._policy.activate(
            options.provisioning_session_id,
            options.network_policy_id,
            flows,
            qos_specification=options.qos_specification,
        )
        self.policy_error = None
        self._say("7  dynamic policy", f"{policy.dynamic_policy_id}, {policy.enforcement_bit_rate_bps:,} bit/s")
        self._watch.begin(self._follow_policy)

    async def _follow_policy(self) -> None:
        async def follow() -> bool:
            came = False
            async for policy in self._policy.watch():
                came = True
                if policy.state == DynamicPolicy.STATE_TERMINATED:
                    # It is activated anew when the player opens another connection.
                    await asyncio.Event().wait()
            return came

        await follow_for_ever(follow, logger("client"), "dynamic_policy", first_backoff_s=0.5, max_backoff_s=10.0)

    def _refused(self, error: CastcoreError) -> None:
        self.policy_error = error
        self._say("   dynamic policy", f"refused: {error}")
        logger("client").warning("dynamic_policy.refused", reason=error.reason, cause=error.cause, error=str(error))

    def _filter(self, service_descriptor_filter: ServiceDescriptorFilter | None) -> None:
        told = "none: the player chooses freely"
        if service_descriptor_filter is not None and self._policy.filter_way is not None:
            told = f"{_bound(service_descriptor_filter)}, {self._policy.filter_way.value}"
        self._player.set_filter(service_descriptor_filter)
        self._say("7  service descriptor filter", told)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)

    def _say(self, step: str, what: str) -> None:
        self._around.narrate(f"{step}: {what}" if what else step)


def _configuration(
    information: ServiceAccessInformation | None,
) -> ClientConsumptionReportingConfiguration | None:
    if information is None or not information.HasField("client_consumption_reporting_configuration"):
        return None
    return information.client_consumption_reporting_configuration


def _bound(service_descriptor_filter: ServiceDescriptorFilter) -> str:
    bounds = []
    if service_descriptor_filter.service_description_id:
        bounds.append(f"service description {service_descriptor_filter.service_description_id}")
    if service_descriptor_filter.operating_bandwidth_max_bps:
        bounds.append(f"at most {service_descriptor_filter.operating_bandwidth_max_bps:,} bit/s")
    return ", ".join(bounds)


def _told(preferences: Preferences) -> str:
    report = "may report" if preferences.may_report else "may not report"
    return f"{report}, {'may' if preferences.may_share_location else 'may not'} share the location"
