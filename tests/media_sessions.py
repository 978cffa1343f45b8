"""A media session of a UE that is attached to a control plane with an AF: its dynamic policy, by any description."""

from __future__ import annotations

from control_plane import UE, ControlPlane

from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1.media_session_pb2_grpc import DynamicPoliciesServiceStub, ServiceAccessInformationServiceStub
from nf.af.v1.provisioning_pb2 import M1QosSpecification, PolicyTemplate
from nf.client.provider import Provider

RATE_BPS = 1_000_000


def filters(**filter_set: object) -> m5.ServiceDataFlowDescription:
    return m5.ServiceDataFlowDescription(
        flow_description=m5.IpPacketFilterSet(**{"direction": m5.FLOW_DIRECTION_BIDIRECTIONAL, **filter_set})
    )


class Media:
    """A provisioned policy, and the dynamic policy of one media session on it."""

    def __init__(self, plane: ControlPlane, template: PolicyTemplate) -> None:
        self._template = template
        self._policies = DynamicPoliciesServiceStub(plane.channel("af"))
        self.access = ServiceAccessInformationServiceStub(plane.channel("af"))
        self.policy = m5.DynamicPolicy()

    @classmethod
    async def provisioned(cls, plane: ControlPlane) -> Media:
        provider = Provider(plane.channel("af"))
        session = await provider.provision_session("player")
        template = await provider.create_template(
            session.provisioning_session_id,
            PolicyTemplate(
                external_reference="zero-rating",
                qos_specification=M1QosSpecification(max_btr_dl_bps=RATE_BPS, max_btr_ul_bps=RATE_BPS),
            ),
        )
        return cls(plane, await provider.ready(template))

    async def activate(self, *flows: m5.ServiceDataFlowDescription, ue: str = UE) -> m5.DynamicPolicy:
        wanted = m5.DynamicPolicy(
            provisioning_session_id=self._template.provisioning_session_id,
            policy_template_id=self._template.policy_template_id,
            service_data_flow_descriptions=flows,
        )
        request = m5.CreateDynamicPolicyRequest(dynamic_policy=wanted)
        made = await self._policies.CreateDynamicPolicy(request, metadata=(("x-ue-address", ue),))
        self.policy = made.dynamic_policy
        return self.policy

    async def change(self, *flows: m5.ServiceDataFlowDescription) -> None:
        wanted = m5.DynamicPolicy(dynamic_policy_id=self.policy.dynamic_policy_id, service_data_flow_descriptions=flows)
        request = m5.UpdateDynamicPolicyRequest(dynamic_policy=wanted)
        request.update_mask.paths.append("service_data_flow_descriptions")
        self.policy = (await self._policies.UpdateDynamicPolicy(request)).dynamic_policy
