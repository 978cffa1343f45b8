"""The provider's web server of the demos: what is in a directory, over HTTP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast


@asynccontextmanager
async def serving(listening: socket.socket, directory: Path) -> AsyncIterator[None]:
    """Answers on a socket that listens, which is taken over, until the end."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config as HypercornConfig
    from hypercorn.typing import ASGIFramework
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles

    listening.setblocking(False)
    config = HypercornConfig()
    config.accesslog = None
    config.errorlog = None
    config.graceful_timeout = 1.0
    config.bind = [f"fd://{listening.detach()}"]
    app = Starlette(routes=[Mount("/", StaticFiles(directory=directory))])
    stop = asyncio.Event()
    server = asyncio.create_task(serve(cast(ASGIFramework, app), config, shutdown_trigger=stop.wait, mode="asgi"))
    try:
        yield
    finally:
        stop.set()
        await server
