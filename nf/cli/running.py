"""Where a stack runs: each process leaves its addresses in the state directory while it serves, and commands find them.

A process that was killed cannot take its file away; who looks finds that it is gone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_DIRECTORY: Final = "running"


@contextmanager
def announced(directory: Path, http: str, grpc: Mapping[str, str]) -> Iterator[None]:
    """While it is entered, ``found`` of the same state directory tells these addresses."""
    path = directory / _DIRECTORY / f"{os.getpid()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = path.with_suffix(".new")
    begun.write_text(json.dumps({"pid": os.getpid(), "http": http, "grpc": dict(grpc)}) + "\n")
    # Whoever reads finds all of it, or nothing.
    begun.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def found(directory: Path) -> dict[str, str]:
    """The gRPC addresses of the functions that run on this state directory; the latest where there are several."""
    addresses: dict[str, str] = {}
    for path in sorted((directory / _DIRECTORY).glob("*.json"), key=_modified_ns):
        try:
            told = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if _lives(told["pid"]):
            addresses.update(told["grpc"])
    return addresses


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It is somebody else's, and runs.
        return True
    return True
