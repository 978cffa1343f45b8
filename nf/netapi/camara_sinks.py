"""Where events of CAMARA doors go, and what lets them in: `sink` and `sinkCredential` as the APIs have them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from nf.common.errors import InvalidArgument
from nf.common.json_text import SHOWN_LENGTH
from nf.netapi.errors import PrivateKeyJwtNotConfigured
from nf.netapi.sinks import SinkCredential
from nf.netapi.v1.camara_dedicated_network_pb2 import NetworkSinkCredential
from nf.netapi.v1.camara_types_pb2 import CamaraSinkCredential

_ACCESS_TOKEN: Final = "ACCESSTOKEN"
_PRIVATE_KEY_JWT: Final = "PRIVATE_KEY_JWT"
_FIELD: Final = "sinkCredential"


def credential_of(view: CamaraSinkCredential | NetworkSinkCredential | None, now: datetime) -> SinkCredential | None:
    """What the platform shows the receiver. Raises InvalidArgument as INVALID_CREDENTIAL or INVALID_TOKEN.

    PRIVATE_KEY_JWT, where the API has it, raises PrivateKeyJwtNotConfigured.
    """
    if view is None:
        return None
    kind = view.credential_type
    if kind == _PRIVATE_KEY_JWT and isinstance(view, CamaraSinkCredential):
        raise PrivateKeyJwtNotConfigured(f"{_FIELD}: no keys are configured for {_PRIVATE_KEY_JWT}")
    if kind != _ACCESS_TOKEN:
        raise InvalidArgument(
            f"{_FIELD}.credentialType: expected {_ACCESS_TOKEN}, found {kind[:SHOWN_LENGTH]!r}",
            reason="INVALID_CREDENTIAL",
        )
    missing = [
        name
        for name, is_set in (
            ("accessToken", bool(view.access_token)),
            ("accessTokenExpiresUtc", view.HasField("access_token_expires_utc")),
            ("accessTokenType", view.HasField("access_token_type")),
        )
        if not is_set
    ]
    if missing:
        raise InvalidArgument(f"{_FIELD}: expected {' and '.join(missing)}, found nothing", reason="INVALID_CREDENTIAL")
    if view.access_token_type != "bearer":
        raise InvalidArgument(
            f"{_FIELD}.accessTokenType: expected bearer, found {view.access_token_type[:SHOWN_LENGTH]!r}",
            reason="INVALID_TOKEN",
        )
    if not (view.access_token.isascii() and view.access_token.isprintable()) or " " in view.access_token:
        raise InvalidArgument(f"{_FIELD}.accessToken: expected printable ASCII characters", reason="INVALID_TOKEN")
    expires = view.access_token_expires_utc.ToDatetime(UTC)
    if expires <= now:
        raise InvalidArgument(
            f"{_FIELD}.accessTokenExpiresUtc: expected a time to come, found "
            f"{view.access_token_expires_utc.ToJsonString()}",
            reason="INVALID_TOKEN",
        )
    return SinkCredential(view.access_token, expires)
