"""The composition root of the PCF: the only place that wires its parts."""

from __future__ import annotations

from typing import Final

from nf.common.due import DueDriver
from nf.common.function import Context, Function
from nf.common.server import servicer
from nf.common.subscribe import Subscriber
from nf.pcf import associations, ledger
from nf.pcf.authorization import PolicyAuthorization
from nf.pcf.config import PcfSection
from nf.pcf.enforcement import Enforcer
from nf.pcf.events import SUBSCRIPTION, await_decision, handle, smf_events
from nf.pcf.mbs_authorization import MbsPolicies
from nf.pcf.mbs_service import MbsPolicyAuthorizationService, MbsPolicyControlService
from nf.pcf.service import (
    LedgerService,
    OperatorPoliciesService,
    PcfEventsService,
    PolicyAuthorizationService,
    SmPolicyControlService,
)
from nf.pcf.usage_monitoring import end_of_time
from nf.pcf.v1.mbs_policy_authorization_pb2_grpc import add_MbsPolicyAuthorizationServiceServicer_to_server
from nf.pcf.v1.mbs_policy_control_pb2_grpc import add_MbsPolicyControlServiceServicer_to_server
from nf.pcf.v1.operator_policies_pb2_grpc import (
    add_LedgerServiceServicer_to_server,
    add_OperatorPoliciesServiceServicer_to_server,
)
from nf.pcf.v1.policy_authorization_pb2 import AppSession
from nf.pcf.v1.policy_authorization_pb2_grpc import (
    add_PcfEventsServiceServicer_to_server,
    add_PolicyAuthorizationServiceServicer_to_server,
)
from nf.pcf.v1.sm_policy_control_pb2_grpc import add_SmPolicyControlServiceServicer_to_server
from nf.smf.v1.pdu_session_pb2 import UpdateNotifyRequest, UpdateNotifyResponse
from nf.smf.v1.pdu_session_pb2_grpc import SmPolicyNotifyServiceStub

# Typed tables that the store has to be opened with.
TABLES: Final = (*ledger.TABLES, *associations.TABLES)


def build(ctx: Context[PcfSection]) -> Function:
    """The PCF on the context's store (opened with TABLES); its peer is "smf"."""

    async def update_notify(request: UpdateNotifyRequest) -> UpdateNotifyResponse:
        return await ctx.channels.stub("smf", SmPolicyNotifyServiceStub).UpdateNotify(request)

    arranged = ctx.config.arranged
    enforcer = Enforcer(ctx.store, update_notify, ctx.clock, arranged)
    subscriber = Subscriber(
        SUBSCRIPTION,
        ctx.store,
        lambda after: smf_events(ctx.channels.get("smf"), after),
        handle,
        prepare=lambda event: await_decision(enforcer, event),
    )

    async def end_threshold(name: str, _: AppSession) -> None:
        await ctx.store.write(lambda tx: end_of_time(tx, name))

    thresholds = DueDriver(ctx.store, AppSession, end_threshold)

    mbs = MbsPolicies(ctx.store, ctx.config.mbs.resource, arranged)

    async def start() -> None:
        # The configuration may be another than before.
        await mbs.decide_all_anew()
        await enforcer.start()
        await thresholds.start()
        await subscriber.start()

    async def stop() -> None:
        await subscriber.stop()
        await thresholds.stop()
        await enforcer.stop()

    authorization = PolicyAuthorizationService(PolicyAuthorization(ctx.store, enforcer, arranged))
    return Function(
        name=ctx.name,
        servicers=(
            servicer(add_PolicyAuthorizationServiceServicer_to_server, authorization),
            servicer(add_SmPolicyControlServiceServicer_to_server, SmPolicyControlService(ctx.store)),
            servicer(
                add_OperatorPoliciesServiceServicer_to_server,
                OperatorPoliciesService(ctx.store, enforcer, mbs, arranged),
            ),
            servicer(add_MbsPolicyAuthorizationServiceServicer_to_server, MbsPolicyAuthorizationService(mbs)),
            servicer(add_MbsPolicyControlServiceServicer_to_server, MbsPolicyControlService(mbs)),
            servicer(add_LedgerServiceServicer_to_server, LedgerService(ctx.store)),
            servicer(add_PcfEventsServiceServicer_to_server, PcfEventsService(ctx.store)),
        ),
        start=start,
        stop=stop,
    )
