"""What can be wrong with an announcement, and with getting it."""

from __future__ import annotations

from typing import ClassVar

from nf.common.errors import InvalidArgument, NotFound


class AnnouncementInvalid(InvalidArgument):
    """An announcement, or a session description of it, that cannot be used: where, what was found, what expected."""

    reason = "ANNOUNCEMENT_INVALID"


class AnnouncementWithdrawn(NotFound):
    """The service was announced and is so no more (410)."""

    http_status: ClassVar[int] = 410
    reason = "ANNOUNCEMENT_WITHDRAWN"
