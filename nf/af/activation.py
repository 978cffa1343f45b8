"""Dynamic policies at work: activated, changed and ended at the PCF (TS 26.512 §11.5, A.3.2 step 7).

What is acknowledged is in force and durable; a refusal leaves nothing behind. The intention is stored before the PCF is
called; when its answer stays out, or the AF is stopped meanwhile, ``settle`` brings both ends together again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from google.protobuf.field_mask_pb2 import FieldMask

from nf.af import dynamic_policies, flow_descriptions, intentions
from nf.af.intentions import FLOWS_FIELD, Desired
from nf.af.machine import RUNNING, DynamicPolicyEvent, DynamicPolicyState
from nf.af.ue_address import Caller
from nf.af.v1 import media_session_pb2 as m5
from nf.common import call
from nf.common.errors import (
    Cancelled,
    CastcoreError,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from nf.common.resources import apply_mask, new_id
from nf.common.store import Store
from nf.pcf.v1 import policy_authorization_pb2 as n5

if TYPE_CHECKING:
    from nf.pcf.v1.policy_authorization_pb2_grpc import PolicyAuthorizationServiceAsyncStub

# After these the PCF may or may not have done what it was asked for.
_UNCERTAIN = (Unavailable, DeadlineExceeded, Cancelled, Internal)
# What is finished for the PCF's sake has a deadline of its own, whoever caused it.
_OWN_DEADLINE_S = 5.0


class Activation:
    """The dynamic policies of one AF. Operations on one policy follow each other; different ones run side by side."""

    def __init__(self, store: Store, pcf: Callable[[], PolicyAuthorizationServiceAsyncStub]) -> None:
        self._store = store
        self._pcf = pcf

    async def create(self, request: m5.CreateDynamicPolicyRequest, caller: Caller) -> m5.DynamicPolicy:
        """Activates a template for the flows of a media session; returns when it is enforced.

        Raises InvalidArgument, UeAddressUnknown, UeAddressMismatch, NotFound (session or
        template), PolicyTemplateNotReady, RequestIdReused, and what the PCF refuses with.
        """
        wanted = request.dynamic_policy
        flows = flow_descriptions.parse(wanted.service_data_flow_descriptions, FLOWS_FIELD)
        if not flows:
            raise InvalidArgument.of(FLOWS_FIELD, "expected at least one flow, found none")
        dynamic_policies.check(wanted)
        ue = caller.ue_address(flow_descriptions.ue_side(flows, FLOWS_FIELD))
        policy = apply_mask(m5.DynamicPolicy(), wanted, FieldMask(), dynamic_policies.SETTABLE)
        policy.dynamic_policy_id = new_id()
        policy.provisioning_session_id = wanted.provisioning_session_id
        policy.policy_template_id = wanted.policy_template_id
        policy.ue_address = flow_descriptions.text_of(ue)
        policy.state = m5.DynamicPolicy.STATE_ACTIVATING
        async with self._lock(policy.dynamic_policy_id):
            admitted = await self._store.write(lambda tx: intentions.admit(tx, request, policy, flows))
            if isinstance(admitted, Desired):
                return await self._activate(admitted, request)
        return await self._repeated(admitted, request, caller)

    async def change(self, request: m5.UpdateDynamicPolicyRequest, caller: Caller) -> m5.DynamicPolicy:
        """Opens and closes flows, or changes the QoS asked for; returns when that is enforced.

        A policy may be left without flows. Raises as ``create`` does, EtagMismatch, and DynamicPolicyTerminated.
        """
        policy_id = request.dynamic_policy.dynamic_policy_id
        async with self._lock(policy_id):
            desired = await self._store.write(lambda tx: intentions.intend(tx, request, caller))
            try:
                answer = await self._authorise(desired)
            except _UNCERTAIN:
                # The policy stays as it was: the PCF is told so as soon as it can be.
                await self._store.write(lambda tx: intentions.owe(tx, policy_id))
                raise
            except NotFound as lost:
                problem = dynamic_policies.refusal(lost)
                await self._store.write(lambda tx: intentions.end(tx, policy_id, DynamicPolicyEvent.LOST, problem))
                raise
            except CastcoreError:
                # Refused: what was in force still is.
                await self._store.write(lambda tx: intentions.take_back(tx, desired))
                raise
            changed = await self._store.write(lambda tx: intentions.put_in_force(tx, desired, answer))
        if changed is None:
            raise intentions.ended(policy_id)
        return changed

    async def delete(self, request: m5.DeleteDynamicPolicyRequest, caller: Caller) -> None:
        """Deactivates a policy; returns when it is no longer enforced.

        Raises NotFound, UeAddressMismatch, EtagMismatch. When the PCF cannot be reached the error says so, and the
        policy goes as soon as it can be.
        """
        policy_id = request.dynamic_policy_id
        async with self._lock(policy_id):
            await self._store.write(lambda tx: intentions.begin_deletion(tx, request, caller))
            try:
                await self._release(policy_id)
            except CastcoreError:
                await self._store.write(lambda tx: intentions.owe(tx, policy_id))
                raise

    async def reconcile(self) -> None:
        """At the start: what was under way when the AF was stopped is settled, without waiting for its lease to pass.

        What was being activated was never acknowledged, so it is to end. ``settle`` comes after whatever this run has
        begun already. Where another AF was at work when this one came, what is under way may be its own: then the lease
        has to pass.
        """
        if self._store.alone:
            await self._store.write(lambda tx: intentions.owe_unfinished(tx, self._store.opened))

    async def settle(self, policy_id: str) -> None:
        """Does what the PCF is owed for a policy: its release, or a new request. Raises what the PCF could not do."""
        async with self._lock(policy_id):
            policy = await self._store.read(lambda reader: reader.get(m5.DynamicPolicy, policy_id))
            if policy is None:
                return
            if DynamicPolicyState(policy.state) in RUNNING:
                await self._authorise_again(policy_id)
                return
            if policy.state == m5.DynamicPolicy.STATE_ACTIVATING:
                # Nobody is at it any more, or the lock would be taken.
                await self._store.write(lambda tx: intentions.end(tx, policy_id, DynamicPolicyEvent.ABANDONED))
            await self._release(policy_id)

    async def settled(self, policy_id: str) -> None:
        """Returns when no operation on the policy is under way: what the PCF tells of it has something to meet."""
        async with self._lock(policy_id):
            return

    async def _activate(self, desired: Desired, request: m5.CreateDynamicPolicyRequest) -> m5.DynamicPolicy:
        policy_id = desired.policy.dynamic_policy_id
        asked = n5.AppSession(app_session_id=policy_id, asc_req_data=desired.request)
        try:
            answer = await self._pcf().CreateAppSession(n5.CreateAppSessionRequest(app_session=asked))
        except CastcoreError as refused:
            outcome = DynamicPolicyEvent.ABANDONED if isinstance(refused, _UNCERTAIN) else DynamicPolicyEvent.REFUSED
            await self._store.write(lambda tx: intentions.give_up(tx, request, policy_id, outcome))
            raise
        answered = answer.app_session.asc_resp_data
        active = await self._store.write(lambda tx: intentions.acknowledge(tx, request, desired, answered))
        if active is None:
            raise intentions.ended(policy_id)
        return active

    async def _repeated(
        self, first: m5.DynamicPolicy, request: m5.CreateDynamicPolicyRequest, caller: Caller
    ) -> m5.DynamicPolicy:
        policy_id = first.dynamic_policy_id
        async with self._lock(policy_id):
            current = await self._store.read(lambda reader: reader.get(m5.DynamicPolicy, policy_id))
        if current is not None and current.state not in (
            m5.DynamicPolicy.STATE_ACTIVATING,
            m5.DynamicPolicy.STATE_DEACTIVATING,
        ):
            caller.check_owner(flow_descriptions.network(current.ue_address))
            return current
        if first.state == m5.DynamicPolicy.STATE_ACTIVATING:
            # The first try was never acknowledged, and has come to nothing meanwhile: this is a new one.
            await self._store.write(lambda tx: intentions.forget_failed(tx, request, first))
            return await self.create(request, caller)
        raise NotFound(f"DynamicPolicy {policy_id!r}, made for this request_id, has been deleted")

    async def _authorise(self, desired: Desired) -> n5.AppSessionContextRespData:
        answer = await self._pcf().UpdateAppSession(
            n5.UpdateAppSessionRequest(
                app_session_id=desired.policy.dynamic_policy_id,
                asc_req_data=desired.request,
                update_mask=FieldMask(paths=dynamic_policies.CHANGEABLE),
            )
        )
        return answer.app_session.asc_resp_data

    async def _authorise_again(self, policy_id: str) -> None:
        desired = await self._store.read(lambda reader: intentions.desire_again(reader, policy_id))
        if not isinstance(desired, Desired):
            await self._store.write(lambda tx: intentions.end(tx, policy_id, DynamicPolicyEvent.WITHDRAWN, desired))
            return
        try:
            with call.own_deadline(_OWN_DEADLINE_S):
                answer = await self._authorise(desired)
        except _UNCERTAIN:
            raise
        except CastcoreError as refused:
            problem = dynamic_policies.refusal(refused)
            await self._store.write(lambda tx: intentions.end(tx, policy_id, DynamicPolicyEvent.WITHDRAWN, problem))
            return
        await self._store.write(lambda tx: intentions.put_in_force(tx, desired, answer))

    async def _release(self, policy_id: str) -> None:
        try:
            with call.own_deadline(_OWN_DEADLINE_S):
                answer = await self._pcf().DeleteAppSession(n5.DeleteAppSessionRequest(app_session_id=policy_id))
            final = answer.final_usage
        except NotFound:
            # Nothing is there, which is what was wanted.
            final = n5.EventNotification()
        await self._store.write(lambda tx: intentions.released(tx, policy_id, final))

    def _lock(self, policy_id: str) -> AbstractAsyncContextManager[None]:
        return self._store.exclusive(f"dynamic policy {policy_id}")
