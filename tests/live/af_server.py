"""A process that serves an AF from the state given (a directory, or the URL of a database that others may have too).

Its PCF is at the address given; it prints its own address.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from nf.af.compose import TABLES, build
from nf.af.config import AfSection
from nf.common.channels import Channels
from nf.common.clock import SystemClock
from nf.common.function import Context
from nf.common.run import run
from nf.common.server import GrpcServer
from nf.common.store import Store, url_for
from nf.common.telemetry import Telemetry, configure_logging


async def main(stop: asyncio.Event) -> int:
    configure_logging("warning")
    telemetry, clock = Telemetry(), SystemClock()
    server = GrpcServer("af", telemetry)
    address = server.bind("127.0.0.1:0")
    state = sys.argv[1]
    url = state if "://" in state else url_for(Path(state), "af")
    store = Store.open(url, clock=clock, tables=TABLES, shared=True)
    peers = Channels({"pcf": sys.argv[2]}, function="af")
    function = build(Context("af", AfSection(grpc_address=address), clock, store, peers, telemetry))
    server.add(*function.servicers)
    await function.start()
    await server.start()
    print(address, flush=True)
    await stop.wait()
    await server.stop()
    await function.stop()
    await peers.close()
    await store.close()
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
