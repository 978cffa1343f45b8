"""The packet path of the MB-UPF: whose a packet is, whether it passes, and what leaves by each branch."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path as FilePath
from random import Random

import pytest
from captures import RAW, START_NS
from gnb import read_g_pdu
from hypothesis import given, settings
from hypothesis import strategies as st
from multicast import LOOPBACK, heard, listener, receiver, udp_packet
from offered import adversarial, limits
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.ipsec import AH, ESP
from scapy.packet import Packet, Raw

from upf._mbs import (
    BATCH,
    DROPPED,
    FORWARDED,
    HELD_OFF,
    MALFORMED,
    NOT_FORWARDED,
    UNMATCHED,
    Branch,
    Replicator,
    Session,
)
from upf.gtpu import parse_gtpu
from upf.malformation import Malformation
from upf.mbs.counters import BranchCounters
from upf.parsing import parse_packet
from upf.policing import TokenBucket

SOURCE, GROUP = "127.0.0.9", "232.45.0.1"
SOURCE6, GROUP6 = "2001:db8:a::7", "ff3e::8000:1"
PACKET, PACKET6 = udp_packet(SOURCE, GROUP, b"four"), udp_packet(SOURCE6, GROUP6, b"six")
OTHER_TUNNEL = 1
DESCRIPTORS = FilePath("/proc/self/fd")
NOBODYS = Replicator(forwarding=True)
# What is looked at before the length of a packet.
HEADER_IS_WRONG = (
    Malformation.IP_HEADER,
    Malformation.IP_VERSION,
    Malformation.IP_HEADER_LENGTH,
    Malformation.IP_TOTAL_LENGTH,
)


@dataclass
class Path:
    """A packet path without a thread: what is offered is treated at once."""

    replicator: Replicator = field(default_factory=lambda: Replicator(forwarding=True))

    def put(
        self,
        *branches: Branch,
        session: Session | None = None,
        source: str = SOURCE,
        group: str = GROUP,
        tunnel: int = 0,
        limit: tuple[int, int] = (0, 0),
        forwards: bool = True,
    ) -> Session:
        session = session or Session()
        self.replicator.put(
            session,
            tunnel,
            ip_address(source).packed,
            ip_address(group).packed,
            rate_bps=limit[0],
            burst_bytes=limit[1],
            forwards=forwards,
            branches=branches,
        )
        return session

    def offer(self, *packets: bytes | tuple[int, bytes], tunnel: int = 0) -> list[int]:
        timed = [each if isinstance(each, tuple) else (START_NS, each) for each in packets]
        verdicts: list[int] = []
        for at in range(0, len(timed), BATCH):
            verdicts += self.replicator.offer(tunnel, timed[at : at + BATCH])
        return verdicts


@pytest.fixture
def path() -> Path:
    return Path()


@pytest.fixture
def sending() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        yield opened


@pytest.fixture
def nowhere() -> Iterator[Branch]:
    """Takes everything, without anybody at the other end."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        yield Branch("gtp_u", opened.fileno(), address=ip_address("127.0.0.1").packed, port=9, teid=1)


def gtp_u(sending: socket.socket, to: socket.socket, teid: int, qfi: int = -1) -> Branch:
    host, port = to.getsockname()[:2]
    return Branch("gtp_u", sending.fileno(), address=ip_address(host).packed, port=port, teid=teid, qfi=qfi)


# --- whose a packet is ------------------------------------------------------------------------------------------------


def test_a_packet_is_told_by_its_tunnel_its_source_and_its_group(path: Path, nowhere: Branch) -> None:
    session, other, six = (
        path.put(nowhere),
        path.put(nowhere, tunnel=OTHER_TUNNEL),
        path.put(nowhere, source=SOURCE6, group=GROUP6),
    )
    strangers = [
        udp_packet("127.0.0.8", GROUP, b""),
        udp_packet(SOURCE, "232.45.0.2", b""),
        udp_packet(SOURCE6, "ff3e::2", b""),
    ]
    assert path.offer(PACKET, *strangers, PACKET6) == [FORWARDED, UNMATCHED, UNMATCHED, UNMATCHED, FORWARDED]
    assert path.offer(PACKET, PACKET6, tunnel=OTHER_TUNNEL) == [FORWARDED, UNMATCHED]
    counted = [path.replicator.counters(each).received_packets for each in (session, other, six)]
    assert counted == [1, 1, 1]
    ingress = path.replicator.ingress()
    assert (ingress.unmatched_packets, ingress.unmatched_bytes) == (4, sum(map(len, [*strangers, PACKET6])))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7), st.integers(0, 40)), max_size=120))
