"""Every row of the draft's tables 5.4.3 and 5.4.3.1-1, and every operation of the doors: code, headers, body."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio
from af_stack import AfStack, flow

from nf.af.v1 import metrics_reporting_pb2 as metrics_pb2
from nf.af.v1 import provisioning_pb2 as m1
from nf.common.codec import to_json
from nf.common.rest import Door

pytestmark = pytest.mark.asyncio(loop_scope="module")

M1, M1D, M5 = "/3gpp-m1/v2", "/3gpp-m1d/v1", "/3gpp-m5/v2"
DRAFT, MANAGEMENT = "/3gpp-5gms-consumption-reporting/v1", "/castcore/v1"

MERGE_PATCH, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"

REPORT = {
    "mediaPlayerEntry": "http://cdn.example/a.mpd",
    "reportingClientId": "client-1",
    "consumptionReportingUnits": [{"mediaConsumed": "v1", "startTime": "2026-05-01T11:59:00Z", "duration": 60}],
}
DRAFT_REPORT = {
    "mediaPlayerEntry": "http://cdn.example/a.mpd",
    "reportingClientId": "client-1",
    "cConsumptionReportingUnit": [{"mediaConsummed": "v1", "startTime": "2026-05-01T11:59:00Z", "duration": 60}],
}

World = Mapping[str, Any]


def anything(_: object, __: World) -> bool:
    return True


def nothing(answer: object, _: World) -> bool:
    return answer is None


def has(**expected: object) -> Callable[[object, World], bool]:
    """The answer has these properties; a value may be a function of the world."""

    def holds(answer: object, world: World) -> bool:
        assert isinstance(answer, dict)
        found = {name: answer.get(name) for name in expected}
        wanted = {name: value(world) if callable(value) else value for name, value in expected.items()}
        assert found == wanted
        return True

    return holds


def item(**expected: object) -> Callable[[object, World], bool]:
    """The one item of a list has these properties, and there is no further page."""

    def holds(answer: object, world: World) -> bool:
        assert isinstance(answer, dict)
        assert answer["nextPageToken"] == ""
        (only,) = answer["items"]
        return has(**expected)(only, world)

    return holds


def problem(*params: str) -> Callable[[object, World], bool]:
    def holds(answer: object, _: World) -> bool:
        assert isinstance(answer, dict)
        assert answer["title"]
        assert answer["detail"]
        assert [each["param"] for each in answer.get("invalidParams", [])] == list(params)
        return True

    return holds


@dataclass(frozen=True)
class Row:
    """One request and what has to come of it. {names} of paths and headers are the world's."""

    method: str
    path: str
    status: int
    body: object = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    answer: Callable[[object, World], bool] = anything
    query: str = ""
    # "configuration" is left out of the world where a row makes it.
    without: Sequence[str] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.path}{self.query} {self.status}"


# What every GET has, and every answer with a new resource.
READ = {"cache-control": "max-age=[1-9][0-9]*", "content-type": "application/json"}
TAGGED = {**READ, "etag": '"[0-9a-f]+"'}
BODY = {"content-type": "application/json"}
PROBLEM = {"content-type": r"application/problem\+json"}
SESSION_METHODS = "OPTIONS, PUT"
REPORT_METHODS = "OPTIONS, POST"
ACQUIRE_METHODS = "GET, HEAD, OPTIONS"

