"""The PCF's section of the configuration."""

from __future__ import annotations

from nf.common.config import FunctionSection


class PcfSection(FunctionSection):
    """``[pcf]``."""
