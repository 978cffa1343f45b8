"""Why a distribution session failed, in words for the provider: nothing of the network's own names or addresses.

What a peer said in full stands in the MBSF's log. TS 26.502 §4.6.2: the MBSF conditions events for external usage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nf.common.errors import Cancelled, CastcoreError, DeadlineExceeded, Internal, Unavailable
from nf.common.v1.types_pb2 import ProblemDetails
from nf.mbsf.machine import State
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest

SERVICE_MANAGEMENT: Final = ingest.STATUS_EVENT_DIST_SESS_SERV_MNGT_FAILURE
POLICY_CONTROL: Final = ingest.STATUS_EVENT_DIST_SESS_POL_CRTL_FAILURE
ESTABLISHMENT: Final = ingest.STATUS_EVENT_DIST_SESS_EST_FAILURE
INGEST: Final = ingest.STATUS_EVENT_DATA_INGEST_FAILURE

NMB1: Final = "Nmb1>Nmb10"
NMB2: Final = "Nmb2>Nmb10"
NMB10: Final = "Nmb10"
NMB12: Final = "Nmb12>Nmb10"

_UNANSWERED: Final = (Unavailable, DeadlineExceeded, Cancelled, Internal)
_TITLES: Final[Mapping[State, str]] = {
    State.ALLOCATING: "No temporary mobile group identity could be allocated",
    State.AUTHORISING: "The network's policy does not permit the distribution session",
    State.RESERVING: "The network could not reserve what the distribution session needs",
    State.ESTABLISHING: "The distribution session could not be established, since no data was ingested",
    State.ESTABLISHED: "The distribution session could not be activated",
}
_EVENTS: Final[Mapping[State, tuple[ingest.StatusEvent.ValueType, ...]]] = {
    State.AUTHORISING: (POLICY_CONTROL,),
    State.ESTABLISHING: (SERVICE_MANAGEMENT, ESTABLISHMENT),
}
_PATHS: Final[Mapping[State, str]] = {
    State.ALLOCATING: NMB1,
    State.AUTHORISING: NMB12,
    State.RESERVING: NMB1,
    State.ESTABLISHING: NMB2,
    State.ESTABLISHED: NMB2,
}
_SOURCES: Final = {NMB1: "smf", NMB2: "mbstf", NMB12: "pcf"}
# What of a refusal may be told: how much would be granted.
_TOLD: Final = ("acc_max_mbs_bw_bps",)


@dataclass(frozen=True, slots=True)
class Failure:
    """The events that tell of it, the reference points that it has crossed, who found it, and what is said."""

    events: tuple[ingest.StatusEvent.ValueType, ...]
    path: str
    source: str
    problem: ProblemDetails


def of_call(state: State, error: CastcoreError) -> Failure:
    """Of a call that this state stands for, and that a peer refused or did not answer."""
    path = _PATHS[state]
    return Failure(
        events=_EVENTS.get(state, (SERVICE_MANAGEMENT,)),
        path=path,
        source=_SOURCES[path],
        problem=ProblemDetails(title=_TITLES[state], cause=error.cause, detail=_detail(error, path)),
    )


def of_news(
    event: ingest.StatusEvent.ValueType, path: str, title: str, *, cause: str = "", detail: str = ""
) -> Failure:
    """Of what a peer has told by an event."""
    problem = ProblemDetails(title=title, cause=cause, detail=detail)
    return Failure(events=(event,), path=path, source=_SOURCES[path], problem=problem)


def of_dry_ingest() -> Failure:
    """Of data that has not come for too long."""
    return of_news(SERVICE_MANAGEMENT, NMB2, "Data has not come for too long")


def text(problem: ProblemDetails) -> str:
    """A problem in one line."""
    cause = f" ({problem.cause})" if problem.cause else ""
    return f"{problem.title}{cause}" + (f": {problem.detail}" if problem.detail else "")


def _detail(error: CastcoreError, path: str) -> str:
    if isinstance(error, _UNANSWERED):
        return "The network function in charge did not answer in time, or could not."
    if path == NMB2:
        # It is about the provider's own data.
        return error.message
    return "; ".join(f"{name}: {error.metadata[name]}" for name in _TOLD if name in error.metadata)
