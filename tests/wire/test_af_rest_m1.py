"""M1 over HTTP, final and draft: resources, codes and headers; they are the resources of the gRPC services."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from af_stack import AfStack

from nf.af.v1 import provisioning_pb2 as m1
from nf.common.clock import ManualClock

M1, M1D = "/3gpp-m1/v2/provisioning-sessions", "/3gpp-m1d/v1/application-service-providers"
SESSION = {"provisioningSessionType": "DOWNLINK", "appId": "app", "aspId": "asp"}
TEMPLATE = {
    "externalReference": "gold",
    "qoSSpecification": {"maxBtrDl": "5.000 Mbps"},
    "applicationSessionContext": {"sliceInfo": {"sst": 1, "sd": "00ABCD"}, "dnn": "internet"},
    "chargingSpecification": {"sponId": "sponsor", "sponStatus": "SPONSOR_ENABLED", "gpsi": ["msisdn-491701234567"]},
}
MERGE = {"content-type": "application/merge-patch+json"}


@dataclass
class Provider:
    af: AfStack
    http: httpx.AsyncClient

    async def session(self, **changes: object) -> str:
        """The path of a new provisioning session."""
        response = await self.http.post(M1, json={**SESSION, **changes})
        assert response.status_code == 201
        return response.headers["location"].removeprefix(self.af.http)

    async def template(self, session: str, **changes: object) -> str:
        """The path of a new policy template, which is READY."""
        response = await self.http.post(f"{session}/policy-templates", json={**TEMPLATE, **changes})
        assert response.status_code == 201
        path: str = response.headers["location"].removeprefix(self.af.http)
        await self.af.template_state(path.rpartition("/")[2], "READY")
        return path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Provider]:
    clock = ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
    directory: Path = tmp_path_factory.mktemp("af")
    async with AfStack(directory, clock=clock) as af, httpx.AsyncClient(base_url=af.http, verify=False) as http:
        yield Provider(af, http)


pytestmark = pytest.mark.asyncio(loop_scope="module")


def problem_of(response: httpx.Response, status: int) -> dict[str, object]:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    told: dict[str, object] = response.json()
    return told


def params_of(response: httpx.Response) -> dict[str, str]:
    told = problem_of(response, 400)["invalidParams"]
    assert isinstance(told, list)
    return {each["param"]: each["reason"] for each in told}


@pytest.mark.clause("TS 26.512 §7.2")
async def test_a_session_is_created_read_and_destroyed(provider: Provider) -> None:
    response = await provider.http.post(
        M1, json={**SESSION, "provisioningSessionId": "mine", "policyTemplateIds": ["x"]}
    )
    assert response.status_code == 201
    name = response.json()["provisioningSessionId"]
    assert response.json() == {"provisioningSessionId": name, **SESSION}
    assert response.headers["location"] == f"{provider.af.http}{M1}/{name}"
    read = await provider.http.get(f"{M1}/{name}")
    assert (read.status_code, read.json()) == (200, response.json())
    assert (read.headers["etag"], read.headers["cache-control"]) == (response.headers["etag"], "max-age=5")
    assert read.headers["last-modified"] == "Sun, 01 Mar 2026 12:00:00 GMT"
    again = await provider.http.get(f"{M1}/{name}", headers={"if-none-match": read.headers["etag"]})
    assert again.status_code == 304
    # It is the session of the gRPC service.
    request = m1.GetProvisioningSessionRequest(provisioning_session_id=name)
    session = (await provider.af.sessions.GetProvisioningSession(request)).provisioning_session
    assert (session.app_id, f'"{session.etag}"') == ("app", read.headers["etag"])
    assert problem_of(await provider.http.delete(f"{M1}/{name}", headers={"if-match": '"old"'}), 412)
    deleted = await provider.http.delete(f"{M1}/{name}", headers={"if-match": read.headers["etag"]})
    assert (deleted.status_code, deleted.content) == (204, b"")
    for method in ("GET", "DELETE"):
        assert problem_of(await provider.http.request(method, f"{M1}/{name}"), 404)["status"] == 404


async def test_a_session_that_is_wrong_is_refused_with_every_reason(provider: Provider) -> None:
    body = {"provisioningSessionType": "SIDEWAYS", "entryPoints": [{"locator": 1, "contentType": "x"}]}
    assert params_of(await provider.http.post(M1, json=body)) == {
        "provisioningSessionType": "expected DOWNLINK or UPLINK, found the string 'SIDEWAYS'",
        "entryPoints[0].locator": "expected a string, found the number 1",
        "appId": "expected, found nothing",
    }
    body = {**SESSION, "entryPoints": [{"locator": "here", "contentType": ""}]}
    assert params_of(await provider.http.post(M1, json=body)) == {
        "entryPoints[0].locator": "expected an absolute URL, found 'here'",
        "entryPoints[0].contentType": "expected a media type, found nothing",
    }


@pytest.mark.clause("TS 26.512 §7.5")
async def test_no_content_protocols_are_claimed(provider: Provider) -> None:
    session = await provider.session()
    response = await provider.http.get(f"{session}/protocols")
    assert (response.status_code, response.json()) == (200, {})
    problem_of(await provider.http.get(f"{M1}/none/protocols"), 404)


@pytest.mark.clause("TS 26.512 §7.9", "TS 26.512 A.3.2 step 1")
async def test_a_template_is_pending_then_ready_and_always_says_why(provider: Provider) -> None:
    session = await provider.session()
    created = await provider.http.post(f"{session}/policy-templates", json=TEMPLATE)
    assert created.status_code == 201
    name = created.json()["policyTemplateId"]
    assert created.json() == {
        "policyTemplateId": name,
        "state": "PENDING",
        "stateReason": {"title": "The policy template awaits validation"},
        **TEMPLATE,
    }
    await provider.af.template_state(name, "READY")
    read = (await provider.http.get(created.headers["location"])).json()
    assert (read["state"], read["stateReason"]) == ("READY", {"title": "The policy template may be used"})
    assert (await provider.http.get(session)).json()["policyTemplateIds"] == [name]
    # A template that is wrong by itself is stored, and says what is wrong.
    wrong = await provider.http.post(
        f"{session}/policy-templates", json={"externalReference": "b", "applicationSessionContext": {"dnn": "-"}}
    )
    await provider.af.template_state(wrong.json()["policyTemplateId"], "INVALID")
    told = (await provider.http.get(wrong.headers["location"])).json()["stateReason"]
    assert told["cause"] == "POLICY_TEMPLATE_INVALID"
    assert {each["param"] for each in told["invalidParams"]} == {"qoSSpecification", "applicationSessionContext.dnn"}


@pytest.mark.clause("TS 26.512 §7.9")
async def test_a_template_is_replaced_changed_and_destroyed(provider: Provider) -> None:
    session = await provider.session()
    path = await provider.template(session)
    name = path.rpartition("/")[2]
    etag = (await provider.http.get(path)).headers["etag"]
    body = {"externalReference": "silver", "qoSSpecification": {"maxBtrDl": "2 Mbps", "maxBtrUl": "0.5 Mbps"}}
    before = provider.af.store.sequence
    replaced = await provider.http.put(path, json=body, headers={"if-match": etag})
    assert (replaced.status_code, replaced.content) == (204, b"")
    assert problem_of(await provider.http.put(path, json=body, headers={"if-match": etag}), 412)
    # What is not in the body of a PUT has gone; what the AF sets is not the provider's to change.
    template = await provider.af.template_state(name, "READY", before)
    assert not template.HasField("charging_specification")
    patch = {"qoSSpecification": {"maxBtrUl": None}, "state": "SUSPENDED", "policyTemplateId": "mine"}
    patched = await provider.http.patch(path, content=json.dumps(patch), headers=MERGE)
    assert patched.status_code == 200
    assert patched.json()["qoSSpecification"] == {"maxBtrDl": "2.000 Mbps"}
    assert (patched.json()["policyTemplateId"], patched.json()["state"]) == (name, "PENDING")
    other = await provider.template(session, externalReference="gold")
    refused = problem_of(
        await provider.http.patch(other, content=b'{"externalReference": "silver"}', headers=MERGE), 409
    )
    assert refused["invalidParams"] == [{"param": "externalReference", "reason": "used by another template"}]
    assert (await provider.http.delete(path)).status_code == 204
    assert problem_of(await provider.http.get(path), 404)
    assert problem_of(await provider.http.put(path, json=body), 404)
    assert (await provider.http.get(session)).json()["policyTemplateIds"] == [other.rpartition("/")[2]]
    # A template is found below its own session only.
    foreign = await provider.session()
    assert problem_of(await provider.http.get(f"{foreign}/policy-templates/{other.rpartition('/')[2]}"), 404)


@pytest.mark.clause("TS 26.512 §7.7")
async def test_consumption_reporting_is_activated_changed_and_ended(provider: Provider) -> None:
    path = f"{await provider.session()}/consumption-reporting-configuration"
    problem_of(await provider.http.get(path), 404)
    problem_of(await provider.http.put(path, json={}), 404)
    problem_of(await provider.http.patch(path, content=b"{}", headers=MERGE), 404)
    problem_of(await provider.http.delete(path), 404)
    body = {"reportingInterval": 60, "samplePercentage": 12.5, "locationReporting": False, "accessReporting": True}
    created = await provider.http.post(path, json=body)
    assert (created.status_code, created.json()) == (201, body)
    assert created.headers["location"] == f"{provider.af.http}{path}"
    problem_of(await provider.http.post(path, json=body), 409)
    read = await provider.http.get(path)
    assert (read.json(), read.headers["etag"]) == (body, created.headers["etag"])
    replaced = await provider.http.put(path, json={"samplePercentage": 0}, headers={"if-match": read.headers["etag"]})
    assert (replaced.status_code, replaced.content) == (204, b"")
    assert (await provider.http.get(path)).json() == {"samplePercentage": 0.0}
    patched = await provider.http.patch(path, content=b'{"locationType": 2, "samplePercentage": null}', headers=MERGE)
    assert (patched.status_code, patched.json()) == (200, {"locationType": 2})
    assert problem_of(await provider.http.delete(path, headers={"if-match": read.headers["etag"]}), 412)
    assert (await provider.http.delete(path, headers={"if-match": patched.headers["etag"]})).status_code == 204
    problem_of(await provider.http.get(path), 404)


async def test_a_configuration_that_is_wrong_changes_nothing(provider: Provider) -> None:
    path = f"{await provider.session()}/consumption-reporting-configuration"
    wrong = {"reportingInterval": 0, "samplePercentage": 101, "locationType": 3, "locationReporting": False,
             "consumptionReportingServerAddress": ["^.*$"]}  # fmt: skip
    told = params_of(await provider.http.post(path, json=wrong))
    assert told.keys() == {
        "reportingInterval",
        "samplePercentage",
        "locationType",
        "locationReporting",
        "consumptionReportingServerAddress[0]",
    }
    problem_of(await provider.http.get(path), 404)
    await provider.http.post(path, json={"reportingInterval": 10})
    for patch in ({"reportingInterval": 0}, {"reportingInterval": "10"}, {"samplePercentage": True}):
        assert list(params_of(await provider.http.patch(path, content=json.dumps(patch), headers=MERGE))) == list(patch)
    assert (await provider.http.get(path)).json() == {"reportingInterval": 10}


@pytest.mark.clause("TS 26.512 CR §4.2.5", "TS 26.512 CR §5.4.3")
async def test_the_draft_door_leads_to_the_same_configuration_with_the_codes_of_the_draft(provider: Provider) -> None:
    session = await provider.session()
    final = f"{session}/consumption-reporting-configuration"
    draft = f"{M1D}/asp/provisioning-sessions/{session.rpartition('/')[2]}/consumption-reporting-configuration"
    created = await provider.http.post(draft, json={"reportInterval": 30, "locationType": 0})
    assert (created.status_code, created.headers["location"]) == (201, f"{provider.af.http}{draft}")
    assert created.json() == {"reportingInterval": 30, "locationType": 0}
    read, other = await provider.http.get(draft), await provider.http.get(final)
    assert (read.json(), read.headers["etag"]) == (other.json(), other.headers["etag"])
    problem_of(await provider.http.post(draft, json={}), 409)
    replaced = await provider.http.put(draft, json={"reportInterval": 40, "consumptionReportingServerAddress": ["a.b"]})
    assert (replaced.status_code, replaced.json()["reportingInterval"]) == (200, 40)
    patched = await provider.http.patch(
        draft, content=b'{"reportInterval": null, "samplePercentage": 5}', headers=MERGE
    )
    assert patched.status_code == 200
    assert patched.json() == {"samplePercentage": 5.0, "consumptionReportingServerAddress": ["a.b"]}
    operations = [{"op": "add", "path": "/reportInterval", "value": 7}]
    patched = await provider.http.patch(
        draft, content=json.dumps(operations), headers={"content-type": "application/json-patch+json"}
    )
    assert patched.json()["reportingInterval"] == 7
    both = await provider.http.put(draft, json={"reportInterval": 1, "reportingInterval": 2})
    assert params_of(both) == {"reportingInterval": "expected once, found reportingInterval by another name too"}
    deleted = await provider.http.delete(draft)
    assert (deleted.status_code, deleted.content) == (200, b"")
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        headers = MERGE if method == "PATCH" else {}
        body = (
            {"content": b"{}", "headers": {"content-type": "application/json", **headers}} if method[0] == "P" else {}
        )
        problem_of(await provider.http.request(method, draft, **body), 404)
    other_provider = draft.replace("/asp/", "/another/")
    problem_of(await provider.http.get(other_provider), 404)
    problem_of(await provider.http.post(other_provider, json={}), 404)


@pytest.mark.clause("TS 26.512 CR §5.4.3")
async def test_other_methods_are_refused_with_those_that_there_are(provider: Provider) -> None:
    session = await provider.session()
    draft = f"{M1D}/asp/provisioning-sessions/{session.rpartition('/')[2]}/consumption-reporting-configuration"
    configuration = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
    for path, allowed in (
        (M1, "OPTIONS, POST"),
        (session, "DELETE, GET, HEAD, OPTIONS"),
        (f"{session}/protocols", "GET, HEAD, OPTIONS"),
        (f"{session}/policy-templates", "OPTIONS, POST"),
        (f"{session}/policy-templates/x", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        (f"{session}/consumption-reporting-configuration", configuration),
        (draft, configuration),
    ):
        options = await provider.http.options(path)
        assert (options.status_code, options.headers["allow"]) == (204, allowed)
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - set(allowed.split(", ")):
            response = await provider.http.request(method, path)
            problem_of(response, 405)
            assert response.headers["allow"] == allowed


async def test_providers_see_and_change_what_is_their_own(tmp_path: Path) -> None:
    tokens = {"north": "n" * 32, "south": "s" * 32}
    providers = tuple({"asp_id": name, "token": token} for name, token in tokens.items())
    async with (
        AfStack(tmp_path, config={"providers": providers}) as af,
        httpx.AsyncClient(base_url=af.http, verify=False) as http,
    ):
        north, south = ({"authorization": f"Bearer {tokens[name]}"} for name in ("north", "south"))
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic eDp5"}):
            response = await http.post(M1, json={"provisioningSessionType": "DOWNLINK", "appId": "a"}, headers=headers)
            problem_of(response, 401)
            assert response.headers["www-authenticate"].startswith("Bearer")
        body = {"provisioningSessionType": "DOWNLINK", "appId": "a"}
        created = await http.post(M1, json=body, headers=north)
        assert created.json()["aspId"] == "north"
        problem_of(await http.post(M1, json={**body, "aspId": "south"}, headers=north), 403)
        path, name = created.headers["location"], created.json()["provisioningSessionId"]
        assert (await http.get(path, headers=north)).status_code == 200
        problem_of(await http.get(path, headers=south), 404)
        problem_of(await http.delete(path, headers=south), 404)
        draft = f"{M1D}/north/provisioning-sessions/{name}/consumption-reporting-configuration"
        assert (await http.post(draft, json={}, headers=north)).status_code == 201
        problem_of(await http.get(draft, headers=south), 403)
        problem_of(await http.get(draft.replace("/north/", "/south/"), headers=south), 404)
        # Only whom the operator trusts may ask where UEs are.
        problem_of(await http.put(draft, json={"locationType": 1}, headers=north), 403)
