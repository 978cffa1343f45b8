"""What the flows of a capture cost in memory: a process's own, before its engine has seen them and after.

table_memory.py CAPTURE prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from policing.engine_passes import rule, run_pass

from upf.capture import open_capture
from upf.engine import Engine


def own_bytes() -> int:
    """Resident memory that no file backs."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024


def main(path: str) -> None:
    with open_capture(Path(path)) as capture:
        before = own_bytes()
        engine = Engine(max_flows=1 << 20)
        engine.install([rule(8_000, 100)])
        run_pass(engine, capture, 0)
        after = own_bytes()
        print(json.dumps({"flows": engine.totals().flows, "bytes": after - before}))


if __name__ == "__main__":
    main(sys.argv[1])
