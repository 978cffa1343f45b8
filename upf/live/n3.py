"""N3 as the access side of live traffic: GTP-U over a UDP socket (TS 29.281), each session in its tunnel."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from upf.engine import Engine, N3Downlink, N3Uplink
from upf.errors import UpfError
from upf.live.bump import Bump, Side
from upf.live.n3_place import N3Place
from upf.live.namespaces import in_namespace
from upf.tunnels import Tunnel, TunnelBook

# What waits until it is read: as much as 64 messages of the largest kind.
_BUFFER_BYTES: Final = 8 << 20
# asm-generic/socket.h, linux/udp.h, linux/in.h, linux/in6.h
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_SO_TIMESTAMPNS: Final = 35
_UDP_GRO: Final = 104
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_DONT: Final = 0


class N3Socket:
    """An open end of N3; a context manager. ``fd`` does not block."""

    def __init__(self, place: N3Place, bound: socket.socket) -> None:
        self.place = place
        self._socket = bound

    @property
    def fd(self) -> int:
        """The socket's file descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Nothing is received any more."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_n3(place: N3Place) -> N3Socket:
    """Receive at the place (port 0: a free one). Raises UpfError."""
    return in_namespace(place.netns, _open, place)


def _open(place: N3Place) -> N3Socket:
    family = socket.AF_INET if place.address.version == 4 else socket.AF_INET6
    bound = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        bound.bind((str(place.address), place.port))
        for forced, asked in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            # What the system allows everybody, and more where this process may ask for it.
            bound.setsockopt(socket.SOL_SOCKET, asked, _BUFFER_BYTES)
            with suppress(PermissionError):
                bound.setsockopt(socket.SOL_SOCKET, forced, _BUFFER_BYTES)
        # Many datagrams of one sender are received as one, where the kernel can do so.
        with suppress(OSError):
            bound.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        # When a packet came, the kernel knows.
        bound.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        # What is longer than the path's MTU is fragmented, not refused (TS 29.281 §4.2.2).
        if family == socket.AF_INET:
            bound.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
        else:
            bound.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
    except OSError as error:
        bound.close()
        raise UpfError(
            f"n3 {place}: {(error.strerror or str(error)).lower()}: expected an address of this host, and a port that "
            "nobody else has"
        ) from None
    return N3Socket(N3Place(place.address, bound.getsockname()[1], place.netns), bound)


class N3Bump(Bump):
    """Packets from N3 to the core side (uplink) and back (downlink), each in a thread of its own.

    access: an N3Socket. What comes in no session's tunnel, and what is for no session's UE, goes nowhere.
    """

    def _make_wires(self, access: Side, core: Side, uplink: Engine, downlink: Engine) -> tuple[N3Uplink, N3Downlink]:
        assert isinstance(access, N3Socket)
        self.place = access.place
        self._book = TunnelBook()
        self._uplink = N3Uplink(uplink, access.fd, core.fd)
        self._downlink = N3Downlink(downlink, core.fd, access.fd)
        return self._uplink, self._downlink

    def change_tunnels(self, add: Iterable[Tunnel], remove: Iterable[str] = ()) -> None:
        """Adds tunnels, in place of those of the same names, and removes others, at any time, without a packet lost.

        All of it or, on an error, nothing. Raises UpfError.
        """
        going, coming = self._book.change(list(add), remove)
        self._uplink.change(going, coming)
        self._downlink.change(going, coming)

    @property
    def tunnels(self) -> tuple[Tunnel, ...]:
        """Those in force."""
        return tuple(self._book)

    def messages(self) -> Mapping[str, Mapping[str, int]]:
        """Messages of GTP-U, by type: ``received`` (G-PDUs too), and ``sent`` in answer to them."""
        return {"received": self._uplink.messages_seen(), "sent": self._uplink.messages_sent()}
