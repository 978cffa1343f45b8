"""Two AFs on one PostgreSQL database: the same resources and events at both, and either may die in the middle of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from af_stack import AfStack, flow, payload_of, state_name
from live.killable_af import killable

from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1 import provisioning_pb2 as m1
from nf.af.v1.media_session_pb2_grpc import AfEventsServiceStub, DynamicPoliciesServiceStub
from nf.af.v1.provisioning_pb2_grpc import PolicyTemplatesServiceStub, ProvisioningSessionsServiceStub
from nf.common.channels import Channels
from nf.common.errors import Cancelled, CastcoreError, Unavailable
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.pcf.v1 import policy_authorization_pb2 as n5

PATIENCE_S = 30.0


class Watcher:
    """What one AF tells, from the first event on."""

    def __init__(self, channels: Channels) -> None:
        self.events: list[Event] = []
        self._more = asyncio.Condition()
        self._task = asyncio.create_task(self._watch(AfEventsServiceStub(channels.get("af"))))

    async def _watch(self, stub: AfEventsServiceStub) -> None:
        async for answer in stub.WatchEvents(WatchEventsRequest()):
            async with self._more:
                self.events.append(answer.event)
                self._more.notify_all()

    async def until(self, count: int, event_type: str) -> None:
        """Returns when so many events of that type have come."""
        async with asyncio.timeout(PATIENCE_S), self._more:
            await self._more.wait_for(lambda: self.count(event_type) >= count)

    def count(self, event_type: str) -> int:
        return sum(event.type == event_type for event in self.events)

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def provision(channels: Channels) -> m1.PolicyTemplate:
    """A session with a template, READY."""
    sessions = ProvisioningSessionsServiceStub(channels.get("af"))
    templates = PolicyTemplatesServiceStub(channels.get("af"))
    wanted = m1.ProvisioningSession(
        provisioning_session_type=m1.PROVISIONING_SESSION_TYPE_DOWNLINK, app_id="app", asp_id="asp"
    )
    made = await sessions.CreateProvisioningSession(m1.CreateProvisioningSessionRequest(provisioning_session=wanted))
    session_id = made.provisioning_session.provisioning_session_id
    template = m1.PolicyTemplate(
        external_reference="zero-rating",
        qos_specification=m1.M1QosSpecification(max_btr_dl_bps=5_000_000, max_auth_btr_dl_bps=8_000_000),
    )
    request = m1.CreatePolicyTemplateRequest(provisioning_session_id=session_id, policy_template=template)
    created = (await templates.CreatePolicyTemplate(request)).policy_template
    async with asyncio.timeout(PATIENCE_S):
        async for answer in AfEventsServiceStub(channels.get("af")).WatchEvents(WatchEventsRequest()):
            told = m1.PolicyTemplateStateChanged()
            if answer.event.payload.Unpack(told) and told.policy_template.state == m1.PolicyTemplate.STATE_READY:
                break
    return created


def creation(template: m1.PolicyTemplate, port: int) -> m5.CreateDynamicPolicyRequest:
    return m5.CreateDynamicPolicyRequest(
        dynamic_policy=m5.DynamicPolicy(
            provisioning_session_id=template.provisioning_session_id,
            policy_template_id=template.policy_template_id,
            service_data_flow_descriptions=[flow(port)],
        ),
        request_id=f"r-{port}",
    )


async def create(afs: Sequence[DynamicPoliciesServiceStub], request: m5.CreateDynamicPolicyRequest) -> m5.DynamicPolicy:
    """What a client does: it asks the first AF, and where that is away the next."""
    for af in afs[:-1]:
        try:
            return (await af.CreateDynamicPolicy(request)).dynamic_policy
        except (Unavailable, Cancelled):
            continue
    return (await afs[-1].CreateDynamicPolicy(request)).dynamic_policy


def activated(events: Sequence[Event]) -> Counter[str]:
    """How often each policy has been told to have become ACTIVE."""
    told = [payload_of(event, m5.DynamicPolicyStateChanged) for event in events if event.type == "DYNAMIC_POLICY_STATE"]
    return Counter(
        each.dynamic_policy.dynamic_policy_id
        for each in told
        if each.dynamic_policy.state == m5.DynamicPolicy.STATE_ACTIVE
        and each.previous_state == m5.DynamicPolicy.STATE_ACTIVATING
    )


async def test_two_afs_serve_the_same_resources_and_tell_the_same_events(tmp_path: Path, postgresql_url: str) -> None:
    async with AfStack(tmp_path) as stack:  # noqa: SIM117 (the others need its address)
        async with (
            killable(postgresql_url, stack.pcf_address) as (_, one),
            killable(postgresql_url, stack.pcf_address) as (_, other),
        ):
            watchers = Watcher(one), Watcher(other)
            template = await provision(one)
            afs = [DynamicPoliciesServiceStub(each.get("af")) for each in (one, other)]
            made = await asyncio.gather(*(create([afs[n % 2]], creation(template, 50_000 + n)) for n in range(40)))
            # A repeat at the other AF is answered with what the first has made.
            assert await create([afs[1]], creation(template, 50_000)) == made[0]
            for af in afs:
                listed = await af.ListDynamicPolicies(m5.ListDynamicPoliciesRequest())
                assert {each.dynamic_policy_id for each in listed.dynamic_policies} == {
                    each.dynamic_policy_id for each in made
                }
            changed = m5.UpdateDynamicPolicyRequest(
                dynamic_policy=m5.DynamicPolicy(
                    dynamic_policy_id=made[0].dynamic_policy_id,
                    service_data_flow_descriptions=[flow(60_000)],
                    etag=made[0].etag,
                )
            )
            await afs[1].UpdateDynamicPolicy(changed)
            with pytest.raises(CastcoreError) as stale:
                await afs[0].UpdateDynamicPolicy(changed)
            assert stale.value.code == "ABORTED"
            await stack.pcf.tell(made[1].dynamic_policy_id, n5.AF_EVENT_QOS_NOTIF, compliant=False)
            for watcher in watchers:
                await watcher.until(1, "QOS_NOTIF")
                await watcher.until(41, "DYNAMIC_POLICY_STATE")
            told = [watcher.events for watcher in watchers]
            assert told[0] == told[1]
            assert [event.sequence for event in told[0]] == list(range(1, len(told[0]) + 1))
            assert activated(told[0]) == {each.dynamic_policy_id: 1 for each in made}
            for watcher in watchers:
                await watcher.end()


async def test_an_af_that_is_killed_in_mid_load_leaves_nothing_undone_and_nothing_done_twice(
    tmp_path: Path, postgresql_url: str
) -> None:
    async with AfStack(tmp_path) as stack, killable(postgresql_url, stack.pcf_address) as (process, one):
        # It is the one on duty: it was the first.
        template = await provision(one)
        async with killable(postgresql_url, stack.pcf_address) as (_, other):
            watchers = Watcher(one), Watcher(other)
            dying, staying = (DynamicPoliciesServiceStub(each.get("af")) for each in (one, other))
            early = [await create([dying], creation(template, 40_000 + number)) for number in range(5)]
            for policy in early:
                await stack.pcf.tell(policy.dynamic_policy_id, n5.AF_EVENT_QOS_NOTIF, compliant=False)
            await watchers[0].until(5, "QOS_NOTIF")

            # Owed by the one that dies: the end of a policy that the PCF would not hear of.
            stack.pcf.refuse["DeleteAppSession"] = Unavailable("out for lunch")
            with pytest.raises(CastcoreError):
                await dying.DeleteDynamicPolicy(
                    m5.DeleteDynamicPolicyRequest(dynamic_policy_id=early[0].dynamic_policy_id)
                )
            # Under way at the one that dies: activations that the PCF has made and not answered.
            sessions = len(stack.pcf.sessions)
            stack.pcf.hold["CreateAppSession"] = asyncio.Event()
            orders = ([dying, staying], [staying])
            making = [
                asyncio.create_task(create(orders[number % 2], creation(template, 50_000 + number)))
                for number in range(40)
            ]
            await stack.pcf.until(lambda: len(stack.pcf.sessions) == sessions + 40)
            process.kill()
            await process.wait()
            stack.pcf.refuse.clear()
            stack.pcf.hold.pop("CreateAppSession").set()
            made = await asyncio.gather(*making)
            assert {state_name(each) for each in made} == {"ACTIVE"}
            for policy in early[1:]:
                await stack.pcf.tell(policy.dynamic_policy_id, n5.AF_EVENT_QOS_NOTIF, compliant=True)

            # What is in force at the PCF is what was acknowledged: the rest has been ended by the one that is left.
            kept = {each.dynamic_policy_id for each in (*early[1:], *made)}
            async with asyncio.timeout(PATIENCE_S):
                await stack.pcf.until(lambda: set(stack.pcf.sessions) == kept)
                await watchers[1].until(9, "QOS_NOTIF")
                while True:
                    listed = await staying.ListDynamicPolicies(m5.ListDynamicPoliciesRequest())
                    if {each.dynamic_policy_id for each in listed.dynamic_policies} == kept:
                        break
            told = watchers[1].events
            assert [event.sequence for event in told] == list(range(1, len(told) + 1))
            assert activated(told) == {each.dynamic_policy_id: 1 for each in (*early, *made)}
            notified = Counter(event.subject for event in told if event.type == "QOS_NOTIF")
            assert notified == {
                f"dynamic-policies/{each.dynamic_policy_id}": 1 if each is early[0] else 2 for each in early
            }
            # The watcher of the dead one has seen the beginning of the same.
            seen = watchers[0].events
            assert len(seen) >= 10
            assert seen == told[: len(seen)]
            for watcher in watchers:
                await watcher.end()
