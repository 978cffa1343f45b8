"""The life of an MBS distribution session at the MBSF (TS 26.502 §4.6.1) as a table.

A state is a step of the clause: what it has to do may be done again when the MBSF is restarted in it. ``SHOWN`` says
which of the clause's four states the provider sees. GONE stands for a session that is no longer provisioned.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum, auto
from typing import Final

from nf.common.machine import Machine, Transition
from nf.common.v1 import mbs_distribution_pb2 as distribution
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession


class State(IntEnum):
    """DistributionSession.Stage, and GONE for STAGE_UNSPECIFIED."""

    PROVISIONING = DistributionSession.STAGE_PROVISIONING
    INACTIVE = DistributionSession.STAGE_INACTIVE
    ALLOCATING = DistributionSession.STAGE_ALLOCATING
    AUTHORISING = DistributionSession.STAGE_AUTHORISING
    RESERVING = DistributionSession.STAGE_RESERVING
    ESTABLISHING = DistributionSession.STAGE_ESTABLISHING
    UNDOING_ESTABLISHMENT = DistributionSession.STAGE_UNDOING_ESTABLISHMENT
    UNDOING_RESERVATION = DistributionSession.STAGE_UNDOING_RESERVATION
    UNDOING_AUTHORISATION = DistributionSession.STAGE_UNDOING_AUTHORISATION
    UNDOING_ALLOCATION = DistributionSession.STAGE_UNDOING_ALLOCATION
    ESTABLISHED = DistributionSession.STAGE_ESTABLISHED
    ACTIVE = DistributionSession.STAGE_ACTIVE
    DEACTIVATING = DistributionSession.STAGE_DEACTIVATING
    RELEASING = DistributionSession.STAGE_RELEASING
    FREEING_SESSION = DistributionSession.STAGE_FREEING_SESSION
    FREEING_AUTHORISATION = DistributionSession.STAGE_FREEING_AUTHORISATION
    FREEING_TMGI = DistributionSession.STAGE_FREEING_TMGI
    REMOVING = DistributionSession.STAGE_REMOVING
    GONE = DistributionSession.STAGE_UNSPECIFIED


class Event(Enum):
    """What happens to a distribution session."""

    # What the state has to do is done; or it was refused, or has not come about in time.
    DONE = auto()
    FAILED = auto()
    # 2: a period begins shortly, or has begun.
    PERIOD_NEARS = auto()
    # 3: the start time has come.
    START = auto()
    # 5: the period has ended, or the provider has destroyed the session.
    PERIOD_OVER = auto()
    # 4: it cannot go on.
    SEVERE_ERROR = auto()
    # It is destroyed, or has no further period.
    EXPIRED = auto()
    # The provider has changed it.
    UPDATED = auto()


class Effect(Enum):
    """What follows. The calls are made afterwards, and again until they are done; the rest is in the transaction."""

    # Calls at Nmb1, Nmb12 and Nmb2, by the steps of the clause.
    ALLOCATE_TMGI = auto()
    AUTHORISE = auto()
    RESERVE = auto()
    ESTABLISH = auto()
    ACTIVATE = auto()
    CEASE = auto()
    RELEASE = auto()
    FREE_SESSION = auto()
    FREE_AUTHORISATION = auto()
    FREE_TMGI = auto()
    DELETE_REPLICA = auto()
    # The announcement is out; step 4a.
    ANNOUNCE = auto()
    WITHDRAW = auto()
    # Events at Nmb10.
    TELL_STARTING = auto()
    TELL_SESSION_STARTED = auto()
    TELL_STARTED = auto()
    TELL_ACTIVATED = auto()
    TELL_FAILURE = auto()
    TELL_TERMINATED = auto()
    TELL_SESSION_RELEASED = auto()
    # The record goes.
    FORGET = auto()


_S, _E, _F = State, Event, Effect
_ALLOCATE = Transition(_S.ALLOCATING, (_F.TELL_STARTING, _F.ALLOCATE_TMGI))
_REMOVE = Transition(_S.REMOVING, (_F.DELETE_REPLICA,))
_CEASE = Transition(_S.DEACTIVATING, (_F.WITHDRAW, _F.CEASE))
_CEASE_FAILED = Transition(_S.DEACTIVATING, (_F.TELL_FAILURE, _F.WITHDRAW, _F.CEASE))


def _undo(state: State, effect: Effect) -> tuple[Transition[State], Transition[State]]:
    """What follows a failure, which is told, and what follows an end that came first."""
    return Transition(state, (_F.TELL_FAILURE, effect)), Transition(state, (effect,))


_ALLOCATION_FAILED, _ALLOCATION_OVER = _undo(_S.UNDOING_ALLOCATION, _F.FREE_TMGI)
_AUTHORISATION_FAILED, _AUTHORISATION_OVER = _undo(_S.UNDOING_AUTHORISATION, _F.FREE_AUTHORISATION)
_RESERVATION_FAILED, _RESERVATION_OVER = _undo(_S.UNDOING_RESERVATION, _F.FREE_SESSION)
_ESTABLISHMENT_FAILED, _ESTABLISHMENT_OVER = _undo(_S.UNDOING_ESTABLISHMENT, _F.RELEASE)

DISTRIBUTION_SESSION: Final[Machine[State, Event]] = Machine(
    "distribution session",
    {
        (_S.PROVISIONING, _E.DONE): Transition(_S.INACTIVE),
        (_S.PROVISIONING, _E.FAILED): _REMOVE,
        (_S.PROVISIONING, _E.EXPIRED): _REMOVE,
        (_S.INACTIVE, _E.PERIOD_NEARS): _ALLOCATE,
        (_S.INACTIVE, _E.EXPIRED): _REMOVE,
        (_S.INACTIVE, _E.UPDATED): Transition(_S.INACTIVE),
        # 2a, in order; whatever fails is undone in reverse.
        (_S.ALLOCATING, _E.DONE): Transition(_S.AUTHORISING, (_F.AUTHORISE,)),
        (_S.ALLOCATING, _E.FAILED): _ALLOCATION_FAILED,
        (_S.ALLOCATING, _E.SEVERE_ERROR): _ALLOCATION_FAILED,
        (_S.ALLOCATING, _E.PERIOD_OVER): _ALLOCATION_OVER,
        (_S.AUTHORISING, _E.DONE): Transition(_S.RESERVING, (_F.RESERVE,)),
        (_S.AUTHORISING, _E.FAILED): _AUTHORISATION_FAILED,
        (_S.AUTHORISING, _E.SEVERE_ERROR): _AUTHORISATION_FAILED,
        (_S.AUTHORISING, _E.PERIOD_OVER): _AUTHORISATION_OVER,
        (_S.RESERVING, _E.DONE): Transition(_S.ESTABLISHING, (_F.TELL_SESSION_STARTED, _F.ESTABLISH)),
        (_S.RESERVING, _E.FAILED): _RESERVATION_FAILED,
        (_S.RESERVING, _E.SEVERE_ERROR): _RESERVATION_FAILED,
        (_S.RESERVING, _E.PERIOD_OVER): _RESERVATION_OVER,
        # 2b: something was really ingested.
        (_S.ESTABLISHING, _E.DONE): Transition(_S.ESTABLISHED, (_F.ANNOUNCE, _F.TELL_STARTED)),
        (_S.ESTABLISHING, _E.FAILED): _ESTABLISHMENT_FAILED,
        (_S.ESTABLISHING, _E.SEVERE_ERROR): _ESTABLISHMENT_FAILED,
        (_S.ESTABLISHING, _E.PERIOD_OVER): _ESTABLISHMENT_OVER,
        (_S.UNDOING_ESTABLISHMENT, _E.DONE): Transition(_S.UNDOING_RESERVATION, (_F.FREE_SESSION,)),
        (_S.UNDOING_ESTABLISHMENT, _E.SEVERE_ERROR): Transition(_S.UNDOING_ESTABLISHMENT),
        (_S.UNDOING_RESERVATION, _E.DONE): Transition(
            _S.UNDOING_AUTHORISATION, (_F.TELL_SESSION_RELEASED, _F.FREE_AUTHORISATION)
        ),
        (_S.UNDOING_RESERVATION, _E.SEVERE_ERROR): Transition(_S.UNDOING_RESERVATION),
        (_S.UNDOING_AUTHORISATION, _E.DONE): Transition(_S.UNDOING_ALLOCATION, (_F.FREE_TMGI,)),
        (_S.UNDOING_AUTHORISATION, _E.SEVERE_ERROR): Transition(_S.UNDOING_AUTHORISATION),
        (_S.UNDOING_ALLOCATION, _E.DONE): Transition(_S.INACTIVE),
        (_S.UNDOING_ALLOCATION, _E.SEVERE_ERROR): Transition(_S.UNDOING_ALLOCATION),
        # 3: at the start time; it is ACTIVE when the MBSTF has said so.
        (_S.ESTABLISHED, _E.START): Transition(_S.ESTABLISHED, (_F.ACTIVATE,)),
        (_S.ESTABLISHED, _E.DONE): Transition(_S.ACTIVE, (_F.TELL_ACTIVATED,)),
        (_S.ESTABLISHED, _E.FAILED): _CEASE_FAILED,
        # Nothing is sent yet: 4a, 4c, 4d.
        (_S.ESTABLISHED, _E.SEVERE_ERROR): Transition(_S.RELEASING, (_F.TELL_FAILURE, _F.WITHDRAW, _F.RELEASE)),
        (_S.ESTABLISHED, _E.PERIOD_OVER): Transition(_S.RELEASING, (_F.WITHDRAW, _F.RELEASE)),
        (_S.ACTIVE, _E.SEVERE_ERROR): _CEASE_FAILED,
        (_S.ACTIVE, _E.PERIOD_OVER): _CEASE,
        # 4b to 4d; nothing is skipped, whatever happens meanwhile.
        (_S.DEACTIVATING, _E.DONE): Transition(_S.RELEASING, (_F.TELL_TERMINATED, _F.RELEASE)),
        (_S.DEACTIVATING, _E.SEVERE_ERROR): Transition(_S.DEACTIVATING),
        (_S.RELEASING, _E.DONE): Transition(_S.FREEING_SESSION, (_F.TELL_TERMINATED, _F.FREE_SESSION)),
        (_S.RELEASING, _E.SEVERE_ERROR): Transition(_S.RELEASING),
        (_S.FREEING_SESSION, _E.DONE): Transition(
            _S.FREEING_AUTHORISATION, (_F.TELL_SESSION_RELEASED, _F.FREE_AUTHORISATION)
        ),
        (_S.FREEING_SESSION, _E.SEVERE_ERROR): Transition(_S.FREEING_SESSION),
        (_S.FREEING_AUTHORISATION, _E.DONE): Transition(_S.FREEING_TMGI, (_F.FREE_TMGI,)),
        (_S.FREEING_AUTHORISATION, _E.SEVERE_ERROR): Transition(_S.FREEING_AUTHORISATION),
        (_S.FREEING_TMGI, _E.DONE): Transition(_S.INACTIVE),
        (_S.FREEING_TMGI, _E.SEVERE_ERROR): Transition(_S.FREEING_TMGI),
        (_S.REMOVING, _E.DONE): Transition(_S.GONE, (_F.FORGET,)),
    },
    initial=_S.PROVISIONING,
)

_INACTIVE = distribution.DIST_SESSION_STATE_INACTIVE
_DEACTIVATING = distribution.DIST_SESSION_STATE_DEACTIVATING

# The state that the provider sees (mbsDistSessState).
SHOWN: Final[Mapping[State, distribution.DistSessionState.ValueType]] = {
    _S.PROVISIONING: _INACTIVE,
    _S.INACTIVE: _INACTIVE,
    _S.ALLOCATING: _INACTIVE,
    _S.AUTHORISING: _INACTIVE,
    _S.RESERVING: _INACTIVE,
    _S.ESTABLISHING: _INACTIVE,
    _S.UNDOING_ESTABLISHMENT: _INACTIVE,
    _S.UNDOING_RESERVATION: _INACTIVE,
    _S.UNDOING_AUTHORISATION: _INACTIVE,
    _S.UNDOING_ALLOCATION: _INACTIVE,
    _S.ESTABLISHED: distribution.DIST_SESSION_STATE_ESTABLISHED,
    _S.ACTIVE: distribution.DIST_SESSION_STATE_ACTIVE,
    _S.DEACTIVATING: _DEACTIVATING,
    _S.RELEASING: _DEACTIVATING,
    _S.FREEING_SESSION: _DEACTIVATING,
    _S.FREEING_AUTHORISATION: _DEACTIVATING,
    _S.FREEING_TMGI: _DEACTIVATING,
    _S.REMOVING: _INACTIVE,
    _S.GONE: distribution.DIST_SESSION_STATE_UNSPECIFIED,
}

# The call that each of these states stands for.
WORK: Final[Mapping[State, Effect]] = {
    _S.ALLOCATING: _F.ALLOCATE_TMGI,
    _S.AUTHORISING: _F.AUTHORISE,
    _S.RESERVING: _F.RESERVE,
    _S.ESTABLISHING: _F.ESTABLISH,
    _S.UNDOING_ESTABLISHMENT: _F.RELEASE,
    _S.UNDOING_RESERVATION: _F.FREE_SESSION,
    _S.UNDOING_AUTHORISATION: _F.FREE_AUTHORISATION,
    _S.UNDOING_ALLOCATION: _F.FREE_TMGI,
    _S.DEACTIVATING: _F.CEASE,
    _S.RELEASING: _F.RELEASE,
    _S.FREEING_SESSION: _F.FREE_SESSION,
    _S.FREEING_AUTHORISATION: _F.FREE_AUTHORISATION,
    _S.FREEING_TMGI: _F.FREE_TMGI,
    _S.REMOVING: _F.DELETE_REPLICA,
}

# 2a and 2b are under way.
STARTING: Final = frozenset({_S.ALLOCATING, _S.AUTHORISING, _S.RESERVING, _S.ESTABLISHING})
# Nothing is under way, reserved or owed at Nmb1 and Nmb12.
AT_REST: Final = frozenset({_S.PROVISIONING, _S.INACTIVE, _S.REMOVING, _S.GONE})