CONFIGURATION = (
    f"{M1D}/application-service-providers/{{aspId}}/provisioning-sessions/{{provisioningSessionId}}"
    "/consumption-reporting-configuration"
)
# Table 5.4.3, with 4.2.5.2 to 4.2.5.5.
TABLE_5_4_3 = [
    Row("POST", CONFIGURATION, 201, {"reportingInterval": 30}, headers={**BODY, "location": f"{{http}}{CONFIGURATION}"},
        answer=has(reportingInterval=30), without=["configuration"]),
    Row("POST", CONFIGURATION, 201, {"reportInterval": 30, "samplePercentage": 12.5, "locationType": 2},
        headers=BODY, answer=has(reportingInterval=30, reportInterval=None, samplePercentage=12.5, locationType=2),
        without=["configuration"]),
    Row("POST", CONFIGURATION, 409, {"reportingInterval": 30}, headers=PROBLEM, answer=problem()),
    Row("POST", CONFIGURATION, 400, {"reportingInterval": 0}, headers=PROBLEM, answer=problem("reportingInterval"),
        without=["configuration"]),
    Row("GET", CONFIGURATION, 200, headers=TAGGED, answer=has(reportingInterval=60, samplePercentage=None)),
    Row("GET", CONFIGURATION, 404, headers=PROBLEM, answer=problem(), without=["configuration"]),
    Row("PUT", CONFIGURATION, 200, {"reportingInterval": 90}, headers=BODY, answer=has(reportingInterval=90)),
    Row("PUT", CONFIGURATION, 404, {"reportingInterval": 90}, headers=PROBLEM, answer=problem(),
        without=["configuration"]),
    Row("PATCH", CONFIGURATION, 200, {"samplePercentage": 50}, MERGE_PATCH, headers=BODY,
        answer=has(reportingInterval=60, samplePercentage=50)),
    Row("PATCH", CONFIGURATION, 200, [{"op": "replace", "path": "/reportingInterval", "value": 45}], JSON_PATCH,
        headers=BODY, answer=has(reportingInterval=45)),
    Row("DELETE", CONFIGURATION, 200, answer=nothing),
    Row("DELETE", CONFIGURATION, 404, headers=PROBLEM, answer=problem(), without=["configuration"]),
    Row("OPTIONS", CONFIGURATION, 204, headers={"allow": "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"}),
]  # fmt: skip

SESSION = f"{DRAFT}/{{aspId}}/session"
REPORTING = f"{DRAFT}/{{aspId}}/session/{{sessionId}}"
ACQUIRE = f"{DRAFT}/{{aspId}}/session/{{sessionId}}/acquire"


def forbidden(path: str, allowed: str, *methods: str) -> list[Row]:
    return [Row(method, path, 405, headers={**PROBLEM, "allow": allowed}, answer=problem()) for method in methods]


# Table 5.4.3.1-1, with 5.4.3.2 to 5.4.3.4.
TABLE_5_4_3_1_1 = [
    Row("PUT", SESSION, 201, headers={**BODY, "location": f"{{http}}{SESSION}/[0-9a-f]{{32}}"},
        answer=has(reportingInterval=60, samplePercentage=100.0, locationReporting=False,
                   consumptionReportingServerAddress=lambda world: [f"{world['http']}{M5}/"])),
    Row("PUT", SESSION, 201, query="?provisioningSessionId={provisioningSessionId}", headers=BODY),
    Row("PUT", SESSION, 404, headers=PROBLEM, answer=problem(), without=["configuration"]),
    Row("PUT", SESSION, 404, query="?provisioningSessionId=no-such", headers=PROBLEM, answer=problem()),
    Row("PUT", f"{DRAFT}/no-such-provider/session", 404, headers=PROBLEM, answer=problem()),
    *forbidden(SESSION, SESSION_METHODS, "GET", "PATCH", "POST", "DELETE"),
    Row("OPTIONS", SESSION, 204, headers={"allow": SESSION_METHODS}),
    Row("GET", ACQUIRE, 200, headers=TAGGED,
        answer=has(reportingInterval=60, samplePercentage=100.0, locationReporting=False)),
    Row("GET", f"{DRAFT}/{{aspId}}/session/no-such/acquire", 404, headers=PROBLEM, answer=problem()),
    Row("GET", f"{DRAFT}/another/session/{{sessionId}}/acquire", 404, headers=PROBLEM, answer=problem()),
    *forbidden(ACQUIRE, ACQUIRE_METHODS, "PUT", "PATCH", "POST", "DELETE"),
    Row("OPTIONS", ACQUIRE, 204, headers={"allow": ACQUIRE_METHODS}),
    Row("POST", REPORTING, 200, DRAFT_REPORT, answer=nothing),
    Row("POST", REPORTING, 200, REPORT, answer=nothing),
    Row("POST", REPORTING, 400, {**REPORT, "locationType": 2}, headers=PROBLEM, answer=problem("location")),
    Row("POST", REPORTING, 400, {**REPORT, "cConsumptionReportingUnit": []}, headers=PROBLEM,
        answer=problem("cConsumptionReportingUnit")),
    Row("POST", REPORTING, 415, REPORT, "text/plain", headers={**PROBLEM, "accept": "application/json"},
        answer=problem()),
    Row("POST", f"{DRAFT}/{{aspId}}/session/no-such", 404, REPORT, headers=PROBLEM, answer=problem()),
    *forbidden(REPORTING, REPORT_METHODS, "GET", "PUT", "PATCH", "DELETE"),
    Row("OPTIONS", REPORTING, 204, headers={"allow": REPORT_METHODS}),
]  # fmt: skip

