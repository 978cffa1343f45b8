"""The floor: Starlette handlers that do nothing, on the same server as castcore's HTTP doors. Prints its address.

GET answers with the bytes of a file; POST parses the JSON that comes and answers 204.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nf.common.calls import Calls
from nf.common.http import HttpServer
from nf.common.run import run


def application(body: bytes) -> Starlette:
    headers = {"content-type": "application/json", "etag": '"0123456789abcdef"', "cache-control": "max-age=60"}

    async def fetch(_: Request) -> Response:
        return Response(body, headers=headers)

    async def take(request: Request) -> Response:
        report = json.loads(await request.body())
        assert report["consumptionReportingUnits"]
        return Response(status_code=204)

    bare = Starlette(
        routes=[
            Route("/3gpp-m5/v2/service-access-information/{provisioning_session_id}", fetch),
            Route("/3gpp-m5/v2/consumption-reporting/{provisioning_session_id}", take, methods=["POST"]),
        ]
    )
    # What the server asks of an application.
    bare.state.stopping, bare.state.calls = asyncio.Event(), Calls()
    return bare


APPLICATION = application(Path(sys.argv[1]).read_bytes())


async def serve(stop: asyncio.Event) -> None:
    server = HttpServer(APPLICATION)
    print(json.dumps({"http": await server.start("127.0.0.1:0")}), flush=True)
    await stop.wait()
    await server.stop()


if __name__ == "__main__":
    run(serve)
