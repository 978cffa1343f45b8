"""The GTP-U tunnels of PDU sessions on N3: which UE is behind which (TS 23.501 §5.8.2.11, TS 29.281 §3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from upf.errors import UpfError
from upf.gtpu import GTPU_PORT

MAX_TEID: Final = 0xFFFFFFFF
MAX_PORT: Final = 0xFFFF
MAX_QFI: Final = 63
# What tells UEs apart: an address of IPv4, a prefix of IPv6 (TS 23.501 §5.8.2.2).
_UE_BITS: Final = {4: 32, 6: 64}

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class OuterHeader:
    """What downlink packets are put into: GTP-U for the tunnel ``teid`` of ``address``, in a QoS flow (None: in none).

    Raises UpfError where a number is out of range.
    """

    address: IPv4Address | IPv6Address
    teid: int
    qfi: int | None = None
    port: int = GTPU_PORT

    def __post_init__(self) -> None:
        _within("teid", self.teid, 1, MAX_TEID)
        _within("port", self.port, 1, MAX_PORT)
        if self.qfi is not None:
            _within("qfi", self.qfi, 1, MAX_QFI)

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port} teid {self.teid}{'' if self.qfi is None else f' qfi {self.qfi}'}"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One session's tunnel: packets of its UE come with ``teid``, those to its UE leave with ``outer_header``.

    ``ues``: the UE's IPv4 address, its IPv6 /64, or both; the only sources that may come out of the tunnel. Without an
    outer header the UE cannot be reached. ``name`` is the session's, in messages. Raises UpfError.
    """

    name: str
    ues: tuple[Network, ...]
    teid: int
    outer_header: OuterHeader | None = None

    def __post_init__(self) -> None:
        # TEID 0 is that of messages which belong to no tunnel (TS 29.281 §5.1).
        _within("teid", self.teid, 1, MAX_TEID)
        if not self.ues:
            raise UpfError("ue: found none, expected an address: a tunnel is that of a UE")
        for ue in self.ues:
            if ue.prefixlen != _UE_BITS[ue.version]:
                raise UpfError(f"ue: found {ue}, expected an IPv4 address or an IPv6 prefix of /64")


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UpfError(f"{name}: found {value}, expected {least} to {most}")


class TunnelBook:
    """The tunnels in force, by name: each TEID and each UE in one of them."""

    def __init__(self) -> None:
        self._tunnels: dict[str, Tunnel] = {}
        self._names: dict[int | Network, str] = {}

    def __iter__(self) -> Iterator[Tunnel]:
        return iter(self._tunnels.values())

    def __len__(self) -> int:
        return len(self._tunnels)

    def change(self, add: Sequence[Tunnel], remove: Iterable[str] = ()) -> tuple[list[Tunnel], list[Tunnel]]:
        """Adds tunnels, in place of those of the same names, and removes others: all of it or, on an error, nothing.

        Returns those that are to go and those that are to come, where something changes. Raises UpfError.
        """
        going = {name: self._tunnels[name] for name in remove if name in self._tunnels}
        for tunnel in add:
            if (before := self._tunnels.get(tunnel.name)) is not None and before != tunnel:
                going[tunnel.name] = before
        coming = [tunnel for tunnel in add if self._tunnels.get(tunnel.name) != tunnel or tunnel.name in going]
        names: dict[int | Network, str] = {}
        for tunnel in coming:
            for key in _keys(tunnel):
                holder = self._names.get(key)
                if holder in going:
                    holder = None
                holder = names.setdefault(key, tunnel.name) if holder is None else holder
                if holder != tunnel.name:
                    what = f"teid {key}" if isinstance(key, int) else f"ue {key}"
                    raise UpfError(f"session {tunnel.name}: {what} is that of session {holder}")
        for tunnel in going.values():
            del self._tunnels[tunnel.name]
            for key in _keys(tunnel):
                del self._names[key]
        self._tunnels |= {tunnel.name: tunnel for tunnel in coming}
        self._names |= names
        return list(going.values()), coming


def _keys(tunnel: Tunnel) -> Iterator[int | Network]:
    yield tunnel.teid
    yield from dict.fromkeys(tunnel.ues)
