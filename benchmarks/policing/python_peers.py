"""The same work by Python's packet libraries: parse, find the flow in a dict, judge by its token bucket, count.

Each returns the verdicts on the first packets of a capture, and the CPU time that it took for them, reading included.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import dpkt
from scapy.layers.inet import IP, UDP
from scapy.utils import PcapReader

BIT_NS_PER_BYTE: Final = 8 * 10**9


@dataclass(slots=True)
class Flow:
    tokens: int
    latest_ns: int
    passed_packets: int = 0
    passed_bytes: int = 0
    dropped_packets: int = 0
    dropped_bytes: int = 0

    def judge(self, now_ns: int, length: int, rate_bps: int, capacity: int) -> bool:
        if now_ns > self.latest_ns:
            self.tokens = min(capacity, self.tokens + rate_bps * (now_ns - self.latest_ns))
            self.latest_ns = now_ns
        if self.tokens < length * BIT_NS_PER_BYTE:
            self.dropped_packets += 1
            self.dropped_bytes += length
            return False
        self.tokens -= length * BIT_NS_PER_BYTE
        self.passed_packets += 1
        self.passed_bytes += length
        return True


def by_dpkt(path: Path, packets: int, rate_bps: int, burst_bytes: int) -> tuple[list[bool], int]:
    began_ns = time.thread_time_ns()
    flows: dict[tuple[bytes, bytes, int, int, int], Flow] = {}
    capacity = burst_bytes * BIT_NS_PER_BYTE
    verdicts = []
    with path.open("rb") as stream:
        for seconds, data in islice(dpkt.pcap.Reader(stream), packets):
            ip = dpkt.ethernet.Ethernet(data).data
            key = (ip.src, ip.dst, ip.p, ip.data.sport, ip.data.dport)
            now_ns = int(seconds * 10**9)
            flow = flows.get(key)
            if flow is None:
                flow = flows[key] = Flow(capacity, now_ns)
            verdicts.append(flow.judge(now_ns, ip.len, rate_bps, capacity))
    return verdicts, time.thread_time_ns() - began_ns


def by_scapy(path: Path, packets: int, rate_bps: int, burst_bytes: int) -> tuple[list[bool], int]:
    began_ns = time.thread_time_ns()
    flows: dict[tuple[str, str, int, int, int], Flow] = {}
    capacity = burst_bytes * BIT_NS_PER_BYTE
    verdicts = []
    with PcapReader(str(path)) as reader:
        for packet in islice(reader, packets):
            ip, udp = packet[IP], packet[UDP]
            key = (ip.src, ip.dst, ip.proto, udp.sport, udp.dport)
            now_ns = int(packet.time * 10**9)
            flow = flows.get(key)
            if flow is None:
                flow = flows[key] = Flow(capacity, now_ns)
            verdicts.append(flow.judge(now_ns, ip.len, rate_bps, capacity))
    return verdicts, time.thread_time_ns() - began_ns


# How each judges, and how many packets it is given to come to an end.
PEERS: Final[dict[str, tuple[Callable[[Path, int, int, int], tuple[list[bool], int]], int]]] = {
    "dpkt": (by_dpkt, 10_000),
    "scapy": (by_scapy, 2_000),
}
