"""What does a copy of the MB-UPF cost beside a bare `sendmmsg` of the same datagrams?

Packets of one MBS session leave in GTP-U to 100 receivers, each with its own TEID. The bare sender is given the very
datagrams, made before. Every copy is compared byte for byte first. Both are timed in turn, by the CPU time of the
thread: the kernel's work for a datagram, up to its receiver's full queue, is most of it in both.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from statistics import median

import pytest
from multicast import udp_packet

from benchmarks.conftest import interquartile_range
from benchmarks.mbs.bare_sendmmsg import BareSender
from upf._mbs import BATCH, FORWARDED, Branch, Replicator, Session
from upf.mbs.counters import BranchCounters

pytestmark = pytest.mark.timeout(300)

BRANCHES = 100
ROUNDS = 15
# As FLUTE fills them, and small ones, where what is done for each weighs most.
PAYLOAD_BYTES = (1372, 100)
WANTED = 1.5
SOURCE, GROUP = "127.0.0.9", "232.45.0.1"
CASTCORE, BARE = "castcore, policed and replicated", "bare sendmmsg"
START_NS = 1_700_000_000 * 10**9


@pytest.fixture(scope="session")
def results(results_of: Callable):
    about = f"{BATCH} packets to {BRANCHES} receivers in GTP-U on loopback, {ROUNDS} rounds in turn; CPU time"
    return results_of("replication", about=about, parts=PAYLOAD_BYTES)


@pytest.fixture
def receivers() -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(BRANCHES)]
        for receiver in opened:
            receiver.bind(("127.0.0.1", 0))
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            receiver.setblocking(False)
        yield opened


def drained(receiver: socket.socket) -> list[bytes]:
    got: list[bytes] = []
    while True:
        try:
            got.append(receiver.recv(2000))
        except BlockingIOError:
            return got


@pytest.mark.parametrize("payload_bytes", PAYLOAD_BYTES)
def test_a_copy_costs_little_more_than_the_call_that_sends_it(
    payload_bytes: int, receivers: list[socket.socket], results
) -> None:
    packets = [udp_packet(SOURCE, GROUP, bytes([number]) * payload_bytes) for number in range(BATCH)]
    offered = [(START_NS, packet) for packet in packets]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sending:
        replicator, session = Replicator(forwarding=True), Session()
        branches = tuple(
            Branch(
                "gtp_u", sending.fileno(), address=ip_address("127.0.0.1").packed, port=to.getsockname()[1], teid=teid
            )
            for teid, to in enumerate(receivers, start=1)
        )
        # It is policed, and never drops.
        limits = {"rate_bps": 10**12, "burst_bytes": 1 << 29}
        addresses = ip_address(SOURCE).packed, ip_address(GROUP).packed
        replicator.put(session, 0, *addresses, forwards=True, branches=branches, **limits)

        assert replicator.offer(0, offered) == [FORWARDED] * BATCH
        for teid, to in enumerate(receivers, start=1):
            head = b"\x30\xff" + len(packets[0]).to_bytes(2, "big") + teid.to_bytes(4, "big")
            assert drained(to) == [head + packet for packet in packets]
        bare = BareSender([
            (b"\x30\xff" + len(packet).to_bytes(2, "big") + teid.to_bytes(4, "big") + packet, to.getsockname())
            for packet in packets
            for teid, to in enumerate(receivers, start=1)
        ])  # fmt: skip
        copies = BATCH * BRANCHES
        assert bare.send() == copies
        for to in receivers:
            assert len(drained(to)) == BATCH

        # What nobody reads fills the queues, for both alike.
        seconds: dict[str, list[float]] = {CASTCORE: [], BARE: []}
        for _ in range(ROUNDS):
            seconds[CASTCORE].append(timed(lambda: replicator.offer(0, offered)))
            seconds[BARE].append(timed(bare.send))
        bare.close()
        sent = replicator.counters(session).branches
        assert sent == (BranchCounters((ROUNDS + 1) * BATCH, (ROUNDS + 1) * sum(map(len, packets)), {}),) * BRANCHES
    ratios = [ours / theirs for ours, theirs in zip(seconds[CASTCORE], seconds[BARE], strict=True)]
    ratio = median(ratios)
    results.add(
        payload_bytes,
        [
            {
                "what": subject,
                "ip_bytes": len(packets[0]),
                "ns_per_copy": round(median(times) / copies * 1e9),
                "fastest": round(min(times) / copies * 1e9),
                "spread": round(interquartile_range(times) / median(times), 3),
                **({"times_a_bare_copy": round(ratio, 3), "wanted": f"≤ {WANTED}"} if subject == CASTCORE else {}),
            }
            for subject, times in seconds.items()
        ],
    )
    assert ratio <= WANTED, f"a copy costs {ratio:.2f} times a bare one, wanted {WANTED} at most"


def timed(work: Callable[[], object]) -> float:
    began_ns = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - began_ns) / 1e9
