"""Fixtures of the live tests: two networks between which castcore is put, and the traffic that is sent through it."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from live.live_traffic import HeldUp, Traffic
from live.networks import Network, networks, required

# The part of the processors that a host may take away before a measurement says more of the host than of castcore.
MOST_TAKEN = 0.005


def taken_s() -> float:
    """Processor time that this machine wanted and its host gave to others (steal in /proc/stat), since it started."""
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """What a machine did not keep up with, while its host took the processors away, says nothing and is left out.

    That alone: too much that passes, a byte or a counter that is wrong fails on any machine.
    """
    if item.get_closest_marker("alone") is None:
        return (yield)
    began_s, before_s = os.times().elapsed, taken_s()
    try:
        return (yield)
    except HeldUp as failure:
        share = (taken_s() - before_s) / (os.times().elapsed - began_s) / (os.cpu_count() or 1)
        if share > MOST_TAKEN:
            pytest.skip(f"its host took {share:.1%} of this machine's processors meanwhile: {failure}")
        raise


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