def test_sessions_come_and_go_and_the_right_one_is_found(steps: list[tuple[bool, int, int]]) -> None:
    path, known = Path(), dict[tuple[int, str], Session]()
    for comes, tunnel, number in steps:
        key = tunnel, f"232.45.1.{number}"
        if comes and key not in known:
            known[key] = path.put(group=key[1], tunnel=tunnel)
        elif not comes and key in known:
            path.replicator.remove(known.pop(key))
    for tunnel in range(8):
        for number in range(41):
            key = tunnel, f"232.45.1.{number}"
            wanted = NOT_FORWARDED if key in known else UNMATCHED
            assert path.offer(udp_packet(SOURCE, key[1], b""), tunnel=tunnel) == [wanted]
    assert all(path.replicator.counters(session).received_packets == 1 for session in known.values())


def test_a_session_that_moves_to_another_group_is_found_there_alone_and_keeps_its_counters(
    path: Path, nowhere: Branch
) -> None:
    session = path.put(nowhere)
    path.offer(PACKET)
    path.put(nowhere, session=session, source=SOURCE6, group=GROUP6, tunnel=OTHER_TUNNEL)
    assert path.offer(PACKET) == [UNMATCHED]
    assert path.offer(PACKET6, tunnel=OTHER_TUNNEL) == [FORWARDED]
    assert path.replicator.counters(session).forwarded_packets == 2


def test_without_branches_or_with_the_action_drop_packets_are_counted_and_cost_no_tokens(
    path: Path, nowhere: Branch
) -> None:
    session = path.put(limit=(8, len(PACKET)))
    assert path.offer(PACKET, PACKET) == [NOT_FORWARDED, NOT_FORWARDED]
    path.put(nowhere, session=session, limit=(8, len(PACKET)), forwards=False)
    assert path.offer(PACKET) == [NOT_FORWARDED]
    path.put(nowhere, session=session, limit=(8, len(PACKET)))
    assert path.offer(PACKET, PACKET) == [FORWARDED, DROPPED]
    counters = path.replicator.counters(session)
    assert (counters.not_forwarded_packets, counters.not_forwarded_bytes) == (3, 3 * len(PACKET))
    assert (counters.received_packets, counters.first_ns, counters.last_ns) == (5, START_NS, START_NS)


def test_while_nothing_is_forwarded_everything_is_held_off(path: Path, nowhere: Branch) -> None:
    session = path.put(nowhere)
    path.replicator.forwarding = False
    assert path.offer(PACKET, b"") == [HELD_OFF, HELD_OFF]
    assert path.replicator.ingress().held_off_packets == 2
    assert path.replicator.counters(session).received_packets == 0


# --- what comes out of a tunnel ---------------------------------------------------------------------------------------


def seeds() -> list[bytes]:
    v4, v6 = IP(src=SOURCE, dst=GROUP), IPv6(src=SOURCE6, dst=GROUP6)
    layers: list[Packet] = [
        v4 / UDP() / Raw(b"123"), v4 / TCP(), v4 / ICMP(), v4 / ESP(), v4 / AH(),
        IP(src=SOURCE, dst=GROUP, frag=3) / Raw(b"12345678"),
        IP(src=SOURCE, dst=GROUP, options=[IPOption_NOP()]) / UDP(), v6 / UDP() / Raw(b"1234"),
        v6 / IPv6ExtHdrDestOpt() / UDP(), v6 / IPv6ExtHdrFragment(offset=2) / Raw(b"12345678"), v6 / AH() / UDP(),
    ]  # fmt: skip
    return [bytes(each) for each in layers]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(seeds()),
    st.lists(st.tuples(st.integers(0, 70), st.integers(0, 255)), max_size=4),
    st.integers(-30, 6),
)
def test_a_damaged_packet_is_malformed_for_the_reason_that_the_reference_gives(
    seed: bytes, damages: list[tuple[int, int]], cut: int
) -> None:
    packet = bytearray(seed)
    for at, value in damages:
        packet[at % len(packet)] = value
    data = bytes(packet[:cut]) if cut < 0 else bytes(packet) + bytes(cut)
    found = parse_packet(RAW, data, len(data), gtpu=False)
    before = NOBODYS.ingress().malformed
    (verdict,) = NOBODYS.offer(0, [(START_NS, data)])
    reason = next((each for each, now in NOBODYS.ingress().malformed.items() if now != before.get(each)), None)
    if found is None:
        assert (verdict, reason) == (MALFORMED, Malformation.IP_VERSION)
    elif found not in HEADER_IS_WRONG and is_cut_or_offloaded(data):
        # In a tunnel packets are whole: there is no capture that cut them, and no network card that segments them.
        assert (verdict, reason) == (MALFORMED, Malformation.IP_TOTAL_LENGTH)
    elif isinstance(found, Malformation):
        assert (verdict, reason) == (MALFORMED, found)
    else:
        assert (verdict, reason) == (UNMATCHED, None)


