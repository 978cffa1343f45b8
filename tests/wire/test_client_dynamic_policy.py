"""The UE side and the provider's side against a real AF: the story of TS 26.512 A.3.2."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from af_stack import PATIENCE_S, UE, AfStack, payload_of, rule, state_name

from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1 import provisioning_pb2 as m1
from nf.client.descriptor_filter import Way
from nf.client.dynamic_policy import DynamicPolicyHandler, Flow, NoActivePolicy, PolicyAlreadyActive
from nf.client.m5_grpc import GrpcM5
from nf.client.provider import PolicyTemplateRefused, Provider
from nf.client.service_access import PolicyDescriptionNotFound, ServiceAccess
from nf.common.clock import ManualClock
from nf.common.errors import FailedPrecondition, NotFound
from nf.common.v1 import types_pb2 as types
from nf.pcf.v1 import policy_authorization_pb2 as n5


def connection(port: int) -> Flow:
    return Flow(remote_ip="198.51.100.7", remote_port=443, ue_port=port, protocol=6)


class Player:
    """Remembers what it was told to choose by: the bandwidth and the service description, or None."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int] | None] = []

    def take(self, each: m5.ServiceDescriptorFilter | None) -> None:
        self.told.append(None if each is None else (each.service_description_id, each.operating_bandwidth_max_bps))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 5, 1, tzinfo=UTC))


@pytest.fixture
async def stack(tmp_path: Path, clock: ManualClock) -> AsyncIterator[AfStack]:
    async with AfStack(tmp_path, clock=clock) as started:
        yield started


@pytest.fixture
def player() -> Player:
    return Player()


@pytest.fixture
def access(stack: AfStack, clock: ManualClock) -> ServiceAccess:
    return ServiceAccess(GrpcM5(stack.channel), clock)


@pytest.fixture
def handler(stack: AfStack, clock: ManualClock, player: Player, access: ServiceAccess) -> DynamicPolicyHandler:
    return DynamicPolicyHandler(GrpcM5(stack.channel, ue_address=UE), clock, on_filter=player.take, access=access)


@pytest.fixture
def provider(stack: AfStack) -> Provider:
    return Provider(stack.channel)


async def provisioned(provider: Provider, reference: str = "zero-rating") -> m1.PolicyTemplate:
    session = await provider.provision_session("app", asp_id="asp")
    created = await provider.create_template(
        session.provisioning_session_id,
        m1.PolicyTemplate(
            external_reference=reference,
            qos_specification=m1.M1QosSpecification(max_btr_dl_bps=5_000_000),
            service_description_id="7",
        ),
    )
    return await provider.ready(created)


@pytest.mark.clause("TS 26.512 A.3.2 step 1")
@pytest.mark.clause("TS 26.512 A.3.2 step 6")
@pytest.mark.clause("TS 26.512 A.3.2 step 7")
async def test_from_the_policy_template_to_the_players_filter_and_back(
    stack: AfStack, provider: Provider, access: ServiceAccess, handler: DynamicPolicyHandler, player: Player
):
    template = await provisioned(provider)
    session_id = template.provisioning_session_id
    description = await access.policy_description(session_id, "zero-rating")
    assert description.policy_template_id == template.policy_template_id

    policy = await handler.activate(session_id, "zero-rating", [connection(50000)], media_type=types.MEDIA_TYPE_VIDEO)
    assert (state_name(policy), policy.ue_address, policy.enforcement_bit_rate_bps) == ("ACTIVE", UE, 5_000_000)
    assert player.told == [("7", 5_000_000)]

    await handler.open_flow(connection(50001))
    assert stack.pcf.rules(policy.dynamic_policy_id) == [rule(50000), rule(50001)]
    await asyncio.gather(handler.close_flow(connection(50000)), handler.open_flow(connection(50002)))
    assert stack.pcf.rules(policy.dynamic_policy_id) == [rule(50001), rule(50002)]
    await handler.set_flows([connection(50003)])
    assert handler.flows == (connection(50003),)
    assert stack.pcf.rules(policy.dynamic_policy_id) == [rule(50003)]
    assert player.told == [("7", 5_000_000)]

    await handler.deactivate()
    assert (handler.policy, handler.flows, stack.pcf.sessions) == (None, (), {})
    assert player.told == [("7", 5_000_000), None]


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
async def test_a_refused_activation_lets_the_player_play_unfiltered(
    stack: AfStack, provider: Provider, handler: DynamicPolicyHandler, player: Player
):
    template = await provisioned(provider)
    stack.pcf.refuse["CreateAppSession"] = NotFound("no PDU session", cause="PDU_SESSION_NOT_AVAILABLE")
    with pytest.raises(NotFound) as refused:
        await handler.activate(template.provisioning_session_id, "zero-rating", [connection(50000)])
    assert refused.value.cause == "PDU_SESSION_NOT_AVAILABLE"
    assert (player.told, handler.policy) == ([None], None)


