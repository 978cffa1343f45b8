"""What can be wrong with playing a presentation."""

from __future__ import annotations

from nf.common.errors import FailedPrecondition, Unavailable


class SegmentUnavailable(Unavailable):
    """The server does not give what the MPD promises."""

    reason = "SEGMENT_UNAVAILABLE"


class NothingToPlay(FailedPrecondition):
    """The MPD has nothing that this player can play."""

    reason = "NOTHING_TO_PLAY"
