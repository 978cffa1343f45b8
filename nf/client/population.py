"""A population of simulated clients, for load: each a whole Media Session Handler, with media that are only pretended.

What a client does is decided by the seed and its number alone: when it starts, how long it plays, when it switches.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from nf.af.v1.media_session_pb2 import ServiceDescriptorFilter
from nf.client.m5 import M5
from nf.client.m7 import Connection, Endpoint, PlayerListener, Preferences
from nf.client.measured_m5 import MeasuredM5, Measurements
from nf.client.media_session import SessionOptions
from nf.client.media_session_handler import MediaSessionHandler
from nf.client.outbox import Counts, Outbox
from nf.common.clock import Clock
from nf.common.errors import CastcoreError, InvalidArgument

_SERVER: Final = Endpoint(ip_address("198.51.100.7"), 443)
_REPRESENTATIONS: Final = tuple(f"video-{rate}" for rate in ("480p", "720p", "1080p", "2160p"))
_PAUSE_BETWEEN_SESSIONS_S: Final = 1.0
# After the end: how long reports that still wait are tried.
_SETTLE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How a population behaves. Times are means of exponential distributions unless it says otherwise.

    ramp_s: clients start evenly over so long. session_s: a session lasts; then the client starts another. switch_s:
    until another representation. reconnect_s: until another connection (0: never). network_policy_id: each session
    activates this policy, for a UE address of its own out of ``ue_network``.
    """

    provisioning_session_id: str
    clients: int
    duration_s: float
    ramp_s: float = 0.0
    session_s: float = 60.0
    switch_s: float = 8.0
    reconnect_s: float = 0.0
    network_policy_id: str = ""
    ue_network: IPv4Network | IPv6Network | None = None
    entry: str = "https://media.example.com/title.mpd"
    client_prefix: str = "client"
    seed: int = 1

    def check(self) -> None:
        """Raises InvalidArgument where the plan cannot be carried out."""
        for name in ("clients", "duration_s", "session_s", "switch_s"):
            if getattr(self, name) <= 0:
                raise InvalidArgument.of(name, f"expected more than 0, found {getattr(self, name)}")
        for name in ("ramp_s", "reconnect_s"):
            if getattr(self, name) < 0:
                raise InvalidArgument.of(name, f"expected at least 0, found {getattr(self, name)}")
        if self.network_policy_id and self.ue_network is None:
            raise InvalidArgument.of("ue_network", "missing, expected addresses for the UEs of the dynamic policies")
        if self.ue_network is not None and self.ue_network.num_addresses - 1 < self.clients:
            raise InvalidArgument.of(
                "ue_network",
                f"{self.ue_network} has {self.ue_network.num_addresses - 1} addresses for {self.clients} clients",
            )

    def ue_address(self, number: int) -> str:
        """The address of a client's UE; empty where the plan has none."""
        return "" if self.ue_network is None else str(self.ue_network[number + 1])