def is_cut_or_offloaded(data: bytes) -> bool:
    if data[0] >> 4 == 4:
        length = int.from_bytes(data[2:4], "big")
        return length == 0 or length > len(data)
    payload = int.from_bytes(data[4:6], "big")
    return 40 + payload > len(data) or (payload == 0 and data[6] != 59)


def test_what_follows_a_packet_in_its_datagram_neither_leaves_nor_counts(path: Path, sending: socket.socket) -> None:
    with receiver() as gnb:
        session = path.put(gtp_u(sending, gnb, 7))
        assert path.offer(PACKET + b"padding") == [FORWARDED]
        assert read_g_pdu(gnb.recv(2000)).packet == PACKET
        assert path.replicator.counters(session).received_bytes == len(PACKET)


# --- policing ---------------------------------------------------------------------------------------------------------


@pytest.mark.clause("TS 29.244 §8.2.8")
def test_each_packet_has_the_verdict_of_the_reference_bucket(nowhere: Branch) -> None:
    dropped = steps = 0
    for seed in range(40):
        random = Random(seed)
        rate_bps, burst_bytes = limits(random)
        packets = [
            each for each in adversarial(random, rate_bps, burst_bytes, packets=300, flows=1) if each.length <= 60_000
        ]
        path, bucket = Path(), TokenBucket(rate_bps, burst_bytes)
        session = path.put(nowhere, limit=(rate_bps, burst_bytes))
        offered = [
            (each.ts_ns, udp_packet(SOURCE, GROUP, bytes(max(each.length - 28, 0)), checksum=False)) for each in packets
        ]
        wanted = [bucket.take(ts_ns, len(packet)) for ts_ns, packet in offered]
        assert path.offer(*offered) == [FORWARDED if conforms else DROPPED for conforms in wanted]
        counters = path.replicator.counters(session)
        passed = sum(len(packet) for (_, packet), conforms in zip(offered, wanted, strict=True) if conforms)
        assert (counters.forwarded_packets, counters.forwarded_bytes) == (sum(wanted), passed)
        assert counters.dropped_packets == len(wanted) - sum(wanted)
        assert counters.time_steps_back == bucket.time_steps_back
        dropped += counters.dropped_packets
        steps += counters.time_steps_back
    assert dropped > 500


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(-(12 * 10**9), 10**9), st.integers(28, 1500)),
            st.tuples(st.integers(1, 10**9), st.integers(64, 10**6), st.just("limit")),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_a_changed_limit_keeps_the_tokens_that_have_been_earned(
    steps: Sequence[tuple[int, ...] | tuple[int, int, str]],
) -> None:
    path, bucket, now_ns = Path(), TokenBucket(8_000_000, 3000), START_NS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        branch = Branch("gtp_u", opened.fileno(), address=ip_address("127.0.0.1").packed, port=9, teid=1)
        session = path.put(branch, limit=(8_000_000, 3000))
        # A bucket that has seen nothing is full at its first packet, whatever its limits were before.
        assert path.offer((now_ns, PACKET)) == [FORWARDED]
        assert bucket.take(now_ns, len(PACKET))
        for step in steps:
            if len(step) == 3:
                path.put(branch, session=session, limit=(step[0], step[1]))
                bucket.limit(step[0], step[1])
                continue
            now_ns = max(now_ns + step[0], 1)
            (verdict,) = path.offer((now_ns, udp_packet(SOURCE, GROUP, bytes(step[1] - 28), checksum=False)))
            assert verdict == (FORWARDED if bucket.take(now_ns, step[1]) else DROPPED)


