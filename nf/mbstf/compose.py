"""The composition root of the MBSTF: the only place that wires its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Table

from nf.common.function import Context, Function
from nf.mbstf.config import MbstfSection

# Typed tables that the store has to be opened with.
TABLES: Final[Sequence[Table]] = ()


def build(ctx: Context[MbstfSection]) -> Function:
    """The MBSTF on the context's store (opened with TABLES)."""
    return Function(name=ctx.name, servicers=())
