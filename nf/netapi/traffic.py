"""Which packets a booking is about: flow descriptions (TS 29.214 §5.3.8) and names of servers. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from nf.common.errors import FieldViolation
from nf.netapi.v1.booking_pb2 import BookedTraffic

MAX_FLOWS: Final = 32
_FORM: Final = re.compile(r"permit out (\S+) from (\S+)(?: (\S+))? to (\S+)(?: (\S+))?")
_PORT: Final = r"\d{1,5}(?:-\d{1,5})?"
_PORTS: Final = re.compile(rf"{_PORT}(?:,{_PORT})*")
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_EXPECTED: Final = "expected 'permit out PROTOCOL from ADDRESS [PORTS] to assigned [PORTS]'"


def check(traffic: BookedTraffic, field: str = "traffic") -> Iterator[FieldViolation]:
    """What is wrong with it, by paths below ``field``."""
    for name, named in (("flow_descriptions", traffic.flow_descriptions), ("domain_names", traffic.domain_names)):
        if len(named) > MAX_FLOWS:
            yield FieldViolation(f"{field}.{name}", f"expected at most {MAX_FLOWS}, found {len(named)}")
    for index, text in enumerate(traffic.flow_descriptions):
        wrong = _flow(text)
        if wrong:
            yield FieldViolation(f"{field}.flow_descriptions[{index}]", wrong)
    for index, text in enumerate(traffic.domain_names):
        wrong = _domain(text)
        if wrong:
            yield FieldViolation(f"{field}.domain_names[{index}]", wrong)


def _flow(text: str) -> str:
    match = _FORM.fullmatch(" ".join(text.split()))
    if match is None:
        return f"{_EXPECTED}, found {text[:128]!r}"
    protocol, source, source_ports, destination, destination_ports = match.groups()
    if protocol != "ip" and not (protocol.isascii() and protocol.isdigit() and int(protocol[:4]) <= 255):
        return f"expected the protocol as ip or 0 to 255, found {protocol[:16]!r}"
    versions = set()
    for address in (source, destination):
        if address == "any" or (address == "assigned" and address is destination):
            continue
        try:
            versions.add(ipaddress.ip_network(address, strict=False).version)
        except ValueError:
            return f"{_EXPECTED}, found the address {address[:64]!r}"
    if len(versions) > 1:
        return "expected two addresses of one IP version, found both"
    for ports in (source_ports, destination_ports):
        if ports is not None and not _are_ports(ports):
            return f"expected ports such as 443,8000-8099, found {ports[:64]!r}"
    return ""


def _are_ports(text: str) -> bool:
    if not _PORTS.fullmatch(text):
        return False
    for each in text.split(","):
        first, _, last = each.partition("-")
        if not int(first) <= int(last or first) <= 65535:
            return False
    return True


def _domain(text: str) -> str:
    name = text.removesuffix(".").removeprefix("*.")
    if not name.isascii() or len(name) > 253 or not all(_LABEL.fullmatch(each) for each in name.split(".")):
        return f"expected a name such as media.example.com or *.example.com, found {text[:64]!r}"
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return ""
    return f"expected a domain name, found the address {text[:64]!r}"
