"""The life cycles at the AF as tables: policy templates (TS 26.512 §7.9.3) and dynamic policies (TS 26.512 §11.5)."""

from __future__ import annotations

from enum import Enum, IntEnum, auto

from nf.af.v1.media_session_pb2 import DynamicPolicy
from nf.af.v1.provisioning_pb2 import PolicyTemplate
from nf.common.machine import Machine, Transition


class TemplateState(IntEnum):
    """PolicyTemplate.State; GONE is the end, when the resource no longer exists."""

    PENDING = PolicyTemplate.STATE_PENDING
    INVALID = PolicyTemplate.STATE_INVALID
    READY = PolicyTemplate.STATE_READY
    SUSPENDED = PolicyTemplate.STATE_SUSPENDED
    GONE = PolicyTemplate.STATE_UNSPECIFIED


class TemplateEvent(Enum):
    """What happens to a policy template."""

    # The AF's validation has found nothing wrong, or something.
    VALIDATED = auto()
    REFUSED = auto()
    # The provider has changed or destroyed it.
    UPDATED = auto()
    DELETED = auto()
    # The operator has withdrawn it, or given it back.
    WITHDRAWN = auto()
    RESUMED = auto()


class TemplateEffect(Enum):
    """What follows for others; done in the transaction of the change."""

    # The provider is told: event POLICY_TEMPLATE_STATE.
    TELL = auto()
    # The validation is due.
    VALIDATE = auto()
    # Running dynamic policies are decided anew by what the template says now.
    REAUTHORISE = auto()
    # Running dynamic policies end.
    TERMINATE = auto()
    # Running dynamic policies end and go, as does the template.
    DESTROY = auto()


_T, _TE, _TF = TemplateState, TemplateEvent, TemplateEffect

POLICY_TEMPLATE: Machine[TemplateState, TemplateEvent] = Machine(
    "policy template",
    {
        (_T.PENDING, _TE.VALIDATED): Transition(_T.READY, (_TF.TELL, _TF.REAUTHORISE)),
        (_T.PENDING, _TE.REFUSED): Transition(_T.INVALID, (_TF.TELL, _TF.TERMINATE)),
        (_T.PENDING, _TE.UPDATED): Transition(_T.PENDING, (_TF.VALIDATE,)),
        (_T.PENDING, _TE.DELETED): Transition(_T.GONE, (_TF.DESTROY,)),
        (_T.INVALID, _TE.UPDATED): Transition(_T.PENDING, (_TF.TELL, _TF.VALIDATE)),
        (_T.INVALID, _TE.DELETED): Transition(_T.GONE, (_TF.DESTROY,)),
        (_T.READY, _TE.UPDATED): Transition(_T.PENDING, (_TF.TELL, _TF.VALIDATE)),
        (_T.READY, _TE.WITHDRAWN): Transition(_T.SUSPENDED, (_TF.TELL, _TF.TERMINATE)),
        (_T.READY, _TE.DELETED): Transition(_T.GONE, (_TF.DESTROY,)),
        # The provider's change does not lift the operator's suspension: it is validated when the template is resumed.
        (_T.SUSPENDED, _TE.UPDATED): Transition(_T.SUSPENDED),
        (_T.SUSPENDED, _TE.RESUMED): Transition(_T.PENDING, (_TF.TELL, _TF.VALIDATE)),
        (_T.SUSPENDED, _TE.DELETED): Transition(_T.GONE, (_TF.DESTROY,)),
    },
    initial=_T.PENDING,
)


class DynamicPolicyState(IntEnum):
    """DynamicPolicy.State; GONE is the end, when the resource no longer exists."""

    ACTIVATING = DynamicPolicy.STATE_ACTIVATING
    ACTIVE = DynamicPolicy.STATE_ACTIVE
    EXCEEDED = DynamicPolicy.STATE_EXCEEDED
    TERMINATED = DynamicPolicy.STATE_TERMINATED
    DEACTIVATING = DynamicPolicy.STATE_DEACTIVATING
    INTERRUPTED = DynamicPolicy.STATE_INTERRUPTED
    GONE = DynamicPolicy.STATE_UNSPECIFIED


