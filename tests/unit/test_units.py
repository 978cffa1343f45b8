from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upf.errors import UpfError
from upf.units import (
    MAX_BURST_BYTES,
    MAX_RATE_BPS,
    UnitError,
    default_burst_bytes,
    format_bit_rate,
    parse_bit_rate,
    parse_burst,
)


@pytest.mark.clause("TS 29.571 §5.5.2 BitRate")
@pytest.mark.parametrize(
    ("text", "rate_bps"),
    [
        ("1 bps", 1),
        ("64 Kbps", 64_000),
        ("5 Mbps", 5_000_000),
        ("5.000 Mbps", 5_000_000),
        ("1.5 Gbps", 1_500_000_000),
        ("40 Gbps", 40_000_000_000),
        ("0.000001 Mbps", 1),
        ("4.294967296 Gbps", 2**32),
        ("10 Tbps", MAX_RATE_BPS),
    ],
)
def test_a_bit_rate_is_read_in_multiples_of_1000(text: str, rate_bps: int) -> None:
    assert parse_bit_rate(text) == rate_bps


@pytest.mark.parametrize(
    "text",
    [
        *("", "5", "Mbps", "5Mbps", "5  Mbps", " 5 Mbps", "5 Mbps ", "5 mbps", "5 MBps", "5 Mb", "-5 Mbps", "+5 Mbps"),
        *("5. Mbps", ".5 Mbps", "5,0 Mbps", "1e3 Mbps", "٥ Mbps", "5 Mbps\n", "5 Pbps", "1" * 25 + " bps"),
    ],
)
def test_a_text_that_is_no_bit_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UnitError) as refused:
        parse_bit_rate(text)
    assert str(refused.value) == (
        f"bit rate: found {text!r}, expected '<number> bps', Kbps, Mbps, Gbps or Tbps, such as '5 Mbps'"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 bps", "1 bps to 10 Tbps"),
        ("10.1 Tbps", "1 bps to 10 Tbps"),
        ("0.5 bps", "a whole number of bit/s"),
        ("1.0001 Kbps", "a whole number of bit/s"),
    ],
)
def test_a_bit_rate_out_of_range_or_not_whole_is_refused(text: str, expected: str) -> None:
    with pytest.raises(UpfError, match=f"^bit rate: found '{text}', expected {expected}$"):
        parse_bit_rate(text)


@pytest.mark.parametrize(
    ("rate_bps", "text"),
    [(1, "1 bps"), (999, "999 bps"), (1000, "1 Kbps"), (1_500_000, "1.5 Mbps"), (1_234_567, "1.234567 Mbps")],
)
def test_a_bit_rate_is_written_in_the_largest_unit(rate_bps: int, text: str) -> None:
    assert format_bit_rate(rate_bps) == text


@given(st.integers(1, MAX_RATE_BPS))
def test_a_written_bit_rate_reads_back_exactly(rate_bps: int) -> None:
    assert parse_bit_rate(format_bit_rate(rate_bps)) == rate_bps


@pytest.mark.parametrize(
    ("text", "rate_bps", "burst_bytes"),
    [
        ("125000 B", 1, 125_000),
        ("64 B", 1, 64),
        ("1.5 KB", 1, 1500),
        ("2 MB", 1, 2_000_000),
        ("64 KiB", 1, 65_536),
        ("512 MiB", 1, MAX_BURST_BYTES),
        ("50 ms", 5_000_000, 31_250),
        ("0.5 s", 8_000, 500),
        ("100 us", 40_000_000_000, 500_000),
        ("512 ns", 1_000_000_000, 64),
        ("519.9 ns", 1_000_000_000, 64),
    ],
)
def test_a_burst_is_bytes_or_time_at_the_rate(text: str, rate_bps: int, burst_bytes: int) -> None:
    assert parse_burst(text, rate_bps) == burst_bytes


@pytest.mark.parametrize(
    ("text", "rate_bps", "message"),
    [
        ("63 B", 1, "found '63 B', expected at least 64 B: fewer would let no packet pass"),
        ("1 ms", 8_000, "found '1 ms (1 B at 8 Kbps)', expected at least 64 B: fewer would let no packet pass"),
        (
            "513 MiB",
            1,
            "found '513 MiB', expected at most 512 MiB: beyond it the bucket's arithmetic would leave 64 bits",
        ),
        ("1.5 B", 1, "found '1.5 B', expected a whole number of bytes"),
        (
            "50",
            1,
            "found '50', expected bytes ('125000 B', also KB, MB, KiB, MiB) "
            "or time at the rate ('50 ms', also ns, us, s)",
        ),
    ],
)
def test_a_burst_that_cannot_be_is_refused_with_the_reason(text: str, rate_bps: int, message: str) -> None:
    with pytest.raises(UnitError) as refused:
        parse_burst(text, rate_bps)
    assert refused.value.detail == message
    assert str(refused.value) == f"burst: {message}"


@given(st.integers(1, 10**9), st.integers(1, MAX_RATE_BPS))
def test_time_at_the_rate_is_floored_to_bytes(microseconds: int, rate_bps: int) -> None:
    exact = Fraction(microseconds, 10**6) * rate_bps / 8
    if 64 <= exact < MAX_BURST_BYTES + 1:
        assert parse_burst(f"{microseconds} us", rate_bps) == int(exact)
    else:
        with pytest.raises(UnitError):
            parse_burst(f"{microseconds} us", rate_bps)


@pytest.mark.parametrize(
    ("rate_bps", "burst_bytes"),
    [(1_000, 15_000), (1_200_000, 15_000), (5_000_000, 62_500), (40_000_000_000, 500_000_000), (10**13, 2**29)],
)
def test_the_default_burst_is_100_ms_within_15000_bytes_and_512_mib(rate_bps: int, burst_bytes: int) -> None:
    assert default_burst_bytes(rate_bps) == burst_bytes
