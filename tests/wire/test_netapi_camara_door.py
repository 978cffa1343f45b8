"""What the CAMARA doors have in common, on a door made for this: errors, x-correlator, scopes, strictness, devices."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
import pytest_asyncio
from netapi_platform import OPERATOR_TOKEN, START
from one_function import OneFunction

from nf.common.clock import ManualClock
from nf.common.errors import AlreadyExists, CastcoreError, InvalidArgument, ResourceExhausted, Unavailable
from nf.common.function import Context, Function
from nf.common.rest import Answer
from nf.common.rest_camara import CORRELATOR_PATTERN
from nf.netapi import capacity
from nf.netapi.callers import Callers
from nf.netapi.camara_devices import subject_names
from nf.netapi.config import NetapiSection
from nf.netapi.errors import IdentifierNotFound, NotInAgreement, StillBooked, Unprocessable
from nf.netapi.rest_camara import Call, camara_door
from nf.netapi.secrets import DIGEST, digest_text
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.agreement_pb2 import AccessToken, Agreement, Credential
from nf.netapi.v1.camara_types_pb2 import CamaraDevice
from nf.netapi.v1.coverage_pb2 import Circle

pytestmark = pytest.mark.asyncio(loop_scope="module")

PREFIX = "/things/v1"
TOKENS = {
    "all": AccessToken(),
    "create": AccessToken(scopes=["things:create"]),
    "api": AccessToken(scopes=["things"]),
    "other": AccessToken(scopes=["thing", "things:creates", "other"]),
    "user": AccessToken(device=Device(phone_number="+4917012345")),
}
REFUSALS: dict[str, CastcoreError] = {
    "exists": AlreadyExists("there"),
    "quota": ResourceExhausted("full", reason="QUOTA_EXCEEDED"),
    "many": ResourceExhausted("too many"),
    "own": InvalidArgument("too long", reason="THINGS.TOO_LONG"),
    "range": InvalidArgument("too far", reason="OUT_OF_RANGE"),
    "translated": NotInAgreement("not there"),
    "booked": StillBooked("booked"),
    "device": IdentifierNotFound("unknown"),
    "cannot": Unprocessable("cannot"),
    "away": Unavailable("away"),
}


def build(ctx: Context[NetapiSection]) -> Function:
    callers = Callers(ctx.store, ctx.config)
    routes = []
    for strict in (True, False):
        door = camara_door(
            PREFIX if strict else "/lenient/v1",
            title="Things" if strict else "Lenient things",
            version="1",
            callers=callers,
            strict=strict,
            codes={"NOT_IN_AGREEMENT": (422, "THINGS.NOT_APPLICABLE")},
        )

        async def create(call: Call) -> Answer:
            call.message(Circle)
            return Answer(201, call.message(Circle), location=f"{call.url}/made")

        async def read(call: Call) -> Answer:
            name = call.path["thing"]
            if name == "fault":
                raise RuntimeError("a fault of ours")
            if name == "mine":
                named = CamaraDevice(phone_number="+4917099999") if call.query("named") else None
                return Answer(200, subject_names(call.caller.device, named)[0].device)
            raise REFUSALS[name]

        door.operation(
            "POST",
            "/things",
            create,
            operation_id="createThing" if strict else "createLenientThing",
            summary="Makes a thing",
            request=Circle,
            answers={201: Circle},
            scope="things:create",
            conditional=False,
        )
        door.operation(
            "GET",
            "/things/{thing}",
            read,
            operation_id="readThing" if strict else "readLenientThing",
            summary="Reads a thing",
            answers={200: Device},
            errors=(409, 422),
            conditional=False,
        )
        routes.append(door)
    return Function(name="netapi", servicers=(), routes=routes)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    config = NetapiSection(operator_token=OPERATOR_TOKEN)
    running = OneFunction(
        tmp_path_factory.mktemp("door"), "netapi", build, config, tables=capacity.TABLES, clock=ManualClock(START)
    )
    async with running as one:

        def prepare(tx) -> None:
            tx.insert(Agreement(agreement_id="radio"), "radio")
            tx.insert(Credential(credential_id="c", agreement_id="radio"), "c", parent="radio")
            for name, token in TOKENS.items():
                made = AccessToken(token_id=name, agreement_id="radio", credential_id="c")
                made.MergeFrom(token)
                made.expire_time.FromDatetime(START + timedelta(hours=1))
                tx.insert(made, name, parent="c", lookups={DIGEST: digest_text(name)})

        await one.store.write(prepare)
        yield one.http


def by(name: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}", **more}


BODY = {"center": {"latitude": 1.0, "longitude": 2.0}, "radius": 3}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "UNAUTHENTICATED"),
        (by("nobody"), 401, "UNAUTHENTICATED"),
        ({"authorization": "Basic abc"}, 401, "UNAUTHENTICATED"),
        (by("other"), 403, "PERMISSION_DENIED"),
        (by(OPERATOR_TOKEN), 403, "PERMISSION_DENIED"),
        (by("all"), 201, ""),
        (by("create"), 201, ""),
        (by("api"), 201, ""),
    ],
)
async def test_a_call_needs_a_token_with_the_scope_of_the_operation(
    http: httpx.AsyncClient, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await http.post(f"{PREFIX}/things", json=BODY, headers=headers)
    assert (answer.status_code, answer.json().get("code", "")) == (status, code)
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("exists", 409, "ALREADY_EXISTS"),
        ("quota", 429, "QUOTA_EXCEEDED"),
        ("many", 429, "TOO_MANY_REQUESTS"),
        ("own", 400, "THINGS.TOO_LONG"),
        ("range", 400, "OUT_OF_RANGE"),
        ("translated", 422, "THINGS.NOT_APPLICABLE"),
        ("booked", 409, "CONFLICT"),
        ("device", 404, "IDENTIFIER_NOT_FOUND"),
        ("cannot", 422, "SERVICE_NOT_APPLICABLE"),
        ("away", 503, "UNAVAILABLE"),
        ("fault", 500, "INTERNAL"),
    ],
)
async def test_errors_are_status_code_and_message(http: httpx.AsyncClient, name: str, status: int, code: str) -> None:
    answer = await http.get(f"{PREFIX}/things/{name}", headers=by("all"))
    assert answer.status_code == status
    body = answer.json()
    assert set(body) == {"status", "code", "message"}
    assert (body["status"], body["code"]) == (status, code)
    assert "a fault of ours" not in body["message"]


async def test_paths_and_methods_that_are_not_there_are_told_in_the_same_way(http: httpx.AsyncClient) -> None:
    for method, path, status, code in (
        ("GET", "/nothing", 404, "NOT_FOUND"),
        ("GET", "", 404, "NOT_FOUND"),
        ("DELETE", "/things", 405, "METHOD_NOT_ALLOWED"),
    ):
        answer = await http.request(method, PREFIX + path, headers=by("all", **{"x-correlator": "c-1"}))
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["x-correlator"] == "c-1"
    assert (await http.get("/things/v10/things", headers=by("all"))).headers[
        "content-type"
    ] == "application/problem+json"


async def test_x_correlator_is_echoed_or_made_and_checked(http: httpx.AsyncClient) -> None:
    answer = await http.get(
        f"{PREFIX}/things/exists", headers=by("all", **{"x-correlator": "b4333c46-49c0;a:<1>{2}/.3_"})
    )
    assert answer.headers["x-correlator"] == "b4333c46-49c0;a:<1>{2}/.3_"
    assert answer.headers["x-correlation-id"] == answer.headers["x-correlator"]
    answer = await http.post(f"{PREFIX}/things", json=BODY, headers=by("all"))
    made = answer.headers["x-correlator"]
    assert made
    assert re.fullmatch(CORRELATOR_PATTERN, made)
    for wrong in ("with space", "x" * 257, "a+b"):
        answer = await http.get(f"{PREFIX}/things/exists", headers=by("all", **{"x-correlator": wrong}))
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_ARGUMENT")
        assert answer.headers["x-correlator"] != wrong
    # Refused before anybody is asked who calls, and after.
    assert (await http.get(f"{PREFIX}/things/exists")).headers["x-correlator"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (BODY | {"more": 1}, "more: expected nothing of this name"),
        ({"center": {"latitude": 1.0, "longitude": 2.0, "height": 3}, "radius": 3}, "center.height: expected nothing"),
        ({"center": {"latitude": "1", "longitude": 2.0}, "radius": 3}, "center.latitude: expected a number"),
        ({"radius": 3}, "center: expected, found nothing"),
        ([], "body: expected an object"),
    ],
)
async def test_a_strict_door_refuses_what_the_contract_does_not_know(
    http: httpx.AsyncClient, body: object, field: str
) -> None:
    answer = await http.post(f"{PREFIX}/things", json=body, headers=by("all"))
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_ARGUMENT")
    assert field in answer.json()["message"]


async def test_a_door_that_is_not_strict_ignores_it(http: httpx.AsyncClient) -> None:
    answer = await http.post("/lenient/v1/things", json=BODY | {"more": 1}, headers=by("all"))
    assert answer.status_code == 201
    assert answer.json() == BODY


async def test_the_device_comes_from_the_request_or_the_token_and_never_from_both(http: httpx.AsyncClient) -> None:
    async def mine(token: str, named: str = "") -> httpx.Response:
        return await http.get(f"{PREFIX}/things/mine", params={"named": named} if named else {}, headers=by(token))

    assert (await mine("user")).json() == {"phoneNumber": "+4917012345"}
    assert (await mine("all", "yes")).json() == {"phoneNumber": "+4917099999"}
    for answer, code in (
        (await mine("user", "yes"), "UNNECESSARY_IDENTIFIER"),
        (await mine("all"), "MISSING_IDENTIFIER"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_the_openapi_document_tells_scopes_errors_and_strictness(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    create = document["paths"][f"{PREFIX}/things"]["post"]
    assert create["security"] == [{"openId": ["things:create"]}]
    assert create["responses"]["401"] == {"$ref": "#/components/responses/CamaraError401"}
    assert [each["name"] for each in create["parameters"]] == ["x-correlator"]
    assert create["responses"]["201"]["headers"]["x-correlator"]["schema"]["pattern"] == CORRELATOR_PATTERN
    refusal = document["components"]["responses"]["CamaraError401"]
    assert refusal["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorInfo"}
    assert set(refusal["headers"]) == {"WWW-Authenticate", "x-correlator"}
    schema = create["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert document["components"]["schemas"][schema]["additionalProperties"] is False
    lenient = document["paths"]["/lenient/v1/things"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "additionalProperties" not in document["components"]["schemas"][lenient["$ref"].rpartition("/")[2]]
    assert document["components"]["securitySchemes"]["openId"]["scheme"] == "bearer"