class DynamicPolicyEvent(Enum):
    """What happens to a dynamic policy."""

    # The PCF has put it in force, has refused it, or nobody knows (no answer, or the AF was stopped meanwhile).
    AUTHORISED = auto()
    REFUSED = auto()
    ABANDONED = auto()
    # The Media Session Handler has opened or closed flows, or asks for another QoS.
    UPDATED = auto()
    # QOS_NOTIF: the media session no longer, or again, keeps to the threshold.
    LEFT_THRESHOLD = auto()
    KEPT_THRESHOLD = auto()
    # The user plane does not enforce it at present, or does again.
    UNENFORCED = auto()
    ENFORCED = auto()
    # The template has changed and is READY.
    TEMPLATE_CHANGED = auto()
    # The AF ends it: the template is withdrawn, or the PCF no longer authorises it.
    WITHDRAWN = auto()
    # The PCF has ended it: the PDU session or the resources have gone.
    LOST = auto()
    # It is to go; and the PCF has let go of it.
    DELETED = auto()
    RELEASED = auto()


class DynamicPolicyEffect(Enum):
    """What follows for others."""

    # Subscribers are told: event DYNAMIC_POLICY_STATE. In the transaction of the change.
    TELL = auto()
    # The PCF is owed a new request. Owed = durable; done afterwards, and again until it is done.
    REAUTHORISE = auto()
    # The PCF is owed the end of the application session.
    RELEASE = auto()
    # The resource goes. In the transaction of the change.
    FORGET = auto()


_D, _DE, _DF = DynamicPolicyState, DynamicPolicyEvent, DynamicPolicyEffect
_DELETE = Transition(_D.DEACTIVATING, (_DF.TELL, _DF.RELEASE))
_WITHDRAW = Transition(_D.TERMINATED, (_DF.TELL, _DF.RELEASE))
_LOSE = Transition(_D.TERMINATED, (_DF.TELL, _DF.RELEASE))
_INTERRUPT = Transition(_D.INTERRUPTED, (_DF.TELL,))

