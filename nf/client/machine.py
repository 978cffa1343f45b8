"""The life cycle of consumption reporting for one media session as a table (TS 26.501 §5.6.1, §5.6.3).

The media session consumes or not, and may report or not: it may where the AF has configured it, the session is in the
sample, and the user allows it.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from nf.common.machine import Machine, Transition


class Reporting(Enum):
    """Where consumption reporting of a media session stands."""

    OFF = auto()
    READY = auto()
    SILENT = auto()
    REPORTING = auto()
    ENDED = auto()


class Happening(Enum):
    """What happens to it."""

    # It may be reported, or may no longer.
    ALLOW = auto()
    FORBID = auto()
    # The first medium is consumed.
    BEGIN = auto()
    # Another representation, none, or another connection.
    CHANGE = auto()
    # The UE is in another cell, and its location may be told.
    MOVE = auto()
    # The reporting interval has passed.
    INTERVAL = auto()
    # Consumption stops.
    END = auto()


class Effect(Enum):
    """What has to be done, in this order."""

    DISABLE_TIMER = auto()
    CLOSE_UNITS = auto()
    OPEN_UNITS = auto()
    DISCARD = auto()
    SEND_REPORT = auto()
    RESET_TIMER = auto()


_OFF, _READY, _SILENT, _REPORTING, _ENDED = Reporting
_SEND = (Effect.SEND_REPORT, Effect.RESET_TIMER)
_FINAL = (Effect.DISABLE_TIMER, Effect.CLOSE_UNITS, Effect.SEND_REPORT)

CONSUMPTION_REPORTING: Final = Machine(
    "consumption reporting",
    {
        (_OFF, Happening.ALLOW): Transition(_READY),
        (_OFF, Happening.FORBID): Transition(_OFF),
        (_OFF, Happening.BEGIN): Transition(_SILENT),
        (_OFF, Happening.MOVE): Transition(_OFF),
        (_OFF, Happening.END): Transition(_ENDED),
        (_READY, Happening.ALLOW): Transition(_READY),
        (_READY, Happening.FORBID): Transition(_OFF),
        (_READY, Happening.BEGIN): Transition(_REPORTING, (Effect.OPEN_UNITS, *_SEND)),
        (_READY, Happening.MOVE): Transition(_READY),
        (_READY, Happening.END): Transition(_ENDED),
        (_SILENT, Happening.ALLOW): Transition(_REPORTING, (Effect.OPEN_UNITS, *_SEND)),
        (_SILENT, Happening.FORBID): Transition(_SILENT),
        (_SILENT, Happening.CHANGE): Transition(_SILENT),
        (_SILENT, Happening.MOVE): Transition(_SILENT),
        (_SILENT, Happening.END): Transition(_ENDED),
        (_REPORTING, Happening.ALLOW): Transition(_REPORTING),
        (_REPORTING, Happening.FORBID): Transition(_SILENT, (Effect.DISABLE_TIMER, Effect.DISCARD)),
        (_REPORTING, Happening.CHANGE): Transition(_REPORTING, (Effect.CLOSE_UNITS, Effect.OPEN_UNITS)),
        (_REPORTING, Happening.MOVE): Transition(_REPORTING, (Effect.CLOSE_UNITS, Effect.OPEN_UNITS, *_SEND)),
        (_REPORTING, Happening.INTERVAL): Transition(_REPORTING, _SEND),
        (_REPORTING, Happening.END): Transition(_ENDED, _FINAL),
        # What is heard of after the end changes nothing.
        (_ENDED, Happening.ALLOW): Transition(_ENDED),
        (_ENDED, Happening.FORBID): Transition(_ENDED),
        (_ENDED, Happening.CHANGE): Transition(_ENDED),
        (_ENDED, Happening.MOVE): Transition(_ENDED),
        (_ENDED, Happening.END): Transition(_ENDED),
    },
    initial=_OFF,
)
