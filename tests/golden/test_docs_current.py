"""The generated parts of the documentation are what the code says today; ``make docs`` writes them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_parts_are_current(generator: ModuleType) -> None:
    pages = generator.generated()
    assert len(pages) >= 8
    stale = [str(page.relative_to(ROOT)) for page, text in pages.items() if page.read_text() != text]
    assert stale == [], "run 'make docs'"


def test_every_machine_is_drawn_with_all_its_states_and_events(generator: ModuleType) -> None:
    text = generator.lifecycles()
    assert text.count("```mermaid\nstateDiagram-v2\n") == len(generator._MACHINES)
    for _, _, _, machine, _ in generator._MACHINES:
        for state in machine.states:
            assert f"| {state.name} |" in text
        for event in machine.events:
            assert f"| {event.name} |" in text


def test_decisions_have_numbers_of_their_own() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    assert numbers == list(range(1, len(pages) + 1))
    for number, page in zip(numbers, pages, strict=True):
        assert page.read_text().startswith(f"# {number}. "), page.name
