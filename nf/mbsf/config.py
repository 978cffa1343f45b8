"""The MBSF's section of the configuration."""

from __future__ import annotations

from nf.common.config import NotifyingSection


class MbsfSection(NotifyingSection):
    """``[mbsf]``."""
