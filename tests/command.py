"""The castcore command as tests run it: a process of its own, beside the Python that runs the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CASTCORE = Path(sys.executable).with_name("castcore")


def castcore(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CASTCORE, *map(str, arguments)], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


def replayed(*arguments: str | Path) -> dict:
    done = castcore("replay", *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)
