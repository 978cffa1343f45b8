"""The SMF's end of N4: association, heartbeat, and the way back in step (TS 29.244 §6.2.2, §6.2.6; TS 23.527 §4).

The UPF keeps its rules in memory only and forwards nothing from a new association until the SMF has said that all
sessions stand. Whatever makes the SMF doubt what the UPF enforces (another start of the UPF, a call without an answer,
a session that the UPF does not know) is settled by comparing and correcting, before anything else is asked of the UPF.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from nf.common.background import Background
from nf.common.call import remaining_s
from nf.common.clock import Clock
from nf.common.errors import (
    Cancelled,
    CastcoreError,
    DeadlineExceeded,
    Internal,
    NotFound,
    Unavailable,
    Unimplemented,
)
from nf.common.telemetry import logger
from nf.smf.config import SmfSection
from nf.smf.errors import UserPlaneUnavailable
from nf.smf.usage_log import SOURCE
from nf.smf.user_plane_status import NOT_RESPONDING, RESTARTED, UserPlaneStatusLog
from upf.n4.v1.n4_pb2 import (
    CompleteResynchronisationRequest,
    CompleteResynchronisationResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    SetUpAssociationRequest,
    SetUpAssociationResponse,
    UserPlaneIpResourceInformation,
)

if TYPE_CHECKING:
    from upf.n4.v1.n4_pb2_grpc import N4ServiceAsyncStub

# Calls to the UPF at a time.
AT_ONCE: Final = 8
# Heartbeats without an answer after which the UPF is taken to be gone (N1 of TS 29.244 §6.4).
MISSED_HEARTBEATS: Final = 3
NO_ASSOCIATION: Final = "NO_ESTABLISHED_PFCP_ASSOCIATION"

# How soon a UPF that does not offer a service is asked for it again.
_NOT_OFFERED_S: Final = 10.0
_NO_ANSWER: Final = (Unavailable, DeadlineExceeded, Cancelled, Internal)

_log = logger(SOURCE)


class Align(Protocol):
    """Makes the UPF of that start (nanoseconds since 1970 UTC) enforce what the SMF's store says."""

    def __call__(self, recovery_ns: int, *, anew: bool) -> Awaitable[None]:
        """``anew``: in a new association."""
        ...


class OutOfStep(UserPlaneUnavailable):
    """The UPF has not what the SMF thinks it has; worth another try when they are in step again."""


class Associated(Protocol):
    """The calls of an association, which N4 and N4mb have alike."""

    Heartbeat: grpc.aio.UnaryUnaryMultiCallable[HeartbeatRequest, HeartbeatResponse]
    SetUpAssociation: grpc.aio.UnaryUnaryMultiCallable[SetUpAssociationRequest, SetUpAssociationResponse]
    CompleteResynchronisation: grpc.aio.UnaryUnaryMultiCallable[
        CompleteResynchronisationRequest, CompleteResynchronisationResponse
    ]


class StatusLog(Protocol):
    """Who is told whether the user plane enforces what it was told."""

    async def lost(self, cause: str, detail: str) -> None:
        """It does not."""
        ...

    async def restored(self) -> None:
        """It does."""
        ...


Stub = TypeVar("Stub", bound=Associated)


