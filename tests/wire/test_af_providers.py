"""M1 at an AF that knows its providers: who may do what, over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from af_stack import AfStack

from nf.af.config import ProviderSection
from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1 import provisioning_pb2 as m1
from nf.common.errors import CastcoreError, NotFound, PermissionDenied, Unauthenticated

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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AfStack]:
    async with AfStack(tmp_path_factory.mktemp("af"), config={"providers": PROVIDERS}) as started:
        yield started


async def make_session(stack: AfStack, token: str, *, asp_id: str = "", request_id: str = "") -> m1.ProvisioningSession:
    wanted = m1.ProvisioningSession(
        provisioning_session_type=m1.PROVISIONING_SESSION_TYPE_DOWNLINK, app_id="app", asp_id=asp_id
    )
    request = m1.CreateProvisioningSessionRequest(provisioning_session=wanted, request_id=request_id)
    answer = await stack.sessions.CreateProvisioningSession(request, metadata=by(token))
    return answer.provisioning_session


async def make_template(stack: AfStack, token: str, session_id: str) -> m1.PolicyTemplate:
    template = m1.PolicyTemplate(
        external_reference="zero-rating", qos_specification=m1.M1QosSpecification(max_btr_dl_bps=5_000_000)
    )
    request = m1.CreatePolicyTemplateRequest(provisioning_session_id=session_id, policy_template=template)
    return (await stack.templates.CreatePolicyTemplate(request, metadata=by(token))).policy_template


Call = Callable[[AfStack, str, str, Metadata], Awaitable[object]]


def _calls() -> dict[str, Call]:
    """Every call of M1 about something that exists: stack, session, template, metadata."""
    return {
        "GetProvisioningSession": lambda stack, session, _, metadata: stack.sessions.GetProvisioningSession(
            m1.GetProvisioningSessionRequest(provisioning_session_id=session), metadata=metadata
        ),
        "DeleteProvisioningSession": lambda stack, session, _, metadata: stack.sessions.DeleteProvisioningSession(
            m1.DeleteProvisioningSessionRequest(provisioning_session_id=session), metadata=metadata
        ),
        "GetContentProtocols": lambda stack, session, _, metadata: stack.sessions.GetContentProtocols(
            m1.GetContentProtocolsRequest(provisioning_session_id=session), metadata=metadata
        ),
        "CreatePolicyTemplate": lambda stack, session, _, metadata: stack.templates.CreatePolicyTemplate(
            m1.CreatePolicyTemplateRequest(provisioning_session_id=session), metadata=metadata
        ),
        "GetPolicyTemplate": lambda stack, session, template, metadata: stack.templates.GetPolicyTemplate(
            m1.GetPolicyTemplateRequest(provisioning_session_id=session, policy_template_id=template),
            metadata=metadata,
        ),
        "ListPolicyTemplates": lambda stack, session, _, metadata: stack.templates.ListPolicyTemplates(
            m1.ListPolicyTemplatesRequest(provisioning_session_id=session), metadata=metadata
        ),
        "UpdatePolicyTemplate": lambda stack, session, template, metadata: stack.templates.UpdatePolicyTemplate(
            m1.UpdatePolicyTemplateRequest(
                policy_template=m1.PolicyTemplate(provisioning_session_id=session, policy_template_id=template)
            ),
            metadata=metadata,
        ),
        "DeletePolicyTemplate": lambda stack, session, template, metadata: stack.templates.DeletePolicyTemplate(
            m1.DeletePolicyTemplateRequest(provisioning_session_id=session, policy_template_id=template),
            metadata=metadata,
        ),
        "SuspendPolicyTemplate": lambda stack, session, template, metadata: stack.templates.SuspendPolicyTemplate(
            m1.SuspendPolicyTemplateRequest(provisioning_session_id=session, policy_template_id=template),
            metadata=metadata,
        ),
        "ResumePolicyTemplate": lambda stack, session, template, metadata: stack.templates.ResumePolicyTemplate(
            m1.ResumePolicyTemplateRequest(provisioning_session_id=session, policy_template_id=template),
            metadata=metadata,
        ),
        "CreateConsumptionReportingConfiguration": lambda stack, session, _, metadata: (
            stack.consumption.CreateConsumptionReportingConfiguration(
                m1.CreateConsumptionReportingConfigurationRequest(provisioning_session_id=session), metadata=metadata
            )
        ),
        "GetConsumptionReportingConfiguration": lambda stack, session, _, metadata: (
            stack.consumption.GetConsumptionReportingConfiguration(
                m1.GetConsumptionReportingConfigurationRequest(provisioning_session_id=session), metadata=metadata
            )
        ),
        "UpdateConsumptionReportingConfiguration": lambda stack, session, _, metadata: (
            stack.consumption.UpdateConsumptionReportingConfiguration(
                m1.UpdateConsumptionReportingConfigurationRequest(
                    consumption_reporting_configuration=m1.ConsumptionReportingConfiguration(
                        provisioning_session_id=session
                    )
                ),
                metadata=metadata,
            )
        ),
        "DeleteConsumptionReportingConfiguration": lambda stack, session, _, metadata: (
            stack.consumption.DeleteConsumptionReportingConfiguration(
                m1.DeleteConsumptionReportingConfigurationRequest(provisioning_session_id=session), metadata=metadata
            )
        ),
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def owned(stack: AfStack) -> tuple[str, str]:
    """A session and a template of alpha."""
    session = await make_session(stack, ALPHA)
    template = await make_template(stack, ALPHA, session.provisioning_session_id)
    return session.provisioning_session_id, template.policy_template_id


@pytest.mark.parametrize("name", _calls())
async def test_without_a_credential_nothing_of_m1_is_answered(stack: AfStack, owned: tuple[str, str], name: str):
    for metadata in ((), by("wrong-0123456789abcdef")):
        with pytest.raises(Unauthenticated, match="authorization"):
            await _calls()[name](stack, *owned, metadata)


@pytest.mark.parametrize("name", _calls())
async def test_what_is_another_provider_s_does_not_exist(stack: AfStack, owned: tuple[str, str], name: str):
    session, _ = owned
    with pytest.raises(NotFound, match=f"ProvisioningSession {session!r} does not exist"):
        await _calls()[name](stack, *owned, by(BETA))
    # And it is still there.
    await _calls()["GetPolicyTemplate"](stack, *owned, by(ALPHA))


async def test_every_call_of_m1_about_something_that_exists_is_in_the_table():
    services = m1.DESCRIPTOR.services_by_name
    methods = {
        method.name
        for name in (
            "ProvisioningSessionsService",
            "PolicyTemplatesService",
            "ConsumptionReportingProvisioningService",
        )
        for method in services[name].methods
    }
    assert methods - set(_calls()) == {"CreateProvisioningSession", "ListProvisioningSessions"}


async def test_a_new_session_is_the_caller_s_and_no_other_s(stack: AfStack):
    assert (await make_session(stack, ALPHA)).asp_id == "alpha"
    assert (await make_session(stack, ALPHA, asp_id="alpha")).asp_id == "alpha"
    with pytest.raises(PermissionDenied, match="'alpha' may not act for 'beta'") as refused:
        await make_session(stack, ALPHA, asp_id="beta")
    assert refused.value.reason == "NOT_OWN_ASP_ID"
    assert (await make_session(stack, OPERATOR, asp_id="beta")).asp_id == "beta"
    with pytest.raises(Unauthenticated):
        await stack.new_session()


async def test_a_list_has_the_caller_s_own_and_goes_on_by_pages(stack: AfStack):
    made = [(await make_session(stack, BETA)).provisioning_session_id for _ in range(3)]
    await make_session(stack, ALPHA)
    found: list[str] = []
    token = ""
    while True:
        page = await stack.sessions.ListProvisioningSessions(
            m1.ListProvisioningSessionsRequest(page_size=2, page_token=token), metadata=by(BETA)
        )
        assert all(each.asp_id == "beta" for each in page.provisioning_sessions)
        found += [each.provisioning_session_id for each in page.provisioning_sessions]
        token = page.next_page_token
        if not token:
            break
        assert len(page.provisioning_sessions) == 2
    assert found[-3:] == made
    everything = await stack.sessions.ListProvisioningSessions(
        m1.ListProvisioningSessionsRequest(page_size=1000), metadata=by(OPERATOR)
    )
    assert {each.asp_id for each in everything.provisioning_sessions} == {"alpha", "beta"}
    with pytest.raises(Unauthenticated):
        await stack.sessions.ListProvisioningSessions(m1.ListProvisioningSessionsRequest())


async def test_a_template_is_suspended_and_resumed_by_the_operator_alone(stack: AfStack):
    session = await make_session(stack, ALPHA)
    template = await make_template(stack, ALPHA, session.provisioning_session_id)
    named = {
        "provisioning_session_id": session.provisioning_session_id,
        "policy_template_id": template.policy_template_id,
    }
    for call, request in (
        (stack.templates.SuspendPolicyTemplate, m1.SuspendPolicyTemplateRequest(**named)),
        (stack.templates.ResumePolicyTemplate, m1.ResumePolicyTemplateRequest(**named)),
    ):
        with pytest.raises(PermissionDenied, match="only the operator may") as refused:
            await call(request, metadata=by(ALPHA))
        assert refused.value.reason == "OPERATOR_ONLY"
    # The operator is refused by the state at most.
    with pytest.raises(CastcoreError) as told:
        await stack.templates.ResumePolicyTemplate(m1.ResumePolicyTemplateRequest(**named), metadata=by(OPERATOR))
    assert told.value.reason == "INVALID_TRANSITION"


async def test_a_request_id_of_one_provider_does_not_answer_another(stack: AfStack):
    first = await make_session(stack, ALPHA, request_id="r-1")
    assert await make_session(stack, ALPHA, request_id="r-1") == first
    second = await make_session(stack, BETA, request_id="r-1")
    assert second.provisioning_session_id != first.provisioning_session_id
    assert second.asp_id == "beta"


async def test_m5_asks_ues_for_no_credential(stack: AfStack, owned: tuple[str, str]):
    answer = await stack.access.GetServiceAccessInformation(
        m5.GetServiceAccessInformationRequest(provisioning_session_id=owned[0])
    )
    assert answer.service_access_information.provisioning_session_id == owned[0]
    assert list((await stack.policies.ListDynamicPolicies(m5.ListDynamicPoliciesRequest())).dynamic_policies) == []
