"""The compiled user plane: of its modules, the one for this machine.

``CASTCORE_ENGINE`` (``baseline`` or ``x86-64-v3``) chooses by hand, for tests and comparisons.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Collection
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from upf.errors import UpfError

BASELINE: Final = "baseline"
X86_64_V3: Final = "x86-64-v3"

_MODULES: Final = {BASELINE: "upf._engine", X86_64_V3: "upf._engine_v3"}
# What x86-64-v3 has beyond the first x86-64, by the names that Linux gives.
_V3_FLAGS: Final = frozenset({
    "abm", "avx", "avx2", "bmi1", "bmi2", "cx16", "f16c", "fma", "lahf_lm", "movbe", "pni", "popcnt", "sse4_1",
    "sse4_2", "ssse3", "xsave",
})  # fmt: skip


def level_of(machine: str, cpu_flags: Collection[str]) -> str:
    """Which module suits a machine with these CPU flags."""
    return X86_64_V3 if machine in ("x86_64", "AMD64") and _V3_FLAGS.issubset(cpu_flags) else BASELINE


def _cpu_flags() -> frozenset[str]:
    try:
        with Path("/proc/cpuinfo").open() as lines:
            for line in lines:
                if line.startswith("flags"):
                    return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()


def available() -> tuple[str, ...]:
    """The modules that were built and that this machine can run, the best one last."""
    suits = level_of(platform.machine(), _cpu_flags())
    levels = (BASELINE,) if suits == BASELINE else (BASELINE, suits)
    return tuple(level for level in levels if find_spec(_MODULES[level]) is not None)


def _choose() -> str:
    chosen = os.environ.get("CASTCORE_ENGINE")
    if chosen is None:
        return available()[-1]
    if chosen not in _MODULES:
        raise UpfError(f"CASTCORE_ENGINE: found {chosen!r}, expected one of {', '.join(_MODULES)}")
    return chosen


INSTRUCTIONS: Final = _choose()
"""Which of the modules this is: ``baseline`` or ``x86-64-v3``."""

if TYPE_CHECKING:
    from upf import _engine as compiled
else:
    compiled = import_module(_MODULES[INSTRUCTIONS])

Engine = compiled.Engine
Walk = compiled.Walk
Wire = compiled.Wire
N3Uplink = compiled.N3Uplink
N3Downlink = compiled.N3Downlink
cut = compiled.cut
time_span_ns = compiled.time_span_ns
dissect = compiled.dissect
MALFORMED_REASONS = compiled.MALFORMED_REASONS
GTPU_MESSAGES = compiled.GTPU_MESSAGES
MALFORMED = compiled.MALFORMED
UNMATCHED = compiled.UNMATCHED
CONFORMING = compiled.CONFORMING
EXCEEDING = compiled.EXCEEDING
DROPPED = compiled.DROPPED
YELLOW = compiled.YELLOW
HELD = compiled.HELD
