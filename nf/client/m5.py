"""M5 as a Media Session Handler sees it (TS 26.512 §11), whichever way it is carried: ``m5_grpc``, ``m5_http``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from nf.af.v1.consumption_reporting_pb2 import ConsumptionReport
from nf.af.v1.media_session_pb2 import DynamicPolicy, ServiceAccessInformation


@dataclass(frozen=True, slots=True)
class ServiceAccessAnswer:
    """Service access information, or None where it is what the caller has (by the etag that it named).

    It may be kept for ``max_age_s`` seconds.
    """

    information: ServiceAccessInformation | None
    etag: str
    max_age_s: float


class M5(Protocol):
    """What a Media Session Handler asks of the 5GMS AF. Every failure is a CastcoreError."""

    async def service_access_information(self, provisioning_session_id: str, *, etag: str = "") -> ServiceAccessAnswer:
        """What is needed to use the provisioned service; ``etag``: of what the caller has. Raises NotFound."""
        ...

    async def create_dynamic_policy(self, policy: DynamicPolicy, *, request_id: str = "") -> DynamicPolicy:
        """Activates a policy template for the flows of a media session; returns when it is enforced."""
        ...

    async def get_dynamic_policy(self, dynamic_policy_id: str) -> DynamicPolicy:
        """The instance as it is. Raises NotFound."""
        ...

    async def update_dynamic_policy(self, policy: DynamicPolicy, paths: Sequence[str]) -> DynamicPolicy:
        """Changes the named fields of an instance; returns when that is enforced. Raises NotFound."""
        ...

    async def delete_dynamic_policy(self, dynamic_policy_id: str) -> None:
        """Deactivates an instance. Raises NotFound."""
        ...

    def watch_dynamic_policy(self, dynamic_policy_id: str) -> AsyncIterator[DynamicPolicy]:
        """The instance whenever the network has changed it, until it is gone (STATE_TERMINATED comes last)."""
        ...

    async def report_consumption(
        self, provisioning_session_id: str, report: ConsumptionReport, server_addresses: Sequence[str] = ()
    ) -> None:
        """Hands in a report; returns when it is stored. The same report again changes nothing.

        ``server_addresses``: where the configuration wants it, tried in their order; empty: here.
        """
        ...

    def for_ue(self, ue_address: str) -> M5:
        """M5 on the same connections, on behalf of this UE; closed with what it was made of."""
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...
