"""How devices are named, and the one canonical form of each name (CAMARA Device; TS 23.003 §28.2, §28.8, TS 29.571).

A phone number is the GPSI "msisdn-…", a network access identifier the GPSI "extid-…", a SUPI itself. An IPv6 address
stands for its prefix of /64, which a PDU session has as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

from nf.common.errors import FieldViolation, InvalidArgument
from nf.netapi.v1.access_pb2 import Device

_PHONE_NUMBER: Final = re.compile(r"\+[1-9][0-9]{4,14}")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ACCESS_IDENTIFIER: Final = re.compile(rf"(?=.{{3,253}}\Z)[^\s@\x00-\x1f]+@{_LABEL}(?:\.{_LABEL})*")
_SUPI: Final = re.compile(r"(?=.{1,128}\Z)(?:imsi-[0-9]{5,15}|(?:nai|gci|gli)-\S+)")
_PREFIX_BITS: Final = 64

SUPI: Final = "supi"
GPSI: Final = "gpsi"
IPV4: Final = "ipv4"
IPV6: Final = "ipv6"


def _violations(device: Device) -> Iterator[FieldViolation]:
    number, identifier, supi = device.phone_number, device.network_access_identifier, device.supi
    if not (number or identifier or supi or device.ipv4_address or device.ipv6_address):
        yield FieldViolation(
            "", "expected a phone_number, network_access_identifier, ipv4_address, ipv6_address or supi"
        )
    if number and not _PHONE_NUMBER.fullmatch(number):
        yield FieldViolation("phone_number", f"expected '+' and 5 to 15 digits, the first not 0, found {number!r}")
    if identifier and not _ACCESS_IDENTIFIER.fullmatch(identifier):
        yield FieldViolation("network_access_identifier", f"expected 'USER@REALM', found {identifier!r}")
    if supi and not _SUPI.fullmatch(supi):
        yield FieldViolation("supi", f"expected 'imsi-' and 5 to 15 digits, or 'nai-USER@REALM', found {supi!r}")
    for field, text, kind in (
        ("ipv4_address", device.ipv4_address, IPv4Address),
        ("ipv6_address", device.ipv6_address, IPv6Address),
    ):
        try:
            address = kind(text) if text else None
        except ValueError:
            yield FieldViolation(field, f"expected an address as {kind.__name__[:4]} has them, found {text!r}")
            continue
        if address is not None and (address.is_unspecified or address.is_multicast):
            yield FieldViolation(field, f"expected the address of a device, found {text!r}")


def check_device(device: Device, field: str) -> Device:
    """The device with its addresses in canonical form.

    Raises InvalidArgument naming every property that is wrong, below ``field``.
    """
    found = [
        FieldViolation(f"{field}.{each.field}" if each.field else field, each.description)
        for each in _violations(device)
    ]
    if found:
        raise InvalidArgument.of_all(found)
    checked = Device()
    checked.CopyFrom(device)
    if device.ipv4_address:
        checked.ipv4_address = str(IPv4Address(device.ipv4_address))
    if device.ipv6_address:
        checked.ipv6_address = str(IPv6Address(device.ipv6_address))
    return checked


def gpsi_of(phone_number: str) -> str:
    """The GPSI of a phone number."""
    return f"msisdn-{phone_number.removeprefix('+')}"


def prefix_of(ipv6_address: str) -> str:
    """The prefix that a PDU session with this address has."""
    return str(IPv6Network((ipv6_address, _PREFIX_BITS), strict=False))


def canonical_names(device: Device) -> tuple[str, ...]:
    """Every name of a checked device in its canonical form, the most lasting one first.

    Addresses begin with "ipv4-" and "ipv6-", so that names of different kinds are never the same.
    """
    names = []
    if device.supi:
        names.append(device.supi)
    if device.phone_number:
        names.append(gpsi_of(device.phone_number))
    if device.network_access_identifier:
        names.append(f"extid-{device.network_access_identifier}")
    if device.ipv4_address:
        names.append(f"ipv4-{IPv4Address(device.ipv4_address)}")
    if device.ipv6_address:
        names.append(f"ipv6-{prefix_of(device.ipv6_address)}")
    return tuple(names)


def for_providers(device: Device) -> Device:
    """The device by the names that a provider may know: without its SUPI, unless it has no other."""
    shown = Device()
    shown.CopyFrom(device)
    if shown.phone_number or shown.network_access_identifier or shown.ipv4_address or shown.ipv6_address:
        shown.ClearField("supi")
    return shown
