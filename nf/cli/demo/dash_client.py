"""The 5GMS client of the DASH demo, told as it goes: M5 and the player do what they do, and say which step it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from nf.af.v1.consumption_reporting_pb2 import ConsumptionReport
from nf.af.v1.media_session_pb2 import DynamicPolicy, ServiceDescriptorFilter
from nf.client.dash.combinations import adaptation_sets, allowed, bounds_of, combinations
from nf.client.dash.descriptor_filters import from_message
from nf.client.dash.http_connection import Opener
from nf.client.dash.player import DashPlayer
from nf.client.dash.settings import Settings
from nf.client.m5 import M5, ServiceAccessAnswer
from nf.client.m7 import PlayerListener
from nf.common.clock import Clock
from nf.common.v1.types_pb2 import EnforcementMethod
from upf.units import format_bit_rate

Tell = Callable[[int, str], None]
"""Told a step of A.3.2 by its number (0: none of them), and what happened."""

_HANDLER: Final = "the Media Session Handler"


def method_of(policy: DynamicPolicy) -> str:
    """The enforcement method by its name."""
    return EnforcementMethod.Name(policy.enforcement_method).removeprefix("ENFORCEMENT_METHOD_")


class ToldM5:
    """M5 that tells steps 6 and 7."""

    def __init__(self, m5: M5, network_policy_id: str, tell: Tell) -> None:
        self._m5 = m5
        self._network_policy_id = network_policy_id
        self._tell = tell

    async def service_access_information(self, provisioning_session_id: str, *, etag: str = "") -> ServiceAccessAnswer:
        """Step 6."""
        answer = await self._m5.service_access_information(provisioning_session_id, etag=etag)
        information = answer.information
        if information is not None:
            for binding in information.dynamic_policy_invocation_configuration.policy_template_bindings:
                if binding.external_reference == self._network_policy_id:
                    self._tell(
                        6,
                        f"{_HANDLER} finds the Policy Description by {self._network_policy_id!r} in the Service Access "
                        f"Information (M5): Policy Template {binding.policy_template_id[:8]}",
                    )
        return answer

    async def create_dynamic_policy(self, policy: DynamicPolicy, *, request_id: str = "") -> DynamicPolicy:
        """Step 7."""
        made = await self._m5.create_dynamic_policy(policy, request_id=request_id)
        self._tell(
            7,
            f"{_HANDLER} activates Dynamic Policy {made.dynamic_policy_id[:8]} on M5 for {_flows(policy)}: "
            f"{method_of(made)} at {format_bit_rate(made.enforcement_bit_rate_bps)}",
        )
        return made

    async def update_dynamic_policy(self, policy: DynamicPolicy, paths: Sequence[str]) -> DynamicPolicy:
        """Step 7, with every connection opened and closed."""
        updated = await self._m5.update_dynamic_policy(policy, paths)
        self._tell(7, f"{_HANDLER} updates the Dynamic Policy with the TCP connections that are open: {_flows(policy)}")
        return updated

    async def get_dynamic_policy(self, dynamic_policy_id: str) -> DynamicPolicy:
        """As it is."""
        return await self._m5.get_dynamic_policy(dynamic_policy_id)

    async def delete_dynamic_policy(self, dynamic_policy_id: str) -> None:
        """The end."""
        await self._m5.delete_dynamic_policy(dynamic_policy_id)

    def watch_dynamic_policy(self, dynamic_policy_id: str) -> AsyncIterator[DynamicPolicy]:
        """As it is."""
        return self._m5.watch_dynamic_policy(dynamic_policy_id)

    async def report_consumption(
        self, provisioning_session_id: str, report: ConsumptionReport, server_addresses: Sequence[str] = ()
    ) -> None:
        """As it is."""
        await self._m5.report_consumption(provisioning_session_id, report, server_addresses)

    def for_ue(self, ue_address: str) -> M5:
        """The same for another UE, which tells its steps, too."""
        return ToldM5(self._m5.for_ue(ue_address), self._network_policy_id, self._tell)

    async def close(self) -> None:
        """As it is."""
        await self._m5.close()


def _flows(policy: DynamicPolicy) -> str:
    told = []
    for description in policy.service_data_flow_descriptions:
        flow = description.flow_description
        told.append(f"{flow.src_ip}:{flow.src_port} > UE:{flow.dst_port}")
    return ", ".join(told)


class ToldPlayer(DashPlayer):
    """A DASH player that tells steps 7, 8 and 9, and remembers what it was told."""

    def __init__(self, clock: Clock, settings: Settings, opener: Opener, tell: Tell) -> None:
        super().__init__(clock, settings, opener=opener)
        self.told = ServiceDescriptorFilter()
        self.compliant: tuple[str, ...] = ()
        self._ignores = settings.ignore_filter
        self._tell = tell

    def set_filter(self, service_descriptor_filter: ServiceDescriptorFilter | None) -> None:
        """Step 7: the notification."""
        super().set_filter(service_descriptor_filter)
        wanted = self.descriptor_filter
        if service_descriptor_filter is None or wanted is None:
            return
        self.told = service_descriptor_filter
        named = f"Service Description {wanted.service_description_id}, " if wanted.service_description_id else ""
        most_bps = wanted.operating_bandwidth_max_bps
        bound = "" if most_bps is None else f"at most {format_bit_rate(most_bps)}"
        self._tell(7, f"{_HANDLER} notifies the DASH Player of the Service Descriptor Filter: {named}{bound}")

    async def start(self, entry: str, listener: PlayerListener) -> None:
        """Steps 8 and 9."""
        await super().start(entry, listener)
        presentation = self.presentation
        assert presentation is not None
        self._tell(8, f"the DASH Player fetches the MPD of the selected content: {presentation.url}")
        candidates = combinations(adaptation_sets(presentation.periods[0]))
        bounds = bounds_of(presentation.service_descriptions, from_message(self.told))
        found = allowed(candidates, bounds)
        compliant = found.combinations if found.compliant else ()
        self.compliant = tuple(each.ids[0] for each in compliant)
        source = bounds.service_description
        named = f"Service Description {source.id}" if source is not None else "the bit rate"
        chosen = f"{len(compliant)} of {len(candidates)} combinations of representations comply with {named}"
        if self._ignores:
            self._tell(9, f"{chosen}, and the DASH Player ignores it: it takes whatever the network carries")
        else:
            names = ", ".join(self.compliant) or "none"
            self._tell(9, f"{chosen} ({names}): the DASH Player selects only these")
