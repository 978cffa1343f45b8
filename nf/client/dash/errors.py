"""What can be wrong with an MPD, and with playing it."""

from __future__ import annotations

from nf.common.errors import FailedPrecondition, InvalidArgument, Unavailable


class MpdError(InvalidArgument):
    """An MPD that cannot be used: the message has its line and element, what was found and what was expected."""

    reason = "MPD_INVALID"


class SegmentUnavailable(Unavailable):
    """The server does not give what the MPD promises."""

    reason = "SEGMENT_UNAVAILABLE"


class NothingToPlay(FailedPrecondition):
    """The MPD has nothing that this player can play."""

    reason = "NOTHING_TO_PLAY"
