"""Whom the AF tells what: providers of their sessions, UEs of their policies, the operator everything."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from af_stack import OTHER_UE, UE, AfStack, flow

from nf.af.config import ProviderSection
from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1 import provisioning_pb2 as m1
from nf.common.errors import Unauthenticated
from nf.common.v1.events_pb2 import Event, WatchEventsRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALPHA, BETA, OPERATOR = "alpha-0123456789abcdef", "beta-0123456789abcdef", "operator-0123456789abcdef"
PROVIDERS = (
    ProviderSection(asp_id="alpha", token=ALPHA),
    ProviderSection(asp_id="beta", token=BETA),
    ProviderSection(asp_id="net", token=OPERATOR, operator=True),
)
Metadata = tuple[tuple[str, str], ...]


def by(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


async def told(stack: AfStack, metadata: Metadata) -> list[tuple[str, str]]:
    """The subjects and types of all events that the caller is told."""
    stream = stack.events.WatchEvents(WatchEventsRequest(no_follow=True), metadata=metadata)
    return [(each.event.subject, each.event.type) async for each in stream]


async def ready(stack: AfStack, token: str) -> m1.PolicyTemplate:
    """A READY template of a new session."""
    wanted = m1.ProvisioningSession(provisioning_session_type=m1.PROVISIONING_SESSION_TYPE_DOWNLINK, app_id="app")
    session = await stack.sessions.CreateProvisioningSession(
        m1.CreateProvisioningSessionRequest(provisioning_session=wanted), metadata=by(token)
    )
    template = m1.PolicyTemplate(
        external_reference="zero-rating", qos_specification=m1.M1QosSpecification(max_btr_dl_bps=5_000_000)
    )
    created = await stack.templates.CreatePolicyTemplate(
        m1.CreatePolicyTemplateRequest(
            provisioning_session_id=session.provisioning_session.provisioning_session_id, policy_template=template
        ),
        metadata=by(token),
    )
    subject = f"policy-templates/{created.policy_template.policy_template_id}"
    async for each in stack.events.WatchEvents(WatchEventsRequest(subject=subject), metadata=by(token)):
        assert each.event.type == "POLICY_TEMPLATE_STATE"
        break
    return created.policy_template


async def activate(stack: AfStack, template: m1.PolicyTemplate, ue: str) -> m5.DynamicPolicy:
    return await stack.activate(template, flow(50_000, ue=ue))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AfStack]:
    async with AfStack(tmp_path_factory.mktemp("af"), config={"providers": PROVIDERS}) as started:
        yield started


Subjects = dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def subjects(stack: AfStack) -> Subjects:
    """Templates of two providers, with policies of two UEs under that of alpha."""
    alpha, beta = await ready(stack, ALPHA), await ready(stack, BETA)
    first, second = await activate(stack, alpha, UE), await activate(stack, alpha, OTHER_UE)
    third = await activate(stack, beta, UE)
    return {
        "alpha": f"policy-templates/{alpha.policy_template_id}",
        "beta": f"policy-templates/{beta.policy_template_id}",
        "alpha at UE": f"dynamic-policies/{first.dynamic_policy_id}",
        "alpha at OTHER_UE": f"dynamic-policies/{second.dynamic_policy_id}",
        "beta at UE": f"dynamic-policies/{third.dynamic_policy_id}",
    }


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        (by(ALPHA), {"alpha", "alpha at UE", "alpha at OTHER_UE"}),
        (by(BETA), {"beta", "beta at UE"}),
        (by(OPERATOR), {"alpha", "beta", "alpha at UE", "alpha at OTHER_UE", "beta at UE"}),
        ((("x-ue-address", UE),), {"alpha at UE", "beta at UE"}),
        ((("x-ue-address", OTHER_UE),), {"alpha at OTHER_UE"}),
        ((("x-ue-address", "10.45.0.99"),), set()),
        ((), {"alpha at UE", "alpha at OTHER_UE", "beta at UE"}),
    ],
)
async def test_each_is_told_what_is_about_its_own(
    stack: AfStack, subjects: Subjects, metadata: Metadata, names: set[str]
):
    assert {subject for subject, _ in await told(stack, metadata)} == {subjects[name] for name in names}


async def test_a_wrong_token_is_told_nothing(stack: AfStack):
    with pytest.raises(Unauthenticated):
        await told(stack, by("wrong-0123456789abcdef"))


async def test_an_event_says_whom_it_is_for(stack: AfStack, subjects: Subjects):
    events: dict[str, Event] = {}
    async for each in stack.events.WatchEvents(WatchEventsRequest(no_follow=True), metadata=by(OPERATOR)):
        events[each.event.subject] = each.event
    assert list(events[subjects["alpha"]].audience) == ["provider/alpha"]
    assert list(events[subjects["beta at UE"]].audience) == ["provider/beta", f"ue/{UE}/32"]


async def test_what_ends_with_its_session_is_told_to_its_provider_all_the_same(stack: AfStack):
    template = await ready(stack, ALPHA)
    policy = await activate(stack, template, UE)
    request = m1.DeleteProvisioningSessionRequest(provisioning_session_id=template.provisioning_session_id)
    await stack.sessions.DeleteProvisioningSession(request, metadata=by(ALPHA))
    subject = f"dynamic-policies/{policy.dynamic_policy_id}"
    states = [m5.DynamicPolicy.STATE_ACTIVE, m5.DynamicPolicy.STATE_TERMINATED]
    for metadata in (by(ALPHA), (("x-ue-address", UE),)):
        found = []
        stream = stack.events.WatchEvents(WatchEventsRequest(subject=subject, no_follow=True), metadata=metadata)
        async for each in stream:
            changed = m5.DynamicPolicyStateChanged()
            if each.event.payload.Unpack(changed):
                found.append(changed.dynamic_policy.state)
        assert found[: len(states)] == states
