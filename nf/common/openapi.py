"""The OpenAPI 3.1 document of what is served over HTTP, made from the doors and the contracts' descriptors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Final

from google.protobuf.message import Message

from nf.common.json_schema import Schema, Schemas, Use
from nf.common.rest import Door
from nf.common.rest_body import FORM, JSON, JSON_PATCH, MERGE_PATCH
from nf.common.rest_call import Media, Operation, Several
from nf.common.rest_manners import Manners

PATH: Final = "/openapi.json"

_PARAMETER: Final = re.compile(r"\{([A-Za-z0-9]+)\}")
_UNSAFE: Final = ("POST", "PUT", "PATCH", "DELETE")
_ALWAYS: Final = (400, 429, 500, 503, 504)
_HEADERS: Final[Mapping[str, Schema]] = {
    "Location": {
        "description": "The absolute URL of the resource.",
        "required": True,
        "schema": {"type": "string", "format": "uri"},
    },
    "ETag": {"description": "Names this state of the resource.", "schema": {"type": "string", "pattern": '^"[^"]*"$'}},
    "Last-Modified": {"description": "When the resource was last changed.", "schema": {"type": "string"}},
    "Cache-Control": {
        "description": "How long the answer may be kept.",
        "schema": {"type": "string", "pattern": "^(max-age=[0-9]+|no-store)$"},
    },
    "Allow": {"description": "The methods of the resource.", "required": True, "schema": {"type": "string"}},
    "WWW-Authenticate": {"description": "How to say who calls.", "required": True, "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds until another try is worth it.", "schema": {"type": "string"}},
    "Accept": {"description": "The media types that are taken.", "schema": {"type": "string"}},
    "Accept-Patch": {"description": "The patches that are taken.", "schema": {"type": "string"}},
}
_ON_ERROR: Final = {
    401: ("WWW-Authenticate",),
    415: ("Accept", "Accept-Patch"),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
_CONDITIONS: Final = {
    "If-None-Match": "Entity tags of states that the client has: 304 if the resource is in one of them.",
    "If-Modified-Since": "A date: 304 if the resource has not been changed since.",
    "If-Match": "Entity tags of states that the request is meant for: 412 if the resource is in none of them.",
}
_POINTER: Final[Schema] = {"$ref": "#/components/schemas/JsonPointer"}
_JSON_PATCH_SCHEMA: Final[Schema] = {
    "description": "Operations that are applied all, or none (RFC 6902).",
    "type": "array",
    "maxItems": 1000,
    "items": {
        "oneOf": [
            {
                "type": "object",
                "required": ["op", "path", "value"],
                "properties": {"op": {"enum": ["add", "replace", "test"]}, "path": _POINTER},
            },
            {
                "type": "object",
                "required": ["op", "path"],
                "properties": {"op": {"const": "remove"}, "path": _POINTER},
            },
            {
                "type": "object",
                "required": ["op", "path", "from"],
                "properties": {
                    "op": {"enum": ["move", "copy"]},
                    "path": _POINTER,
                    "from": _POINTER,
                },
            },
        ]
    },
}


def document(doors: Iterable[Door[object]]) -> Schema:
    """The document of these doors, in their order."""
    everything = tuple(doors)
    schemas = Schemas()
    schemas.components["JsonPatch"] = _JSON_PATCH_SCHEMA
    schemas.components["JsonPointer"] = {
        "description": "A place in a JSON document (RFC 6901).",
        "type": "string",
        "pattern": "^(/([^~]|~[01])*)?$",
    }
    paths: dict[str, Schema] = {}
    tags = []
    schemes: Schema = {}
    refusals: dict[str, Schema] = {}
    for door in everything:
        if door.secured:
            schemes |= door.manners.security_schemes()
        tags.append({"name": door.title, "description": door.description or door.title})
        for operation in door.operations:
            item = paths.setdefault(f"{door.prefix}{operation.path}", _item(operation.path))
            item[operation.method.lower()] = _operation(door, operation, schemas)
            for status in _errors_of(door, operation):
                name = _refusal(door, status)
                if name not in refusals:
                    refusals[name] = _problem(HTTPStatus(status), door.manners, schemas)
    responses = {name: refusals[name] for name in sorted(refusals)}
    components: Schema = {"schemas": dict(sorted(schemas.components.items())), "responses": responses}
    if schemes:
        components["securitySchemes"] = schemes
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "castcore",
            "version": version("castcore"),
            "summary": "The HTTP APIs that a castcore stack serves.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": components,
    }


def _item(path: str) -> Schema:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(path)
    ]
    return {"parameters": parameters} if parameters else {}


def _operation(door: Door[object], operation: Operation[object], schemas: Schemas) -> Schema:
    told: Schema = {"operationId": operation.operation_id, "summary": operation.summary, "tags": [door.title]}
    if operation.description:
        told["description"] = operation.description
    parameters: list[Schema] = [
        {
            "name": each.name,
            "in": "query",
            "description": each.description,
            "required": each.required,
            "schema": dict(each.schema),
        }
        for each in operation.query
    ]
    parameters += door.manners.parameters()
    if operation.conditional:
        names = {"GET": ("If-None-Match", "If-Modified-Since"), "POST": ()}.get(operation.method, ("If-Match",))
        parameters += [
            {"name": name, "in": "header", "description": _CONDITIONS[name], "schema": {"type": "string"}}
            for name in names
        ]
    if parameters:
        told["parameters"] = parameters
    if operation.request is not None:
        told["requestBody"] = {"required": operation.request_required, "content": _request(door, operation, schemas)}
    responses: dict[str, Schema] = {
        str(status): _answer(door, operation, status, body, schemas)
        for status, body in sorted(operation.answers.items())
    }
    if operation.method == "GET" and operation.conditional:
        responses["304"] = {
            "description": "Not Modified",
            "headers": _headers("ETag", "Last-Modified", "Cache-Control"),
        }
    for status in _errors_of(door, operation):
        responses[str(status)] = {"$ref": f"#/components/responses/{_refusal(door, status)}"}
    told["responses"] = responses
    if door.secured:
        told["security"] = door.manners.security(operation)
    return told


def _request(door: Door[object], operation: Operation[object], schemas: Schemas) -> Schema:
    request = operation.request
    if isinstance(request, Media):
        # What is neither JSON nor a form is bytes, of which a schema says nothing.
        told = (JSON, FORM)
        return {each: {"schema": dict(request.schema) if each in told else {}} for each in request.media_types}
    assert request is not None
    if operation.method == "PATCH":
        return {
            MERGE_PATCH: {"schema": schemas.of(request, Use.PATCH)},
            JSON_PATCH: {"schema": {"$ref": "#/components/schemas/JsonPatch"}},
        }
    use = Use.STRICT_REQUEST if door.manners.strict else Use.REQUEST
    return {JSON: {"schema": schemas.of(request, use)}}


def _answer(
    door: Door[object],
    operation: Operation[object],
    status: int,
    body: type[Message] | Media | Several | None,
    schemas: Schemas,
) -> Schema:
    told: Schema = {"description": HTTPStatus(status).phrase}
    names = ["Location"] if status == HTTPStatus.CREATED else []
    if operation.conditional and status < HTTPStatus.BAD_REQUEST and operation.method != "DELETE":
        names += ["ETag", "Last-Modified"]
    if operation.method == "GET":
        names.append("Cache-Control")
    headers = {**_headers(*names), **door.manners.headers()}
    if headers:
        told["headers"] = headers
    if isinstance(body, Media):
        told["content"] = {each: {"schema": dict(body.schema)} for each in body.media_types}
    elif isinstance(body, Several):
        items = schemas.of(body.message_type, Use.ANSWER)
        told["content"] = {JSON: {"schema": {"type": "array", "items": items}}}
    elif body is not None:
        told["content"] = {JSON: {"schema": schemas.of(body, Use.ANSWER)}}
    return told


def _errors_of(door: Door[object], operation: Operation[object]) -> list[int]:
    found = {*_ALWAYS, *operation.errors}
    if "{" in operation.path:
        found.add(404)
    if door.secured:
        found |= {401, 403}
    if operation.offered:
        found.add(406)
    if operation.request is not None:
        found |= {411, 413, 415}
    if operation.method == "PATCH":
        found.add(409)
    if operation.conditional and operation.method in _UNSAFE and operation.method != "POST":
        found.add(412)
    return sorted(found)


def _refusal(door: Door[object], status: int) -> str:
    return f"{door.manners.refusal_name}{status}"


def _problem(status: HTTPStatus, manners: Manners, schemas: Schemas) -> Schema:
    schema = manners.refusal_schema(schemas)
    told: Schema = {"description": status.phrase, "content": {manners.refusal_type: {"schema": schema}}}
    headers = {**_headers(*_ON_ERROR.get(status.value, ())), **manners.headers()}
    if headers:
        told["headers"] = headers
    return told


def _headers(*names: str) -> Schema:
    return {name: dict(_HEADERS[name]) for name in names}
