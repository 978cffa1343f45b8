"""Who tests run a castcore lab as: root, and whoever owns nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EITHER = ("root", "nobody")
# Most of a lab is the same for both: LIVE_MATRIX=1 tries everything as either.
USERS = EITHER if os.environ.get("LIVE_MATRIX") else ("nobody",)
_AS_NOBODY = Path(__file__).with_name("as_nobody.py")


def as_user(who: str) -> list[str]:
    """The words that make a command run as one of them. Skips a test where a lab cannot be had so, and tells why."""
    words = [sys.executable, str(_AS_NOBODY)] if who == "nobody" and os.geteuid() == 0 else []
    missing = [f"{tool} is not installed" for tool in ("ip", "setpriv", "unshare") if shutil.which(tool) is None]
    if who == "root" and os.geteuid() != 0:
        missing.append("it takes root")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        missing.append("there is no /dev/net/tun")
    if missing and os.environ.get("CI") == "true":
        pytest.fail("; ".join(missing))
    if missing:
        pytest.skip("; ".join(missing))
    # Also in CI: what the kernel forbids is not for us to mend.
    namespace = "--user" if who == "nobody" else "--net"
    tried = subprocess.run([*words, "unshare", namespace, "true"], capture_output=True, text=True, timeout=60)
    if tried.returncode != 0:
        pytest.skip(f"the kernel forbids it: {tried.stderr.strip()}")
    return words
