"""An AF in a process of its own, for tests that kill it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nf.common.channels import Channels

_SERVER = Path(__file__).with_name("af_server.py")


@asynccontextmanager
async def killable(state: Path | str, pcf_address: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Channels]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(_SERVER), str(state), pcf_address, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    channels = Channels({"af": (await process.stdout.readline()).decode().strip()})
    try:
        yield process, channels
    finally:
        await channels.close()
        if process.returncode is None:
            process.kill()
        await process.wait()
