"""Bodies of requests: what they may be, how much of them is read, and patches (RFC 7396, RFC 6902)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, cast

import jsonpatch
import jsonpointer
from starlette.types import Receive, Scope

from nf.common.errors import Cancelled, FieldViolation, InvalidArgument
from nf.common.json_text import decode, encode, type_name
from nf.common.rest_errors import ContentTooLarge, LengthRequired, NotAcceptable, PatchConflict, UnsupportedMediaType

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
PROBLEM: Final = "application/problem+json"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
PATCHES: Final = (MERGE_PATCH, JSON_PATCH)

_MAX_OPERATIONS: Final = 1000
_MAX_DEPTH: Final = 64
_OPERATIONS: Final = ("add", "remove", "replace", "move", "copy", "test")


def check_accept(accept: str, offered: Sequence[str]) -> None:
    """Raises NotAcceptable when ``Accept`` allows none of the media types ``offered`` (RFC 9110 §12.5.1)."""
    if not accept or ("*/*" in accept and "q=" not in accept) or any(_quality(accept, each) > 0 for each in offered):
        return
    raise NotAcceptable(f"accept: expected {' or '.join(offered)}, found {accept!r}")


def preferred(accept: str, offered: Sequence[str]) -> str:
    """Which of the media types ``offered`` a client likes best; the first of those that it likes equally well."""
    return max(offered, key=lambda each: _quality(accept, each)) if accept else offered[0]


def is_rooted(body: bytes, root: str) -> bool:
    """Whether a patch speaks of the property ``root`` of what it changes, in the place of that itself.

    TS 29.581 and TS 29.532 have bodies that are objects with the resource in them. Raises InvalidArgument for no JSON.
    """
    patch = decode(body)
    if isinstance(patch, dict):
        return root in patch
    pointers = [each.get("path") for each in patch if isinstance(each, dict)] if isinstance(patch, list) else []
    return any(isinstance(each, str) and each.split("/")[1:2] == [root] for each in pointers)


def media_type_of(content_type: str) -> str:
    """The media type without its parameters, in small letters."""
    return content_type.partition(";")[0].strip().lower()


def check_media_type(headers: Mapping[str, str], taken: Sequence[str], *, patch: bool) -> str:
    """The media type of the body, if it is one of those ``taken`` ("application/*": all of them).

    Raises UnsupportedMediaType, which names them in ``Accept-Patch`` or ``Accept``; also for compressed bodies and for
    JSON that is not in UTF-8.
    """
    content_type = headers.get("content-type", "")
    media_type = media_type_of(content_type)
    told = {"accept-patch" if patch else "accept": ", ".join(taken)}
    if not any(media_type == each or (each.endswith("/*") and media_type.startswith(each[:-1])) for each in taken):
        found = repr(content_type) if content_type else "nothing"
        raise UnsupportedMediaType(f"content-type: expected {' or '.join(taken)}, found {found}", headers=told)
    charset = _parameter(content_type, "charset")
    if charset.lower() not in ("", "utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType(f"content-type: expected the charset utf-8, found {charset!r}", headers=told)
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedMediaType(
            f"content-encoding: expected none, found {coding!r}", headers={"accept-encoding": "identity"}
        )
    return media_type


def check_length(scope: Scope, headers: Mapping[str, str], limit_bytes: int, *, required: bool) -> None:
    """Refuses a body by what the header says of it, before any of it is read.

    Raises LengthRequired for a demanded body of HTTP/1 whose length is neither told nor chunked, ContentTooLarge.
    """
    length = headers.get("content-length", "")
    if not length:
        if required and scope["http_version"].startswith("1") and "transfer-encoding" not in headers:
            raise LengthRequired("content-length: expected the length of the body (or chunks), found neither")
        return
    if not length.isdecimal():
        raise InvalidArgument.of("content-length", f"expected a number, found {length!r}")
    if len(length) > 18 or int(length) > limit_bytes:
        raise _too_large(limit_bytes)


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """The whole body. Raises ContentTooLarge as soon as it is, and Cancelled when the client leaves in the middle."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("the client left before its request was complete")
        part = cast(bytes, message.get("body", b""))
        if part:
            parts.append(part)
            size += len(part)
            if size > limit_bytes:
                raise _too_large(limit_bytes)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def renamed(tree: object, aliases: Mapping[str, str], where: str = "", depth: int = 0) -> object:
    """The value with every property called as the contract calls it, for names that are accepted beside those.

    Raises InvalidArgument where an object has a property by two of its names.
    """
    if depth > _MAX_DEPTH:
        raise InvalidArgument.of(where, f"expected at most {_MAX_DEPTH} levels, found more")
    if isinstance(tree, list):
        return [renamed(each, aliases, f"{where}[{index}]", depth + 1) for index, each in enumerate(tree)]
    if not isinstance(tree, dict):
        return tree
    result: dict[str, object] = {}
    for given, value in tree.items():
        name = aliases.get(given, given)
        path = f"{where}.{given}" if where else given
        if name in result:
            raise InvalidArgument.of(path, f"expected once, found {name} by another name too")
        result[name] = renamed(value, aliases, path, depth + 1)
    return result


