"""A capture sent through the tun pair gets the verdicts that `castcore replay` gives it in virtual time.

Packets arrive some time after the capture has them, each a little more or less: that is the jitter, and it is measured.
The capture is made so that no verdict depends on jitter below a bound: where all delays are within J of each other, a
bucket's tokens are at most rate · J from those of virtual time (by induction over its packets, also where it is full),
and every packet of the capture misses the point at which it would be judged otherwise by more than that.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import captures
import pytest
from captures import SECOND_NS, START_NS, Captured
from command import replayed
from live.live_traffic import kept_up
from live.live_tun import ACCESS, CORE, rules_file, tun_between
from live.networks import Network, required
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw
from scapy.utils import RawPcapReader

pytestmark = pytest.mark.alone

MS = 1_000_000
# No verdict depends on jitter below this.
TOLERATED_NS = 8 * MS
SENDINGS = 5
SECONDS = 3
SEED = 29_281
# Nobody there answers.
UE, UE6 = "10.45.0.99", "2001:db8:45::99"
# Linux has numbers for these that Python has no names for.
SO_TIMESTAMPNS, SO_RCVBUFFORCE = 35, 33
PACKET_OUTGOING, PACKET_HOST = 4, 0
ETHERTYPES = {4: 0x0800, 6: 0x86DD}

RULES = (
    """
    name = "video"
    flows = ["permit out 17 from 198.51.100.9 443,5004 to any"]
    rate = "500 Kbps"
    burst = "6000 B"
    """,
    """
    name = "calls"
    flows = ["permit out 17 from 2001:db8:a::/64 5004 to any"]
    rate = "200 Kbps"
    burst = "2500 B"
    per_flow = true
    """,
    """
    name = "web"
    flows = ["permit out 6 from 198.51.100.10 80 to any"]
    rate = "400 Kbps"
    burst = "6000 B"
    mode = "mark"
    dscp = { green = "AF41", red = "CS1" }
    """,
    """
    name = "pings"
    flows = ["permit out 1 from any to any"]
    rate = "300 Kbps"
    burst = "3000 B"
    mode = "monitor"
    """,
)


@dataclass
class Bucket:
    """Tells how far a packet is from being judged otherwise; in bit-nanoseconds, as castcore's own."""

    rate_bps: int
    burst_bytes: int
    level: int = 0
    latest_ns: int = 0

    def room(self, now_ns: int, length: int) -> int:
        """What is left after the packet; negative where it does not conform."""
        leaked = max(0, self.level - (now_ns - self.latest_ns) * self.rate_bps)
        return (self.burst_bytes - length) * 8 * SECOND_NS - leaked

    def is_sure(self, now_ns: int, length: int) -> bool:
        return abs(self.room(now_ns, length)) > self.rate_bps * TOLERATED_NS

    def take(self, now_ns: int, length: int) -> bool:
        conforms = self.room(now_ns, length) >= 0
        self.level = max(0, self.level - (now_ns - self.latest_ns) * self.rate_bps) + conforms * length * 8 * SECOND_NS
        self.latest_ns = now_ns
        return conforms


@dataclass
class Source:
    """A flow of random packets, and the bucket that judges them, if there is one."""

    start: Packet
    shortest: int
    longest: int
    mean_gap_ms: float
    bucket: Bucket | None = None
    due_ns: int = 0
    verdicts: list[bool] = field(default_factory=list)


def sources() -> list[Source]:
    video, web, pings = Bucket(500_000, 6000), Bucket(400_000, 6000), Bucket(300_000, 3000)
    ipv4, ipv6 = IP(src="198.51.100.9", dst=UE), IPv6(src="2001:db8:a::7", dst=UE6)
    return [
        Source(ipv4 / UDP(sport=443, dport=1000), 600, 1300, 12, video),
        Source(ipv4 / UDP(sport=5004, dport=1001), 600, 1300, 12, video),
        Source(ipv6 / UDP(sport=5004, dport=1002), 300, 700, 8, Bucket(200_000, 2500)),
        Source(ipv6 / UDP(sport=5004, dport=1003), 300, 700, 8, Bucket(200_000, 2500)),
        Source(IP(src="198.51.100.10", dst=UE) / TCP(sport=80, dport=1004, flags="A"), 900, 1400, 6, web),
        Source(ipv4 / ICMP(), 400, 1000, 10, pings),
        # What no rule wants.
        Source(IP(src="198.51.100.11", dst=UE) / UDP(sport=443, dport=1005), 40, 1400, 5),
        Source(ipv6 / TCP(sport=443, dport=1006), 80, 1400, 5),
    ]


