"""Agreements, credentials and access tokens: the platform's gRPC services for the operator, and the mint."""

from __future__ import annotations

from collections.abc import Sequence

from nf.common.store import Store
from nf.netapi import agreements, credentials
from nf.netapi.agreements import AgreementFollower
from nf.netapi.callers import Callers, Context
from nf.netapi.tokens import Tokens, Wanted
from nf.netapi.v1 import agreement_pb2 as v1
from nf.netapi.v1.agreement_pb2_grpc import AgreementsServiceServicer, TokensServiceServicer


class AgreementsService(AgreementsServiceServicer):
    """What operator and providers have agreed on, and by what providers show who they are.

    ``followers`` end what a provider has beside its bookings when its agreement ends.
    """

    def __init__(self, store: Store, callers: Callers, followers: Sequence[AgreementFollower] = ()) -> None:
        self._store = store
        self._callers = callers
        self._followers = followers

    async def CreateAgreement(self, request: v1.CreateAgreementRequest, context: Context) -> v1.CreateAgreementResponse:
        """Makes an agreement."""
        caller = await self._callers.caller(context)
        made = await self._store.write(lambda tx: agreements.create(tx, request, caller))
        return v1.CreateAgreementResponse(agreement=made)

    async def GetAgreement(self, request: v1.GetAgreementRequest, context: Context) -> v1.GetAgreementResponse:
        """Reads an agreement."""
        caller = await self._callers.caller(context)
        found = await self._store.read(lambda reader: agreements.get(reader, request.agreement_id, caller))
        return v1.GetAgreementResponse(agreement=found)

    async def ListAgreements(self, request: v1.ListAgreementsRequest, context: Context) -> v1.ListAgreementsResponse:
        """Lists agreements."""
        caller = await self._callers.caller(context)
        page = await self._store.read(lambda reader: agreements.page(reader, request, caller))
        return v1.ListAgreementsResponse(agreements=page.items, next_page_token=page.next_page_token)

    async def UpdateAgreement(self, request: v1.UpdateAgreementRequest, context: Context) -> v1.UpdateAgreementResponse:
        """Changes an agreement."""
        caller = await self._callers.caller(context)
        changed = await self._store.write(lambda tx: agreements.update(tx, request, caller))
        return v1.UpdateAgreementResponse(agreement=changed)

    async def DeleteAgreement(self, request: v1.DeleteAgreementRequest, context: Context) -> v1.DeleteAgreementResponse:
        """Ends an agreement."""
        caller = await self._callers.caller(context)
        await self._store.write(lambda tx: agreements.delete(tx, request.agreement_id, caller, self._followers))
        return v1.DeleteAgreementResponse()

    async def CreateCredential(
        self, request: v1.CreateCredentialRequest, context: Context
    ) -> v1.CreateCredentialResponse:
        """Issues a credential."""
        caller = await self._callers.caller(context)
        made = await self._store.write(lambda tx: credentials.create(tx, request, caller))
        return v1.CreateCredentialResponse(credential=made)

    async def ListCredentials(self, request: v1.ListCredentialsRequest, context: Context) -> v1.ListCredentialsResponse:
        """Lists the credentials of an agreement."""
        caller = await self._callers.caller(context)
        page = await self._store.read(lambda reader: credentials.page(reader, request, caller))
        return v1.ListCredentialsResponse(credentials=page.items, next_page_token=page.next_page_token)

    async def DeleteCredential(
        self, request: v1.DeleteCredentialRequest, context: Context
    ) -> v1.DeleteCredentialResponse:
        """Revokes a credential."""
        caller = await self._callers.caller(context)
        await self._store.write(lambda tx: credentials.delete(tx, request.credential_id, caller))
        return v1.DeleteCredentialResponse()


class TokensService(TokensServiceServicer):
    """The mint of access tokens."""

    def __init__(self, tokens: Tokens, callers: Callers) -> None:
        self._tokens = tokens
        self._callers = callers

    async def CreateAccessToken(
        self, request: v1.CreateAccessTokenRequest, context: Context
    ) -> v1.CreateAccessTokenResponse:
        """Makes an access token."""
        caller = await self._callers.caller(context, any_scope=True)
        device = request.device if request.HasField("device") else None
        minted = await self._tokens.create(caller, Wanted(list(request.scopes), device, request.expires_in_s))
        return v1.CreateAccessTokenResponse(
            access_token=minted.secret, scopes=minted.token.scopes, expire_time=minted.token.expire_time
        )
