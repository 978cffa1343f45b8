"""What the sources import is declared in pyproject.toml: an installation from the wheel has all that it needs."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
OWN = ("nf", "upf")


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    # Those of development are not there where castcore is used.
    used = [*project["dependencies"], *(each for name, all_of in extras.items() if name != "dev" for each in all_of)]
    return {normalized(re.split(r"[\[<>=!~; ]", each, maxsplit=1)[0]) for each in used}


def imported(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text(), source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            yield node.module.partition(".")[0]


def test_what_is_imported_is_declared() -> None:
    distributions, known = packages_distributions(), declared()
    missing, count = [], 0
    for source in (each for package in OWN for each in sorted((ROOT / package).rglob("*.py"))):
        for name in set(imported(source)) - set(OWN) - sys.stdlib_module_names:
            count += 1
            if not known & {normalized(each) for each in distributions.get(name, [])}:
                missing.append(f"{source.relative_to(ROOT)}: {name}")
    assert missing == []
    assert count > 200
