"""One harness under libFuzzer, with the sanitized engine: ``drive.py HARNESS [libFuzzer's options, inputs]``.

To be started by run.py, which builds that engine, and preloads the sanitizers' runtime that it needs.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import atheris

# What the engine is held to: its coverage would lead the fuzzer where the engine's has led it already.
ORACLE = ("upf.parsing", "upf.policing", "upf.reference", "upf.counters")


def main() -> None:
    name = sys.argv.pop(1)
    tests = Path(__file__).parents[1]
    sys.path[:0] = [str(tests.parent), str(tests)]
    import upf

    # Before the package's own directory, so that the sanitized modules there are the ones that are imported.
    upf.__path__.insert(0, os.environ["FUZZ_ENGINE"])
    with atheris.instrument_imports(include=["upf"], exclude=ORACLE):
        harness = import_module(f"fuzz.harnesses.{name}")
    # libFuzzer starts itself anew by its first argument where it compares the inputs of a corpus.
    sys.argv[0] = os.environ["FUZZ_COMMAND"]
    atheris.Setup(sys.argv, harness.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
