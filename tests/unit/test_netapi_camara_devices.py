"""Devices as CAMARA APIs name them, and which of their names is used."""

from __future__ import annotations

import pytest

from nf.common.codec import from_json, to_json
from nf.common.errors import InvalidArgument
from nf.netapi.camara_devices import names_of, subject_names, view_of
from nf.netapi.errors import MissingIdentifier, UnnecessaryIdentifier, UnsupportedIdentifier
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.camara_types_pb2 import CamaraDevice

NATTED = {"publicAddress": "203.0.113.0", "privateAddress": "10.45.0.2"}


def device(tree: object) -> CamaraDevice:
    return from_json(CamaraDevice, tree, strict=True)


@pytest.mark.parametrize(
    ("tree", "meant"),
    [
        ({"phoneNumber": "+123456789"}, Device(phone_number="+123456789")),
        ({"ipv4Address": NATTED}, Device(ipv4_address="10.45.0.2")),
        ({"ipv4Address": {"publicAddress": "203.0.113.0", "publicPort": 59765}}, Device(ipv4_address="203.0.113.0")),
        ({"ipv6Address": "2001:db8::1"}, Device(ipv6_address="2001:db8::1")),
    ],
)
def test_a_name_is_a_device_of_the_platform_and_is_shown_as_it_was_given(tree: object, meant: Device) -> None:
    (name,) = names_of(device(tree))
    assert name.device == meant
    assert name.view is not None
    assert to_json(name.view) == tree


def test_of_several_names_each_is_one_by_itself_the_phone_number_first() -> None:
    view = device({"ipv6Address": "2001:db8::1", "ipv4Address": NATTED, "phoneNumber": "+123456789"})
    assert [each.device for each in names_of(view)] == [
        Device(phone_number="+123456789"),
        Device(ipv4_address="10.45.0.2"),
        Device(ipv6_address="2001:db8::1"),
    ]


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({}, "device: expected at least one identifier, found none"),
        ({"phoneNumber": "0049"}, "device.phoneNumber: expected what matches"),
        (
            {"ipv4Address": {"publicAddress": "203.0.113.0"}},
            "device.ipv4Address: expected privateAddress or",
        ),
        ({"ipv4Address": {**NATTED, "privateAddress": "10.0.0.999"}}, "device.ipv4Address.privateAddress: expected an"),
        ({"ipv6Address": "10.0.0.1"}, "device.ipv6Address: expected an IPv6 address, found '10.0.0.1'"),
        ({"ipv6Address": "fe80::1%eth0"}, "device.ipv6Address: expected an IPv6 address"),
    ],
)
def test_what_is_no_name_is_refused_by_its_path(tree: object, told: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        names_of(device(tree))
    assert refused.value.message.startswith(told)


def test_a_network_access_identifier_alone_is_not_supported() -> None:
    with pytest.raises(UnsupportedIdentifier):
        names_of(device({"networkAccessIdentifier": "123@example.com"}))
    both = device({"networkAccessIdentifier": "123@example.com", "phoneNumber": "+123456789"})
    assert [each.device for each in names_of(both)] == [Device(phone_number="+123456789")]


def test_a_request_is_about_the_device_of_the_body_or_of_the_token_never_both() -> None:
    of_token = Device(phone_number="+123456789")
    view = device({"phoneNumber": "+123456789"})
    (name,) = subject_names(of_token, None)
    assert (name.device, name.view) == (of_token, None)
    assert [each.view for each in subject_names(None, view)] == [view]
    with pytest.raises(UnnecessaryIdentifier):
        subject_names(of_token, view)
    with pytest.raises(MissingIdentifier):
        subject_names(None, None)
    assert subject_names(None, None, required=False) == []


@pytest.mark.parametrize(
    ("known", "shown"),
    [
        (Device(phone_number="+123456789", ipv4_address="10.0.0.1"), {"phoneNumber": "+123456789"}),
        (
            Device(ipv4_address="10.0.0.1"),
            {"ipv4Address": {"publicAddress": "10.0.0.1", "privateAddress": "10.0.0.1"}},
        ),
        (Device(ipv6_address="2001:db8::1"), {"ipv6Address": "2001:db8::1"}),
        (Device(network_access_identifier="a@b.c"), {"networkAccessIdentifier": "a@b.c"}),
    ],
)
def test_a_device_of_the_platform_has_a_name_at_the_doors(known: Device, shown: object) -> None:
    assert to_json(view_of(known)) == shown
