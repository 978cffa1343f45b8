"""The SMF's section of the configuration."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from nf.common.config import FunctionSection, Section
from nf.common.v1.mbs_pb2 import PlmnId
from nf.smf.requests import MAX_AMBR_BPS, SessionAmbr

_SERVICE_ID: Final = re.compile(r"[0-9A-Fa-f]{6}")
_TAI: Final = re.compile(r"[0-9]{3}-[0-9]{2,3}-(?:[0-9A-Fa-f]{4}|[0-9A-Fa-f]{6})")
_CELL: Final = re.compile(r"[0-9]{3}-[0-9]{2,3}-[0-9A-Fa-f]{9}")


def _matching(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(expected)
        return value.lower()

    return AfterValidator(check)


def _check_host(value: str) -> str:
    try:
        found = ip_address(value)
    except ValueError:
        raise ValueError("an IP address") from None
    if found.is_multicast or found.is_unspecified:
        raise ValueError("the address of a host")
    return str(found)


def _check_group(value: str) -> str:
    try:
        found = ip_address(value)
    except ValueError:
        raise ValueError("an IP address") from None
    if not found.is_multicast:
        raise ValueError("the address of a multicast group")
    return str(found)


class GnbSection(Section):
    """``[[smf.mbs.gnbs]]``: where a gNB serves, and how MBS data reaches it (N3mb)."""

    # How it is called in logs and errors.
    name: str = Field(min_length=1, max_length=128)
    # The tracking areas that it serves, MCC-MNC-TAC: "001-01-000001".
    tais: tuple[Annotated[str, _matching(_TAI, 'a tracking area as MCC-MNC-TAC ("001-01-000001")')], ...] = ()
    # The cells that it serves, MCC-MNC-NCI: "001-01-000000010".
    cells: tuple[Annotated[str, _matching(_CELL, 'a cell as MCC-MNC-NCI ("001-01-000000010")')], ...] = ()
    # Unicast delivery: where it receives GTP-U. Several gNBs may share one.
    address: Annotated[str, AfterValidator(_check_host)] | None = None
    # Shared delivery, in place of it: the group that it has joined. gNBs with the same one get every packet once.
    group: Annotated[str, AfterValidator(_check_group)] | None = None
    port: int = Field(default=2152, ge=1, le=65_535)
    # The TEID of its first session; the others count on from there.
    first_teid: int = Field(default=1, ge=1, le=0x7FFF_FFFF)
    # Of shared delivery: the interface of the UPF that packets leave by; empty: as the UPF is configured.
    interface: str = ""

    @model_validator(mode="after")
    def _has_one_delivery(self) -> Self:
        if (self.address is None) == (self.group is None):
            raise ValueError("either 'address' or 'group'")
        if not self.tais and not self.cells:
            raise ValueError("'tais' or 'cells'")
        return self


def _check_gnbs(value: tuple[GnbSection, ...]) -> tuple[GnbSection, ...]:
    if len({each.name for each in value}) != len(value):
        raise ValueError("a name of its own for each gNB")
    return value


class MbsSection(Section):
    """``[smf.mbs]``: the SMF as an MB-SMF."""

    # The network that TMGIs are allocated in.
    mcc: Annotated[str, _matching(re.compile(r"[0-9]{3}"), "three digits")] = "001"
    mnc: Annotated[str, _matching(re.compile(r"[0-9]{2,3}"), "two or three digits")] = "01"
    # The MBS service identifiers that are this SMF's to allocate, both included.
    first_service_id: Annotated[str, _matching(_SERVICE_ID, "six hexadecimal digits")] = "000001"
    last_service_id: Annotated[str, _matching(_SERVICE_ID, "six hexadecimal digits")] = "ffffff"
    # How long a TMGI is allocated, unless it is refreshed.
    tmgi_lifetime_s: float = Field(default=86_400.0, gt=0)
    # Where MBS data is delivered to; none: by the branches that the UPF is configured with, whatever the service area.
    gnbs: Annotated[tuple[GnbSection, ...], AfterValidator(_check_gnbs)] = ()

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if int(self.first_service_id, 16) > int(self.last_service_id, 16):
            raise ValueError("first_service_id at most last_service_id")
        return self

    @property
    def plmn_id(self) -> PlmnId:
        """The network."""
        return PlmnId(mcc=self.mcc, mnc=self.mnc)


class SmfSection(FunctionSection):
    """``[smf]``."""

    # How often the UPF is asked whether it lives, and how long it may take to answer.
    heartbeat_interval_s: float = Field(default=0.5, gt=0)
    heartbeat_timeout_s: float = Field(default=1.0, gt=0)
    # Time between usage reports of traffic that flows; 0 leaves it to the UPF.
    measurement_period_ms: int = Field(default=0, ge=0, le=3_600_000)
    # How long a request, or the start, waits for a UPF that is away or being brought back in step.
    upf_wait_s: float = Field(default=2.0, ge=0)
    # Session-AMBR of PDU sessions that come without one: what their flows without a guaranteed bit rate may use
    # together; none: no bound.
    session_ambr_dl_bps: int | None = Field(default=None, ge=1, le=MAX_AMBR_BPS)
    session_ambr_ul_bps: int | None = Field(default=None, ge=1, le=MAX_AMBR_BPS)
    # The SMF as an MB-SMF.
    mbs: MbsSection = Field(default_factory=MbsSection)

    @property
    def session_ambr(self) -> SessionAmbr:
        """What a PDU session has that asks for none."""
        return SessionAmbr(self.session_ambr_dl_bps, self.session_ambr_ul_bps)
