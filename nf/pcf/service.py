"""The PCF's gRPC services: requests to the domain, its answers back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from nf.common.events import serve_watch
from nf.common.store import Store, Transaction
from nf.common.v1 import events_pb2
from nf.pcf.associations import close_association, open_association
from nf.pcf.authorization import PolicyAuthorization
from nf.pcf.enforcement import Enforcer
from nf.pcf.errors import PolicyAssociationNotFound, QosReferenceNotArranged
from nf.pcf.ledger import list_entries
from nf.pcf.mbs_authorization import MbsPolicies
from nf.pcf.mbs_requests import check_mbs_limits
from nf.pcf.policies import check_operator_policy
from nf.pcf.requests import check_sm_policy
from nf.pcf.v1 import operator_policies_pb2 as op
from nf.pcf.v1 import policy_authorization_pb2 as n5
from nf.pcf.v1 import sm_policy_control_pb2 as n7
from nf.pcf.v1.operator_policies_pb2_grpc import LedgerServiceServicer, OperatorPoliciesServiceServicer
from nf.pcf.v1.policy_authorization_pb2_grpc import PcfEventsServiceServicer, PolicyAuthorizationServiceServicer
from nf.pcf.v1.sm_policy_control_pb2_grpc import SmPolicyControlServiceServicer


class PolicyAuthorizationService(PolicyAuthorizationServiceServicer):
    """N5 (TS 29.514 §4.2)."""

    def __init__(self, authorization: PolicyAuthorization) -> None:
        self._authorization = authorization

    async def CreateAppSession(
        self, request: n5.CreateAppSessionRequest, context: object
    ) -> n5.CreateAppSessionResponse:
        """Authorises a session."""
        return n5.CreateAppSessionResponse(app_session=await self._authorization.create(request.app_session))

    async def GetAppSession(self, request: n5.GetAppSessionRequest, context: object) -> n5.GetAppSessionResponse:
        """Reads a session."""
        return n5.GetAppSessionResponse(app_session=await self._authorization.get(request.app_session_id))

    async def ListAppSessions(self, request: n5.ListAppSessionsRequest, context: object) -> n5.ListAppSessionsResponse:
        """Lists sessions."""
        page = await self._authorization.page(request.page_size, request.page_token)
        return n5.ListAppSessionsResponse(app_sessions=page.items, next_page_token=page.next_page_token)

    async def UpdateAppSession(
        self, request: n5.UpdateAppSessionRequest, context: object
    ) -> n5.UpdateAppSessionResponse:
        """Changes what is asked for."""
        session = await self._authorization.update(request.app_session_id, request.asc_req_data, request.update_mask)
        return n5.UpdateAppSessionResponse(app_session=session)

    async def DeleteAppSession(
        self, request: n5.DeleteAppSessionRequest, context: object
    ) -> n5.DeleteAppSessionResponse:
        """Ends a session."""
        return n5.DeleteAppSessionResponse(final_usage=await self._authorization.delete(request.app_session_id))


class SmPolicyControlService(SmPolicyControlServiceServicer):
    """N7 (TS 29.512 §4.2)."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def CreateSmPolicy(self, request: n7.CreateSmPolicyRequest, context: object) -> n7.CreateSmPolicyResponse:
        """Opens an association."""
        check_sm_policy(request.sm_policy)
        policy = await self._store.write(lambda tx: open_association(tx, request.sm_policy))
        return n7.CreateSmPolicyResponse(sm_policy=policy)

    async def GetSmPolicy(self, request: n7.GetSmPolicyRequest, context: object) -> n7.GetSmPolicyResponse:
        """Reads an association."""
        policy = await self._store.read(lambda reader: reader.get(n7.SmPolicy, request.sm_policy_id))
        if policy is None:
            raise PolicyAssociationNotFound(f"sm policy {request.sm_policy_id!r} does not exist")
        return n7.GetSmPolicyResponse(sm_policy=policy)

    async def ListSmPolicies(self, request: n7.ListSmPoliciesRequest, context: object) -> n7.ListSmPoliciesResponse:
        """Lists associations."""
        page = await self._store.read(
            lambda reader: reader.list(n7.SmPolicy, page_size=request.page_size, page_token=request.page_token)
        )
        return n7.ListSmPoliciesResponse(sm_policies=page.items, next_page_token=page.next_page_token)

    async def DeleteSmPolicy(self, request: n7.DeleteSmPolicyRequest, context: object) -> n7.DeleteSmPolicyResponse:
        """Closes an association."""
        await self._store.write(lambda tx: close_association(tx, request.sm_policy_id))
        return n7.DeleteSmPolicyResponse()


