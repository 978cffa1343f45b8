"""Every operation of M1 and M5 against 3GPP's own OpenAPI files (OFFICIAL_OPENAPI: their directory)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from af_stack import UE, AfStack
from official_schemas import OfficialSchemas

DIRECTORY = os.environ.get("OFFICIAL_OPENAPI", "")

pytestmark = [
    pytest.mark.skipif(not DIRECTORY, reason="OFFICIAL_OPENAPI names no directory with the files of 3GPP"),
    # PyYAML and the libraries of the schemas: nothing of castcore's.
    pytest.mark.filterwarnings("default::DeprecationWarning"),
]

SESSIONS = "TS26512_M1_ProvisioningSessions.yaml"
PROTOCOLS = "TS26512_M1_ContentProtocolsDiscovery.yaml"
CONSUMPTION = "TS26512_M1_ConsumptionReportingProvisioning.yaml"
METRICS = "TS26512_M1_MetricsReportingProvisioning.yaml"
TEMPLATES = "TS26512_M1_PolicyTemplatesProvisioning.yaml"
ACCESS = "TS26512_M5_ServiceAccessInformation.yaml"
POLICIES = "TS26512_M5_DynamicPolicies.yaml"
REPORTS = "TS26512_M5_ConsumptionReporting.yaml"
METRICS_REPORTS = "TS26512_M5_MetricsReporting.yaml"
FILES = (SESSIONS, PROTOCOLS, CONSUMPTION, METRICS, TEMPLATES, ACCESS, POLICIES, REPORTS, METRICS_REPORTS)
# The schema of what an operation answers where the file gives the answer no body.
BODIES = {
    TEMPLATES: "PolicyTemplate",
    CONSUMPTION: "ConsumptionReportingConfiguration",
    METRICS: "MetricsReportingConfiguration",
}
# What the files leave open and the text of TS 26.512 does not: PUT of a dynamic policy answers with it.
BEYOND = {(POLICIES, "put"): {"200"}}
PREFIXES = {"M1": "/3gpp-m1/v2", "M5": "/3gpp-m5/v2"}

FLOW = {"flowDescription": {"srcIp": "198.51.100.7", "dstIp": UE, "protocol": 6, "srcPort": 443, "dstPort": 50000,
                            "direction": "BIDIRECTIONAL"}}  # fmt: skip
RATES = {
    "marBwDlBitRate": "2 Mbps",
    "marBwUlBitRate": "1 Mbps",
    "mirBwDlBitRate": "1 Mbps",
    "mirBwUlBitRate": "0.5 Mbps",
}
UNIT = {
    "mediaConsumed": "video-1",
    "startTime": "2026-03-01T12:00:00Z",
    "duration": 10,
    "clientEndpointAddress": {"ipv4Addr": UE, "portNumber": 50000},
    "serverEndpointAddress": {"hostname": "media.example", "ipv4Addr": "198.51.100.7", "portNumber": 443},
    "locations": [{"locationIdentifierType": "NCGI", "location": "001010000000001"}],
}


@dataclass
class Walk:
    """Asks, and holds each answer to the file of its API."""

    http: httpx.AsyncClient
    official: OfficialSchemas
    walked: set[tuple[str, str, str]] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    async def __call__(
        self, file: str, method: str, path: str, expected: int, body: object = None, kind: str = "application/json"
    ) -> httpx.Response:
        prefix = PREFIXES[file[8:10]]
        content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        headers = {"x-ue-address": UE, **({"content-type": kind} if content is not None else {})}
        response = await self.http.request(method, f"{prefix}{path}", content=content, headers=headers)
        assert response.status_code == expected, (method, path, response.text)
        template, operation = self.official.operation(file, path, method.lower())
        status = str(expected)
        self.walked.add((file, method.lower(), template))
        if expected >= 400:
            self._hold("TS29571_CommonData.yaml", "/components/schemas/ProblemDetails", response)
            assert response.headers["content-type"] == "application/problem+json"
            return response
        if status not in operation["responses"] and status not in BEYOND.get((file, method.lower()), ()):
            self.wrong.append(f"{method} {path}: {status} is none of {list(operation['responses'])}")
        told = operation["responses"].get(status, {})
        for name, header in told.get("headers", {}).items():
            if header.get("required") and name not in response.headers:
                self.wrong.append(f"{method} {path}: no header {name}")
        if "location" in response.headers:
            assert response.headers["location"].startswith(str(self.http.base_url))
        if response.content:
            escaped = template.replace("/", "~1").replace("{", "%7B").replace("}", "%7D")
            if "content" in told:
                pointer = f"/paths/{escaped}/{method.lower()}/responses/{status}/content/application~1json/schema"
            else:
                pointer = f"/components/schemas/{BODIES.get(file, 'DynamicPolicy')}"
            self._hold(file, pointer, response)
        return response

    def _hold(self, file: str, pointer: str, response: httpx.Response) -> None:
        found = self.official.errors(file, pointer, response.json())
        self.wrong += [f"{response.request.method} {response.request.url.path}: {each}" for each in found]


def test_the_check_finds_what_is_wrong() -> None:
    official = OfficialSchemas(Path(DIRECTORY))
    template = {"policyTemplateId": "x", "state": "READY", "stateReason": {}, "externalReference": "y"}
    pointer = "/components/schemas/PolicyTemplate"
    assert official.errors(TEMPLATES, pointer, template) == []
    wrong = {**template, "state": 7, "qoSSpecification": {"maxBtrDl": "fast"}, "chargingSpecification": {"gpsi": ["?"]}}
    del wrong["stateReason"]
    found = " ".join(official.errors(TEMPLATES, pointer, wrong))
    for part in ("'stateReason' is a required property", "$.state", "$.qoSSpecification.maxBtrDl"):
        assert part in found
    # An interval has to be greater than 0, which OpenAPI 3.0 says in a way of its own.
    configuration = "/components/schemas/ConsumptionReportingConfiguration"
    assert official.errors(CONSUMPTION, configuration, {"reportingInterval": 1}) == []
    assert official.errors(CONSUMPTION, configuration, {"reportingInterval": 0}) != []


@pytest.mark.clause("TS 26.512 §7", "TS 26.512 §11", "TS 29.571 §5.2.4.1")
async def test_every_operation_answers_as_the_official_files_say(tmp_path: Path) -> None:
    official = OfficialSchemas(Path(DIRECTORY))
    merge = "application/merge-patch+json"
    async with AfStack(tmp_path) as af, httpx.AsyncClient(base_url=af.http, verify=False) as http:
        walk = Walk(http, official)
        entry = {"locator": "https://media.example/x.mpd", "contentType": "application/dash+xml",
                 "profiles": ["urn:mpeg:dash:profile:isoff-live:2011"]}  # fmt: skip
        wanted = {"provisioningSessionType": "DOWNLINK", "appId": "app", "aspId": "asp", "entryPoints": [entry]}
        made = await walk(SESSIONS, "POST", "/provisioning-sessions", 201, wanted)
        session = f"/provisioning-sessions/{made.json()['provisioningSessionId']}"
        name = session.rpartition("/")[2]
        await walk(SESSIONS, "POST", "/provisioning-sessions", 400, {"appId": 7})
        await walk(PROTOCOLS, "GET", f"{session}/protocols", 200)
        # Nothing is set up: what clients are told is valid all the same.
        await walk(ACCESS, "GET", f"/service-access-information/{name}", 200)

        path = f"{session}/consumption-reporting-configuration"
        everything = {
            "reportingInterval": 60,
            "samplePercentage": 50,
            "locationReporting": True,
            "accessReporting": True,
        }
        await walk(CONSUMPTION, "POST", path, 201, everything)
        await walk(CONSUMPTION, "POST", path, 409, everything)
        await walk(CONSUMPTION, "GET", path, 200)
        await walk(CONSUMPTION, "PUT", path, 204, {**everything, "reportingInterval": 30})
        await walk(CONSUMPTION, "PATCH", path, 200, {"samplePercentage": 100}, merge)
        await walk(CONSUMPTION, "PATCH", path, 415, {"samplePercentage": 100})

        path = f"{session}/metrics-reporting-configurations"
        metrics = {"scheme": "urn:3GPP:ns:PSS:DASH:QM10", "reportingInterval": 60, "samplingPeriod": 5,
                   "samplePercentage": 100, "urlFilters": ["https://a.b/.*"], "metrics": ["HttpList"]}  # fmt: skip
        made = await walk(METRICS, "POST", path, 201, metrics)
        configuration = made.json()["metricsReportingConfigurationId"]
        path = f"{path}/{configuration}"
        await walk(METRICS, "GET", path, 200)
        await walk(METRICS, "PUT", path, 204, {**metrics, "samplingPeriod": 10})
        await walk(METRICS, "PATCH", path, 200, {"samplePercentage": None}, merge)

        path = f"{session}/policy-templates"
        template = {
            "externalReference": "gold",
            "qoSSpecification": {"maxBtrDl": "5.000 Mbps", "maxBtrUl": "1.5 Mbps", "maxAuthBtrDl": "8 Mbps"},
            "applicationSessionContext": {"sliceInfo": {"sst": 1, "sd": "00ABCD"}, "dnn": "internet"},
            "chargingSpecification": {"sponId": "sponsor", "sponStatus": "SPONSOR_ENABLED"},
        }
        made = await walk(TEMPLATES, "POST", path, 201, template)
        policy_template = made.json()["policyTemplateId"]
        wrong = await walk(TEMPLATES, "POST", path, 201, {"externalReference": "nothing"})
        await af.template_state(wrong.json()["policyTemplateId"], "INVALID")
        await walk(TEMPLATES, "GET", f"{path}/{wrong.json()['policyTemplateId']}", 200)
        await walk(TEMPLATES, "DELETE", f"{path}/{wrong.json()['policyTemplateId']}", 204)
        path = f"{path}/{policy_template}"
        await walk(TEMPLATES, "PUT", path, 204, template)
        before = af.store.sequence
        patched = await walk(TEMPLATES, "PATCH", path, 200, {"qoSSpecification": {"maxBtrUl": "1 Mbps"}}, merge)
        assert patched.json()["state"] == "PENDING"
        await af.template_state(policy_template, "READY", before)
        await walk(TEMPLATES, "GET", path, 200)
        await walk(SESSIONS, "GET", session, 200)

        access = (await walk(ACCESS, "GET", f"/service-access-information/{name}", 200)).json()
        assert {
            "clientConsumptionReportingConfiguration",
            "clientMetricsReportingConfigurations",
            "dynamicPolicyInvocationConfiguration",
            "streamingAccess",
        } <= set(access)
        policy = {"policyTemplateId": policy_template, "provisioningSessionId": name, "mediaType": "VIDEO",
                  "serviceDataFlowDescriptions": [FLOW], "qosSpecification": RATES}  # fmt: skip
        made = await walk(POLICIES, "POST", "/dynamic-policies", 201, policy)
        path = f"/dynamic-policies/{made.json()['dynamicPolicyId']}"
        await walk(POLICIES, "POST", "/dynamic-policies", 400, {})
        await walk(POLICIES, "GET", path, 200)
        await walk(POLICIES, "PUT", path, 200, {**policy, "mediaType": "AUDIO"})
        await walk(POLICIES, "PATCH", path, 200, {"mediaType": "VIDEO"}, merge)
        await walk(POLICIES, "DELETE", path, 204)
        await walk(POLICIES, "GET", path, 404)

        report = {
            "mediaPlayerEntry": entry["locator"],
            "reportingClientId": "client",
            "consumptionReportingUnits": [UNIT],
        }
        path = f"/consumption-reporting/{name}"
        await walk(REPORTS, "POST", path, 204, report)
        await walk(REPORTS, "POST", path, 400, {**report, "consumptionReportingUnits": "none"})
        await walk(REPORTS, "POST", path, 415, b"<x/>", "text/xml")
        path = f"/metrics-reporting/{name}/{configuration}"
        await walk(METRICS_REPORTS, "POST", path, 204, b"<QoeReport/>", "application/3gpdash-qoe-report+xml")
        await walk(METRICS_REPORTS, "POST", path, 415, b"x", "image/png")

        await walk(METRICS, "DELETE", f"{session}/metrics-reporting-configurations/{configuration}", 204)
        await walk(TEMPLATES, "DELETE", f"{session}/policy-templates/{policy_template}", 204)
        await walk(CONSUMPTION, "DELETE", f"{session}/consumption-reporting-configuration", 204)
        await walk(SESSIONS, "DELETE", session, 204)
        await walk(SESSIONS, "GET", session, 404)
        assert walk.wrong == []
    methods = {"get", "put", "post", "patch", "delete"}
    told = {
        (file, method, path)
        for file in FILES
        for path, item in official.files[file]["paths"].items()
        for method in methods & set(item)
    }
    assert told - walk.walked == set()
