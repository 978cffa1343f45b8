"""The token mint over HTTP: `POST /oauth2/token` (RFC 6749 §4.4, client credentials) with Basic or in the body.

The client is a credential: its identifier and its token. For labs a parameter ``login_hint`` makes the token a
three-legged one, for the user of a device ("tel:+491701234567", "ipport:10.45.0.7:5060"), as CAMARA's backend flow
(CIBA) names it; there is no user here to consent.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote_plus

from starlette.responses import Response

from nf.common.call import AUTHORIZATION_KEY
from nf.common.errors import CastcoreError, InvalidArgument, PermissionDenied, Unauthenticated
from nf.common.http import told_by
from nf.common.json_text import encode
from nf.common.rest import Answer, Door, Media, RestCall
from nf.common.rest_body import FORM, JSON
from nf.common.rest_manners import Manners
from nf.netapi.callers import Callers
from nf.netapi.errors import ScopeMissing
from nf.netapi.tokens import Tokens, Wanted
from nf.netapi.v1.access_pb2 import Device

if TYPE_CHECKING:
    from nf.common.json_schema import Schema, Schemas
    from nf.common.rest_call import Operation

PREFIX: Final = "/oauth2"
_MAX_BODY_BYTES: Final = 65_536
# Asked for by CAMARA's clients beside the scopes of APIs: OpenID Connect, and the purpose of the use of data.
_BESIDE: Final = ("openid", "dpv:")
_REQUEST: Final[Mapping[str, object]] = {
    "type": "object",
    "required": ["grant_type"],
    "properties": {
        "grant_type": {"const": "client_credentials"},
        "scope": {"type": "string"},
        "client_id": {"type": "string"},
        "client_secret": {"type": "string"},
        "login_hint": {"type": "string"},
    },
}
_ANSWER: Final[Mapping[str, object]] = {
    "type": "object",
    "required": ["access_token", "token_type", "expires_in"],
    "properties": {
        "access_token": {"type": "string"},
        "token_type": {"const": "Bearer"},
        "expires_in": {"type": "integer"},
        "scope": {"type": "string"},
    },
}

# Who shows itself in the header field, by identifier and secret; None: nobody does.
_Shown = tuple[str, str] | None


class OAuthRefusal(InvalidArgument):
    """What the token endpoint refuses, by the name that RFC 6749 §5.2 has for it."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description, reason=error)


class _OAuthManners(Manners):
    """Refusals of RFC 6749 §5.2."""

    refusal_type = JSON
    refusal_name = "OAuthError"

    def refusal(self, error: CastcoreError) -> Response:
        """``{error, error_description}``."""
        status = error.http_status
        if isinstance(error, OAuthRefusal):
            name = error.reason
        elif isinstance(error, Unauthenticated):
            name = "invalid_client"
        elif isinstance(error, ScopeMissing):
            name, status = "invalid_scope", HTTPStatus.BAD_REQUEST
        elif isinstance(error, PermissionDenied):
            name, status = "unauthorized_client", HTTPStatus.BAD_REQUEST
        elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            name = "temporarily_unavailable" if status == HTTPStatus.SERVICE_UNAVAILABLE else "server_error"
        else:
            name = "invalid_request"
        headers = told_by(error) | {"pragma": "no-cache"}
        if isinstance(error, Unauthenticated):
            headers["www-authenticate"] = 'Basic realm="castcore", charset="UTF-8"'
        # Nothing but ASCII without quotes and backslashes may stand there.
        description = error.message.replace('"', "'").replace("\\", "/").encode("ascii", "replace").decode()
        body = encode({"error": name, "error_description": description})
        return Response(body, status_code=status, headers=headers, media_type=JSON)

    def refusal_schema(self, schemas: Schemas) -> Schema:
        """``{error, error_description}``."""
        schemas.components["OAuthError"] = {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"type": "string"}, "error_description": {"type": "string"}},
        }
        return {"$ref": "#/components/schemas/OAuthError"}

    def security(self, _: Operation[object]) -> list[Schema]:
        """Basic, or in the body."""
        return [{"client": []}, {}]

    def security_schemes(self) -> Schema:
        """Basic."""
        description = "The identifier and the token of a credential."
        return {"client": {"type": "http", "scheme": "basic", "description": description}}


