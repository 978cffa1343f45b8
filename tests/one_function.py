"""One network function on real sockets, alone: its doors over HTTP, its services over gRPC, its store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

import httpx
from sqlalchemy import Table

from nf.common.channels import Channels
from nf.common.clock import Clock, SystemClock
from nf.common.config import Section
from nf.common.function import Context, Function
from nf.common.http import HttpServer, application
from nf.common.server import GrpcServer
from nf.common.store import Store, url_for
from nf.common.telemetry import Telemetry

Config = TypeVar("Config", bound=Section)


class OneFunction:
    """``build`` composes it on a store below ``folder``; ``targets`` are its peers' gRPC addresses by name.

    ``begin`` False: what it does in the background does not begin.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        build: Callable[[Context[Config]], Function],
        config: Config,
        *,
        tables: Sequence[Table] = (),
        targets: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        begin: bool = True,
    ) -> None:
        self._folder, self._name, self._build, self._config = folder, name, build, config
        self._begin = begin
        self._tables, self._targets = tables, dict(targets or {})
        self.clock = clock if clock is not None else SystemClock()
        self.url = ""
        self.grpc_address = ""

    async def __aenter__(self) -> Self:
        telemetry = Telemetry()
        self.store = Store.open(url_for(self._folder, self._name), clock=self.clock, tables=self._tables)
        app = application(telemetry, lambda: True)
        self._http = HttpServer(app)
        self.url = await self._http.start("127.0.0.1:0")
        self.channels = Channels(self._targets, function=self._name, telemetry=telemetry)
        self.function = self._build(
            Context(
                name=self._name,
                config=self._config,
                clock=self.clock,
                store=self.store,
                channels=self.channels,
                telemetry=telemetry,
                http_url=self.url,
            )
        )
        app.router.routes.extend(self.function.routes)
        self._grpc = GrpcServer(self._name, telemetry)
        self._grpc.add(*self.function.servicers)
        self.grpc_address = self._grpc.bind("127.0.0.1:0")
        await self.function.prepare()
        await self._grpc.start()
        if self._begin:
            await self.function.start()
        # In clear text: no authorities need be read, which takes longer than most tests.
        self.http = httpx.AsyncClient(base_url=self.url, timeout=20, verify=False)
        return self

    def channels_to_itself(self) -> Channels:
        """Channels to its gRPC services; close them."""
        return Channels({self._name: self.grpc_address}, function="test", telemetry=Telemetry())

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()
        await self.function.stop()
        await self._grpc.stop(0)
        await self._http.stop()
        await self.channels.close()
        await self.store.close()
