"""The AF's section of the configuration."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from nf.af.flow_descriptions import IpNetwork
from nf.af.policy_templates import TemplateLimits
from nf.common.config import NotifyingSection, Section

# What RFC 6750 lets a bearer token be made of, and not so short that it could be tried out.
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]{16,}=*")
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
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


class ProviderSection(Section):
    """``[[af.providers]]``: who may call at M1, by the bearer token that it shows."""

    # Who it is. May stand in several tables, each with a token of its own.
    asp_id: str = Field(min_length=1, max_length=256)
    # The token, or in its place its SHA-256 as 64 hexadecimal digits.
    token: str | None = None
    token_sha256: str | None = None
    # Whether its consumption reporting may ask for the location of UEs.
    may_ask_location: bool = False
    # Whether it may see and change what belongs to others, and suspend and resume policy templates.
    operator: bool = False

    @model_validator(mode="after")
    def _check_token(self) -> Self:
        # Checked together, so that a token that is refused is not shown.
        if (self.token is None) == (self.token_sha256 is None):
            raise ValueError("either token or token_sha256")
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ValueError("a token of at least 16 characters out of letters, digits and -._~+/")
        if self.token_sha256 is not None and not _SHA256.fullmatch(self.token_sha256):
            raise ValueError("token_sha256 as 64 hexadecimal digits")
        return self

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the token."""
        if self.token is not None:
            return hashlib.sha256(self.token.encode()).digest()
        return bytes.fromhex(self.token_sha256 or "")


def _check_providers(value: tuple[ProviderSection, ...]) -> tuple[ProviderSection, ...]:
    if len({each.digest for each in value}) != len(value):
        raise ValueError("a token of its own for each provider")
    return value


class AfSection(NotifyingSection):
    """``[af]``."""

    # Where clients reach M5, as the service access information tells them; empty: at grpc_address.
    m5_server_addresses: tuple[Annotated[str, AfterValidator(_check_url)], ...] = ()
    # How long clients may keep service access information.
    service_access_max_age_s: int = Field(default=60, ge=0)
    # What policy templates may name; empty: anything.
    allowed_dnns: tuple[str, ...] = ()
    allowed_snssais: tuple[Annotated[str, AfterValidator(_check_snssai)], ...] = ()
    allowed_sponsors: tuple[str, ...] = ()
    # Providers (aspId) that may ask for the location of UEs, beside may_ask_location; both empty: every one.
    location_asp_ids: tuple[str, ...] = ()
    # Who may call at M1; empty: everyone, without a credential.
    providers: Annotated[tuple[ProviderSection, ...], AfterValidator(_check_providers)] = ()
    # How often clients report where the provider leaves it to the AF.
    consumption_reporting_interval_s: int = Field(default=60, ge=1)
    # How long a consumption reporting session lives unused (never less than three reporting intervals).
    consumption_session_idle_s: int = Field(default=3600, ge=1)
    # How long what was consumed is kept, and how often what has been kept long enough is removed.
    consumption_reports_kept_s: int = Field(default=90 * 86_400, ge=1)
    report_sweep_interval_s: int = Field(default=600, ge=1)
    # How large a metrics report may be, and how long it is kept.
    metrics_report_max_bytes: int = Field(default=262_144, ge=1, le=16_777_216)
    metrics_reports_kept_s: int = Field(default=30 * 86_400, ge=1)
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
