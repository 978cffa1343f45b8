from __future__ import annotations

import pytest

from nf.common.usage import counters_of
from nf.common.v1.types_pb2 import PolicedVolume, Usage, Volume
from nf.pcf.rating import RATING_GROUP_ORDINARY, RATING_GROUP_ZERO_RATED, Rated, Terms, rate

CONFORMING, EXCEEDING, DROPPED = 1000, 200, 30
USAGE = counters_of(
    Usage(
        downlink=PolicedVolume(
            offered=Volume(packets=3, bytes=1230),
            conforming=Volume(packets=1, bytes=CONFORMING),
            exceeding=Volume(packets=1, bytes=EXCEEDING),
            dropped=Volume(packets=1, bytes=DROPPED),
        ),
        uplink=PolicedVolume(offered=Volume(packets=1, bytes=4), conforming=Volume(packets=1, bytes=4)),
    )
)
FREE, PAID = RATING_GROUP_ZERO_RATED, RATING_GROUP_ORDINARY


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (Terms(FREE, PAID), Rated(zero_rated_bytes=1004, charged_bytes=200, dropped_bytes=30)),
        (Terms(FREE, FREE), Rated(zero_rated_bytes=1204, charged_bytes=0, dropped_bytes=30)),
        (Terms(PAID, PAID), Rated(zero_rated_bytes=0, charged_bytes=1204, dropped_bytes=30)),
    ],
)
@pytest.mark.clause("TS 26.512 A.3.1")
def test_within_is_free_beyond_is_paid_dropped_is_neither(terms: Terms, expected: Rated) -> None:
    assert rate(USAGE, terms) == expected


def test_every_byte_that_passes_is_rated_once() -> None:
    for terms in (Terms(FREE, PAID), Terms(FREE, FREE), Terms(PAID, PAID)):
        rated = rate(USAGE, terms)
        assert rated.zero_rated_bytes + rated.charged_bytes + rated.dropped_bytes == 1234
