"""The doors of the network API platform held to the OpenAPI document: made up requests are answered as it says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from camara import NETWORK_ACCESSES, NETWORKS, PREFIXES, QOD
from camara_stack import PHONE, PROFILE, SERVER, VIENNA, Camara, camara
from made_up_requests import Served, ask_everything
from schemathesis.generation import GenerationMode

from nf.netapi.named_uuids import AREA, uuid_of
from nf.netapi.named_uuids import PROFILE as PROFILES

DEVICE = {"phoneNumber": PHONE}
SINK = "https://127.0.0.1:9/sink"


class Background:
    """A platform on an event loop of its own, for a client that blocks."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="netapi", daemon=True)
        self.token = ""

    def __enter__(self) -> tuple[Served, str]:
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(60)

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> tuple[Served, str]:
        # Made here: what gRPC makes belongs to the loop that runs.
        self._stack = AsyncExitStack()
        stack = await self._stack.enter_async_context(camara(self._directory))
        known = await _made(stack)
        document = (await stack.platform.http.get("/openapi.json")).json()
        return Served(stack.platform.url, _without_security(document), known), stack.radio.token

    async def _end(self) -> None:
        await self._stack.aclose()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _made(stack: Camara) -> dict[str, str]:
    """Something of each kind, by the names that paths have for it."""
    session = {"device": DEVICE, "applicationServer": SERVER, "qosProfile": PROFILE.profile_id, "duration": 600}
    network = {
        "qosProfileName": PROFILE.profile_id,
        "serviceTime": {"start": "2028-01-01T00:00:00Z", "end": "2028-01-02T00:00:00Z"},
        "serviceAreaId": uuid_of(AREA, VIENNA.area_id),
    }
    network_id = await _post(stack, f"{PREFIXES[NETWORKS]}/networks", network, "id")
    return {
        "sessionId": await _post(stack, f"{PREFIXES[QOD]}/sessions", session, "sessionId"),
        "networkId": network_id,
        "accessId": await _post(
            stack, f"{PREFIXES[NETWORK_ACCESSES]}/accesses", {"networkId": network_id, "devices": [DEVICE]}, "id"
        ),
        "profileId": uuid_of(PROFILES, PROFILE.profile_id),
        "areaId": uuid_of(AREA, VIENNA.area_id),
        "name": PROFILE.profile_id,
    }


async def _post(stack: Camara, path: str, body: Mapping[str, Any], name: str) -> str:
    answer = await stack.platform.http.post(path, json=body, headers=dict(stack.radio.bearer))
    assert answer.status_code == 201, answer.text
    return str(answer.json()[name])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    with Background(tmp_path_factory.mktemp("camara")) as made:
        yield made


# The platform runs in this process, and shortens its pauses by chance while requests are made up.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_whatever_is_sent_is_answered_as_the_document_says(running: tuple[Served, str], mode: GenerationMode) -> None:
    served, token = running
    headers = {"authorization": f"Bearer {token}", "3gpp-sbi-max-rsp-time": "2000"}
    failures, asked = ask_everything(served, mode, headers, examples=2)
    assert not failures, "\n\n".join(failures[:12]) + f"\n{len(failures)} failures"
    doors = {label.partition(" ")[2].split("/")[1] for label in asked}
    assert doors >= {prefix.split("/")[1] for prefix in PREFIXES.values()}
    assert 401 not in {status for label, status in asked.items() if "/oauth2/" not in label}


def _without_security(document: dict[str, Any]) -> dict[str, Any]:
    """The document as for those who show their token in any case."""
    paths = {
        path: {
            method: {name: value for name, value in told.items() if name != "security"}
            if isinstance(told, dict)
            else told
            for method, told in item.items()
        }
        for path, item in document["paths"].items()
    }
    components = {name: value for name, value in document["components"].items() if name != "securitySchemes"}
    return {**document, "paths": paths, "components": components}
