"""A network API platform that serves until it is killed: ``booking_server.py DATABASE [shared]`` prints its address."""

from __future__ import annotations

import asyncio
import sys

from nf.common.channels import Channels
from nf.common.clock import SystemClock
from nf.common.function import Context
from nf.common.server import GrpcServer
from nf.common.store import Store
from nf.common.telemetry import Telemetry
from nf.netapi.compose import TABLES, build
from nf.netapi.config import NetapiSection

OPERATOR_TOKEN = "the-operator-of-this-lab"
# Nobody listens there.
_UNREACHABLE = "127.0.0.1:1"


async def serve(url: str, *, shared: bool) -> None:
    clock = SystemClock()
    store = Store.open(url, clock=clock, tables=TABLES, shared=shared)
    channels = Channels({"pcf": _UNREACHABLE, "smf": _UNREACHABLE}, function="netapi")
    section = NetapiSection(operator_token=OPERATOR_TOKEN)
    function = build(Context("netapi", section, clock, store, channels, Telemetry()))
    server = GrpcServer("netapi", Telemetry())
    address = server.bind("127.0.0.1:0")
    server.add(*function.servicers)
    await function.prepare()
    await server.start()
    await function.start()
    print(address, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], shared=sys.argv[2:] == ["shared"]))
