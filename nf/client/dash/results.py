"""What a player has done: every transfer, every stall, and the sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from nf.client.dash.playback import Stall


@dataclass(frozen=True, slots=True)
class Transfer:
    """A segment as it came. ``throughput_bps`` is of the time that the network took, pauses of our own left out.

    combination_bps: bandwidth of all that is played together with it; compliant: whether that keeps to the filter.
    buffer_s: what was buffered when it had come.
    """

    medium: str
    representation_id: str
    number: int
    start_s: float
    duration_s: float
    bandwidth_bps: int
    combination_bps: int
    compliant: bool
    filtered: bool
    body_bytes: int
    elapsed_s: float
    throughput_bps: float
    buffer_s: float
    url: str


@dataclass(slots=True)
class Results:
    """What has happened so far. ``other_bytes`` are MPDs and initializations."""

    transfers: list[Transfer] = field(default_factory=list)
    stalls: Sequence[Stall] = ()
    startup_s: float | None = None
    pauses: int = 0
    paused_s: float = 0.0
    skipped_s: float = 0.0
    mpd_fetches: int = 0
    other_bytes: int = 0
    connections: int = 0

    @property
    def media_bytes(self) -> int:
        """Of all segments."""
        return sum(each.body_bytes for each in self.transfers)

    @property
    def stalled_s(self) -> float:
        """All stalls together."""
        return sum(each.duration_s for each in self.stalls)

    def representations(self, medium: str) -> list[str]:
        """What was played of a medium, segment by segment."""
        return [each.representation_id for each in self.transfers if each.medium == medium]

    def to_json(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "segments": [asdict(each) for each in self.transfers],
            "stalls": [asdict(each) for each in self.stalls],
            "stalled_s": self.stalled_s,
            "startup_s": self.startup_s,
            "pauses": self.pauses,
            "paused_s": self.paused_s,
            "skipped_s": self.skipped_s,
            "media_bytes": self.media_bytes,
            "other_bytes": self.other_bytes,
            "mpd_fetches": self.mpd_fetches,
            "connections": self.connections,
        }