POLICY = {
    "provisioningSessionId": "{provisioningSessionId}",
    "policyTemplateId": "{policyTemplateId}",
    "serviceDataFlowDescriptions": [to_json(flow(50001))],
}
SESSION_1 = f"{M1}/provisioning-sessions/{{provisioningSessionId}}"
CONFIGURATION_1 = f"{SESSION_1}/consumption-reporting-configuration"
TEMPLATE_1 = f"{SESSION_1}/policy-templates/{{policyTemplateId}}"
METRICS_1 = f"{SESSION_1}/metrics-reporting-configurations/{{metricsReportingConfigurationId}}"
METRICS = {"samplingPeriod": 5}
POLICY_5 = f"{M5}/dynamic-policies/{{dynamicPolicyId}}"
# Of what never happens: nobody has to be told.
SUBSCRIBING = {"callbackUrl": "http://127.0.0.1:9/", "subject": "nothing"}
SUBSCRIPTION = f"{MANAGEMENT}/notification-subscriptions/{{subscriptionId}}"
TEMPLATE = {"externalReference": "another", "qoSSpecification": {"maxBtrDl": "2.500 Mbps"}}


def own(name: str) -> Callable[[World], object]:
    return lambda world: world[name]


OPERATIONS = [
    # M1
    Row("POST", f"{M1}/provisioning-sessions", 201, {"provisioningSessionType": "DOWNLINK", "appId": "app"},
        headers={**BODY, "location": f"{{http}}{M1}/provisioning-sessions/[0-9a-f]{{32}}"}, answer=has(appId="app")),
    Row("GET", SESSION_1, 200, headers=TAGGED, answer=has(provisioningSessionId=own("provisioningSessionId"))),
    Row("DELETE", SESSION_1, 204, answer=nothing),
    Row("GET", f"{SESSION_1}/protocols", 200, headers=READ),
    Row("POST", CONFIGURATION_1, 201, {"reportingInterval": 30},
        headers={**BODY, "location": f"{{http}}{CONFIGURATION_1}"}, answer=has(reportingInterval=30),
        without=["configuration"]),
    Row("GET", CONFIGURATION_1, 200, headers=TAGGED, answer=has(reportingInterval=60)),
    Row("PUT", CONFIGURATION_1, 204, {"reportingInterval": 90}, answer=nothing),
    Row("PATCH", CONFIGURATION_1, 200, {"reportingInterval": 90}, MERGE_PATCH, headers=BODY,
        answer=has(reportingInterval=90)),
    Row("DELETE", CONFIGURATION_1, 204, answer=nothing),
    Row("POST", f"{SESSION_1}/policy-templates", 201, TEMPLATE,
        headers={**BODY, "location": f"{{http}}{SESSION_1}/policy-templates/[0-9a-f]{{32}}"},
        answer=has(externalReference="another", state="PENDING")),
    Row("GET", TEMPLATE_1, 200, headers=TAGGED, answer=has(externalReference="zero-rating", state="READY")),
    Row("PUT", TEMPLATE_1, 204, TEMPLATE, answer=nothing),
    Row("PATCH", TEMPLATE_1, 200, {"externalReference": "patched"}, MERGE_PATCH, headers=BODY,
        answer=has(externalReference="patched")),
    Row("DELETE", TEMPLATE_1, 204, answer=nothing),
    Row("POST", f"{SESSION_1}/metrics-reporting-configurations", 201, METRICS,
        headers={**BODY, "location": f"{{http}}{SESSION_1}/metrics-reporting-configurations/[0-9a-f]{{32}}"},
        answer=has(samplingPeriod=5)),
    Row("GET", METRICS_1, 200, headers=TAGGED, answer=has(samplingPeriod=10)),
    Row("PUT", METRICS_1, 204, METRICS, answer=nothing),
    Row("PATCH", METRICS_1, 200, {"samplingPeriod": 7}, MERGE_PATCH, headers=BODY, answer=has(samplingPeriod=7)),
    Row("DELETE", METRICS_1, 204, answer=nothing),
    # M5
    Row("GET", f"{M5}/service-access-information/{{provisioningSessionId}}", 200,
        headers={**TAGGED, "last-modified": ".* GMT"},
        answer=has(provisioningSessionId=own("provisioningSessionId"), provisioningSessionType="DOWNLINK")),
    Row("POST", f"{M5}/dynamic-policies", 201, POLICY,
        headers={**BODY, "etag": '".+"', "location": f"{{http}}{M5}/dynamic-policies/[0-9a-f]{{32}}"},
        answer=has(enforcementMethod="MONITOR", enforcementBitRate=5_000_000, state="ACTIVE")),
    Row("GET", POLICY_5, 200, headers=TAGGED, answer=has(dynamicPolicyId=own("dynamicPolicyId"), state="ACTIVE")),
    Row("PUT", POLICY_5, 200, POLICY, headers=BODY, answer=has(enforcementMethod="MONITOR")),
    Row("PATCH", POLICY_5, 200, {"mediaType": "AUDIO"}, MERGE_PATCH, headers=BODY, answer=has(mediaType="AUDIO")),
    Row("DELETE", POLICY_5, 204, answer=nothing),
    Row("POST", f"{M5}/consumption-reporting/{{provisioningSessionId}}", 204, REPORT, answer=nothing),
    Row("POST", f"{M5}/metrics-reporting/{{provisioningSessionId}}/{{metricsReportingConfigurationId}}", 204,
        "<QoeReport/>", "application/3gpdash-qoe-report+xml", answer=nothing),
    Row("POST", f"{M5}/metrics-reporting/{{provisioningSessionId}}/{{metricsReportingConfigurationId}}", 415,
        "<QoeReport/>", "text/xml", headers=PROBLEM, answer=problem()),
    # Management
    Row("GET", f"{MANAGEMENT}/provisioning-sessions", 200, headers=READ,
        query="?pageSize=1&pageToken=", answer=anything),
    Row("GET", f"{MANAGEMENT}/provisioning-sessions/{{provisioningSessionId}}", 200, headers=TAGGED,
        answer=has(aspId=own("aspId"))),
    *(
        Row("GET", f"{MANAGEMENT}/{kind}", 200, headers=READ, query="?provisioningSessionId={provisioningSessionId}",
            answer=item(**{name: own(name)}))
        for kind, name in (
            ("policy-templates", "policyTemplateId"),
            ("consumption-reporting-configurations", "provisioningSessionId"),
            ("dynamic-policies", "dynamicPolicyId"),
            ("metrics-reporting-configurations", "metricsReportingConfigurationId"),
            ("metrics-reports", "metricsReportId"),
            ("consumption-reporting-sessions", "sessionId"),
        )
    ),
    Row("GET", f"{MANAGEMENT}/policy-templates/{{policyTemplateId}}", 200, headers=TAGGED, answer=has(state="READY")),
    Row("GET", f"{MANAGEMENT}/consumption-reporting-configurations/{{provisioningSessionId}}", 200, headers=TAGGED,
        answer=has(reportingInterval=60)),
    Row("GET", f"{MANAGEMENT}/dynamic-policies/{{dynamicPolicyId}}", 200, headers=TAGGED, answer=has(state="ACTIVE")),
    Row("GET", f"{MANAGEMENT}/metrics-reporting-configurations/{{metricsReportingConfigurationId}}", 200,
        headers=TAGGED, answer=has(samplingPeriod=10)),
    Row("GET", f"{MANAGEMENT}/metrics-reports/{{metricsReportId}}", 200, headers=READ,
        answer=has(report="PGEvPg==", contentType="application/xml")),
    Row("POST", f"{MANAGEMENT}/notification-subscriptions", 201, SUBSCRIBING,
        headers={**BODY, "location": f"{{http}}{MANAGEMENT}/notification-subscriptions/[0-9a-f]{{32}}"}),
    Row("GET", f"{MANAGEMENT}/notification-subscriptions", 200, headers=BODY),
    Row("GET", SUBSCRIPTION, 200, headers=BODY, answer=has(subscriptionId=own("subscriptionId"))),
    Row("PUT", SUBSCRIPTION, 200, {**SUBSCRIBING, "callbackUrl": "http://127.0.0.1:9/b"}, headers=BODY,
        answer=has(callbackUrl="http://127.0.0.1:9/b")),
    Row("PATCH", SUBSCRIPTION, 200, {"callbackUrl": "http://127.0.0.1:9/c"}, MERGE_PATCH, headers=BODY,
        answer=has(callbackUrl="http://127.0.0.1:9/c")),
    Row("DELETE", SUBSCRIPTION, 204, answer=nothing),
    Row("GET", f"{MANAGEMENT}/events", 200, headers=READ, query="?after=0&pageSize=1"),
    Row("GET", f"{MANAGEMENT}/consumption-reporting-units", 200, headers=READ,
        query="?provisioningSessionId={provisioningSessionId}", answer=item(reportingClientId="client-0")),
    Row("GET", f"{MANAGEMENT}/consumption-aggregates", 200, headers=READ,
        query="?provisioningSessionId={provisioningSessionId}",
        answer=item(mediaConsumed="v0", clientCount=1, consumedSeconds=10.0)),
    Row("GET", f"{MANAGEMENT}/consumption-statistics/{{provisioningSessionId}}", 200, headers=READ,
        answer=has(reportCount=1, unitCount=1, clientCount=1)),
    Row("GET", f"{MANAGEMENT}/consumption-export", 200, query="?provisioningSessionId={provisioningSessionId}",
        headers={"content-type": "text/csv.*", "content-disposition": 'attachment; filename="consumption.csv"'}),
    Row("GET", f"{MANAGEMENT}/consumption-export", 200,
        query="?provisioningSessionId={provisioningSessionId}&format=jsonl",
        headers={"content-type": "application/jsonl"}, answer=has(reportingClientId="client-0", duration=10)),
    Row("GET", f"{MANAGEMENT}/consumption-export", 400, query="?format=xls", headers=PROBLEM, answer=problem("format")),
    Row("GET", f"{MANAGEMENT}/consumption-reporting-units", 400, query="?startTime=now", headers=PROBLEM,
        answer=problem("startTime")),
    Row("GET", f"{MANAGEMENT}/provisioning-sessions", 400, query="?pageSize=-1", headers=PROBLEM,
        answer=problem("pageSize")),
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AfStack]:
    async with AfStack(tmp_path_factory.mktemp("tables")) as started:
        yield started


