"""A small service on a store, for the tests of the common ground: operator policies and their events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc

from nf.common import call
from nf.common.clock import SystemClock
from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.events import serve_watch
from nf.common.server import Registration, servicer
from nf.common.store import Store, Transaction, url_for
from nf.common.v1.events_pb2 import WatchEventsRequest, WatchEventsResponse
from nf.pcf.v1.operator_policies_pb2 import (
    CreateOperatorPolicyRequest,
    CreateOperatorPolicyResponse,
    GetOperatorPolicyRequest,
    GetOperatorPolicyResponse,
    OperatorPolicy,
)
from nf.pcf.v1.operator_policies_pb2_grpc import (
    OperatorPoliciesServiceServicer,
    add_OperatorPoliciesServiceServicer_to_server,
)
from nf.pcf.v1.policy_authorization_pb2_grpc import PcfEventsServiceServicer, add_PcfEventsServiceServicer_to_server

Context = grpc.aio.ServicerContext


class Policies(OperatorPoliciesServiceServicer):
    """Creates and reads; ``before_get`` runs first in every read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.before_get: Callable[[str], None] = lambda _: None
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.remaining_s: list[float | None] = []

    async def CreateOperatorPolicy(
        self, request: CreateOperatorPolicyRequest, context: Context
    ) -> CreateOperatorPolicyResponse:
        policy = request.operator_policy
        name = policy.operator_policy_id
        if not name:
            violation = FieldViolation("operator_policy.operator_policy_id", "expected an identifier, found nothing")
            raise InvalidArgument("the policy has no identifier", violations=[violation], cause="MANDATORY_IE_MISSING")
        if name.startswith("gated"):
            self.entered.set()
            await self.gate.wait()

        def work(tx: Transaction) -> OperatorPolicy:
            stored = tx.insert(policy, name)
            tx.emit("MADE", f"operator-policies/{name}", stored, source="pcf")
            return stored

        return CreateOperatorPolicyResponse(operator_policy=await self._store.write(work))

    async def GetOperatorPolicy(self, request: GetOperatorPolicyRequest, context: Context) -> GetOperatorPolicyResponse:
        self.remaining_s.append(call.remaining_s())
        self.before_get(request.operator_policy_id)
        if request.operator_policy_id.startswith("gated"):
            self.entered.set()
            await self.gate.wait()
        policy = await self._store.read(lambda reader: reader.require(OperatorPolicy, request.operator_policy_id))
        return GetOperatorPolicyResponse(operator_policy=policy)


class Events(PcfEventsServiceServicer):
    def __init__(self, store: Store) -> None:
        self._store = store

    async def WatchEvents(self, request: WatchEventsRequest, context: Context) -> AsyncIterator[WatchEventsResponse]:
        async for response in serve_watch(self._store, request):
            yield response


def registrations(policies: Policies, store: Store) -> tuple[Registration, ...]:
    return (
        servicer(add_OperatorPoliciesServiceServicer_to_server, policies),
        servicer(add_PcfEventsServiceServicer_to_server, Events(store)),
    )


def open_store(directory: Path) -> Store:
    return Store.open(url_for(directory, "pcf"), clock=SystemClock())
