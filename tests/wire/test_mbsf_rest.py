"""Nmb10 and MBS-5 over HTTP: services, ingest sessions, who is told, what clients are told (TS 29.580, TS 26.517)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from mbs_peers import MbsPeers, served
from one_function import OneFunction
from receiver import Receiver

from nf.client.mbs.errors import AnnouncementWithdrawn
from nf.client.mbs.mbsf_client import MbsfClient
from nf.common.clock import ManualClock
from nf.common.errors import FailedPrecondition, InvalidArgument, NotFound
from nf.mbsf.compose import TABLES, build
from nf.mbsf.config import MbsfSection
from nf.mbsf.status_subscriptions import shown_of, stored_of
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SERVICES = "/nmbsf-mbs-us/v1/mbs-user-services"
INGEST = "/nmbsf-mbs-ud-ingest/v1"
SESSIONS = f"{INGEST}/sessions"
SUBSCRIPTIONS = f"{INGEST}/status-subscriptions"
MBS_5 = "/3gpp-mbs5/v1"
MERGE = {"content-type": "application/merge-patch+json"}
NEWS = "https://provider.test/services/news"
SERVICE = {
    "extServiceIds": [NEWS],
    "servType": "BROADCAST",
    "servClass": "urn:oma:bcast:oma_bsc:st:1.0",
    "servAnnModes": ["VIA_MBS_5"],
    "servNameDescs": [{"servName": "News", "language": "en"}],
}
INFO = {
    "distrMethod": "OBJECT",
    "maxContBitRate": "1.000 Mbps",
    "objDistrInfo": {"operatingMode": "COLLECTION", "objAcqMethod": "PULL", "objAcqIds": ["http://127.0.0.1:9/a"]},
}
PERIOD = {"startTime": "2026-03-01T12:10:00Z", "stopTime": "2026-03-01T12:20:00Z"}


@dataclass
class Stack:
    mbsf: OneFunction
    peers: MbsPeers
    clock: ManualClock

    @property
    def http(self) -> httpx.AsyncClient:
        return self.mbsf.http

    async def service(self, **changes: object) -> str:
        made = await self.http.post(SERVICES, json={**SERVICE, **changes})
        assert made.status_code == 201, made.text
        return made.headers["location"].rpartition("/")[2]

    async def session(self, service: str, **changes: object) -> httpx.Response:
        wanted = {"mbsUserServId": service, "mbsDisSessInfos": {"main": INFO}, "actPeriods": [PERIOD], **changes}
        made = await self.http.post(SESSIONS, json=wanted)
        assert made.status_code == 201, made.text
        return made

    async def until(self, location: str, state: str) -> dict:
        """The session, as soon as its distribution session is in that state."""
        async with asyncio.timeout(20):
            while True:
                sequence = self.mbsf.store.sequence
                shown = (await self.http.get(location)).json()
                if shown["mbsDisSessInfos"]["main"]["mbsDistSessState"] == state:
                    return shown
                await self.mbsf.store.wait_sequence(sequence)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    clock = ManualClock(START)
    peers = MbsPeers(clock)
    async with served(peers) as targets:
        section = MbsfSection(announcement_max_age_s=7)
        function = OneFunction(tmp_path, "mbsf", build, section, tables=TABLES, targets=targets, clock=clock)
        async with function as started:
            yield Stack(started, peers, clock)


@pytest.mark.clause("TS 29.580 §6.1.3")
async def test_a_service_is_offered_read_changed_and_removed(stack: Stack) -> None:
    made = await stack.http.post(SERVICES, json=SERVICE)
    assert (made.status_code, made.json()) == (201, SERVICE)
    location = made.headers["location"]
    assert location.startswith(f"{stack.mbsf.url}{SERVICES}/")
    found = await stack.http.get(location)
    assert (found.status_code, found.json(), found.headers["etag"]) == (200, SERVICE, made.headers["etag"])
    assert (await stack.http.get(SERVICES)).json() == [SERVICE]

    names = [{"servName": "Late news", "language": "en"}]
    patched = await stack.http.patch(location, content=json.dumps({"servNameDescs": names}), headers=MERGE)
    assert (patched.status_code, patched.json()) == (200, {**SERVICE, "servNameDescs": names})
    stale = await stack.http.put(location, json=SERVICE, headers={"if-match": made.headers["etag"]})
    assert stale.status_code == 412
    replaced = await stack.http.put(location, json=SERVICE, headers={"if-match": patched.headers["etag"]})
    assert (replaced.status_code, replaced.json()) == (200, SERVICE)
    other = await stack.http.put(location, json={**SERVICE, "servType": "MULTICAST"})
    assert (other.status_code, other.json()["invalidParams"][0]["param"]) == (400, "servType")

    assert (await stack.http.delete(location)).status_code == 204
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        body = json.dumps(SERVICE) if method in ("PUT", "PATCH") else None
        headers = MERGE if method == "PATCH" else {"content-type": "application/json"} if body else {}
        assert (await stack.http.request(method, location, content=body, headers=headers)).status_code == 404
    assert (await stack.http.get(SERVICES)).json() == []


async def test_a_service_that_cannot_be_is_refused_with_what_is_wrong(stack: Stack) -> None:
    refused = await stack.http.post(SERVICES, json={"extServiceIds": [], "servType": "BROADCAST"})
    assert refused.status_code == 400
    wrong = {each["param"] for each in refused.json()["invalidParams"]}
    assert {"servClass", "servAnnModes", "servNameDescs"} <= wrong
    assert (await stack.http.get(SERVICES)).json() == []


@pytest.mark.clause("TS 29.580 §6.2.3", "TS 26.502 §4.6.1 step 1")
async def test_an_ingest_session_is_provisioned_and_shows_its_states(stack: Stack) -> None:
    service = await stack.service()
    made = await stack.session(service)
    location = made.headers["location"]
    shown = made.json()
    info = shown["mbsDisSessInfos"]["main"]
    assert shown["mbsUserServId"] == service
    assert shown["actPeriods"] == [PERIOD]
    assert info["mbsDistSessState"] == "INACTIVE"
    assert stack.peers.state(info["mbsDistSessionId"]) == "INACTIVE"
    assert (await stack.http.get(SESSIONS)).json() == [shown]
    etag = (await stack.http.get(location)).headers["etag"]
    assert (await stack.http.get(location, headers={"if-none-match": etag})).status_code == 304
    assert (await stack.http.delete(f"{SERVICES}/{service}")).status_code == 409

    stack.clock.advance(timedelta(minutes=11))
    active = await stack.until(location, "ACTIVE")
    # The entity tag is of what is shown, states included.
    changed = await stack.http.get(location, headers={"if-none-match": etag})
    assert (changed.status_code, changed.json()) == (200, active)
    # What is sent back as it was shown is no change, though it runs; periods may be changed at any time.
    later = [{**PERIOD, "stopTime": "2026-03-01T12:30:00Z"}]
    replaced = await stack.http.put(location, json={**active, "actPeriods": later})
    assert (replaced.status_code, replaced.json()["actPeriods"]) == (200, later)
    faster = {"mbsDisSessInfos": {"main": {"maxContBitRate": "2 Mbps"}}}
    refused = await stack.http.patch(location, content=json.dumps(faster), headers=MERGE)
    assert refused.status_code == 409, refused.text
    assert (await stack.http.delete(location, headers={"if-match": etag})).status_code == 412
    assert (await stack.http.delete(location)).status_code == 204


async def test_a_session_that_is_inactive_is_changed_as_a_whole_or_in_part(stack: Stack) -> None:
    location = (await stack.session(await stack.service())).headers["location"]
    faster = {"mbsDisSessInfos": {"main": {"maxContBitRate": "2 Mbps"}, "more": INFO}}
    patched = await stack.http.patch(location, content=json.dumps(faster), headers=MERGE)
    assert patched.status_code == 200, patched.text
    infos = patched.json()["mbsDisSessInfos"]
    assert {key: each["maxContBitRate"] for key, each in infos.items()} == {"main": "2.000 Mbps", "more": "1.000 Mbps"}
    fewer = await stack.http.patch(location, content=b'{"mbsDisSessInfos": {"main": null}}', headers=MERGE)
    assert set(fewer.json()["mbsDisSessInfos"]) == {"more"}
    again = await stack.http.patch(location, content=b"{}", headers=MERGE)
    assert (again.status_code, again.headers["etag"]) == (200, fewer.headers["etag"])
    other = await stack.http.put(location, json={**fewer.json(), "mbsUserServId": "another"})
    assert (other.status_code, other.json()["invalidParams"][0]["param"]) == (400, "mbsUserServId")


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"mbsUserServId": "none"}, 400, "mbsUserServId"),
        ({"mbsDisSessInfos": {}}, 400, "mbsDisSessInfos"),
        (
            {"mbsDisSessInfos": {"main": {**INFO, "maxContBitRate": "0 bps"}}},
            400,
            "mbsDisSessInfos[main].maxContBitRate",
        ),
        ({"mbsDisSessInfos": {"main": {"distrMethod": "OBJECT"}}}, 400, "mbsDisSessInfos.main.maxContBitRate"),
        ({"actPeriods": [{**PERIOD, "stopTime": "2026-03-01T12:00:00Z"}]}, 400, "actPeriods[0].stopTime"),
    ],
)  # fmt: skip
async def test_an_ingest_session_that_cannot_be_is_refused_without_effect(
    stack: Stack, changes: dict[str, object], status: int, told: str
) -> None:
    service = await stack.service()
    wanted = {"mbsUserServId": service, "mbsDisSessInfos": {"main": INFO}, "actPeriods": [PERIOD], **changes}
    refused = await stack.http.post(SESSIONS, json=wanted)
    assert refused.status_code == status, refused.text
    params = [each["param"] for each in refused.json().get("invalidParams", ())]
    assert told in params, refused.text
    assert (await stack.http.get(SESSIONS)).json() == []
    assert stack.peers.replicas == {}


async def test_what_the_mbstf_refuses_is_refused(stack: Stack) -> None:
    service = await stack.service()
    stack.peers.refuse["CreateDistSession"] = FailedPrecondition("no room")
    refused = await stack.http.post(
        SESSIONS, json={"mbsUserServId": service, "mbsDisSessInfos": {"main": INFO}, "actPeriods": [PERIOD]}
    )
    assert refused.status_code == 409
    assert "no room" in refused.json()["detail"]
    assert (await stack.http.get(SESSIONS)).json() == []


@pytest.mark.clause("TS 29.580 §6.2.3.4", "TS 29.580 §6.2.5", "TS 26.502 §4.6.2")
async def test_a_subscriber_is_told_what_it_has_asked_for_in_order(stack: Stack) -> None:
    receiver = Receiver(sequence=lambda _, headers: int(headers["castcore-sequence"]))
    url = await receiver.start()
    service = await stack.service()
    made = await stack.session(service, mbsDisSessInfos={"main": INFO, "other": INFO})
    session = made.headers["location"].rpartition("/")[2]
    names = {key: each["mbsDistSessionId"] for key, each in made.json()["mbsDisSessInfos"].items()}
    wanted = {
        "mbsIngSessionId": session,
        "eventSubscs": [
            {"statusEvent": "DIST_SESS_STARTED", "mbsDistSessionId": names["main"]},
            {"statusEvent": "DIST_SESS_ACTIVATED", "mbsDistSessionId": names["main"]},
            {"statusEvent": "USER_DATA_ING_SESS_TERMINATED"},
            {"statusEvent": "SESSION_TERMINATED"},
        ],
        "notifUri": url,
    }
    subscribed = await stack.http.post(SUBSCRIPTIONS, json=wanted)
    assert (subscribed.status_code, subscribed.json()) == (201, wanted)
    location = subscribed.headers["location"]
    assert (await stack.http.get(location)).json() == wanted
    assert (await stack.http.get(SUBSCRIPTIONS)).json() == [wanted]
    stack.clock.advance(timedelta(minutes=11))
    await stack.until(made.headers["location"], "ACTIVE")
    stack.clock.advance(timedelta(minutes=11))
    await receiver.until(lambda told: len(told.received) == 4)
    told = [each["eventNotifs"][0] for each in receiver.received]
    assert {each["mbsIngSessionId"] for each in receiver.received} == {session}
    assert [each["statusEvent"] for each in told] == [each["statusEvent"] for each in wanted["eventSubscs"]]
    assert [each.get("mbsDisSessionId") for each in told] == [names["main"], names["main"], None, None]
    assert all(each["timeStamp"].startswith("2026-03-01T12:") for each in told)
    assert "tmgi" in told[0]["mbsSessionId"]
    assert (await stack.http.delete(location)).status_code == 204
    assert (await stack.http.get(location)).status_code == 404
    await receiver.stop()


async def test_a_status_subscription_is_changed_for_its_session_only(stack: Stack) -> None:
    service = await stack.service()
    made = await stack.session(service)
    session = made.headers["location"].rpartition("/")[2]
    wanted = {
        "mbsIngSessionId": session,
        "eventSubscs": [{"statusEvent": "DIST_SESS_STARTED"}],
        "notifUri": "http://127.0.0.1:9/a",
    }
    created = await stack.http.post(SUBSCRIPTIONS, json=wanted)
    location = created.headers["location"]
    patched = await stack.http.patch(location, content=b'{"notifUri": "http://127.0.0.1:9/b"}', headers=MERGE)
    assert patched.json() == {**wanted, "notifUri": "http://127.0.0.1:9/b"}
    assert (await stack.http.put(location, json=wanted, headers={"if-match": '"x"'})).status_code == 412
    replaced = await stack.http.put(location, json=wanted, headers={"if-match": patched.headers["etag"]})
    assert (replaced.status_code, replaced.json()) == (200, wanted)
    for changes, status, param in (
        ({"mbsIngSessionId": "other"}, 400, "mbsIngSessionId"),
        ({"eventSubscs": []}, 400, "eventSubscs"),
        ({"eventSubscs": [{"statusEvent": "SNOW"}]}, 400, "eventSubscs[0].statusEvent"),
        ({"eventSubscs": [{"statusEvent": "DIST_SESS_STARTED", "mbsDistSessionId": "none"}]}, 400,
         "eventSubscs[0].mbsDistSessionId"),
        ({"notifUri": "nowhere"}, 400, "notification_subscription.callback_url"),
        ({"notifUri": "http://192.0.2.1/"}, 403, ""),
    ):  # fmt: skip
        refused = await stack.http.put(location, json={**wanted, **changes})
        assert refused.status_code == status, refused.text
        if param:
            assert param in [each["param"] for each in refused.json()["invalidParams"]]
    assert (await stack.http.get(location)).json() == wanted
    assert (await stack.http.post(SUBSCRIPTIONS, json={**wanted, "mbsIngSessionId": "none"})).status_code == 404


def test_a_status_subscription_is_kept_as_what_it_is() -> None:
    wanted = ingest.MbsUserDataIngStatSubsc(mbs_ing_session_id="s1", notif_uri="http://127.0.0.1/")
    for event in ingest.StatusEvent.values()[1:]:
        wanted.event_subscs.add(status_event=event)
        wanted.event_subscs.add(status_event=event, mbs_dist_session_id="d1")
    kept = stored_of(wanted)
    assert shown_of(kept) == wanted
    assert kept.subject == "mbs-ing-sessions/s1"
    assert kept.filters[1].subject == "mbs-ing-sessions/s1/dist-sessions/d1"
    with pytest.raises(InvalidArgument, match="expected one event at least"):
        stored_of(ingest.MbsUserDataIngStatSubsc(mbs_ing_session_id="s1"))


@pytest.mark.clause("TS 26.517 §5.3", "TS 26.502 §4.6.1 step 2b", "TS 26.502 §4.6.1 step 4a")
async def test_clients_fetch_what_is_announced_and_learn_that_it_is_withdrawn(stack: Stack) -> None:
    client = MbsfClient(stack.mbsf.url, clock=stack.clock)
    with pytest.raises(NotFound) as raised:
        await client.service(NEWS)
    assert not isinstance(raised.value, AnnouncementWithdrawn)
    tomorrow = {name: value.replace("03-01", "03-02") for name, value in PERIOD.items()}
    location = (await stack.session(await stack.service(), actPeriods=[PERIOD, tomorrow])).headers["location"]
    with pytest.raises(NotFound):
        await client.service(NEWS)
    assert await client.discover(SERVICE["servClass"]) == ()

    stack.clock.advance(timedelta(minutes=9, seconds=45))
    shown = await stack.until(location, "ESTABLISHED")
    found = await client.service(NEWS)
    (session,) = found.sessions
    assert found.names == (("News", "en"),)
    assert [each.isoformat() for each in found.periods[0]] == ["2026-03-01T12:10:00+00:00", "2026-03-01T12:20:00+00:00"]
    assert session.is_object
    assert session.description.group.is_multicast
    assert session.description.tsi is not None
    assert session.description.tmgi is not None
    assert [each.service_id for each in await client.discover(SERVICE["servClass"])] == [NEWS]
    # The provider is shown the same, and where it is.
    assert shown["mbsUserServiceAnmt"]["serviceId"] == NEWS
    fetched = await stack.http.get(shown["mbsUserServiceAnmtUrl"])
    assert fetched.json() == shown["mbsUserServiceAnmt"]

    stack.clock.advance(timedelta(minutes=11))
    await stack.until(location, "INACTIVE")
    with pytest.raises(AnnouncementWithdrawn):
        await client.refresh(NEWS)
    withdrawn = await stack.http.get(session.locator)
    assert (withdrawn.status_code, withdrawn.json()["status"]) == (410, 410)
    await client.close()


async def test_announcements_come_in_the_form_that_is_liked_best(stack: Stack) -> None:
    location = (await stack.session(await stack.service())).headers["location"]
    stack.clock.advance(timedelta(minutes=9, seconds=45))
    await stack.until(location, "ESTABLISHED")
    path = f"{MBS_5}/user-service-descriptions/{quote(NEWS, safe='')}"
    own = "application/3gpp-mbs-user-service-descriptions+json"
    for accept, expected in (
        ("", "application/json"),
        ("*/*", "application/json"),
        (own, own),
        ("application/json;q=0.5, multipart/related", "multipart/related"),
    ):
        found = await stack.http.get(path, headers={"accept": accept} if accept else {})
        assert found.headers["content-type"].startswith(expected), accept
        assert found.headers["cache-control"] == "max-age=7"
        again = await stack.http.get(path, headers={"accept": accept, "if-none-match": found.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert (await stack.http.get(path, headers={"accept": "text/html"})).status_code == 406
    several = await stack.http.get(f"{MBS_5}/user-service-descriptions", params={"service-class": SERVICE["servClass"]})
    assert [each["serviceId"] for each in several.json()] == [NEWS]
    assert (await stack.http.get(f"{MBS_5}/user-service-descriptions")).status_code == 400
    none = await stack.http.get(f"{MBS_5}/user-service-descriptions", params={"service-class": "urn:none"})
    assert (none.status_code, none.content) == (204, b"")
    # The URL of the session description is one that this client reaches.
    description = (await stack.http.get(path)).json()["distributionSessionDescription"]
    locator = description["sessionDescriptionLocator"]
    assert locator.startswith(f"{stack.mbsf.url}{MBS_5}/session-descriptions/")
    text = await stack.http.get(locator)
    assert (text.headers["content-type"], text.text[:3]) == ("application/sdp", "v=0")
    assert (await stack.http.get(f"{MBS_5}/session-descriptions/none")).status_code == 404


METHODS = {
    SERVICES: "GET POST",
    f"{SERVICES}/x": "GET PUT PATCH DELETE",
    SESSIONS: "GET POST",
    f"{SESSIONS}/x": "GET PUT PATCH DELETE",
    SUBSCRIPTIONS: "GET POST",
    f"{SUBSCRIPTIONS}/x": "GET PUT PATCH DELETE",
    f"{MBS_5}/user-service-descriptions": "GET",
    f"{MBS_5}/user-service-descriptions/x": "GET",
    f"{MBS_5}/session-descriptions/x": "GET",
}


@pytest.mark.clause("RFC 9110 §15.5.6", "TS 29.500 §5.2.7.2")
async def test_every_path_has_its_methods_and_no_other(stack: Stack) -> None:
    for path, methods in METHODS.items():
        allowed = {*methods.split(), "HEAD", "OPTIONS"}
        for method in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"):
            response = await stack.http.request(method, path)
            if method not in allowed:
                assert response.status_code == 405, (method, path)
            if method not in allowed or method == "OPTIONS":
                assert response.headers["allow"] == ", ".join(sorted(allowed))
            elif path.endswith("/x") and method in ("GET", "DELETE"):
                assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
            elif method in ("PUT", "POST", "PATCH"):
                assert response.status_code in (411, 415), (method, path)
