"""The composition root of the AF: the only place that wires its parts."""

from __future__ import annotations

from typing import Final

from nf.af import rest_draft, rest_m1, rest_m1d, rest_m5, rest_management, rest_notifications
from nf.af.access_cache import AccessCache
from nf.af.activation import Activation
from nf.af.config import AfSection
from nf.af.consumption_records import TABLES as CONSUMPTION_TABLES
from nf.af.metrics_reports import TABLES as METRICS_TABLES
from nf.af.notifications import SUBSCRIPTION, handle, pcf_events, prepare
from nf.af.providers import Providers
from nf.af.provisioning import adopt_sessions, validate_template
from nf.af.qos_references import arranged_qos
from nf.af.reports import ConsumptionReports
from nf.af.retention import Retention
from nf.af.service_m1 import (
    ConsumptionReportingProvisioningService,
    PolicyTemplatesService,
    ProvisioningSessionsService,
)
from nf.af.service_m5 import AfEventsService, DynamicPoliciesService, ServiceAccessInformationService
from nf.af.service_metrics import (
    MetricsReportingProvisioningService,
    MetricsReportingService,
    MetricsReports,
    MetricsReportsService,
)
from nf.af.service_notifications import NotificationSubscriptions, NotificationSubscriptionsService
from nf.af.service_reports import ConsumptionReportingService, ConsumptionReportsService
from nf.af.v1.consumption_reporting_pb2_grpc import (
    add_ConsumptionReportingServiceServicer_to_server,
    add_ConsumptionReportsServiceServicer_to_server,
)
from nf.af.v1.media_session_pb2 import DynamicPolicy
from nf.af.v1.media_session_pb2_grpc import (
    add_AfEventsServiceServicer_to_server,
    add_DynamicPoliciesServiceServicer_to_server,
    add_ServiceAccessInformationServiceServicer_to_server,
)
from nf.af.v1.metrics_reporting_pb2_grpc import (
    add_MetricsReportingProvisioningServiceServicer_to_server,
    add_MetricsReportingServiceServicer_to_server,
    add_MetricsReportsServiceServicer_to_server,
)
from nf.af.v1.notification_subscriptions_pb2_grpc import add_NotificationSubscriptionsServiceServicer_to_server
from nf.af.v1.provisioning_pb2 import PolicyTemplate
from nf.af.v1.provisioning_pb2_grpc import (
    add_ConsumptionReportingProvisioningServiceServicer_to_server,
    add_PolicyTemplatesServiceServicer_to_server,
    add_ProvisioningSessionsServiceServicer_to_server,
)
from nf.af.visibility import provider_audience, seen_by_owner
from nf.common.callback_hosts import CallbackHosts
from nf.common.callbacks import Backoff, Callbacks
from nf.common.due import DueDriver
from nf.common.function import Context, Function
from nf.common.outgoing_http import HttpSender
from nf.common.server import servicer
from nf.common.subscribe import Subscriber
from nf.pcf.v1.operator_policies_pb2_grpc import OperatorPoliciesServiceStub
from nf.pcf.v1.policy_authorization_pb2_grpc import PcfEventsServiceStub, PolicyAuthorizationServiceStub

TABLES: Final = (*CONSUMPTION_TABLES, *METRICS_TABLES)


def build(ctx: Context[AfSection]) -> Function:
    """The AF on the context's store; its peer is "pcf".

    Clients are told the configured addresses of M5, or ``config.grpc_address``: give it the address that is bound.
    """
    config, store = ctx.config, ctx.store
    limits = config.template_limits
    providers = Providers(config.providers, config.location_asp_ids)
    activation = Activation(store, lambda: ctx.channels.stub("pcf", PolicyAuthorizationServiceStub))

    async def validate(name: str, template: PolicyTemplate) -> None:
        arranged = await arranged_qos(template, lambda: OperatorPoliciesServiceStub(ctx.channels.get("pcf")))
        await store.write(lambda tx: validate_template(tx, name, limits, arranged))

    async def settle(name: str, _: DynamicPolicy) -> None:
        await activation.settle(name)

    validator = DueDriver(store, PolicyTemplate, validate)
    settler = DueDriver(store, DynamicPolicy, settle)
    subscriber = Subscriber(
        SUBSCRIPTION,
        store,
        lambda after: pcf_events(PcfEventsServiceStub(ctx.channels.get("pcf")), after),
        handle,
        prepare=lambda event: prepare(activation, store, event),
    )

    hosts = CallbackHosts(config.callback_hosts)
    sender = HttpSender(hosts, timeout_s=config.callback_timeout_s, tls=ctx.tls)
    callbacks = Callbacks(
        store,
        sender,
        function=ctx.name,
        visible=seen_by_owner,
        audience=provider_audience,
        backoff=Backoff(longest_s=config.callback_longest_pause_s),
    )
    subscriptions = NotificationSubscriptions(store, hosts, callbacks)

    async def prepare_store() -> None:
        await store.write(adopt_sessions)

    metrics, retention = MetricsReports(store, config), Retention(store, config)
    reports = ConsumptionReports(store, config, lambda: rest_m5.own_addresses(config, ctx.http_url))
    access = AccessCache(store, config)

    async def start() -> None:
        await activation.reconcile()
        await validator.start()
        await settler.start()
        await subscriber.start()
        await retention.start()
        await callbacks.start()

    async def stop() -> None:
        await callbacks.stop()
        await sender.close()
        await retention.stop()
        await subscriber.stop()
        await settler.stop()
        await validator.stop()

    return Function(
        name=ctx.name,
        servicers=(
            servicer(add_ProvisioningSessionsServiceServicer_to_server, ProvisioningSessionsService(store, providers)),
            servicer(add_PolicyTemplatesServiceServicer_to_server, PolicyTemplatesService(store, providers)),
            servicer(
                add_ConsumptionReportingProvisioningServiceServicer_to_server,
                ConsumptionReportingProvisioningService(store, providers),
            ),
            servicer(
                add_ServiceAccessInformationServiceServicer_to_server, ServiceAccessInformationService(store, config)
            ),
            servicer(add_DynamicPoliciesServiceServicer_to_server, DynamicPoliciesService(store, activation, config)),
            servicer(add_ConsumptionReportingServiceServicer_to_server, ConsumptionReportingService(reports)),
            servicer(add_ConsumptionReportsServiceServicer_to_server, ConsumptionReportsService(reports, providers)),
            servicer(
                add_MetricsReportingProvisioningServiceServicer_to_server,
                MetricsReportingProvisioningService(store, providers),
            ),
            servicer(add_MetricsReportingServiceServicer_to_server, MetricsReportingService(metrics)),
            servicer(add_MetricsReportsServiceServicer_to_server, MetricsReportsService(metrics, providers)),
            servicer(
                add_NotificationSubscriptionsServiceServicer_to_server,
                NotificationSubscriptionsService(subscriptions, providers),
            ),
            servicer(add_AfEventsServiceServicer_to_server, AfEventsService(store, providers, config)),
        ),
        routes=(
            # Those that are called most go first.
            rest_m5.build_door(store, config, activation, reports, metrics, access),
            rest_draft.build_door(reports),
            rest_m1.build_door(store, providers),
            rest_m1d.build_door(store, providers),
            rest_notifications.door(subscriptions, providers),
            rest_management.build_door(store, providers, reports, metrics),
        ),
        prepare=prepare_store,
        start=start,
        stop=stop,
    )