_worlds = iter(range(10_000))


async def world_of(stack: AfStack, without: Sequence[str]) -> World:
    """Resources of a provider that a row has to itself."""
    asp_id = f"asp-{next(_worlds)}"
    session_id = (await stack.new_session(asp_id=asp_id)).provisioning_session_id
    template = await stack.new_template(session_id)
    policy = await stack.activate(template)
    world = {
        "http": stack.http,
        "aspId": asp_id,
        "provisioningSessionId": session_id,
        "policyTemplateId": template.policy_template_id,
        "dynamicPolicyId": policy.dynamic_policy_id,
        "sessionId": "",
    }
    metrics = metrics_pb2.MetricsReportingConfiguration(sampling_period_s=10)
    created = await stack.metrics_provisioning.CreateMetricsReportingConfiguration(
        metrics_pb2.CreateMetricsReportingConfigurationRequest(
            provisioning_session_id=session_id, metrics_reporting_configuration=metrics
        )
    )
    metrics_id = created.metrics_reporting_configuration.metrics_reporting_configuration_id
    world["metricsReportingConfigurationId"] = metrics_id
    reported = await stack.http_client.post(
        f"{M5}/metrics-reporting/{session_id}/{metrics_id}",
        content=b"<a/>",
        headers={"content-type": "application/xml"},
    )
    assert reported.status_code == 204
    listed = await stack.http_client.get(f"{MANAGEMENT}/metrics-reports", params={"provisioningSessionId": session_id})
    (metrics_report,) = listed.json()["items"]
    world["metricsReportId"] = metrics_report["metricsReportId"]
    if "configuration" not in without:
        configuration = m1.ConsumptionReportingConfiguration(reporting_interval_s=60)
        await stack.consumption.CreateConsumptionReportingConfiguration(
            m1.CreateConsumptionReportingConfigurationRequest(
                provisioning_session_id=session_id, consumption_reporting_configuration=configuration
            )
        )
        answer = await stack.http_client.put(f"{DRAFT}/{asp_id}/session")
        world["sessionId"] = answer.headers["location"].rpartition("/")[2]
        units = [{"mediaConsumed": "v0", "startTime": "2026-05-01T11:00:00Z", "duration": 10}]
        report = {**REPORT, "reportingClientId": "client-0", "consumptionReportingUnits": units}
        reported = await stack.http_client.post(f"{M5}/consumption-reporting/{session_id}", json=report)
        assert reported.status_code == 204
    return world


