"""Latencies of very many calls in little memory: a histogram whose buckets are two percent wide."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

_BASE: Final = math.log(1.02)
_LEAST_S: Final = 1e-6


class Latencies:
    """How long calls took. Quantiles are exact to one percent."""

    def __init__(self) -> None:
        self.count = 0
        self.sum_s = 0.0
        self.max_s = 0.0
        self._buckets: Counter[int] = Counter()

    def add(self, latency_s: float) -> None:
        """One call more."""
        self.count += 1
        self.sum_s += latency_s
        self.max_s = max(self.max_s, latency_s)
        self._buckets[math.floor(math.log(max(latency_s, _LEAST_S)) / _BASE)] += 1

    def quantile_s(self, share: float) -> float:
        """So long took at most ``share`` (0 to 1) of the calls; 0 where there were none."""
        wanted, seen = share * self.count, 0
        for bucket, count in sorted(self._buckets.items()):
            seen += count
            if seen >= wanted:
                return min(self.max_s, math.exp((bucket + 0.5) * _BASE))
        return self.max_s

    def to_json(self) -> dict[str, float]:
        """Milliseconds, for those who read them."""
        told = {f"p{share:g}_ms": self.quantile_s(share / 100) * 1000 for share in (50, 90, 99)}
        told["mean_ms"] = self.sum_s / self.count * 1000 if self.count else 0.0
        told["max_ms"] = self.max_s * 1000
        return {name: round(value, 3) for name, value in told.items()}
