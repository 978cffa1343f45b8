"""What the CAMARA doors have in common: callers, scopes and errors. Which device is meant: ``camara_devices``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nf.common.call import AUTHORIZATION_KEY
from nf.common.errors import Unauthenticated
from nf.common.rest import Door, RestCall
from nf.common.rest_camara import CamaraManners
from nf.netapi.callers import Caller, Callers

Call = RestCall[Caller]


def camara_door(
    prefix: str,
    *,
    title: str,
    version: str,
    callers: Callers,
    description: str = "",
    strict: bool = False,
    codes: Mapping[str, tuple[int, str]] = MappingProxyType({}),
) -> Door[Caller]:
    """A door with the manners of CAMARA at ``prefix`` ("/quality-on-demand/v1rc3").

    Its operations say their ``scope`` and ``conditional=False``. Callers are providers: a call without a token is
    refused, the operator's too. ``strict``: unknown properties are refused (400 INVALID_ARGUMENT). ``codes`` say what
    reasons of errors are to the API beyond what CAMARA has in common: the status and the code.
    """

    async def identify(headers: Mapping[str, str]) -> Caller:
        authorization = headers.get(AUTHORIZATION_KEY, "")
        if not authorization:
            raise Unauthenticated("authorization: expected 'Bearer TOKEN', found nothing")
        caller = await callers.identify(authorization)
        caller.require_agreement()
        return caller

    def authorise(caller: Caller, scope: str) -> None:
        caller.check_scope(scope)

    return Door(
        prefix,
        title=title,
        version=version,
        identify=identify,
        authorise=authorise,
        manners=CamaraManners(strict=strict, codes=codes),
        description=description,
        function="netapi",
        max_age_s=0,
        secured=True,
    )
