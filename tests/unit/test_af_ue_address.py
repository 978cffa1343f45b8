"""Which UE asks at M5: flows, peer address and a trusted proxy's word, and who may act for whom."""

from __future__ import annotations

import ipaddress

import pytest

from nf.af.errors import UeAddressMismatch, UeAddressUnknown
from nf.af.ue_address import identify, peer_host
from nf.common.errors import InvalidArgument

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
UE, OTHER_UE = ipaddress.ip_network("10.45.0.2"), ipaddress.ip_network("10.45.0.3")


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:4711", "127.0.0.1"),
        ("ipv6:[::1]:4711", "::1"),
        ("ipv6:%5B2001:db8::7%5D:4711", "2001:db8::7"),
        ("ipv6:%5Bfe80::1%25eth0%5D:4711", "fe80::1"),
        ("ipv6:[::ffff:10.45.0.2]:4711", "10.45.0.2"),
        ("unix:/run/castcore.sock", None),
        ("ipv4:nonsense", None),
    ],
)
def test_the_address_of_a_peer_is_read_from_its_name(peer, address):
    assert peer_host(peer) == (ipaddress.ip_network(address) if address else None)


def test_an_untrusted_peer_is_the_ue_itself():
    caller = identify("ipv4:10.45.0.2:4711", "", LOOPBACK)
    assert caller.ue_address(None) == UE
    assert caller.ue_address(UE) == UE
    with pytest.raises(UeAddressMismatch, match=r"for the UE 10\.45\.0\.3, the request comes from 10\.45\.0\.2"):
        caller.ue_address(OTHER_UE)


def test_the_header_of_an_untrusted_peer_means_nothing():
    caller = identify("ipv4:10.45.0.2:4711", "10.45.0.3", LOOPBACK)
    assert caller.ue_address(None) == UE
    assert not caller.owns(OTHER_UE)


def test_a_trusted_proxy_names_the_ue_in_a_header():
    caller = identify("ipv4:127.0.0.1:4711", "10.45.0.2", LOOPBACK)
    assert caller.ue_address(None) == UE
    assert caller.ue_address(UE) == UE
    with pytest.raises(UeAddressMismatch) as refused:
        caller.ue_address(OTHER_UE)
    assert (refused.value.code, refused.value.http_status) == ("PERMISSION_DENIED", 403)


def test_a_trusted_proxy_without_a_header_speaks_for_any_ue_that_the_flows_name():
    caller = identify("ipv6:[::1]:4711", "", LOOPBACK)
    assert caller.ue_address(OTHER_UE) == OTHER_UE
    with pytest.raises(UeAddressUnknown, match="x-ue-address"):
        caller.ue_address(None)


def test_a_header_that_is_no_address_is_refused():
    with pytest.raises(InvalidArgument, match="expected an IP address, found 'ue-2'"):
        identify("ipv4:127.0.0.1:4711", "ue-2", LOOPBACK)


def test_a_ue_owns_the_ipv6_prefix_that_its_address_is_in():
    prefix = ipaddress.ip_network("2001:db8:1::/64")
    assert identify("ipv6:[2001:db8:1::5]:1", "", LOOPBACK).ue_address(prefix) == prefix
    with pytest.raises(UeAddressMismatch):
        identify("ipv6:[2001:db8:2::5]:1", "", LOOPBACK).ue_address(prefix)
    assert not identify("ipv4:10.45.0.2:1", "", LOOPBACK).owns(prefix)


def test_a_ue_may_speak_from_another_address_of_its_ipv6_prefix():
    # Temporary addresses change while a policy is active (RFC 8981).
    other = ipaddress.ip_network("2001:db8:1::b")
    assert identify("ipv6:[2001:db8:1::a]:1", "", LOOPBACK).ue_address(other) == other
    assert not identify("ipv6:[2001:db8:1::a]:1", "", LOOPBACK).owns(ipaddress.ip_network("2001:db8:2::a"))


def test_a_peer_without_an_address_is_nobody():
    caller = identify("unix:/run/castcore.sock", "10.45.0.2", LOOPBACK)
    with pytest.raises(UeAddressUnknown):
        caller.ue_address(None)
    with pytest.raises(UeAddressMismatch):
        caller.ue_address(UE)
