"""Every operation of MBS over HTTP against 3GPP's own OpenAPI files (OFFICIAL_OPENAPI: their directory)."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from mbs_peers import MbsPeers, served
from official_schemas import OfficialSchemas
from one_function import OneFunction
from receiver import Receiver

import nf.mbsf.compose
import nf.mbstf.compose
import nf.smf.compose
from nf.common.clock import ManualClock
from nf.mbsf.config import MbsfSection
from nf.mbstf.config import MbstfSection
from nf.mbstf.errors import IngestFailed
from nf.mbstf.machine import Event
from nf.mbstf.sessions import step
from nf.smf.config import SmfSection

DIRECTORY = os.environ.get("OFFICIAL_OPENAPI", "")

pytestmark = [
    pytest.mark.skipif(not DIRECTORY, reason="OFFICIAL_OPENAPI names no directory with the files of 3GPP"),
    pytest.mark.filterwarnings("default::DeprecationWarning"),
]

SERVICES = "TS29580_Nmbsf_MBSUserService.yaml"
INGEST = "TS29580_Nmbsf_MBSUserDataIngestSession.yaml"
DISTRIBUTION = "TS29581_Nmbstf_DistSession.yaml"
TMGI = "TS29532_Nmbsmf_TMGI.yaml"
ANNOUNCEMENT = "TS26517_MBSUserServiceAnnouncement.yaml"
PREFIXES = {
    SERVICES: "/nmbsf-mbs-us/v1",
    INGEST: "/nmbsf-mbs-ud-ingest/v1",
    DISTRIBUTION: "/nmbstf-distsession/v1",
    TMGI: "/nmbsmf-tmgi/v1",
    ANNOUNCEMENT: "/3gpp-mbs5/v1",
}
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
AREA = {"taiList": [{"plmnId": {"mcc": "001", "mnc": "01"}, "tac": "0001"}]}
SERVICE = {
    "extServiceIds": ["urn:news"],
    "servType": "BROADCAST",
    "servClass": "urn:class",
    "servAnnModes": ["VIA_MBS_5", "PASSED_BACK"],
    "servNameDescs": [{"servName": "News", "servDescrip": "All day", "language": "en"}],
    "mainServLang": "en",
}
INFO = {
    "distrMethod": "OBJECT",
    "maxContBitRate": "2 Mbps",
    "maxContDelay": 100,
    "fecConfig": {"fecScheme": "urn:ietf:rmt:fec:encoding:0", "fecOverHead": 0},
    "objDistrInfo": {
        "operatingMode": "COLLECTION",
        "objAcqMethod": "PULL",
        "objAcqIds": ["http://127.0.0.1:9/a"],
        "objRepairUri": "http://127.0.0.1:9/repair/",
    },
    "trafficMarkingInfo": "AF41",
    "tgtServAreas": AREA,
    "mbsFSAId": "00000a",
}
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


@dataclass
class Walk:
    """Asks one function, and holds each answer to the file of its API."""

    http: httpx.AsyncClient
    official: OfficialSchemas
    walked: set[tuple[str, str, str]] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    async def __call__(
        self, file: str, method: str, path: str, expected: int, body: object = None, kind: str = "application/json"
    ) -> httpx.Response:
        content = json.dumps(body).encode() if body is not None else None
        headers = {"content-type": kind} if body is not None else {}
        path = path.removeprefix(str(self.http.base_url).rstrip("/")).removeprefix(PREFIXES[file])
        response = await self.http.request(method, f"{PREFIXES[file]}{path}", content=content, headers=headers)
        assert response.status_code == expected, (method, path, response.text)
        template, operation = self.official.operation(file, path.partition("?")[0], method.lower())
        self.walked.add((file, method.lower(), template))
        if expected >= 400:
            assert response.headers["content-type"] == "application/problem+json"
            self.hold("TS29571_CommonData.yaml", "/components/schemas/ProblemDetails", response.json(), path)
            return response
        told = operation["responses"][str(expected)]
        for name, header in told.get("headers", {}).items():
            if header.get("required") and name.lower() not in response.headers:
                self.wrong.append(f"{method} {path}: no header {name}")
        if "content" in told:
            escaped = template.replace("/", "~1").replace("{", "%7B").replace("}", "%7D")
            pointer = f"/paths/{escaped}/{method.lower()}/responses/{expected}/content/application~1json/schema"
            self.hold(file, pointer, response.json(), f"{method} {path}")
        else:
            assert response.content == b""
        return response

    def hold(self, file: str, pointer: str, value: object, what: str) -> None:
        self.wrong += [f"{what}: {each}" for each in self.official.errors(file, pointer, value)]


def told_by(official: OfficialSchemas, *files: str) -> set[tuple[str, str, str]]:
    methods = {"get", "put", "post", "patch", "delete"}
    return {
        (file, method, path)
        for file in files
        for path, item in official.files[file]["paths"].items()
        for method in methods & set(item)
    }


def by_sequence(_: Mapping[str, object], headers: Mapping[str, str]) -> int:
    return int(headers["castcore-sequence"])


@pytest.mark.clause("TS 29.580 §6.1", "TS 29.580 §6.2", "TS 26.517 §5")
async def test_every_operation_of_the_mbsf_answers_as_the_official_files_say(tmp_path: Path) -> None:
    official = OfficialSchemas(Path(DIRECTORY))
    clock = ManualClock(START)
    receiver = Receiver(sequence=by_sequence)
    url = await receiver.start()
    build, tables = nf.mbsf.compose.build, nf.mbsf.compose.TABLES
    async with (
        served(MbsPeers(clock)) as targets,
        OneFunction(tmp_path, "mbsf", build, MbsfSection(), tables=tables, targets=targets, clock=clock) as mbsf,
    ):
        walk = Walk(mbsf.http, official)
        made = await walk(SERVICES, "POST", "/mbs-user-services", 201, SERVICE)
        service = made.headers["location"]
        await walk(SERVICES, "POST", "/mbs-user-services", 400, {})
        await walk(SERVICES, "GET", "/mbs-user-services", 200)
        await walk(SERVICES, "GET", service, 200)
        await walk(SERVICES, "PUT", service, 200, SERVICE)
        await walk(SERVICES, "PATCH", service, 200, {"mainServLang": "de"}, MERGE)

        period = {"startTime": "2026-03-01T12:10:00Z", "stopTime": "2026-03-01T12:20:00Z"}
        wanted = {
            "mbsUserServId": service.rpartition("/")[2],
            "mbsDisSessInfos": {"main": INFO},
            "actPeriods": [period],
        }
        made = await walk(INGEST, "POST", "/sessions", 201, wanted)
        session = made.headers["location"]
        await walk(INGEST, "POST", "/sessions", 400, {**wanted, "mbsUserServId": 7})
        await walk(INGEST, "GET", "/sessions", 200)
        await walk(INGEST, "PUT", session, 200, wanted)
        await walk(
            INGEST, "PATCH", session, 200, {"actPeriods": [{**period, "stopTime": "2026-03-01T12:30:00Z"}]}, MERGE
        )
        events = ("DIST_SESS_STARTED", "DIST_SESS_ACTIVATED", "SESSION_STARTED", "USER_SER_AD")
        subscription = {
            "mbsIngSessionId": session.rpartition("/")[2],
            "eventSubscs": [{"statusEvent": each} for each in events],
            "notifUri": url,
        }
        made = await walk(INGEST, "POST", "/status-subscriptions", 201, subscription)
        subscribed = made.headers["location"]
        await walk(INGEST, "GET", "/status-subscriptions", 200)
        await walk(INGEST, "GET", subscribed, 200)
        await walk(INGEST, "PUT", subscribed, 200, subscription)
        await walk(INGEST, "PATCH", subscribed, 200, {"notifUri": url}, MERGE)

        clock.advance(timedelta(minutes=11))
        await receiver.until(lambda told: {_event(each) for each in told.received} == set(events))
        for each in receiver.received:
            body = {name: value for name, value in each.items() if name != "headers"}
            walk.hold(INGEST, "/components/schemas/MBSUserDataIngStatNotif", body, _event(each))
        active = (await walk(INGEST, "GET", session, 200)).json()
        assert active["mbsDisSessInfos"]["main"]["mbsDistSessState"] in ("ESTABLISHED", "ACTIVE")
        assert active["mbsUserServiceAnmt"]["serviceId"] == "urn:news"
        await walk(ANNOUNCEMENT, "GET", "/user-service-descriptions?service-class=urn%3Aclass", 200)
        await walk(ANNOUNCEMENT, "GET", "/user-service-descriptions?service-class=urn%3Anone", 204)
        await walk(ANNOUNCEMENT, "GET", f"/user-service-descriptions/{quote('urn:news', safe='')}", 200)
        await walk(ANNOUNCEMENT, "GET", "/user-service-descriptions/none", 404)

        await walk(INGEST, "DELETE", subscribed, 204)
        await walk(INGEST, "DELETE", session, 204)
        await walk(SERVICES, "DELETE", service, 409)
        await _until_gone(mbsf, session)
        await walk(SERVICES, "DELETE", service, 204)
        await walk(SERVICES, "GET", service, 404)
        assert walk.wrong == []
        assert told_by(official, SERVICES, INGEST, ANNOUNCEMENT) - walk.walked == set()
    await receiver.stop()


@pytest.mark.clause("TS 29.581 §6.1")
async def test_every_operation_of_the_mbstf_answers_as_the_official_file_says(tmp_path: Path) -> None:
    official = OfficialSchemas(Path(DIRECTORY))
    receiver = Receiver(sequence=by_sequence)
    url = await receiver.start()
    build, tables = nf.mbstf.compose.build, nf.mbstf.compose.TABLES
    async with OneFunction(tmp_path, "mbstf", build, MbstfSection(), tables=tables) as mbstf:
        walk = Walk(mbstf.http, official)
        made = await walk(DISTRIBUTION, "POST", "/dist-sessions", 201, {"distSession": SESSION})
        session = made.headers["location"]
        await walk(DISTRIBUTION, "POST", "/dist-sessions", 400, {"distSession": {}})
        await walk(DISTRIBUTION, "GET", session, 200)
        patch = [{"op": "replace", "path": "/distSession/mbr", "value": "3 Mbps"}]
        await walk(DISTRIBUTION, "PATCH", session, 200, patch, JSON_PATCH)
        await walk(DISTRIBUTION, "PATCH", session, 415, patch, "application/json")
        subscription = {
            "eventList": ["SERVICE_MANAGEMENT_FAILURE"],
            "notifyUri": url,
            "notifyCorrelationId": "mine",
            "expiryTime": "2099-01-01T00:00:00Z",
        }
        path = f"{session}/subscriptions"
        made = await walk(DISTRIBUTION, "POST", path, 201, {"subscription": subscription})
        subscribed = made.headers["location"]
        renewal = [{"op": "replace", "path": "/expiryTime", "value": "2099-02-01T00:00:00Z"}]
        await walk(DISTRIBUTION, "PATCH", subscribed, 200, renewal, JSON_PATCH)
        await mbstf.store.write(lambda tx: step(tx, "d1", Event.NOT_INGESTED, IngestFailed("nobody there")))
        await receiver.until(lambda told: len(told.received) == 1)
        body = {name: value for name, value in receiver.received[0].items() if name != "headers"}
        walk.hold(DISTRIBUTION, "/components/schemas/StatusNotifyReqData", body, "notification")
        await walk(DISTRIBUTION, "DELETE", subscribed, 204)
        await walk(DISTRIBUTION, "DELETE", session, 204)
        await walk(DISTRIBUTION, "GET", session, 404)
        assert walk.wrong == []
        assert told_by(official, DISTRIBUTION) - walk.walked == set()
    await receiver.stop()


@pytest.mark.clause("TS 29.532 §6.1")
async def test_every_operation_on_tmgis_answers_as_the_official_file_says(tmp_path: Path) -> None:
    official = OfficialSchemas(Path(DIRECTORY))
    build, tables = nf.smf.compose.build, nf.smf.compose.TABLES
    nobody = {"pcf": "127.0.0.1:9", "upf": "127.0.0.1:9"}
    function = OneFunction(tmp_path, "smf", build, SmfSection(), tables=tables, targets=nobody, begin=False)
    async with function as smf:
        walk = Walk(smf.http, official)
        made = await walk(TMGI, "POST", "/tmgi", 200, {"tmgiNumber": 2})
        await walk(TMGI, "POST", "/tmgi", 400, {"tmgiNumber": 300})
        listed = quote(json.dumps(made.json()["tmgiList"]))
        await walk(TMGI, "DELETE", f"/tmgi?tmgi-list={listed}", 204)
        assert walk.wrong == []
        assert told_by(official, TMGI) - walk.walked == set()


def _event(notification: Mapping[str, list[dict[str, str]]]) -> str:
    return notification["eventNotifs"][0]["statusEvent"]


async def _until_gone(mbsf: OneFunction, session: str) -> None:
    async with asyncio.timeout(20):
        while True:
            sequence = mbsf.store.sequence
            if (await mbsf.http.get(session)).status_code == 404:
                return
            await mbsf.store.wait_sequence(sequence)
