"""Nmb1 over HTTP: TMGIs, by HTTP/1.1 and h2c (TS 29.532 §6.1)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from one_function import OneFunction

from nf.common.clock import ManualClock
from nf.smf.compose import TABLES, build
from nf.smf.config import SmfSection
from nf.smf.v1 import tmgi_pb2 as api
from nf.smf.v1.tmgi_pb2_grpc import TmgiServiceStub

PATH = "/nmbsmf-tmgi/v1/tmgi"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def smf(tmp_path: Path) -> AsyncIterator[OneFunction]:
    nobody = {"pcf": "127.0.0.1:9", "upf": "127.0.0.1:9"}
    async with OneFunction(
        tmp_path, "smf", build, SmfSection(), tables=TABLES, targets=nobody, clock=ManualClock(START), begin=False
    ) as started:
        yield started


@pytest.fixture(params=["HTTP/1.1", "h2c"])
async def http(request: pytest.FixtureRequest, smf: OneFunction) -> AsyncIterator[httpx.AsyncClient]:
    h2 = request.param == "h2c"
    async with httpx.AsyncClient(base_url=smf.url, http1=not h2, http2=h2, verify=False) as client:
        yield client


async def allocated(smf: OneFunction) -> list[str]:
    """The service identifiers that are taken, as gRPC tells them."""
    channels = smf.channels_to_itself()
    try:
        answer = await TmgiServiceStub(channels.get("smf")).ListTmgis(api.ListTmgisRequest())
    finally:
        await channels.close()
    return [each.tmgi.mbs_service_id for each in answer.tmgis]


@pytest.mark.clause("TS 29.532 §6.1.3.2.3.1", "TS 23.247 §7.1.1.2")
async def test_tmgis_are_allocated_refreshed_and_released(smf: OneFunction, http: httpx.AsyncClient) -> None:
    made = await http.post(PATH, json={"tmgiNumber": 2})
    assert made.status_code == 200, made.text
    first, second = made.json()["tmgiList"]
    assert set(first) == {"mbsServiceId", "plmnId"}
    until = made.json()["expirationTime"]
    assert until > "2026-03-01T12:00:00Z"
    assert await allocated(smf) == [first["mbsServiceId"], second["mbsServiceId"]]

    smf.clock.advance(timedelta(seconds=60))  # type: ignore[attr-defined]
    refreshed = await http.post(PATH, json={"tmgiNumber": 1, "tmgiList": [second]})
    third, again = refreshed.json()["tmgiList"]
    assert again == second
    assert third not in (first, second)
    assert refreshed.json()["expirationTime"] > until

    gone = await http.delete(PATH, params={"tmgi-list": json.dumps([first, third])})
    assert (gone.status_code, gone.content) == (204, b"")
    assert await allocated(smf) == [second["mbsServiceId"]]
    # What was released before is released.
    assert (await http.delete(PATH, params={"tmgi-list": json.dumps([first])})).status_code == 204


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "tmgiNumber"),
        ({"tmgiNumber": 0}, 400, "tmgiNumber"),
        ({"tmgiNumber": 256}, 400, "tmgiNumber"),
        ({"tmgiNumber": "two"}, 400, "tmgiNumber"),
        ({"tmgiList": [{"mbsServiceId": "0000a1"}]}, 400, "tmgiList[0].plmnId"),
        ({"tmgiNumber": 1, "tmgiList": [{"mbsServiceId": "x", "plmnId": {"mcc": "001", "mnc": "01"}}]}, 400,
         "tmgiList[0].mbsServiceId"),
        ({"tmgiNumber": 1, "tmgiList": [{"mbsServiceId": "fffffe", "plmnId": {"mcc": "001", "mnc": "01"}}]}, 404, ""),
    ],
)  # fmt: skip
async def test_an_allocation_that_cannot_be_is_refused_without_effect(
    smf: OneFunction, body: dict[str, object], status: int, param: str
) -> None:
    refused = await smf.http.post(PATH, json=body)
    assert refused.status_code == status, refused.text
    if param:
        assert param in [each["param"] for each in refused.json()["invalidParams"]]
    else:
        assert refused.json()["cause"] == "UNKNOWN_TMGI"
    assert await allocated(smf) == []


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", "tmgi-list: expected a JSON array of TMGIs, found nothing"),
        ("?tmgi-list=", "tmgi-list: expected a JSON array of TMGIs, found nothing"),
        ("?tmgi-list=%7B", "tmgi-list: no JSON"),
        ("?tmgi-list=%7B%7D", "tmgi-list: expected a JSON array of TMGIs, found an object"),
        ("?tmgi-list=[]", "tmgi-list: expected a JSON array of TMGIs, found none"),
        ("?tmgi-list=[7]", "tmgi-list[0]: expected an object, found the number 7"),
        ("?tmgi-list=[%7B%22mbsServiceId%22:%220000a1%22%7D]", "tmgi-list[0].plmnId: expected, found nothing"),
        ("?tmgi-list=[]&tmgi-list=[]", "tmgi-list: expected one value, found 2"),
    ],
)
async def test_a_release_that_names_no_tmgis_is_refused(smf: OneFunction, query: str, told: str) -> None:
    refused = await smf.http.delete(f"{PATH}{query}")
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith(told)


async def test_the_resource_has_its_methods_and_no_other(smf: OneFunction) -> None:
    for method in ("GET", "PUT", "PATCH"):
        refused = await smf.http.request(method, PATH)
        assert (refused.status_code, refused.headers["allow"]) == (405, "DELETE, OPTIONS, POST")
