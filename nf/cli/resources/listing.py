"""Resources of a running stack: each kind is read by its function's gRPC service, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from nf.af.v1 import consumption_reporting_pb2 as consumption
from nf.af.v1 import consumption_reporting_pb2_grpc as consumption_grpc
from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1 import media_session_pb2_grpc as m5_grpc
from nf.af.v1 import metrics_reporting_pb2 as metrics
from nf.af.v1 import metrics_reporting_pb2_grpc as metrics_grpc
from nf.af.v1 import notification_subscriptions_pb2 as subscriptions
from nf.af.v1 import notification_subscriptions_pb2_grpc as subscriptions_grpc
from nf.af.v1 import provisioning_pb2 as m1
from nf.af.v1 import provisioning_pb2_grpc as m1_grpc
from nf.cli.resources.listing_mbs import MBS_READINGS
from nf.cli.resources.listing_netapi import NETAPI_READINGS
from nf.cli.resources.reading import PAGE, Filters, Reading, columns
from nf.client.paging import pages
from nf.common.channels import Channels
from nf.common.errors import InvalidArgument, NotFound
from nf.common.v1.notifications_pb2 import NotificationSubscription
from nf.pcf.v1 import operator_policies_pb2 as operator
from nf.pcf.v1 import operator_policies_pb2_grpc as operator_grpc
from nf.pcf.v1 import policy_authorization_pb2 as n5
from nf.pcf.v1 import policy_authorization_pb2_grpc as n5_grpc
from nf.pcf.v1 import sm_policy_control_pb2 as n7
from nf.pcf.v1 import sm_policy_control_pb2_grpc as n7_grpc
from nf.smf.v1 import pdu_session_pb2 as sm
from nf.smf.v1 import pdu_session_pb2_grpc as sm_grpc

# --- AF -----------------------------------------------------------------------------------------------------------


def _sessions(channels: Channels, _: Filters | None = None) -> AsyncIterator[m1.ProvisioningSession]:
    stub = m1_grpc.ProvisioningSessionsServiceStub(channels.get("af"))

    async def fetch(token: str) -> tuple[Sequence[m1.ProvisioningSession], str]:
        page = await stub.ListProvisioningSessions(m1.ListProvisioningSessionsRequest(page_size=PAGE, page_token=token))
        return page.provisioning_sessions, page.next_page_token

    return pages(fetch)


async def _session(channels: Channels, name: str) -> m1.ProvisioningSession:
    stub = m1_grpc.ProvisioningSessionsServiceStub(channels.get("af"))
    answer = await stub.GetProvisioningSession(m1.GetProvisioningSessionRequest(provisioning_session_id=name))
    return answer.provisioning_session


async def _session_ids(channels: Channels, filters: Filters) -> AsyncIterator[str]:
    if chosen := filters.get("session"):
        yield (await _session(channels, chosen)).provisioning_session_id
        return
    async for each in _sessions(channels):
        yield each.provisioning_session_id


async def _templates(channels: Channels, filters: Filters) -> AsyncIterator[m1.PolicyTemplate]:
    stub = m1_grpc.PolicyTemplatesServiceStub(channels.get("af"))
    async for session_id in _session_ids(channels, filters):

        async def fetch(token: str, session_id: str = session_id) -> tuple[Sequence[m1.PolicyTemplate], str]:
            page = await stub.ListPolicyTemplates(
                m1.ListPolicyTemplatesRequest(provisioning_session_id=session_id, page_size=PAGE, page_token=token)
            )
            return page.policy_templates, page.next_page_token

        async for template in pages(fetch):
            yield template


async def _template(channels: Channels, name: str) -> m1.PolicyTemplate:
    stub = m1_grpc.PolicyTemplatesServiceStub(channels.get("af"))
    async for session in _sessions(channels):
        if name in session.policy_template_ids:
            request = m1.GetPolicyTemplateRequest(
                provisioning_session_id=session.provisioning_session_id, policy_template_id=name
            )
            return (await stub.GetPolicyTemplate(request)).policy_template
    raise NotFound(f"PolicyTemplate {name!r} does not exist")


async def _consumption_configurations(
    channels: Channels, filters: Filters
) -> AsyncIterator[m1.ConsumptionReportingConfiguration]:
    async for session_id in _session_ids(channels, filters):
        try:
            yield await _consumption_configuration(channels, session_id)
        except NotFound:
            # The session has none.
            continue


async def _consumption_configuration(channels: Channels, name: str) -> m1.ConsumptionReportingConfiguration:
    stub = m1_grpc.ConsumptionReportingProvisioningServiceStub(channels.get("af"))
    request = m1.GetConsumptionReportingConfigurationRequest(provisioning_session_id=name)
    return (await stub.GetConsumptionReportingConfiguration(request)).consumption_reporting_configuration


def _policies(channels: Channels, filters: Filters) -> AsyncIterator[m5.DynamicPolicy]:
    stub = m5_grpc.DynamicPoliciesServiceStub(channels.get("af"))

    async def fetch(token: str) -> tuple[Sequence[m5.DynamicPolicy], str]:
        page = await stub.ListDynamicPolicies(
            m5.ListDynamicPoliciesRequest(
                page_size=PAGE, page_token=token, provisioning_session_id=filters.get("session", "")
            )
        )
        return page.dynamic_policies, page.next_page_token

    return pages(fetch)


async def _policy(channels: Channels, name: str) -> m5.DynamicPolicy:
    stub = m5_grpc.DynamicPoliciesServiceStub(channels.get("af"))
    return (await stub.GetDynamicPolicy(m5.GetDynamicPolicyRequest(dynamic_policy_id=name))).dynamic_policy


def _reporting_sessions(channels: Channels, filters: Filters) -> AsyncIterator[consumption.ConsumptionReportingSession]:
    stub = consumption_grpc.ConsumptionReportsServiceStub(channels.get("af"))

    async def fetch(token: str) -> tuple[Sequence[consumption.ConsumptionReportingSession], str]:
        request = consumption.ListConsumptionReportingSessionsRequest(
            page_size=PAGE, page_token=token, provisioning_session_id=filters.get("session", "")
        )
        page = await stub.ListConsumptionReportingSessions(request)
        return page.consumption_reporting_sessions, page.next_page_token

    return pages(fetch)


async def _reporting_session(channels: Channels, name: str) -> consumption.ConsumptionReportingSession:
    async for each in _reporting_sessions(channels, {}):
        if each.session_id == name:
            return each
    raise NotFound(f"ConsumptionReportingSession {name!r} does not exist")


def _units(channels: Channels, filters: Filters) -> AsyncIterator[consumption.ConsumptionRecord]:
    stub = consumption_grpc.ConsumptionReportsServiceStub(channels.get("af"))

    async def fetch(token: str) -> tuple[Sequence[consumption.ConsumptionRecord], str]:
        wanted = consumption.ConsumptionFilter(provisioning_session_id=filters.get("session", ""))
        request = consumption.ListConsumptionReportingUnitsRequest(filter=wanted, page_size=PAGE, page_token=token)
        page = await stub.ListConsumptionReportingUnits(request)
        return page.consumption_records, page.next_page_token

    return pages(fetch)


async def _unit(_: Channels, name: str) -> consumption.ConsumptionRecord:
    raise InvalidArgument.of(
        "KIND", f"a consumption reporting unit has no identifier of its own, found {name!r}: use ls"
    )


async def _metrics_configurations(
    channels: Channels, filters: Filters
) -> AsyncIterator[metrics.MetricsReportingConfiguration]:
    stub = metrics_grpc.MetricsReportingProvisioningServiceStub(channels.get("af"))
    async for session_id in _session_ids(channels, filters):

        async def fetch(
            token: str, session_id: str = session_id
        ) -> tuple[Sequence[metrics.MetricsReportingConfiguration], str]:
            request = metrics.ListMetricsReportingConfigurationsRequest(
                provisioning_session_id=session_id, page_size=PAGE, page_token=token
            )
            page = await stub.ListMetricsReportingConfigurations(request)
            return page.metrics_reporting_configurations, page.next_page_token

        async for each in pages(fetch):
            yield each


async def _metrics_configuration(channels: Channels, name: str) -> metrics.MetricsReportingConfiguration:
    async for each in _metrics_configurations(channels, {}):
        if each.metrics_reporting_configuration_id == name:
            return each
    raise NotFound(f"MetricsReportingConfiguration {name!r} does not exist")


def _metrics_reports(channels: Channels, filters: Filters) -> AsyncIterator[metrics.MetricsReport]:
    stub = metrics_grpc.MetricsReportsServiceStub(channels.get("af"))

    async def fetch(token: str) -> tuple[Sequence[metrics.MetricsReport], str]:
        request = metrics.ListMetricsReportsRequest(
            page_size=PAGE, page_token=token, provisioning_session_id=filters.get("session", "")
        )
        page = await stub.ListMetricsReports(request)
        return page.metrics_reports, page.next_page_token

    return pages(fetch)


async def _metrics_report(channels: Channels, name: str) -> metrics.MetricsReport:
    stub = metrics_grpc.MetricsReportsServiceStub(channels.get("af"))
    return (await stub.GetMetricsReport(metrics.GetMetricsReportRequest(metrics_report_id=name))).metrics_report


def _subscriptions(channels: Channels, _: Filters) -> AsyncIterator[NotificationSubscription]:
    stub = subscriptions_grpc.NotificationSubscriptionsServiceStub(channels.get("af"))

    async def fetch(token: str) -> tuple[Sequence[NotificationSubscription], str]:
        request = subscriptions.ListNotificationSubscriptionsRequest(page_size=PAGE, page_token=token)
        page = await stub.ListNotificationSubscriptions(request)
        return page.notification_subscriptions, page.next_page_token

    return pages(fetch)


async def _subscription(channels: Channels, name: str) -> NotificationSubscription:
    stub = subscriptions_grpc.NotificationSubscriptionsServiceStub(channels.get("af"))
    request = subscriptions.GetNotificationSubscriptionRequest(subscription_id=name)
    return (await stub.GetNotificationSubscription(request)).notification_subscription


# --- PCF ----------------------------------------------------------------------------------------------------------


def _app_sessions(channels: Channels, _: Filters) -> AsyncIterator[n5.AppSession]:
    stub = n5_grpc.PolicyAuthorizationServiceStub(channels.get("pcf"))

    async def fetch(token: str) -> tuple[Sequence[n5.AppSession], str]:
        page = await stub.ListAppSessions(n5.ListAppSessionsRequest(page_size=PAGE, page_token=token))
        return page.app_sessions, page.next_page_token

    return pages(fetch)


async def _app_session(channels: Channels, name: str) -> n5.AppSession:
    stub = n5_grpc.PolicyAuthorizationServiceStub(channels.get("pcf"))
    return (await stub.GetAppSession(n5.GetAppSessionRequest(app_session_id=name))).app_session


def _sm_policies(channels: Channels, _: Filters) -> AsyncIterator[n7.SmPolicy]:
    stub = n7_grpc.SmPolicyControlServiceStub(channels.get("pcf"))

    async def fetch(token: str) -> tuple[Sequence[n7.SmPolicy], str]:
        page = await stub.ListSmPolicies(n7.ListSmPoliciesRequest(page_size=PAGE, page_token=token))
        return page.sm_policies, page.next_page_token

    return pages(fetch)


async def _sm_policy(channels: Channels, name: str) -> n7.SmPolicy:
    stub = n7_grpc.SmPolicyControlServiceStub(channels.get("pcf"))
    return (await stub.GetSmPolicy(n7.GetSmPolicyRequest(sm_policy_id=name))).sm_policy


def _operator_policies(channels: Channels, _: Filters) -> AsyncIterator[operator.OperatorPolicy]:
    stub = operator_grpc.OperatorPoliciesServiceStub(channels.get("pcf"))

    async def fetch(token: str) -> tuple[Sequence[operator.OperatorPolicy], str]:
        request = operator.ListOperatorPoliciesRequest(page_size=PAGE, page_token=token)
        page = await stub.ListOperatorPolicies(request)
        return page.operator_policies, page.next_page_token

    return pages(fetch)


async def _operator_policy(channels: Channels, name: str) -> operator.OperatorPolicy:
    stub = operator_grpc.OperatorPoliciesServiceStub(channels.get("pcf"))
    request = operator.GetOperatorPolicyRequest(operator_policy_id=name)
    return (await stub.GetOperatorPolicy(request)).operator_policy


def _ledger(channels: Channels, filters: Filters) -> AsyncIterator[operator.LedgerEntry]:
    stub = operator_grpc.LedgerServiceStub(channels.get("pcf"))

    async def fetch(token: str) -> tuple[Sequence[operator.LedgerEntry], str]:
        page = await stub.ListLedgerEntries(
            operator.ListLedgerEntriesRequest(
                app_session_id=filters.get("app-session", ""),
                supi=filters.get("supi", ""),
                page_size=PAGE,
                page_token=token,
            )
        )
        return page.ledger_entries, page.next_page_token

    return pages(fetch)


async def _ledger_entry(channels: Channels, name: str) -> operator.LedgerEntry:
    # An entry has two names: its session's and its rule's.
    app_session_id, _, pcc_rule_id = name.partition("/")
    entries = [each async for each in _ledger(channels, {"app-session": app_session_id})]
    fitting = [each for each in entries if pcc_rule_id in ("", each.pcc_rule_id)]
    if not fitting:
        raise NotFound(f"LedgerEntry {name!r} does not exist")
    if len(fitting) > 1:
        rules = ", ".join(each.pcc_rule_id for each in fitting)
        raise InvalidArgument.of("ID", f"app session {name!r} has several entries: expected {name}/RULE of {rules}")
    return fitting[0]


# --- SMF ----------------------------------------------------------------------------------------------------------


def _pdu_sessions(channels: Channels, _: Filters) -> AsyncIterator[sm.PduSession]:
    stub = sm_grpc.PduSessionsServiceStub(channels.get("smf"))

    async def fetch(token: str) -> tuple[Sequence[sm.PduSession], str]:
        page = await stub.ListPduSessions(sm.ListPduSessionsRequest(page_size=PAGE, page_token=token))
        return page.pdu_sessions, page.next_page_token

    return pages(fetch)


async def _pdu_session(channels: Channels, name: str) -> sm.PduSession:
    stub = sm_grpc.PduSessionsServiceStub(channels.get("smf"))
    return (await stub.GetPduSession(sm.GetPduSessionRequest(sm_context_ref=name))).pdu_session


READINGS: Final[Mapping[str, Reading]] = {
    "provisioning-sessions": Reading(
        _sessions,
        _session,
        columns(
            id="provisioning_session_id", type="provisioning_session_type", provider="asp_id", application="app_id",
            templates="policy_template_ids", created="create_time",
        ),
    ),
    "policy-templates": Reading(
        _templates,
        _template,
        columns(
            id="policy_template_id", session="provisioning_session_id", reference="external_reference", state="state",
            downlink="qos_specification.max_btr_dl_bps", sponsor="charging_specification.spon_id",
            reason="state_reason.detail",
        ),
    ),
    "consumption-reporting-configurations": Reading(
        _consumption_configurations,
        _consumption_configuration,
        columns(
            session="provisioning_session_id", interval_s="reporting_interval_s", percent="sample_percentage",
            location="location_reporting", location_type="location_type", access="access_reporting",
            servers="consumption_reporting_server_address",
        ),
    ),
    "dynamic-policies": Reading(
        _policies,
        _policy,
        columns(
            id="dynamic_policy_id", template="policy_template_id", UE="ue_address", state="state",
            flows="service_data_flow_descriptions", method="enforcement_method", rate="enforcement_bit_rate_bps",
            reason="state_reason.detail",
        ),
    ),
    "consumption-reporting-sessions": Reading(
        _reporting_sessions,
        _reporting_session,
        columns(
            id="session_id", provider="asp_id", session="provisioning_session_id", created="create_time",
            expires="expire_time",
        ),
    ),
    "consumption-reporting-units": Reading(
        _units,
        _unit,
        columns(
            session="provisioning_session_id", client="reporting_client_id", entry="media_player_entry",
            media="consumption_reporting_unit.media_consumed", start="consumption_reporting_unit.start_time",
            duration_s="consumption_reporting_unit.duration_s", locations="consumption_reporting_unit.locations",
        ),
    ),
    "metrics-reporting-configurations": Reading(
        _metrics_configurations,
        _metrics_configuration,
        columns(
            id="metrics_reporting_configuration_id", session="provisioning_session_id", scheme="scheme",
            interval_s="reporting_interval_s", percent="sample_percentage", sampling_s="sampling_period_s",
            metrics="metrics",
        ),
    ),
    "metrics-reports": Reading(
        _metrics_reports,
        _metrics_report,
        columns(
            id="metrics_report_id", session="provisioning_session_id",
            configuration="metrics_reporting_configuration_id", type="content_type", bytes="report_bytes",
            received="receive_time",
        ),
    ),
    "notification-subscriptions": Reading(
        _subscriptions,
        _subscription,
        columns(id="subscription_id", callback="callback_url", subject="subject", types="event_types"),
    ),
    "app-sessions": Reading(
        _app_sessions,
        _app_session,
        columns(
            id="app_session_id", provider="asc_req_data.asp_id", UE_IPv4="asc_req_data.ue_ipv4",
            UE_IPv6="asc_req_data.ue_ipv6", state="state", sponsor="asc_req_data.spon_id",
            method="asc_resp_data.enforcement.enforcement_method",
            downlink="asc_resp_data.enforcement.enforcement_bit_rate_dl_bps",
            uplink="asc_resp_data.enforcement.enforcement_bit_rate_ul_bps",
            operator_policy="asc_resp_data.enforcement.operator_policy_id",
        ),
    ),
    "sm-policies": Reading(
        _sm_policies,
        _sm_policy,
        columns(
            id="sm_policy_id", supi="supi", PDU_session="pdu_session_id", DNN="dnn", slice="slice_info",
            IPv4="ipv4_address", IPv6="ipv6_address_prefix", revision="decision.revision", rules="decision.pcc_rules",
        ),
    ),
    "operator-policies": Reading(
        _operator_policies,
        _operator_policy,
        columns(
            id="operator_policy_id", DNN="dnn", slice="slice_info", sponsor="sponsor_id", downlink="threshold_dl_bps",
            uplink="threshold_ul_bps", method="enforcement_method", excess="excess", burst="burst_bytes",
        ),
    ),
    "ledger": Reading(
        _ledger,
        _ledger_entry,
        columns(
            app_session="app_session_id", rule="pcc_rule_id", supi="supi", sponsor="sponsor_id",
            zero_rated_bytes="zero_rated_bytes", charged_bytes="charged_bytes", dropped_bytes="dropped_bytes",
        ),
    ),
    "pdu-sessions": Reading(
        _pdu_sessions,
        _pdu_session,
        columns(
            id="sm_context_ref", supi="supi", PDU_session="pdu_session_id", DNN="dnn", slice="s_nssai",
            IPv4="ue_ipv4_address", IPv6="ue_ipv6_prefix", state="state", created="create_time",
        ),
    ),
    **MBS_READINGS,
    **NETAPI_READINGS,
}  # fmt: skip
