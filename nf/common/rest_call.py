"""What a door's handlers get and give: ``RestCall`` and ``Answer``; and what a door knows of each ``Operation``."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Generic, TypeVar, cast
from urllib.parse import parse_qsl

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from starlette.types import Scope

from nf.common.codec import from_json, loads, to_json
from nf.common.errors import InvalidArgument
from nf.common.json_text import decode
from nf.common.rest_body import JSON, PATCHES, patched, renamed
from nf.common.rest_conditional import check_preconditions, moment_of

M = TypeVar("M", bound=Message)
Caller = TypeVar("Caller")

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]+)(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Media:
    """A body that is no JSON of a message: its media types, and its schema for the OpenAPI document."""

    media_types: tuple[str, ...]
    schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True, slots=True)
class Several:
    """An answer that is an array of messages of one type."""

    message_type: type[Message]


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of the query, for the OpenAPI document; the handler checks it."""

    name: str
    description: str
    schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string"})
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler answers. ``location`` is an absolute path or URL; ``etag`` comes without its quotes.

    ``max_age_s`` None: the door's, for a GET. ``body`` may be bytes of the media type ``media_type``, a JSON object, or
    an array of messages; ``stream`` in its place is sent piece by piece.
    """

    status: int
    body: Message | bytes | Mapping[str, object] | Sequence[Message] | None = None
    etag: str = ""
    last_modified: datetime | Timestamp | None = None
    max_age_s: int | None = None
    location: str = ""
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: AsyncIterator[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Operation(Generic[Caller]):
    """One method of one resource, as it was told to ``Door.operation``."""

    method: str
    path: str
    handler: Callable[[RestCall[Caller]], Awaitable[Answer]]
    operation_id: str
    summary: str
    request: type[Message] | Media | None
    request_required: bool
    answers: Mapping[int, type[Message] | Media | Several | None]
    errors: tuple[int, ...]
    query: tuple[Query, ...]
    description: str
    conditional: bool
    aliases: Mapping[str, str]
    max_age_s: int | None

    generation: Callable[[], int] | None = None
    detached: bool = True
    scope: str = ""
    # The media types of the request body, and of the answers.
    taken: tuple[str, ...] = field(init=False)
    offered: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "taken", self._taken())
        object.__setattr__(self, "offered", self._offered())

    def _taken(self) -> tuple[str, ...]:
        if self.request is None:
            return ()
        if isinstance(self.request, Media):
            return self.request.media_types
        return PATCHES if self.method == "PATCH" else (JSON,)

    def _offered(self) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for answer in self.answers.values():
            if answer is not None:
                found.update(dict.fromkeys(answer.media_types if isinstance(answer, Media) else (JSON,)))
        return tuple(found)


class RestCall(Generic[Caller]):
    """A request that has been let in: its path, query, headers, its body, and who makes it."""

    __slots__ = (
        "_limit_bytes",
        "_message",
        "_scope",
        "_strict",
        "body",
        "caller",
        "headers",
        "media_type",
        "operation",
        "path",
    )

    def __init__(
        self,
        scope: Scope,
        operation: Operation[Caller],
        path: Mapping[str, str],
        headers: Mapping[str, str],
        caller: Caller,
        limit_bytes: int,
        strict: bool = False,
    ) -> None:
        self._scope = scope
        self._strict = strict
        self._limit_bytes = limit_bytes
        self._message: Message | None = None
        self.operation = operation
        self.path = path
        self.headers = headers
        self.caller = caller
        self.media_type = ""
        self.body = b""

    @property
    def method(self) -> str:
        """The method; GET for HEAD too."""
        return self.operation.method

    @property
    def is_head(self) -> bool:
        """Whether the head of the answer is all that is wanted."""
        return bool(self._scope["method"] == "HEAD")

    @property
    def peer(self) -> str:
        """The IP address at the other end of the connection; empty where there is none."""
        client = self._scope.get("client")
        return str(client[0]) if client else ""

    def header(self, name: str) -> str:
        """The value of a header field, named in small letters; empty without one."""
        return self.headers.get(name, "")

    def query(self, name: str) -> str:
        """The value of a query parameter, "" without one. Raises InvalidArgument for one that is there twice."""
        values = self.query_list(name)
        if len(values) > 1:
            raise InvalidArgument.of(name, f"expected one value, found {len(values)}")
        return values[0] if values else ""

    def query_list(self, name: str) -> list[str]:
        """Every value of a query parameter."""
        try:
            text = cast(bytes, self._scope["query_string"]).decode("ascii")
            pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=100)
        except ValueError as error:
            raise InvalidArgument.of("query", "expected name=value pairs in UTF-8, found something else") from error
        return [value for key, value in pairs if key == name]

    def message(self, message_type: type[M]) -> M:
        """The body as the message that the operation takes."""
        if not isinstance(self._message, message_type):
            raise TypeError(f"{self.operation.operation_id} takes no {message_type.__name__}")
        return self._message

    @property
    def has_message(self) -> bool:
        """Whether there is a body, where it may be left out."""
        return self._message is not None

    def patched(self, current: M, *, internal: bool = False) -> M:
        """The message ``current`` as the patch in the body wants it.

        Raises InvalidArgument for a patch that is none or that makes something else of it, PatchConflict for one that
        does not fit.
        """
        document = to_json(current, internal=internal)
        wanted = patched(document, self.media_type, self.body, self._limit_bytes, self.operation.aliases)
        return from_json(type(current), wanted, internal=internal, strict=self._strict)

    def check_preconditions(self, what: str, etag: str, last_modified: datetime | Timestamp | None = None) -> None:
        """Raises EtagMismatch (412) when If-Match and the like were meant for another state; in the transaction."""
        if "if-match" in self.headers or "if-none-match" in self.headers or "if-unmodified-since" in self.headers:
            check_preconditions(self.headers, etag, moment_of(last_modified), what)

    def url_of(self, path: str) -> str:
        """The absolute URL of a path as this client would reach it. Raises InvalidArgument for a Host that is none."""
        host = self.headers.get("host", "")
        if not host:
            server = self._scope.get("server") or ("127.0.0.1", 80)
            host = f"{server[0]}:{server[1]}"
        elif not _HOST.fullmatch(host):
            raise InvalidArgument.of("host", f"expected HOST or HOST:PORT, found {host!r}")
        return f"{self._scope['scheme']}://{host}{path}"

    @property
    def url(self) -> str:
        """The absolute URL that was asked for, without its query and a slash at its end."""
        return self.url_of(cast(str, self._scope["path"]).rstrip("/"))

    def parse(self) -> None:
        """Makes the body a message, where the operation takes one as it is. Raises InvalidArgument."""
        request = self.operation.request
        if request is None or isinstance(request, Media) or self.method == "PATCH":
            return
        if self.body:
            aliases = self.operation.aliases
            self._message = (
                from_json(request, renamed(decode(self.body), aliases), strict=self._strict)
                if aliases
                else loads(request, self.body, strict=self._strict)
            )
        elif self.operation.request_required:
            raise InvalidArgument.of("body", "expected a JSON object, found nothing")
