"""Devices as structured fields of RFC 8941."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nf.common.codec import from_json
from nf.common.errors import InvalidArgument
from nf.netapi.device_header import device_text, parse_device
from nf.netapi.v1.camara_types_pb2 import CamaraDevice

ADDRESS = {"publicAddress": "203.0.113.0", "privateAddress": "10.0.0.1", "publicPort": 59765}


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"phoneNumber": "+123456789"}, 'phonenumber="+123456789"'),
        (
            {"phoneNumber": "+123456789", "ipv6Address": "2001:db8::1"},
            'ipv6address="2001:db8::1", phonenumber="+123456789"',
        ),
        (
            {"ipv4Address": ADDRESS},
            'ipv4address;privateaddress="10.0.0.1";publicaddress="203.0.113.0";publicport=59765',
        ),
        ({"networkAccessIdentifier": 'a"\\b@c'}, 'networkaccessidentifier="a\\"\\\\b@c"'),
        ({"networkAccessIdentifier": "ä@c"}, "networkaccessidentifier=:w6RAYw==:"),
        ({}, ""),
    ],
)
def test_a_device_is_a_dictionary_in_small_letters_and_back(tree: dict[str, object], text: str) -> None:
    device = from_json(CamaraDevice, tree, strict=True)
    assert device_text(device) == text
    assert parse_device("x-device", text) == device


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("number=1", "expected one of phonenumber, networkaccessidentifier, ipv4address, ipv6address"),
        ("phoneNumber=1", "expected a device as a structured field"),
        ("Phone=1", "expected the name of a property in small letters"),
        ('phonenumber="+1', 'expected a "string", an integer or a :byte sequence:'),
        ('phonenumber="+1",', "expected a device as a structured field"),
        ('phonenumber="+1" x', "expected a device as a structured field"),
        ("phonenumber=1", "phoneNumber: expected a string, found the number 1"),
        ('ipv4address="10.0.0.1"', "expected ipv4address with parameters"),
        ('ipv4address;port=1;publicaddress="1.2.3.4"', "expected one of publicaddress, privateaddress, publicport"),
        ("networkaccessidentifier=:/w==:", "expected a byte sequence of UTF-8 in base64"),
    ],
)
def test_what_is_no_device_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_device("x-device", text)
    assert refused.value.message.startswith(f"x-device: {told}")


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(1, 65535))
def test_every_text_survives(name: str, port: int) -> None:
    device = CamaraDevice(network_access_identifier=name)
    device.ipv4_address.public_address = name
    device.ipv4_address.public_port = port
    assert parse_device("seek", device_text(device)) == device
