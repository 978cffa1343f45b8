"""The PCF's gRPC services for MBS: requests to the domain, its answers back."""

from __future__ import annotations

from nf.pcf.mbs_authorization import MbsPolicies
from nf.pcf.v1 import mbs_policy_authorization_pb2 as nmb12
from nf.pcf.v1 import mbs_policy_control_pb2 as n7mb
from nf.pcf.v1.mbs_policy_authorization_pb2_grpc import MbsPolicyAuthorizationServiceServicer
from nf.pcf.v1.mbs_policy_control_pb2_grpc import MbsPolicyControlServiceServicer


class MbsPolicyAuthorizationService(MbsPolicyAuthorizationServiceServicer):
    """Nmb12 (TS 29.537 §4.3)."""

    def __init__(self, policies: MbsPolicies) -> None:
        self._policies = policies

    async def CreateMbsAppSessionContext(
        self, request: nmb12.CreateMbsAppSessionContextRequest, context: object
    ) -> nmb12.CreateMbsAppSessionContextResponse:
        """Authorises a session."""
        created = await self._policies.create_context(request.context)
        return nmb12.CreateMbsAppSessionContextResponse(context=created)

    async def GetMbsAppSessionContext(
        self, request: nmb12.GetMbsAppSessionContextRequest, context: object
    ) -> nmb12.GetMbsAppSessionContextResponse:
        """Reads a context."""
        return nmb12.GetMbsAppSessionContextResponse(context=await self._policies.get_context(request.context_id))

    async def ListMbsAppSessionContexts(
        self, request: nmb12.ListMbsAppSessionContextsRequest, context: object
    ) -> nmb12.ListMbsAppSessionContextsResponse:
        """Lists contexts."""
        page = await self._policies.contexts(request.page_size, request.page_token)
        return nmb12.ListMbsAppSessionContextsResponse(contexts=page.items, next_page_token=page.next_page_token)

    async def UpdateMbsAppSessionContext(
        self, request: nmb12.UpdateMbsAppSessionContextRequest, context: object
    ) -> nmb12.UpdateMbsAppSessionContextResponse:
        """Authorises other service information."""
        changed = await self._policies.update_context(request.context, request.update_mask)
        return nmb12.UpdateMbsAppSessionContextResponse(context=changed)

    async def DeleteMbsAppSessionContext(
        self, request: nmb12.DeleteMbsAppSessionContextRequest, context: object
    ) -> nmb12.DeleteMbsAppSessionContextResponse:
        """Ends an authorisation."""
        await self._policies.delete_context(request.context_id)
        return nmb12.DeleteMbsAppSessionContextResponse()


class MbsPolicyControlService(MbsPolicyControlServiceServicer):
    """N7mb (TS 29.537 §4.2)."""

    def __init__(self, policies: MbsPolicies) -> None:
        self._policies = policies

    async def CreateMbsPolicy(
        self, request: n7mb.CreateMbsPolicyRequest, context: object
    ) -> n7mb.CreateMbsPolicyResponse:
        """Decides for a session."""
        return n7mb.CreateMbsPolicyResponse(mbs_policy=await self._policies.create_policy(request.mbs_policy))

    async def GetMbsPolicy(self, request: n7mb.GetMbsPolicyRequest, context: object) -> n7mb.GetMbsPolicyResponse:
        """Reads a policy."""
        return n7mb.GetMbsPolicyResponse(mbs_policy=await self._policies.get_policy(request.mbs_policy_id))

    async def ListMbsPolicies(
        self, request: n7mb.ListMbsPoliciesRequest, context: object
    ) -> n7mb.ListMbsPoliciesResponse:
        """Lists policies."""
        page = await self._policies.policies(request.page_size, request.page_token)
        return n7mb.ListMbsPoliciesResponse(mbs_policies=page.items, next_page_token=page.next_page_token)

    async def UpdateMbsPolicy(
        self, request: n7mb.UpdateMbsPolicyRequest, context: object
    ) -> n7mb.UpdateMbsPolicyResponse:
        """Decides anew."""
        changed = await self._policies.update_policy(
            request.mbs_policy_id, request.mbs_policy_ctxt_data, request.update_mask
        )
        return n7mb.UpdateMbsPolicyResponse(mbs_policy=changed)

    async def DeleteMbsPolicy(
        self, request: n7mb.DeleteMbsPolicyRequest, context: object
    ) -> n7mb.DeleteMbsPolicyResponse:
        """Ends a policy."""
        await self._policies.delete_policy(request.mbs_policy_id)
        return n7mb.DeleteMbsPolicyResponse()
