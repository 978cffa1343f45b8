"""A process that serves operator policies from the state directory given; prints its address, lives until killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from policy_service import Policies, open_store, registrations

from nf.common.run import run
from nf.common.server import GrpcServer
from nf.common.telemetry import Telemetry, configure_logging


async def main(stop: asyncio.Event) -> int:
    configure_logging("warning")
    store = open_store(Path(sys.argv[1]))
    server = GrpcServer("pcf", Telemetry())
    server.add(*registrations(Policies(store), store))
    address = await server.start("127.0.0.1:0")
    await server.set_serving()
    print(address, flush=True)
    await stop.wait()
    await server.stop()
    await store.close()
    print("stopped", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
