"""M5 with a stopwatch: how often each operation was called, how long it took, and what went wrong."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from nf.af.v1.consumption_reporting_pb2 import ConsumptionReport
from nf.af.v1.media_session_pb2 import DynamicPolicy
from nf.client.latencies import Latencies
from nf.client.m5 import M5, ServiceAccessAnswer
from nf.common.errors import CastcoreError


class Measurements:
    """Of all operations of any number of clients."""

    def __init__(self) -> None:
        self.latencies: defaultdict[str, Latencies] = defaultdict(Latencies)
        # By operation and by the reason of the error.
        self.errors: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def timed(self, operation: str) -> Iterator[None]:
        """Measures what is done inside; an operation that fails is counted by its reason, and not timed."""
        begun = time.perf_counter()
        try:
            yield
        except CastcoreError as error:
            self.errors[operation, error.reason] += 1
            raise
        self.latencies[operation].add(time.perf_counter() - begun)


class MeasuredM5:
    """Another M5, measured."""

    def __init__(self, m5: M5, measurements: Measurements) -> None:
        self._m5 = m5
        self._timed = measurements.timed
        self._measurements = measurements

    async def service_access_information(self, provisioning_session_id: str, *, etag: str = "") -> ServiceAccessAnswer:
        """As M5 has it."""
        with self._timed("access_information"):
            return await self._m5.service_access_information(provisioning_session_id, etag=etag)

    async def create_dynamic_policy(self, policy: DynamicPolicy, *, request_id: str = "") -> DynamicPolicy:
        """As M5 has it."""
        with self._timed("create_policy"):
            return await self._m5.create_dynamic_policy(policy, request_id=request_id)

    async def get_dynamic_policy(self, dynamic_policy_id: str) -> DynamicPolicy:
        """As M5 has it."""
        with self._timed("get_policy"):
            return await self._m5.get_dynamic_policy(dynamic_policy_id)

    async def update_dynamic_policy(self, policy: DynamicPolicy, paths: Sequence[str]) -> DynamicPolicy:
        """As M5 has it."""
        with self._timed("update_policy"):
            return await self._m5.update_dynamic_policy(policy, paths)

    async def delete_dynamic_policy(self, dynamic_policy_id: str) -> None:
        """As M5 has it."""
        with self._timed("delete_policy"):
            await self._m5.delete_dynamic_policy(dynamic_policy_id)

    def watch_dynamic_policy(self, dynamic_policy_id: str) -> AsyncIterator[DynamicPolicy]:
        """As M5 has it; a stream is not timed."""
        return self._m5.watch_dynamic_policy(dynamic_policy_id)

    async def report_consumption(
        self, provisioning_session_id: str, report: ConsumptionReport, server_addresses: Sequence[str] = ()
    ) -> None:
        """As M5 has it."""
        with self._timed("report"):
            await self._m5.report_consumption(provisioning_session_id, report, server_addresses)

    def for_ue(self, ue_address: str) -> MeasuredM5:
        """As M5 has it, with the same measurements."""
        return MeasuredM5(self._m5.for_ue(ue_address), self._measurements)

    async def close(self) -> None:
        """As M5 has it."""
        await self._m5.close()
