"""Any text as a bit rate, and as a burst at it: refused with the text in the refusal, or within the bounds."""

from __future__ import annotations

from collections.abc import Iterator

from upf.units import UnitError, format_bit_rate, parse_bit_rate, parse_burst


def check(data: bytes) -> None:
    rate, _, burst = data.decode(errors="replace").partition("|")
    try:
        rate_bps = parse_bit_rate(rate)
        assert 1 <= rate_bps <= 10**13, rate
        assert parse_bit_rate(format_bit_rate(rate_bps)) == rate_bps, rate
    except UnitError as refused:
        assert repr(rate) in str(refused), str(refused)
        rate_bps = 5_000_000
    try:
        assert 64 <= parse_burst(burst, rate_bps) <= 1 << 29, burst
    except UnitError as refused:
        assert burst in str(refused) or repr(burst) in str(refused), str(refused)


def seeds() -> Iterator[bytes]:
    for rate in ("5 Mbps", "1.5 Gbps", "64 Kbps", "10 Tbps", "1 bps", "0.000001 Mbps"):
        for burst in ("15000 B", "50 ms", "1.5 MiB", "64 KB", "2 KiB", "800 ns", "4 us", "1 s", "0.5 MB"):
            yield f"{rate}|{burst}".encode()