async def test_a_network_policy_id_that_is_not_announced_is_named_with_those_that_are(
    provider: Provider, handler: DynamicPolicyHandler, player: Player
):
    template = await provisioned(provider)
    with pytest.raises(PolicyDescriptionNotFound, match=r"'premium' is not announced \(announced: zero-rating\)"):
        await handler.activate(template.provisioning_session_id, "premium", [connection(50000)])
    assert player.told == [None]


async def test_one_media_session_has_one_policy_at_a_time(provider: Provider, handler: DynamicPolicyHandler):
    with pytest.raises(NoActivePolicy):
        await handler.open_flow(connection(50000))
    with pytest.raises(NoActivePolicy):
        await handler.deactivate()
    session_id = (await provisioned(provider)).provisioning_session_id
    await handler.activate(session_id, "zero-rating", [connection(50000)])
    with pytest.raises(PolicyAlreadyActive):
        await handler.activate(session_id, "zero-rating", [connection(50001)])
    await handler.deactivate()
    assert (await handler.activate(session_id, "zero-rating", [connection(50001)])).dynamic_policy_id


async def test_a_refused_flow_leaves_the_handler_as_it_was(
    stack: AfStack, provider: Provider, handler: DynamicPolicyHandler
):
    session_id = (await provisioned(provider)).provisioning_session_id
    await handler.activate(session_id, "zero-rating", [connection(50000)])
    stack.pcf.refuse["UpdateAppSession"] = FailedPrecondition("not now")
    with pytest.raises(FailedPrecondition, match="not now"):
        await handler.open_flow(connection(50001))
    assert handler.flows == (connection(50000),)


async def test_service_access_information_is_kept_for_its_max_age(
    provider: Provider, access: ServiceAccess, clock: ManualClock
):
    session_id = (await provisioned(provider)).provisioning_session_id
    first = await access.get(session_id)
    created = await provider.create_template(
        session_id,
        m1.PolicyTemplate(external_reference="premium", qos_specification=m1.M1QosSpecification(max_btr_dl_bps=1)),
    )
    await provider.ready(created)
    assert await access.get(session_id) is first
    clock.advance(timedelta(seconds=first.max_age_s))
    second = await access.get(session_id)
    assert len(second.dynamic_policy_invocation_configuration.policy_template_bindings) == 2
    assert second.etag != first.etag
    clock.advance(timedelta(seconds=first.max_age_s))
    assert await access.get(session_id) is second


async def test_a_policy_announced_since_is_found_before_the_max_age_has_passed(
    provider: Provider, access: ServiceAccess
):
    session_id = (await provisioned(provider)).provisioning_session_id
    await access.get(session_id)
    created = await provider.create_template(
        session_id,
        m1.PolicyTemplate(external_reference="premium", qos_specification=m1.M1QosSpecification(max_btr_dl_bps=1)),
    )
    await provider.ready(created)
    assert (await access.policy_description(session_id, "premium")).policy_template_id == created.policy_template_id