# --- replication ------------------------------------------------------------------------------------------------------


@pytest.mark.clause("TS 23.247 §5.3.2.5")
def test_every_branch_gets_the_same_bytes_under_its_own_teid_more_of_them_than_one_call_takes(
    path: Path, sending: socket.socket
) -> None:
    with receiver() as gnb:
        branches = [gtp_u(sending, gnb, teid, qfi=teid % 64 if teid % 2 else -1) for teid in range(1, 1025)]
        session = path.put(*branches)
        packets = [udp_packet(SOURCE, GROUP, bytes([number]) * 5) for number in range(3)]
        got: list[bytes] = []
        listening = threading.Thread(target=lambda: got.extend(gnb.recv(2000) for _ in range(3 * 1024)))
        listening.start()
        assert path.offer(*packets) == [FORWARDED] * 3
        listening.join()
    read = [parse_gtpu(each, len(each)) for each in got]
    assert [(each.teid, each.qfi, data[each.start :]) for each, data in zip(read, got, strict=True)] == [
        (teid, teid % 64 if teid % 2 else None, packet) for packet in packets for teid in range(1, 1025)
    ]
    counters = path.replicator.counters(session)
    assert counters.forwarded_packets == 3
    assert counters.branches == (BranchCounters(3, sum(map(len, packets)), {}),) * 1024


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=60)), min_size=1, max_size=BATCH),
    st.lists(st.integers(0, 3), max_size=6),
)
def test_packets_of_mingled_sessions_stay_in_order_on_every_branch(
    offered: list[tuple[int, bytes]], sessions: list[int]
) -> None:
    path = Path()
    with contextlib.ExitStack() as stack:
        sending = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)]
        gnb = stack.enter_context(receiver())
        gnb.setblocking(False)
        for number in range(4):
            teids = [100 * number + at for at, of in enumerate(sessions, start=1) if of == number]
            path.put(*(gtp_u(sending[teid % 2], gnb, teid) for teid in teids), group=f"232.45.0.{number}")
        packets = [(number, udp_packet(SOURCE, f"232.45.0.{number}", payload)) for number, payload in offered]
        path.offer(*(packet for _, packet in packets))
        got: dict[int, list[bytes]] = {}
        with contextlib.suppress(BlockingIOError):
            while True:
                message = read_g_pdu(gnb.recv(2000))
                got.setdefault(message.teid, []).append(message.packet)
    wanted = {
        100 * number + at: [packet for of, packet in packets if of == number]
        for at, number in enumerate(sessions, start=1)
        if any(of == number for of, _ in packets)
    }
    assert got == wanted


def test_a_branch_that_fails_is_counted_by_reason_and_the_others_get_their_copies(
    path: Path, sending: socket.socket
) -> None:
    with receiver() as gnb, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        # Nobody has said to this socket that it may broadcast.
        forbidden = Branch("gtp_u", other.fileno(), address=ip_address("255.255.255.255").packed, port=9, teid=1)
        session = path.put(forbidden, gtp_u(sending, gnb, 2), gtp_u(sending, gnb, 3))
        longest = udp_packet(SOURCE, GROUP, bytes(65_507 - 28), checksum=False)
        path.offer(PACKET, longest)
        assert [read_g_pdu(gnb.recv(70_000)).teid for _ in range(2)] == [2, 3]
        refused, two, three = path.replicator.counters(session).branches
        assert refused == BranchCounters(0, 0, {"refused": 2})
        assert dict(two.errors) == dict(three.errors) == {"too_long": 1}
        assert two.sent_packets == three.sent_packets == 1


# --- multicast from UDP sockets ---------------------------------------------------------------------------------------


def test_a_udp_socket_sends_with_the_source_port_hops_and_marks_of_each_packet(path: Path) -> None:
    path.put(Branch("udp", -1, interface=LOOPBACK))
    wanted = [
        (4000, 5, 0x28),
        (4000, 5, 0x28),
        (4001, 7, 0),
        (4000, 1, 0xB8),
        *((4100 + port, 9, 0) for port in range(12)),
        (4000, 1, 0),
    ]
    with listener(SOURCE, GROUP) as joined:
        path.offer(
            *(
                udp_packet(SOURCE, GROUP, b"%d" % at, source_port=port, hops=hops, tos=tos)
                for at, (port, hops, tos) in enumerate(wanted)
            )
        )
        assert [heard(joined) for _ in wanted] == [
            (b"%d" % at, SOURCE, port, hops, tos) for at, (port, hops, tos) in enumerate(wanted)
        ]


