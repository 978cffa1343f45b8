"""Two engines that see one direction each of the same connections know the names that either finds."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import captures
import named_traffic as made
import pytest

from upf.capture import write_header
from upf.directions import downlink_rules, uplink_rules
from upf.engine import Engine
from upf.rules import Rule
from upf.rules_file import parse_rules

VIDEO = "video.example.com"
UE, SERVER, RESOLVER = "10.45.0.2", "198.51.100.7", "192.0.2.53"


class Bump:
    """An engine for each direction, and packets a millisecond apart."""

    def __init__(self, rules: Sequence[Rule], *, shared: bool = True) -> None:
        self.uplink, self.downlink = Engine(), Engine()
        if shared:
            self.downlink.share_names(self.uplink)
        self.uplink.install(uplink_rules(rules))
        self.downlink.install(downlink_rules(rules))
        self._now_ns = 10**15
        self.port = 40_000

    def up(self, data: bytes = b"", sequence: int = 1001, *, flags: int = made.ACK) -> None:
        segment = made.tcp(self.port, 443, sequence, data, flags=flags)
        self._run(self.uplink, captures.ipv4(UE, SERVER, captures.TCP, segment))

    def down(self, data: bytes = b"", *, flags: int = made.ACK) -> None:
        segment = made.tcp(443, self.port, 5001, data, flags=flags)
        self._run(self.downlink, captures.ipv4(SERVER, UE, captures.TCP, segment))

    def resolve(self) -> None:
        answer = captures.udp(53, 5353, made.dns_answer(VIDEO, [(VIDEO, "A", 60, SERVER)]))
        self._run(self.downlink, captures.ipv4(RESOLVER, UE, captures.UDP, answer))

    def connect(self) -> None:
        """Three packets up, one down, and the server's name is said."""
        self.up(sequence=1000, flags=made.SYN)
        self.down(flags=made.SYN | made.ACK)
        self.up()
        self.up(made.client_hello(VIDEO))

    def counted(self) -> tuple[int, int]:
        """What the rule has detected, up and down."""
        up, down = (engine.rule_counters().get("video") for engine in (self.uplink, self.downlink))
        return up.packets if up else 0, down.packets if down else 0

    def _run(self, engine: Engine, packet: bytes) -> None:
        stream = io.BytesIO()
        capture_format = write_header(stream, link_type=captures.RAW, nanoseconds=True)
        header = struct.pack("=IIII", *divmod(self._now_ns, 10**9), len(packet), len(packet))
        engine.run(stream.getvalue() + header + packet, capture_format, offset=24, max_packets=1)
        self._now_ns += 10**6


def rules(direction: str = "both", more: str = "") -> tuple[Rule, ...]:
    text = f'[[rule]]\nname = "video"\ndomains = ["{VIDEO}"]\ndirection = "{direction}"\n{more}'
    return parse_rules(text, source="rules.toml").rules


def test_the_name_that_a_client_says_on_the_way_up_detects_what_comes_down() -> None:
    bump = Bump(rules())
    bump.connect()
    assert bump.counted() == (1, 0)
    for _ in range(5):
        bump.down(b"media")
    bump.up()
    assert bump.counted() == (2, 5)


def test_engines_that_share_nothing_know_only_what_they_see_themselves() -> None:
    bump = Bump(rules(), shared=False)
    bump.connect()
    bump.down(b"media")
    assert bump.counted() == (1, 0)


def test_the_way_up_is_listened_to_for_a_rule_of_the_way_down_alone() -> None:
    others = '[[rule]]\nname = "rest"\nflows = ["permit out ip from any to any"]\n'
    bump = Bump(rules("down", others))
    bump.connect()
    for _ in range(3):
        bump.down(b"media")
    assert bump.counted() == (0, 3)
    assert bump.uplink.rule_counters()["rest"].packets == 3


def test_what_an_answer_of_the_dns_says_on_the_way_down_is_known_to_the_first_packet_up() -> None:
    bump = Bump(rules("up"))
    bump.resolve()
    bump.up(sequence=1000, flags=made.SYN)
    assert bump.counted() == (1, 0)


def test_packets_are_looked_into_only_while_rules_of_either_ask_for_names() -> None:
    bump = Bump(())
    bump.connect()
    assert bump.uplink.inspection() is bump.downlink.inspection() is None
    bump.downlink.install(rules())
    bump.port += 1
    bump.connect()
    inspection = bump.uplink.inspection()
    assert inspection is not None
    assert inspection == bump.downlink.inspection()
    assert (inspection.named, inspection.inspected) == (1, 4)
    bump.downlink.install([])
    bump.port += 1
    bump.connect()
    assert bump.uplink.inspection() == inspection


@pytest.mark.parametrize("late", [True, False])
def test_names_may_be_shared_before_or_after_rules_ask_for_them(late: bool) -> None:
    bump = Bump(rules(), shared=not late)
    if late:
        bump.downlink.share_names(bump.uplink)
    bump.connect()
    bump.down(b"media")
    assert bump.counted() == (1, 1)
