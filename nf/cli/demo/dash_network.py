"""The network of the DASH demo: two hosts with the UPF between them, in namespaces that end with this process."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nf.client.dash.http_connection import Opener, prepare

if TYPE_CHECKING:
    from upf.config import TunSection

UE: Final = "10.45.0.2"
SERVER: Final = "198.51.100.7"
STATE: Final = Path("/run/castcore/demo")
_ACCESS: Final = "ue"
_CORE: Final = "dn"
_BACKLOG: Final = 64


def enter() -> None:
    """Returns in a process that has a network of its own, with the two hosts. Raises UpfError where it may not."""
    from nf.cli.lab.isolation import isolate
    from upf.errors import UpfError

    try:
        isolate()
    except UpfError as error:
        raise UpfError(str(error).replace("castcore lab", "castcore demo zero-rating --dash")) from None
    except SystemExit as ended:
        # The process inside has ended, and has said why.
        sys.stdout.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 1)
    from nf.cli.lab.hosts import loopback_up, make_host

    loopback_up()
    for name in (_ACCESS, _CORE):
        make_host(name)


def tun_section() -> TunSection:
    """The pair of tun devices by which the hosts reach each other, through the UPF alone."""
    from upf.config import TunSection

    return TunSection(
        access=f"ue0@{_ACCESS}",
        core=f"n6@{_CORE}",
        access_addresses=(f"{UE}/24",),
        core_addresses=(f"{SERVER}/24",),
        access_routes=("default",),
        core_routes=("10.45.0.0/24",),
    )


def opener(receive_buffer_bytes: int | None) -> Opener:
    """What makes connections of the UE."""
    from upf.live.namespaces import in_namespace

    async def connected(host: str, port: int) -> socket.socket:
        opened = in_namespace(_ACCESS, socket.socket, socket.AF_INET, socket.SOCK_STREAM)
        try:
            prepare(opened, receive_buffer_bytes)
            await asyncio.get_running_loop().sock_connect(opened, (host, port))
        except BaseException:
            opened.close()
            raise
        return opened

    return connected


@asynccontextmanager
async def content_server(directory: Path) -> AsyncIterator[str]:
    """An HTTP server on the host behind N6, for what is in a directory: its URL."""
    from nf.cli.demo.content_server import serving
    from upf.live.namespaces import in_namespace

    async with serving(in_namespace(_CORE, socket.create_server, (SERVER, 80), backlog=_BACKLOG), directory):
        yield f"http://{SERVER}"