def patched(
    current: Mapping[str, object],
    media_type: str,
    body: bytes,
    limit_bytes: int,
    aliases: Mapping[str, str] = MappingProxyType({}),
) -> object:
    """The representation ``current`` as the patch wants it; ``current`` itself stays.

    Raises InvalidArgument for a patch that is none, PatchConflict for one that does not fit, ContentTooLarge for one
    that blows the representation up.
    """
    # Also where nothing is called otherwise: it is what bounds the depth.
    patch = renamed(decode(body), aliases if media_type != JSON_PATCH else {})
    if media_type == JSON_PATCH:
        return _json_patched(dict(current), patch, limit_bytes, aliases)
    if not isinstance(patch, dict):
        raise InvalidArgument.of("body", f"expected an object, found {type_name(patch)}")
    return _merged(current, patch)


def _merged(target: object, patch: object) -> object:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


def _json_patched(document: object, patch: object, limit_bytes: int, aliases: Mapping[str, str]) -> object:
    if not isinstance(patch, list):
        raise InvalidArgument.of("body", f"expected an array of operations, found {type_name(patch)}")
    if len(patch) > _MAX_OPERATIONS:
        raise InvalidArgument.of("body", f"expected at most {_MAX_OPERATIONS} operations, found {len(patch)}")
    for index, operation in enumerate(patch):
        _check_operation(index, operation)
    document = copy.deepcopy(document)
    for index, operation in enumerate(patch):
        for each in ("path", "from"):
            if aliases and each in operation:
                operation[each] = "/".join(aliases.get(part, part) for part in operation[each].split("/"))
        document = _applied(document, operation, f"[{index}]")
        # Copies can double what is there, each time.
        if operation["op"] == "copy" and len(encode(document)) > limit_bytes:
            raise _too_large(limit_bytes)
    return document


def _check_operation(index: int, operation: object) -> None:
    where = f"[{index}]"
    if not isinstance(operation, dict):
        raise InvalidArgument.of(where, f"expected an operation, found {type_name(operation)}")
    name = operation.get("op")
    if name not in _OPERATIONS:
        raise InvalidArgument.of(f"{where}.op", f"expected one of {', '.join(_OPERATIONS)}, found {type_name(name)}")
    pointers = ["path", "from"] if name in ("move", "copy") else ["path"]
    for each in pointers:
        value = operation.get(each)
        if not isinstance(value, str):
            raise InvalidArgument.of(f"{where}.{each}", f"expected a JSON pointer, found {type_name(value)}")
        try:
            jsonpointer.JsonPointer(value)
        except jsonpointer.JsonPointerException as error:
            raise InvalidArgument.of(f"{where}.{each}", f"expected a JSON pointer, found {value!r}") from error
    if name in ("add", "replace", "test") and "value" not in operation:
        raise InvalidArgument.of(f"{where}.value", "expected, found nothing")


def _applied(document: object, operation: Mapping[str, object], where: str) -> object:
    # A conflict (409) is what RFC 5789 §2.2 has for a patch that is right and does not fit.
    try:
        result: object = jsonpatch.JsonPatch([operation]).apply(document, in_place=True)
    except jsonpatch.JsonPatchTestFailed as error:
        why = f"test: {operation['path']} is not what the patch expects"
        raise PatchConflict(f"{where}: {why}", violations=(FieldViolation(where, why),)) from error
    except (
        jsonpatch.JsonPatchException,
        jsonpointer.JsonPointerException,
        # What the library falls over when a pointer leads through a number or a text.
        TypeError,
        KeyError,
        IndexError,
        ValueError,
        AttributeError,
    ) as error:
        why = f"{operation['op']}: the resource has nothing at {operation.get('from', operation['path'])}"
        raise PatchConflict(f"{where}: {why}", violations=(FieldViolation(where, why),)) from error
    return result


def _quality(accept: str, media_type: str) -> float:
    kind = media_type.partition("/")[0]
    best, precision = 0.0, -1
    for each in accept.split(","):
        wanted = media_type_of(each)
        fits = ("*/*", f"{kind}/*", media_type)
        if wanted in fits and fits.index(wanted) > precision:
            precision = fits.index(wanted)
            try:
                best = float(_parameter(each, "q") or 1)
            except ValueError:
                best = 0.0
    return best


def _parameter(text: str, wanted: str) -> str:
    for each in text.split(";")[1:]:
        name, _, value = each.partition("=")
        if name.strip().lower() == wanted:
            return value.strip().strip('"')
    return ""


def _too_large(limit_bytes: int) -> ContentTooLarge:
    return ContentTooLarge(f"body: expected at most {limit_bytes} bytes, found more")
