"""M5 over gRPC: the AF's own services (``nf.af.v1``)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1.consumption_reporting_pb2 import ConsumptionReport, ReportConsumptionRequest
from nf.af.v1.consumption_reporting_pb2_grpc import ConsumptionReportingServiceStub
from nf.af.v1.media_session_pb2_grpc import (
    AfEventsServiceStub,
    DynamicPoliciesServiceStub,
    ServiceAccessInformationServiceStub,
)
from nf.client.m5 import ServiceAccessAnswer
from nf.common.errors import NotFound
from nf.common.v1.events_pb2 import WatchEventsRequest

UE_ADDRESS_METADATA = "x-ue-address"


async def _nothing() -> None:
    return


class GrpcM5:
    """M5 on a channel to the AF (``nf.common.channels.Channels``, so that errors come as CastcoreError).

    ``ue_address`` is sent along: an AF that trusts us takes our word for the UE. Reports go to the AF on the channel,
    whatever servers the configuration names for HTTP. ``close`` is awaited at the end.
    """

    def __init__(
        self, channel: grpc.aio.Channel, *, ue_address: str = "", close: Callable[[], Awaitable[None]] = _nothing
    ) -> None:
        self._channel = channel
        self._metadata = ((UE_ADDRESS_METADATA, ue_address),) if ue_address else ()
        self._access = ServiceAccessInformationServiceStub(channel)
        self._policies = DynamicPoliciesServiceStub(channel)
        self._events = AfEventsServiceStub(channel)
        self._reports = ConsumptionReportingServiceStub(channel)
        self._close = close

    async def service_access_information(self, provisioning_session_id: str, *, etag: str = "") -> ServiceAccessAnswer:
        """What is needed to use the provisioned service. Raises NotFound."""
        request = m5.GetServiceAccessInformationRequest(provisioning_session_id=provisioning_session_id)
        found = (await self._access.GetServiceAccessInformation(request)).service_access_information
        same = bool(etag) and found.etag == etag
        return ServiceAccessAnswer(None if same else found, found.etag, found.max_age_s)

    async def create_dynamic_policy(self, policy: m5.DynamicPolicy, *, request_id: str = "") -> m5.DynamicPolicy:
        """Activates a policy template for the flows of a media session; returns when it is enforced."""
        request = m5.CreateDynamicPolicyRequest(dynamic_policy=policy, request_id=request_id)
        return (await self._policies.CreateDynamicPolicy(request, metadata=self._metadata)).dynamic_policy

    async def get_dynamic_policy(self, dynamic_policy_id: str) -> m5.DynamicPolicy:
        """The instance as it is. Raises NotFound."""
        request = m5.GetDynamicPolicyRequest(dynamic_policy_id=dynamic_policy_id)
        return (await self._policies.GetDynamicPolicy(request, metadata=self._metadata)).dynamic_policy

    async def update_dynamic_policy(self, policy: m5.DynamicPolicy, paths: Sequence[str]) -> m5.DynamicPolicy:
        """Changes the named fields of an instance; returns when that is enforced. Raises NotFound."""
        request = m5.UpdateDynamicPolicyRequest(dynamic_policy=policy, update_mask=FieldMask(paths=paths))
        return (await self._policies.UpdateDynamicPolicy(request, metadata=self._metadata)).dynamic_policy

    async def delete_dynamic_policy(self, dynamic_policy_id: str) -> None:
        """Deactivates an instance. Raises NotFound."""
        request = m5.DeleteDynamicPolicyRequest(dynamic_policy_id=dynamic_policy_id)
        await self._policies.DeleteDynamicPolicy(request, metadata=self._metadata)

    async def watch_dynamic_policy(self, dynamic_policy_id: str) -> AsyncIterator[m5.DynamicPolicy]:
        """The instance whenever the network has changed it, from its creation on; STATE_TERMINATED comes last."""
        request = WatchEventsRequest(subject=f"dynamic-policies/{dynamic_policy_id}")
        async for response in self._events.WatchEvents(request):
            changed = m5.DynamicPolicyStateChanged()
            if not response.event.payload.Unpack(changed):
                continue
            # An event may tell of a time before the last update: what counts is the instance as it is.
            try:
                yield await self.get_dynamic_policy(dynamic_policy_id)
            except NotFound:
                # It went with its template: nothing is enforced, whatever the event still says.
                changed.dynamic_policy.state = m5.DynamicPolicy.STATE_TERMINATED
                yield changed.dynamic_policy
                return

    async def report_consumption(
        self, provisioning_session_id: str, report: ConsumptionReport, server_addresses: Sequence[str] = ()
    ) -> None:
        """Hands in a report; returns when it is stored."""
        request = ReportConsumptionRequest(provisioning_session_id=provisioning_session_id, consumption_report=report)
        await self._reports.ReportConsumption(request, metadata=self._metadata)

    def for_ue(self, ue_address: str) -> GrpcM5:
        """M5 on the same channel, on behalf of this UE."""
        return GrpcM5(self._channel, ue_address=ue_address)

    async def close(self) -> None:
        """Lets go of the channel, where that was given over."""
        await self._close()