DYNAMIC_POLICY: Machine[DynamicPolicyState, DynamicPolicyEvent] = Machine(
    "dynamic policy",
    {
        (_D.ACTIVATING, _DE.AUTHORISED): Transition(_D.ACTIVE, (_DF.TELL,)),
        (_D.ACTIVATING, _DE.REFUSED): Transition(_D.GONE, (_DF.FORGET,)),
        # Whoever asked was told that it failed, or nothing: it ends without a word.
        (_D.ACTIVATING, _DE.ABANDONED): Transition(_D.DEACTIVATING, (_DF.RELEASE,)),
        # News of a policy waits until it is acknowledged, so these say nothing about this one.
        (_D.ACTIVATING, _DE.LEFT_THRESHOLD): Transition(_D.ACTIVATING),
        (_D.ACTIVATING, _DE.KEPT_THRESHOLD): Transition(_D.ACTIVATING),
        (_D.ACTIVATING, _DE.UNENFORCED): Transition(_D.ACTIVATING),
        (_D.ACTIVATING, _DE.ENFORCED): Transition(_D.ACTIVATING),
        (_D.ACTIVATING, _DE.TEMPLATE_CHANGED): Transition(_D.ACTIVATING, (_DF.REAUTHORISE,)),
        (_D.ACTIVATING, _DE.WITHDRAWN): Transition(_D.DEACTIVATING, (_DF.RELEASE,)),
        (_D.ACTIVATING, _DE.LOST): Transition(_D.DEACTIVATING, (_DF.RELEASE,)),
        (_D.ACTIVATING, _DE.DELETED): Transition(_D.DEACTIVATING, (_DF.RELEASE,)),
        (_D.ACTIVE, _DE.UPDATED): Transition(_D.ACTIVE),
        (_D.ACTIVE, _DE.LEFT_THRESHOLD): Transition(_D.EXCEEDED, (_DF.TELL,)),
        (_D.ACTIVE, _DE.KEPT_THRESHOLD): Transition(_D.ACTIVE),
        (_D.ACTIVE, _DE.UNENFORCED): _INTERRUPT,
        (_D.ACTIVE, _DE.ENFORCED): Transition(_D.ACTIVE),
        (_D.ACTIVE, _DE.TEMPLATE_CHANGED): Transition(_D.ACTIVE, (_DF.REAUTHORISE,)),
        (_D.ACTIVE, _DE.WITHDRAWN): _WITHDRAW,
        (_D.ACTIVE, _DE.LOST): _LOSE,
        (_D.ACTIVE, _DE.DELETED): _DELETE,
        (_D.EXCEEDED, _DE.UPDATED): Transition(_D.EXCEEDED),
        (_D.EXCEEDED, _DE.LEFT_THRESHOLD): Transition(_D.EXCEEDED),
        (_D.EXCEEDED, _DE.KEPT_THRESHOLD): Transition(_D.ACTIVE, (_DF.TELL,)),
        (_D.EXCEEDED, _DE.UNENFORCED): _INTERRUPT,
        (_D.EXCEEDED, _DE.ENFORCED): Transition(_D.EXCEEDED),
        (_D.EXCEEDED, _DE.TEMPLATE_CHANGED): Transition(_D.EXCEEDED, (_DF.REAUTHORISE,)),
        (_D.EXCEEDED, _DE.WITHDRAWN): _WITHDRAW,
        (_D.EXCEEDED, _DE.LOST): _LOSE,
        (_D.EXCEEDED, _DE.DELETED): _DELETE,
        # What it exceeds is told again when it is enforced again.
        (_D.INTERRUPTED, _DE.UPDATED): Transition(_D.INTERRUPTED),
        (_D.INTERRUPTED, _DE.LEFT_THRESHOLD): Transition(_D.INTERRUPTED),
        (_D.INTERRUPTED, _DE.KEPT_THRESHOLD): Transition(_D.INTERRUPTED),
        (_D.INTERRUPTED, _DE.UNENFORCED): Transition(_D.INTERRUPTED),
        (_D.INTERRUPTED, _DE.ENFORCED): Transition(_D.ACTIVE, (_DF.TELL,)),
        (_D.INTERRUPTED, _DE.TEMPLATE_CHANGED): Transition(_D.INTERRUPTED, (_DF.REAUTHORISE,)),
        (_D.INTERRUPTED, _DE.WITHDRAWN): _WITHDRAW,
        (_D.INTERRUPTED, _DE.LOST): _LOSE,
        (_D.INTERRUPTED, _DE.DELETED): _DELETE,
        # It stays until the Media Session Handler deletes it, so that its state can be read; what comes late is idle.
        (_D.TERMINATED, _DE.LEFT_THRESHOLD): Transition(_D.TERMINATED),
        (_D.TERMINATED, _DE.KEPT_THRESHOLD): Transition(_D.TERMINATED),
        (_D.TERMINATED, _DE.UNENFORCED): Transition(_D.TERMINATED),
        (_D.TERMINATED, _DE.ENFORCED): Transition(_D.TERMINATED),
        (_D.TERMINATED, _DE.TEMPLATE_CHANGED): Transition(_D.TERMINATED),
        (_D.TERMINATED, _DE.WITHDRAWN): Transition(_D.TERMINATED),
        (_D.TERMINATED, _DE.LOST): Transition(_D.TERMINATED),
        (_D.TERMINATED, _DE.RELEASED): Transition(_D.TERMINATED),
        (_D.TERMINATED, _DE.DELETED): _DELETE,
        (_D.DEACTIVATING, _DE.LEFT_THRESHOLD): Transition(_D.DEACTIVATING),
        (_D.DEACTIVATING, _DE.KEPT_THRESHOLD): Transition(_D.DEACTIVATING),
        (_D.DEACTIVATING, _DE.UNENFORCED): Transition(_D.DEACTIVATING),
        (_D.DEACTIVATING, _DE.ENFORCED): Transition(_D.DEACTIVATING),
        (_D.DEACTIVATING, _DE.TEMPLATE_CHANGED): Transition(_D.DEACTIVATING),
        (_D.DEACTIVATING, _DE.WITHDRAWN): Transition(_D.DEACTIVATING),
        (_D.DEACTIVATING, _DE.LOST): Transition(_D.DEACTIVATING),
        (_D.DEACTIVATING, _DE.DELETED): Transition(_D.DEACTIVATING, (_DF.RELEASE,)),
        (_D.DEACTIVATING, _DE.RELEASED): Transition(_D.GONE, (_DF.FORGET,)),
    },
    initial=_D.ACTIVATING,
)

# In these states the PCF grants the policy.
RUNNING = frozenset({DynamicPolicyState.ACTIVE, DynamicPolicyState.EXCEEDED, DynamicPolicyState.INTERRUPTED})
