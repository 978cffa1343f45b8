"""The ends of Nmb9 tunnels: UDP sockets whose datagrams each carry one IP packet (TS 29.244 §8.2.209).

Sessions share a tunnel as long as their sources or groups differ; one whose (S,G) is taken has a tunnel of its own.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from upf._mbs import Replicator
from upf.errors import UpfError

# What waits until it is read.
_BUFFER_BYTES: Final = 8 << 20
# asm-generic/socket.h
_SO_RCVBUFFORCE: Final = 33
_SO_TIMESTAMPNS: Final = 35

Address = IPv4Address | IPv6Address
Endpoint = tuple[Address, int]
Flow = tuple[Address, Address]


@dataclass(eq=False, slots=True)
class IngressTunnel:
    """An open end. ``number`` is the packet path's."""

    socket: socket.socket
    address: Address
    port: int
    number: int
    flows: set[Flow] = field(default_factory=set)


class Ingress:
    """All ends of one UPF. places: where they may be, the first of an IP version; a port 0 is a free one."""

    def __init__(self, replicator: Replicator, places: Sequence[Endpoint]) -> None:
        self._replicator = replicator
        self._places = tuple(places)
        self._tunnels: list[IngressTunnel] = []

    @property
    def tunnels(self) -> Sequence[IngressTunnel]:
        """Those that are open."""
        return tuple(self._tunnels)

    def take(self, flow: Flow, ip_version: int, current: IngressTunnel | None = None) -> IngressTunnel:
        """A tunnel for the packets of a source to a group, which nobody else has there.

        ip_version: that of the tunnel; 0: the first place's. current: the session's own, which it keeps where that is
        possible. Raises UpfError, without effect.
        """
        place = next((each for each in self._places if ip_version in (0, each[0].version)), None)
        if place is None:
            found = ", ".join(str(address) for address, _ in self._places)
            raise UpfError(f"ingress: found {found}, expected an address of IP version {ip_version} in [upf.mbs]")
        fitting = [tunnel for tunnel in self._tunnels if ip_version in (0, tunnel.address.version)]
        if current is not None and current in fitting and flow not in current.flows:
            tunnel = current
        else:
            free = (tunnel for tunnel in fitting if flow not in tunnel.flows and tunnel.address == place[0])
            tunnel = next(free, None) or self._open(place)
        tunnel.flows.add(flow)
        return tunnel

    def give_back(self, tunnel: IngressTunnel, flow: Flow) -> None:
        """The flow comes no more; a tunnel without any is closed, once no session in force has it."""
        tunnel.flows.discard(flow)
        if not tunnel.flows:
            self._tunnels.remove(tunnel)
            self._replicator.close_tunnel(tunnel.number)
            tunnel.socket.close()

    def close(self) -> None:
        """Nothing is received any more."""
        for tunnel in self._tunnels:
            self._replicator.close_tunnel(tunnel.number)
            tunnel.socket.close()
        self._tunnels.clear()

    def _open(self, place: Endpoint) -> IngressTunnel:
        address, port = place
        if any((tunnel.address, tunnel.port) == place for tunnel in self._tunnels):
            port = 0
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        bound = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            bound.bind((str(address), port))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            with suppress(PermissionError):
                bound.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
            # When a packet came, the kernel knows.
            bound.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            number = self._replicator.open_tunnel(bound.fileno())
        except OSError as error:
            bound.close()
            raise UpfError(
                f"ingress {address} port {port}: {(error.strerror or str(error)).lower()}: expected an address of this "
                "host, and a port that nobody else has"
            ) from None
        tunnel = IngressTunnel(bound, address, bound.getsockname()[1], number)
        self._tunnels.append(tunnel)
        return tunnel
