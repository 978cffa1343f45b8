"""Figures as they are told to eyes."""

from __future__ import annotations

import pytest

from nf.cli.figures import rate


@pytest.mark.parametrize(
    ("rate_bps", "told"),
    [
        (0, "0 bps"),
        (999, "999 bps"),
        (999.6, "1 Kbps"),
        (263_168, "263 Kbps"),
        (999_600, "1 Mbps"),
        (2_663_168, "2.66 Mbps"),
        (999_500_000, "1.000 Gbps"),
        (123_456_000_000, "123.456 Gbps"),
    ],
)
def test_a_rate_has_three_digits_in_the_unit_that_suits_it(rate_bps: float, told: str) -> None:
    assert rate(rate_bps) == told
