"""One function in this process, with what it stands on: taken up and laid down in the right order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from starlette.routing import BaseRoute

from nf.common.channels import Channels
from nf.common.function import Function
from nf.common.in_process import InProcess
from nf.common.server import GrpcServer
from nf.common.store import Store
from nf.common.telemetry import Telemetry, logger
from nf.common.tls import Credentials


class Host:
    """Binds, composes, serves and stops one function.

    Addresses are taken by ``bind`` before anything runs, so that functions can be told each other's. Those with
    the same ``in_process`` call each other without a socket where neither has TLS.
    """

    def __init__(
        self,
        name: str,
        telemetry: Telemetry,
        *,
        grace_s: float = 5.0,
        tls: Credentials | None = None,
        allowed_peers: Collection[str] = (),
        in_process: InProcess | None = None,
    ) -> None:
        self.name = name
        self._telemetry = telemetry
        self._grace_s = grace_s
        self._tls = tls
        self._in_process = in_process
        self._server = GrpcServer(name, telemetry, tls=tls, allowed_peers=allowed_peers, in_process=in_process)
        self._undo: list[Callable[[], Awaitable[None]]] = []
        self._function: Function | None = None

    @property
    def address(self) -> str:
        """Where it is bound; empty before ``bind``."""
        return self._server.address

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """The HTTP routes of the function, which has been started."""
        assert self._function is not None
        return self._function.routes

    def bind(self, address: str) -> str:
        """Takes the port and returns the address with it. Raises FailedPrecondition when it cannot be taken."""
        return self._server.bind(address)

    async def start(
        self,
        compose: Callable[[Channels], Function],
        targets: Mapping[str, str],
        store: Store | None = None,
        *,
        plain: Collection[str] = (),
    ) -> None:
        """Composes the function, serves it and begins its background work; returns when it is serving.

        ``targets`` are its peers' addresses by name, ``plain`` those among them that have no TLS. ``store`` is closed
        with it. What had begun is undone when anything fails.
        """
        if store is not None:
            self._undo.append(store.close)
        channels = Channels(
            targets,
            function=self.name,
            telemetry=self._telemetry,
            tls=self._tls,
            plain=plain,
            in_process=self._in_process,
        )
        self._undo.append(channels.close)
        try:
            self._function = function = compose(channels)
            self._server.add(*function.servicers)
            self._undo.append(function.stop)
            await function.prepare()
            self._undo.append(self._stop_server)
            await self._server.start()
            await function.start()
            await self._server.set_serving()
        except BaseException:
            await self.stop()
            raise
        logger(self.name).info("serving", address=self.address)

    async def failed(self) -> Exception:
        """Returns when the function, which has been started, can go on no more: why."""
        assert self._function is not None
        return await self._function.failed()

    async def stop(self) -> None:
        """Ends calls and streams, then the background work, then channels and store; goes on past what fails."""
        while self._undo:
            undo = self._undo.pop()
            try:
                await undo()
            except Exception:
                logger(self.name).exception("stop.failed")
        if not self._server.stopping.is_set():
            # Bound, but it never came to serve.
            await self._stop_server()

    async def _stop_server(self) -> None:
        await self._server.stop(self._grace_s)
