"""The MBSTF's section of the configuration."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field

from nf.common.callback_hosts import check_entry
from nf.common.config import NotifyingSection


def _check_ipv4(value: str) -> str:
    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        raise ValueError("an IPv4 address") from None
    return value


def _check_ipv6(value: str) -> str:
    try:
        ipaddress.IPv6Address(value)
    except ValueError:
        raise ValueError("an IPv6 address") from None
    return value


def _check_ip(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("an IPv4 or IPv6 address") from None
    return value


Ipv4 = Annotated[str, AfterValidator(_check_ipv4)]
Ipv6 = Annotated[str, AfterValidator(_check_ipv6)]
Ip = Annotated[str, AfterValidator(_check_ip)]


class MbstfSection(NotifyingSection):
    """``[mbstf]``."""

    # Who sends the packets that receivers get, where a session does not say: the S of (S,G).
    source_ipv4_address: Ipv4 = "127.0.0.1"
    source_ipv6_address: Ipv6 = "::1"
    # How long establishing a session waits for a first object or packet.
    establish_timeout_s: float = Field(default=10.0, gt=0)
    # How long expected ingest may stay away while a session is ACTIVE before that is a failure; 0: for ever.
    ingest_timeout_s: float = Field(default=10.0, ge=0)
    # Whether a session of the packet method is established by a first packet, or by its tunnel alone.
    packet_ingest_required: bool = True
    # Where packets come in: tunnels end here, multicast groups are joined on the interface that has it.
    packet_ingest_address: Ip = "127.0.0.1"
    # Hosts that objects may be fetched from: names, "*.DOMAIN", addresses, prefixes, "*"; empty: loopback and private
    # networks.
    origin_hosts: tuple[Annotated[str, AfterValidator(check_entry)], ...] = ()
    # How long an origin may take to answer, how often a fetch is tried, and how many go on at a time, of all sessions.
    fetch_timeout_s: float = Field(default=5.0, gt=0)
    fetch_attempts: int = Field(default=3, ge=1)
    concurrent_fetches: int = Field(default=32, ge=1)
    # How large an object may be, and all objects that are held, of one session and of all.
    object_max_bytes: int = Field(default=256 * 1_048_576, ge=1)
    session_max_bytes: int = Field(default=512 * 1_048_576, ge=1)
    held_max_bytes: int = Field(default=2048 * 1_048_576, ge=1)
    # How long segments of a live presentation that does not say so itself are held for repair.
    segments_held_s: float = Field(default=60.0, gt=0)
    # How often the objects that the MBSF gives are sent.
    carried_interval_s: float = Field(default=2.0, gt=0)
    # The longest packet that is made of an object: IP total length inside the tunnel.
    packet_max_bytes: int = Field(default=1400, ge=200, le=65_535)
