"""The MB-UPF's deliveries that need privileges: tun devices in a namespace, packets of anybody's from raw sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

import pytest
from live.networks import Network, networks, required
from multicast import heard, listener, udp_packet
from scapy.layers.inet import IP, UDP, fragment
from scapy.packet import Raw

from upf._mbs import Replicator
from upf.errors import UpfError
from upf.live.devices import Place
from upf.mbs.delivery import Deliveries
from upf.mbs.ingress import Ingress
from upf.mbs.outlets import Outlets
from upf.mbs.sessions import Delivery, Multicast, Replicated, ToTun

START_NS = 1_700_000_000 * 10**9
# Addresses of nobody here.
SOURCE, GROUP = "198.51.100.7", "232.45.0.1"
SOURCE6, GROUP6 = "2001:db8:a::7", "ff3e::8000:1"


@dataclass
class Upf:
    replicator: Replicator
    deliveries: Deliveries

    def offer(self, cp_seid: int, *packets: bytes) -> None:
        tunnel = self.deliveries.tunnel_of(cp_seid).number
        self.replicator.offer(tunnel, [(START_NS, packet) for packet in packets])


@contextmanager
def upf(multicast: str = "auto") -> Iterator[Upf]:
    replicator = Replicator(forwarding=True)
    ingress = Ingress(replicator, [(ip_address("127.0.0.1"), 0)])
    deliveries = Deliveries(replicator, ingress, Outlets(multicast="udp" if multicast == "udp" else "auto"))
    try:
        yield Upf(replicator, deliveries)
    finally:
        deliveries.close()


@pytest.fixture
def network() -> Iterator[Network]:
    required()
    with networks("gnb") as (made,):
        made.ip("-6 route add local ff00::/8 dev lo table local")
        yield made


def session(source: str, group: str, *deliveries: Delivery) -> Replicated:
    return Replicated(ip_address(source), ip_address(group), 0, 0, None, True, tuple(enumerate(deliveries, start=1)), 0)


def test_packets_of_several_sessions_leave_by_one_tun_device_which_goes_with_the_last(network: Network) -> None:
    tun = ToTun(Place("mbs0", network.name))
    with upf() as running:
        running.deliveries.put(1, session(SOURCE, GROUP, tun))
        running.deliveries.put(2, session(SOURCE6, GROUP6, tun))
        assert network.devices() == ["mbs0"]
        network.set("ipv4/conf/mbs0/rp_filter", 0)
        index = network.inside(lambda: socket.if_nametoindex("mbs0"))
        with joined(network, SOURCE, GROUP, index) as four, joined(network, SOURCE6, GROUP6, index) as six:
            running.offer(1, udp_packet(SOURCE, GROUP, b"four", hops=3))
            running.offer(2, udp_packet(SOURCE6, GROUP6, b"six", tos=0xB8))
            assert heard(four) == (b"four", SOURCE, 4000, 3, 0x28)
            assert heard(six) == (b"six", SOURCE6, 4000, 5, 0xB8)
        (sent,) = running.deliveries.usage(2)[1]
        assert (sent.sending, sent.counters.sent_packets, dict(sent.counters.errors)) == ("tun", 1, {})
        running.deliveries.remove(1)
        assert network.devices() == ["mbs0"]
        network.ip("link set mbs0 down")
        running.offer(2, udp_packet(SOURCE6, GROUP6, b"lost"))
        assert running.deliveries.usage(2)[1][0].counters.errors == {"down": 1}
        running.deliveries.remove(2)
        assert network.devices() == []


def test_a_session_whose_tun_device_cannot_be_made_changes_nothing(network: Network) -> None:
    with upf() as running:
        running.deliveries.put(1, session(SOURCE, GROUP, ToTun(Place("mbs0", network.name))))
        with pytest.raises(UpfError, match="branch 2: network namespace 'nosuch': found"):
            running.deliveries.put(
                1,
                session(SOURCE6, GROUP6, ToTun(Place("mbs1", network.name)), ToTun(Place("mbs2", "nosuch"))),
            )
        assert network.devices() == ["mbs0"]
        assert running.deliveries.usage(1)[1][0].sending == "tun"


def test_raw_sockets_send_what_anybody_has_sent_as_it_came_fragments_too() -> None:
    required()
    whole = IP(src=SOURCE, dst=GROUP, id=77, ttl=9, tos=0x88) / UDP(sport=4000, dport=5000) / Raw(bytes(range(250)) * 4)
    pieces = [bytes(each) for each in fragment(whole, fragsize=400)]
    assert len(pieces) == 3
    with upf() as running, listener(SOURCE, GROUP) as four:
        running.deliveries.put(1, session(SOURCE, GROUP, Multicast("lo")))
        running.offer(1, *pieces, udp_packet(SOURCE, GROUP, b"next"))
        assert heard(four) == (bytes(range(250)) * 4, SOURCE, 4000, 9, 0x88)
        assert heard(four)[0] == b"next"
        (sent,) = running.deliveries.usage(1)[1]
        assert (sent.sending, sent.counters.sent_packets) == ("raw", 4)
        assert sent.counters.sent_bytes == sum(map(len, pieces)) + len(udp_packet(SOURCE, GROUP, b"next"))


@pytest.mark.parametrize(("how", "source"), [("auto", SOURCE6), ("udp", "::1")])
def test_ipv6_multicast_leaves_from_both_kinds_of_sockets(network: Network, how: str, source: str) -> None:
    with upf(how) as running:
        network.inside(lambda: running.deliveries.put(1, session(source, GROUP6, Multicast("lo"))))
        with joined(network, source, GROUP6) as six:
            network.inside(lambda: running.offer(1, udp_packet(source, GROUP6, b"six", hops=3, tos=0xB8)))
            assert heard(six) == (b"six", source, 4000, 3, 0xB8)
        assert running.deliveries.usage(1)[1][0].sending == ("udp" if how == "udp" else "raw")


@contextmanager
def joined(network: Network, source: str, group: str, interface: int = 1) -> Iterator[socket.socket]:
    """A listener in the namespace."""
    making = listener(source, group, interface=interface)
    made = network.inside(making.__enter__)
    try:
        yield made
    finally:
        making.__exit__(None, None, None)
