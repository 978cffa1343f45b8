"""MBS session IDs, by TMGI or SSM: what is wrong with one, and by which text equal ones are equal (TS 29.571 §5.9)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from nf.common.errors import FieldViolation
from nf.common.v1.mbs_pb2 import IpAddr, MbsSessionId, Ssm, Tmgi

_SERVICE_ID: Final = re.compile(r"[0-9A-Fa-f]{6}")
_MCC: Final = re.compile(r"[0-9]{3}")
_MNC: Final = re.compile(r"[0-9]{2,3}")
_NID: Final = re.compile(r"[0-9A-Fa-f]{11}")


def tmgi_key(tmgi: Tmgi) -> str:
    """MCC-MNC-SERVICE_ID: equal TMGIs have equal keys."""
    return f"{tmgi.plmn_id.mcc}-{tmgi.plmn_id.mnc}-{tmgi.mbs_service_id.lower()}"


def ssm_key(ssm: Ssm) -> str:
    """Source and group: equal ones have equal keys. Their addresses have to be such."""
    return f"{_host(ssm.source_ip_addr)} {_host(ssm.dest_ip_addr)}"


def tmgi_violations(tmgi: Tmgi, field: str) -> Iterator[FieldViolation]:
    """What is wrong with a TMGI by itself."""
    for part, pattern, found, expected in (
        ("mbs_service_id", _SERVICE_ID, tmgi.mbs_service_id, "six hexadecimal digits"),
        ("plmn_id.mcc", _MCC, tmgi.plmn_id.mcc, "three digits"),
        ("plmn_id.mnc", _MNC, tmgi.plmn_id.mnc, "two or three digits"),
    ):
        if not pattern.fullmatch(found):
            yield FieldViolation(f"{field}.{part}", f"expected {expected}, got {found!r}")


def ssm_violations(ssm: Ssm, field: str) -> Iterator[FieldViolation]:
    """What is wrong with a source and a group by themselves, and as a pair."""
    addresses = (
        (ssm.source_ip_addr, "source_ip_addr", "the address of a host", False),
        (ssm.dest_ip_addr, "dest_ip_addr", "the address of a multicast group", True),
    )
    versions = set()
    for address, name, expected, multicast in addresses:
        text = address.ipv4_addr or address.ipv6_addr
        if bool(address.ipv4_addr) == bool(address.ipv6_addr) or address.ipv6_prefix:
            yield FieldViolation(f"{field}.{name}", f"expected either ipv4_addr or ipv6_addr: {expected}")
            continue
        try:
            host = _host(address)
        except ValueError:
            yield FieldViolation(f"{field}.{name}", f"expected {expected}, got {text!r}")
            continue
        versions.add(host.version)
        if host.is_multicast is not multicast or host.is_unspecified:
            yield FieldViolation(f"{field}.{name}", f"expected {expected}, got {text!r}")
    if len(versions) > 1:
        yield FieldViolation(field, "expected two addresses of one IP version, got one of each")


def session_id_violations(session_id: MbsSessionId, field: str) -> Iterator[FieldViolation]:
    """What is wrong with an MBS session ID."""
    if not session_id.HasField("tmgi") and not session_id.HasField("ssm"):
        yield FieldViolation(field, "expected a tmgi, an ssm or both, got neither")
    if session_id.HasField("tmgi"):
        yield from tmgi_violations(session_id.tmgi, f"{field}.tmgi")
    if session_id.HasField("ssm"):
        yield from ssm_violations(session_id.ssm, f"{field}.ssm")
    if session_id.nid and not _NID.fullmatch(session_id.nid):
        yield FieldViolation(f"{field}.nid", f"expected eleven hexadecimal digits, got {session_id.nid!r}")


def _host(address: IpAddr) -> IPv4Address | IPv6Address:
    return IPv4Address(address.ipv4_addr) if address.ipv4_addr else IPv6Address(address.ipv6_addr)