def test_more_sources_than_there_are_sockets_for_take_turns(path: Path) -> None:
    path.put(Branch("udp", -1, interface=LOOPBACK))
    ports = [*range(4000, 4300), *range(4000, 4300)]
    with listener(SOURCE, GROUP) as joined:
        for at in range(0, len(ports), 50):
            path.offer(*(udp_packet(SOURCE, GROUP, b"", source_port=port) for port in ports[at : at + 50]))
            assert [heard(joined)[2] for _ in range(50)] == ports[at : at + 50]


def test_sessions_of_one_source_share_a_socket_which_goes_with_the_last_of_them(path: Path) -> None:
    before = len(list(DESCRIPTORS.iterdir()))
    groups = [f"232.45.2.{number}" for number in range(100)]
    sessions = [path.put(Branch("udp", -1, interface=LOOPBACK), group=group) for group in groups]
    assert path.offer(*(udp_packet(SOURCE, group, b"") for group in groups)) == [FORWARDED] * 100
    assert all(path.replicator.counters(each).branches[0].sent_packets == 1 for each in sessions)
    assert len(list(DESCRIPTORS.iterdir())) == before + 1
    for each in sessions:
        path.replicator.remove(each)
    assert len(list(DESCRIPTORS.iterdir())) == before


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (bytes(IP(src=SOURCE, dst=GROUP, flags="MF") / UDP() / Raw(b"1")), "fragment"),
        (bytes(IP(src=SOURCE, dst=GROUP, frag=8) / Raw(b"12345678")), "fragment"),
        (bytes(IP(src=SOURCE, dst=GROUP, options=[IPOption_NOP()]) / UDP()), "options"),
        (bytes(IP(src=SOURCE, dst=GROUP) / TCP()), "not_udp"),
        (bytes(IP(src=SOURCE, dst=GROUP) / UDP(len=30)), "not_udp"),
        (bytes(IP(src=SOURCE, dst=GROUP) / UDP(chksum=1)), "checksum"),
    ],
)
def test_what_a_udp_socket_cannot_send_as_it_came_is_not_sent(path: Path, packet: bytes, reason: str) -> None:
    session = path.put(Branch("udp", -1, interface=LOOPBACK))
    assert path.offer(packet) == [FORWARDED]
    assert path.replicator.counters(session).branches == (BranchCounters(0, 0, {reason: 1}),)


def test_a_source_that_is_not_of_this_host_or_whose_port_is_taken_is_told(path: Path) -> None:
    foreign = path.put(Branch("udp", -1, interface=LOOPBACK), source="198.51.100.77")
    path.offer(udp_packet("198.51.100.77", GROUP, b""), udp_packet("198.51.100.77", GROUP, b"again"))
    assert path.replicator.counters(foreign).branches == (BranchCounters(0, 0, {"source_not_local": 2}),)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind((SOURCE, 0))
        taken = path.put(Branch("udp", -1, interface=LOOPBACK))
        path.offer(udp_packet(SOURCE, GROUP, b"", source_port=holder.getsockname()[1]))
        assert path.replicator.counters(taken).branches == (BranchCounters(0, 0, {"source_taken": 1}),)


def test_an_unpoliced_checksum_of_none_is_none_of_ours(path: Path) -> None:
    path.put(Branch("udp", -1, interface=LOOPBACK))
    with listener(SOURCE, GROUP) as joined:
        path.offer(udp_packet(SOURCE, GROUP, b"odd", checksum=False), udp_packet(SOURCE, GROUP, b"even"))
        assert [heard(joined)[0] for _ in range(2)] == [b"odd", b"even"]


def test_a_branch_of_another_source_opens_sockets_of_its_own(path: Path) -> None:
    branch = Branch("udp", -1, interface=LOOPBACK)
    session = path.put(branch)
    with listener(SOURCE, GROUP) as joined, listener("127.0.0.10", GROUP) as moved:
        path.offer(PACKET)
        assert heard(joined)[1] == SOURCE
        path.put(branch, session=session, source="127.0.0.10")
        path.offer(udp_packet("127.0.0.10", GROUP, b"moved"))
        assert heard(moved)[:2] == (b"moved", "127.0.0.10")


