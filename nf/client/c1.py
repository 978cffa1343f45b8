"""C1: an application's one interface to a 5GMS client, over M6 and M7 (TS 26.512 A.3.2).

::

    async with MediaClient(m8.read(path), client_id="msisdn-15550100") as client:
        playback = await client.play("title1", network_policy_id="conditional-zero-rating")
        await playback.ended()
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType

from nf.af.v1.consumption_reporting_pb2 import TypedLocation
from nf.af.v1.media_session_pb2 import DynamicPolicy, M5QosSpecification
from nf.client.journal import Journal
from nf.client.m5 import M5
from nf.client.m5_connect import connect
from nf.client.m7 import MediaPlayer, Preferences
from nf.client.m8 import M8, Title, TitleUnknown, access_of
from nf.client.machine import Reporting
from nf.client.media_session import MediaSession, SessionOptions
from nf.client.media_session_handler import MediaSessionHandler
from nf.client.outbox import Outbox
from nf.common.clock import Clock, SystemClock
from nf.common.errors import CastcoreError


class Playback:
    """A title that plays; ``MediaClient.play`` makes one."""

    def __init__(self, title: Title, handler: MediaSessionHandler, session: MediaSession, player: MediaPlayer) -> None:
        self.title = title
        self.player = player
        self._handler = handler
        self._session = session

    @property
    def policy(self) -> DynamicPolicy | None:
        """The dynamic policy in force; None: none was asked for, or it was refused (``policy_error``)."""
        return self._session.policy

    @property
    def policy_error(self) -> CastcoreError | None:
        """Why there is no dynamic policy; the title plays all the same, and is charged."""
        return self._session.policy_error

    @property
    def error(self) -> Exception | None:
        """Why the title plays no longer, where it has failed."""
        return self._session.player_error

    @property
    def reporting(self) -> Reporting:
        """Where consumption reporting stands."""
        return self._session.reporting

    def set_preferences(self, preferences: Preferences) -> None:
        """What the user allows from now on."""
        self._session.set_preferences(preferences)

    async def ended(self) -> None:
        """Returns when the title has come to its end, has failed, or has been stopped."""
        await self._session.ended()

    async def stop(self) -> None:
        """Stops: final report, then the player, then the policy. May be called again."""
        await self._handler.stop(self._session)


class MediaClient:
    """The 5GMS client of one user on one device, configured by an M8 document.

    client_id: reportingClientId of its reports. preferences: what the user allows. subscription_ids (None: all) and
    device_type_id choose from the catalogue. player: makes the player of a title; by default a DASH player.
    ue_address: the UE, where the AF trusts us to name it. state_directory: where reports wait while the AF is away;
    None: in memory. ``connect_m5`` makes M5 of an address.
    """

    def __init__(
        self,
        m8: M8,
        *,
        client_id: str,
        preferences: Preferences | None = None,
        subscription_ids: Collection[str] | None = None,
        device_type_id: str = "",
        player: Callable[[], MediaPlayer] | None = None,
        ue_address: str = "",
        state_directory: Path | None = None,
        clock: Clock | None = None,
        connect_m5: Callable[[str], M5] | None = None,
        narrate: Callable[[str], None] = lambda _: None,
        seed: int | str | None = None,
    ) -> None:
        self._m8 = m8
        self._client_id = client_id
        self._preferences = preferences if preferences is not None else Preferences()
        self._subscription_ids = subscription_ids
        self._device_type_id = device_type_id
        self._clock = clock if clock is not None else SystemClock()
        self._player = player if player is not None else self._dash_player
        self._connect = connect_m5 if connect_m5 is not None else lambda url: connect(url, ue_address=ue_address)
        self._directory = state_directory
        self._narrate = narrate
        self._seed = seed
        self._stack = AsyncExitStack()
        self._handlers: dict[str, MediaSessionHandler] = {}
        self._location: TypedLocation | None = None

    async def __aenter__(self) -> MediaClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def titles(self) -> tuple[Title, ...]:
        """The titles that this user can see on this device."""
        return self._m8.titles(self._subscription_ids, self._device_type_id)

    @property
    def network_policy_ids(self) -> tuple[str, ...]:
        """The network policies that can be asked for."""
        return tuple(each.network_policy_id for each in self._m8.policy_descriptions)

    async def play(
        self,
        title: str | Title,
        *,
        network_policy_id: str = "",
        preferences: Preferences | None = None,
        qos_specification: M5QosSpecification | None = None,
    ) -> Playback:
        """Plays a title (steps 4 to 9), under a network policy where one is named.

        Returns when it has begun. Raises TitleUnknown, InvalidArgument for an unknown network policy id, NotFound where
        the service is not provisioned, and what the player raises. A policy that is refused is no error: the title
        plays unfiltered, and is charged.
        """
        chosen = self._m8.title(title) if isinstance(title, str) else title
        if chosen not in self.titles:
            raise TitleUnknown(f"title {chosen.title_id!r} is not for these subscriptions and this type of device")
        root, provisioning_session_id = access_of(self._m8.access_url(chosen, network_policy_id))
        options = SessionOptions(
            provisioning_session_id,
            network_policy_id,
            qos_specification=qos_specification,
            known_filters=self._m8.known_filters(network_policy_id),
            preferences=preferences if preferences is not None else self._preferences,
            seed=self._seed,
        )
        handler = await self._handler(root)
        player = self._player()
        session = await handler.start(player, chosen.entry, options)
        return Playback(chosen, handler, session, player)

    def locate(self, location: TypedLocation | None) -> None:
        """The UE is in this cell now; reported only where it is asked for, and the user allows it."""
        self._location = location
        for handler in self._handlers.values():
            handler.locate(location)

    async def close(self) -> None:
        """Stops what plays, sends what can be sent."""
        self._handlers.clear()
        await self._stack.aclose()

    async def _handler(self, root: str) -> MediaSessionHandler:
        """The handler that speaks to the AF at this address."""
        handler = self._handlers.get(root)
        if handler is None:
            m5 = self._connect(root)
            self._stack.push_async_callback(m5.close)
            handler = MediaSessionHandler(
                m5, self._clock, client_id=self._client_id, outbox=self._outbox(root), narrate=self._narrate
            )
            handler.locate(self._location)
            self._handlers[root] = await self._stack.enter_async_context(handler)
        return handler

    def _outbox(self, root: str) -> Outbox:
        if self._directory is None:
            return Outbox()
        name = hashlib.sha256(f"{root}\0{self._client_id}".encode()).hexdigest()[:16]
        return Outbox(journal=Journal(self._directory / f"reports-{name}.jsonl"))

    def _dash_player(self) -> MediaPlayer:
        from nf.client.dash.player import DashPlayer

        return DashPlayer(self._clock)
