"""M5 over HTTP: service access information, dynamic policies and reports, on the resources that gRPC has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from af_stack import OTHER_UE, UE, AfStack, flow, rule

from nf.af.v1 import provisioning_pb2 as m1
from nf.common.clock import ManualClock
from nf.common.codec import to_json
from nf.common.errors import FailedPrecondition
from nf.common.store import Reader

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
POLICIES = "/3gpp-m5/v2/dynamic-policies"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
async def stack(tmp_path: Path, clock: ManualClock) -> AsyncIterator[AfStack]:
    async with AfStack(tmp_path, clock=clock) as started:
        yield started


def wanted(template: m1.PolicyTemplate, *ports: int, **changes: object) -> dict[str, object]:
    """A dynamic policy as a client asks for it."""
    return {
        "provisioningSessionId": template.provisioning_session_id,
        "policyTemplateId": template.policy_template_id,
        "serviceDataFlowDescriptions": [to_json(flow(port)) for port in ports or (50000,)],
        **changes,
    }


async def activated(stack: AfStack, **changes: object) -> tuple[m1.PolicyTemplate, httpx.Response]:
    template = await stack.provision()
    answer = await stack.http_client.post(POLICIES, json=wanted(template, **changes))
    assert answer.status_code == 201, answer.text
    return template, answer


def access_url(session_id: str) -> str:
    return f"/3gpp-m5/v2/service-access-information/{session_id}"


# --- service access information -----------------------------------------------------------------------------------


@pytest.mark.clause("TS 26.512 §11.2", "TS 26.512 A.3.3")
async def test_service_access_information_has_what_a_client_needs(stack: AfStack) -> None:
    session = await stack.new_session(
        entry_points=[m1.MediaEntryPoint(locator="http://cdn.example/a.mpd", content_type="application/dash+xml")]
    )
    template = await stack.new_template(session.provisioning_session_id)
    configuration = m1.ConsumptionReportingConfiguration(reporting_interval_s=30, sample_percentage=50)
    await stack.consumption.CreateConsumptionReportingConfiguration(
        m1.CreateConsumptionReportingConfigurationRequest(
            provisioning_session_id=session.provisioning_session_id, consumption_reporting_configuration=configuration
        )
    )
    answer = await stack.http_client.get(access_url(session.provisioning_session_id))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    here = f"{stack.http}/3gpp-m5/v2/"
    assert answer.json() == {
        "provisioningSessionId": session.provisioning_session_id,
        "provisioningSessionType": "DOWNLINK",
        "streamingAccess": {
            "entryPoints": [{"locator": "http://cdn.example/a.mpd", "contentType": "application/dash+xml"}]
        },
        "clientConsumptionReportingConfiguration": {
            "reportingInterval": 30,
            "serverAddresses": [here],
            "locationReporting": False,
            "accessReporting": False,
            "samplePercentage": 50.0,
        },
        "dynamicPolicyInvocationConfiguration": {
            "serverAddresses": [here],
            "policyTemplateBindings": [
                {
                    "externalReference": "zero-rating",
                    "policyTemplateId": template.policy_template_id,
                    "mandatoryRequestInformation": ["policyTemplateId", "serviceDataFlowDescriptions"],
                    "responseInformation": ["enforcementMethod", "enforcementBitRate", "serviceDescriptorFilter"],
                }
            ],
            "sdfMethods": answer.json()["dynamicPolicyInvocationConfiguration"]["sdfMethods"],
        },
    }
    assert "5_TUPLE" in answer.json()["dynamicPolicyInvocationConfiguration"]["sdfMethods"]


async def test_a_client_may_keep_it_for_a_while_and_asks_again_without_getting_it_twice(stack: AfStack) -> None:
    session = await stack.new_session()
    url = access_url(session.provisioning_session_id)
    first = await stack.http_client.get(url)
    assert first.headers["cache-control"] == "max-age=60"
    assert first.headers["last-modified"] == "Fri, 01 May 2026 12:00:00 GMT"
    again = await stack.http_client.get(url, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    since = await stack.http_client.get(url, headers={"if-modified-since": first.headers["last-modified"]})
    assert since.status_code == 304


async def test_it_changes_with_what_it_is_made_of_and_with_nothing_else(stack: AfStack) -> None:
    session = await stack.new_session()
    url = access_url(session.provisioning_session_id)
    bare = await stack.http_client.get(url)
    await stack.new_session()
    same = await stack.http_client.get(url)
    assert (same.headers["etag"], same.headers["last-modified"]) == (
        bare.headers["etag"], bare.headers["last-modified"],
    )  # fmt: skip
    template = await stack.new_template(session.provisioning_session_id)
    ready = await stack.http_client.get(
        url, headers={"if-none-match": bare.headers["etag"], "if-modified-since": bare.headers["last-modified"]}
    )
    assert ready.status_code == 200
    assert ready.json()["dynamicPolicyInvocationConfiguration"]["policyTemplateBindings"]
    # Within the same second, and still told apart by time alone.
    assert ready.headers["last-modified"] == "Fri, 01 May 2026 12:00:01 GMT"
    since = await stack.http_client.get(url, headers={"if-modified-since": bare.headers["last-modified"]})
    assert since.status_code == 200
    await stack.templates.SuspendPolicyTemplate(
        m1.SuspendPolicyTemplateRequest(
            provisioning_session_id=session.provisioning_session_id, policy_template_id=template.policy_template_id
        )
    )
    suspended = await stack.http_client.get(url)
    assert "dynamicPolicyInvocationConfiguration" not in suspended.json()
    assert suspended.headers["etag"] == bare.headers["etag"]


async def test_many_clients_at_once_get_the_same_after_a_write(stack: AfStack) -> None:
    session = await stack.new_session()
    url = access_url(session.provisioning_session_id)
    await stack.new_session()
    answers = await asyncio.gather(*(stack.http_client.get(url) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


async def test_it_is_read_once_until_anything_is_written(stack: AfStack, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id = (await stack.new_session()).provisioning_session_id
    reads: list[object] = []
    read = stack.store.read

    async def counted(look: Callable[[Reader], object]) -> object:
        reads.append(look)
        return await read(look)

    monkeypatch.setattr(stack.store, "read", counted)
    first = await stack.http_client.get(access_url(session_id))
    again = await stack.http_client.get(access_url(session_id))
    assert (again.content, len(reads)) == (first.content, 1)
    # By another name the AF has another address to tell.
    await stack.http_client.get(access_url(session_id), headers={"host": "af.example"})
    assert len(reads) == 2
    head = await stack.http_client.head(access_url(session_id))
    assert (head.content, head.headers["etag"]) == (b"", first.headers["etag"])
    await configured(stack, session_id)
    changed = await stack.http_client.get(access_url(session_id))
    assert "clientConsumptionReportingConfiguration" in changed.json()
    assert changed.headers["x-correlation-id"] != first.headers["x-correlation-id"]


async def test_configured_addresses_are_told_instead_of_this_door(tmp_path: Path) -> None:
    config = {"m5_server_addresses": ("https://af.example/3gpp-m5/v2/",), "service_access_max_age_s": 0}
    async with AfStack(tmp_path, config=config) as stack:
        template = await stack.provision()
        answer = await stack.http_client.get(access_url(template.provisioning_session_id))
    invocation = answer.json()["dynamicPolicyInvocationConfiguration"]
    assert invocation["serverAddresses"] == ["https://af.example/3gpp-m5/v2/"]
    # Greater than 0, whatever is configured.
    assert answer.headers["cache-control"] == "max-age=1"


async def test_a_session_that_does_not_exist_is_a_problem_with_status_404(stack: AfStack) -> None:
    answer = await stack.http_client.get(access_url("no-such"))
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json()["detail"] == "ProvisioningSession 'no-such' does not exist"


# --- dynamic policies ---------------------------------------------------------------------------------------------


@pytest.mark.clause("TS 26.512 §11.5", "TS 26.512 A.3.2 step 7")
async def test_a_created_policy_is_answered_with_what_is_enforced_and_where_it_is(stack: AfStack) -> None:
    template, answer = await activated(stack)
    policy = answer.json()
    assert answer.headers["location"] == f"{stack.http}{POLICIES}/{policy['dynamicPolicyId']}"
    assert policy == {
        **wanted(template),
        "dynamicPolicyId": policy["dynamicPolicyId"],
        "enforcementMethod": "MONITOR",
        "enforcementBitRate": 5_000_000,
        "serviceDescriptorFilter": {"operatingBandwidthMax": "5.000 Mbps"},
        "state": "ACTIVE",
        "ueAddress": UE,
    }
    assert stack.pcf.rules(policy["dynamicPolicyId"]) == [rule(50000)]
    read = await stack.http_client.get(answer.headers["location"])
    assert (read.status_code, read.json(), read.headers["etag"]) == (200, policy, answer.headers["etag"])
    assert (await stack.policy(policy["dynamicPolicyId"])).enforcement_bit_rate_bps == 5_000_000


async def test_it_is_created_only_when_the_network_enforces_it(stack: AfStack) -> None:
    template = await stack.provision()
    stack.pcf.hold["CreateAppSession"] = asyncio.Event()
    asking = asyncio.create_task(stack.http_client.post(POLICIES, json=wanted(template)))
    await stack.pcf.until(lambda: "CreateAppSession" in stack.pcf.names())
    assert not asking.done()
    stack.pcf.hold["CreateAppSession"].set()
    assert (await asking).status_code == 201


async def test_what_the_network_refuses_leaves_nothing(stack: AfStack) -> None:
    template = await stack.provision()
    stack.pcf.refuse["CreateAppSession"] = FailedPrecondition(
        "no PDU session", reason="PDU_SESSION_NOT_AVAILABLE", cause="PDU_SESSION_NOT_AVAILABLE"
    )
    answer = await stack.http_client.post(POLICIES, json=wanted(template))
    assert (answer.status_code, answer.json()["cause"]) == (409, "PDU_SESSION_NOT_AVAILABLE")
    assert await stack.all_policies() == []


async def test_a_replacement_has_the_flows_that_are_open_now(stack: AfStack) -> None:
    template, created = await activated(stack)
    answer = await stack.http_client.put(created.headers["location"], json=wanted(template, 50001, 50002))
    assert answer.status_code == 200
    assert len(answer.json()["serviceDataFlowDescriptions"]) == 2
    assert answer.headers["etag"] != created.headers["etag"]
    assert stack.pcf.rules(created.json()["dynamicPolicyId"]) == [rule(50001), rule(50002)]


@pytest.mark.parametrize("kind", ["merge-patch", "json-patch"])
async def test_a_patch_changes_what_it_names(stack: AfStack, kind: str) -> None:
    _, created = await activated(stack, mediaType="VIDEO")
    second = to_json(flow(50001))
    first = created.json()["serviceDataFlowDescriptions"][0]
    patch: object = (
        {"serviceDataFlowDescriptions": [first, second]}
        if kind == "merge-patch"
        else [{"op": "add", "path": "/serviceDataFlowDescriptions/-", "value": second}]
    )
    answer = await stack.http_client.patch(
        created.headers["location"], json=patch, headers={"content-type": f"application/{kind}+json"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["serviceDataFlowDescriptions"] == [first, second]
    assert answer.json()["mediaType"] == "VIDEO"
    assert stack.pcf.rules(created.json()["dynamicPolicyId"]) == [rule(50000), rule(50001)]


@pytest.mark.parametrize("name", ["dynamicPolicyId", "provisioningSessionId", "policyTemplateId"])
async def test_an_identity_that_contradicts_the_path_or_the_policy_is_refused(stack: AfStack, name: str) -> None:
    template, created = await activated(stack)
    answer = await stack.http_client.put(created.headers["location"], json={**wanted(template, 50001), name: "another"})
    assert (answer.status_code, [each["param"] for each in answer.json()["invalidParams"]]) == (400, [name])
    assert stack.pcf.rules(created.json()["dynamicPolicyId"]) == [rule(50000)]


async def test_a_change_that_was_meant_for_another_state_is_refused(stack: AfStack) -> None:
    template, created = await activated(stack)
    url, old = created.headers["location"], created.headers["etag"]
    changed = await stack.http_client.put(url, json=wanted(template, 50001), headers={"if-match": old})
    assert changed.status_code == 200
    for answer in (
        await stack.http_client.put(url, json=wanted(template, 50002), headers={"if-match": old}),
        await stack.http_client.patch(
            url, json={}, headers={"if-match": old, "content-type": "application/merge-patch+json"}
        ),
        await stack.http_client.delete(url, headers={"if-match": old}),
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (412, "application/problem+json")
    assert stack.pcf.rules(created.json()["dynamicPolicyId"]) == [rule(50001)]


async def test_a_deleted_policy_is_no_longer_there(stack: AfStack) -> None:
    _, created = await activated(stack)
    url = created.headers["location"]
    assert (await stack.http_client.delete(url)).status_code == 204
    assert (await stack.http_client.get(url)).status_code == 404
    assert stack.pcf.sessions == {}


async def test_a_policy_is_its_ue_s_own(stack: AfStack) -> None:
    template, created = await activated(stack)
    other = {"x-ue-address": OTHER_UE}
    url = created.headers["location"]
    refused = await stack.http_client.post(POLICIES, json=wanted(template), headers=other)
    assert (refused.status_code, refused.json()["title"]) == (403, "Ue address mismatch")
    assert (await stack.http_client.get(url, headers=other)).status_code == 403
    assert (await stack.http_client.put(url, json=wanted(template), headers=other)).status_code == 403
    assert (await stack.http_client.delete(url, headers=other)).status_code == 403
    assert (await stack.http_client.get(url, headers={"x-ue-address": UE})).status_code == 200
    unclear = await stack.http_client.get(url, headers={"x-ue-address": "ue"})
    assert (unclear.status_code, unclear.json()["invalidParams"][0]["param"]) == (400, "x-ue-address")


async def test_a_peer_that_is_no_trusted_proxy_is_the_ue_itself(tmp_path: Path) -> None:
    async with AfStack(tmp_path, config={"trusted_proxies": ()}) as stack:
        template = await stack.provision()
        spoofed = await stack.http_client.post(POLICIES, json=wanted(template), headers={"x-ue-address": UE})
        assert spoofed.status_code == 403
        own = [to_json(flow(50000, ue="127.0.0.1"))]
        answer = await stack.http_client.post(POLICIES, json=wanted(template, serviceDataFlowDescriptions=own))
        assert (answer.status_code, answer.json()["ueAddress"]) == (201, "127.0.0.1")


async def test_what_is_wrong_in_a_policy_is_named_as_the_client_wrote_it(stack: AfStack) -> None:
    template = await stack.provision()
    for body, param in (
        (wanted(template, serviceDataFlowDescriptions=[]), "serviceDataFlowDescriptions"),
        (wanted(template, qosSpecification={"marBwDlBitRate": 5}), "qosSpecification.marBwDlBitRate"),
        ({"provisioningSessionId": "a"}, "policyTemplateId"),
        (
            wanted(template, serviceDataFlowDescriptions=[{"flowDescription": {"srcIp": "x", "direction": "UPLINK"}}]),
            "serviceDataFlowDescriptions[0].flowDescription.srcIp",
        ),
    ):
        answer = await stack.http_client.post(POLICIES, json=body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["invalidParams"][0]["param"] == param
    assert await stack.all_policies() == []


# --- consumption reports ------------------------------------------------------------------------------------------


REPORT = {
    "mediaPlayerEntry": "http://cdn.example/a.mpd",
    "reportingClientId": "client-1",
    "consumptionReportingUnits": [{"mediaConsumed": "v1", "startTime": "2026-05-01T11:59:00Z", "duration": 60}],
}


@pytest.mark.clause("TS 26.512 §11.3")
async def test_a_consumption_report_is_stored_once_it_is_answered(stack: AfStack, clock: ManualClock) -> None:
    session_id = (await stack.new_session()).provisioning_session_id
    url = f"/3gpp-m5/v2/consumption-reporting/{session_id}"
    unasked = await stack.http_client.post(url, json=REPORT)
    assert unasked.status_code == 404
    await configured(stack, session_id)
    for _ in range(2):
        clock.advance(timedelta(seconds=1))
        answer = await stack.http_client.post(url, json=REPORT)
        assert (answer.status_code, answer.content) == (204, b"")
    listed = await stack.http_client.get(
        "/castcore/v1/consumption-reporting-units", params={"provisioningSessionId": session_id}
    )
    (record,) = listed.json()["items"]
    assert record["reportingClientId"] == "client-1"
    assert record["consumptionReportingUnit"] == REPORT["consumptionReportingUnits"][0]


async def configured(stack: AfStack, session_id: str, **content: object) -> None:
    await stack.consumption.CreateConsumptionReportingConfiguration(
        m1.CreateConsumptionReportingConfigurationRequest(
            provisioning_session_id=session_id,
            consumption_reporting_configuration=m1.ConsumptionReportingConfiguration(**content),
        )
    )


async def test_a_wrong_report_is_refused_whole(stack: AfStack) -> None:
    session_id = (await stack.new_session()).provisioning_session_id
    await configured(stack, session_id)
    units = [REPORT["consumptionReportingUnits"][0], {"mediaConsumed": "v2", "startTime": "yesterday", "duration": 1}]
    answer = await stack.http_client.post(
        f"/3gpp-m5/v2/consumption-reporting/{session_id}", json={**REPORT, "consumptionReportingUnits": units}
    )
    assert answer.status_code == 400
    assert answer.json()["invalidParams"][0]["param"] == "consumptionReportingUnits[1].startTime"
    counted = await stack.http_client.get(f"/castcore/v1/consumption-statistics/{session_id}")
    assert counted.json()["provisioningSessionId"] == session_id
    assert counted.json().get("unitCount", 0) == 0
