"""Who calls at M1: the Application Provider behind a credential, and what it may see and change (TS 26.512 §7).

A credential is a bearer token (RFC 6750), over gRPC in the metadata ``authorization``, over HTTP in the header of that
name. Where the configuration names no providers, everyone may do everything: a lab on loopback.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.message import Message

from nf.af.config import ProviderSection
from nf.af.errors import NotOwnAspId, OperatorOnly
from nf.af.v1.provisioning_pb2 import ProvisioningSession
from nf.common.call import AUTHORIZATION_KEY
from nf.common.errors import Unauthenticated
from nf.common.reader import not_found

AUTHORIZATION: Final = AUTHORIZATION_KEY
Context = grpc.aio.ServicerContext[Message, Message]


@dataclass(frozen=True, slots=True)
class Provider:
    """Who calls: one provider (``asp_id``), or with ``operator`` one that may see and change everything.

    ``location_asp_ids`` are the providers that may ask for the location of UEs; None: every one.
    """

    asp_id: str
    operator: bool = False
    location_asp_ids: frozenset[str] | None = None

    def may_use(self, session: ProvisioningSession) -> bool:
        """Whether the caller may see and change the session and what stands below it."""
        return self.operator or session.asp_id == self.asp_id

    def check(self, session: ProvisioningSession) -> None:
        """Raises NotFound for a session of another provider, as for one that does not exist."""
        if not self.may_use(session):
            raise not_found(ProvisioningSession, session.provisioning_session_id)

    def own_asp_id(self, named: str) -> str:
        """The aspId that something new gets, given the one ("" without one) that the request names.

        Raises NotOwnAspId for that of another provider.
        """
        if self.operator:
            return named
        self.check_asp_id(named or self.asp_id)
        return self.asp_id

    def check_asp_id(self, named: str) -> None:
        """Raises NotOwnAspId unless the caller may act for that provider."""
        if not self.operator and named != self.asp_id:
            raise NotOwnAspId(
                f"application provider {self.asp_id!r} may not act for {named!r}",
                metadata={"asp_id": self.asp_id, "named": named},
            )

    def check_operator(self, deed: str) -> None:
        """Raises OperatorOnly unless the caller is the operator; ``deed`` says what it may not do."""
        if not self.operator:
            raise OperatorOnly(f"application provider {self.asp_id!r} may not {deed}: only the operator may")

    def may_ask_location(self, session: ProvisioningSession) -> bool:
        """Whether reports of the session may tell where UEs are."""
        return self.location_asp_ids is None or session.asp_id in self.location_asp_ids

    @property
    def sees(self) -> str | None:
        """The aspId that lists are limited to; None: they are not."""
        return None if self.operator else self.asp_id

    def scoped(self, method: str) -> str:
        """The name under which a request_id is remembered: that of one provider means nothing to another."""
        return method if self.operator else f"{method}@{self.asp_id}"


# For what the AF does of its own accord, and for M5, which is open to UEs.
UNRESTRICTED: Final = Provider("", operator=True)


class Providers:
    """The providers of the configuration, by their credentials."""

    def __init__(self, sections: Sequence[ProviderSection], location_asp_ids: Sequence[str] = ()) -> None:
        trusted = frozenset(location_asp_ids)
        if sections:
            trusted |= {each.asp_id for each in sections if each.may_ask_location}
        everyone = not sections and not location_asp_ids
        self._location_asp_ids = None if everyone else trusted
        self._providers = [
            (each.digest, Provider(each.asp_id, each.operator, self._location_asp_ids)) for each in sections
        ]

    @property
    def configured(self) -> bool:
        """Whether callers have to say who they are."""
        return bool(self._providers)

    def identify(self, authorization: str) -> Provider:
        """Who shows this value of ``authorization`` ("" without one). Raises Unauthenticated."""
        if not self._providers:
            return Provider("", operator=True, location_asp_ids=self._location_asp_ids)
        scheme, _, token = authorization.strip().partition(" ")
        if not authorization:
            raise Unauthenticated("authorization: expected 'Bearer TOKEN' of a configured provider, found nothing")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("authorization: expected 'Bearer TOKEN', found another form", reason="INVALID_TOKEN")
        shown = hashlib.sha256(token.strip().encode()).digest()
        # Each is compared, and each in the same time: how long it takes says nothing of any token.
        found = [provider for digest, provider in self._providers if hmac.compare_digest(digest, shown)]
        if not found:
            raise Unauthenticated("authorization: the token is none of a configured provider", reason="INVALID_TOKEN")
        return found[0]

    def caller(self, context: Context) -> Provider:
        """Who makes a gRPC call. Raises Unauthenticated."""
        if not self._providers:
            return self.identify("")
        values = [str(value) for key, value in context.invocation_metadata() or () if key == AUTHORIZATION]
        if len(values) > 1:
            raise Unauthenticated("authorization: expected one value, found several", reason="INVALID_TOKEN")
        return self.identify(values[0] if values else "")
