"""The life cycle of consumption reporting: every pair of state and event, against what TS 26.501 §5.6 asks for."""

from __future__ import annotations

import itertools

import pytest

from nf.client.machine import CONSUMPTION_REPORTING, Effect, Happening, Reporting
from nf.common.machine import InvalidTransition

OFF, READY, SILENT, REPORTING, ENDED = Reporting
SEND = (Effect.SEND_REPORT, Effect.RESET_TIMER)

EXPECTED = {
    (OFF, Happening.ALLOW): (READY, ()),
    (OFF, Happening.FORBID): (OFF, ()),
    (OFF, Happening.BEGIN): (SILENT, ()),
    (OFF, Happening.MOVE): (OFF, ()),
    (OFF, Happening.END): (ENDED, ()),
    (READY, Happening.ALLOW): (READY, ()),
    (READY, Happening.FORBID): (OFF, ()),
    (READY, Happening.BEGIN): (REPORTING, (Effect.OPEN_UNITS, *SEND)),
    (READY, Happening.MOVE): (READY, ()),
    (READY, Happening.END): (ENDED, ()),
    (SILENT, Happening.ALLOW): (REPORTING, (Effect.OPEN_UNITS, *SEND)),
    (SILENT, Happening.FORBID): (SILENT, ()),
    (SILENT, Happening.CHANGE): (SILENT, ()),
    (SILENT, Happening.MOVE): (SILENT, ()),
    (SILENT, Happening.END): (ENDED, ()),
    (REPORTING, Happening.ALLOW): (REPORTING, ()),
    (REPORTING, Happening.FORBID): (SILENT, (Effect.DISABLE_TIMER, Effect.DISCARD)),
    (REPORTING, Happening.CHANGE): (REPORTING, (Effect.CLOSE_UNITS, Effect.OPEN_UNITS)),
    (REPORTING, Happening.MOVE): (REPORTING, (Effect.CLOSE_UNITS, Effect.OPEN_UNITS, *SEND)),
    (REPORTING, Happening.INTERVAL): (REPORTING, SEND),
    (REPORTING, Happening.END): (ENDED, (Effect.DISABLE_TIMER, Effect.CLOSE_UNITS, Effect.SEND_REPORT)),
    (ENDED, Happening.ALLOW): (ENDED, ()),
    (ENDED, Happening.FORBID): (ENDED, ()),
    (ENDED, Happening.CHANGE): (ENDED, ()),
    (ENDED, Happening.MOVE): (ENDED, ()),
    (ENDED, Happening.END): (ENDED, ()),
}


@pytest.mark.clause("TS 26.501 §5.6.3")
@pytest.mark.parametrize(
    ("state", "happening"), list(itertools.product(Reporting, Happening)), ids=lambda member: member.name
)
def test_every_pair_does_what_the_clause_says(state: Reporting, happening: Happening):
    if (state, happening) not in EXPECTED:
        with pytest.raises(InvalidTransition):
            CONSUMPTION_REPORTING.step(state, happening)
        return
    step = CONSUMPTION_REPORTING.step(state, happening)
    assert (step.state, step.effects) == EXPECTED[state, happening]


@pytest.mark.clause("TS 26.501 §5.6.3")
def test_the_timer_restarts_with_every_report_but_the_final_one():
    for (_, happening), step in CONSUMPTION_REPORTING.table.items():
        if Effect.SEND_REPORT in step.effects:
            assert (Effect.RESET_TIMER in step.effects) is (happening is not Happening.END)
