"""Service access information at the Media Session Handler: kept as long as the AF says, then asked for again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from nf.af.v1.media_session_pb2 import PolicyTemplateBinding, ServiceAccessInformation
from nf.client.m5 import M5
from nf.common.clock import Clock
from nf.common.errors import CastcoreError, NotFound
from nf.common.telemetry import logger

# An AF that lets nothing be kept is not asked without a pause either.
MIN_REFRESH_S: Final = 1.0
# How long it takes to ask again where the AF did not answer.
RETRY_S: Final = 5.0


class PolicyDescriptionNotFound(NotFound):
    """The service access information has no policy description with this network policy id."""

    reason = "POLICY_DESCRIPTION_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class _Kept:
    information: ServiceAccessInformation
    etag: str
    good_until: datetime


class ServiceAccess:
    """The service access information of any number of provisioning sessions."""

    def __init__(self, m5: M5, clock: Clock, *, min_refresh_s: float = MIN_REFRESH_S) -> None:
        self._m5 = m5
        self._clock = clock
        self._min_refresh_s = min_refresh_s
        self._kept: dict[str, _Kept] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def get(self, provisioning_session_id: str, *, fresh: bool = False) -> ServiceAccessInformation:
        """The information, asked for again when it may be kept no longer, or when ``fresh``.

        What has not changed is the same object. Raises NotFound.
        """
        asked_at = self._clock.now()
        async with self._asking.setdefault(provisioning_session_id, asyncio.Lock()):
            kept = self._kept.get(provisioning_session_id)
            if kept is not None and not fresh and asked_at < kept.good_until:
                return kept.information
            answer = await self._m5.service_access_information(
                provisioning_session_id, etag=kept.etag if kept is not None else ""
            )
            information = answer.information
            if kept is not None and (information is None or (answer.etag and answer.etag == kept.etag)):
                information = kept.information
            if information is None:
                raise NotFound(f"service access information of {provisioning_session_id!r}: the AF has sent none")
            good_until = self._clock.now() + timedelta(seconds=answer.max_age_s)
            self._kept[provisioning_session_id] = _Kept(information, answer.etag, good_until)
            return information

    async def policy_description(self, provisioning_session_id: str, network_policy_id: str) -> PolicyTemplateBinding:
        """The policy description of a network policy id (TS 26.512 A.3.2 step 6).

        One that is not in what was kept is looked for once more at the AF. Raises PolicyDescriptionNotFound.
        """
        known: list[str] = []
        for fresh in (False, True) if provisioning_session_id in self._kept else (True,):
            information = await self.get(provisioning_session_id, fresh=fresh)
            bindings = information.dynamic_policy_invocation_configuration.policy_template_bindings
            for binding in bindings:
                if binding.external_reference == network_policy_id:
                    return binding
            known = [binding.external_reference for binding in bindings]
        raise PolicyDescriptionNotFound(
            f"network policy id {network_policy_id!r} is not announced (announced: {', '.join(known) or 'none'})"
        )

    async def follow(
        self, provisioning_session_id: str, on_change: Callable[[ServiceAccessInformation | None], None]
    ) -> None:
        """Asks again whenever what is kept has aged; ``on_change`` is told what is different, None: it is gone.

        Never returns. While the AF does not answer, what is known stays in force.
        """
        kept = self._kept.get(provisioning_session_id)
        told = kept.information if kept is not None else None
        while True:
            kept = self._kept.get(provisioning_session_id)
            good_until = kept.good_until if kept is not None else self._clock.now()
            await self._clock.sleep_until(max(good_until, self._clock.now() + timedelta(seconds=self._min_refresh_s)))
            try:
                current: ServiceAccessInformation | None = await self.get(provisioning_session_id, fresh=True)
            except NotFound:
                self._kept.pop(provisioning_session_id, None)
                current = None
            except CastcoreError as error:
                logger("client").info(
                    "service_access.kept", provisioning_session_id=provisioning_session_id, error=str(error)
                )
                await self._clock.sleep_until(self._clock.now() + timedelta(seconds=RETRY_S))
                continue
            if current is not told:
                told = current
                on_change(current)
