"""The gRPC server of a function: health, reflection of all its services, what surrounds each call, graceful stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeVar, cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from nf.common.calls import Calls
from nf.common.channels import MAX_MESSAGE_BYTES
from nf.common.errors import FailedPrecondition
from nf.common.in_process import InProcess, InProcessServer
from nf.common.interceptors import Services
from nf.common.telemetry import Telemetry
from nf.common.tls import Credentials

Servicer = TypeVar("Servicer")

# Puts one service on a server; ``servicer`` makes it from the generated function and the implementation.
Registration = Callable[[grpc.aio.Server], None]

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Two servers on one port must fail, not share it.
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


def servicer(add: Callable[[Servicer, grpc.aio.Server], None], implementation: Servicer) -> Registration:
    """The registration of one service: ``servicer(add_XServicer_to_server, XService(…))``."""
    return lambda server: add(implementation, server)


class _Registrar:
    """Stands for the server while services register, and notes their names."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.names: list[str] = []

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self.names += [each.service_name() for each in handlers if isinstance(each, grpc.ServiceRpcHandler)]
        self._services.add(handlers)

    def add_registered_method_handlers(self, _: str, __: object) -> None:
        # What surrounds every call is put around the generic handlers; a second registry would only bypass it.
        return


class GrpcServer:
    """A function's server. ``bind`` (or ``start`` with an address), ``add``, ``start``, ``set_serving``, ``stop``.

    With ``tls`` it answers peers that show a certificate of the same authority, and no other; with ``allowed_peers``
    only those among them whose certificate has one of these names (CN). Without ``tls`` channels that are given the
    same ``in_process`` reach it without a socket.
    """

    def __init__(
        self,
        function: str,
        telemetry: Telemetry,
        *,
        tls: Credentials | None = None,
        allowed_peers: Collection[str] = (),
        in_process: InProcess | None = None,
    ) -> None:
        self.function = function
        self._tls = tls
        self._in_process = in_process if tls is None else None
        self.address = ""
        self.stopping = asyncio.Event()
        self._started = False
        self._calls = Calls()
        self._server = grpc.aio.server(options=_OPTIONS)
        served = Services(function, telemetry, self._calls, self.stopping, allowed_peers)
        self._server.add_generic_rpc_handlers((served,))
        self._inner = InProcessServer(served)
        self._registrar = _Registrar(served)
        # What every server has besides is none of the function's services.
        self._besides = cast(grpc.aio.Server, _Registrar(served))
        self._health = health.aio.HealthServicer()

    @property
    def services(self) -> tuple[str, ...]:
        """The full names of the services added."""
        return tuple(self._registrar.names)

    def add(self, *registrations: Registration) -> None:
        """Adds services; before ``start``."""
        for register in registrations:
            register(cast(grpc.aio.Server, self._registrar))

    def bind(self, address: str) -> str:
        """Takes the port ("127.0.0.1:0": a free one) and returns the address with it; nothing is answered yet.

        Raises FailedPrecondition when it cannot be taken.
        """
        try:
            if self._tls is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, self._tls.server)
        except RuntimeError as error:
            raise FailedPrecondition(f"{self.function}: cannot listen on {address}: in use or not ours") from error
        self.address = f"{address.rpartition(':')[0]}:{port}"
        if self._in_process is not None:
            self._in_process.announce(self.address, self._inner)
        return self.address

    async def start(self, address: str = "") -> str:
        """Begins to answer, health NOT_SERVING until ``set_serving``; returns the bound address."""
        if address:
            self.bind(address)
        names = (*self.services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._besides)
        reflected = reflection.aio.ReflectionServicer(names)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, self._besides)
        await self._report(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._started = True
        await self._server.start()
        self._inner.start()
        return self.address

    async def set_serving(self) -> None:
        """Health says SERVING from now on, for the server and for each service."""
        await self._report(health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float = 5.0) -> None:
        """Refuses new calls, ends streams, lets calls finish for ``grace_s``; returns when all has ended."""
        self.stopping.set()
        if not self._started:
            # gRPC gives a port back only to a server that has run.
            self._started = True
            await self._server.start()
            grace_s = 0.0
        await self._health.enter_graceful_shutdown()
        await asyncio.gather(self._server.stop(grace_s), self._inner.stop(grace_s))
        await self._calls.finish(grace_s)

    async def _report(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", *self.services):
            await self._health.set(name, status)
