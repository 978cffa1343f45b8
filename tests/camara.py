"""Asks the CAMARA doors, and holds what they answer to CAMARA's own OpenAPI files (OFFICIAL_CAMARA: their directory).

Without the files statuses, error bodies and header fields are looked at all the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import httpx
from official_schemas import OfficialSchemas

DIRECTORY: Final = os.environ.get("OFFICIAL_CAMARA", "")

QOD: Final = "quality-on-demand.yaml"
QOS_PROFILES: Final = "qos-profiles.yaml"
NETWORKS: Final = "dedicated-network.yaml"
NETWORK_PROFILES: Final = "dedicated-network-profiles.yaml"
NETWORK_AREAS: Final = "dedicated-network-areas.yaml"
NETWORK_ACCESSES: Final = "dedicated-network-accesses.yaml"
GEOFENCING: Final = "geofencing-subscriptions.yaml"
LOCATION_VERIFICATION: Final = "location-verification.yaml"
LOCATION_RETRIEVAL: Final = "location-retrieval.yaml"
INSIGHTS: Final = "connectivity-insights-subscriptions.yaml"
# Where each API is served: as its file's `servers` say.
PREFIXES: Final = {
    QOD: "/quality-on-demand/v1rc3",
    QOS_PROFILES: "/qos-profiles/v1rc3",
    NETWORKS: "/dedicated-network/v0.2alpha1",
    NETWORK_PROFILES: "/dedicated-network-profiles/v0.2alpha1",
    NETWORK_AREAS: "/dedicated-network-areas/v0.1alpha1",
    NETWORK_ACCESSES: "/dedicated-network-accesses/v0.2alpha1",
    GEOFENCING: "/geofencing-subscriptions/v0.5",
    LOCATION_VERIFICATION: "/location-verification/v3",
    LOCATION_RETRIEVAL: "/location-retrieval/v0.5",
    INSIGHTS: "/connectivity-insights-subscriptions/v0.7rc1",
}
_METHODS: Final = frozenset({"get", "put", "post", "patch", "delete"})
_CORRELATOR: Final = "b4333c46-49c0-4f62-80d7-f0ef930f1c46"


@cache
def official() -> OfficialSchemas | None:
    """CAMARA's files; None where there are none."""
    return OfficialSchemas(Path(DIRECTORY)) if DIRECTORY else None


def told_by(*files: str) -> set[tuple[str, str, str]]:
    """Every operation (file, method, path) of these files; nothing where there are none."""
    found = official()
    return {
        (file, method, path)
        for file in files
        for path, item in (found.files[file]["paths"].items() if found is not None else ())
        for method in _METHODS & set(item)
    }


@dataclass
class Walk:
    """Asks with one token. What the files object to gathers in ``wrong``, what was asked in ``walked``."""

    http: httpx.AsyncClient
    token: str = ""
    walked: set[tuple[str, str, str]] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def as_caller(self, token: str) -> Walk:
        """The same walk with another token."""
        return Walk(self.http, token, self.walked, self.wrong)

    async def __call__(
        self,
        file: str,
        method: str,
        path: str,
        expected: int,
        body: object = None,
        *,
        code: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Asks for ``path`` of the file's API; the answer has to have the status, and the ``code`` of an error."""
        sent = {"x-correlator": _CORRELATOR, **(headers or {})}
        if self.token:
            sent.setdefault("authorization", f"Bearer {self.token}")
        content = json.dumps(body).encode() if body is not None else None
        if content is not None:
            sent.setdefault("content-type", "application/json")
        path = path.removeprefix(str(self.http.base_url).rstrip("/")).removeprefix(PREFIXES[file])
        response = await self.http.request(method, f"{PREFIXES[file]}{path}", content=content, headers=sent)
        what = f"{method} {path} {response.status_code}"
        assert response.status_code == expected, f"{what}: {response.text}"
        assert response.headers["x-correlator"] == sent["x-correlator"], what
        if expected >= 400:
            assert response.headers["content-type"] == "application/json", what
            told = response.json()
            assert {"status", "code", "message"} <= set(told), (what, told)
            assert (told["status"], len(told["message"]) <= 512) == (expected, True), (what, told)
            assert not code or told["code"] == code, (what, told)
        self._hold_answer(file, method, path.partition("?")[0], response, what)
        return response

    def hold(self, file: str, pointer: str, value: object, what: str) -> None:
        """Holds a value to the schema at a place of a file."""
        schemas = official()
        if schemas is not None:
            self.wrong += [f"{what}: {each}" for each in schemas.errors(file, pointer, value)]

    def hold_event(self, file: str, event: Mapping[str, Any]) -> None:
        """Holds a CloudEvent to every schema that the file has for its type."""
        assert (event["specversion"], bool(event["id"]), bool(event["source"])) == ("1.0", True, True), event
        schemas = official()
        if schemas is None:
            return
        held = list(_schemas_of_type(schemas.files[file], event["type"]))
        assert held, f"{file} has no event {event['type']}"
        body = {name: value for name, value in event.items() if name != "headers"}
        self.hold(file, "/components/schemas/CloudEvent", body, event["type"])
        for pointer in held:
            self.hold(file, pointer, body, event["type"])

    def check(self, *files: str) -> None:
        """Nothing was objected to, and every operation of the files was asked."""
        assert self.wrong == []
        assert told_by(*files) - self.walked == set()

    def _hold_answer(self, file: str, method: str, path: str, response: httpx.Response, what: str) -> None:
        schemas = official()
        if schemas is None:
            return
        server = schemas.files[file]["servers"][0]["url"]
        assert server.removeprefix("{apiRoot}") == PREFIXES[file]
        template, operation = schemas.operation(file, path, method.lower())
        self.walked.add((file, method.lower(), template))
        status = str(response.status_code)
        escaped = template.replace("/", "~1").replace("{", "%7B").replace("}", "%7D")
        pointer = f"/paths/{escaped}/{method.lower()}/responses/{status}"
        told = operation["responses"].get(status)
        if told is None:
            # The files do not name every error that CAMARA has.
            assert response.status_code >= 400, f"{what} is not in {file}"
            self.hold(file, "/components/schemas/ErrorInfo", response.json(), what)
            return
        if "$ref" in told:
            pointer = told["$ref"].removeprefix("#")
            told = schemas.files[file]["components"]["responses"][pointer.rpartition("/")[2]]
        for name, header in told.get("headers", {}).items():
            if header.get("required") and name.lower() not in response.headers:
                self.wrong.append(f"{what}: no header {name}")
        if "content" in told:
            self.hold(file, f"{pointer}/content/application~1json/schema", response.json(), what)
        elif response.content:
            self.wrong.append(f"{what}: expected no body, found {response.text}")


def _schemas_of_type(file: Any, event_type: str) -> Iterator[str]:
    """The pointers that discriminators of the file lead to for a type of events."""
    for schema in file["components"]["schemas"].values():
        for named, pointer in schema.get("discriminator", {}).get("mapping", {}).items():
            # One file calls its event otherwise there than where it says what types there are.
            if named.rpartition(".")[2] == event_type.rpartition(".")[2]:
                yield pointer.removeprefix("#")
