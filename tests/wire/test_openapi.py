"""The OpenAPI document, and the doors held to it: what is made up from it is answered as it says (schemathesis)."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import requests
import schemathesis
from af_stack import UE, AfStack
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

EXAMPLES = 3
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
METHODS = {"get", "put", "post", "patch", "delete"}


@dataclass
class Served:
    url: str
    document: dict
    known: dict[str, str]


class Background:
    """An AF with its HTTP doors on an event loop of its own, for a client that blocks."""

    def __init__(self, directory: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="af", daemon=True)
        self._directory = directory

    def __enter__(self) -> Served:
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(60)

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stack.__aexit__(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> Served:
        # Made here: what gRPC makes belongs to the loop that runs.
        self._stack = stack = AfStack(self._directory)
        await stack.__aenter__()
        template = await stack.provision(external_reference="known")
        policy = await stack.activate(template)
        session = template.provisioning_session_id
        async with httpx.AsyncClient(base_url=stack.http) as http:
            base = f"/3gpp-m1/v2/provisioning-sessions/{session}"
            await http.post(f"{base}/consumption-reporting-configuration", json={"reportingInterval": 60})
            metrics = await http.post(f"{base}/metrics-reporting-configurations", json={"samplingPeriod": 1})
            reporting = await http.put("/3gpp-5gms-consumption-reporting/v1/asp/session")
            document = (await http.get("/openapi.json")).json()
        known = {
            "aspId": "asp",
            "provisioningSessionId": session,
            "policyTemplateId": template.policy_template_id,
            "dynamicPolicyId": policy.dynamic_policy_id,
            "metricsReportingConfigurationId": metrics.json()["metricsReportingConfigurationId"],
            "sessionId": reporting.headers["location"].rpartition("/")[2],
        }
        return Served(stack.http, document, known)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Background(tmp_path_factory.mktemp("af")) as running:
        yield running


def operations(document: dict) -> Iterator[tuple[str, str, dict]]:
    for path, item in document["paths"].items():
        for method in METHODS & set(item):
            yield path, method, item[method]


def test_every_operation_is_described_and_every_reference_leads_somewhere(served: Served) -> None:
    document = served.document
    assert document["openapi"] == "3.1.0"
    told = list(operations(document))
    assert len(told) >= 40
    identifiers = [operation["operationId"] for _, _, operation in told]
    assert len(set(identifiers)) == len(identifiers)
    for path, method, operation in told:
        assert operation["summary"], (path, method)
        parameters = {each["name"] for each in document["paths"][path].get("parameters", ())}
        assert parameters == set(re.findall(r"\{(\w+)\}", path))
        assert any(status[0] == "2" for status in operation["responses"]), (path, method)
    references = set(re.findall(r"'\$ref': '([^']+)'", str(document)))
    for reference in references:
        part = document
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_schemas_say_what_the_contracts_say(served: Served) -> None:
    schemas = served.document["components"]["schemas"]
    template, wanted, patch = (schemas[f"PolicyTemplate{each}"] for each in ("", "Input", "Patch"))
    assert template["required"] == ["policyTemplateId", "state", "stateReason", "externalReference"]
    assert template["properties"]["state"]["enum"] == ["PENDING", "INVALID", "READY", "SUSPENDED"]
    assert template["properties"]["state"]["readOnly"] is True
    assert wanted["required"] == ["externalReference"]
    # What castcore sets is not there to be sent, and its bookkeeping is shown to nobody.
    assert set(wanted["properties"]) == set(template["properties"]) - {"policyTemplateId", "state", "stateReason"}
    assert "etag" not in template["properties"]
    assert {"type": "null"} in patch["properties"]["externalReference"]["anyOf"]
    assert "required" not in patch
    rate = schemas["M1QosSpecification"]["properties"]["maxBtrDl"]
    assert re.fullmatch(rate["pattern"], "5.000 Mbps")
    assert rate["description"].startswith("Bit rate downlink")
    interval = schemas["ConsumptionReportingConfiguration"]["properties"]["reportingInterval"]
    assert (interval["type"], interval["minimum"], interval["maximum"]) == ("integer", 1, 2**32 - 1)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_whatever_is_sent_is_answered_as_the_document_says(served: Served, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(without_conditions(served.document))
    checks = [*CHECKS, negative_data_rejection] if mode is GenerationMode.NEGATIVE else CHECKS
    failures: list[str] = []
    asked: dict[str, int] = {}
    with requests.Session() as session:
        session.headers["x-ue-address"] = UE
        for result in schema.get_all_operations():
            operation = result.ok()
            has_schema = operation.query or any("json" in each.media_type for each in operation.body)
            if mode is GenerationMode.NEGATIVE and not has_schema:
                # Nothing can be wrong with it.
                continue

            @seed(512)
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode), own=st.booleans())
            def ask(case: Case, own: bool) -> None:
                # What is known stays for those that follow.
                if own and case.path_parameters and case.method != "DELETE":
                    case.path_parameters = {
                        name: served.known.get(name, value) for name, value in case.path_parameters.items()
                    }
                response = case.call(base_url=served.url, session=session)
                asked[case.operation.label] = response.status_code
                try:
                    case.validate_response(response, checks=checks)
                except* Failure as group:
                    failures.append(
                        f"{case.as_curl_command()}\n{response.status_code} {response.text}\n{group.exceptions}"
                    )

            ask()
    assert not failures, "\n\n".join(failures[:12]) + f"\n{len(failures)} failures"
    assert len(asked) >= (40 if mode is GenerationMode.POSITIVE else 20)


def without_conditions(document: dict) -> dict:
    """The document without the conditions of requests: made up ones would answer 412 before anything else is seen."""
    paths = {}
    for path, item in document["paths"].items():
        paths[path] = dict(item)
        for method in METHODS & set(item):
            kept = [each for each in item[method].get("parameters", ()) if each["in"] != "header"]
            paths[path][method] = {**item[method], "parameters": kept}
    return {**document, "paths": paths}
