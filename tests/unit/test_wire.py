"""A wire between two pairs of datagram sockets, which stand in for tun devices: no privilege is needed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from scapy.layers.inet import IP, TCP, UDP, fragment
from super_packets import PLAIN, packet_bytes, segments_of, super_packet

from upf.counters import WireCounters
from upf.engine import Engine, Wire
from upf.rules import Rule
from upf.rules_file import rule_from_options

HOSTS = ("10.45.0.2", "198.51.100.7")


class Running:
    """A wire that runs, and both ends of it."""

    def __init__(self, *, forwarding: bool = True, **engine: bool) -> None:
        self.engine = Engine(**engine)
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        self.sender, self._source = socket.socketpair(socket.AF_UNIX, kind)
        self._sink, self.receiver = socket.socketpair(socket.AF_UNIX, kind)
        for end in (self.sender, self._sink):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        self.receiver.setblocking(True)
        self.receiver.settimeout(5)
        self.wire = Wire(self.engine, self._source.fileno(), self._sink.fileno(), forwarding=forwarding)
        self._thread = threading.Thread(target=self.wire.run)
        self._thread.start()

    def send(self, *messages: bytes) -> None:
        for message in messages:
            self.sender.send(message)

    def receive(self, count: int) -> list[bytes]:
        return [self.receiver.recv(1 << 17) for _ in range(count)]

    def settle(self, packets: int) -> WireCounters:
        """The counters when so many packets have come and none is queued."""
        return self.until(lambda counters: counters.packets >= packets and not counters.queued_packets)

    def until(self, condition: Callable[[WireCounters], bool]) -> WireCounters:
        deadline = time.monotonic() + 10
        while not condition(counters := self.wire.counters()):
            assert time.monotonic() < deadline, counters
            assert adds_up(counters)
            time.sleep(0.001)
        assert adds_up(counters)
        return counters

    def nothing_more(self) -> bool:
        self.receiver.setblocking(False)
        with suppress(BlockingIOError):
            return not self.receiver.recv(1 << 17)
        return True

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        self.wire.stop()
        self.join()
        for end in (self.sender, self._source, self._sink, self.receiver):
            end.close()


@pytest.fixture
def running() -> Iterator[Callable[..., Running]]:
    wires: list[Running] = []

    def run(**options: bool) -> Running:
        wires.append(Running(**options))
        return wires[-1]

    yield run
    for wire in wires:
        wire.stop()


def adds_up(counters: WireCounters) -> bool:
    became = counters.passed_packets + counters.dropped_packets + counters.malformed_packets + counters.held_off_packets
    volume = counters.passed_bytes + counters.dropped_bytes + counters.malformed_bytes + counters.held_off_bytes
    return (
        counters.packets == became + counters.queued_packets + counters.error_packets
        and counters.bytes == volume + counters.queued_bytes + counters.error_bytes
    )


def rule(rate: str, burst: str | None = None, mode: str = "police", **options: object) -> tuple[Rule, ...]:
    given = {"flows": ["permit out ip from any to any"], "domains": [], "per_flow": False, "dscp": [], "queue": None}
    return rule_from_options(**{**given, **options}, rate=rate, burst=burst, mode=mode, ue=None).rules


def datagram(size: int, number: int = 0) -> bytes:
    return PLAIN + packet_bytes(*HOSTS, UDP(sport=1000, dport=443), number.to_bytes(2, "big") + bytes(size - 30))


def tcp(payload_bytes: int, segment_bytes: int) -> bytes:
    return super_packet(
        packet_bytes(*HOSTS, TCP(sport=443, dport=5000, flags="PA"), bytes(payload_bytes)), segment_bytes
    )


def test_packets_that_no_rule_wants_pass_as_they_came(running) -> None:
    wire = running()
    messages = [datagram(100 + at, at) for at in range(300)] + [tcp(40000, 1448)]
    for at, message in enumerate(messages):
        wire.send(message)
        if at % 100 == 99:
            wire.settle(at)
    assert wire.receive(len(messages)) == messages
    counters = wire.settle(328)
    assert (counters.passed_packets, counters.writes) == (328, 301)
    assert counters.bytes == sum(100 + at for at in range(300)) + 40000 + 28 * 40


def test_a_super_packet_is_policed_as_its_segments(running) -> None:
    wire = running()
    # Three segments of 1,040 bytes and one of 540 find tokens; what is earned meanwhile is less than a byte.
    wire.engine.install(rule("1 bps", "3700 B"))
    message = tcp(5500, 1000)
    wire.send(message)
    counters = wire.settle(6)
    expected = segments_of(message)
    assert [len(segment) for segment in expected] == [1040] * 5 + [540]
    # The short one passes although two before it have not.
    front, back = wire.receive(2)
    assert segments_of(front) + segments_of(back) == expected[:3] + expected[5:]
    assert (counters.passed_packets, counters.passed_bytes) == (4, 3 * 1040 + 540)
    assert (counters.dropped_packets, counters.dropped_bytes) == (2, 2080)
    policed = wire.engine.rule_counters()["rule"]
    assert (policed.conforming_bytes, policed.dropped_bytes) == (counters.passed_bytes, counters.dropped_bytes)


def test_uso_is_cut_as_tso_is(running) -> None:
    wire = running()
    wire.engine.install(rule("1 bps", "1500 B"))
    message = super_packet(packet_bytes(*HOSTS, UDP(sport=443, dport=5000), bytes(6400)), 100)
    wire.send(message)
    counters = wire.settle(64)
    assert counters.passed_packets == 1500 // 128
    (passed,) = wire.receive(1)
    assert segments_of(passed) == segments_of(message)[:11]


def test_marking_cuts_a_super_packet_where_its_colour_changes(running) -> None:
    wire = running()
    wire.engine.install(rule("1 bps", "2100 B", "mark", dscp=["green=EF", "red=CS1"]))
    message = tcp(5000, 1000)
    wire.send(message)
    wire.settle(5)
    green, red = wire.receive(2)
    assert [segment[1] >> 2 for segment in segments_of(green)] == [46] * 2
    assert [segment[1] >> 2 for segment in segments_of(red)] == [8] * 3
    assert [segment[20:] for segment in segments_of(green) + segments_of(red)] == [
        segment[20:] for segment in segments_of(message)
    ]


def test_marking_a_whole_packet_keeps_its_checksums_right(running) -> None:
    wire = running()
    wire.engine.install(rule("1 Gbps", None, "mark", dscp=["green=EF"]))
    udp = UDP(sport=1000, dport=443)
    wire.send(PLAIN + packet_bytes(*HOSTS, udp, bytes(500), tos=1))
    assert wire.receive(1) == [PLAIN + packet_bytes(*HOSTS, udp, bytes(500), tos=46 << 2 | 1)]


def test_what_is_shaped_leaves_later_in_its_order_and_none_is_lost(running) -> None:
    wire = running()
    wire.engine.install(rule("1 Mbps", "1500 B", "shape", queue="100 KB"))
    # 20 packets, of which the first finds the bucket full and the others wait for 8 ms each.
    messages = [datagram(1000, at) for at in range(20)]
    began = time.monotonic()
    wire.send(*messages)
    assert wire.receive(20) == messages
    assert time.monotonic() - began > (20 * 8000 - 1500 * 8) / 1e6
    counters = wire.settle(20)
    assert (counters.passed_packets, counters.dropped_packets) == (20, 0)
    assert wire.engine.rule_counters()["rule"].delayed_packets == 19


def test_a_super_packet_is_shaped_segment_by_segment(running) -> None:
    wire = running()
    wire.engine.install(rule("1 Mbps", "2100 B", "shape", queue="100 KB"))
    message = tcp(5000, 1000)
    wire.send(message)
    pieces = wire.receive(4)
    assert [segment for piece in pieces for segment in segments_of(piece)] == segments_of(message)
    # Two found tokens and left together, the others one by one.
    assert [len(segments_of(piece)) for piece in pieces] == [2, 1, 1, 1]


def test_what_is_held_back_leaves_when_the_wire_is_stopped(running) -> None:
    wire = running()
    wire.engine.install(rule("1 Kbps", "1500 B", "shape", queue="100 KB"))
    wire.send(*(datagram(1000, at) for at in range(5)))
    assert wire.until(lambda counters: counters.packets == 5).queued_packets == 4
    wire.wire.stop()
    assert len(wire.receive(5)) == 5
    assert wire.until(lambda counters: counters.passed_packets == 5).queued_packets == 0


def test_nothing_is_forwarded_while_the_wire_is_held_off(running) -> None:
    wire = running(forwarding=False)
    wire.send(datagram(100), tcp(5000, 1000))
    counters = wire.settle(6)
    assert (counters.held_off_packets, counters.held_off_bytes) == (6, 100 + 5200)
    assert wire.engine.packets == 0
    wire.wire.forwarding = True
    wire.send(datagram(100, 7))
    assert wire.receive(1) == [datagram(100, 7)]
    assert wire.nothing_more()


def test_malformed_packets_are_counted_by_reason_and_do_not_pass(running) -> None:
    wire = running()
    wire.send(PLAIN + b"\x10" * 40, PLAIN + b"\x45" + bytes(10), b"\x01\x09" + bytes(60), datagram(60))
    counters = wire.settle(4)
    assert (counters.malformed_packets, counters.passed_packets) == (2, 1)
    assert counters.errors == {"super_packet": 1}
    assert wire.receive(1) == [datagram(60)]
    assert sum(wire.engine.totals().malformed.values()) == 2


def test_an_engine_may_drop_what_no_rule_wants(running) -> None:
    wire = running(pass_unmatched=False)
    wire.send(datagram(100))
    assert wire.settle(1).dropped_packets == 1


def test_fragments_follow_their_first_even_if_they_came_before_it(running) -> None:
    wire = running()
    wire.engine.install(rule("1 Mbps", flows=["permit out 17 from any 1000 to any"]))
    fragments = [bytes(each) for each in fragment(IP(datagram(3000)[10:]), fragsize=1000)]
    wire.send(PLAIN + fragments[1])
    wire.until(lambda counters: counters.queued_packets == 1)
    wire.send(PLAIN + fragments[0], PLAIN + fragments[2])
    assert {message[10:] for message in wire.receive(3)} == set(fragments)
    wire.settle(3)
    assert wire.engine.rule_counters()["rule"].packets == 3


def test_a_fragment_whose_first_never_comes_leaves_after_its_time(running) -> None:
    wire = running()
    fragments = [bytes(each) for each in fragment(IP(datagram(3000)[10:]), fragsize=1000)]
    wire.send(PLAIN + fragments[1])
    wire.until(lambda counters: counters.queued_packets == 1)
    assert wire.receive(1) == [PLAIN + fragments[1]]
    assert wire.settle(1).passed_packets == 1


def test_rules_change_while_packets_pass_and_none_is_lost(running) -> None:
    wire = running()
    over = threading.Event()

    def change() -> None:
        number = 0
        while not over.is_set():
            wire.engine.update(add=rule(f"{100 + number % 2} Gbps"))
            wire.engine.harvest()
            wire.engine.flows()
            number += 1

    changing = threading.Thread(target=change)
    changing.start()
    messages = [datagram(200 + at % 1000, at) for at in range(3000)]
    received = []
    try:
        for at in range(0, 3000, 50):
            wire.send(*messages[at : at + 50])
            received += wire.receive(50)
    finally:
        over.set()
        changing.join()
    assert received == messages
    assert wire.settle(3000).passed_packets == 3000


def test_a_flood_does_not_keep_the_wire_from_stopping(running) -> None:
    wire = running(pass_unmatched=False)
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            with suppress(BlockingIOError):
                wire.send(datagram(100))

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        wire.until(lambda counters: counters.packets > 100)
        wire.wire.stop()
        wire.join()
    finally:
        over.set()
        flooding.join()


def test_a_sink_that_takes_nothing_is_an_error_that_is_counted(running) -> None:
    wire = running()
    wire.receiver.close()
    wire.send(datagram(100))
    assert sum(wire.settle(1).errors.values()) == 1