@cache
def made() -> tuple[list[Captured], list[Source]]:
    """The capture; packets that a bucket could judge either way are put off until it is sure of them."""
    draw = random.Random(SEED)
    flows = sources()
    packets: list[Captured] = []
    now_ns, number = 0, 0
    while now_ns < SECONDS * SECOND_NS:
        source = min(flows, key=lambda each: each.due_ns)
        now_ns = max(now_ns + 10_000, source.due_ns)
        length = draw.randrange(source.shortest, source.longest)
        if source.bucket is not None and not source.bucket.is_sure(now_ns, length):
            source.due_ns = now_ns + 200_000
            continue
        number += 1
        pieces = packets_of(source.start, length, number, fragmented=number % 20 == 0 and source.bucket is None)
        if source.bucket is not None:
            source.verdicts.append(source.bucket.take(now_ns, length))
        packets += [Captured(START_NS + now_ns, piece, len(piece)) for piece in pieces]
        # Mostly in bursts.
        gap_ms = 0.05 if draw.random() < 0.7 else draw.expovariate(0.3 / source.mean_gap_ms)
        source.due_ns = now_ns + round(gap_ms * MS)
    broken = captures.ipv4("198.51.100.9", UE, captures.UDP, captures.ports(443, 9, 40), total_length=19)
    packets.insert(len(packets) // 2, Captured(packets[len(packets) // 2].ts_ns, broken, len(broken)))
    # The last one passes, as no rule wants it: when it has arrived, all have.
    (last,) = packets_of(IP(src="198.51.100.12", dst=UE) / UDP(sport=9, dport=9), 100, number + 1, fragmented=False)
    return [*packets, Captured(START_NS + now_ns + 10 * MS, last, len(last))], flows


def packets_of(start: Packet, length: int, number: int, *, fragmented: bool) -> list[bytes]:
    """A packet of that length with its number, or its fragments."""
    whole = start / Raw(struct.pack("=I", number) + captures.payload(length - len(start) - 4))
    if fragmented and IP in whole and length > 200:
        whole[IP].id = number
        return [bytes(piece) for piece in fragment(whole, fragsize=(length - 20) // 16 * 8)]
    return [bytes(whole)]


class Tapped(NamedTuple):
    """A packet at a device, and when the kernel had it there."""

    at_ns: int
    data: bytes


@contextmanager
def tap(network: Network, device: str) -> Iterator[socket.socket]:
    """What crosses a device, kept by the kernel until it is read."""
    every_protocol = 3
    with network.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(every_protocol)) as tapped:
        tapped.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        tapped.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        tapped.bind((device, every_protocol))
        tapped.settimeout(10)
        yield tapped


def read_tap(tapped: socket.socket, direction: int, last: bytes) -> list[Tapped]:
    """The packets that cross it in that direction, until the last one has."""
    packets: list[Tapped] = []
    while not packets or packets[-1].data != last:
        data, ancillary, _, address = tapped.recvmsg(65_536, 128)
        if address[2] == direction:
            seconds, rest_ns = struct.unpack("=qq", ancillary[0][2])
            packets.append(Tapped(seconds * SECOND_NS + rest_ns, data))
    return packets


def jitter_ns(sent: list[Tapped], arrived: list[Tapped], packets: list[Captured]) -> int:
    """What the delays until the device differ by, and the longest way from there to the other one."""
    delays = [tapped.at_ns - packet.ts_ns for tapped, packet in zip(sent, packets, strict=True)]
    return max(delays) - min(delays) + longest_transit_ns(sent, arrived)


def longest_transit_ns(sent: list[Tapped], arrived: list[Tapped]) -> int:
    """The longest way through the tun pair. A packet that was marked is not found: others tell enough."""
    left_ns = {tapped.data: tapped.at_ns for tapped in sent}
    return max(tapped.at_ns - left_ns[tapped.data] for tapped in arrived if tapped.data in left_ns)


def test_live_packets_get_the_verdicts_of_virtual_time(hosts: tuple[Network, Network], tmp_path: Path) -> None:
    packets, flows = made()
    for source in flows:
        assert source.bucket is None or 20 < sum(source.verdicts) < len(source.verdicts) - 20, "both verdicts are there"
    capture, passed = tmp_path / "made.pcap", tmp_path / "passed.pcap"
    capture.write_bytes(captures.pcap(packets, link_type=captures.RAW, nanoseconds=True))
    rules = rules_file(tmp_path, *RULES)
    virtual = replayed(capture, "--rules", rules, "-o", passed)
    with RawPcapReader(str(passed)) as reader:
        expected = [data for data, _ in reader]
    assert len(packets) > len(expected) > 0.3 * len(packets)

    jitters_ns: list[int] = []
    for _ in range(SENDINGS):
        sent, arrived, final = send(hosts, rules, packets[-1].data, lambda core: send_in_time(core, packets))
        assert [tapped.data for tapped in sent] == [packet.data for packet in packets]
        jitters_ns.append(jitter_ns(sent, arrived, packets))
        if jitters_ns[-1] <= TOLERATED_NS:
            break
    print(f"{len(packets)} packets; jitter, ms: {', '.join(f'{each / MS:.3f}' for each in jitters_ns)}")
    kept_up(jitters_ns[-1] <= TOLERATED_NS, f"this machine's jitter is never below what is tolerated: {jitters_ns} ns")

    assert [tapped.data for tapped in arrived] == expected
    live = {rule["name"]: rule for rule in final["rules"] if rule["direction"] == "downlink"}
    for rule in virtual["rules"]:
        assert {key: live[rule["name"]][key] for key in rule} == rule
    downlink = final["downlink"]
    assert downlink["packets"] == virtual["packets"] == len(packets)
    assert downlink["malformed_packets"] == virtual["malformed"] == 1
    assert downlink["unmatched_packets"] == virtual["unmatched"]["packets"] > 0


def test_what_tcpreplay_sends_is_judged_by_when_it_sends_it(hosts: tuple[Network, Network], tmp_path: Path) -> None:
    """tcpreplay is late, the more the longer it runs: so the times that count are those at the device."""
    required("tcpreplay")
    packets, _ = made()
    capture, tapped = tmp_path / "made.pcap", tmp_path / "tapped.pcap"
    capture.write_bytes(captures.pcap(packets, link_type=captures.RAW, nanoseconds=True))
    rules = rules_file(tmp_path, *RULES)
    last = packets[-1].data
    sent, arrived, final = send(
        hosts, rules, last, lambda core: core.run("tcpreplay", "--intf1", CORE, "--preload-pcap", capture)
    )
    as_sent = [Captured(each.at_ns, each.data, len(each.data)) for each in sent]
    assert [each.data for each in as_sent] == [packet.data for packet in packets]
    tapped.write_bytes(captures.pcap(as_sent, link_type=captures.RAW, nanoseconds=True))
    virtual = {rule["name"]: rule for rule in replayed(tapped, "--rules", rules)["rules"]}
    live = {rule["name"]: rule for rule in final["rules"] if rule["direction"] == "downlink"}
    jitter_s = longest_transit_ns(sent, arrived) / SECOND_NS
    print(f"jitter, ms: {jitter_s * 1000:.3f}")
    for name, rate_bps, buckets in (("video", 500_000, 1), ("calls", 200_000, 2), ("web", 400_000, 1)):
        assert live[name]["bytes"] == virtual[name]["bytes"]
        # As much more or less as that time makes room for, and a packet that just fits or just does not.
        tolerated = buckets * (rate_bps * jitter_s / 8 + 1400)
        assert live[name]["conforming_bytes"] == pytest.approx(virtual[name]["conforming_bytes"], abs=tolerated)


def send_in_time(network: Network, packets: list[Captured]) -> None:
    """Each packet as long after the first as the capture has it; no delay is handed on to those that follow."""
    network.inside(lambda: _send_in_time(CORE, packets))


def _send_in_time(device: str, packets: list[Captured]) -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        began_ns = time.monotonic_ns() + 10 * MS
        for ts_ns, data, _ in packets:
            due_ns = began_ns + ts_ns - packets[0].ts_ns
            while (early_ns := due_ns - time.monotonic_ns()) > 0:
                time.sleep(early_ns / SECOND_NS)
            sender.sendto(data, (device, ETHERTYPES[data[0] >> 4]))


def send(
    hosts: tuple[Network, Network], rules: Path, last: bytes, sending: Callable[[Network], object]
) -> tuple[list[Tapped], list[Tapped], dict]:
    """Sends from the core side: what entered the tun pair and what left it, up to the last, and what was counted."""
    access, core = hosts
    with (
        tun_between(access, core, "--rules", rules) as tun,
        tap(core, CORE) as core_tap,
        tap(access, ACCESS) as access_tap,
    ):
        sending(core)
        sent, arrived = read_tap(core_tap, PACKET_OUTGOING, last), read_tap(access_tap, PACKET_HOST, last)
        return sent, arrived, tun.final()