def filled(text: str, world: World) -> str:
    """The text with the names of the world in it; other braces stay."""
    return re.sub(r"\{(\w+)\}", lambda match: str(world[match[1]]) if match[1] in world else match[0], text)


async def check(stack: AfStack, row: Row, slash: str = "") -> None:
    world = await world_of(stack, row.without)
    if "{subscriptionId}" in row.path:
        subscribed = await stack.http_client.post(f"{MANAGEMENT}/notification-subscriptions", json=SUBSCRIBING)
        world = {**world, "subscriptionId": subscribed.json()["subscriptionId"]}
    text = row.body if isinstance(row.body, str) else json.dumps(row.body)
    content = None if row.body is None else filled(text, world).encode()
    answer: httpx.Response = await stack.http_client.request(
        row.method,
        filled(row.path, world) + slash + filled(row.query, world),
        content=content,
        headers={} if content is None else {"content-type": row.content_type},
    )
    assert answer.status_code == row.status, answer.text
    for name, pattern in row.headers.items():
        found = answer.headers.get(name, "")
        assert re.fullmatch(filled(pattern, world), found), f"{name}: {found}"
    kind = answer.headers.get("content-type", "")
    told = json.loads(answer.content) if answer.content and "json" in kind else answer.content or None
    assert row.answer(told, world)


