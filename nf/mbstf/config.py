"""The MBSTF's section of the configuration."""

from __future__ import annotations

from nf.common.config import FunctionSection


class MbstfSection(FunctionSection):
    """``[mbstf]``."""
