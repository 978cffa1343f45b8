"""Packets of a source-specific multicast group (MBS-4-MC; RFC 4607); joining needs no privilege."""

from __future__ import annotations

import asyncio
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Protocol

# Of the kernel's interface; the socket module does not name them all.
_IP_ADD_SOURCE_MEMBERSHIP: Final = 39
_IP_MULTICAST_ALL: Final = 49
_IPV6_MULTICAST_ALL: Final = 29
_MCAST_JOIN_SOURCE_GROUP: Final = 46
_SO_RCVBUFFORCE: Final = 33
_STORAGE_BYTES: Final = 128

_BUFFER_BYTES: Final = 8 << 20
_LARGEST: Final = 65_535
_BATCH: Final = 256
_MOST_LEFT: Final = 100_000


class PacketSource(Protocol):
    """Where a client's packets come from."""

    async def receive(self) -> list[bytes]:
        """The next packets, at least one; none: there will be no others."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


class MulticastSocket:
    """The packets of one (S,G) and port; joined once it is made, to be made and closed inside a running loop.

    ``interface`` is the address of the interface for IPv4, its name for IPv6; packets of other sources are not taken.
    Raises OSError where the group cannot be joined.
    """

    def __init__(
        self,
        source: IPv4Address | IPv6Address | str,
        group: IPv4Address | IPv6Address | str,
        port: int,
        *,
        interface: str = "127.0.0.1",
    ) -> None:
        self._socket = join(ip_address(source), ip_address(group), port, interface)
        self._loop = asyncio.get_running_loop()
        self._readable = asyncio.Event()
        self._closed = False
        # What had arrived when it was closed.
        self._left: list[bytes] = []
        self._loop.add_reader(self._socket.fileno(), self._readable.set)

    async def receive(self) -> list[bytes]:
        """The next packets; none once it is closed and what had arrived then is received."""
        packets: list[bytes] = []
        while not packets and not self._closed:
            await self._readable.wait()
            try:
                while len(packets) < _BATCH and not self._closed:
                    packets.append(self._socket.recv(_LARGEST))
            except BlockingIOError:
                self._readable.clear()
        if not packets:
            packets, self._left = self._left, []
        return packets

    def close(self) -> None:
        """Leaves the group; what has arrived is still received."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket.fileno())
        try:
            while len(self._left) < _MOST_LEFT:
                self._left.append(self._socket.recv(_LARGEST))
        except BlockingIOError:
            pass
        self._socket.close()
        self._readable.set()


def join(
    source: IPv4Address | IPv6Address, group: IPv4Address | IPv6Address, port: int, interface: str
) -> socket.socket:
    """A socket, not blocking, that has the packets of this source to this group and port. Raises OSError."""
    family = socket.AF_INET if group.version == 4 else socket.AF_INET6
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        except PermissionError:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        # Bound to the group: nothing that is sent to another address of this port.
        if group.version == 4:
            opened.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            opened.bind((str(group), port))
            request = group.packed + ip_address(interface).packed + source.packed
            opened.setsockopt(socket.IPPROTO_IP, _IP_ADD_SOURCE_MEMBERSHIP, request)
        else:
            index = socket.if_nametoindex(interface)
            opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
            opened.bind((str(group), port, 0, index))
            request = struct.pack("@Q", index) + _storage(group) + _storage(source)
            opened.setsockopt(socket.IPPROTO_IPV6, _MCAST_JOIN_SOURCE_GROUP, request)
    except BaseException:
        opened.close()
        raise
    return opened


def _storage(address: IPv4Address | IPv6Address) -> bytes:
    """A sockaddr_storage of an IPv6 address."""
    return (struct.pack("=H", socket.AF_INET6) + bytes(6) + address.packed).ljust(_STORAGE_BYTES, b"\0")