# --- the thread -------------------------------------------------------------------------------------------------------


@dataclass
class Running:
    path: Path
    tunnels: list[socket.socket]
    numbers: list[int]


@pytest.fixture
def running() -> Iterator[Running]:
    path = Path()
    with contextlib.ExitStack() as stack:
        tunnels = [stack.enter_context(receiver()) for _ in range(2)]
        for tunnel in tunnels:
            tunnel.setblocking(False)
        numbers = [path.replicator.open_tunnel(tunnel.fileno()) for tunnel in tunnels]
        thread = threading.Thread(target=path.replicator.run)
        thread.start()
        yield Running(path, tunnels, numbers)
        path.replicator.stop()
        thread.join()


def test_tunnels_bring_each_their_packets_and_one_that_is_closed_brings_none(
    running: Running, sending: socket.socket
) -> None:
    path = running.path
    with receiver() as one, receiver() as other:
        first = path.put(gtp_u(sending, one, 1), tunnel=running.numbers[0])
        path.put(gtp_u(sending, other, 2), tunnel=running.numbers[1])
        for tunnel in running.tunnels:
            sending.sendto(PACKET, tunnel.getsockname())
        assert read_g_pdu(one.recv(2000)).packet == read_g_pdu(other.recv(2000)).packet == PACKET
        path.replicator.remove(first)
        path.replicator.close_tunnel(running.numbers[0])
        sending.sendto(PACKET, running.tunnels[0].getsockname())
        sending.sendto(PACKET, running.tunnels[1].getsockname())
        assert read_g_pdu(other.recv(2000)).packet == PACKET
        assert running.tunnels[0].recv(2000) == PACKET, "nobody has taken it"
        # Its number is given to the next one.
        assert path.replicator.open_tunnel(running.tunnels[0].fileno()) == running.numbers[0]


def test_sessions_and_branches_change_while_packets_pass_and_none_is_lost(
    running: Running, sending: socket.socket
) -> None:
    path, tunnel = running.path, running.numbers[0]
    packets = 2000
    with receiver() as gnb, receiver() as passing:
        steady = gtp_u(sending, gnb, 1)
        session = path.put(steady, tunnel=tunnel)
        got: list[bytes] = []
        listening = threading.Thread(target=lambda: got.extend(gnb.recv(2000) for _ in range(packets)))
        listening.start()
        for number in range(packets):
            sending.sendto(udp_packet(SOURCE, GROUP, b"%d" % number), running.tunnels[0].getsockname())
            if number % 5 == 0:
                others = [gtp_u(sending, passing, 2 + teid) for teid in range(number % 7)]
                path.put(steady, *others, session=session, tunnel=tunnel)
                path.replicator.remove(path.put(group="232.45.0.7", tunnel=tunnel))
            path.replicator.counters(session)
        listening.join()
    assert [read_g_pdu(each).packet[28:] for each in got] == [b"%d" % number for number in range(packets)]
    assert path.replicator.counters(session).branches[0].sent_packets == packets


def test_packets_are_judged_by_when_they_came(running: Running, nowhere: Branch, sending: socket.socket) -> None:
    session = running.path.put(nowhere, tunnel=running.numbers[0])
    running.path.replicator.forwarding = True
    sending.sendto(PACKET, running.tunnels[0].getsockname())
    while (counters := running.path.replicator.counters(session)).received_packets == 0:
        pass
    assert counters.first_ns == counters.last_ns > 10**18


def test_what_is_offered_by_hand_is_refused_while_the_thread_runs(running: Running) -> None:
    with pytest.raises(RuntimeError, match="run\\(\\) not to run"):
        running.path.offer(PACKET)
    with pytest.raises(RuntimeError, match="runs already"):
        running.path.replicator.run()


@pytest.mark.parametrize("source", [b"1234", bytes(16)])
def test_addresses_of_two_versions_are_refused(path: Path, source: bytes) -> None:
    with pytest.raises(ValueError, match="two addresses of one IP version"):
        path.replicator.put(
            Session(), 0, source, bytes(20 - len(source)), rate_bps=0, burst_bytes=0, forwards=True, branches=()
        )
