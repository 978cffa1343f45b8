"""How a door speaks beside its operations: what a refusal looks like, what header fields come back, how strict it is.

3GPP APIs speak as TS 29.500 §5.2 says; other families of APIs have manners of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from starlette.responses import Response
from starlette.types import Scope

from nf.common.errors import CastcoreError
from nf.common.http import problem
from nf.common.rest_body import PROBLEM

if TYPE_CHECKING:
    # What makes the OpenAPI document, when it is asked for.
    from nf.common.json_schema import Schema, Schemas
    from nf.common.rest_call import Operation


class Manners:
    """Those of 3GPP APIs."""

    # Whether properties that the contract does not know are refused.
    strict: bool = False
    # Whether every path below the prefix is the door's to answer, those without a resource too.
    whole_prefix: bool = False
    # The media type of refusals, and how the OpenAPI document calls them ("Problem404").
    refusal_type: str = PROBLEM
    refusal_name: str = "Problem"
    # How the OpenAPI document calls the way in which callers show who they are.
    security_scheme: str = "bearer"

    def check(self, headers: Mapping[str, str]) -> None:
        """Looks at the header fields of a request before anybody is asked who calls. Raises what is to be told."""

    def told(self, scope: Scope, response: Response) -> None:
        """Adds the header fields that the answer to every request has."""

    def refusal(self, error: CastcoreError) -> Response:
        """The answer that tells an error."""
        return problem(error)

    def refusal_schema(self, schemas: Schemas) -> Schema:
        """What a refusal looks like."""
        from nf.common.json_schema import Use
        from nf.common.v1.types_pb2 import ProblemDetails

        return schemas.of(ProblemDetails, Use.ANSWER)

    def security(self, _: Operation[object]) -> list[Schema]:
        """What callers of an operation have to show; any of these."""
        return [{self.security_scheme: []}]

    def security_schemes(self) -> Schema:
        """How callers show it."""
        description = "The token of an Application Provider."
        return {self.security_scheme: {"type": "http", "scheme": "bearer", "description": description}}

    def parameters(self) -> list[Schema]:
        """The header fields that every operation takes."""
        return []

    def headers(self) -> Mapping[str, Schema]:
        """The header fields that every answer has."""
        return {}


MANNERS_OF_3GPP: Final = Manners()
