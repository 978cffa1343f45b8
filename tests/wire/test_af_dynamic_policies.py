"""M5 at the AF over gRPC: dynamic policies activated, changed and ended, and every refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from af_stack import OTHER_UE, UE, AfStack, flow, payload_of, rule, state_name
from google.protobuf.field_mask_pb2 import FieldMask

from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1 import provisioning_pb2 as m1
from nf.common.errors import (
    AlreadyExists,
    DeadlineExceeded,
    EtagMismatch,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from nf.common.v1 import types_pb2 as types
from nf.pcf.v1 import policy_authorization_pb2 as n5

FLOWS = "dynamic_policy.service_data_flow_descriptions"
REFUSAL = NotFound(
    "no PDU session has the address 10.45.0.2",
    reason="PDU_SESSION_NOT_AVAILABLE",
    cause="PDU_SESSION_NOT_AVAILABLE",
    violations=[FieldViolation("asc_req_data.ue_ipv4", "unknown")],
)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[AfStack]:
    async with AfStack(tmp_path) as started:
        yield started


async def change(
    stack: AfStack,
    policy: m5.DynamicPolicy,
    *flows: m5.ServiceDataFlowDescription,
    etag: str = "",
    mask=None,
    **changes,
) -> m5.DynamicPolicy:
    request = m5.UpdateDynamicPolicyRequest(
        dynamic_policy=m5.DynamicPolicy(
            dynamic_policy_id=policy.dynamic_policy_id, service_data_flow_descriptions=flows, etag=etag, **changes
        ),
        update_mask=FieldMask(paths=mask or ["service_data_flow_descriptions"]),
    )
    return (await stack.policies.UpdateDynamicPolicy(request)).dynamic_policy


async def delete(stack: AfStack, policy: m5.DynamicPolicy, etag: str = "") -> None:
    request = m5.DeleteDynamicPolicyRequest(dynamic_policy_id=policy.dynamic_policy_id, etag=etag)
    await stack.policies.DeleteDynamicPolicy(request)


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
async def test_a_template_is_activated_for_the_flows_of_a_media_session(stack: AfStack):
    template = await stack.provision(service_description_id="7")
    policy = await stack.activate(
        template,
        flow(50000),
        flow(50001),
        media_type=types.MEDIA_TYPE_VIDEO,
        # What the AF sets is not the client's to say.
        dynamic_policy_id="mine",
        enforcement_bit_rate_bps=1,
        state=m5.DynamicPolicy.STATE_TERMINATED,
        ue_address=OTHER_UE,
    )
    assert state_name(policy) == "ACTIVE"
    assert len(policy.dynamic_policy_id) == 32
    assert policy.ue_address == UE
    assert policy.enforcement_method == types.ENFORCEMENT_METHOD_MONITOR
    assert policy.enforcement_bit_rate_bps == 5_000_000
    assert policy.service_descriptor_filter == m5.ServiceDescriptorFilter(
        service_description_id="7", operating_bandwidth_max_bps=5_000_000, media_type=types.MEDIA_TYPE_VIDEO
    )
    assert await stack.policy(policy.dynamic_policy_id) == policy

    asked = stack.pcf.sessions[policy.dynamic_policy_id].asc_req_data
    assert (asked.ue_ipv4, asked.af_app_id, asked.asp_id) == (UE, "app", "asp")
    assert asked.med_components[0].max_auth_bw_dl_bps == 8_000_000
    assert stack.pcf.rules(policy.dynamic_policy_id) == [rule(50000), rule(50001)]
    event = await stack.policy_state(policy.dynamic_policy_id, "ACTIVE")
    assert payload_of(event, m5.DynamicPolicyStateChanged).dynamic_policy == policy
    assert event.subject == f"dynamic-policies/{policy.dynamic_policy_id}"


@pytest.mark.clause("TS 26.512 A.3.2 step 6")
async def test_the_threshold_is_the_least_of_what_is_asked_for_and_what_the_network_sets(stack: AfStack):
    template = await stack.provision()
    qos = m5.M5QosSpecification(mar_bw_dl_bps=3_000_000)
    assert (await stack.activate(template, qos_specification=qos)).enforcement_bit_rate_bps == 3_000_000
    stack.pcf.threshold_dl_bps, stack.pcf.method = 2_000_000, types.ENFORCEMENT_METHOD_POLICE
    policy = await stack.activate(template, flow(50001), qos_specification=qos)
    assert policy.enforcement_bit_rate_bps == policy.service_descriptor_filter.operating_bandwidth_max_bps == 2_000_000
    assert policy.enforcement_method == types.ENFORCEMENT_METHOD_POLICE


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
async def test_an_update_tells_the_network_of_every_flow_opened_and_closed(stack: AfStack):
    template = await stack.provision()
    policy = await stack.activate(template, flow(50000), flow(50001))
    policy_id = policy.dynamic_policy_id
    changed = await change(stack, policy, flow(50001), flow(50002), etag=policy.etag)
    assert list(changed.service_data_flow_descriptions) == [flow(50001), flow(50002)]
    assert changed.etag != policy.etag
    component = stack.pcf.sessions[policy_id].asc_req_data.med_components[0]
    assert {sub.f_num: sub.f_descs[0] for sub in component.med_sub_comps} == {2: rule(50001), 3: rule(50002)}
    assert "med_components" in stack.pcf.masks[-1]

    closed = await change(stack, changed)
    assert state_name(closed) == "ACTIVE"
    assert list(closed.service_data_flow_descriptions) == []
    assert stack.pcf.rules(policy_id) == []
    reopened = await change(stack, closed, flow(50003))
    assert stack.pcf.rules(policy_id) == [rule(50003)]
    assert reopened.enforcement_bit_rate_bps == 5_000_000


async def test_an_update_of_the_qos_moves_the_threshold(stack: AfStack):
    policy = await stack.activate(await stack.provision())
    changed = await change(
        stack,
        policy,
        mask=["qos_specification", "media_type"],
        qos_specification=m5.M5QosSpecification(mar_bw_dl_bps=1_000_000),
        media_type=types.MEDIA_TYPE_AUDIO,
    )
    assert changed.enforcement_bit_rate_bps == 1_000_000
    assert changed.service_descriptor_filter.media_type == types.MEDIA_TYPE_AUDIO
    assert list(changed.service_data_flow_descriptions) == [flow(50000)]
    told = (await stack.history(f"dynamic-policies/{policy.dynamic_policy_id}"))[-1]
    assert payload_of(told, m5.DynamicPolicyStateChanged).dynamic_policy == changed


async def test_a_deleted_policy_ends_at_the_pcf_and_its_usage_is_told(stack: AfStack):
    policy = await stack.activate(await stack.provision())
    stack.pcf.final_usage = n5.EventNotification(
        app_session_id=policy.dynamic_policy_id,
        usage=types.Usage(downlink=types.PolicedVolume(offered=types.Volume(packets=2, bytes=3000))),
        zero_rated_bytes=2500,
        charged_bytes=500,
        compliant=True,
    )
    with pytest.raises(EtagMismatch):
        await delete(stack, policy, etag="stale")
    await delete(stack, policy, etag=policy.etag)
    assert stack.pcf.sessions == {}
    with pytest.raises(NotFound, match=policy.dynamic_policy_id):
        await stack.policy(policy.dynamic_policy_id)
    with pytest.raises(NotFound):
        await delete(stack, policy)
    events = await stack.history(f"dynamic-policies/{policy.dynamic_policy_id}")
    assert [event.type for event in events] == ["DYNAMIC_POLICY_STATE", "DYNAMIC_POLICY_STATE", "USAGE_REPORT"]
    usage = payload_of(events[-1], m5.DynamicPolicyUsage)
    assert (usage.zero_rated_bytes, usage.charged_bytes, usage.usage.downlink.offered.bytes) == (2500, 500, 3000)


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
async def test_a_refusal_of_the_pcf_reaches_the_client_with_its_cause_and_leaves_nothing_behind(stack: AfStack):
    template = await stack.provision()
    stack.pcf.refuse["CreateAppSession"] = REFUSAL
    with pytest.raises(NotFound) as refused:
        await stack.activate(template, request_id="r-1")
    assert (refused.value.reason, refused.value.cause) == ("PDU_SESSION_NOT_AVAILABLE", "PDU_SESSION_NOT_AVAILABLE")
    assert refused.value.message == "no PDU session has the address 10.45.0.2"
    assert refused.value.violations == REFUSAL.violations
    assert await stack.all_policies() == []
    assert [event.type for event in await stack.history()] == ["POLICY_TEMPLATE_STATE"]
    # The same request is a new try, not a reminder of the failure.
    del stack.pcf.refuse["CreateAppSession"]
    assert state_name(await stack.activate(template, request_id="r-1")) == "ACTIVE"


async def test_a_refused_update_leaves_the_policy_as_it_was(stack: AfStack):
    policy = await stack.activate(await stack.provision())
    stack.pcf.refuse["UpdateAppSession"] = PermissionDenied("too much", cause="REQUESTED_SERVICE_NOT_AUTHORIZED")
    with pytest.raises(PermissionDenied) as refused:
        await change(stack, policy, flow(50001))
    assert refused.value.cause == "REQUESTED_SERVICE_NOT_AUTHORIZED"
    assert await stack.policy(policy.dynamic_policy_id) == policy
    assert stack.pcf.rules(policy.dynamic_policy_id) == [rule(50000)]


@pytest.mark.parametrize("state", ["PENDING", "INVALID", "SUSPENDED"])
async def test_only_a_ready_template_is_instantiated(stack: AfStack, state: str):
    session_id = (await stack.new_session()).provisioning_session_id
    if state == "INVALID":
        template = await stack.new_template(session_id, wait="INVALID", qos_specification=None)
    else:
        template = await stack.new_template(session_id)
        template.state = m1.PolicyTemplate.State.Value(f"STATE_{state}")
        template.state_reason.cause = f"BECAUSE_{state}"
        await stack.store.write(lambda tx: tx.update(template, template.policy_template_id))
    with pytest.raises(FailedPrecondition, match=f"is {state}, expected READY") as refused:
        await stack.activate(template)
    assert refused.value.reason == "POLICY_TEMPLATE_NOT_READY"
    assert refused.value.metadata["state"] == state
    assert refused.value.cause == ("POLICY_TEMPLATE_INVALID" if state == "INVALID" else f"BECAUSE_{state}")
    assert stack.pcf.calls == []


async def test_sessions_and_templates_that_are_not_there_are_named(stack: AfStack):
    template = await stack.provision()
    with pytest.raises(NotFound, match="ProvisioningSession 'nowhere'"):
        await stack.activate(m1.PolicyTemplate(provisioning_session_id="nowhere", policy_template_id="x"))
    nothing = m1.PolicyTemplate(provisioning_session_id=template.provisioning_session_id, policy_template_id="nothing")
    with pytest.raises(NotFound, match="PolicyTemplate 'nothing'"):
        await stack.activate(nothing)
    with pytest.raises(NotFound, match="DynamicPolicy 'nothing'"):
        await change(stack, m5.DynamicPolicy(dynamic_policy_id="nothing"))


@pytest.mark.parametrize(
    ("flows", "fields"),
    [
        ([], [FLOWS]),
        ([flow(70000)], [f"{FLOWS}[0].flow_description.dst_port"]),
        ([flow(50000), flow(50001, ue=OTHER_UE)], [f"{FLOWS}[1].flow_description"]),
        ([flow(50000, ue="10.45.0.0/16")], [f"{FLOWS}[0].flow_description.dst_ip"]),
    ],
    ids=["none", "port", "two UEs", "network of UEs"],
)
async def test_wrong_flows_are_refused_by_their_place(stack: AfStack, flows, fields):
    template = await stack.provision()
    policy = m5.DynamicPolicy(
        provisioning_session_id=template.provisioning_session_id,
        policy_template_id=template.policy_template_id,
        service_data_flow_descriptions=flows,
    )
    with pytest.raises(InvalidArgument) as refused:
        await stack.policies.CreateDynamicPolicy(m5.CreateDynamicPolicyRequest(dynamic_policy=policy))
    assert [each.field for each in refused.value.violations] == fields
    assert (await stack.all_policies(), stack.pcf.calls) == ([], [])


@pytest.mark.clause("TS 29.514 §5.6.2.8")
async def test_flows_of_every_method_are_told_to_the_pcf_with_what_their_packets_bear(stack: AfStack):
    template = await stack.provision()
    marked, ended = flow(50000), flow(50001)
    marked.flow_description.to_s_tc = "B8FC"
    ended.flow_description.MergeFrom(m5.IpPacketFilterSet(spi=7, protocol=50))
    ended.flow_description.ClearField("src_port")
    ended.flow_description.ClearField("dst_port")
    named = m5.ServiceDataFlowDescription(domain_name="*.Example.com")
    policy = await stack.activate(template, marked, ended, named, flow(50002))
    subs = stack.pcf.sessions[policy.dynamic_policy_id].asc_req_data.med_components[0].med_sub_comps
    both = [rule(50000), f"permit in 6 from {UE} 50000 to 198.51.100.7 443"]
    assert [(sub.f_num, list(sub.f_descs)) for sub in subs if not sub.add_info_flow_descs] == [
        (1, both),
        (3, ["permit out ip from any to assigned"]),
        (4, [rule(50002)]),
    ]
    assert [(sub.tos_tr_cl, sub.domain_name) for sub in subs] == [
        ("b8fc", ""),
        ("", ""),
        ("", "*.example.com"),
        ("", ""),
    ]
    assert [info.spi for info in subs[1].add_info_flow_descs] == ["00000007"]
    # A flow that stays keeps its number, whatever it is described by.
    await change(stack, policy, named, flow(50003), marked)
    subs = stack.pcf.sessions[policy.dynamic_policy_id].asc_req_data.med_components[0].med_sub_comps
    assert [(sub.f_num, sub.domain_name) for sub in subs] == [(3, "*.example.com"), (5, ""), (1, "")]


async def test_an_absurd_qos_is_refused(stack: AfStack):
    template = await stack.provision()
    qos = m5.M5QosSpecification(mar_bw_dl_bps=1, mir_bw_dl_bps=2)
    with pytest.raises(InvalidArgument) as refused:
        await stack.activate(template, qos_specification=qos)
    assert [each.field for each in refused.value.violations] == ["qos_specification.mir_bw_dl_bps"]


async def test_an_update_may_change_three_fields_and_no_other(stack: AfStack):
    policy = await stack.activate(await stack.provision())
    with pytest.raises(InvalidArgument, match="'state': may not be changed"):
        await change(stack, policy, mask=["state"], state=m5.DynamicPolicy.STATE_TERMINATED)
    with pytest.raises(EtagMismatch):
        await change(stack, policy, etag="stale")
    with pytest.raises(InvalidArgument, match=r"for the UE 10\.45\.0\.2, the flows name 10\.45\.0\.3"):
        await change(stack, policy, flow(50001, ue=OTHER_UE))
    assert await stack.policy(policy.dynamic_policy_id) == policy


async def test_the_same_request_id_makes_one_policy(stack: AfStack):
    template = await stack.provision()
    stack.pcf.hold["CreateAppSession"] = asyncio.Event()
    both = [asyncio.create_task(stack.activate(template, request_id="r-1")) for _ in range(2)]
    await stack.pcf.until(lambda: "CreateAppSession" in stack.pcf.names())
    stack.pcf.hold["CreateAppSession"].set()
    first, second = await asyncio.gather(*both)
    assert first == second == await stack.activate(template, request_id="r-1")
    assert stack.pcf.names().count("CreateAppSession") == 1
    with pytest.raises(AlreadyExists) as refused:
        await stack.activate(template, flow(50001), request_id="r-1")
    assert refused.value.reason == "REQUEST_ID_REUSED"
    await delete(stack, first)
    with pytest.raises(NotFound, match="has been deleted"):
        await stack.activate(template, request_id="r-1")


async def test_without_an_answer_of_the_pcf_the_policy_is_taken_back(stack: AfStack):
    template = await stack.provision()
    stack.pcf.hold["CreateAppSession"] = asyncio.Event()
    request = m5.CreateDynamicPolicyRequest(
        dynamic_policy=m5.DynamicPolicy(
            provisioning_session_id=template.provisioning_session_id,
            policy_template_id=template.policy_template_id,
            service_data_flow_descriptions=[flow(50000)],
        ),
        request_id="r-1",
    )
    with pytest.raises(DeadlineExceeded):
        await stack.policies.CreateDynamicPolicy(request, timeout=0.3)
    await stack.pcf.until(lambda: stack.pcf.sessions == {} and "DeleteAppSession" in stack.pcf.names())
    stack.pcf.hold["CreateAppSession"].set()
    assert state_name(await stack.activate(template, request_id="r-2")) == "ACTIVE"
    assert len(stack.pcf.sessions) == 1


async def test_without_an_answer_to_an_update_both_ends_keep_what_was(stack: AfStack):
    policy = await stack.activate(await stack.provision())
    stack.pcf.hold["UpdateAppSession"] = asyncio.Event()
    request = m5.UpdateDynamicPolicyRequest(
        dynamic_policy=m5.DynamicPolicy(
            dynamic_policy_id=policy.dynamic_policy_id, service_data_flow_descriptions=[flow(50001)]
        )
    )
    with pytest.raises(DeadlineExceeded):
        await stack.policies.UpdateDynamicPolicy(request, timeout=0.3)
    # The AF has given up too when it asks again, for what was.
    await stack.pcf.until(lambda: stack.pcf.names().count("UpdateAppSession") == 2)
    stack.pcf.hold.pop("UpdateAppSession").set()
    await stack.pcf.until(lambda: stack.pcf.rules(policy.dynamic_policy_id) == [rule(50000)])
    assert list((await stack.policy(policy.dynamic_policy_id)).service_data_flow_descriptions) == [flow(50000)]


async def test_a_policy_that_the_pcf_has_lost_is_terminated_by_its_next_update(stack: AfStack):
    policy = await stack.activate(await stack.provision())
    stack.pcf.sessions.clear()
    with pytest.raises(NotFound) as refused:
        await change(stack, policy, flow(50001))
    assert refused.value.cause == "APPLICATION_SESSION_CONTEXT_NOT_FOUND"
    terminated = await stack.policy(policy.dynamic_policy_id)
    assert (state_name(terminated), terminated.state_reason.cause) == (
        "TERMINATED",
        "APPLICATION_SESSION_CONTEXT_NOT_FOUND",
    )
    with pytest.raises(FailedPrecondition) as refused_again:
        await change(stack, policy, flow(50001))
    assert refused_again.value.reason == "DYNAMIC_POLICY_TERMINATED"
    await delete(stack, policy)
    assert await stack.all_policies() == []


async def test_policies_are_listed_by_page_and_by_session(stack: AfStack):
    template, other = await stack.provision(), await stack.provision()
    first = await stack.activate(template)
    second = await stack.activate(other, flow(50001))
    third = await stack.activate(template, flow(50002))
    listing = m5.ListDynamicPoliciesRequest(page_size=2)
    page = await stack.policies.ListDynamicPolicies(listing)
    assert list(page.dynamic_policies) == [first, second]
    listing.page_token = page.next_page_token
    assert list((await stack.policies.ListDynamicPolicies(listing)).dynamic_policies) == [third]
    own = m5.ListDynamicPoliciesRequest(provisioning_session_id=template.provisioning_session_id)
    assert list((await stack.policies.ListDynamicPolicies(own)).dynamic_policies) == [first, third]


class TestWhichUe:
    @pytest.mark.clause("TS 26.512 A.3.2 step 7")
    async def test_a_trusted_proxy_names_the_ue_where_the_flows_do_not(self, stack: AfStack):
        template = await stack.provision()
        request = m5.CreateDynamicPolicyRequest(
            dynamic_policy=m5.DynamicPolicy(
                provisioning_session_id=template.provisioning_session_id,
                policy_template_id=template.policy_template_id,
                service_data_flow_descriptions=[flow(50000, ue="")],
            )
        )
        with pytest.raises(InvalidArgument) as unknown:
            await stack.policies.CreateDynamicPolicy(request)
        assert unknown.value.reason == "UE_ADDRESS_UNKNOWN"
        with pytest.raises(InvalidArgument, match="found 'ue-2'"):
            await stack.policies.CreateDynamicPolicy(request, metadata=(("x-ue-address", "ue-2"),))
        answer = await stack.policies.CreateDynamicPolicy(request, metadata=(("x-ue-address", UE),))
        assert answer.dynamic_policy.ue_address == UE
        assert stack.pcf.rules(answer.dynamic_policy.dynamic_policy_id) == [rule(50000)]

    async def test_flows_of_another_ue_than_the_proxy_speaks_for_are_refused(self, stack: AfStack):
        template = await stack.provision()
        policy = await stack.activate(template)
        other = (("x-ue-address", OTHER_UE),)
        create = m5.CreateDynamicPolicyRequest(
            dynamic_policy=m5.DynamicPolicy(
                provisioning_session_id=template.provisioning_session_id,
                policy_template_id=template.policy_template_id,
                service_data_flow_descriptions=[flow(50000)],
            )
        )
        policy_id = policy.dynamic_policy_id
        for call, request in (
            (stack.policies.CreateDynamicPolicy, create),
            (stack.policies.GetDynamicPolicy, m5.GetDynamicPolicyRequest(dynamic_policy_id=policy_id)),
            (
                stack.policies.UpdateDynamicPolicy,
                m5.UpdateDynamicPolicyRequest(dynamic_policy=m5.DynamicPolicy(dynamic_policy_id=policy_id)),
            ),
            (stack.policies.DeleteDynamicPolicy, m5.DeleteDynamicPolicyRequest(dynamic_policy_id=policy_id)),
        ):
            with pytest.raises(PermissionDenied) as refused:
                await call(request, metadata=other)
            assert refused.value.reason == "UE_ADDRESS_MISMATCH"
        listed = await stack.policies.ListDynamicPolicies(m5.ListDynamicPoliciesRequest(), metadata=other)
        assert list(listed.dynamic_policies) == []
        assert await stack.all_policies() == [policy]

    async def test_an_untrusted_peer_is_the_ue_itself_whatever_its_header_says(self, tmp_path: Path):
        async with AfStack(tmp_path, config={"trusted_proxies": ()}) as stack:
            template = await stack.provision()
            own = await stack.activate(template, flow(50000, ue="127.0.0.1"))
            empty = await stack.activate(template, flow(50001, ue=""))
            assert own.ue_address == empty.ue_address == "127.0.0.1"
            create = m5.CreateDynamicPolicyRequest(
                dynamic_policy=m5.DynamicPolicy(
                    provisioning_session_id=template.provisioning_session_id,
                    policy_template_id=template.policy_template_id,
                    service_data_flow_descriptions=[flow(50000)],
                )
            )
            with pytest.raises(PermissionDenied, match=r"for the UE 10\.45\.0\.2, the request comes from 127\.0\.0\.1"):
                await stack.policies.CreateDynamicPolicy(create, metadata=(("x-ue-address", UE),))

    async def test_an_ipv6_ue_is_found_by_its_address(self, stack: AfStack):
        policy = await stack.activate(await stack.provision(), flow(50000, ue="2001:db8:1::5", remote="2001:db8:ff::7"))
        assert policy.ue_address == "2001:db8:1::5"
        assert stack.pcf.sessions[policy.dynamic_policy_id].asc_req_data.ue_ipv6 == "2001:db8:1::5"
