"""The UPF's section of the configuration."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from nf.common.config import FunctionSection, Section
from upf.errors import UpfError
from upf.live.devices import MAX_MTU, MIN_MTU, Place
from upf.live.n3_place import N3Place
from upf.mbs.places import parse_ingress


def _check_place(value: str) -> str:
    try:
        Place.parse(value)
    except UpfError:
        raise ValueError('a device as IFACE or IFACE@NETNS ("ue0@ue")') from None
    return value


def _check_n3(value: str) -> str:
    try:
        N3Place.parse(value)
    except UpfError as error:
        raise ValueError(f"an address with or without a port: {error}") from None
    return value


def _check_ingress(value: str) -> str:
    try:
        parse_ingress(value)
    except UpfError as error:
        raise ValueError(f"an address of this host with or without a port: {error}") from None
    return value


def _check_host_address(value: str) -> str:
    try:
        address = ip_address(value)
    except ValueError:
        raise ValueError("an IPv4 or IPv6 address of this host") from None
    if address.is_multicast or address.is_unspecified:
        raise ValueError("an IPv4 or IPv6 address of this host")
    return value


PlaceText = Annotated[str, AfterValidator(_check_place)]
N3Text = Annotated[str, AfterValidator(_check_n3)]


class TunSection(Section):
    """``[upf.tun]``."""

    # The device on the side of the UEs: IFACE or IFACE@NETNS.
    access: PlaceText | None = None
    # In its place, where gNBs send GTP-U: ADDRESS, ADDRESS:PORT or ADDRESS:PORT@NETNS.
    n3: N3Text | None = None
    # The device on the side of the data network.
    core: PlaceText
    # Addresses with their prefix lengths that the device is given where it is.
    access_addresses: tuple[str, ...] = ()
    core_addresses: tuple[str, ...] = ()
    # Networks that are reached through the device where it is; "default" is everything.
    access_routes: tuple[str, ...] = ()
    core_routes: tuple[str, ...] = ()
    # MTU of both devices; none: 1500, with N3 1400.
    mtu: int | None = Field(default=None, ge=MIN_MTU, le=MAX_MTU)

    @model_validator(mode="after")
    def _has_one_access(self) -> Self:
        if (self.access is None) == (self.n3 is None):
            raise ValueError("expected either 'access' or 'n3'")
        return self


IngressText = Annotated[str, AfterValidator(_check_ingress)]
HostAddressText = Annotated[str, AfterValidator(_check_host_address)]


class MbsSection(Section):
    """``[upf.mbs]``."""

    # Where Nmb9 tunnels end: ADDRESS or ADDRESS:PORT; without a port, or where it is taken, a free one. Of those of one
    # IP version the first is used.
    ingress: tuple[IngressText, ...] = Field(default=("127.0.0.1",), min_length=1)
    # Branches of sessions that are established without any: one by multicast on multicast_interface, or none.
    default_branches: Literal["multicast", "none"] = "multicast"
    # Where multicast leaves that names no interface: a name, or an address that the interface has.
    multicast_interface: str = Field(default="lo", min_length=1)
    # How it leaves: from raw sockets (any source; needs CAP_NET_RAW), from UDP sockets (only sources that are addresses
    # of this host), or from raw ones where this process may open them.
    multicast: Literal["auto", "raw", "udp"] = "auto"
    # Source addresses of GTP-U, one of an IP version; none: the kernel's choice.
    gtp_u: tuple[HostAddressText, ...] = ()


class UpfSection(FunctionSection):
    """``[upf]``."""

    # How the UPF names itself at N4.
    node_id: str = Field(default="upf", min_length=1)
    # Bound on the flow table, for IPv4 and IPv6 each; a flow takes up to 144 (IPv4) or 272 (IPv6) bytes.
    max_flows: int = Field(default=1 << 20, ge=1, le=1 << 28)
    # How often counters are looked at for reports.
    measurement_interval_ms: int = Field(default=100, ge=1, le=60_000)
    # The pair of tun devices between which live traffic is policed. Without this section the UPF takes captures.
    tun: TunSection | None = None
    # What is multicast and broadcast.
    mbs: MbsSection = MbsSection()
