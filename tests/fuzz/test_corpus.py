"""Every kept input of the fuzzers, past findings among them, holds in the ordinary build too."""

from __future__ import annotations

import pytest

from fuzz.kept import harness, harnesses, inputs


@pytest.mark.parametrize("name", harnesses())
def test_no_kept_input_is_a_finding(name: str) -> None:
    check = harness(name).check
    for data in (b"", *inputs(name)):
        try:
            check(data)
        except Exception as error:
            error.add_note(f"harness {name}, input {data.hex()}")
            raise
