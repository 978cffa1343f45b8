"""The HTTP door: health, metrics, problems, correlation IDs, both protocols on one port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.events
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nf.common import call
from nf.common.errors import FailedPrecondition, FieldViolation, InvalidArgument
from nf.common.http import HttpServer, application
from nf.common.telemetry import Telemetry


async def refuse(_: Request) -> Response:
    raise InvalidArgument("no", violations=[FieldViolation("maxBtrDl", "found 'fast', expected a bit rate")])


async def fail(_: Request) -> Response:
    raise ZeroDivisionError("a secret")


async def echo(_: Request) -> Response:
    return Response(call.correlation_id())


@dataclass
class Door:
    address: str
    serving: bool = True

    async def get(self, path: str, headers: str = "") -> tuple[int, dict[str, str], str]:
        host, _, port = self.address.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n".encode())
        raw = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        head, _, body = raw.partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        received = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return int(first.split()[1]), received, body


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    made = Door("")
    routes = [Route("/refuse", refuse), Route("/fail", fail), Route("/echo", echo)]
    telemetry = Telemetry()
    telemetry.server_calls.labels("af", "/x/Y", "OK").inc(3)
    server = HttpServer(application(telemetry, lambda: made.serving, routes))
    made.address = await server.start("127.0.0.1:0")
    yield made
    await server.stop()


async def test_health_follows_the_functions(door: Door) -> None:
    assert (await door.get("/healthz"))[0] == 200
    door.serving = False
    assert (await door.get("/healthz"))[0] == 503


async def test_metrics_are_in_prometheus_text_form(door: Door) -> None:
    status, headers, body = await door.get("/metrics")
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
    assert 'castcore_rpc_server_calls_total{code="OK",function="af",method="/x/Y"} 3.0' in body


async def test_a_refusal_is_a_problem_with_its_invalid_params(door: Door) -> None:
    status, headers, body = await door.get("/refuse")
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert json.loads(body) == {
        "title": "Invalid argument",
        "status": 400,
        "detail": "no",
        "cause": "INVALID_MSG_FORMAT",
        "invalidParams": [{"param": "maxBtrDl", "reason": "found 'fast', expected a bit rate"}],
    }


async def test_a_fault_of_ours_tells_its_correlation_id_only(door: Door) -> None:
    status, headers, body = await door.get("/fail", "x-correlation-id: corr-1\r\n")
    assert (status, headers["x-correlation-id"]) == (500, "corr-1")
    assert "secret" not in body
    assert "corr-1" in json.loads(body)["detail"]


async def test_the_correlation_id_comes_back(door: Door) -> None:
    _, headers, body = await door.get("/echo", "x-correlation-id: corr-2\r\n")
    assert (headers["x-correlation-id"], body) == ("corr-2", "corr-2")
    _, headers, body = await door.get("/echo")
    assert headers["x-correlation-id"] == body
    assert len(body) == 32


async def test_the_same_port_speaks_http_2_in_clear(door: Door) -> None:
    host, _, port = door.address.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    client.initiate_connection()
    path = [(":method", "GET"), (":path", "/healthz"), (":scheme", "http"), (":authority", "x")]
    client.send_headers(1, path, end_stream=True)
    writer.write(client.data_to_send())
    status, ended = "", False
    while not ended:
        for event in client.receive_data(await reader.read(65536)):
            if isinstance(event, h2.events.ResponseReceived):
                status = dict(event.headers)[":status"]
            ended = ended or isinstance(event, h2.events.StreamEnded)
    writer.close()
    await writer.wait_closed()
    assert status == "200"


async def test_a_port_in_use_and_an_address_that_is_none_are_refused(door: Door) -> None:
    other = HttpServer(application(Telemetry(), lambda: True))
    with pytest.raises(FailedPrecondition, match="cannot listen on"):
        await other.start(door.address.removeprefix("http://"))
    with pytest.raises(InvalidArgument, match="expected 'HOST:PORT', got 'here'"):
        await other.start("here")
