"""A stack: some or all of the functions in this process, each on its own port, with the HTTP door of the process."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Table

from nf.cli.configuration import PEERS, Configuration
from nf.common.channels import Channels
from nf.common.clock import Clock, SystemClock
from nf.common.config import FunctionSection
from nf.common.dialect import schema_url, url_for
from nf.common.function import Context, Function
from nf.common.hosting import Host
from nf.common.http import HttpServer, application
from nf.common.in_process import InProcess
from nf.common.retention import EventLimits, EventRetention
from nf.common.store import Store
from nf.common.telemetry import Telemetry, logger
from nf.common.tls import Credentials, TlsError, is_loopback

FUNCTIONS: Final = tuple(PEERS)

_CLIENT_CERTIFICATES: Final = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}

SectionType = TypeVar("SectionType", bound=FunctionSection)

# The packages of the functions. A process loads those that it runs: the others are half a second, and much memory.
_PACKAGES: Final[Mapping[str, str]] = {name: "upf" if name == "upf" else f"nf.{name}" for name in FUNCTIONS}
# The UPF keeps no store.
_STORED: Final = frozenset(FUNCTIONS) - {"upf"}

# Those of which several processes may stand on one database: they keep nothing that matters in memory.
_SHARED: Final = frozenset({"af", "netapi"})


def load(functions: Sequence[str]) -> None:
    """Loads what these functions are made of; a stack of them does by itself, unless it has been done before."""
    for name in functions:
        import_module(f"{_PACKAGES[name]}.compose")


class Stack:
    """The functions named, from ``start`` to ``stop``; all of them by default."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        functions: Sequence[str] = FUNCTIONS,
        clock: Clock | None = None,
    ) -> None:
        """Raises TlsError where the configuration names certificates that cannot be used."""
        load(functions)
        self.http = ""
        self._configuration = configuration
        self._clock = clock if clock is not None else SystemClock()
        self._telemetry = Telemetry()
        in_process = InProcess()
        self._tls = {name: self._credentials(name) for name in (*functions, "http")}
        self._hosts = {
            name: Host(
                name,
                self._telemetry,
                grace_s=configuration.section(name).grace_s,
                tls=self._tls[name],
                allowed_peers=configuration.section(name).allowed_peers,
                in_process=in_process,
            )
            for name in functions
        }
        self._retentions: list[EventRetention] = []
        self._serving = False
        self._app = application(self._telemetry, lambda: self._serving)
        self._http = HttpServer(
            self._app,
            tls=self._tls["http"],
            client_certificates=_CLIENT_CERTIFICATES[configuration.http.client_certificates],
        )

    @property
    def grpc(self) -> dict[str, str]:
        """The addresses of the functions of this process."""
        return {name: host.address for name, host in self._hosts.items()}

    async def start(self) -> None:
        """Returns when every function serves; undoes what had begun when one cannot."""
        try:
            for name, host in self._hosts.items():
                self._warn_of_clear_text(name, host.bind(self._configuration.section(name).grpc_address))
            self.http = await self._http.start(self._configuration.http.address)
            self._warn_of_clear_text("http", self._configuration.http.address)
            # Each is let come to its own end: a server cannot be cancelled while it starts.
            starts = [self._start(name, host) for name, host in self._hosts.items()]
            failures = [each for each in await asyncio.gather(*starts, return_exceptions=True) if each is not None]
            if failures:
                raise failures[0]
            for host in self._hosts.values():
                self._app.router.routes.extend(host.routes)
            self._serving = True
        except BaseException:
            await self.stop()
            raise

    async def failed(self) -> Exception:
        """Returns when one of the functions, which have been started, can go on no more: why."""
        waits = [asyncio.ensure_future(host.failed()) for host in self._hosts.values()]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for each in waits:
                each.cancel()

    async def stop(self) -> None:
        """Those that call go before those that are called."""
        self._serving = False
        await self._http.stop()
        for retention in self._retentions:
            await retention.stop()
        for host in self._hosts.values():
            await host.stop()

    async def _start(self, name: str, host: Host) -> None:
        targets = {peer: self.grpc.get(peer) or self._configuration.peer_address(peer) for peer in PEERS[name]}
        plain = [peer for peer in PEERS[name] if self._configuration.tls_of(peer) is None]
        if self._tls[name] is None and len(plain) < len(PEERS[name]):
            peer = next(each for each in PEERS[name] if each not in plain)
            raise TlsError(f"{name}: {peer} asks for a certificate: set [{name}.tls], or [tls] for all")
        store = self._open_store(name) if name in _STORED else None
        await host.start(partial(self._compose, name, store), targets, store, plain=plain)
        if store is not None:
            state = self._configuration.state
            limits = EventLimits(kept_s=state.events_kept_s, kept=state.events_kept)
            retention = EventRetention(store, limits, function=name)
            self._retentions.append(retention)
            await retention.start()

    def _credentials(self, name: str) -> Credentials | None:
        section = self._configuration.tls_of(name)
        return None if section is None else Credentials.load(section, name, now=self._clock.now())

    def _warn_of_clear_text(self, name: str, address: str) -> None:
        if self._tls[name] is None and not is_loopback(address):
            logger(name).warning("clear_text", address=address, advice="set [tls]; castcore certs makes the files")

    def _open_store(self, name: str) -> Store:
        state = self._configuration.state
        if state.url:
            url = schema_url(state.url, name)
        else:
            directory = Path(state.directory)
            directory.mkdir(parents=True, exist_ok=True)
            url = url_for(directory, name)
        # Typed tables, beside those that every function has.
        tables: Sequence[Table] = import_module(f"{_PACKAGES[name]}.compose").TABLES
        return Store.open(
            url,
            clock=self._clock,
            tables=tables,
            durability=state.durability,
            shared=name in _SHARED,
        )

    def _compose(self, name: str, store: Store | None, channels: Channels) -> Function:
        configuration = self._configuration
        if store is None:
            from upf.compose import build as build_upf

            return build_upf(configuration.upf, self._clock, self._telemetry.registry)
        return self._builders()[name](store, channels)

    def _builders(self) -> Mapping[str, Callable[[Store, Channels], Function]]:
        """What makes a function of its store and its channels; what it is made of has been loaded if it is run here."""
        configuration = self._configuration

        def af(store: Store, channels: Channels) -> Function:
            from nf.af.compose import build

            return build(self._context("af", configuration.af, store, channels))

        def pcf(store: Store, channels: Channels) -> Function:
            from nf.pcf.compose import build

            return build(self._context("pcf", configuration.pcf, store, channels))

        def smf(store: Store, channels: Channels) -> Function:
            from nf.smf.compose import build

            return build(self._context("smf", configuration.smf, store, channels))

        def mbsf(store: Store, channels: Channels) -> Function:
            from nf.mbsf.compose import build

            return build(self._context("mbsf", configuration.mbsf, store, channels))

        def mbstf(store: Store, channels: Channels) -> Function:
            from nf.mbstf.compose import build

            return build(self._context("mbstf", configuration.mbstf, store, channels))

        def netapi(store: Store, channels: Channels) -> Function:
            from nf.netapi.compose import build

            return build(self._context("netapi", configuration.netapi, store, channels))

        return {"af": af, "netapi": netapi, "pcf": pcf, "smf": smf, "mbsf": mbsf, "mbstf": mbstf}

    def _context(self, name: str, section: SectionType, store: Store, channels: Channels) -> Context[SectionType]:
        return Context(
            name=name,
            config=section.model_copy(update={"grpc_address": self.grpc[name]}),
            clock=self._clock,
            store=store,
            channels=channels,
            telemetry=self._telemetry,
            http_url=self.http,
            tls=self._tls[name],
        )
