"""The doors of HTTP APIs: a ``Door`` is told its operations and serves them; the OpenAPI document is made from it.

All that 3GPP APIs have in common is done here (TS 29.500 §5.2, RFC 9110): methods and ``Allow``, media types, lengths,
conditional requests, patches, problems. A handler gets a ``RestCall`` and returns an ``Answer``.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from inspect import isawaitable
from time import perf_counter
from types import MappingProxyType
from typing import Final, Generic, TypeVar, cast
from urllib.parse import unquote

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from prometheus_client import Counter, Histogram
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from nf.common import call as current_call
from nf.common.calls import Calls
from nf.common.codec import answer_json, json_path
from nf.common.errors import CastcoreError, DeadlineExceeded, FieldViolation, Internal, InvalidArgument
from nf.common.json_text import encode
from nf.common.rest_body import check_accept, check_length, check_media_type, read_body
from nf.common.rest_call import Answer, Media, Operation, Query, RestCall, Several
from nf.common.rest_conditional import http_date, is_not_modified, moment_of
from nf.common.rest_errors import MethodNotAllowed, ResourceUnknown
from nf.common.rest_manners import MANNERS_OF_3GPP, Manners
from nf.common.telemetry import Telemetry, logger, tells

__all__ = ["Answer", "Door", "Media", "Operation", "Query", "RestCall", "Several"]

Caller = TypeVar("Caller")

# A provisioned resource, a report of thousands of units: none comes near to it.
DEFAULT_MAX_BODY_BYTES: Final = 1_048_576
# How long a client may keep what a GET has answered, where the operation does not say.
DEFAULT_MAX_AGE_S: Final = 5
_MAX_RESPONSE_TIME: Final = "3gpp-sbi-max-rsp-time"
_SAFE: Final = ("GET", "HEAD")
# By these a request shapes the answer, beside its URL.
_SHAPING: Final = frozenset(
    (b"host", b"accept", b"authorization", b"if-none-match", b"if-modified-since", _MAX_RESPONSE_TIME.encode())
)
# So many answers are kept, of those operations whose answers may be.
_KEPT: Final = 1024


class _Resource(Generic[Caller]):
    """What one path has: its operations by method."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.operations: dict[str, Operation[Caller]] = {}

    @property
    def allowed(self) -> str:
        methods = set(self.operations) | {"OPTIONS"} | ({"HEAD"} if "GET" in self.operations else set())
        return ", ".join(sorted(methods))


