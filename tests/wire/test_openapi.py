"""The OpenAPI document, and the doors held to it: what is made up from it is answered as it says (schemathesis)."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from af_stack import UE, AfStack
from jsonschema import Draft202012Validator
from made_up_requests import METHODS, Served, ask_everything
from schemathesis.generation import GenerationMode


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
        async with httpx.AsyncClient(base_url=stack.http, verify=False) as http:
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
    failures, asked = ask_everything(served, mode, headers={"x-ue-address": UE})
    assert not failures, "\n\n".join(failures[:12]) + f"\n{len(failures)} failures"
    assert len(asked) >= (40 if mode is GenerationMode.POSITIVE else 20)
