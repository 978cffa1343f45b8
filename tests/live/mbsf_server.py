"""An MBSF that serves until it is killed: ``mbsf_server.py STATE SMF PCF MBSTF`` prints its address."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from nf.common.channels import Channels
from nf.common.clock import SystemClock
from nf.common.function import Context
from nf.common.server import GrpcServer
from nf.common.store import Store, url_for
from nf.common.telemetry import Telemetry
from nf.mbsf.compose import TABLES, build
from nf.mbsf.config import MbsfSection


async def serve(state: Path, smf: str, pcf: str, mbstf: str) -> None:
    clock = SystemClock()
    store = Store.open(url_for(state, "mbsf"), clock=clock, tables=TABLES)
    channels = Channels({"smf": smf, "pcf": pcf, "mbstf": mbstf}, function="mbsf")
    section = MbsfSection(establishment_lead_s=3600.0, longest_retry_pause_s=0.5)
    function = build(Context("mbsf", section, clock, store, channels, Telemetry()))
    server = GrpcServer("mbsf", Telemetry())
    address = server.bind("127.0.0.1:0")
    server.add(*function.servicers)
    await function.prepare()
    await server.start()
    await function.start()
    print(address, flush=True)
    await asyncio.Event().wait()


asyncio.run(serve(Path(sys.argv[1]), *sys.argv[2:]))
