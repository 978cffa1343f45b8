"""Who is told which of the AF's events: providers what is about their sessions, UEs what is about their policies.

An event carries its audience from the transaction that emits it, so that nothing has to be looked up when it is told,
and what has been deleted meanwhile is told all the same.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from nf.af.flow_descriptions import IpNetwork, network, ue_prefix
from nf.af.providers import Provider
from nf.af.ue_address import Caller
from nf.af.v1.media_session_pb2 import DynamicPolicy
from nf.af.v1.provisioning_pb2 import PolicyTemplate, ProvisioningSession
from nf.common.events import Visible, everything
from nf.common.store import Reader
from nf.common.v1.events_pb2 import Event
from nf.common.v1.notifications_pb2 import NotificationSubscription

_PROVIDER: Final = "provider/"
_UE: Final = "ue/"


def audience_of(reader: Reader, about: DynamicPolicy | PolicyTemplate) -> tuple[str, ...]:
    """Whom an event about a dynamic policy or a policy template is for, beside operators."""
    session = reader.get(ProvisioningSession, about.provisioning_session_id)
    audience = [_PROVIDER + session.asp_id] if session is not None and session.asp_id else []
    if isinstance(about, DynamicPolicy) and about.ue_address:
        audience.append(_ue(network(about.ue_address)))
    return tuple(audience)


def seen_by_provider(provider: Provider) -> Visible:
    """Which events the provider is told; an operator every one."""
    if provider.sees is None:
        return everything
    return _for(_PROVIDER + provider.sees)


def seen_by_owner(subscription: NotificationSubscription) -> Visible:
    """Which events the owner of a subscription is told."""
    return _for(_PROVIDER + subscription.asp_id) if subscription.asp_id else everything


def provider_audience(subscription: NotificationSubscription) -> tuple[str, ...]:
    """Whom an event about a subscription is for, beside operators."""
    return (_PROVIDER + subscription.asp_id,) if subscription.asp_id else ()


def seen_by_ue(caller: Caller) -> Visible:
    """Which events the UE is told; one that may speak for every UE is told those of all."""
    if caller.address is not None:
        return _for(_ue(caller.address))
    if caller.trusted:
        return lambda event: any(each.startswith(_UE) for each in event.audience)
    return lambda event: False


def _for(name: str) -> Visible:
    def is_for(event: Event) -> bool:
        return name in event.audience

    return is_for


# Every event about the policies of a UE names it.
@lru_cache(maxsize=4096)
def _ue(address: IpNetwork) -> str:
    return f"{_UE}{ue_prefix(address)}"
