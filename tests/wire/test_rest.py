"""What every HTTP door does: methods, media types, lengths, conditions, patches, problems; over HTTP/1.1 and h2c."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import pytest

from nf.af.v1 import provisioning_pb2 as m1
from nf.common import call as current_call
from nf.common.errors import InvalidArgument, NotFound, ResourceExhausted, Unauthenticated, Unavailable
from nf.common.http import HttpServer, application
from nf.common.openapi import document
from nf.common.resources import etag_of
from nf.common.rest import Answer, Door, Media, Query, RestCall, Several
from nf.common.telemetry import Telemetry

CHANGED = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
LIMIT_BYTES = 4096


@dataclass
class Shelf:
    """One template that can be read and changed, and what has befallen it."""

    template: m1.PolicyTemplate = field(default_factory=lambda: m1.PolicyTemplate(external_reference="gold"))
    written: int = 0
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    remaining_s: float | None = None
    error: Exception | None = None

    def identify(self, headers: Mapping[str, str]) -> str:
        if headers.get("authorization") == "Bearer wrong":
            raise Unauthenticated("authorization: the token is none of a configured provider")
        return headers.get("authorization", "anyone")

    def answer(self, status: int = 200) -> Answer:
        return Answer(status, self.template, etag=etag_of(self.template), last_modified=CHANGED)

    async def read(self, call: RestCall[str]) -> Answer:
        if call.path["thingId"] != "1":
            raise NotFound(f"thing {call.path['thingId']!r} does not exist")
        self.remaining_s = current_call.remaining_s()
        if self.error is not None:
            raise self.error
        return self.answer()

    async def replace(self, call: RestCall[str]) -> Answer:
        call.check_preconditions("thing '1'", etag_of(self.template), CHANGED)
        wanted = call.message(m1.PolicyTemplate)
        if wanted.qos_specification.max_btr_dl_bps == 1:
            raise InvalidArgument.of("policy_template.qos_specification.max_btr_dl_bps", "expected more")
        self.template = wanted
        self.written += 1
        return Answer(204, etag=etag_of(self.template))

    async def patch(self, call: RestCall[str]) -> Answer:
        call.check_preconditions("thing '1'", etag_of(self.template), CHANGED)
        self.template = call.patched(self.template)
        self.written += 1
        return self.answer()

    async def create(self, call: RestCall[str]) -> Answer:
        self.template = call.message(m1.PolicyTemplate)
        return Answer(201, self.template, location=f"{call.url}/2")

    async def take(self, call: RestCall[str]) -> Answer:
        return Answer(200, {"bytes": len(call.body), "type": call.media_type, "q": call.query("q")})

    async def several(self, call: RestCall[str]) -> Answer:
        named = m1.PolicyTemplate(external_reference=call.path["shelfId"])
        return Answer(200, [self.template, named])

    async def slow(self, call: RestCall[str]) -> Answer:
        self.entered.set()
        await self.hold.wait()
        self.written += 1
        self.finished.set()
        return Answer(204)

    def door(self) -> Door[str]:
        door: Door[str] = Door(
            "/toys/v1", title="Toys", version="1.0.0", identify=self.identify, max_body_bytes=LIMIT_BYTES
        )
        kind = m1.PolicyTemplate
        path = "/things/{thingId}"
        door.operation("GET", path, self.read, operation_id="read", summary="Read", answers={200: kind})
        door.operation(
            "PUT", path, self.replace, operation_id="replace", summary="Replace", request=kind, answers={204: None}
        )
        door.operation(
            "PATCH", path, self.patch, operation_id="patch", summary="Change", request=kind, answers={200: kind}
        )
        door.operation(
            "POST", "/things", self.create, operation_id="create", summary="New", request=kind, answers={201: kind}
        )
        door.operation(
            "POST",
            "/things/{thingId}/reports",
            self.take,
            operation_id="take",
            summary="Take",
            request=Media(("application/*",)),
            answers={200: Media(("application/json",))},
            query=(Query("q", "anything"),),
        )
        door.operation(
            "GET",
            "/shelves/{shelfId}/things",
            self.several,
            operation_id="list",
            summary="List",
            answers={200: Several(kind)},
            conditional=False,
        )
        door.operation("POST", "/slow", self.slow, operation_id="slow", summary="Slow", answers={204: None})
        return door


@dataclass
class Running:
    shelf: Shelf
    client: httpx.AsyncClient
    url: str

    async def raw(self, text: str) -> tuple[int, str]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(text.encode())
        raw = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        return int(raw.split()[1]), raw


@pytest.fixture(params=["http/1.1", "h2c"])
async def toys(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    shelf = Shelf()
    server = HttpServer(application(Telemetry(), lambda: True, [shelf.door()]))
    url = await server.start("127.0.0.1:0")
    h2 = request.param == "h2c"
    async with httpx.AsyncClient(base_url=f"{url}/toys/v1", http1=not h2, http2=h2, verify=False) as client:
        yield Running(shelf, client, url)
    shelf.hold.set()
    await server.stop()


def problem_of(response: httpx.Response, status: int) -> dict[str, object]:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    told: dict[str, object] = response.json()
    assert told["status"] == status
    assert told["title"]
    assert told["detail"]
    return told


async def test_a_resource_is_read_with_its_validators_and_may_be_kept(toys: Running) -> None:
    response = await toys.client.get("/things/1")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == {"policyTemplateId": "", "externalReference": "gold"}
    assert response.headers["etag"] == f'"{etag_of(toys.shelf.template)}"'
    assert response.headers["last-modified"] == "Sun, 01 Mar 2026 12:00:00 GMT"
    assert response.headers["cache-control"] == "max-age=5"
    assert response.http_version == ("HTTP/2" if "h2c" in str(toys.client._transport) else response.http_version)
    again = await toys.client.get("/things/1/")
    assert again.content == response.content


async def test_several_resources_are_an_array(toys: Running) -> None:
    response = await toys.client.get("/shelves/top/things")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert [each["externalReference"] for each in response.json()] == ["gold", "top"]
    schema = document([toys.shelf.door()])["paths"]["/toys/v1/shelves/{shelfId}/things"]["get"]["responses"]["200"]
    assert schema["content"]["application/json"]["schema"] == {
        "type": "array",
        "items": {"$ref": "#/components/schemas/PolicyTemplate"},
    }


@pytest.mark.clause("RFC 3986 §2.2")
async def test_a_slash_that_is_escaped_stands_within_a_segment(toys: Running) -> None:
    for path in ("http%3A%2F%2Fa.b%2Fc%25", "http:%2f%2fa.b%2Fc%25"):
        response = await toys.client.get(f"/shelves/{path}/things")
        assert response.json()[1]["externalReference"] == "http://a.b/c%"
    assert (await toys.client.get("/shelves/http://a.b/c/things")).status_code == 404
    assert (await toys.client.get("/shelves/a%20b/things")).json()[1]["externalReference"] == "a b"


@pytest.mark.clause("RFC 9110 §13")
async def test_what_the_client_has_is_not_sent_again(toys: Running) -> None:
    etag = (await toys.client.get("/things/1")).headers["etag"]
    for condition in (
        {"if-none-match": etag},
        {"if-none-match": f'"other", W/{etag}'},
        {"if-none-match": "*"},
        {"if-modified-since": "Sun, 01 Mar 2026 12:00:00 GMT"},
    ):
        response = await toys.client.get("/things/1", headers=condition)
        assert (response.status_code, response.content) == (304, b""), condition
        assert response.headers["etag"] == etag
        assert response.headers["cache-control"] == "max-age=5"
    for condition in (
        {"if-none-match": '"other"'},
        {"if-modified-since": "Sun, 01 Mar 2026 11:59:59 GMT"},
        {"if-modified-since": "yesterday"},
        # An entity tag that does not match outweighs the time.
        {"if-none-match": '"other"', "if-modified-since": "Sun, 01 Mar 2026 12:00:00 GMT"},
    ):
        assert (await toys.client.get("/things/1", headers=condition)).status_code == 200, condition


@pytest.mark.clause("RFC 9110 §13")
async def test_a_change_meant_for_another_state_is_refused_without_effect(toys: Running) -> None:
    etag = (await toys.client.get("/things/1")).headers["etag"]
    for condition in (
        {"if-match": '"other"'},
        {"if-match": f"W/{etag}"},
        {"if-none-match": "*"},
        {"if-none-match": etag},
        {"if-unmodified-since": "Sun, 01 Mar 2026 11:59:59 GMT"},
    ):
        response = await toys.client.put("/things/1", json={"externalReference": "new"}, headers=condition)
        assert problem_of(response, 412)["detail"], condition
        assert toys.shelf.written == 0
    for condition in ({"if-match": "*"}, {"if-match": f'"other", {etag}'}, {"if-none-match": '"other"'}):
        response = await toys.client.put("/things/1", json={"externalReference": "gold"}, headers=condition)
        assert (response.status_code, response.content) == (204, b""), condition
    assert toys.shelf.written == 3


async def test_head_is_a_get_without_its_body(toys: Running) -> None:
    got, head = await toys.client.get("/things/1"), await toys.client.head("/things/1")
    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "x-correlation-id": "", "date": ""} == {**got.headers, "x-correlation-id": "", "date": ""}


async def test_options_and_405_tell_the_methods(toys: Running) -> None:
    response = await toys.client.options("/things/1")
    assert (response.status_code, response.headers["allow"]) == (204, "GET, HEAD, OPTIONS, PATCH, PUT")
    assert response.headers["accept-patch"] == "application/merge-patch+json, application/json-patch+json"
    response = await toys.client.delete("/things/1")
    problem_of(response, 405)
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, PATCH, PUT"
    response = await toys.client.get("/things")
    assert (response.status_code, response.headers["allow"]) == (405, "OPTIONS, POST")


async def test_what_is_not_there_is_a_problem_too(toys: Running) -> None:
    for path in ("/nothing", "/things/1/2/3", "/things//"):
        assert problem_of(await toys.client.get(path), 404)["cause"] == "RESOURCE_URI_STRUCTURE_NOT_FOUND"
    assert problem_of(await toys.client.get("/things/2"), 404)["detail"] == "thing '2' does not exist"
    assert problem_of(await toys.client.request("GET", f"{toys.url}/nowhere"), 404)["title"]
    response = await toys.client.post(f"{toys.url}/metrics")
    assert (problem_of(response, 405)["status"], set(response.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})


async def test_the_address_of_what_was_created_is_absolute(toys: Running) -> None:
    response = await toys.client.post("/things", json={"externalReference": "new"})
    assert response.status_code == 201
    assert response.headers["location"] == f"{toys.url}/toys/v1/things/2"
    response = await toys.client.post("/things/", json={"externalReference": "new"}, headers={"host": "af.example:81"})
    assert response.headers["location"] == "http://af.example:81/toys/v1/things/2"


async def test_who_calls_is_asked_before_anything_is_read(toys: Running) -> None:
    response = await toys.client.put("/things/1", content=b"no json", headers={"authorization": "Bearer wrong"})
    problem_of(response, 401)
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_only_what_the_client_takes_is_sent(toys: Running) -> None:
    for accept in (
        "*/*",
        "application/*;q=0.1",
        "text/html, application/json;q=0.5",
        "application/json; charset=utf-8",
    ):
        assert (await toys.client.get("/things/1", headers={"accept": accept})).status_code == 200, accept
    for accept in ("text/html", "application/json;q=0, */*;q=0.5", "application/xml, */*;q=0"):
        told = problem_of(await toys.client.get("/things/1", headers={"accept": accept}), 406)
        assert "expected application/json" in str(told["detail"]), accept


async def test_a_body_of_another_type_is_refused(toys: Running) -> None:
    for content_type in ("text/plain", "", "application/jsonx", "application/json; charset=latin-1"):
        headers = {"content-type": content_type} if content_type else {}
        response = await toys.client.put("/things/1", content=b"{}", headers=headers)
        problem_of(response, 415)
        assert response.headers["accept"] == "application/json"
    response = await toys.client.patch("/things/1", json={})
    assert (response.status_code, response.headers["accept-patch"]) == (
        415,
        "application/merge-patch+json, application/json-patch+json",
    )
    response = await toys.client.put("/things/1", json={}, headers={"content-encoding": "gzip"})
    assert (response.status_code, response.headers["accept-encoding"]) == (415, "identity")


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(toys: Running) -> None:
    body = json.dumps({"externalReference": "x" * LIMIT_BYTES})
    json_type = {"content-type": "application/json"}
    problem_of(await toys.client.put("/things/1", content=body, headers=json_type), 413)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 1024

    problem_of(await toys.client.put("/things/1", content=endless(), headers=json_type), 413)
    # The length alone is enough: nothing of the body was sent.
    status, _ = await toys.raw(
        "PUT /toys/v1/things/1 HTTP/1.1\r\nhost: x\r\n"
        "content-type: application/json\r\ncontent-length: 99999999\r\n\r\n"
    )
    assert status == 413
    assert toys.shelf.written == 0


async def test_a_body_in_chunks_is_taken_and_one_without_a_length_is_not(toys: Running) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"externalReference":'
        yield b'"in parts"}'

    json_type = {"content-type": "application/json"}
    assert (await toys.client.put("/things/1", content=chunks(), headers=json_type)).status_code == 204
    assert toys.shelf.template.external_reference == "in parts"
    status, raw = await toys.raw(
        "PUT /toys/v1/things/1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n"
    )
    assert (status, "application/problem+json" in raw) == (411, True)
    told = problem_of(await toys.client.put("/things/1", content=b"", headers=json_type), 400)
    assert told["invalidParams"] == [{"param": "body", "reason": "expected a JSON object, found nothing"}]


async def test_every_property_at_fault_is_named(toys: Running) -> None:
    told = problem_of(await toys.client.put("/things/1", json={"qoSSpecification": {"maxBtrDl": 5}}), 400)
    assert told["cause"] == "INVALID_MSG_FORMAT"
    assert told["invalidParams"] == [
        {
            "param": "qoSSpecification.maxBtrDl",
            "reason": 'expected a bit rate such as "5.000 Mbps", found the number 5',
        },
        {"param": "externalReference", "reason": "expected, found nothing"},
    ]


async def test_what_the_domain_refuses_is_told_in_the_words_of_the_api(toys: Running) -> None:
    body = {"externalReference": "x", "qoSSpecification": {"maxBtrDl": "1 bps"}}
    told = problem_of(await toys.client.put("/things/1", json=body), 400)
    assert told["invalidParams"] == [{"param": "qoSSpecification.maxBtrDl", "reason": "expected more"}]
    assert told["detail"] == "qoSSpecification.maxBtrDl: expected more"


@pytest.mark.clause("RFC 7396")
async def test_a_merge_patch_changes_what_it_names_and_null_takes_away(toys: Running) -> None:
    toys.shelf.template.qos_specification.qos_reference = "ref"
    toys.shelf.template.qos_specification.max_btr_dl_bps = 1000
    merge = {"content-type": "application/merge-patch+json"}
    patch = {"qoSSpecification": {"maxBtrDl": None, "maxBtrUl": "1 Mbps"}, "applicationSessionContext": {"dnn": "ims"}}
    response = await toys.client.patch("/things/1", content=json.dumps(patch), headers=merge)
    assert response.json() == {
        "policyTemplateId": "",
        "externalReference": "gold",
        "qoSSpecification": {"qosReference": "ref", "maxBtrUl": "1.000 Mbps"},
        "applicationSessionContext": {"dnn": "ims"},
    }
    for body in (b"[]", b"null", b'"x"', b"{", b'{"externalReference": null}', b'{"qoSSpecification": 7}'):
        problem_of(await toys.client.patch("/things/1", content=body, headers=merge), 400)
    assert toys.shelf.written == 1


@pytest.mark.clause("RFC 6902")
async def test_a_json_patch_is_applied_whole_or_not_at_all(toys: Running) -> None:
    kind = {"content-type": "application/json-patch+json"}

    async def patch(*operations: object) -> httpx.Response:
        return await toys.client.patch("/things/1", content=json.dumps(operations), headers=kind)

    right = (
        {"op": "test", "path": "/externalReference", "value": "gold"},
        {"op": "add", "path": "/chargingSpecification", "value": {"gpsi": ["msisdn-12345"]}},
        {"op": "add", "path": "/chargingSpecification/gpsi/-", "value": "msisdn-67890"},
        {"op": "replace", "path": "/externalReference", "value": "silver"},
    )
    response = await patch(*right)
    assert (response.status_code, response.json()["externalReference"]) == (200, "silver")
    assert response.json()["chargingSpecification"] == {"gpsi": ["msisdn-12345", "msisdn-67890"]}
    # The resource is not what the patch thinks it is: a conflict (RFC 5789 §2.2).
    for conflict in (
        right[0],
        {"op": "remove", "path": "/nothing"},
        {"op": "replace", "path": "/externalReference/deep", "value": 1},
        {"op": "add", "path": "/chargingSpecification/gpsi/9", "value": "x"},
        {"op": "move", "from": "/a", "path": "/b"},
    ):
        problem_of(await patch({"op": "remove", "path": "/chargingSpecification"}, conflict), 409)
    # No patch, or one that leaves no policy template.
    for wrong in (
        7,
        {"op": "frob", "path": "/a"},
        {"op": "add", "path": "/a"},
        {"op": "add", "path": "a", "value": 1},
        {"op": "add", "value": 1},
        {"op": "move", "path": "/a"},
        {"op": "replace", "path": "", "value": [1]},
        {"op": "replace", "path": "/externalReference", "value": 3},
        {"op": "remove", "path": "/externalReference"},
    ):
        assert problem_of(await patch(wrong), 400)["invalidParams"], wrong
    assert toys.shelf.written == 1


async def test_a_patch_that_doubles_what_is_there_again_and_again_is_stopped(toys: Running) -> None:
    grow = [
        {"op": "add", "path": "/a", "value": {}},
        *({"op": "copy", "from": "/a", "path": f"/a/{n}"} for n in range(40)),
    ]
    response = await toys.client.patch(
        "/things/1", content=json.dumps(grow), headers={"content-type": "application/json-patch+json"}
    )
    problem_of(response, 413)


async def test_bodies_that_are_no_json_are_taken_where_the_operation_takes_them(toys: Running) -> None:
    response = await toys.client.post(
        "/things/1/reports?q=a%20b", content=b"<x/>", headers={"content-type": "application/3gpdash-qoe-report+xml"}
    )
    assert response.json() == {"bytes": 4, "type": "application/3gpdash-qoe-report+xml", "q": "a b"}
    problem_of(
        await toys.client.post("/things/1/reports?q=1&q=2", content=b"", headers={"content-type": "application/x"}), 400
    )


async def test_what_cannot_be_served_now_says_when_to_come_again(toys: Running) -> None:
    for error, status in ((Unavailable("the PCF is away"), 503), (ResourceExhausted("too many"), 429)):
        toys.shelf.error = error
        response = await toys.client.get("/things/1")
        problem_of(response, status)
        assert response.headers["retry-after"] == "1"
        assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("toys", ["http/1.1"], indirect=True)
async def test_a_fault_of_ours_is_a_problem_that_tells_nothing_but_its_number(toys: Running) -> None:
    toys.shelf.error = ZeroDivisionError("a secret")
    response = await toys.client.get("/things/1", headers={"x-correlation-id": "corr-7"})
    assert "corr-7" in str(problem_of(response, 500)["detail"])
    assert "secret" not in response.text
    assert response.headers["x-correlation-id"] == "corr-7"


async def test_a_change_that_has_begun_is_finished_though_the_client_leaves(toys: Running) -> None:
    request = asyncio.create_task(toys.client.post("/slow"))
    await toys.shelf.entered.wait()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    toys.shelf.hold.set()
    await toys.shelf.finished.wait()
    assert toys.shelf.written == 1


@pytest.mark.clause("TS 29.500 §5.2.3.3")
async def test_the_client_says_how_long_it_waits(toys: Running) -> None:
    await toys.client.get("/things/1", headers={"3gpp-sbi-max-rsp-time": "4000"})
    assert toys.shelf.remaining_s is not None
    assert 0 < toys.shelf.remaining_s <= 4
    problem_of(await toys.client.get("/things/1", headers={"3gpp-sbi-max-rsp-time": "soon"}), 400)
    told = problem_of(await toys.client.post("/slow", headers={"3gpp-sbi-max-rsp-time": "1"}), 504)
    assert told["cause"] == "TIMED_OUT_REQUEST"
    # It was cut off, not undone.
    toys.shelf.hold.set()


async def test_calls_are_counted_by_operation_and_outcome(toys: Running) -> None:
    await toys.client.get("/things/1")
    await toys.client.get("/things/2")
    metrics = (await toys.client.get(f"{toys.url}/metrics")).text
    for code in (200, 404):
        labels = f'code="{code}",function="af",method="GET /toys/v1/things/{{thingId}}"'
        assert f"castcore_rpc_server_calls_total{{{labels}}} 1.0" in metrics


def test_an_operation_is_told_once() -> None:
    door = Shelf().door()
    with pytest.raises(ValueError, match="/toys/v1/slow has POST already"):
        door.operation("POST", "/slow", Shelf().slow, operation_id="x", summary="x", answers={204: None})
