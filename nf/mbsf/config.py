"""The MBSF's section of the configuration."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field

from nf.common.config import NotifyingSection


def _check_groups(value: str) -> str:
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        raise ValueError("a prefix of multicast addresses such as 232.64.0.0/12") from None
    if not network.is_multicast:
        raise ValueError("a prefix of multicast addresses such as 232.64.0.0/12")
    return value


class MbsfSection(NotifyingSection):
    """``[mbsf]``."""

    # So long before its start time a distribution session is established (TS 26.502 §4.6.1 step 2).
    establishment_lead_s: float = Field(default=30.0, ge=0)
    # How long the MBSTF may take to ingest a first object or packet where the start time leaves it no more than that.
    establishment_timeout_s: float = Field(default=10.0, gt=0)
    # After so long without data an ACTIVE session is deactivated, as after any severe error; absent: it is only told.
    ingest_failure_severe_after_s: float | None = Field(default=None, ge=0)
    # How many calls to other functions are under way at a time, of those that reserve and of the others; those that
    # wait for data to be ingested do not count. Who waits is let in with others.
    concurrent_calls: int = Field(default=48, ge=1)
    # How long a call to another function may take, and the longest pause before one that has to succeed is tried again.
    call_timeout_s: float = Field(default=10.0, gt=0)
    longest_retry_pause_s: float = Field(default=30.0, gt=0)
    # Multicast groups and the port of distribution sessions whose provider has named none.
    multicast_groups: Annotated[str, AfterValidator(_check_groups)] = "232.64.0.0/12"
    multicast_port: int = Field(default=5000, ge=1, le=65535)
    # How long clients may keep an announcement that they have fetched.
    announcement_max_age_s: int = Field(default=5, ge=0)
