"""Tun devices: made, addressed and brought up in the network namespace that the user names.

A device lives as long as its file descriptor: nothing of it, no address and no route, outlives the process, also where
that is killed. Packets cross with a header that says what is left to the reader to do (Linux's
Documentation/networking/tuntap.rst, virtio 1.2 §5.1.6), so that a super-packet of up to 64 KiB needs one system call.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_interface,
    ip_network,
)
from types import TracebackType
from typing import Any, Final, Self

from upf.errors import UpfError
from upf.live.namespaces import in_namespace

CLONE_DEVICE: Final = "/dev/net/tun"
# Of the header before each packet: virtio_net_hdr without the count of merged buffers.
VNET_HEADER_BYTES: Final = 10
# What may wait until we read it. A super-packet counts as one; the kernel's own 500 small packets are a millisecond
# of a fast link, shorter than a busy machine may keep a thread waiting.
QUEUE_PACKETS: Final = 4096
MAX_QUEUE_PACKETS: Final = 1_000_000
MIN_MTU: Final = 68
MIN_IPV6_MTU: Final = 1280
MAX_MTU: Final = 65535

# linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_TUNSETOFFLOAD: Final = 0x400454D0
_TUNSETVNETHDRSZ: Final = 0x400454D8
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_IFF_TUN_EXCL: Final = 0x8000
# Checksums, TCP over IPv4 and IPv6, TCP with ECN; UDP over both since Linux 6.2.
_OFFLOAD_TCP: Final = 0x01 | 0x02 | 0x04 | 0x08
_OFFLOAD_UDP: Final = 0x20 | 0x40
# linux/if_addr.h, linux/if_link.h
_IFA_F_NODAD: Final = 0x02
_ADDR_GEN_MODE_NONE: Final = 1

_NAME: Final = re.compile(r"[^\s/:%@]{1,15}")
_CAPABILITY: Final = (
    "this process has no CAP_NET_ADMIN, expected it of whoever makes a network device: run it as root (sudo) or grant "
    "it with 'sudo setcap cap_net_admin+ep {program}'; 'castcore lab' needs no root"
)

_Address = IPv4Interface | IPv6Interface
_Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device is: its name, and the network namespace (None: that of the process)."""

    interface: str
    netns: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``IFACE[@NETNS]``, e.g. ``ue0@ue``. Raises UpfError."""
        interface, at, netns = text.partition("@")
        # Names that Linux takes; it counts bytes.
        if not _NAME.fullmatch(interface) or len(interface.encode()) > 15 or interface in (".", ".."):
            raise UpfError(
                f"interface: found {text!r}, expected IFACE or IFACE@NETNS with a name of 1 to 15 characters, "
                "such as 'ue0@ue'"
            )
        if at and (not netns or (not netns.startswith("/") and ("/" in netns or netns in (".", "..")))):
            raise UpfError(f"interface: found {text!r}, expected after @ a network namespace, such as 'ue0@ue'")
        return cls(interface, netns or None)

    def __str__(self) -> str:
        return self.interface if self.netns is None else f"{self.interface}@{self.netns}"


class TunDevice:
    """An open tun device; a context manager. ``fd`` does not block."""

    def __init__(self, place: Place, fd: int) -> None:
        self.place = place
        self.fd = fd

    def close(self) -> None:
        """The device goes, with its addresses and routes."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_tun(
    place: Place,
    *,
    addresses: Sequence[str] = (),
    routes: Sequence[str] = (),
    mtu: int | None = None,
    queue_packets: int = QUEUE_PACKETS,
) -> TunDevice:
    """Make a tun device that is up. Raises UpfError, and leaves nothing behind then.

    addresses: such as ``10.45.0.1/24``. routes: networks that are reached through it; ``default`` is all of IPv4, and
    all of IPv6 where it has an IPv6 address. queue_packets: how many packets wait at most until they are read. What
    the device itself would say (router solicitations from a random link-local address) it does not: every packet that
    is read from it has been sent by somebody.
    """
    given = [_address(place, text) for text in addresses]
    to = [network for text in routes for network in _route(place, text, given)]
    least = MIN_IPV6_MTU if any(each.version == 6 for each in [*given, *to]) else MIN_MTU
    if mtu is not None and not least <= mtu <= MAX_MTU:
        raise UpfError(
            f"device {place}: mtu: found {mtu}, expected {MIN_MTU} to {MAX_MTU} bytes, {MIN_IPV6_MTU} or more for IPv6"
        )
    if not 1 <= queue_packets <= MAX_QUEUE_PACKETS:
        raise UpfError(f"device {place}: queue: found {queue_packets}, expected 1 to {MAX_QUEUE_PACKETS} packets")
    return in_namespace(place.netns, _open, place, given, to, mtu, queue_packets)


def _address(place: Place, text: str) -> _Address:
    try:
        address = ip_interface(text)
    except ValueError:
        address = None
    if address is None or address.ip.is_multicast or address.ip.is_unspecified:
        raise UpfError(
            f"device {place}: address: found {text!r}, expected an address with its prefix length, such as "
            "'10.45.0.1/24' or 'fd00:45::1/64'"
        )
    return address


