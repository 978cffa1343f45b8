"""The network API platform's section of the configuration."""

from __future__ import annotations

import hashlib
import re
from typing import Final, Self

from pydantic import Field, model_validator

from nf.common.config import NotifyingSection

# What RFC 6750 lets a bearer token be made of, and not so short that it could be tried out.
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]{16,}=*")
_SHA256: Final = re.compile(r"[0-9A-Fa-f]{64}")


class NetapiSection(NotifyingSection):
    """``[netapi]``."""

    # The bearer token of the operator, or in its place its SHA-256 as 64 hexadecimal digits; neither: a call without a
    # credential is the operator's.
    operator_token: str | None = None
    operator_token_sha256: str | None = None
    # How long access tokens last where the client does not say, and at the most.
    access_token_s: int = Field(default=3600, ge=1)
    longest_access_token_s: int = Field(default=86_400, ge=1)
    # How long an offer stands, and holds its capacity, where the agreement does not say.
    offer_validity_s: int = Field(default=300, ge=1)

    # Whether the sinks of subscriptions at the CAMARA doors may be http URLs, where the APIs say https. Those of
    # EventSinksService may be either.
    http_sinks: bool = False
    # How long a sink that has ended is still tried to be told its last events.
    sink_linger_s: float = Field(default=3600.0, gt=0)
    # How long sessions of CAMARA Quality-On-Demand may last.
    longest_session_s: int = Field(default=86_400, ge=1, le=2_147_483_647)
    # How long a session that is UNAVAILABLE can still be read; CAMARA asks for 360 s at the least.
    unavailable_sessions_kept_s: int = Field(default=360, ge=360)
    # The service area that sessions of CAMARA Quality-On-Demand are booked in; without it, the one that is everywhere,
    # else the one that the device is in.
    session_area: str | None = None
    # How many devices a network profile of CAMARA Dedicated Network is for, where the agreement does not say.
    network_devices: int = Field(default=100, ge=1)
    # The interval over which rates and losses of a network access ID are means.
    usage_interval_s: float = Field(default=10.0, gt=0, le=3600)
    # For so long after the last usage report, use is taken to go on as it was; longer than the user plane's period.
    usage_lag_s: float = Field(default=2.0, gt=0, le=3600)
    # How often thresholds are looked at beside usage reports, while anything is in use or a threshold is crossed.
    threshold_period_s: float = Field(default=1.0, gt=0)
    # A booking that nobody uses for so long within a period is told of.
    unused_after_s: float = Field(default=300.0, gt=0)
    # The least radius of areas at the CAMARA doors for geofences and verifications, in metres.
    least_area_radius_m: float = Field(default=10.0, ge=1)
    # How many geofences are kept for one agreement.
    geofences_per_agreement: int = Field(default=1000, ge=1)

    # How long after a try that has failed the network is asked again for what a device is to have.
    access_retry_s: float = Field(default=5.0, gt=0)
    # How long an access waits for a device that is not attached, before it ends and gives its place to another device.
    detached_accesses_kept_s: float = Field(default=3600.0, ge=0)
    # How long a device access that has ended can still be read.
    ended_accesses_kept_s: float = Field(default=3600.0, ge=0)

    @model_validator(mode="after")
    def _check_token(self) -> Self:
        # A token that is refused is not shown.
        if self.operator_token is not None and self.operator_token_sha256 is not None:
            raise ValueError("either operator_token or operator_token_sha256")
        if self.operator_token is not None and not _TOKEN.fullmatch(self.operator_token):
            raise ValueError("operator_token of at least 16 characters out of letters, digits and -._~+/")
        if self.operator_token_sha256 is not None and not _SHA256.fullmatch(self.operator_token_sha256):
            raise ValueError("operator_token_sha256 as 64 hexadecimal digits")
        return self

    @property
    def operator_digest(self) -> str | None:
        """The SHA-256 of the operator's token as hexadecimal digits; None: there is none."""
        if self.operator_token is not None:
            return hashlib.sha256(self.operator_token.encode()).hexdigest()
        return self.operator_token_sha256.lower() if self.operator_token_sha256 is not None else None
