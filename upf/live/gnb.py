"""The other end of N3, for tests and measurements: a gNB without a radio, whose UEs are behind a tun device."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from upf.engine import Engine, N3Downlink, N3Uplink
from upf.gtpu import GTPU_PORT
from upf.live.bump import Bump, Side
from upf.tunnels import OuterHeader, Tunnel


def as_gnb_sees_it(tunnel: Tunnel, upf: IPv4Address | IPv6Address, port: int = GTPU_PORT) -> Tunnel:
    """A session's tunnel from its other end: the UPF is there. Raises UpfError where the tunnel has no gNB's TEID."""
    theirs = tunnel.outer_header
    return Tunnel(
        tunnel.name,
        tunnel.ues,
        theirs.teid if theirs is not None else 0,
        OuterHeader(upf, tunnel.teid, theirs.qfi if theirs is not None else None, port),
    )


class GnbBump(Bump):
    """Packets from UEs (the access side, a tun device) into tunnels (the core side, an N3Socket), and back."""

    def _make_wires(self, access: Side, core: Side, uplink: Engine, downlink: Engine) -> tuple[N3Downlink, N3Uplink]:
        self._to_upf = N3Downlink(uplink, access.fd, core.fd)
        self._from_upf = N3Uplink(downlink, core.fd, access.fd)
        self._to_upf.mirrored = self._from_upf.mirrored = True
        return self._to_upf, self._from_upf

    def add_tunnels(self, tunnels: Iterable[Tunnel]) -> None:
        """Adds tunnels, `as_gnb_sees_it`; none is to have anything in common with another."""
        coming = list(tunnels)
        self._to_upf.change([], coming)
        self._from_upf.change([], coming)
