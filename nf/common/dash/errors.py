"""What can be wrong with an MPD."""

from __future__ import annotations

from nf.common.errors import InvalidArgument


class MpdError(InvalidArgument):
    """An MPD that cannot be used: the message has its line and element, what was found and what was expected."""

    reason = "MPD_INVALID"