class Supervised(Generic[Stub]):
    """Supervises one UPF between ``start`` and ``stop``. What uses N4 does so within ``in_step``."""

    def __init__(
        self,
        stub: Callable[[], Stub],
        config: SmfSection,
        clock: Clock,
        node_id: str,
        status: StatusLog,
        *,
        name: str,
    ) -> None:
        self._stub = stub
        self._config = config
        self._clock = clock
        self._node_id = node_id
        self._status = status
        self._ready = asyncio.Event()
        self._doubted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._users = 0
        self._offered = True
        # More at once would only wait in the UPF, until their deadlines have passed there.
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._background = Background(name)
        self.recovery_ns = 0
        # How often the UPF has been compared with the store: what was read before may have changed since.
        self.alignments = 0
        # The UPF's end of N3; None where it has none.
        self.n3: UserPlaneIpResourceInformation | None = None

    @property
    def n4(self) -> Stub:
        """The UPF's service."""
        return self._stub()

    @property
    def is_in_step(self) -> bool:
        """Whether the UPF forwards by what the SMF's store says."""
        return self._ready.is_set()

    async def start(self, align: Align, recovery_ns: int) -> None:
        """Begins; returns when the UPF is in step, or after ``upf_wait_s``. ``recovery_ns`` is the SMF's own start."""
        self.begin(align, recovery_ns)
        try:
            await self._await_ready()
        except UserPlaneUnavailable as error:
            _log.warning("upf.not_ready", error=str(error))

    def begin(self, align: Align, recovery_ns: int) -> None:
        """Begins, and awaits nothing."""
        self._background.begin(lambda: self._supervise(align, recovery_ns))

    async def stop(self) -> None:
        """Ends the supervision; the UPF goes on by the rules that it has."""
        await self._background.end()

    @asynccontextmanager
    async def in_step(self) -> AsyncIterator[int]:
        """Within, the UPF is in step and stays so; gives its start. Waits for that for ``upf_wait_s``.

        Failures of N4 calls inside become UserPlaneUnavailable (no answer), OutOfStep, or pass as the UPF's refusal.
        Raises UserPlaneUnavailable, and DeadlineExceeded when the request's deadline has passed meanwhile.
        """
        async with self._slots:
            await self._await_ready()
            if remaining_s() == 0:
                # Nothing has been asked of the UPF: no reason for doubt.
                raise DeadlineExceeded("N4: not called, the deadline of the request has passed")
            async with self._use():
                yield self.recovery_ns

    @asynccontextmanager
    async def _use(self) -> AsyncIterator[None]:
        self._users += 1
        self._idle.clear()
        try:
            yield
        except _NO_ANSWER as error:
            self._doubt()
            if isinstance(error, UserPlaneUnavailable):
                raise
            raise UserPlaneUnavailable(f"N4: {error.message}") from error
        except CastcoreError as error:
            if isinstance(error, NotFound) or error.reason == NO_ASSOCIATION:
                self._doubt()
                raise OutOfStep(f"N4: {error.message}") from error
            raise
        except Exception:
            # A fault of our own, after which the UPF may have been told more than the store knows.
            self._doubt()
            raise
        finally:
            self._users -= 1
            if self._users == 0:
                self._idle.set()

    async def _await_ready(self) -> None:
        if not self._offered:
            raise UserPlaneUnavailable("the UPF does not offer this service")
        if self._ready.is_set():
            return
        try:
            async with asyncio.timeout(self._config.upf_wait_s):
                while not self._ready.is_set():
                    await self._ready.wait()
        except TimeoutError:
            raise UserPlaneUnavailable(
                f"the UPF does not answer, or is not in step yet (waited {self._config.upf_wait_s:g} s)"
            ) from None

    def _doubt(self) -> None:
        self._ready.clear()
        self._doubted.set()

    async def _supervise(self, align: Align, own_recovery_ns: int) -> None:
        associated = False
        while True:
            try:
                self._doubted.clear()
                if associated and await self._is_as_known():
                    # Nothing has restarted: corrected without interrupting what is forwarded.
                    await self._align(align, anew=False)
                else:
                    if associated:
                        detail = "the UPF has started anew, and awaits its sessions"
                        await self._status.lost(RESTARTED, detail)
                    associated = False
                    await self._associate(own_recovery_ns)
                    await self._align(align, anew=True)
                    await self.n4.CompleteResynchronisation(CompleteResynchronisationRequest(node_id=self._node_id))
                    associated = True
                await self._status.restored()
                self._ready.set()
                await self._watch_over()
            except Unimplemented:
                # It will hardly begin to; what asks for it is told that it is not there.
                self._ready.clear()
                self._offered = False
                await self._pause(_NOT_OFFERED_S)
            except CastcoreError as error:
                _log.warning("upf.out_of_step", code=error.code, error=str(error))
                self._ready.clear()
                await self._status.lost(NOT_RESPONDING, f"N4: {error.message}")
            except Exception:
                _log.exception("upf.supervision_failed")
            self._ready.clear()
            if not self._doubted.is_set():
                await self._pause()

    async def _associate(self, own_recovery_ns: int) -> None:
        own = Timestamp()
        own.FromNanoseconds(own_recovery_ns)
        answer = await self.n4.SetUpAssociation(SetUpAssociationRequest(node_id=self._node_id, recovery_time_stamp=own))
        self._offered = True
        self.recovery_ns = answer.recovery_time_stamp.ToNanoseconds()
        has_n3 = answer.HasField("user_plane_ip_resource_information")
        self.n3 = answer.user_plane_ip_resource_information if has_n3 else None
        _log.info("upf.associated", upf=answer.node_id, recovery_ns=self.recovery_ns)

    async def _align(self, align: Align, *, anew: bool) -> None:
        # What had begun before the doubt arose has to end first: it may change what is compared.
        await self._idle.wait()
        self.alignments += 1
        await align(self.recovery_ns, anew=anew)

    async def _is_as_known(self) -> bool:
        beat = await self.n4.Heartbeat(HeartbeatRequest(), timeout=self._config.heartbeat_timeout_s)
        return beat.forwarding and beat.recovery_time_stamp.ToNanoseconds() == self.recovery_ns

    async def _watch_over(self) -> None:
        """Returns when there is reason for doubt; raises when the UPF has left several heartbeats unanswered."""
        missed = 0
        while True:
            await self._pause()
            if self._doubted.is_set():
                return
            try:
                if not await self._is_as_known():
                    return
                missed = 0
            except CastcoreError as error:
                missed += 1
                _log.warning("upf.heartbeat_missed", missed=missed, code=error.code, error=str(error))
                if missed == MISSED_HEARTBEATS:
                    raise

    async def _pause(self, seconds: float | None = None) -> None:
        """Until the next heartbeat is due (or so long), or a doubt arises."""
        until = self._clock.now() + timedelta(seconds=seconds or self._config.heartbeat_interval_s)
        waits = [
            asyncio.ensure_future(self._clock.sleep_until(until)),
            asyncio.ensure_future(self._doubted.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


class UserPlane(Supervised["N4ServiceAsyncStub"]):
    """The user plane of PDU sessions."""

    def __init__(
        self,
        stub: Callable[[], N4ServiceAsyncStub],
        config: SmfSection,
        clock: Clock,
        node_id: str,
        status: UserPlaneStatusLog,
    ) -> None:
        super().__init__(stub, config, clock, node_id, status, name="smf supervision")
