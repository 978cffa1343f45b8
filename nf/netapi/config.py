"""The network API platform's section of the configuration."""

from __future__ import annotations

from nf.common.config import NotifyingSection


class NetapiSection(NotifyingSection):
    """``[netapi]``."""