async def test_the_player_keeps_up_with_what_the_network_enforces(
    stack: AfStack, provider: Provider, handler: DynamicPolicyHandler, player: Player
):
    template = await provisioned(provider)
    policy = await handler.activate(template.provisioning_session_id, "zero-rating", [connection(50000)])

    async def until(told: tuple[str, int] | None) -> None:
        async with asyncio.timeout(PATIENCE_S):
            async for _ in handler.watch():
                if player.told[-1] == told:
                    return

    template.qos_specification.max_btr_dl_bps = 2_000_000
    await provider.ready(await provider.update_template(template))
    await until(("7", 2_000_000))
    await stack.pcf.tell(policy.dynamic_policy_id, n5.AF_EVENT_PDU_SESSION_STATUS)
    await until(None)
    assert player.told == [("7", 5_000_000), ("7", 2_000_000), None]
    assert handler.policy is not None
    assert handler.policy.state_reason.cause == "PDU_SESSION_NOT_AVAILABLE"
    await handler.deactivate()


async def test_a_policy_that_went_with_its_template_can_be_deactivated_all_the_same(
    stack: AfStack, provider: Provider, handler: DynamicPolicyHandler, player: Player
):
    template = await provisioned(provider)
    await handler.activate(template.provisioning_session_id, "zero-rating", [connection(50000)])
    await provider.destroy_template(template)
    async with asyncio.timeout(PATIENCE_S):
        async for _ in handler.watch():
            if player.told[-1] is None:
                break
    await stack.pcf.until(lambda: stack.pcf.sessions == {})
    await handler.deactivate()
    assert handler.policy is None


class TestProvider:
    async def test_a_template_that_is_refused_says_what_of_it(self, provider: Provider):
        session = await provider.provision_session("app")
        created = await provider.create_template(
            session.provisioning_session_id, m1.PolicyTemplate(external_reference="zero-rating")
        )
        with pytest.raises(PolicyTemplateRefused, match="'zero-rating' is INVALID: qoSSpecification") as refused:
            await provider.ready(created)
        assert refused.value.cause == "POLICY_TEMPLATE_INVALID"
        assert [each.field for each in refused.value.violations] == ["qoSSpecification"]

    async def test_readiness_after_a_change_is_not_taken_from_the_time_before_it(self, provider: Provider):
        template = await provisioned(provider)
        for bps in range(1, 6):
            template.qos_specification.max_btr_dl_bps = bps
            ready = await provider.ready(await provider.update_template(template, "qos_specification"))
            assert ready.qos_specification.max_btr_dl_bps == bps
            template.etag = ready.etag

    async def test_consumption_reporting_and_events(self, stack: AfStack, provider: Provider):
        template = await provisioned(provider)
        session_id = template.provisioning_session_id
        configured = await provider.configure_consumption_reporting(
            session_id, m1.ConsumptionReportingConfiguration(reporting_interval_s=10)
        )
        assert configured.reporting_interval_s == 10
        told = [event async for event in provider.watch(no_follow=True)]
        assert payload_of(told[0], m1.PolicyTemplateStateChanged).policy_template == template
        await provider.destroy_session(session_id)
        with pytest.raises(NotFound):
            await provider.ready(template)


class WithoutFilters(GrpcM5):
    """Speaks to an AF whose answers have no service descriptor filter."""

    async def create_dynamic_policy(self, policy: m5.DynamicPolicy, *, request_id: str = "") -> m5.DynamicPolicy:
        answer = await super().create_dynamic_policy(policy, request_id=request_id)
        answer.ClearField("service_descriptor_filter")
        return answer


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
@pytest.mark.parametrize(
    ("known", "told", "way"),
    [(("3", 4_000_000), ("3", 4_000_000), Way.LOOKED_UP), (None, ("", 5_000_000), Way.DERIVED)],
)
async def test_an_answer_without_a_filter_is_looked_up_or_else_its_bit_rate_is_the_bound(
    stack: AfStack,
    provider: Provider,
    clock: ManualClock,
    player: Player,
    known: tuple[str, int] | None,
    told: tuple[str, int],
    way: Way,
):
    template = await provisioned(provider)
    filters = {}
    if known is not None:
        descriptor_filter = m5.ServiceDescriptorFilter(
            service_description_id=known[0], operating_bandwidth_max_bps=known[1]
        )
        filters = {template.policy_template_id: descriptor_filter}
    handler = DynamicPolicyHandler(
        WithoutFilters(stack.channel, ue_address=UE), clock, on_filter=player.take, known_filters=filters
    )
    await handler.activate(template.provisioning_session_id, "zero-rating", [connection(50000)])
    assert (player.told, handler.filter_way) == ([told], way)