class _Media:
    """A player that pretends: connections, representations that change, no bytes."""

    def __init__(self, plan: Plan, chance: random.Random, clock: Clock, ue_address: str) -> None:
        self._plan = plan
        self._chance = chance
        self._clock = clock
        self._ue = ip_address(ue_address or "10.45.0.1")
        self._connection: Connection | None = None
        self._listener: PlayerListener | None = None
        self._preferences = Preferences()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, entry: str, listener: PlayerListener) -> None:
        """Opens a connection and begins to consume video and audio."""
        self._listener = listener
        listener.preferences_changed(self._preferences)
        await self._connect(listener)
        listener.media_changed("video", self._chance.choice(_REPRESENTATIONS), self._connection)
        listener.media_changed("audio", "audio", self._connection)
        self._tasks.append(asyncio.create_task(self._switch(listener)))
        if self._plan.reconnect_s:
            self._tasks.append(asyncio.create_task(self._reconnect(listener)))

    async def stop(self) -> None:
        """Ends it; may be called again."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        if self._connection is not None and self._listener is not None:
            self._listener.connection_closed(self._connection)
            self._connection = None

    def set_filter(self, service_descriptor_filter: ServiceDescriptorFilter | None) -> None:
        """What is chosen has no size here."""

    def set_preferences(self, preferences: Preferences) -> None:
        """Passed on."""
        self._preferences = preferences
        if self._listener is not None:
            self._listener.preferences_changed(preferences)

    async def _connect(self, listener: PlayerListener) -> None:
        former = self._connection
        port = self._chance.randrange(32768, 61000)
        self._connection = Connection(Endpoint(self._ue, port), _SERVER, server_name="media.example.com")
        await listener.connection_opened(self._connection)
        if former is not None:
            listener.connection_closed(former)

    async def _switch(self, listener: PlayerListener) -> None:
        while True:
            await _sleep(self._clock, self._chance.expovariate(1 / self._plan.switch_s))
            listener.media_changed("video", self._chance.choice(_REPRESENTATIONS), self._connection)

    async def _reconnect(self, listener: PlayerListener) -> None:
        while True:
            await _sleep(self._clock, self._chance.expovariate(1 / self._plan.reconnect_s))
            await self._connect(listener)


class Population:
    """Clients that come, play and go, from ``run`` on until the plan's end or ``stop``."""

    def __init__(self, plan: Plan, m5: M5, clock: Clock) -> None:
        plan.check()
        self.plan = plan
        self.measurements = Measurements()
        self.playing = 0
        self.playing_max = 0
        self.sessions = 0
        self.policies_refused = 0
        # Sessions that could not be started, and whatever else a client came to grief of.
        self.failures: dict[str, int] = {}
        self._m5 = MeasuredM5(m5, self.measurements)
        self._clock = clock
        self._over = asyncio.Event()
        self._outboxes: list[Outbox] = []

    def stop(self) -> None:
        """The end comes now: every client stops what it plays, with its final report."""
        self._over.set()

    async def run(self) -> None:
        """Returns when every client has ended, and its reports have been taken or it has been waited for them."""
        ending = asyncio.create_task(self._end_in_time())
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self.plan.clients):
                    group.create_task(self._client(number))
        finally:
            ending.cancel()

    @property
    def reports(self) -> Counts:
        """What became of all reports."""
        names: Sequence[str] = ("sent", "retried", "refused", "overflowed", "withdrawn")
        return Counts(*(sum(getattr(each.counts, name) for each in self._outboxes) for name in names))

    @property
    def reports_waiting(self) -> int:
        """Reports that have been made and not been taken."""
        return sum(map(len, self._outboxes))

    async def _end_in_time(self) -> None:
        await _sleep(self._clock, self.plan.duration_s)
        self._over.set()

    async def _client(self, number: int) -> None:
        plan = self.plan
        chance = random.Random(f"{plan.seed}/{number}")
        if await self._ended_within(plan.ramp_s * number / plan.clients):
            return
        ue_address = plan.ue_address(number)
        outbox = Outbox(seed=f"{plan.seed}/{number}")
        self._outboxes.append(outbox)
        handler = MediaSessionHandler(
            self._m5.for_ue(ue_address) if ue_address else self._m5,
            self._clock,
            client_id=f"{plan.client_prefix}-{number}",
            outbox=outbox,
        )
        options = SessionOptions(plan.provisioning_session_id, plan.network_policy_id, seed=f"{plan.seed}/{number}")
        async with handler:
            left_s = chance.expovariate(1 / plan.session_s)
            while not self._over.is_set():
                player = _Media(plan, chance, self._clock, ue_address)
                try:
                    session = await handler.start(player, plan.entry, options)
                except CastcoreError as error:
                    self.failures[error.reason] = self.failures.get(error.reason, 0) + 1
                else:
                    async with self._counted():
                        self.policies_refused += session.policy_error is not None
                        await self._ended_within(left_s)
                        await handler.stop(session)
                left_s = chance.expovariate(1 / plan.session_s)
                await self._ended_within(chance.expovariate(1 / _PAUSE_BETWEEN_SESSIONS_S))
            with suppress(TimeoutError):
                async with asyncio.timeout(_SETTLE_S):
                    while len(outbox) and not await handler.flush():  # noqa: ASYNC110 (the AF is given time)
                        await asyncio.sleep(1.0)

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        self.sessions += 1
        self.playing += 1
        self.playing_max = max(self.playing_max, self.playing)
        try:
            yield
        finally:
            self.playing -= 1

    async def _ended_within(self, duration_s: float) -> bool:
        """Waits for so long, or for the end; whether that has come."""
        sleeping = asyncio.ensure_future(_sleep(self._clock, duration_s))
        ending = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait((sleeping, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            ending.cancel()
        return self._over.is_set()


async def follow(population: Population, every_s: float, tell: Callable[[Population], None]) -> None:
    """Runs a population, and tells of it every so often."""
    running = asyncio.ensure_future(population.run())
    try:
        while not running.done():
            await asyncio.wait((running,), timeout=every_s)
            tell(population)
        running.result()
    finally:
        if not running.done():
            population.stop()
            running.cancel()
            await asyncio.wait((running,))


async def _sleep(clock: Clock, duration_s: float) -> None:
    await clock.sleep_until(clock.now() + timedelta(seconds=duration_s))
