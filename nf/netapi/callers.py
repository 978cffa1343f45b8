"""Who calls the platform: the operator, or a provider by a credential of its agreement or a token made from one.

Both are bearer tokens (RFC 6750), over gRPC in the metadata ``authorization``, over HTTP in the header of that name.
Where the configuration has no token of the operator, a call without a credential is the operator's: a lab on loopback.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Final

import grpc
from google.protobuf.message import Message

from nf.common.call import AUTHORIZATION_KEY
from nf.common.errors import Unauthenticated
from nf.common.reader import Reader
from nf.common.store import Store
from nf.netapi.config import NetapiSection
from nf.netapi.errors import AgreementNeeded, OperatorOnly, ScopeMissing
from nf.netapi.secrets import DIGEST, digest_text
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.agreement_pb2 import AccessToken, Credential

Context = grpc.aio.ServicerContext[Message, Message]

# Without it, what is limited to scopes speaks to the HTTP doors only: calls of gRPC have no scopes of their own.
GRPC_SCOPE: Final = "netapi"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the provider of one agreement, or with ``operator`` one that may see and change everything.

    ``scopes`` are what the call may be used for, None: everything. ``device`` is the one whose user a three-legged
    token stands for, None: the token is a two-legged one. ``credential_id`` is what was shown, or what the access token
    ``token_id`` that was shown was made from.
    """

    agreement_id: str
    operator: bool = False
    scopes: frozenset[str] | None = None
    device: Device | None = field(default=None, hash=False)
    credential_id: str = ""
    token_id: str = ""

    def may_see(self, agreement_id: str) -> bool:
        """Whether the caller may see and change what stands under that agreement."""
        return self.operator or self.agreement_id == agreement_id

    def check_operator(self, deed: str) -> None:
        """Raises OperatorOnly unless the caller is the operator; ``deed`` says what it may not do."""
        if not self.operator:
            raise OperatorOnly(f"agreement {self.agreement_id!r} may not {deed}: only the operator may")

    def check_scope(self, scope: str) -> None:
        """Raises ScopeMissing unless the caller has this scope, or the whole API that it begins with."""
        if not self.has_scope(scope):
            raise ScopeMissing(f"scope {scope!r}: expected in the token, not found", metadata={"scope": scope})

    def has_scope(self, scope: str) -> bool:
        """Whether the caller has this scope ("quality-on-demand:sessions:create"), or one that it begins with."""
        return self.scopes is None or covers(self.scopes, scope)

    def require_agreement(self) -> str:
        """The agreement under which something new is made. Raises AgreementNeeded for the operator, who has none."""
        if not self.agreement_id:
            raise AgreementNeeded("the operator has no agreement: expected a credential of one")
        return self.agreement_id

    @property
    def audience(self) -> str:
        """Who events for the caller are for."""
        return audience_of(self.agreement_id)

    @property
    def sees(self) -> str | None:
        """The agreement that lists are limited to; None: they are not."""
        return None if self.operator else self.agreement_id

    def scoped(self, method: str) -> str:
        """The name under which a request_id is remembered: that of one provider means nothing to another."""
        return method if self.operator else f"{method}@{self.agreement_id}"


# For what the platform does of its own accord.
OPERATOR: Final = Caller("", operator=True)


def audience_of(agreement_id: str) -> str:
    """How events name the provider of an agreement."""
    return f"agreement/{agreement_id}"


def covers(granted: frozenset[str], scope: str) -> bool:
    """Whether one of these scopes is that scope, or all of an API or resource that it belongs to."""
    parts = scope.split(":")
    return any(":".join(parts[:length]) in granted for length in range(1, len(parts) + 1))


class Callers:
    """Tells who calls, by the store and the configuration."""

    def __init__(self, store: Store, config: NetapiSection) -> None:
        self._store = store
        self._operator = config.operator_digest

    async def identify(self, authorization: str) -> Caller:
        """Who shows this value of ``authorization`` ("" without one). Raises Unauthenticated."""
        if not authorization and self._operator is None:
            return OPERATOR
        if not authorization:
            raise Unauthenticated("authorization: expected 'Bearer TOKEN', found nothing")
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("authorization: expected 'Bearer TOKEN', found another form", reason="INVALID_TOKEN")
        shown = digest_text(token.strip())
        if self._operator is not None and hmac.compare_digest(shown, self._operator):
            return OPERATOR
        found = await self._store.read(lambda reader: _found(reader, shown))
        if found is None:
            raise Unauthenticated("authorization: the token is unknown, revoked or expired", reason="INVALID_TOKEN")
        return found

    async def caller(self, context: Context, *, any_scope: bool = False) -> Caller:
        """Who makes a gRPC call. Raises Unauthenticated, ScopeMissing for a token that is for the HTTP doors only.

        ``any_scope``: the call is one that such a token may make.
        """
        values = [str(value) for key, value in context.invocation_metadata() or () if key == AUTHORIZATION_KEY]
        if len(values) > 1:
            raise Unauthenticated("authorization: expected one value, found several", reason="INVALID_TOKEN")
        found = await self.identify(values[0] if values else "")
        if not any_scope:
            found.check_scope(GRPC_SCOPE)
            if found.device is not None:
                raise ScopeMissing("authorization: a token of a device's user is for the HTTP doors")
        return found


def _found(reader: Reader, digest: str) -> Caller | None:
    """Whom the secret of this digest belongs to."""
    now = reader.clock.now()
    for token in reader.find(AccessToken, DIGEST, digest):
        if token.expire_time.ToDatetime(now.tzinfo) > now:
            device = token.device if token.HasField("device") else None
            return Caller(token.agreement_id, False, _scopes(token), device, token.credential_id, token.token_id)
    for credential in reader.find(Credential, DIGEST, digest):
        if not credential.HasField("expire_time") or credential.expire_time.ToDatetime(now.tzinfo) > now:
            return Caller(credential.agreement_id, False, _scopes(credential), None, credential.credential_id)
    return None


def _scopes(of: Credential | AccessToken) -> frozenset[str] | None:
    return frozenset(of.scopes) or None
