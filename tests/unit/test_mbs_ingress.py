"""Where Nmb9 tunnels end, how they are shared, and by which interface multicast leaves."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from multicast import receiver
from pydantic import ValidationError

from upf._mbs import Replicator
from upf.config import MbsSection
from upf.errors import UpfError
from upf.mbs.ingress import Flow, Ingress
from upf.mbs.interfaces import interface_index
from upf.mbs.places import parse_ingress

LOCALHOST, LOCALHOST6 = ip_address("127.0.0.1"), ip_address("::1")


def flow(number: int) -> Flow:
    return ip_address("127.0.0.9"), ip_address(f"232.45.0.{number}")


@pytest.fixture
def ingress() -> Iterator[Ingress]:
    opened = Ingress(Replicator(), [(LOCALHOST, 0), (LOCALHOST6, 0)])
    yield opened
    opened.close()


def test_flows_share_a_tunnel_and_one_that_is_taken_gets_another(ingress: Ingress) -> None:
    first = ingress.take(flow(1), 0)
    assert ingress.take(flow(2), 0) is first
    second = ingress.take(flow(1), 0)
    assert second is not first
    assert second.port != first.port
    assert ingress.take(flow(2), 0) is second
    assert ingress.take(flow(1), 6).address == LOCALHOST6


def test_a_flow_that_changes_keeps_its_tunnel_where_it_can(ingress: Ingress) -> None:
    ingress.take(flow(1), 0)
    other = ingress.take(flow(1), 0)
    assert ingress.take(flow(3), 0, other) is other
    assert ingress.take(flow(4), 6, other) is not other


def test_a_tunnel_is_closed_with_its_last_flow(ingress: Ingress) -> None:
    tunnel = ingress.take(flow(1), 0)
    ingress.take(flow(2), 0)
    ingress.give_back(tunnel, flow(1))
    assert ingress.tunnels == (tunnel,)
    ingress.give_back(tunnel, flow(2))
    assert ingress.tunnels == ()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reuse:
        reuse.bind(("127.0.0.1", tunnel.port))


def test_the_configured_port_is_that_of_the_first_tunnel_and_further_ones_are_free() -> None:
    with receiver() as found:
        port = found.getsockname()[1]
    ingress = Ingress(Replicator(), [(LOCALHOST, port)])
    try:
        assert ingress.take(flow(1), 0).port == port
        assert ingress.take(flow(1), 0).port != port
        with pytest.raises(UpfError, match=r"found 127.0.0.1, expected an address of IP version 6 in \[upf.mbs\]"):
            ingress.take(flow(1), 6)
    finally:
        ingress.close()


def test_a_port_that_somebody_has_is_told_and_nothing_is_left_open() -> None:
    with receiver() as holder:
        ingress = Ingress(Replicator(), [(LOCALHOST, holder.getsockname()[1])])
        with pytest.raises(UpfError, match=r"ingress 127.0.0.1 port \d+: address already in use: expected an address"):
            ingress.take(flow(1), 0)
        assert ingress.tunnels == ()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("192.0.2.1", ("192.0.2.1", 0)), ("192.0.2.1:5005", ("192.0.2.1", 5005)), ("::1", ("::1", 0)),
        ("[2001:db8::1]:7", ("2001:db8::1", 7)), ("[::1]", ("::1", 0)),
    ],
)  # fmt: skip
def test_a_place_is_an_address_with_or_without_a_port(text: str, place: tuple[str, int]) -> None:
    assert parse_ingress(text) == (ip_address(place[0]), place[1])


@pytest.mark.parametrize("text", ["", "eth0", "0.0.0.0", "232.0.0.1", "192.0.2.1:0", "192.0.2.1:", "[::1"])
def test_another_place_is_refused_by_the_configuration(text: str) -> None:
    with pytest.raises(ValidationError, match="address of this host with or without a port"):
        MbsSection(ingress=(text,))


@pytest.mark.parametrize("address", ["host", "0.0.0.0", "ff3e::1", "::"])
def test_gtp_u_comes_from_an_address(address: str) -> None:
    assert MbsSection(gtp_u=("192.0.2.1", "::1")).gtp_u == ("192.0.2.1", "::1")
    with pytest.raises(ValidationError, match="an IPv4 or IPv6 address of this host"):
        MbsSection(gtp_u=(address,))


@pytest.mark.parametrize("text", ["lo", "127.0.0.1", "127.9.9.9", "::1"])
def test_an_interface_is_known_by_its_name_and_by_its_addresses(text: str) -> None:
    assert interface_index(text) == socket.if_nametoindex("lo")


@pytest.mark.parametrize("text", ["nosuch0", "198.51.100.99", "2001:db8::99", ""])
def test_another_interface_is_refused_with_those_that_there_are(text: str) -> None:
    with pytest.raises(UpfError, match=f"interface: found '{text}', expected one of lo"):
        interface_index(text)
