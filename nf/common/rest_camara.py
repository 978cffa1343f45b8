"""The manners of CAMARA APIs (API design guide of the Commonalities 0.6): errors, x-correlator, scopes, strictness."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from nf.common import call
from nf.common.errors import CastcoreError, InvalidArgument
from nf.common.http import told_by
from nf.common.json_text import encode
from nf.common.rest_body import JSON
from nf.common.rest_manners import Manners

if TYPE_CHECKING:
    from nf.common.json_schema import Schema, Schemas
    from nf.common.rest_call import Operation

CORRELATOR: Final = "x-correlator"
CORRELATOR_PATTERN: Final = r"^[a-zA-Z0-9-_:;.\/<>{}]{0,256}$"
_CORRELATOR: Final = re.compile(r"[a-zA-Z0-9\-_:;./<>{}]{0,256}")

# What a status is called where nothing says more.
_CODES: Final[Mapping[int, str]] = MappingProxyType(
    {
        400: "INVALID_ARGUMENT",
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        405: "METHOD_NOT_ALLOWED",
        406: "NOT_ACCEPTABLE",
        409: "CONFLICT",
        410: "GONE",
        411: "INVALID_ARGUMENT",
        412: "FAILED_PRECONDITION",
        413: "PAYLOAD_TOO_LARGE",
        415: "UNSUPPORTED_MEDIA_TYPE",
        422: "SERVICE_NOT_APPLICABLE",
        429: "TOO_MANY_REQUESTS",
        499: "CANCELLED",
        500: "INTERNAL",
        501: "NOT_IMPLEMENTED",
        502: "BAD_GATEWAY",
        503: "UNAVAILABLE",
        504: "TIMEOUT",
    }
)
# What an error may be called beside that: these, and what an API has of its own ("QUALITY_ON_DEMAND.…").
_KNOWN: Final[Mapping[int, frozenset[str]]] = MappingProxyType(
    {
        400: frozenset(
            (
                "INVALID_ARGUMENT",
                "OUT_OF_RANGE",
                "INVALID_PROTOCOL",
                "INVALID_CREDENTIAL",
                "INVALID_TOKEN",
                "INVALID_SINK",
            )
        ),
        401: frozenset(("UNAUTHENTICATED", "AUTHENTICATION_REQUIRED")),
        403: frozenset(("PERMISSION_DENIED", "INVALID_TOKEN_CONTEXT", "SUBSCRIPTION_MISMATCH")),
        404: frozenset(("NOT_FOUND", "IDENTIFIER_NOT_FOUND")),
        409: frozenset(("CONFLICT", "ALREADY_EXISTS", "ABORTED", "INCOMPATIBLE_STATE")),
        422: frozenset(
            (
                "SERVICE_NOT_APPLICABLE",
                "MISSING_IDENTIFIER",
                "UNSUPPORTED_IDENTIFIER",
                "UNNECESSARY_IDENTIFIER",
                "PRIVATE_KEY_JWT_NOT_CONFIGURED",
                "MULTIEVENT_SUBSCRIPTION_NOT_SUPPORTED",
                "MULTIEVENT_COMBINATION_TEMPORARILY_NOT_SUPPORTED",
            )
        ),
        429: frozenset(("TOO_MANY_REQUESTS", "QUOTA_EXCEEDED")),
    }
)


class CamaraManners(Manners):
    """Errors are ``{status, code, message}``, and x-correlator is echoed, or made.

    The code of an error is its ``reason`` where CAMARA or the API (with a dot in it) has that; ``codes`` say what else
    reasons are to the API: the status and the code. ``strict``: unknown properties are refused.
    """

    whole_prefix = True
    refusal_type = JSON
    refusal_name = "CamaraError"
    security_scheme = "openId"

    def __init__(self, *, strict: bool = False, codes: Mapping[str, tuple[int, str]] = MappingProxyType({})) -> None:
        self.strict = strict
        self._codes = codes

    def check(self, headers: Mapping[str, str]) -> None:
        """Raises InvalidArgument for an x-correlator that is none."""
        correlator = headers.get(CORRELATOR)
        if correlator is None:
            return
        if not _CORRELATOR.fullmatch(correlator):
            raise InvalidArgument.of(CORRELATOR, f"expected {CORRELATOR_PATTERN}, found {correlator[:64]!r}")
        if correlator:
            # Logs, events and calls to other functions know it by that.
            call.adopt_correlation_id(correlator)

    def told(self, scope: Scope, response: Response) -> None:
        """Adds x-correlator."""
        correlator = Headers(scope=scope).get(CORRELATOR, "")
        fit = bool(correlator) and _CORRELATOR.fullmatch(correlator) is not None
        response.headers[CORRELATOR] = correlator if fit else call.correlation_id()

    def code_of(self, error: CastcoreError) -> tuple[int, str]:
        """The status and the code of an error."""
        known = self._codes.get(error.reason)
        if known is not None:
            return known
        status = error.http_status
        if status == HTTPStatus.PRECONDITION_FAILED:
            # CAMARA knows no conditional requests.
            status = HTTPStatus.CONFLICT
        if error.reason in _KNOWN.get(status, ()) or "." in error.reason:
            return status, error.reason
        return status, _CODES.get(status, "INTERNAL" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "CONFLICT")

    def refusal(self, error: CastcoreError) -> Response:
        """The answer that tells an error."""
        status, code = self.code_of(error)
        body = encode({"status": status, "code": code, "message": error.message})
        return Response(body, status_code=status, headers=told_by(error), media_type=JSON)

    def refusal_schema(self, schemas: Schemas) -> Schema:
        """What a refusal looks like."""
        schemas.components["ErrorInfo"] = {
            "description": "What was wrong.",
            "type": "object",
            "required": ["status", "code", "message"],
            "properties": {
                "status": {"type": "integer", "description": "The status of the answer."},
                "code": {"type": "string", "description": "What was wrong, for programs."},
                "message": {"type": "string", "description": "What was wrong, for people."},
            },
        }
        return {"$ref": "#/components/schemas/ErrorInfo"}

    def security(self, operation: Operation[object]) -> list[Schema]:
        """The scopes of an operation."""
        return [{self.security_scheme: [operation.scope] if operation.scope else []}]

    def security_schemes(self) -> Schema:
        """An access token of `POST /oauth2/token`, or a credential."""
        return {
            self.security_scheme: {
                "type": "http",
                "scheme": "bearer",
                "description": "An access token of /oauth2/token, or a credential of an agreement.",
            }
        }

    def parameters(self) -> list[Schema]:
        """x-correlator."""
        return [
            {
                "name": CORRELATOR,
                "in": "header",
                "description": "Names what the request belongs to.",
                "required": False,
                "schema": {"type": "string", "pattern": CORRELATOR_PATTERN},
            }
        ]

    def headers(self) -> Mapping[str, Schema]:
        """x-correlator."""
        return {
            CORRELATOR: {
                "description": "That of the request, or a new one.",
                "schema": {"type": "string", "pattern": CORRELATOR_PATTERN},
            }
        }
