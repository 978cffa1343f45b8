"""M7: what the Media Session Handler and the media player tell each other (TS 26.501 §5.6.1, TS 26.512 A.3.2).

Protocols and plain values only: any player that has the methods of ``MediaPlayer`` can be driven, and anything that has
those of ``PlayerListener`` can listen to a player.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol

from nf.af.v1.media_session_pb2 import ServiceDescriptorFilter

TCP: Final = 6
UDP: Final = 17


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a connection."""

    address: IPv4Address | IPv6Address
    port: int


@dataclass(frozen=True, slots=True)
class Connection:
    """A transport connection of the player, by the addresses of its socket.

    ``server_name`` is the host that was asked for, where it is known ("cdn.example.com").
    """

    client: Endpoint
    server: Endpoint
    protocol: int = TCP
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the user allows (TS 26.501 §5.6.1 steps 7 and 8): nothing is reported, no location told, without it."""

    may_report: bool = True
    may_share_location: bool = False


class PlayerListener(Protocol):
    """What a player tells. None of it raises, and only ``connection_opened`` takes time."""

    def media_changed(self, medium: str, media_consumed: str | None, connection: Connection | None = None) -> None:
        """Of ``medium`` ("video", "audio", …) this is consumed from now on (TS 26.501 §5.6.1 step 11).

        ``media_consumed`` is what reports call it: with DASH an AdaptationSet@id or Representation@id. None: the medium
        is consumed no longer (paused, ended). ``connection`` is the one over which it comes, where that is known.
        """
        ...

    async def connection_opened(self, connection: Connection) -> None:
        """A connection is open. Returns when the network treats it as the policy says, or it is known that it will not.

        A player that awaits this before its first request has no byte outside the policy, and has its filter before it
        fetches the MPD (TS 26.512 A.3.2 steps 7 to 9).
        """
        ...

    def connection_closed(self, connection: Connection) -> None:
        """A connection has been closed, by either end."""
        ...

    def preferences_changed(self, preferences: Preferences) -> None:
        """The user's preferences, as the application gave them to the player (TS 26.501 §5.6.1 step 8)."""
        ...

    def stopped(self) -> None:
        """The presentation has come to its end, without having been told to stop."""
        ...

    def failed(self, error: Exception) -> None:
        """The presentation cannot go on."""
        ...


class MediaPlayer(Protocol):
    """What a player is told."""

    async def start(self, entry: str, listener: PlayerListener) -> None:
        """Begins to play a Media Player Entry (with DASH the URL of an MPD); returns when that has begun (step 6).

        Raises CastcoreError when the entry cannot be played.
        """
        ...

    async def stop(self) -> None:
        """Stops playing and closes every connection; returns when that is done (step 17). May be called again."""
        ...

    def set_filter(self, service_descriptor_filter: ServiceDescriptorFilter | None) -> None:
        """What the player may choose from now on (TS 26.512 A.3.2 step 7); None: anything, and it is charged."""
        ...

    def set_preferences(self, preferences: Preferences) -> None:
        """The user's preferences, from the application; passed on to the listener (TS 26.501 §5.6.1 steps 7 and 8).

        May be called before ``start``: the listener is told then.
        """
        ...
