"""`make fuzz`: every harness under libFuzzer, the engine under AddressSanitizer and UndefinedBehaviorSanitizer at once.

Builds the engine apart (build/fuzz), by clang. A harness gets its kept corpus and its seeds, then so many seconds; a
finding is a file below build/fuzz/findings, and the command that repeats it is printed. Exit code 1 where there is one.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha1
from importlib.util import find_spec
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
BUILD = ROOT / "build" / "fuzz"
sys.path[:0] = [str(ROOT), str(TESTS)]

from fuzz.kept import harnesses, inputs, keep  # noqa: E402

SANITIZERS = "-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all -fno-omit-frame-pointer -g"
LONGEST_INPUT = 4096
# An input that takes longer is a finding, and so is more memory than this.
HANGS_AFTER_S = 20
MOST_MEMORY_MIB = 4096


@dataclass(frozen=True)
class Outcome:
    """What one harness did: inputs run, edges reached by the corpus and in the end, findings, its own log."""

    harness: str
    executions: int
    edges_before: int
    edges: int
    corpus: int
    findings: list[Path]
    log: Path
    exit_code: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("harness", nargs="*", choices=[[], *harnesses()], help="all, where none is named")
    parser.add_argument("--seconds", type=float, default=15, help="for each harness (default: 15)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="harnesses at a time (default: the cores)"
    )
    parser.add_argument("--input", type=Path, help="run the one named harness on this file alone: repeats a finding")
    parser.add_argument("--keep", action="store_true", help="afterwards, keep the least corpus that covers as much")
    options = parser.parse_args()
    if problem := missing():
        sys.exit(f"fuzz: {problem}")
    build()
    names = options.harness or harnesses()
    if options.input is not None:
        if len(names) != 1:
            parser.error("--input: name the one harness that is to read it")
        return driven(names[0], str(options.input)).returncode
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(lambda name: fuzz(name, options.seconds), names))
    report(outcomes)
    if options.keep:
        for name in names:
            print(f"{name}: {least_corpus(name)} inputs kept")
    return 1 if any(outcome.exit_code or outcome.findings for outcome in outcomes) else 0


def missing() -> str:
    """What this machine lacks, and where it comes from; empty where it lacks nothing."""
    if shutil.which("clang") is None:
        return "clang is missing: 'apt-get install clang', or what your distribution calls it"
    if find_spec("atheris") is None:
        return "atheris is missing: 'make fuzz' installs it (it is there for Python 3.11 to 3.13)"
    return ""


def build() -> None:
    """The compiled modules with sanitizers and coverage counters, beside the ordinary ones."""
    print("building the sanitized engine", flush=True)
    flags = f"{SANITIZERS} -fsanitize-ignorelist={Path(__file__).parent / 'sanitizers.ignore'}"
    subprocess.run(
        [
            *(sys.executable, "setup.py", "--quiet", "build_ext"),
            *("--build-lib", str(BUILD / "lib"), "--build-temp", str(BUILD / "objects")),
        ],
        cwd=ROOT,
        env=os.environ | {"CC": "clang", "LDSHARED": "clang -shared", "CFLAGS": flags, "CASTCORE_ENGINE": "baseline"},
        check=True,
    )


def driven(name: str, *arguments: str, log: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run drive.py, its output into ``log`` if there is one."""
    runtime = Path(find_spec("atheris").origin).parents[1] / "asan_with_fuzzer.so"
    environment = os.environ | {
        "LD_PRELOAD": str(runtime),
        # The interpreter itself leaks at its end. Blocks given back are watched for a while, not for ever.
        "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=16:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
        "FUZZ_ENGINE": str(BUILD / "lib" / "upf"),
        "FUZZ_FINDINGS": str(BUILD / "findings" / name),
        "CASTCORE_ENGINE": "baseline",
    }
    symbolizer = subprocess.run(
        ["clang", "-print-prog-name=llvm-symbolizer"], capture_output=True, text=True, check=True
    )
    if Path(symbolizer.stdout.strip()).is_absolute():
        environment["ASAN_SYMBOLIZER_PATH"] = symbolizer.stdout.strip()
    script = BUILD / f"{name}.sh"
    words = (sys.executable, str(Path(__file__).parent / "drive.py"), name)
    script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    script.chmod(0o755)
    environment["FUZZ_COMMAND"] = str(script)
    command = [str(script), *arguments]
    if log is None:
        return subprocess.run(command, env=environment, check=False)
    with log.open("wb") as stream:
        return subprocess.run(command, env=environment, stdout=stream, stderr=subprocess.STDOUT, check=False)


def fuzz(name: str, seconds: float) -> Outcome:
    corpus, findings, log = BUILD / "corpus" / name, BUILD / "findings" / name, BUILD / f"{name}.log"
    findings.mkdir(parents=True, exist_ok=True)
    corpus.mkdir(parents=True, exist_ok=True)
    for data in inputs(name):
        (corpus / sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    before = set(findings.iterdir())
    done = driven(
        name,
        f"-max_total_time={seconds:.0f}",
        f"-max_len={LONGEST_INPUT}",
        f"-timeout={HANGS_AFTER_S}",
        f"-rss_limit_mb={MOST_MEMORY_MIB}",
        f"-artifact_prefix={findings}/",
        "-print_final_stats=1",
        str(corpus),
        log=log,
    )
    said = log.read_text(errors="replace")
    edges = [int(number) for number in re.findall(r"^#\d+\s+\w+\s+cov: (\d+)", said, re.MULTILINE)]
    begun = re.search(r"^#\d+\s+INITED cov: (\d+)", said, re.MULTILINE)
    executions = re.search(r"^stat::number_of_executed_units: (\d+)", said, re.MULTILINE)
    last = re.findall(r"^#(\d+)\s", said, re.MULTILINE)
    return Outcome(
        harness=name,
        executions=int(executions[1]) if executions else int(last[-1]) if last else 0,
        edges_before=int(begun[1]) if begun else 0,
        edges=max(edges, default=0),
        corpus=len(list(corpus.iterdir())),
        findings=sorted(set(findings.iterdir()) - before),
        log=log,
        exit_code=done.returncode,
    )


def report(outcomes: list[Outcome]) -> None:
    print(f"{'harness':<18}{'executions':>12}{'edges':>8}{'new':>6}{'corpus':>8}{'findings':>10}")
    for o in outcomes:
        new = o.edges - o.edges_before
        print(f"{o.harness:<18}{o.executions:>12,}{o.edges:>8,}{new:>6}{o.corpus:>8,}{len(o.findings):>10}")
    for o in outcomes:
        if o.exit_code and not o.findings:
            print(f"{o.harness}: ended with code {o.exit_code} before it could keep a finding; the end of {o.log}:")
            print("\n".join(o.log.read_text(errors="replace").splitlines()[-20:]))
        for finding in o.findings:
            print(f"{o.harness}: a finding; more in {o.log}; again by:")
            print(f"  {sys.executable} {Path(__file__)} {o.harness} --input {finding}")


def least_corpus(name: str) -> int:
    """Put the least of the corpus that reaches as much into the kept one."""
    least = BUILD / "least" / name
    shutil.rmtree(least, ignore_errors=True)
    least.mkdir(parents=True)
    driven(name, "-merge=1", str(least), str(BUILD / "corpus" / name), log=BUILD / f"{name}.merge.log")
    return keep(name, (path.read_bytes() for path in least.iterdir()))


if __name__ == "__main__":
    sys.exit(main())
