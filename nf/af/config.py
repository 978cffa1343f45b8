"""The AF's section of the configuration."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, Field

from nf.af.flow_descriptions import IpNetwork
from nf.af.policy_templates import TemplateLimits
from nf.common.config import FunctionSection

_SNSSAI = re.compile(r"([0-9]{1,3})(-[0-9A-Fa-f]{6})?")


def _check_snssai(value: str) -> str:
    match = _SNSSAI.fullmatch(value)
    if match is None or int(match[1]) > 255:
        raise ValueError('a slice as "SST" or "SST-SD" ("1", "1-00ABCD")')
    return value


def _check_network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise ValueError('an address or a prefix ("127.0.0.0/8")') from None
    return value


def _check_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("an absolute http or https URL")
    return value


class AfSection(FunctionSection):
    """``[af]``."""

    # Where clients reach M5, as the service access information tells them; empty: at grpc_address.
    m5_server_addresses: tuple[Annotated[str, AfterValidator(_check_url)], ...] = ()
    # How long clients may keep service access information.
    service_access_max_age_s: int = Field(default=60, ge=0)
    # What policy templates may name; empty: anything.
    allowed_dnns: tuple[str, ...] = ()
    allowed_snssais: tuple[Annotated[str, AfterValidator(_check_snssai)], ...] = ()
    allowed_sponsors: tuple[str, ...] = ()
    # Providers (aspId) that may ask for the location of UEs; empty: every one.
    location_asp_ids: tuple[str, ...] = ()
    # Peers that may say in x-ue-address which UE they speak for. Anyone else is the UE itself.
    trusted_proxies: tuple[Annotated[str, AfterValidator(_check_network)], ...] = ("127.0.0.0/8", "::1/128")

    @property
    def template_limits(self) -> TemplateLimits:
        """What policy templates may name."""
        return TemplateLimits(dnns=self.allowed_dnns, snssais=self.allowed_snssais, sponsors=self.allowed_sponsors)

    @property
    def trusted_networks(self) -> tuple[IpNetwork, ...]:
        """The trusted proxies."""
        return tuple(ipaddress.ip_network(each) for each in self.trusted_proxies)

    @property
    def server_addresses(self) -> tuple[str, ...]:
        """Where clients reach M5."""
        return self.m5_server_addresses or (f"http://{self.grpc_address}",)
