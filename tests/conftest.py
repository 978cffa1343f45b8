"""What all tests share: databases, the options of the fuzz tests, and the report that ``make conformance`` writes."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings
from postgresql import Postgresql, postgresql

from nf.common.dialect import schema_url, url_for

# How long a case takes says something of the machine alone. HYPOTHESIS_EXAMPLES: so many of each property.
settings.register_profile(
    "castcore",
    deadline=None,
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "50")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("castcore")

_SCHEMAS = itertools.count(1)
# Of each test that shows clauses: which, and how it ended. Of one run, or of several that make a whole together.
Shown = dict[str, dict[str, str]]


@pytest.fixture(autouse=True)
def _logs_of_its_own() -> Iterator[None]:
    """No test logs to where one before it did: that may be closed."""
    yield
    structlog.reset_defaults()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--conformance", metavar="FILE", help="write clause → tests → result to FILE (Markdown)")
    parser.addoption("--fuzz-seconds", type=float, default=0.5, metavar="S", help="how long each fuzz test works")
    parser.addoption("--fuzz-random", action="store_true", help="fuzz from a seed that is another every time")


def pytest_configure(config: pytest.Config) -> None:
    target = config.getoption("--conformance")
    # Where several processes share the tests, the one that shares them out hears of every outcome.
    if target and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Conformance(Path(target)))
    # A shell has what it runs in the background ignore SIGINT, and so would the commands that tests interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("clause"):
            item.user_properties.extend(("clause", clause) for clause in mark.args)


class Conformance:
    """Writes what a run has shown of each clause, with what the runs before it have shown of others (FILE.json)."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._kept = Path("build") / f"{target.stem}.json"
        self._shown: Shown = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            for name, clause in report.user_properties:
                if name == "clause":
                    self._shown[str(clause)][re.sub(r"@\w+$", "", report.nodeid)] = report.outcome

    def pytest_sessionfinish(self) -> None:
        whole: Shown = json.loads(self._kept.read_text()) if self._kept.exists() else {}
        for clause, outcomes in self._shown.items():
            whole.setdefault(clause, {}).update(outcomes)
        self._kept.parent.mkdir(exist_ok=True)
        self._kept.write_text(json.dumps(whole))
        self._target.write_text(conformance(whole))


def conformance(shown: Shown) -> str:
    """The report: a section per document, a row per clause and test function, cases of one function together."""
    lines = [
        "# Conformance",
        "",
        "Clause by clause, the tests that show it and how they ended. Written by `make conformance`",
        "from a run; never edited.",
        "",
    ]
    documents: dict[str, list[str]] = defaultdict(list)
    for clause in shown:
        documents[" ".join(clause.split()[:2])].append(clause)
    for document in sorted(documents):
        lines += [f"## {document}", "", "| clause | test | result |", "|---|---|---|"]
        for clause in sorted(documents[document]):
            cases: dict[str, list[str]] = defaultdict(list)
            for nodeid, outcome in shown[clause].items():
                cases[nodeid.partition("[")[0]].append(outcome)
            for test, results in sorted(cases.items()):
                path, _, name = test.partition("::")
                failed = [result for result in results if result != "passed"]
                result = failed[0] if failed else "passed" if len(results) == 1 else f"passed ({len(results)} cases)"
                section = clause.removeprefix(document).strip()
                sentence = name.removeprefix("test_").replace("_", " ")
                lines.append(f"| {section} | `{path}` {sentence} | {result} |")
        lines.append("")
    return "\n".join(lines)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Postgresql]:
    """A PostgreSQL for all tests: each takes a schema of its own (``postgresql_url``)."""
    # What is in it need not survive anything.
    with postgresql("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB") as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: Postgresql) -> str:
    """The URL of a schema that is not there yet."""
    return schema_url(postgresql_server.url, f"test_{next(_SCHEMAS)}")


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database for a store, of each kind."""
    if request.param == "sqlite":
        return url_for(tmp_path, "store")
    url: str = request.getfixturevalue("postgresql_url")
    return url
