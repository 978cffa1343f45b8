"""Fixtures of the live tests: two networks between which castcore is put, and the traffic that is sent through it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from live.live_traffic import Traffic
from live.networks import Network, networks, required


@pytest.fixture
def hosts() -> Iterator[tuple[Network, Network]]:
    """Two networks, that of the UE and that of the server, with nothing between them yet."""
    required()
    with networks("access", "core") as (access, core):
        yield access, core


@pytest.fixture(scope="session")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Traffic:
    """The sender and the sink, compiled once."""
    required("cc")
    return Traffic(tmp_path_factory.mktemp("traffic"))