def _route(place: Place, text: str, addresses: Sequence[_Address]) -> list[_Network]:
    if text == "default":
        everything: list[_Network] = [IPv4Network("0.0.0.0/0"), IPv6Network("::/0")]
        versions = {address.version for address in addresses} or {4}
        return [network for network in everything if network.version in versions]
    try:
        return [ip_network(text)]
    except ValueError:
        raise UpfError(
            f"device {place}: route: found {text!r}, expected a network (no bits set behind its prefix length), such "
            "as '198.51.100.0/24', 'fd00:46::/64' or 'default'"
        ) from None


def _open(
    place: Place, addresses: Sequence[_Address], routes: Sequence[_Network], mtu: int | None, queue_packets: int
) -> TunDevice:
    """In the namespace of the device, in a thread of its own."""
    device = TunDevice(place, _clone(place))
    try:
        _attach(device)
        _bring_up(place, addresses, routes, mtu, queue_packets)
    except BaseException:
        device.close()
        raise
    return device


def _clone(place: Place) -> int:
    try:
        return os.open(CLONE_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        found = f"device {place}: {CLONE_DEVICE}: found {(error.strerror or str(error)).lower()!r}"
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            raise UpfError(
                f"{found}, expected Linux's tun driver: 'sudo modprobe tun' loads it; a container is given it with "
                f"'--device {CLONE_DEVICE}'"
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise UpfError(
                f"{found}, expected to be let read and write it: 'sudo chmod 666 {CLONE_DEVICE}', as most systems "
                f"have it; a container is given it with '--device {CLONE_DEVICE}'"
            ) from None
        raise UpfError(found) from None


def _attach(device: TunDevice) -> None:
    """Makes the device, which goes when its descriptor is closed, and asks for all offloads that the kernel has."""
    flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR | _IFF_TUN_EXCL
    request = struct.pack("=16sH22x", device.place.interface.encode(), flags)
    try:
        fcntl.ioctl(device.fd, _TUNSETIFF, request)
    except OSError as error:
        raise _not_made(device.place, error) from None
    fcntl.ioctl(device.fd, _TUNSETVNETHDRSZ, struct.pack("=i", VNET_HEADER_BYTES))
    try:
        fcntl.ioctl(device.fd, _TUNSETOFFLOAD, _OFFLOAD_TCP | _OFFLOAD_UDP)
    except OSError:
        # Before Linux 6.2: UDP comes packet by packet.
        fcntl.ioctl(device.fd, _TUNSETOFFLOAD, _OFFLOAD_TCP)


def _not_made(place: Place, error: OSError) -> UpfError:
    if error.errno == errno.EPERM:
        return UpfError(f"device {place}: {_CAPABILITY.format(program=os.path.realpath(sys.executable))}")
    if error.errno == errno.EBUSY:
        return UpfError(
            f"device {place}: found an interface of this name, expected none: give another name, or remove it with "
            f"{_in(place, f'ip link del {place.interface}')!r}"
        )
    return UpfError(f"device {place}: the kernel refuses to make it: {error.strerror}")


def _in(place: Place, command: str) -> str:
    """The command as it is given in the namespace of the device."""
    if place.netns is None:
        return command
    enter = f"nsenter --net={place.netns}" if place.netns.startswith("/") else f"ip netns exec {place.netns}"
    return f"{enter} {command}"


def _bring_up(
    place: Place, addresses: Sequence[_Address], routes: Sequence[_Network], mtu: int | None, queue_packets: int
) -> None:
    # A quarter of a second to import: only for those who open a device.
    from pyroute2 import IPRoute, NetlinkError

    def ask(what: str, request: Callable[..., Any], *args: object, **values: object) -> None:
        try:
            request(*args, **values)
        except NetlinkError as error:
            raise UpfError(f"device {place}: {what}: the kernel refuses it: {_reason(error, what)}") from None

    index = socket.if_nametoindex(place.interface)
    with IPRoute() as kernel:
        # Where the kernel has no IPv6 there is nothing to keep quiet.
        with suppress(NetlinkError):
            mode = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_MODE_NONE)]}
            kernel.link("set", index=index, IFLA_AF_SPEC={"attrs": [("AF_INET6", mode)]})
        ask(f"queue of {queue_packets} packets", kernel.link, "set", index=index, txqlen=queue_packets)
        if mtu is not None:
            ask(f"mtu {mtu}", kernel.link, "set", index=index, mtu=mtu)
        for address in addresses:
            # No search for duplicates: there is nobody else on this link, and the address is to be of use at once.
            flags = {"flags": _IFA_F_NODAD} if address.version == 6 else {}
            prefix = address.network.prefixlen
            ask(
                f"address {address}",
                kernel.addr,
                "add",
                index=index,
                address=str(address.ip),
                prefixlen=prefix,
                **flags,
            )
        ask("up", kernel.link, "set", index=index, state="up")
        for route in routes:
            family = socket.AF_INET if route.version == 4 else socket.AF_INET6
            ask(f"route {route}", kernel.route, "add", dst=str(route), oif=index, family=family)


def _reason(error: Exception, what: str) -> str:
    number = getattr(error, "code", None)
    if number == errno.EEXIST:
        return "there is one already"
    if number == errno.EACCES and what.startswith("address"):
        return "IPv6 is disabled there ('sysctl net.ipv6.conf.all.disable_ipv6' and '….default.disable_ipv6' tell)"
    return os.strerror(number) if isinstance(number, int) else str(error)
