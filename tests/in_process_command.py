"""The ``castcore`` command in the process of the tests: it is its start that takes long."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
import typer.main

import nf.cli.main

# The tree of all commands takes longer to build than one of them runs.
_BUILT = typer.main.get_command(nf.cli.main.app)


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def castcore(*arguments: str | Path) -> Done:
    """The command with these arguments."""
    told, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(told), redirect_stderr(errors):
        patch.setattr(sys, "argv", ["castcore", *map(str, arguments)])
        patch.setattr(nf.cli.main, "app", _BUILT)
        try:
            nf.cli.main.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
    return Done(code, told.getvalue(), errors.getvalue())
