"""What all tests share: the options of the fuzz tests, and the conformance report that ``make conformance`` writes."""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

_CLAUSES = pytest.StashKey[dict[str, list[str]]]()
_OUTCOMES = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--conformance", metavar="FILE", help="write clause → tests → result to FILE (Markdown)")
    parser.addoption("--fuzz-seconds", type=float, default=0.5, metavar="S", help="how long each fuzz test works")
    parser.addoption("--fuzz-random", action="store_true", help="fuzz from a seed that is another every time")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_CLAUSES] = defaultdict(list)
    config.stash[_OUTCOMES] = {}
    # A shell has what it runs in the background ignore SIGINT, and so would the commands that tests interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("clause"):
            for clause in mark.args:
                config.stash[_CLAUSES][clause].append(item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    outcomes = item.config.stash[_OUTCOMES]
    if report.when == "call" or report.outcome != "passed":
        outcomes[item.nodeid] = report.outcome
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    target = session.config.getoption("--conformance")
    if target:
        Path(target).write_text(conformance(session.config.stash[_CLAUSES], session.config.stash[_OUTCOMES]))


def conformance(clauses: dict[str, list[str]], outcomes: dict[str, str]) -> str:
    """The report: a section per document, a row per clause and test function, cases of one function together."""
    lines = [
        "# Conformance",
        "",
        "Clause by clause, the tests that show it and how they ended. Written by `make conformance`",
        "from a run; never edited.",
        "",
    ]
    documents: dict[str, list[str]] = defaultdict(list)
    for clause in clauses:
        documents[" ".join(clause.split()[:2])].append(clause)
    for document in sorted(documents):
        lines += [f"## {document}", "", "| clause | test | result |", "|---|---|---|"]
        for clause in sorted(documents[document]):
            cases: dict[str, list[str]] = defaultdict(list)
            for nodeid in clauses[clause]:
                cases[nodeid.partition("[")[0]].append(outcomes.get(nodeid, "not run"))
            for test, results in sorted(cases.items()):
                path, _, name = test.partition("::")
                failed = [result for result in results if result != "passed"]
                result = failed[0] if failed else "passed" if len(results) == 1 else f"passed ({len(results)} cases)"
                section = clause.removeprefix(document).strip()
                sentence = name.removeprefix("test_").replace("_", " ")
                lines.append(f"| {section} | `{path}` {sentence} | {result} |")
        lines.append("")
    return "\n".join(lines)
