"""Access tokens: what stands for a credential for a while, two-legged or for the user of one device (RFC 6749 §4.4).

They are opaque, kept as digests, and survive a restart; who revokes a credential ends what was made from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Final

from nf.common.errors import FieldViolation, InvalidArgument, Unauthenticated
from nf.common.reader import Reader
from nf.common.resources import new_id
from nf.common.store import Store
from nf.common.transaction import Transaction
from nf.netapi.callers import Caller, covers
from nf.netapi.config import NetapiSection
from nf.netapi.credentials import scope_violations
from nf.netapi.devices import check_device
from nf.netapi.errors import CredentialNeeded, ScopeMissing, TooManyAccessTokens
from nf.netapi.secrets import DIGEST, digest_text, new_secret
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.agreement_pb2 import AccessToken, Credential

# What access tokens begin with.
PREFIX: Final = "cct_"
# So many of one credential at one time.
MAX_LIVE: Final = 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an access token is asked for; no scopes: all of the credential, no seconds: as configured."""

    scopes: Sequence[str] = ()
    device: Device | None = None
    expires_in_s: int = 0


@dataclass(frozen=True, slots=True)
class Minted:
    """A new access token with its secret, which is shown now and never again."""

    secret: str
    token: AccessToken


class Tokens:
    """Makes access tokens, and removes those that have expired."""

    def __init__(self, store: Store, config: NetapiSection) -> None:
        self._store = store
        self._config = config

    async def create(self, caller: Caller, wanted: Wanted) -> Minted:
        """An access token for who shows a credential.

        Raises CredentialNeeded for one who shows an access token or is the operator, ScopeMissing for a scope that the
        credential does not have, InvalidArgument, TooManyAccessTokens.
        """
        return await self._store.write(lambda tx: self._create(tx, caller, wanted))

    async def remove(self, token_id: str, _: AccessToken) -> None:
        """Removes a token that has expired."""
        await self._store.write(lambda tx: tx.delete(AccessToken, token_id))

    def _create(self, transaction: Transaction, caller: Caller, wanted: Wanted) -> Minted:
        if not caller.credential_id or caller.token_id:
            raise CredentialNeeded("access tokens are made from a credential of an agreement: expected one")
        credential = transaction.get(Credential, caller.credential_id)
        if credential is None:
            raise Unauthenticated("the credential has been revoked since the caller was let in", reason="INVALID_TOKEN")
        now = transaction.clock.now()
        made = AccessToken(
            token_id=new_id(),
            agreement_id=credential.agreement_id,
            credential_id=credential.credential_id,
            scopes=granted(credential, wanted.scopes),
        )
        if wanted.device is not None:
            made.device.CopyFrom(check_device(wanted.device, "device"))
        expires = now + timedelta(seconds=self._lasts_s(wanted.expires_in_s))
        if credential.HasField("expire_time"):
            expires = min(expires, credential.expire_time.ToDatetime(UTC))
        if _live(transaction, credential.credential_id) >= MAX_LIVE:
            raise TooManyAccessTokens(f"credential {credential.credential_id!r}: {MAX_LIVE} access tokens are in force")
        made.create_time.FromDatetime(now)
        made.expire_time.FromDatetime(expires)
        secret = new_secret(PREFIX)
        transaction.insert(
            made,
            made.token_id,
            parent=made.credential_id,
            lookups={DIGEST: digest_text(secret)},
            due=expires,
        )
        return Minted(secret, made)

    def _lasts_s(self, wanted_s: int) -> int:
        most_s = self._config.longest_access_token_s
        if wanted_s > most_s:
            raise InvalidArgument.of("expires_in_s", f"expected at most {most_s}, found {wanted_s}")
        return wanted_s or min(self._config.access_token_s, most_s)


def granted(credential: Credential, wanted: Sequence[str]) -> list[str]:
    """The scopes of a token: those that are wanted, none: all of the credential. Raises ScopeMissing."""
    refused = list(scope_violations("scopes", list(wanted)))
    if refused:
        raise InvalidArgument.of_all(refused)
    if not wanted or not credential.scopes:
        return list(wanted or credential.scopes)
    own = frozenset(credential.scopes)
    beyond = [each for each in wanted if not covers(own, each)]
    if beyond:
        violations = [FieldViolation("scopes", f"the credential does not have {each!r}") for each in beyond]
        raise ScopeMissing("; ".join(each.description for each in violations), violations=violations)
    return list(wanted)


def _live(reader: Reader, credential_id: str) -> int:
    return len(reader.list(AccessToken, parent=credential_id, page_size=MAX_LIVE).items)
