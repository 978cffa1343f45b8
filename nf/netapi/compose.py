"""The composition root of the network API platform: the only place that wires its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Table

from nf.common.function import Context, Function
from nf.netapi import capacity
from nf.netapi.config import NetapiSection

# Typed tables that the store has to be opened with.
TABLES: Final[Sequence[Table]] = capacity.TABLES


def build(ctx: Context[NetapiSection]) -> Function:
    """The platform on the context's store (opened with TABLES); its peers are "pcf" and "smf"."""
    return Function(name=ctx.name, servicers=())
