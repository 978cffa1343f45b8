"""Network API platforms that serve until they are killed: ``netapi_server.py STATE PCF SMF``.

For every line that it reads a process begins, when the one before has died, and prints its number and address. They are
forks of one that has loaded what they need.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from nf.common.channels import Channels
from nf.common.clock import SystemClock
from nf.common.function import Context
from nf.common.server import GrpcServer
from nf.common.store import Store, url_for
from nf.common.telemetry import Telemetry, configure_logging
from nf.netapi.compose import TABLES, build
from nf.netapi.config import NetapiSection


async def serve(state: Path, pcf: str, smf: str) -> None:
    configure_logging("error")
    clock = SystemClock()
    store = Store.open(url_for(state, "netapi"), clock=clock, tables=TABLES)
    channels = Channels({"smf": smf, "pcf": pcf}, function="netapi")
    function = build(Context("netapi", NetapiSection(access_retry_s=0.2), clock, store, channels, Telemetry()))
    server = GrpcServer("netapi", Telemetry())
    address = server.bind("127.0.0.1:0")
    server.add(*function.servicers)
    await function.prepare()
    await server.start()
    await function.start()
    print(os.getpid(), address, flush=True)
    await asyncio.Event().wait()


for _ in sys.stdin:
    if (child := os.fork()) == 0:
        asyncio.run(serve(Path(sys.argv[1]), *sys.argv[2:]))
    os.waitpid(child, 0)
