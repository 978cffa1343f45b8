"""One harness under libFuzzer, with the sanitized engine: ``drive.py HARNESS [libFuzzer's options, inputs]``.

To be started by run.py, which builds that engine, and preloads the sanitizers' runtime that it needs.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from hashlib import sha1
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
    with atheris.instrument_imports(include=["upf", "nf.client.mbs"], exclude=ORACLE):
        harness = import_module(f"fuzz.harnesses.{name}")
    # libFuzzer starts itself anew by its first argument where it compares the inputs of a corpus.
    sys.argv[0] = os.environ["FUZZ_COMMAND"]
    atheris.Setup(sys.argv, keeping_what_fails(harness.check))
    atheris.Fuzz()


def keeping_what_fails(check: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """An exception is a finding like any other; the process ends here, before the interpreter is taken apart."""

    def checked(data: bytes) -> None:
        try:
            check(data)
        except Exception:
            finding = Path(os.environ["FUZZ_FINDINGS"]) / f"failed-{sha1(data, usedforsecurity=False).hexdigest()}"
            finding.write_bytes(data)
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(77)

    return checked


if __name__ == "__main__":
    main()
