"""The composition root of the MBSF: the only place that wires its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Table

from nf.common.function import Context, Function
from nf.mbsf.config import MbsfSection

# Typed tables that the store has to be opened with.
TABLES: Final[Sequence[Table]] = ()


def build(ctx: Context[MbsfSection]) -> Function:
    """The MBSF on the context's store (opened with TABLES); its peers are "pcf", "smf" and "mbstf"."""
    return Function(name=ctx.name, servicers=())
