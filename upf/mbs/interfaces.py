"""Interfaces of this host, by name or by an address that they have: where multicast leaves."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

from upf.errors import UpfError

# bits/ioctls.h, net/if.h
_SIOCGIFCONF: Final = 0x8912
_IFREQ_BYTES: Final = 40
_MOST_ADDRESSES: Final = 4096


def interface_index(text: str) -> int:
    """The index of an interface: of ``eth1``, or for ``192.0.2.1`` of the one that has the address. Raises UpfError."""
    with suppress(OSError):
        return socket.if_nametoindex(text)
    with suppress(ValueError, OSError):
        address = ip_address(text)
        name = _holder4(address) if isinstance(address, IPv4Address) else _holder6(address)
        if name is not None:
            return socket.if_nametoindex(name)
    names = ", ".join(name for _, name in socket.if_nameindex())
    raise UpfError(f"interface: found {text!r}, expected one of {names}, or an address that one of them has")


def _holder4(address: IPv4Address) -> str | None:
    # The whole of 127.0.0.0/8 is the loopback interface's, though it lists one address.
    wanted = IPv4Address("127.0.0.1") if address.is_loopback else address
    room = array.array("B", bytes(_MOST_ADDRESSES * _IFREQ_BYTES))
    request = struct.pack("iP", len(room), room.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        length, _ = struct.unpack("iP", fcntl.ioctl(asked, _SIOCGIFCONF, request))
    for at in range(0, length, _IFREQ_BYTES):
        entry = room[at : at + _IFREQ_BYTES].tobytes()
        if entry[20:24] == wanted.packed:
            # An address may have a label, which is the name and what follows a colon.
            return entry[:16].partition(b"\0")[0].decode().partition(":")[0]
    return None


def _holder6(address: IPv6Address) -> str | None:
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        return None
    return next((line.split()[-1] for line in lines if line.startswith(address.packed.hex())), None)
