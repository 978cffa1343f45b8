"""One call between two functions of a process: what its client is told, and what its servicer has as context.

The behaviour is that of a call on a socket: deadline, cancellation from either end, metadata, status, and streams that
run ahead of their reader as far as a window and no further.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from contextlib import suppress
from inspect import isawaitable
from typing import Final, NamedTuple, NoReturn, TypeAlias, cast

import grpc

Serializer: TypeAlias = Callable[[object], bytes]
Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]

# The window that HTTP/2 begins with.
WINDOW_BYTES: Final = 65_535


class Handler(NamedTuple):
    """What is used of a grpc.RpcMethodHandler."""

    request_streaming: bool
    request_deserializer: Callable[[bytes], object] | None
    response_serializer: Serializer | None
    unary_unary: Callable[[object, object], object] | None
    unary_stream: Callable[[object, object], object] | None


class Status(NamedTuple):
    """How a call has ended; ``locally``: its client has cancelled it."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: Metadata = ()
    locally: bool = False


class Exchange:
    """One call of ``method``. ``task`` is what serves it: set by whoever makes the exchange.

    ``method`` and ``invocation_metadata`` are what a grpc.HandlerCallDetails has.
    """

    task: asyncio.Task[None]

    def __init__(self, method: str, metadata: Metadata | None, timeout_s: float | None, limit_bytes: int) -> None:
        self.method = method
        self.invocation_metadata = () if metadata is None else tuple(metadata)
        self.status: Status | None = None
        self.answer = b""
        self.initial_metadata: Metadata | None = None
        self._limit_bytes = limit_bytes
        self._taken_up = False
        self._messages: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._callbacks: list[Callable[[], object]] = []
        self._loop = asyncio.get_running_loop()
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        if timeout_s is not None:
            self._deadline = time.monotonic() + timeout_s
            self._timer = self._loop.call_later(timeout_s, self._expire)

    def remaining_s(self) -> float | None:
        """Seconds that are left of the deadline, at least 0; None: there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def when_ended(self, callback: Callable[[], object]) -> None:
        """Has ``callback`` called when the call ends; at once when it has."""
        if self.status is None:
            self._callbacks.append(callback)
        else:
            callback()

    async def taken_up(self) -> None:
        """Returns when a server has the call, or it has ended."""
        while not self._taken_up and self.status is None:
            await self._change()

    async def begun(self) -> Metadata:
        """The initial metadata, once they have been sent, or something that goes after them."""
        while self.initial_metadata is None and not self._messages and self.status is None:
            await self._change()
        return self.initial_metadata or ()

    async def ended(self) -> Status:
        """The status, once there is one."""
        while self.status is None:
            await self._change()
        return self.status

    async def serve(self, services: grpc.GenericRpcHandler, request: bytes) -> None:
        """Has the method's handler answer, and gives the call the status that comes of it."""
        self._taken_up = True
        self.tell()
        try:
            # It has what grpc.HandlerCallDetails have.
            handler = cast(Handler | None, services.service(cast(grpc.HandlerCallDetails, self)))
            if handler is None or handler.request_streaming:
                self.end(Status(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"))
            else:
                self.check_size(request)
                self.end(await self._answered(handler, request))
        except TooLarge as error:
            self.end(Status(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)))
        except Exception as error:
            self.end(Status(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}"))
        except BaseException:
            self.end(Status(grpc.StatusCode.CANCELLED, "The handler was cancelled"))
            raise

    async def _answered(self, handler: Handler, request: bytes) -> Status:
        context = _Context(self, handler.response_serializer)
        asked = request if handler.request_deserializer is None else handler.request_deserializer(request)
        with suppress(grpc.aio.AbortError):
            if handler.unary_unary is not None:
                answer = handler.unary_unary(asked, context)
                self.answer = context.serialized(await answer if isawaitable(answer) else answer)
            elif handler.unary_stream is not None:
                await context.write_all(handler.unary_stream(asked, context))
        return context.status

    async def send(self, message: bytes) -> None:
        """Adds to what is streamed; returns when the reader is not too far behind."""
        if self.status is not None:
            raise asyncio.InvalidStateError("RPC already finished.")
        self._messages.append(message)
        self._waiting_bytes += len(message)
        self.tell()
        while self._waiting_bytes > WINDOW_BYTES:
            await self._change()

    async def receive(self) -> bytes | None:
        """The next of what is streamed; None when nothing comes any more."""
        while not self._messages:
            if self.status is not None:
                return None
            await self._change()
        message = self._messages.popleft()
        self._waiting_bytes -= len(message)
        self.tell()
        return message

    def end(self, status: Status) -> bool:
        """Gives the call its status, unless it has one; whether it had none."""
        if self.status is not None:
            return False
        self.status = status
        if self._timer is not None:
            self._timer.cancel()
        self.tell()
        for callback in self._callbacks:
            callback()
        self._callbacks.clear()
        return True

    def break_off(self, status: Status) -> bool:
        """Ends the call from outside of its handler, which is cancelled; whether it had not ended before."""
        if not self.end(status):
            return False
        self._messages.clear()
        # What nobody holds any more may be taken away later than its loop.
        if not self._loop.is_closed():
            self.task.cancel()
        return True

    def cancel(self) -> bool:
        """Breaks the call off, as its client does; whether it had not ended before."""
        status = Status(grpc.StatusCode.CANCELLED, "Locally cancelled by application!", locally=True)
        return self.break_off(status)

    def check_size(self, message: bytes) -> None:
        """Raises TooLarge for a message that a socket would not carry either."""
        if len(message) > self._limit_bytes:
            raise TooLarge(f"Sent message larger than max ({len(message)} vs. {self._limit_bytes})")

    def tell(self) -> None:
        """Wakes who waits for any change of the call."""
        waiters, self._waiters = self._waiters, []
        for each in waiters:
            if not each.done():
                each.set_result(None)

    def _expire(self) -> None:
        left_s = self.remaining_s()
        if left_s:
            # The loop's clock is coarse, and a handler that is cancelled asks whether its time has passed.
            self._timer = self._loop.call_later(left_s, self._expire)
        else:
            self.break_off(Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    async def _change(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter


class TooLarge(Exception):
    """A message is larger than channels and servers carry."""


class _Context(grpc.aio.ServicerContext[object, object]):
    """What a servicer has of a call."""

    def __init__(self, exchange: Exchange, serialize: Serializer | None) -> None:
        self._exchange = exchange
        self._serialize = serialize
        self._code = grpc.StatusCode.OK
        self._details = ""
        self._trailing: Metadata = ()

    @property
    def status(self) -> Status:
        """What the handler has made of the call."""
        return Status(self._code, self._details, self._trailing)

    def serialized(self, message: object) -> bytes:
        """The message as it goes to the client. Raises TooLarge."""
        found = cast(bytes, message) if self._serialize is None else self._serialize(message)
        self._exchange.check_size(found)
        return found

    async def write_all(self, answers: object) -> None:
        """Streams what a handler gives; one that has been called with the context to write to does so by itself."""
        if isawaitable(answers):
            await answers
            return
        try:
            async for each in cast(AsyncIterable[object], answers):
                await self.write(each)
        finally:
            if isinstance(answers, AsyncGenerator):
                await answers.aclose()

    async def write(self, message: object) -> None:
        await self._exchange.send(self.serialized(message))

    async def read(self) -> object:
        raise grpc.aio.UsageError("the method has one request, which it was called with")

    async def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        self._exchange.initial_metadata = initial_metadata
        self._exchange.tell()

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        self._code, self._details = code, details
        if trailing_metadata:
            self._trailing = trailing_metadata
        raise grpc.aio.AbortError("Locally aborted.")

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        self._trailing = trailing_metadata

    def trailing_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata(*self._trailing)

    def invocation_metadata(self) -> grpc.aio.Metadata:
        # Pairs, as from the library, whatever its types say.
        return cast(grpc.aio.Metadata, self._exchange.invocation_metadata)

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def set_details(self, details: str) -> None:
        self._details = details

    def details(self) -> str:
        return self._details

    def set_compression(self, compression: grpc.Compression) -> None:
        return

    def disable_next_message_compression(self) -> None:
        return

    def peer(self) -> str:
        # What a socket would say of a caller on this machine.
        return "ipv4:127.0.0.1:0"

    def peer_identities(self) -> Iterable[bytes] | None:
        return None

    def peer_identity_key(self) -> str | None:
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return {}

    def time_remaining(self) -> float:
        # None where there is no deadline, as from the library, whatever its types say.
        return cast(float, self._exchange.remaining_s())

    def add_done_callback(self, callback: Callable[[_Context], None]) -> None:
        self._exchange.when_ended(lambda: callback(self))

    def cancelled(self) -> bool:
        status = self._exchange.status
        return status is not None and status.code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self._exchange.status is not None