class Door(BaseRoute, Generic[Caller]):
    """The resources below one prefix ("/3gpp-m1/v2"), served and described.

    ``identify`` says by the header fields who calls, before anything is read: it raises Unauthenticated or
    PermissionDenied, and what it returns (or awaits to) is the call's ``caller``. ``authorise`` is asked whether that
    one has the scope of an operation, where it has one. ``manners``: how the door speaks beside its operations.
    """

    def __init__(
        self,
        prefix: str,
        *,
        title: str,
        version: str,
        identify: Callable[[Mapping[str, str]], Caller | Awaitable[Caller]],
        authorise: Callable[[Caller, str], None] | None = None,
        manners: Manners = MANNERS_OF_3GPP,
        description: str = "",
        function: str = "af",
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
        max_age_s: int = DEFAULT_MAX_AGE_S,
        secured: bool = False,
    ) -> None:
        self.prefix = prefix
        self.title = title
        self.version = version
        self.description = description
        self.secured = secured
        self.operations: list[Operation[Caller]] = []
        self._function = function
        self.manners = manners
        self._identify = identify
        self._authorise = authorise
        self._max_body_bytes = max_body_bytes
        self._max_age_s = max_age_s
        self._resources: dict[str, _Resource[Caller]] = {}
        self._kept: OrderedDict[tuple[object, ...], tuple[int, Response]] = OrderedDict()
        self._counters: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        # By number of segments, those with fewer parameters first.
        self._patterns: dict[int, list[tuple[tuple[str, ...], _Resource[Caller]]]] = {}

    def operation(
        self,
        method: str,
        path: str,
        handler: Callable[[RestCall[Caller]], Awaitable[Answer]],
        *,
        operation_id: str,
        summary: str,
        request: type[Message] | Media | None = None,
        request_required: bool = True,
        answers: Mapping[int, type[Message] | Media | Several | None],
        errors: Sequence[int] = (),
        query: Sequence[Query] = (),
        description: str = "",
        conditional: bool = True,
        aliases: Mapping[str, str] = MappingProxyType({}),
        max_age_s: int | None = None,
        generation: Callable[[], int] | None = None,
        detached: bool = True,
        scope: str = "",
    ) -> None:
        """Tells the door one method of the resource at ``path`` ("/things/{thingId}", below the prefix).

        ``answers`` are the bodies by status, ``errors`` the statuses beyond those that every operation has;
        ``conditional``: whether the resource has an entity tag, ``aliases``: names of properties that are taken for
        others. ``generation``: what a GET answers is good, for all who ask in the same way, until it changes; it is
        read before the handler is called. ``detached`` False: the handler itself sees to it that what it has begun is
        finished. ``scope``: what the caller's token has to be for.
        Raises ValueError for an operation that is there.
        """
        told: Operation[Caller] = Operation(
            method, path, handler, operation_id, summary, request, request_required, dict(answers), tuple(errors),
            tuple(query), description, conditional, aliases, max_age_s, generation, detached, scope,
        )  # fmt: skip
        resource = self._resources.get(path)
        if resource is None:
            resource = self._resources[path] = _Resource(path)
            segments = tuple(path.strip("/").split("/")) if path.strip("/") else ()
            patterns = self._patterns.setdefault(len(segments), [])
            patterns.append((segments, resource))
            patterns.sort(key=lambda each: [segment.startswith("{") for segment in each[0]])
        if method in resource.operations:
            raise ValueError(f"{self.prefix}{path} has {method} already")
        resource.operations[method] = told
        self.operations.append(told)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether the door has a resource at the path of the request; a slash at its end is tolerated."""
        if scope["type"] != "http":
            return Match.NONE, {}
        path = cast(str, scope["path"])
        prefix = self.prefix
        if path.startswith(prefix):
            raw = scope.get("raw_path") or b""
            # A slash that is escaped stands within a segment (RFC 3986 §2.2): there the path is read as it came.
            is_escaped = b"%2f" in raw.lower() and raw.startswith(prefix.encode())
            found = self._find(raw[len(prefix) :].decode("latin-1") if is_escaped else path[len(prefix) :], is_escaped)
            if found is not None:
                return Match.FULL, {"door_resource": found[0], "door_parameters": found[1]}
            if self.manners.whole_prefix and path[len(prefix) : len(prefix) + 1] in ("", "/"):
                return Match.FULL, {"door_resource": None, "door_parameters": {}}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        resource = cast("_Resource[Caller] | None", scope["door_resource"])
        method = cast(str, scope["method"])
        operation = resource.operations.get("GET" if method == "HEAD" else method) if resource is not None else None
        begun = perf_counter()
        if resource is None:
            path = cast(str, scope["path"])
            response = self.manners.refusal(ResourceUnknown(f"{path}: nothing is here"))
        elif operation is not None and operation.generation is not None and method == "GET":
            response = await self._kept_or_new(scope, receive, resource, operation, operation.generation())
        else:
            response = await self._respond(scope, receive, resource, operation)
        self.manners.told(scope, response)
        if method == "HEAD":
            response.body = b""
        await response(scope, receive, send)
        self._tell(scope, operation, response.status_code, perf_counter() - begun)

    async def _kept_or_new(
        self,
        scope: Scope,
        receive: Receive,
        resource: _Resource[Caller],
        operation: Operation[Caller],
        generation: int,
    ) -> Response:
        """The answer that was given to the same question, while nothing has changed since; else a new one."""
        shaping = [(name, value) for name, value in scope["headers"] if name in _SHAPING]
        path = scope.get("raw_path") or scope["path"]
        key = (scope["scheme"], path, scope["query_string"], *shaping)
        kept = self._kept.get(key)
        if kept is not None and kept[0] == generation:
            return kept[1]
        response = await self._respond(scope, receive, resource, operation)
        if response.status_code in (HTTPStatus.OK, HTTPStatus.NOT_MODIFIED):
            self._kept[key] = (generation, response)
            self._kept.move_to_end(key)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return response

    def _find(self, path: str, is_escaped: bool) -> tuple[_Resource[Caller], dict[str, str]] | None:
        if path and path[0] != "/":
            return None
        segments = path[1:].split("/") if path else []
        if segments and not segments[-1]:
            segments.pop()
        if is_escaped:
            segments = [unquote(each) for each in segments]
        for pattern, resource in self._patterns.get(len(segments), ()):
            parameters: dict[str, str] = {}
            for expected, found in zip(pattern, segments, strict=True):
                if expected[0] == "{" and found:
                    parameters[expected[1:-1]] = found
                elif expected != found:
                    break
            else:
                return resource, parameters
        return None

    async def _respond(
        self, scope: Scope, receive: Receive, resource: _Resource[Caller], operation: Operation[Caller] | None
    ) -> Response:
        try:
            if operation is None:
                if scope["method"] == "OPTIONS":
                    return _options(resource)
                raise MethodNotAllowed(cast(str, scope["method"]), resource.allowed)
            headers = _headers_of(scope)
            self.manners.check(headers)
            identified = self._identify(headers)
            caller = await identified if isawaitable(identified) else identified
            if operation.scope and self._authorise is not None:
                self._authorise(caller, operation.scope)
            request = RestCall(
                scope,
                operation,
                cast("dict[str, str]", scope["door_parameters"]),
                headers,
                caller,
                self._max_body_bytes,
                self.manners.strict,
            )
            return await self._serve(scope, receive, request)
        except CastcoreError as error:
            told = _in_words_of_the_door(error, operation.request if operation is not None else None)
            return self.manners.refusal(told)
        except Exception:
            if self.manners is MANNERS_OF_3GPP:
                # What surrounds every request tells it in their way.
                raise
            logger(self._function).exception("http.failed", path=scope["path"])
            correlation_id = current_call.correlation_id()
            told = Internal(f"internal error; the log knows more under correlation id {correlation_id}")
            return self.manners.refusal(told)

    async def _serve(self, scope: Scope, receive: Receive, request: RestCall[Caller]) -> Response:
        operation, headers = request.operation, request.headers
        if operation.offered and "accept" in headers:
            check_accept(headers["accept"], operation.offered)
        if operation.request is not None:
            required = operation.request_required
            check_length(scope, headers, self._max_body_bytes, required=required)
            if required or headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
                request.media_type = check_media_type(headers, operation.taken, patch=operation.method == "PATCH")
            request.body = await read_body(receive, self._max_body_bytes)
            request.parse()
        _adopt_deadline(headers)
        answer = await self._answer(scope, request)
        return self._response(request, answer)

    async def _answer(self, scope: Scope, request: RestCall[Caller]) -> Answer:
        operation = request.operation
        state = getattr(scope.get("app"), "state", None)
        if (stopping := getattr(state, "stopping", None)) is not None:
            current_call.adopt_stopping(stopping)
        work = operation.handler(request)
        if operation.detached and operation.method not in _SAFE:
            # What has been begun is finished, though the client hangs up or its deadline passes.
            calls: Calls = getattr(state, "calls", None) or Calls()
            work = calls.detached(work, operation.operation_id, self._function)
        remaining_s = current_call.remaining_s()
        if remaining_s is None:
            return await work
        try:
            async with asyncio.timeout(remaining_s):
                return await work
        except TimeoutError:
            raise DeadlineExceeded(
                f"no answer within {_MAX_RESPONSE_TIME}; whether it took effect is unknown"
            ) from None

    def _response(self, request: RestCall[Caller], answer: Answer) -> Response:
        operation = request.operation
        if answer.status not in operation.answers:
            raise Internal(f"{operation.operation_id}: answers {answer.status}, which it does not declare")
        headers = dict(answer.headers)
        modified = moment_of(answer.last_modified)
        if answer.etag:
            headers["etag"] = f'"{answer.etag}"'
        if modified is not None:
            headers["last-modified"] = http_date(modified)
        if answer.location:
            headers["location"] = request.url_of(answer.location) if answer.location[0] == "/" else answer.location
        if operation.method == "GET":
            max_age_s = next(
                each for each in (answer.max_age_s, operation.max_age_s, self._max_age_s) if each is not None
            )
            headers.setdefault("cache-control", f"max-age={max_age_s}" if max_age_s > 0 else "no-store")
            headers.setdefault("vary", "accept, authorization" if self.secured else "accept")
            if answer.status == HTTPStatus.OK and is_not_modified(request.headers, answer.etag, modified):
                return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        if answer.stream is not None and request.is_head:
            return Response(status_code=answer.status, headers=headers, media_type=answer.media_type)
        if answer.stream is not None:
            return StreamingResponse(
                answer.stream, status_code=answer.status, headers=headers, media_type=answer.media_type
            )
        body = answer.body
        if body is None:
            return Response(status_code=answer.status, headers=headers)
        if isinstance(body, Message):
            body = encode(answer_json(body))
        elif isinstance(body, Mapping):
            body = encode(body)
        elif not isinstance(body, bytes):
            body = encode([answer_json(each) for each in body])
        return Response(body, status_code=answer.status, headers=headers, media_type=answer.media_type)

    def _tell(self, scope: Scope, operation: Operation[Caller] | None, status: int, elapsed_s: float) -> None:
        if operation is not None:
            counters = self._counters.get((operation.operation_id, status))
            if counters is None:
                counters = self._counters_of(scope, operation, status)
            if counters is not None:
                counters[0].inc()
                counters[1].observe(elapsed_s)
        # What goes as it should is in the metrics.
        quiet = operation is not None and status < HTTPStatus.BAD_REQUEST
        if quiet and not tells("debug"):
            return
        name = operation.operation_id if operation is not None else cast(str, scope["method"])
        log = logger(self._function)
        (log.debug if quiet else log.info)("http", method=name, code=status, elapsed_ms=round(elapsed_s * 1000, 3))

    def _counters_of(self, scope: Scope, operation: Operation[Caller], status: int) -> tuple[Counter, Histogram] | None:
        telemetry: Telemetry | None = getattr(getattr(scope.get("app"), "state", None), "telemetry", None)
        if telemetry is None:
            return None
        method = f"{operation.method} {self.prefix}{operation.path}"
        counters = (
            telemetry.server_calls.labels(self._function, method, str(status)),
            telemetry.server_latency_s.labels(self._function, method),
        )
        self._counters[operation.operation_id, status] = counters
        return counters


def _headers_of(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in cast("list[tuple[bytes, bytes]]", scope["headers"]):
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        # Several fields of a name are one list (RFC 9110 §5.3).
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _options(resource: _Resource[Caller]) -> Response:
    headers = {"allow": resource.allowed}
    if "PATCH" in resource.operations:
        headers["accept-patch"] = ", ".join(resource.operations["PATCH"].taken)
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)


def _adopt_deadline(headers: Mapping[str, str]) -> None:
    text = headers.get(_MAX_RESPONSE_TIME)
    if text is None:
        return
    if not text.isdecimal() or len(text) > 9:
        raise InvalidArgument.of(_MAX_RESPONSE_TIME, f"expected milliseconds, found {text!r}")
    current_call.adopt_deadline(int(text) / 1000)


def _in_words_of_the_door(error: CastcoreError, request: type[Message] | Media | None) -> CastcoreError:
    """The error with the paths of properties as the JSON of the request has them."""
    if not error.violations or request is None or isinstance(request, Media):
        return error
    descriptor = cast(Descriptor, request.DESCRIPTOR)
    told = []
    for each in error.violations:
        path = json_path(descriptor, each.field)
        if path != each.field:
            error.message = error.message.replace(f"{each.field}:", f"{path}:", 1)
        told.append(FieldViolation(path, each.description))
    error.violations = tuple(told)
    return error
