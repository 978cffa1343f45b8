"""The ways out of MBS sessions opened: sockets and tun devices, and who shares them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

from upf._mbs import Branch
from upf.errors import UpfError
from upf.live.devices import Place, TunDevice, open_tun
from upf.mbs.interfaces import interface_index
from upf.mbs.sessions import Delivery, GtpU, Multicast, Replicated, ToTun

Address = IPv4Address | IPv6Address
MulticastSending = Literal["auto", "raw", "udp"]
OpenTun = Callable[[Place], TunDevice]

_BUFFER_BYTES: Final = 8 << 20
# How far packets go that the UPF itself addresses to a group.
_HOPS: Final = 64
# asm-generic/socket.h, linux/in.h, linux/in6.h
_SO_SNDBUFFORCE: Final = 32
_IP_MTU_DISCOVER: Final = 10
_IP_FREEBIND: Final = 15
_IPV6_MTU_DISCOVER: Final = 23
_IPV6_FREEBIND: Final = 78
_PMTUDISC_DONT: Final = 0


class Outlets:
    """Opens branches; all GTP-U to single receivers leaves by one socket of each IP version.

    interface: where multicast leaves that names none. multicast: whether by raw sockets, by UDP sockets, or by raw ones
    where this process may have them (auto). gtp_u: source addresses of GTP-U, at most one of each IP version.
    """

    def __init__(
        self,
        *,
        interface: str = "lo",
        multicast: MulticastSending = "auto",
        gtp_u: tuple[Address, ...] = (),
        open_device: OpenTun = open_tun,
    ) -> None:
        self._interface = interface
        self._multicast = multicast
        self._gtp_u: dict[int, str] = {address.version: str(address) for address in gtp_u}
        self._open_device = open_device
        self._sockets: dict[int, socket.socket] = {}
        self._devices: dict[Place, tuple[TunDevice, set[Branch]]] = {}
        # Raw sockets by the source that they are bound to and the interface.
        self._raw: dict[tuple[Address, int], tuple[socket.socket, set[Branch]]] = {}
        # Sockets of one branch alone.
        self._own: dict[Branch, socket.socket] = {}

    def open(self, delivery: Delivery, session: Replicated) -> Branch:
        """A branch of the session. Raises UpfError; nothing is left open then."""
        if isinstance(delivery, ToTun):
            return self._tun(delivery.place)
        if isinstance(delivery, Multicast):
            return self._to_group(delivery, session)
        return self._into_gtp_u(delivery, session.qfi)

    def close(self, branch: Branch) -> None:
        """Lets a branch go that is in no session any more; what nobody else has is closed."""
        if (own := self._own.pop(branch, None)) is not None:
            own.close()
        for key, (raw, users) in list(self._raw.items()):
            users.discard(branch)
            if not users:
                del self._raw[key]
                raw.close()
        for place, (device, users) in list(self._devices.items()):
            users.discard(branch)
            if not users:
                del self._devices[place]
                device.close()

    def close_all(self) -> None:
        """Every device and socket, when no branch is in any session."""
        for own in self._own.values():
            own.close()
        self._own.clear()
        for raw, _ in self._raw.values():
            raw.close()
        self._raw.clear()
        for device, _ in self._devices.values():
            device.close()
        self._devices.clear()
        for shared in self._sockets.values():
            shared.close()
        self._sockets.clear()

    def _tun(self, place: Place) -> Branch:
        device, users = self._devices.get(place) or (self._open_device(place), set[Branch]())
        self._devices[place] = device, users
        branch = Branch("tun", device.fd)
        users.add(branch)
        return branch

    def _to_group(self, delivery: Multicast, session: Replicated) -> Branch:
        index = interface_index(delivery.interface or self._interface)
        if self._multicast != "udp":
            try:
                return self._from_raw_socket(session, index)
            except PermissionError:
                if self._multicast == "raw":
                    raise UpfError(
                        "multicast: found no CAP_NET_RAW, expected it of whoever sends from raw sockets: run it as "
                        "root (sudo), or configure multicast = 'udp' in [upf.mbs]"
                    ) from None
            except OSError as error:
                raise _not_opened("multicast", session.source, error) from None
        return Branch("udp", -1, interface=index)

    def _from_raw_socket(self, session: Replicated, index: int) -> Branch:
        key = session.source, index
        raw, users = self._raw.get(key) or (_raw(*key), set[Branch]())
        self._raw[key] = raw, users
        branch = Branch("raw", raw.fileno(), address=session.group.packed)
        users.add(branch)
        return branch

    def _into_gtp_u(self, delivery: GtpU, qfi: int | None) -> Branch:
        version = delivery.address.version
        if delivery.address.is_multicast:
            index = interface_index(delivery.interface or self._interface)
            used = self._udp(version, delivery.source)
            try:
                _send_groups_by(used, index)
            except OSError as error:
                used.close()
                raise _not_opened("low_layer_ssm", delivery.address, error) from None
        else:
            used = self._sockets.get(version) or self._udp(version)
            self._sockets[version] = used
        branch = Branch(
            "gtp_u",
            used.fileno(),
            address=delivery.address.packed,
            port=delivery.port,
            teid=delivery.teid,
            qfi=-1 if qfi is None else qfi,
        )
        if delivery.address.is_multicast:
            self._own[branch] = used
        return branch

    def _udp(self, version: int, source: Address | None = None) -> socket.socket:
        """Sends GTP-U; what is longer than the path's MTU is fragmented, not refused (TS 29.281 §4.2.2)."""
        opened = socket.socket(
            socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        )
        configured = self._gtp_u.get(version, "0.0.0.0" if version == 4 else "::")
        own = str(source) if source is not None else configured
        try:
            opened.bind((own, 0))
            _enlarge(opened)
            if version == 4:
                opened.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
            else:
                opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
        except OSError as error:
            opened.close()
            raise _not_opened("gtp_u", own, error) from None
        return opened


def _raw(source: Address, index: int) -> socket.socket:
    """Sends IP packets as they are, bound to their source, which may be anybody's.

    For its own listeners to that source alone the kernel looks at what a socket is bound to, not into the packet.
    """
    version = source.version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    raw = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)
    try:
        if version == 4:
            raw.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            raw.bind((str(source), 0))
        else:
            raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            raw.bind((str(source), 0, 0, index if source.is_link_local else 0))
        _send_groups_by(raw, index)
        _enlarge(raw)
    except BaseException:
        raw.close()
        raise
    return raw


def _send_groups_by(sending: socket.socket, index: int) -> None:
    if sending.family == socket.AF_INET:
        by = struct.pack("=4s4si", bytes(4), bytes(4), index)
        sending.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, by)
        sending.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _HOPS)
    else:
        sending.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sending.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOPS)


def _enlarge(sending: socket.socket) -> None:
    sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    with suppress(PermissionError):
        sending.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)


def _not_opened(what: str, source: object, error: OSError) -> UpfError:
    return UpfError(f"{what}: {source}: {(error.strerror or str(error)).lower()}")
