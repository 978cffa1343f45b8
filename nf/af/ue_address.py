"""Which UE asks at M5: the UE side of the flows, the peer's address, or what a trusted proxy says of it.

A proxy in front of the AF hides the UE's address, so it passes it on as ``x-ue-address`` (gRPC metadata, HTTP header);
only peers that the configuration trusts may do so. Anyone else is the UE itself, and its flows must be its own.
"""

from __future__ import annotations

import ipaddress
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from nf.af.errors import UeAddressMismatch, UeAddressUnknown
from nf.af.flow_descriptions import IpNetwork, host_network, is_same_ue
from nf.common.errors import InvalidArgument

UE_ADDRESS_METADATA = "x-ue-address"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the UE's own address where it is known, and whether the caller may speak for any UE."""

    address: IpNetwork | None
    trusted: bool

    def ue_address(self, named: IpNetwork | None) -> IpNetwork:
        """The UE that a policy is for, given the one that its flows name.

        Raises UeAddressMismatch when the flows name another UE than the caller, UeAddressUnknown when nothing names it.
        """
        if named is not None:
            self.check_owner(named)
            return named
        if self.address is None:
            raise UeAddressUnknown(
                "the UE is unknown: the flows leave its side empty, and a proxy speaks for it without "
                f"{UE_ADDRESS_METADATA}"
                if self.trusted
                else "the UE is unknown: the flows leave its side empty, and the peer has no IP address"
            )
        return self.address

    def owns(self, ue: IpNetwork) -> bool:
        """Whether the caller may act for this UE."""
        if self.address is None:
            return self.trusted
        return is_same_ue(self.address, ue)

    def check_owner(self, ue: IpNetwork) -> None:
        """Raises UeAddressMismatch unless the caller may act for this UE."""
        if not self.owns(ue):
            who = "a peer without an IP address" if self.address is None else str(self.address.network_address)
            raise UeAddressMismatch(
                f"the policy is for the UE {ue.network_address}, the request comes from {who}",
                metadata={"ue_address": str(ue.network_address), "caller": who},
            )


def identify(peer: str, header: str, trusted_proxies: Sequence[IpNetwork]) -> Caller:
    """The caller behind a gRPC ``peer`` ("ipv4:127.0.0.1:4711"), given the metadata ``x-ue-address`` ("" without one).

    The header of a peer that is no trusted proxy means nothing. Raises InvalidArgument for one that is no address.
    """
    return _caller(peer_host(peer), header, trusted_proxies)


def identify_http(peer: str, header: str, trusted_proxies: Sequence[IpNetwork]) -> Caller:
    """The caller behind an HTTP connection from the address ``peer``, given the header ``X-UE-Address``; as above."""
    return _caller(_host(peer), header, trusted_proxies)


def _caller(peer: IpNetwork | None, header: str, trusted_proxies: Sequence[IpNetwork]) -> Caller:
    if peer is None or not any(peer.network_address in network for network in trusted_proxies):
        return Caller(address=peer, trusted=False)
    if not header:
        return Caller(address=None, trusted=True)
    try:
        named = host_network(ipaddress.ip_address(header))
    except ValueError:
        raise InvalidArgument.of(UE_ADDRESS_METADATA, f"expected an IP address, found {header!r}") from None
    return Caller(address=named, trusted=True)


# A connection brings the same name with each of its calls.
@lru_cache(maxsize=4096)
def peer_host(peer: str) -> IpNetwork | None:
    """The host of a gRPC peer name, IPv4-mapped ones as IPv4; None where it has no address (a Unix socket)."""
    scheme, _, rest = urllib.parse.unquote(peer).partition(":")
    if scheme not in ("ipv4", "ipv6"):
        return None
    return _host(rest.rpartition(":")[0].strip("[]"))


def _host(text: str) -> IpNetwork | None:
    try:
        return host_network(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None
