"""The UPF's section of the configuration."""

from __future__ import annotations

from pydantic import Field

from nf.common.config import FunctionSection


class UpfSection(FunctionSection):
    """``[upf]``."""

    # How the UPF names itself at N4.
    node_id: str = Field(default="upf", min_length=1)
    # Bound on the flow table, for IPv4 and IPv6 each; a flow takes up to 144 (IPv4) or 272 (IPv6) bytes.
    max_flows: int = Field(default=1 << 20, ge=1, le=1 << 28)
    # How often counters are looked at for reports.
    measurement_interval_ms: int = Field(default=100, ge=1, le=60_000)
