"""The Application Provider's side of M1: provisions what Media Session Handlers then use (TS 26.512 A.3.2 step 1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from nf.af.v1 import provisioning_pb2 as m1
from nf.af.v1.media_session_pb2_grpc import AfEventsServiceStub
from nf.af.v1.provisioning_pb2_grpc import (
    ConsumptionReportingProvisioningServiceStub,
    PolicyTemplatesServiceStub,
    ProvisioningSessionsServiceStub,
)
from nf.common.errors import FailedPrecondition, FieldViolation, Unavailable
from nf.common.resources import new_id
from nf.common.v1.events_pb2 import Event, WatchEventsRequest

_READY = m1.PolicyTemplate.STATE_READY
# In these states a template does not await the AF's validation.
_SETTLED = (_READY, m1.PolicyTemplate.STATE_INVALID, m1.PolicyTemplate.STATE_SUSPENDED)


class PolicyTemplateRefused(FailedPrecondition):
    """The AF's validation or the operator has refused the template; violations say what of it."""

    reason = "POLICY_TEMPLATE_REFUSED"


class Provider:
    """A typed client of M1. ``channel`` leads to the AF (``nf.common.channels.Channels``: errors as CastcoreError)."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._sessions = ProvisioningSessionsServiceStub(channel)
        self._templates = PolicyTemplatesServiceStub(channel)
        self._consumption = ConsumptionReportingProvisioningServiceStub(channel)
        self._events = AfEventsServiceStub(channel)

    async def provision_session(
        self,
        app_id: str,
        *,
        asp_id: str = "",
        session_type: m1.ProvisioningSessionType.ValueType = m1.PROVISIONING_SESSION_TYPE_DOWNLINK,
        entry_points: Iterable[m1.MediaEntryPoint] = (),
    ) -> m1.ProvisioningSession:
        """A new provisioning session. Raises InvalidArgument."""
        session = m1.ProvisioningSession(
            provisioning_session_type=session_type, app_id=app_id, asp_id=asp_id, entry_points=entry_points
        )
        request = m1.CreateProvisioningSessionRequest(provisioning_session=session, request_id=new_id())
        return (await self._sessions.CreateProvisioningSession(request)).provisioning_session

    async def destroy_session(self, provisioning_session_id: str) -> None:
        """Destroys a session with all that stands on it. Raises NotFound."""
        await self._sessions.DeleteProvisioningSession(
            m1.DeleteProvisioningSessionRequest(provisioning_session_id=provisioning_session_id)
        )

    async def create_template(self, provisioning_session_id: str, template: m1.PolicyTemplate) -> m1.PolicyTemplate:
        """A new policy template, PENDING. Raises NotFound, AlreadyExists (external reference)."""
        request = m1.CreatePolicyTemplateRequest(
            provisioning_session_id=provisioning_session_id, policy_template=template, request_id=new_id()
        )
        return (await self._templates.CreatePolicyTemplate(request)).policy_template

    async def update_template(self, template: m1.PolicyTemplate, *paths: str) -> m1.PolicyTemplate:
        """Changes the named fields of a template (all that may be set, without ``paths``); PENDING again.

        Raises NotFound, EtagMismatch when ``template.etag`` is set and stale.
        """
        request = m1.UpdatePolicyTemplateRequest(policy_template=template, update_mask=FieldMask(paths=paths))
        return (await self._templates.UpdatePolicyTemplate(request)).policy_template

    async def destroy_template(self, template: m1.PolicyTemplate) -> None:
        """Destroys a template and the dynamic policies that stand on it. Raises NotFound."""
        await self._templates.DeletePolicyTemplate(
            m1.DeletePolicyTemplateRequest(
                provisioning_session_id=template.provisioning_session_id,
                policy_template_id=template.policy_template_id,
            )
        )

    async def ready(self, template: m1.PolicyTemplate) -> m1.PolicyTemplate:
        """The template as it is once READY, awaited by events.

        Raises PolicyTemplateRefused when it is INVALID or SUSPENDED, NotFound, Unavailable when the AF stops.
        """
        request = m1.GetPolicyTemplateRequest(
            provisioning_session_id=template.provisioning_session_id, policy_template_id=template.policy_template_id
        )
        current = (await self._templates.GetPolicyTemplate(request)).policy_template
        if current.state in _SETTLED:
            return _outcome(current)
        async for event in self.watch(subject=f"policy-templates/{template.policy_template_id}"):
            changed = m1.PolicyTemplateStateChanged()
            if event.payload.Unpack(changed) and changed.policy_template.state in _SETTLED:
                # The event may tell of a validation before the last change: what counts is the template as it is.
                current = (await self._templates.GetPolicyTemplate(request)).policy_template
                if current.state in _SETTLED:
                    return _outcome(current)
        raise Unavailable(f"policy template {template.policy_template_id!r}: the AF has stopped before it was READY")

    async def configure_consumption_reporting(
        self, provisioning_session_id: str, configuration: m1.ConsumptionReportingConfiguration
    ) -> m1.ConsumptionReportingConfiguration:
        """Activates consumption reporting. Raises NotFound, AlreadyExists, InvalidArgument."""
        request = m1.CreateConsumptionReportingConfigurationRequest(
            provisioning_session_id=provisioning_session_id, consumption_reporting_configuration=configuration
        )
        answer = await self._consumption.CreateConsumptionReportingConfiguration(request)
        return answer.consumption_reporting_configuration

    async def watch(
        self, after_sequence: int = 0, *, subject: str = "", no_follow: bool = False
    ) -> AsyncIterator[Event]:
        """The AF's events after a sequence: POLICY_TEMPLATE_STATE, DYNAMIC_POLICY_STATE, USAGE_REPORT, QOS_NOTIF."""
        request = WatchEventsRequest(after_sequence=after_sequence, subject=subject, no_follow=no_follow)
        async for response in self._events.WatchEvents(request):
            yield response.event


def _outcome(template: m1.PolicyTemplate) -> m1.PolicyTemplate:
    if template.state == _READY:
        return template
    state = m1.PolicyTemplate.State.Name(template.state).removeprefix("STATE_")
    raise PolicyTemplateRefused(
        f"policy template {template.external_reference!r} is {state}: {template.state_reason.detail}",
        cause=template.state_reason.cause,
        violations=[FieldViolation(each.param, each.reason) for each in template.state_reason.invalid_params],
    )
