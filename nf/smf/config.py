"""The SMF's section of the configuration."""

from __future__ import annotations

from pydantic import Field

from nf.common.config import FunctionSection


class SmfSection(FunctionSection):
    """``[smf]``."""

    # How often the UPF is asked whether it lives, and how long it may take to answer.
    heartbeat_interval_s: float = Field(default=0.5, gt=0)
    heartbeat_timeout_s: float = Field(default=1.0, gt=0)
    # Time between usage reports of traffic that flows; 0 leaves it to the UPF.
    measurement_period_ms: int = Field(default=0, ge=0, le=3_600_000)
    # How long a request, or the start, waits for a UPF that is away or being brought back in step.
    upf_wait_s: float = Field(default=2.0, ge=0)
