"""Nmb1 over HTTP: MBS sessions at the MB-SMF, its PCF and its UPF on real sockets (TS 29.532 §6.2)."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from mbs_plane import MbsPlane, running

from nf.common.http import HttpServer, application
from nf.common.telemetry import Telemetry

PATH = "/nmbsmf-mbssession/v1/mbs-sessions"
JSON_PATCH = {"content-type": "application/json-patch+json"}
SESSION = {
    "serviceType": "BROADCAST",
    "tmgiAllocReq": True,
    "ssm": {"sourceIpAddr": {"ipv4Addr": "198.51.100.7"}, "destIpAddr": {"ipv4Addr": "232.1.1.1"}},
    "mbsServInfo": {
        "mbsMediaComps": {"1": {"mbsMedCompNum": 1, "mbsMediaInfo": {"maxReqMbsBwDl": "5 Mbps"}}},
    },
}


@dataclass
class Served:
    plane: MbsPlane
    http: httpx.AsyncClient


@pytest.fixture
async def smf(tmp_path: Path) -> AsyncIterator[Served]:
    async with running(tmp_path) as plane:
        server = HttpServer(application(Telemetry(), lambda: True, plane.routes("smf")))
        async with httpx.AsyncClient(base_url=await server.start("127.0.0.1:0"), timeout=20, verify=False) as http:
            yield Served(plane, http)
        await server.stop()


@pytest.mark.clause("TS 29.532 §6.2.3", "TS 23.247 §7.1.1.2", "TS 23.247 §7.1.1.4")
async def test_a_session_is_set_up_changed_and_released(smf: Served) -> None:
    made = await smf.http.post(PATH, json={"mbsSession": SESSION})
    assert made.status_code == 201, made.text
    shown = made.json()["mbsSession"]
    assert shown["mbsSessionId"]["tmgi"] == shown["tmgi"]
    assert shown["ingressTunAddr"] == [{"ipv4Addr": "127.0.0.1", "portNumber": 40_001}]
    # What is only to be set, and what is the SMF's own, is not shown.
    assert {"ssm", "serviceType", "tmgiAllocReq", "state", "cpSeid", "decision", "etag"} & set(shown) == set()
    location = made.headers["location"]
    assert location.startswith(f"{str(smf.http.base_url).rstrip('/')}{PATH}/")
    assert [each.mbr_bps for each in smf.plane.mbs_upf.enforced] == [5_000_000]

    rate = "/mbsSession/mbsServInfo/mbsMediaComps/1/mbsMediaInfo/maxReqMbsBwDl"
    patch = [{"op": "replace", "path": rate, "value": "3 Mbps"}]
    changed = await smf.http.patch(location, content=json.dumps(patch), headers=JSON_PATCH)
    assert changed.status_code == 200, changed.text
    assert [each.mbr_bps for each in smf.plane.mbs_upf.enforced] == [3_000_000]
    assert changed.headers["etag"] != made.headers["etag"]
    same = await smf.http.patch(location, content=json.dumps(patch), headers=JSON_PATCH)
    assert same.headers["etag"] == changed.headers["etag"]
    fixed = [{"op": "replace", "path": "/serviceType", "value": "MULTICAST"}]
    refused = await smf.http.patch(location, content=json.dumps(fixed), headers=JSON_PATCH)
    assert (refused.status_code, refused.json()["invalidParams"][0]["param"]) == (400, "mbsSession.serviceType")
    stale = {"if-match": made.headers["etag"]}
    assert (await smf.http.delete(location, headers=stale)).status_code == 412

    assert (await smf.http.delete(location)).status_code == 204
    assert (await smf.http.delete(location)).status_code == 404
    assert smf.plane.mbs_upf.enforced == []


async def test_a_session_that_cannot_be_is_refused_and_leaves_nothing(smf: Served) -> None:
    unknown = {"tmgi": {"mbsServiceId": "fffffe", "plmnId": {"mcc": "001", "mnc": "01"}}}
    for body, status in (
        ({}, 400),
        ({"mbsSession": {}}, 400),
        ({"mbsSession": {**SESSION, "serviceType": "UNICAST"}}, 400),
        ({"mbsSession": {**SESSION, "tmgiAllocReq": False, "mbsSessionId": unknown}}, 404),
    ):
        refused = await smf.http.post(PATH, json=body)
        assert refused.status_code == status, refused.text
        assert refused.headers["content-type"] == "application/problem+json"
    assert smf.plane.mbs_upf.enforced == []
    for method in ("GET", "PUT", "DELETE"):
        assert (await smf.http.request(method, PATH)).status_code == 405


@pytest.mark.skipif(
    not os.environ.get("OFFICIAL_OPENAPI"), reason="OFFICIAL_OPENAPI names no directory with the files of 3GPP"
)
@pytest.mark.filterwarnings("default::DeprecationWarning")
async def test_a_session_is_as_the_official_file_says(smf: Served) -> None:
    from official_schemas import OfficialSchemas

    official = OfficialSchemas(Path(os.environ["OFFICIAL_OPENAPI"]))
    file = "TS29532_Nmbsmf_MBSSession.yaml"
    made = await smf.http.post(PATH, json={"mbsSession": SESSION})
    assert official.errors(file, "/components/schemas/CreateRspData", made.json()) == []
    patch = [{"op": "add", "path": "/mbsSession/mbsFsaIdList", "value": ["00000a"]}]
    changed = await smf.http.patch(made.headers["location"], content=json.dumps(patch), headers=JSON_PATCH)
    assert changed.status_code == 200, changed.text
    assert official.errors(file, "/components/schemas/UpdateRspData", changed.json()) == []