class OperatorPoliciesService(OperatorPoliciesServiceServicer):
    """Operator policies; a change answers when it is in force for every session whose SMF can be reached."""

    def __init__(
        self, store: Store, enforcer: Enforcer, mbs: MbsPolicies, arranged: Mapping[str, op.QosReference]
    ) -> None:
        self._store = store
        self._enforcer = enforcer
        self._mbs = mbs
        self._arranged = arranged

    async def CreateOperatorPolicy(
        self, request: op.CreateOperatorPolicyRequest, context: object
    ) -> op.CreateOperatorPolicyResponse:
        """Creates a policy."""
        policy = request.operator_policy
        check_operator_policy(policy)
        check_mbs_limits(policy)
        created = await self._store.write(lambda tx: tx.insert(policy, policy.operator_policy_id))
        await self._mbs.decide_all_anew()
        await self._enforcer.decide_all_anew()
        return op.CreateOperatorPolicyResponse(operator_policy=created)

    async def GetOperatorPolicy(
        self, request: op.GetOperatorPolicyRequest, context: object
    ) -> op.GetOperatorPolicyResponse:
        """Reads a policy."""
        policy = await self._store.read(lambda reader: reader.require(op.OperatorPolicy, request.operator_policy_id))
        return op.GetOperatorPolicyResponse(operator_policy=policy)

    async def ListOperatorPolicies(
        self, request: op.ListOperatorPoliciesRequest, context: object
    ) -> op.ListOperatorPoliciesResponse:
        """Lists policies."""
        page = await self._store.read(
            lambda reader: reader.list(op.OperatorPolicy, page_size=request.page_size, page_token=request.page_token)
        )
        return op.ListOperatorPoliciesResponse(operator_policies=page.items, next_page_token=page.next_page_token)

    async def UpdateOperatorPolicy(
        self, request: op.UpdateOperatorPolicyRequest, context: object
    ) -> op.UpdateOperatorPolicyResponse:
        """Replaces a policy."""
        policy = request.operator_policy
        check_operator_policy(policy)
        check_mbs_limits(policy)
        updated = await self._store.write(
            lambda tx: tx.update(policy, policy.operator_policy_id, expect_etag=policy.etag)
        )
        await self._mbs.decide_all_anew()
        await self._enforcer.decide_all_anew()
        return op.UpdateOperatorPolicyResponse(operator_policy=updated)

    async def DeleteOperatorPolicy(
        self, request: op.DeleteOperatorPolicyRequest, context: object
    ) -> op.DeleteOperatorPolicyResponse:
        """Removes a policy."""

        def remove(transaction: Transaction) -> None:
            transaction.require(op.OperatorPolicy, request.operator_policy_id)
            transaction.delete(op.OperatorPolicy, request.operator_policy_id, expect_etag=request.etag)

        await self._store.write(remove)
        await self._mbs.decide_all_anew()
        await self._enforcer.decide_all_anew()
        return op.DeleteOperatorPolicyResponse()

    async def GetQosReference(self, request: op.GetQosReferenceRequest, context: object) -> op.GetQosReferenceResponse:
        """Reads what is arranged under a QoS reference."""
        reference = self._arranged.get(request.qos_reference)
        if reference is None:
            raise QosReferenceNotArranged(f"QoS reference {request.qos_reference!r} is not arranged")
        return op.GetQosReferenceResponse(qos_reference=reference)


class LedgerService(LedgerServiceServicer):
    """The ledger of rated usage."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def ListLedgerEntries(
        self, request: op.ListLedgerEntriesRequest, context: object
    ) -> op.ListLedgerEntriesResponse:
        """Lists entries."""
        entries, next_page_token = await self._store.read(
            lambda reader: list_entries(
                reader,
                app_session_id=request.app_session_id,
                supi=request.supi,
                page_size=request.page_size,
                page_token=request.page_token,
            )
        )
        return op.ListLedgerEntriesResponse(ledger_entries=entries, next_page_token=next_page_token)


class PcfEventsService(PcfEventsServiceServicer):
    """What the PCF tells AFs."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def WatchEvents(
        self, request: events_pb2.WatchEventsRequest, context: object
    ) -> AsyncIterator[events_pb2.WatchEventsResponse]:
        """The PCF's events."""
        return serve_watch(self._store, request)
