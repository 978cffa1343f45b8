"""What the network can carry, estimated from what has been fetched. Pure: samples in, an estimate out."""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

# What is fetched in less is told by the clock rather than by the network.
_LEAST_S: Final = 1e-4


class Estimator(Protocol):
    """An estimate of throughput."""

    def add(self, volume_bytes: int, busy_s: float) -> None:
        """One transfer, and how long the network took for it."""
        ...

    @property
    def bps(self) -> float | None:
        """The estimate; None: nothing has been transferred yet."""
        ...


class HarmonicMean:
    """Of the last transfers, each with the weight of its bytes: one fast transfer says little."""

    def __init__(self, last: int = 5) -> None:
        self._samples: deque[tuple[int, float]] = deque(maxlen=last)

    def add(self, volume_bytes: int, busy_s: float) -> None:
        """One transfer, and how long the network took for it."""
        if volume_bytes > 0:
            self._samples.append((volume_bytes, max(busy_s, _LEAST_S)))

    @property
    def bps(self) -> float | None:
        """All bits over all the time: the mean that is harmonic in rates when weighted with bytes."""
        if not self._samples:
            return None
        return sum(volume for volume, _ in self._samples) * 8 / sum(busy for _, busy in self._samples)


class MovingAverage:
    """The lower of a fast and a slow exponentially weighted mean, which forget by time spent in transfers.

    It follows a network that becomes slower at once, and one that becomes faster with care.
    """

    def __init__(self, fast_half_life_s: float = 3.0, slow_half_life_s: float = 9.0) -> None:
        self._half_lives_s = (fast_half_life_s, slow_half_life_s)
        self._means = [0.0, 0.0]
        self._weights = [0.0, 0.0]

    def add(self, volume_bytes: int, busy_s: float) -> None:
        """One transfer, and how long the network took for it."""
        if volume_bytes <= 0:
            return
        lasted_s = max(busy_s, _LEAST_S)
        rate_bps = volume_bytes * 8 / lasted_s
        for index, half_life_s in enumerate(self._half_lives_s):
            kept = 0.5 ** (lasted_s / half_life_s)
            self._means[index] = rate_bps * (1 - kept) + kept * self._means[index]
            # What the mean still has of its beginning at 0 is taken out in the end.
            self._weights[index] = (1 - kept) + kept * self._weights[index]

    @property
    def bps(self) -> float | None:
        """The lower of the two."""
        if not self._weights[0]:
            return None
        return min(mean / weight for mean, weight in zip(self._means, self._weights, strict=True))