@pytest.mark.clause("TS 26.512 CR §5.4.3", "TS 26.512 CR §4.2.5")
@pytest.mark.parametrize("slash", ["", "/"], ids=["", "slash"])
@pytest.mark.parametrize("row", TABLE_5_4_3, ids=str)
async def test_table_5_4_3(stack: AfStack, row: Row, slash: str) -> None:
    await check(stack, row, slash)


@pytest.mark.clause("TS 26.512 CR §5.4.3.1", "TS 26.512 CR §5.4.3.2", "TS 26.512 CR §5.4.3.3", "TS 26.512 CR §5.4.3.4")
@pytest.mark.parametrize("slash", ["", "/"], ids=["", "slash"])
@pytest.mark.parametrize("row", TABLE_5_4_3_1_1, ids=str)
async def test_table_5_4_3_1_1(stack: AfStack, row: Row, slash: str) -> None:
    await check(stack, row, slash)


@pytest.mark.parametrize("row", OPERATIONS, ids=str)
async def test_an_operation(stack: AfStack, row: Row) -> None:
    await check(stack, row)


async def test_every_operation_that_is_served_has_a_row(stack: AfStack) -> None:
    served = {
        (operation.method, re.sub(r"\{\w+\}", "{}", door.prefix + operation.path))
        for door in stack.routes
        if isinstance(door, Door)
        for operation in door.operations
    }
    rows = {
        (row.method, re.sub(r"\{\w+\}", "{}", row.path))
        for row in (*TABLE_5_4_3, *TABLE_5_4_3_1_1, *OPERATIONS)
        if row.status < 300
    }
    assert served
    assert served - rows == set()


async def test_a_provider_with_several_configurations_has_to_say_which(stack: AfStack) -> None:
    world = await world_of(stack, ())
    other = (await stack.new_session(asp_id=world["aspId"])).provisioning_session_id
    await stack.consumption.CreateConsumptionReportingConfiguration(
        m1.CreateConsumptionReportingConfigurationRequest(provisioning_session_id=other)
    )
    url = filled(SESSION, world)
    answer = await stack.http_client.put(url)
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    chosen = await stack.http_client.put(url, params={"provisioningSessionId": other})
    assert chosen.status_code == 201


async def test_every_put_makes_a_new_session(stack: AfStack) -> None:
    url = filled(SESSION, await world_of(stack, ()))
    made = {(await stack.http_client.put(url)).headers["location"] for _ in range(3)}
    assert len(made) == 3


async def test_the_tables_are_whole() -> None:
    """Every method on each resource of the draft, as its tables and its clauses 5.4.3.2 to 5.4.3.4 have them."""
    methods = ("GET", "PUT", "PATCH", "POST", "DELETE")
    told = {(row.path, row.method) for row in TABLE_5_4_3_1_1}
    assert told >= {(path, method) for path in (SESSION, ACQUIRE, REPORTING) for method in methods}
    assert {row.method for row in TABLE_5_4_3} >= set(methods)
