"""Nmb2 over HTTP: distribution sessions by JSON Patch, and who is told of their status (TS 29.581)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from one_function import OneFunction
from receiver import Receiver

from nf.common.errors import InvalidArgument
from nf.mbstf.compose import TABLES, build
from nf.mbstf.config import MbstfSection
from nf.mbstf.errors import IngestFailed
from nf.mbstf.machine import Event
from nf.mbstf.sessions import EVENT_TYPES, step
from nf.mbstf.status_subscriptions import shown_of, stored_of
from nf.mbstf.v1 import status_subscription_pb2 as status

ROOT = "/nmbstf-distsession/v1/dist-sessions"
JSON_PATCH = {"content-type": "application/json-patch+json"}
SESSION = {
    "distSessionId": "d1",
    "distSessionState": "INACTIVE",
    "mbUpfTunAddr": {"ipv4Addr": "127.0.0.1", "portNumber": 40000},
    "upTrafficFlowInfo": {"destIpAddr": {"ipv4Addr": "232.0.0.1"}, "portNumber": 5000},
    "mbr": "2 Mbps",
    "objDistributionData": {
        "objDistributionOperatingMode": "SINGLE",
        "objAcquisitionMethod": "PULL",
        "objAcquisitionIdsPull": ["http://127.0.0.1:9/a"],
    },
}
WRITE_ONLY = {"mbUpfTunAddr", "upTrafficFlowInfo", "mbr", "maxDelay", "dscpMarking"}


@pytest.fixture
async def mbstf(tmp_path: Path) -> AsyncIterator[OneFunction]:
    async with OneFunction(tmp_path, "mbstf", build, MbstfSection(), tables=TABLES) as started:
        yield started


async def created(mbstf: OneFunction, **changes: object) -> httpx.Response:
    response = await mbstf.http.post(ROOT, json={"distSession": {**SESSION, **changes}})
    assert response.status_code == 201, response.text
    return response


async def patched(
    mbstf: OneFunction, *operations: dict[str, object], name: str = "d1", **headers: str
) -> httpx.Response:
    return await mbstf.http.patch(
        f"{ROOT}/{name}",
        content=json.dumps(operations),
        headers={**JSON_PATCH, **{k.replace("_", "-"): v for k, v in headers.items()}},
    )


def replace(path: str, value: object) -> dict[str, object]:
    return {"op": "replace", "path": path, "value": value}


@pytest.mark.clause("TS 29.581 §6.1.3")
async def test_a_session_is_created_read_and_ended(mbstf: OneFunction) -> None:
    made = await created(mbstf)
    assert made.headers["location"] == f"{mbstf.url}{ROOT}/d1"
    shown = made.json()["distSession"]
    assert (shown["distSessionId"], shown["distSessionState"]) == ("d1", "INACTIVE")
    # What clients set and nobody reads is not shown.
    assert WRITE_ONLY & set(shown) == set()
    found = await mbstf.http.get(f"{ROOT}/d1")
    assert (found.status_code, found.json()) == (200, shown)
    assert found.headers["etag"] == made.headers["etag"]
    unchanged = await mbstf.http.get(f"{ROOT}/d1", headers={"if-none-match": found.headers["etag"]})
    assert unchanged.status_code == 304
    assert (await mbstf.http.delete(f"{ROOT}/d1", headers={"if-match": '"other"'})).status_code == 412
    assert (await mbstf.http.delete(f"{ROOT}/d1")).status_code == 204
    for method in ("GET", "DELETE"):
        gone = await mbstf.http.request(method, f"{ROOT}/d1")
        assert (gone.status_code, gone.json()["cause"]) == (404, "CONTEXT_NOT_FOUND")


@pytest.mark.clause("TS 29.581 §6.1.6.2")
@pytest.mark.parametrize("name", ["mbUpfTunAddr", "mbr", "distSessionId", "distSessionState"])
async def test_what_the_specification_demands_is_demanded(mbstf: OneFunction, name: str) -> None:
    wanted = {key: value for key, value in SESSION.items() if key != name}
    refused = await mbstf.http.post(ROOT, json={"distSession": wanted})
    assert refused.status_code == 400
    assert refused.json()["invalidParams"] == [{"param": f"distSession.{name}", "reason": "expected, found nothing"}]
    assert (await mbstf.http.get(f"{ROOT}/d1")).status_code == 404


async def test_a_request_without_a_session_and_one_with_a_wrong_session_are_refused(mbstf: OneFunction) -> None:
    refused = await mbstf.http.post(ROOT, json={})
    assert (refused.status_code, refused.json()["cause"]) == (400, "MANDATORY_IE_MISSING")
    refused = await mbstf.http.post(ROOT, json={"distSession": {**SESSION, "mbr": "1 bps"}})
    assert refused.json()["invalidParams"][0]["param"] == "distSession.mbr"


@pytest.mark.clause("TS 29.581 §6.1.3.3.3", "RFC 6902")
async def test_a_session_is_changed_by_json_patch(mbstf: OneFunction) -> None:
    await created(mbstf)
    answer = await patched(
        mbstf,
        {"op": "test", "path": "/distSession/mbr", "value": "2.000 Mbps"},
        replace("/distSession/mbr", "3 Mbps"),
        replace("/distSession/objDistributionData/objDistributionOperatingMode", "COLLECTION"),
        {
            "op": "add",
            "path": "/distSession/objDistributionData/objAcquisitionIdsPull/-",
            "value": "http://127.0.0.1:9/b",
        },
        {"op": "add", "path": "/distSession/dscpMarking", "value": "AF41"},
    )
    assert answer.status_code == 200, answer.text
    data = answer.json()["objDistributionData"]
    assert data["objDistributionOperatingMode"] == "COLLECTION"
    assert data["objAcquisitionIdsPull"] == ["http://127.0.0.1:9/a", "http://127.0.0.1:9/b"]
    # What was set and is not shown is kept; pointers may leave the root out.
    answer = await patched(mbstf, {"op": "test", "path": "/dscpMarking", "value": "AF41"}, replace("/mbr", "1 Mbps"))
    assert answer.status_code == 200
    again = await patched(mbstf, {"op": "test", "path": "/distSession/mbr", "value": "1.000 Mbps"})
    assert (again.status_code, again.headers["etag"]) == (200, answer.headers["etag"])
    merged = await mbstf.http.patch(
        f"{ROOT}/d1",
        content=b'{"distSession": {"dscpMarking": null}}',
        headers={"content-type": "application/merge-patch+json"},
    )
    assert merged.status_code == 200
    missing = await patched(mbstf, {"op": "remove", "path": "/distSession/dscpMarking"})
    assert (missing.status_code, missing.json()["cause"]) == (409, "MODIFICATION_NOT_ALLOWED")


@pytest.mark.parametrize(
    ("operation", "status_code", "told"),
    [
        (replace("/distSession/distSessionId", "d2"), 400, "expected it as it is, found 'd2'"),
        (replace("/distSession/mbr", "fast"), 400, 'expected a bit rate such as "5.000 Mbps"'),
        ({"op": "remove", "path": "/distSession"}, 400, "expected it as it is or changed, found it removed"),
        ({"op": "remove", "path": "/distSession/mbr"}, 400, "mbr: expected, found nothing"),
        (replace("/distSession/distSessionState", "ASLEEP"), 400, "expected one of INACTIVE, ESTABLISHED"),
        (replace("/distSession/distSessionState", "DEACTIVATING"), 409, "DEACTIVATING"),
        ({"op": "test", "path": "/distSession/mbr", "value": "7 Mbps"}, 409, "is not what the patch expects"),
        ({"op": "jump", "path": "/distSession/mbr"}, 400, "expected one of add, remove"),
    ],
)
async def test_a_patch_that_cannot_be_is_refused_without_effect(
    mbstf: OneFunction, operation: dict[str, object], status_code: int, told: str
) -> None:
    etag = (await created(mbstf)).headers["etag"]
    refused = await patched(mbstf, {"op": "add", "path": "/distSession/maxDelay", "value": 5}, operation)
    assert refused.status_code == status_code, refused.text
    assert told in refused.json()["detail"]
    assert (await mbstf.http.get(f"{ROOT}/d1")).headers["etag"] == etag


async def test_a_patch_meant_for_another_state_is_refused(mbstf: OneFunction) -> None:
    etag = (await created(mbstf)).headers["etag"]
    assert (await patched(mbstf, replace("/distSession/mbr", "3 Mbps"), if_match='"other"')).status_code == 412
    assert (await patched(mbstf, replace("/distSession/mbr", "3 Mbps"), if_match=etag)).status_code == 200


SUBSCRIPTION = {
    "nfcInstanceId": "4947a69a-f61b-4bc1-b9da-47c9c5d14b64",
    "eventList": ["SESSION_ACTIVATED", "SERVICE_MANAGEMENT_FAILURE"],
    "notifyCorrelationId": "mine",
}


@pytest.mark.clause("TS 29.581 §6.1.3.4", "TS 29.581 §6.1.5")
async def test_a_subscriber_is_told_in_the_words_of_the_specification(mbstf: OneFunction) -> None:
    receiver = Receiver(sequence=lambda body, headers: int(headers["castcore-sequence"]))
    url = await receiver.start()
    await created(mbstf)
    await created(mbstf, distSessionId="d2")
    wanted = {"subscription": {**SUBSCRIPTION, "notifyUri": url}}
    made = await mbstf.http.post(f"{ROOT}/d1/subscriptions", json=wanted)
    assert made.status_code == 201, made.text
    location = made.headers["location"]
    assert made.json() == {"subscription": {"eventList": SUBSCRIPTION["eventList"], "distSessionSubscUri": location}}
    for name in ("d2", "d1"):
        await mbstf.store.write(lambda tx, name=name: step(tx, name, Event.NOT_INGESTED, IngestFailed("nobody there")))
    await receiver.until(lambda told: len(told.received) == 1)
    (body,) = receiver.received
    (report,) = body["reportList"]["eventReportList"]
    assert body["reportList"]["notifyCorrelationId"] == "mine"
    assert report["eventType"] == "SERVICE_MANAGEMENT_FAILURE"
    assert report["timeStamp"].endswith("Z")
    assert (await mbstf.http.delete(location)).status_code == 204
    assert (await mbstf.http.delete(location)).status_code == 404
    await receiver.stop()


async def test_a_subscription_is_changed_where_it_belongs(mbstf: OneFunction) -> None:
    await created(mbstf)
    await created(mbstf, distSessionId="d2")
    wanted = {"subscription": {**SUBSCRIPTION, "notifyUri": "http://127.0.0.1:9/a"}}
    location = (await mbstf.http.post(f"{ROOT}/d1/subscriptions", json=wanted)).headers["location"]
    patch = json.dumps(
        [
            replace("/eventList", ["DATA_INGEST_FAILURE"]),
            replace("/notifyUri", "http://127.0.0.1:9/b"),
            {"op": "add", "path": "/expiryTime", "value": "2099-01-01T00:00:00Z"},
        ]
    )
    changed = await mbstf.http.patch(location, content=patch, headers=JSON_PATCH)
    assert changed.json() == {
        "eventList": ["DATA_INGEST_FAILURE"],
        "expiryTime": "2099-01-01T00:00:00Z",
        "distSessionSubscUri": location,
    }
    elsewhere = location.replace("/d1/", "/d2/")
    for response in (
        await mbstf.http.patch(elsewhere, content=patch, headers=JSON_PATCH),
        await mbstf.http.delete(elsewhere),
        await mbstf.http.post(f"{ROOT}/d3/subscriptions", json=wanted),
    ):
        assert response.status_code == 404
    assert (await mbstf.http.delete(location)).status_code == 204


@pytest.mark.parametrize(
    ("changes", "status_code", "told"),
    [
        ({"eventList": []}, 400, "expected one event at least, found none"),
        ({"eventList": ["SNOW"]}, 400, "expected one of DATA_INGEST_FAILURE"),
        ({"notifyUri": "ftp://a/b"}, 400, "http"),
        ({"notifyUri": "http://192.0.2.7/hook"}, 403, "192.0.2.7"),
        ({"expiryTime": "2001-01-01T00:00:00Z"}, 400, "expected a time to come"),
    ],
)
async def test_a_subscription_that_cannot_be_is_refused(
    mbstf: OneFunction, changes: dict[str, object], status_code: int, told: str
) -> None:
    await created(mbstf)
    wanted = {"subscription": {**SUBSCRIPTION, "notifyUri": "http://127.0.0.1:9/a", **changes}}
    refused = await mbstf.http.post(f"{ROOT}/d1/subscriptions", json=wanted)
    assert refused.status_code == status_code
    assert told in refused.json()["detail"]


def test_a_subscription_is_kept_as_what_it_is() -> None:
    wanted = status.DistSessionSubscription(
        event_list=[number for number in status.DistSessionEventType.values() if number],
        notify_uri="http://127.0.0.1/",
        notify_correlation_id="x",
    )
    wanted.expiry_time.FromSeconds(4_000_000_000)
    kept = stored_of("d1", wanted)
    assert shown_of(kept) == wanted
    assert {each.event_type for each in kept.filters} == set(EVENT_TYPES)
    assert {each.subject for each in kept.filters} == {"dist-sessions/d1"}
    with pytest.raises(InvalidArgument, match="expected one event at least"):
        stored_of("d1", status.DistSessionSubscription())


PATHS = {
    "": {"POST"},
    "/d1": {"GET", "PATCH", "DELETE"},
    "/d1/subscriptions": {"POST"},
    "/d1/subscriptions/s1": {"PATCH", "DELETE"},
}


@pytest.mark.clause("RFC 9110 §15.5.6")
async def test_every_path_has_its_methods_and_no_other(mbstf: OneFunction) -> None:
    for path, methods in PATHS.items():
        allowed = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
        for method in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"):
            response = await mbstf.http.request(method, f"{ROOT}{path}")
            if method in allowed:
                assert response.status_code != 405, (method, path)
            else:
                assert response.status_code == 405, (method, path)
                assert response.headers["allow"] == ", ".join(sorted(allowed))
            if method == "OPTIONS":
                assert response.headers["allow"] == ", ".join(sorted(allowed))
    assert (await mbstf.http.get("/nmbstf-distsession/v1/elsewhere")).json()[
        "cause"
    ] == "RESOURCE_URI_STRUCTURE_NOT_FOUND"
