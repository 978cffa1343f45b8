"""The doors of MBS held to the OpenAPI document: what is made up from it is answered as it says (schemathesis)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from made_up_requests import Served, ask_everything
from mbs_peers import MbsPeers, served
from one_function import OneFunction
from schemathesis.generation import GenerationMode

import nf.mbsf.compose
import nf.mbstf.compose
import nf.smf.compose
from nf.common.clock import SystemClock
from nf.mbsf.config import MbsfSection
from nf.mbstf.config import MbstfSection
from nf.smf.config import SmfSection

SERVICE = {
    "extServiceIds": ["urn:news"],
    "servType": "BROADCAST",
    "servClass": "urn:class",
    "servAnnModes": ["VIA_MBS_5"],
    "servNameDescs": [{"servName": "News", "language": "en"}],
}
INFO = {
    "distrMethod": "OBJECT",
    "maxContBitRate": "2 Mbps",
    "objDistrInfo": {"operatingMode": "SINGLE", "objAcqMethod": "PULL", "objAcqIds": ["http://127.0.0.1:9/a"]},
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


class Background:
    """One function on an event loop of its own, for a client that blocks."""

    def __init__(self, name: str, directory: Path) -> None:
        self._name, self._directory = name, directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)

    def __enter__(self) -> Served:
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(60)

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stack.aclose(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> Served:
        self._stack = AsyncExitStack()
        function = await self._stack.enter_async_context(await self._function())
        known = {}
        if self._name == "mbsf":
            made = await function.http.post("/nmbsf-mbs-us/v1/mbs-user-services", json=SERVICE)
            known["mbsUserServId"] = made.headers["location"].rpartition("/")[2]
            period = {"startTime": "2099-01-01T00:00:00Z", "stopTime": "2099-01-02T00:00:00Z"}
            wanted = {
                "mbsUserServId": known["mbsUserServId"],
                "mbsDisSessInfos": {"main": INFO},
                "actPeriods": [period],
            }
            made = await function.http.post("/nmbsf-mbs-ud-ingest/v1/sessions", json=wanted)
            known["sessionId"] = made.headers["location"].rpartition("/")[2]
            subscription = {
                "mbsIngSessionId": known["sessionId"],
                "eventSubscs": [{"statusEvent": "DIST_SESS_STARTED"}],
                "notifUri": "http://127.0.0.1:9/",
            }
            made = await function.http.post("/nmbsf-mbs-ud-ingest/v1/status-subscriptions", json=subscription)
            known["subscriptionId"] = made.headers["location"].rpartition("/")[2]
        elif self._name == "mbstf":
            sessions = "/nmbstf-distsession/v1/dist-sessions"
            await function.http.post(sessions, json={"distSession": SESSION})
            subscription = {"eventList": ["SESSION_ACTIVATED"], "notifyUri": "http://127.0.0.1:9/"}
            made = await function.http.post(f"{sessions}/d1/subscriptions", json={"subscription": subscription})
            known = {"distSessionRef": "d1", "subscriptionId": made.headers["location"].rpartition("/")[2]}
        document = (await function.http.get("/openapi.json")).json()
        return Served(function.url, document, known)

    async def _function(self) -> OneFunction:
        if self._name == "mbsf":
            targets = await self._stack.enter_async_context(served(MbsPeers(SystemClock())))
            build, tables = nf.mbsf.compose.build, nf.mbsf.compose.TABLES
            return OneFunction(self._directory, "mbsf", build, MbsfSection(), tables=tables, targets=targets)
        if self._name == "mbstf":
            section = MbstfSection(establish_timeout_s=0.2)
            return OneFunction(
                self._directory, "mbstf", nf.mbstf.compose.build, section, tables=nf.mbstf.compose.TABLES
            )
        nobody = {"pcf": "127.0.0.1:9", "upf": "127.0.0.1:9"}
        build, tables = nf.smf.compose.build, nf.smf.compose.TABLES
        return OneFunction(self._directory, "smf", build, SmfSection(), tables=tables, targets=nobody, begin=False)


@pytest.fixture(scope="module", params=["mbsf", "mbstf", "smf"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Background(request.param, tmp_path_factory.mktemp(request.param)) as made:
        yield made


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_whatever_is_sent_is_answered_as_the_document_says(running: Served, mode: GenerationMode) -> None:
    # Whose peers are away is not waited for.
    headers = {"3gpp-sbi-max-rsp-time": "2000"}
    failures, asked = ask_everything(running, mode, headers, examples=1)
    assert not failures, "\n\n".join(failures[:12]) + f"\n{len(failures)} failures"
    assert asked
