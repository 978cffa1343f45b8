"""Devices as CAMARA APIs name them: in the body, or by a three-legged access token (CAMARA Commonalities)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.json_text import SHOWN_LENGTH
from nf.netapi.camara_checks import checked
from nf.netapi.errors import MissingIdentifier, UnnecessaryIdentifier, UnsupportedIdentifier
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.camara_types_pb2 import CamaraDevice, CamaraDeviceIpv4Address


@dataclass(frozen=True, slots=True)
class Name:
    """One name of a device: as the platform has it, and as the request did."""

    device: Device
    # None: the access token has named it.
    view: CamaraDevice | None


def subject_names(token_device: Device | None, view: CamaraDevice | None, *, required: bool = True) -> list[Name]:
    """The names of the device that a request is about, the one to use first; none: it is about no device.

    ``token_device`` is whom a three-legged access token stands for. Raises MissingIdentifier where neither names one
    (and one is ``required``), UnnecessaryIdentifier where both do, and as ``names_of``.
    """
    if token_device is not None:
        if view is not None:
            raise UnnecessaryIdentifier("device: expected none, the access token stands for a device already")
        return [Name(token_device, None)]
    if view is None:
        if required:
            raise MissingIdentifier("device: expected one: the access token stands for none")
        return []
    return names_of(view)


def names_of(view: CamaraDevice, path: str = "device") -> list[Name]:
    """Each supported name that a request has for a device, the one to use first.

    Raises InvalidArgument for what is no name, UnsupportedIdentifier where there is none that is supported.
    """
    if not view.ListFields():
        raise InvalidArgument.of(path, "expected at least one identifier, found none")
    _check(view, path)
    names = []
    if view.HasField("phone_number"):
        names.append(Name(Device(phone_number=view.phone_number), CamaraDevice(phone_number=view.phone_number)))
    if view.HasField("ipv4_address"):
        address = view.ipv4_address
        own = address.private_address if address.HasField("private_address") else address.public_address
        names.append(Name(Device(ipv4_address=own), CamaraDevice(ipv4_address=address)))
    if view.HasField("ipv6_address"):
        names.append(Name(Device(ipv6_address=view.ipv6_address), CamaraDevice(ipv6_address=view.ipv6_address)))
    if not names:
        raise UnsupportedIdentifier(
            f"{path}: expected phoneNumber, ipv4Address or ipv6Address, found networkAccessIdentifier only"
        )
    return names


def view_of(device: Device) -> CamaraDevice:
    """A device of the platform as CAMARA names it, by the best of its names."""
    if device.phone_number:
        return CamaraDevice(phone_number=device.phone_number)
    if device.ipv4_address:
        both = CamaraDeviceIpv4Address(public_address=device.ipv4_address, private_address=device.ipv4_address)
        return CamaraDevice(ipv4_address=both)
    if device.ipv6_address:
        return CamaraDevice(ipv6_address=device.ipv6_address)
    return CamaraDevice(network_access_identifier=device.network_access_identifier or device.supi)


def _check(view: CamaraDevice, path: str) -> None:
    violations: list[FieldViolation] = []
    try:
        checked(view)
    except InvalidArgument as error:
        violations += [FieldViolation(f"{path}.{each.field}", each.description) for each in error.violations]
    if view.HasField("ipv4_address"):
        address = view.ipv4_address
        for name, is_set, text in (
            ("publicAddress", address.HasField("public_address"), address.public_address),
            ("privateAddress", address.HasField("private_address"), address.private_address),
        ):
            if is_set and not _is_address(IPv4Address, text):
                violations.append(_no_address(f"{path}.ipv4Address.{name}", 4, text))
        if not address.HasField("public_address"):
            violations.append(FieldViolation(f"{path}.ipv4Address.publicAddress", "expected, found nothing"))
        elif not (address.HasField("private_address") or address.HasField("public_port")):
            why = "expected privateAddress or publicPort beside publicAddress, found neither"
            violations.append(FieldViolation(f"{path}.ipv4Address", why))
    if view.HasField("ipv6_address") and not _is_address(IPv6Address, view.ipv6_address):
        violations.append(_no_address(f"{path}.ipv6Address", 6, view.ipv6_address))
    if violations:
        raise InvalidArgument.of_all(violations)


def _is_address(kind: type[IPv4Address] | type[IPv6Address], text: str) -> bool:
    try:
        # A zone says something to one host only.
        return "%" not in text and bool(kind(text))
    except AddressValueError:
        return False


def _no_address(path: str, version: int, found: str) -> FieldViolation:
    return FieldViolation(path, f"expected an IPv{version} address, found {found[:SHOWN_LENGTH]!r}")
