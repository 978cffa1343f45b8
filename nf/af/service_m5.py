"""M5: the AF's gRPC services for Media Session Handlers (TS 26.512 §11). Requests to the domain, its answers back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from google.protobuf.message import Message

from nf.af import intentions
from nf.af.activation import Activation
from nf.af.config import AfSection
from nf.af.flow_descriptions import network
from nf.af.providers import AUTHORIZATION, Providers
from nf.af.service_access import announced
from nf.af.ue_address import UE_ADDRESS_METADATA, Caller, identify
from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1.media_session_pb2_grpc import (
    AfEventsServiceServicer,
    DynamicPoliciesServiceServicer,
    ServiceAccessInformationServiceServicer,
)
from nf.af.visibility import seen_by_provider, seen_by_ue
from nf.common.events import serve_watch
from nf.common.store import Page, Reader, Store
from nf.common.v1 import events_pb2

Context = grpc.aio.ServicerContext[Message, Message]


class ServiceAccessInformationService(ServiceAccessInformationServiceServicer):
    """Service access information (TS 26.512 §11.2)."""

    def __init__(self, store: Store, config: AfSection) -> None:
        self._store = store
        self._config = config

    async def GetServiceAccessInformation(
        self, request: m5.GetServiceAccessInformationRequest, context: object
    ) -> m5.GetServiceAccessInformationResponse:
        """Reads what a client needs to use the service."""
        information = await self._store.read(
            lambda reader: announced(
                reader, request.provisioning_session_id, self._config, self._config.server_addresses
            )
        )
        return m5.GetServiceAccessInformationResponse(service_access_information=information)


class DynamicPoliciesService(DynamicPoliciesServiceServicer):
    """Dynamic policies (TS 26.512 §11.5, A.3.2 step 7)."""

    def __init__(self, store: Store, activation: Activation, config: AfSection) -> None:
        self._store = store
        self._activation = activation
        self._trusted_proxies = config.trusted_networks

    async def CreateDynamicPolicy(
        self, request: m5.CreateDynamicPolicyRequest, context: Context
    ) -> m5.CreateDynamicPolicyResponse:
        """Activates a template for the flows of a media session."""
        policy = await self._activation.create(request, self._caller(context))
        return m5.CreateDynamicPolicyResponse(dynamic_policy=policy)

    async def GetDynamicPolicy(
        self, request: m5.GetDynamicPolicyRequest, context: Context
    ) -> m5.GetDynamicPolicyResponse:
        """Reads an instance."""
        caller = self._caller(context)
        policy = await self._store.read(
            lambda reader: intentions.require_own(reader, request.dynamic_policy_id, caller)
        )
        return m5.GetDynamicPolicyResponse(dynamic_policy=policy)

    async def ListDynamicPolicies(
        self, request: m5.ListDynamicPoliciesRequest, context: Context
    ) -> m5.ListDynamicPoliciesResponse:
        """Lists the caller's instances; a page may be shorter than asked for, and still not be the last."""
        caller = self._caller(context)

        def look(reader: Reader) -> Page[m5.DynamicPolicy]:
            return reader.list(
                m5.DynamicPolicy,
                parent=request.provisioning_session_id or None,
                page_size=request.page_size,
                page_token=request.page_token,
            )

        page = await self._store.read(look)
        own = [each for each in page.items if caller.owns(network(each.ue_address))]
        return m5.ListDynamicPoliciesResponse(dynamic_policies=own, next_page_token=page.next_page_token)

    async def UpdateDynamicPolicy(
        self, request: m5.UpdateDynamicPolicyRequest, context: Context
    ) -> m5.UpdateDynamicPolicyResponse:
        """Opens and closes flows, or changes the QoS asked for."""
        policy = await self._activation.change(request, self._caller(context))
        return m5.UpdateDynamicPolicyResponse(dynamic_policy=policy)

    async def DeleteDynamicPolicy(
        self, request: m5.DeleteDynamicPolicyRequest, context: Context
    ) -> m5.DeleteDynamicPolicyResponse:
        """Deactivates an instance."""
        await self._activation.delete(request, self._caller(context))
        return m5.DeleteDynamicPolicyResponse()

    def _caller(self, context: Context) -> Caller:
        metadata = context.invocation_metadata() or ()
        header = next((str(value) for key, value in metadata if key == UE_ADDRESS_METADATA), "")
        return identify(context.peer(), header, self._trusted_proxies)


class AfEventsService(AfEventsServiceServicer):
    """What the AF tells providers and Media Session Handlers."""

    def __init__(self, store: Store, providers: Providers, config: AfSection) -> None:
        self._store = store
        self._providers = providers
        self._trusted_proxies = config.trusted_networks

    def WatchEvents(
        self, request: events_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[events_pb2.WatchEventsResponse]:
        """The AF's events that the caller may be told: a provider's by its token, else a UE's by its address."""
        metadata = dict(context.invocation_metadata() or ())
        if not self._providers.configured or AUTHORIZATION in metadata:
            visible = seen_by_provider(self._providers.caller(context))
        else:
            header = str(metadata.get(UE_ADDRESS_METADATA, ""))
            visible = seen_by_ue(identify(context.peer(), header, self._trusted_proxies))
        return serve_watch(self._store, request, visible)
