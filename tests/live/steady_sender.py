"""Sends a UDP flow until SIGTERM, then prints how many packets: SOURCE_PORT ADDRESS PORT IP_BYTES GAP_US TIMES.

When each was sent is written to the file TIMES, as 64-bit nanoseconds of the monotonic clock.
A packet bears its number and that time. One that this host refuses to
send, because there is no way to the address at the moment, is not counted. Needs root: no port is bound, so that flows
of both directions may have the same two ends.
"""

from __future__ import annotations

import signal
import socket
import struct
import sys
import threading
import time
from array import array
from pathlib import Path

STAMP = struct.Struct("=QQ")


def main(times: str, source_port: int, address: str, port: int, ip_bytes: int, gap_us: int) -> None:
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    # What is 0 the kernel fills in: length, identification, checksum and whatever address the host has at the moment.
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0, bytes(4), socket.inet_aton(address))
    headers = ip + struct.pack(">HHHH", source_port, port, ip_bytes - len(ip), 0)
    padding = bytes(ip_bytes - len(headers) - STAMP.size)
    gap_ns, sent_ns = gap_us * 1000, array("q")
    due_ns = time.monotonic_ns()
    while not ending.is_set():
        now_ns = time.monotonic_ns()
        try:
            sender.sendto(headers + STAMP.pack(len(sent_ns), now_ns) + padding, (address, 0))
            sent_ns.append(now_ns)
        except OSError:
            pass
        # What was missed is made up for, but not for long.
        due_ns = max(due_ns + gap_ns, time.monotonic_ns() - 10 * gap_ns)
        time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
    Path(times).write_bytes(sent_ns.tobytes())
    print(len(sent_ns))


if __name__ == "__main__":
    main(sys.argv[6], int(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6]))
