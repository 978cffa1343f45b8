"""The buffer of a player and what of it has been played: starts, stalls, the end. Pure: it is told the time."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class State(enum.Enum):
    """Whether pictures move."""

    STARTING = "starting"
    PLAYING = "playing"
    STALLED = "stalled"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Stall:
    """The buffer had run empty: where in the presentation, and for how long."""

    position_s: float
    duration_s: float


class Playback:
    """Plays in real time what is in the buffer, medium by medium; times are seconds of the presentation.

    start_s: where it begins. resume_s: so much of every medium is buffered before it begins, and after a stall.
    """

    def __init__(self, start_s: float, media: Iterable[str], *, resume_s: float, now_ns: int) -> None:
        self.state = State.STARTING
        self.position_s = start_s
        self.stalls: list[Stall] = []
        self.started_ns: int | None = None
        self._until_s = dict.fromkeys(media, start_s)
        self._resume_s = resume_s
        self._complete = False
        self._then_ns = now_ns
        self._stalled_ns = 0

    @property
    def buffered_s(self) -> float:
        """How much can be played without another segment."""
        return max(0.0, self._until() - self.position_s)

    def received(self, medium: str, until_s: float, now_ns: int) -> None:
        """A medium is buffered up to there."""
        self.advance(now_ns)
        self._until_s[medium] = max(self._until_s.get(medium, self.position_s), until_s)
        self._resume(now_ns)

    def completed(self, now_ns: int) -> None:
        """Nothing more comes: what is in the buffer is played to its end."""
        self.advance(now_ns)
        self._complete = True
        self._resume(now_ns)
        self.advance(now_ns)

    def skip_to(self, position_s: float, now_ns: int) -> None:
        """Goes on further ahead: what lies between cannot be had any longer."""
        self.advance(now_ns)
        self.position_s = max(self.position_s, position_s)

    def advance(self, now_ns: int) -> None:
        """Time has passed."""
        elapsed_s = max(0, now_ns - self._then_ns) / 1e9
        self._then_ns = max(now_ns, self._then_ns)
        if self.state is not State.PLAYING:
            return
        until_s = self._until()
        reached_s = self.position_s + elapsed_s
        if reached_s < until_s:
            self.position_s = reached_s
            return
        if self._complete:
            self.position_s, self.state = until_s, State.ENDED
        elif reached_s > until_s:
            self._stalled_ns = self._then_ns - int((reached_s - until_s) * 1e9)
            self.position_s, self.state = until_s, State.STALLED
        else:
            self.position_s = until_s

    def stalled_s(self, now_ns: int) -> float:
        """All stalls together, also the one that lasts."""
        lasting_s = (now_ns - self._stalled_ns) / 1e9 if self.state is State.STALLED else 0.0
        return sum(each.duration_s for each in self.stalls) + lasting_s

    def _until(self) -> float:
        return min(self._until_s.values(), default=self.position_s)

    def _resume(self, now_ns: int) -> None:
        enough = self._complete or self.buffered_s >= self._resume_s
        if not enough or self.state not in (State.STARTING, State.STALLED):
            return
        if self.state is State.STALLED:
            self.stalls.append(Stall(self.position_s, (now_ns - self._stalled_ns) / 1e9))
        else:
            self.started_ns = now_ns
        self.state = State.PLAYING