def build_door(tokens: Tokens, callers: Callers) -> Door[_Shown]:
    """The door of the token endpoint."""
    door: Door[_Shown] = Door(
        PREFIX,
        title="OAuth 2.0: access tokens",
        version="1.0.0",
        description="Access tokens for the APIs of the network API platform (RFC 6749).",
        identify=_identify,
        manners=_OAuthManners(),
        function="netapi",
        max_body_bytes=_MAX_BODY_BYTES,
        max_age_s=0,
        secured=True,
    )

    async def create(call: RestCall[_Shown]) -> Answer:
        """A new access token."""
        form = _form(call.body)
        grant = form.get("grant_type", "")
        if not grant:
            raise OAuthRefusal("invalid_request", "grant_type: expected client_credentials, found nothing")
        if grant != "client_credentials":
            raise OAuthRefusal("unsupported_grant_type", "grant_type: expected client_credentials, found another")
        client, secret = _client(call.caller, form)
        caller = await callers.identify(f"Bearer {secret}")
        if caller.credential_id != client or caller.token_id:
            raise Unauthenticated(
                "client: expected the identifier of a credential and its token", reason="INVALID_TOKEN"
            )
        device = _device(form["login_hint"]) if "login_hint" in form else None
        minted = await tokens.create(caller, Wanted(_scopes(form.get("scope", "")), device))
        lasts_s = minted.token.expire_time.seconds - minted.token.create_time.seconds
        body: dict[str, object] = {"access_token": minted.secret, "token_type": "Bearer", "expires_in": lasts_s}
        if minted.token.scopes:
            body["scope"] = " ".join(minted.token.scopes)
        return Answer(200, body, headers={"cache-control": "no-store", "pragma": "no-cache"})

    door.operation(
        "POST",
        "/token",
        create,
        operation_id="createAccessToken",
        summary="Makes an access token from a credential",
        request=Media((FORM,), _REQUEST),
        answers={200: Media((JSON,), _ANSWER)},
        conditional=False,
    )
    return door


def _identify(headers: Mapping[str, str]) -> _Shown:
    authorization = headers.get(AUTHORIZATION_KEY, "")
    if not authorization:
        return None
    scheme, _, encoded = authorization.strip().partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        name, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        if not colon:
            raise ValueError
    except (binascii.Error, ValueError) as error:
        raise Unauthenticated(
            "authorization: expected 'Basic' with identifier and token, found another form"
        ) from error
    # Both are encoded as in a form before they are joined (RFC 6749 §2.3.1).
    return unquote_plus(name), unquote_plus(secret)


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError as error:
        raise OAuthRefusal("invalid_request", "body: expected name=value pairs in UTF-8, found another form") from error
    form: dict[str, str] = {}
    for name, value in pairs:
        if name in form:
            raise OAuthRefusal("invalid_request", f"{name}: expected once, found again")
        # What has no value is as if it were not there (RFC 6749 §3.2).
        if value:
            form[name] = value
    return form


def _client(shown: _Shown, form: Mapping[str, str]) -> tuple[str, str]:
    name, secret = form.get("client_id", ""), form.get("client_secret", "")
    if shown is not None:
        if secret:
            raise OAuthRefusal("invalid_request", "client_secret: expected in one place, found in header and body")
        if name and name != shown[0]:
            raise OAuthRefusal("invalid_request", "client_id: expected that of the header, found another")
        return shown
    if not name or not secret:
        raise Unauthenticated("client: expected client_id and client_secret, by Basic or in the body")
    return name, secret


def _scopes(text: str) -> list[str]:
    found = list(dict.fromkeys(text.split()))
    wanted = [each for each in found if not each.startswith(_BESIDE)]
    if found and not wanted:
        # No scopes would be all of them.
        raise OAuthRefusal("invalid_scope", "scope: expected at least one of an API")
    return wanted


def _device(hint: str) -> Device:
    """The device that a ``login_hint`` names, "tel:+49…" or "ipport:ADDRESS[:PORT]"."""
    kind, _, name = hint.partition(":")
    if kind == "tel" and name:
        return Device(phone_number=name)
    if kind == "ipport" and name:
        if name.startswith("["):
            return Device(ipv6_address=name[1:].partition("]")[0])
        return Device(ipv6_address=name) if name.count(":") > 1 else Device(ipv4_address=name.partition(":")[0])
    raise OAuthRefusal("invalid_request", "login_hint: expected tel:NUMBER or ipport:ADDRESS[:PORT], found others")
