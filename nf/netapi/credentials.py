"""Credentials of agreements: secrets that are shown once, kept as digests, and revoked at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from nf.common.date_time import moment_of
from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.reader import Page, Reader, not_found
from nf.common.resources import new_id
from nf.common.transaction import Transaction
from nf.netapi.callers import Caller
from nf.netapi.names import repeated_violations
from nf.netapi.secrets import DIGEST, digest_text, new_secret
from nf.netapi.v1.agreement_pb2 import (
    AccessToken,
    Agreement,
    CreateCredentialRequest,
    Credential,
    ListCredentialsRequest,
)

# What credentials begin with.
PREFIX: Final = "ccc_"
MAX_SCOPES: Final = 200
# A scope-token of RFC 6749 §3.3.
_SCOPE: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]{1,128}")


def create(transaction: Transaction, request: CreateCredentialRequest, caller: Caller) -> Credential:
    """A new credential, with its token. Raises NotFound for an agreement that there is not."""
    caller.check_operator("issue a credential")
    wanted = request.credential
    transaction.require(Agreement, wanted.agreement_id)
    refused = list(_violations(transaction, wanted))
    if refused:
        raise InvalidArgument.of_all(refused)
    made = Credential(credential_id=new_id(), agreement_id=wanted.agreement_id, scopes=wanted.scopes)
    if wanted.HasField("expire_time"):
        made.expire_time.CopyFrom(wanted.expire_time)
    made.create_time.FromDatetime(transaction.clock.now())
    token = new_secret(PREFIX)
    transaction.insert(made, made.credential_id, parent=made.agreement_id, lookups={DIGEST: digest_text(token)})
    made.token = token
    return made


def page(reader: Reader, request: ListCredentialsRequest, caller: Caller) -> Page[Credential]:
    """The credentials of an agreement, without their tokens. Raises NotFound."""
    if not caller.may_see(request.agreement_id):
        raise not_found(Agreement, request.agreement_id)
    reader.require(Agreement, request.agreement_id)
    return reader.list(
        Credential, parent=request.agreement_id, page_size=request.page_size, page_token=request.page_token
    )


def delete(transaction: Transaction, credential_id: str, caller: Caller) -> None:
    """Revokes a credential, and what was made from it."""
    caller.check_operator("revoke a credential")
    for token in transaction.all(AccessToken, parent=credential_id):
        transaction.delete(AccessToken, token.token_id)
    transaction.delete(Credential, credential_id)


def delete_all(transaction: Transaction, agreement_id: str) -> None:
    """Revokes what an agreement has."""
    for credential in transaction.all(Credential, parent=agreement_id):
        for token in transaction.all(AccessToken, parent=credential.credential_id):
            transaction.delete(AccessToken, token.token_id)
        transaction.delete(Credential, credential.credential_id)


def scope_violations(field: str, scopes: list[str]) -> Iterator[FieldViolation]:
    """What is wrong with a list of scopes."""
    if len(scopes) > MAX_SCOPES:
        yield FieldViolation(field, f"expected at most {MAX_SCOPES}, found {len(scopes)}")
        return
    for index, each in enumerate(scopes):
        if not _SCOPE.fullmatch(each):
            yield FieldViolation(f"{field}[{index}]", f"expected 1 to 128 characters without spaces, found {each!r}")
    yield from repeated_violations(field, scopes)


def _violations(reader: Reader, credential: Credential) -> Iterator[FieldViolation]:
    yield from scope_violations("credential.scopes", list(credential.scopes))
    if not credential.HasField("expire_time"):
        return
    try:
        expires = moment_of(credential.expire_time)
    except ValueError as error:
        yield FieldViolation("credential.expire_time", str(error))
        return
    if expires <= reader.clock.now():
        yield FieldViolation("credential.expire_time", f"expected a time to come, found {expires.isoformat()}")
