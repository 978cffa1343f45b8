"""How fast are TCP and small UDP packets through `castcore tun`, beside the kernel's forwarding and a naive loop?

Each joins two network namespaces of its own; iperf3 runs through one after the other, round after round. The limits
are there for every flow and never bind. First it is seen that castcore's does bind where it is to, and that all comes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import pytest
from live.live_traffic import Traffic, iperf3
from live.live_tun import SERVER, UE, Tun, tun_between
from live.networks import Network, joined, networks, required, started

pytestmark = pytest.mark.timeout(600)

ROUNDS = 5
SECONDS = 3
# 64 bytes of IP.
UDP_PAYLOAD = 36
CASTCORE, KERNEL, NAIVE = "castcore tun", "kernel, nftables limit", "naive tun loop"
WANTED = {KERNEL: 0.75, NAIVE: 4.0}
EVERY_FLOW = ("--flow", "permit out ip from any to any", "--per-flow")
# 80 Gbit/s, the most that nftables can count; castcore has the same.
NEVER_BINDS = ("--rate", "80 Gbps", "--burst", "100 MB")
LIMITS = """
table ip beside {
    set flows {
        type ipv4_addr . ipv4_addr . inet_proto . inet_service . inet_service
        flags dynamic
        timeout 60s
        size 65536
    }
    chain forward {
        type filter hook forward priority 0; policy accept;
        add @flows { ip saddr . ip daddr . meta l4proto . th sport . th dport \\
            limit rate over 10000 mbytes/second burst 100 mbytes } drop
    }
}
"""


@pytest.fixture(scope="session")
def results(results_of: Callable):
    about = f"iperf3 for {SECONDS} s between two network namespaces, {ROUNDS} rounds in turn"
    return results_of("tun", about=about, parts=("tcp", "udp"))


@contextmanager
def all_hosts(directory: Path) -> Iterator[tuple[dict[str, tuple[Network, Network]], Tun]]:
    """The two hosts of each subject, and castcore."""
    with ExitStack() as stack:
        hosts = {
            KERNEL: stack.enter_context(through_the_kernel()),
            NAIVE: stack.enter_context(through_a_naive_loop(directory)),
        }
        access, core = stack.enter_context(networks("access", "core"))
        tun = stack.enter_context(tun_between(access, core, *EVERY_FLOW, *NEVER_BINDS))
        yield hosts | {CASTCORE: (access, core)}, tun


def test_tcp_between_two_namespaces(scratch: Path, results) -> None:
    required("iperf3", "nft", "cc")
    check_that_a_limit_binds(Traffic(scratch))
    with all_hosts(scratch) as (hosts, tun):
        reached: dict[str, list[float]] = {subject: [] for subject in hosts}
        for _ in range(ROUNDS):
            for subject, (ue, server) in hosts.items():
                end = iperf3(ue, server, SERVER, seconds=SECONDS)["end"]
                reached[subject].append(end["sum_received"]["bits_per_second"] / 1e9)
        check_that_all_came(tun, reached[CASTCORE])
    results.add("tcp", rows("gbit_per_s", reached))
    for baseline, wanted in WANTED.items():
        ratio = times_as_fast(reached[CASTCORE], reached[baseline])
        assert ratio >= wanted, f"{CASTCORE}: {ratio:.2f} times as fast as {baseline}, wanted {wanted}"


def test_small_udp_packets_between_two_namespaces(scratch: Path, results) -> None:
    """As many as one socket can send, a packet a call: nothing to be had from super-packets."""
    required("iperf3", "nft", "cc")
    with all_hosts(scratch) as (hosts, tun):
        reached: dict[str, list[float]] = {subject: [] for subject in hosts}
        for _ in range(ROUNDS):
            for subject, (ue, server) in hosts.items():
                options = ("-u", "-b", 0, "-l", UDP_PAYLOAD)
                end = iperf3(ue, server, SERVER, *options, seconds=SECONDS)["end"]["sum"]
                reached[subject].append((end["packets"] - end["lost_packets"]) / end["seconds"] / 1e6)
        final = tun.final()
    assert final["uplink"]["packets"] == final["uplink"]["passed_packets"] > sum(reached[CASTCORE]) * 1e6
    results.add("udp", rows("million_packets_per_s", reached))


@contextmanager
def through_the_kernel() -> Iterator[tuple[Network, Network]]:
    """A third namespace forwards, veth to veth, and has a limit for every 5-tuple."""
    with networks("access", "router", "core") as (access, router, core):
        joined(access, router, [f"{UE}/24"], ["10.45.0.1/24"], names=("wire", "access"))
        joined(core, router, [f"{SERVER}/24"], ["198.51.100.1/24"], names=("wire", "core"))
        access.ip("route add default via 10.45.0.1")
        core.ip("route add default via 198.51.100.1")
        router.set("ipv4/ip_forward", 1)
        router.run("nft", "-f", "-", text=LIMITS)
        yield access, core
        assert UE in router.run("nft", "list", "set", "ip", "beside", "flows"), "its flows have limits"


@contextmanager
def through_a_naive_loop(directory: Path) -> Iterator[tuple[Network, Network]]:
    """naive.c: a packet a read, no offloads."""
    program = directory / "naive"
    compiler = shutil.which("cc") or "gcc"
    source = Path(__file__).with_name("naive.c")
    subprocess.run([compiler, "-O3", "-march=native", "-pthread", source, "-o", program], check=True)
    with (
        networks("access", "core") as (access, core),
        started(program, f"wire@{access.name}", f"wire@{core.name}") as process,
    ):
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"ready": True}
        for network, own, other in ((access, UE, SERVER), (core, SERVER, UE)):
            network.ip(f"address add {own}/32 dev wire")
            network.ip("link set dev wire up")
            network.ip(f"route add {other}/32 dev wire")
        yield access, core


def check_that_a_limit_binds(traffic: Traffic) -> None:
    """Of 200 Mbit/s offered to a rule of 100, 100 pass."""
    with networks("access", "core") as (access, core):
        limited = ("--rate", "100 Mbps", "--burst", "20000 B")
        with tun_between(access, core, *EVERY_FLOW, *limited), traffic.sink(core, 5000) as sink:
            sent = traffic.send(access, SERVER, 5000, rate_bps=200e6, length=1400, seconds=3)
            arrived = sink.arrived()
    assert arrived.intact
    assert (arrived.bytes - 20_000) * 8 / sent.seconds == pytest.approx(100e6, rel=0.01)


def check_that_all_came(tun: Tun, reached_gbit_per_s: list[float]) -> None:
    """Every packet was judged by the rule and passed; what iperf3 received is among them."""
    final = tun.final()
    for direction in ("uplink", "downlink"):
        counters = final[direction]
        assert counters["packets"] == counters["passed_packets"] > 0
        assert counters["unmatched_packets"] == 0
    assert final["uplink"]["passed_bytes"] >= sum(reached_gbit_per_s) * 1e9 / 8 * SECONDS * 0.98


def times_as_fast(ours: list[float], theirs: list[float]) -> float:
    """The median over the rounds: what slows the machine for a while slows both."""
    return median(each / other for each, other in zip(ours, theirs, strict=True))


def rows(unit: str, reached: dict[str, list[float]]) -> list[dict[str, object]]:
    """A subject each; what is wanted is said of TCP."""
    made = []
    for subject in (CASTCORE, KERNEL, NAIVE):
        figures = reached[subject]
        row: dict[str, object] = {
            "subject": subject,
            "of": unit,
            "median": round(median(figures), 3),
            "fastest": round(max(figures), 3),
            "slowest": round(min(figures), 3),
        }
        if subject == CASTCORE:
            row["times_as_fast_as"] = {
                baseline: round(times_as_fast(figures, reached[baseline]), 2) for baseline in WANTED
            }
            if unit == "gbit_per_s":
                row["wanted"] = {baseline: f"≥ {wanted}" for baseline, wanted in WANTED.items()}
        made.append(row)
    return made
