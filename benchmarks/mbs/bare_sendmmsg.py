"""The same datagrams, made beforehand and each in one piece, given to `sendmmsg` and nothing else."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Sequence

# As many as the kernel takes at a time.
MOST = 1024


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("parts", ctypes.c_void_p),
        ("part_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("header", _Header), ("sent", ctypes.c_uint))


class BareSender:
    """Sends datagrams to IPv4 addresses, in their order, as often as it is asked to."""

    def __init__(self, datagrams: Sequence[tuple[bytes, tuple[str, int]]]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._bytes = [ctypes.create_string_buffer(data, len(data)) for data, _ in datagrams]
        self._names = [
            ctypes.create_string_buffer(
                struct.pack("=H", socket.AF_INET) + struct.pack(">H4s8x", port, socket.inet_aton(host))
            )
            for _, (host, port) in datagrams
        ]
        self._parts = (_Iovec * len(datagrams))()
        self._messages = (_Message * len(datagrams))()
        for at, (data, name) in enumerate(zip(self._bytes, self._names, strict=True)):
            self._parts[at] = _Iovec(ctypes.addressof(data), len(data))
            part = ctypes.addressof(self._parts) + at * ctypes.sizeof(_Iovec)
            self._messages[at] = _Message(_Header(ctypes.addressof(name), 16, part, 1))

    def send(self) -> int:
        """How many have been taken."""
        taken, size = 0, ctypes.sizeof(_Message)
        while taken < len(self._messages):
            at = ctypes.c_void_p(ctypes.addressof(self._messages) + taken * size)
            count = min(MOST, len(self._messages) - taken)
            sent = self._libc.sendmmsg(self._socket.fileno(), at, count, socket.MSG_DONTWAIT)
            if sent < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            taken += sent
        return taken

    def close(self) -> None:
        self._socket.close()
