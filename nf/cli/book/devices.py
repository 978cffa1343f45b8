"""A device as it is named on the command line."""

from __future__ import annotations

import re
from ipaddress import ip_address

from nf.common.errors import InvalidArgument
from nf.netapi.v1.access_pb2 import Device

_PHONE = re.compile(r"\+[1-9][0-9]{4,14}")
_SUPI = re.compile(r"imsi-[0-9]{5,15}|nai-.+")


def device_of(text: str, option: str = "--device") -> Device:
    """``+43…`` (phone number), ``imsi-…`` (SUPI), ``USER@REALM`` or an IP address.

    Raises InvalidArgument, which names the option.
    """
    if _PHONE.fullmatch(text):
        return Device(phone_number=text)
    if _SUPI.fullmatch(text):
        return Device(supi=text)
    try:
        address = ip_address(text)
    except ValueError:
        if "@" in text:
            return Device(network_access_identifier=text)
        raise InvalidArgument(
            f"option '{option}': found {text!r}, expected a phone number (+43…), a SUPI (imsi-…), USER@REALM or an IP"
            " address"
        ) from None
    return Device(ipv4_address=text) if address.version == 4 else Device(ipv6_address=text)


def device_text(device: Device) -> str:
    """The name that people know it by best."""
    return (
        device.phone_number
        or device.network_access_identifier
        or device.ipv4_address
        or device.ipv6_address
        or device.supi
    )
