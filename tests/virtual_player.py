"""A player without media: it tells the Media Session Handler what the test says, and remembers what it is told."""

from __future__ import annotations

from ipaddress import ip_address

from nf.af.v1.media_session_pb2 import ServiceDescriptorFilter
from nf.client.m7 import Connection, Endpoint, PlayerListener, Preferences
from nf.common.errors import Unavailable


def connection(port: int, *, server: str = "198.51.100.7") -> Connection:
    """A connection of the UE to port 443 of a media server."""
    return Connection(
        Endpoint(ip_address("10.45.0.2"), port), Endpoint(ip_address(server), 443), server_name="cdn.test"
    )


class VirtualPlayer:
    """Opens one connection when it starts. ``log`` has what happened to it, in order."""

    def __init__(self, *, first_port: int = 50000, fails: bool = False) -> None:
        self.log: list[str] = []
        self.filters: list[int | None] = []
        self.preferences: Preferences | None = None
        self.listener: PlayerListener | None = None
        self._first = connection(first_port)
        self._fails = fails

    @property
    def tells(self) -> PlayerListener:
        """Whom it tells."""
        assert self.listener is not None
        return self.listener

    async def start(self, entry: str, listener: PlayerListener) -> None:
        """Opens its connection, and "fetches the MPD" when the handler has answered."""
        self.listener = listener
        if self._fails:
            raise Unavailable("the MPD is not there")
        if self.preferences is not None:
            listener.preferences_changed(self.preferences)
        await listener.connection_opened(self._first)
        self.log.append(f"fetch {entry}")

    async def stop(self) -> None:
        """Remembers that."""
        if "stop" not in self.log:
            self.log.append("stop")
            if self.listener is not None and not self._fails:
                self.listener.connection_closed(self._first)

    def set_filter(self, service_descriptor_filter: ServiceDescriptorFilter | None) -> None:
        """Remembers the bit rate."""
        rate = None if service_descriptor_filter is None else service_descriptor_filter.operating_bandwidth_max_bps
        self.filters.append(rate)
        self.log.append(f"filter {rate}")

    def set_preferences(self, preferences: Preferences) -> None:
        """Passes them on."""
        self.preferences = preferences
        if self.listener is not None:
            self.listener.preferences_changed(preferences)
