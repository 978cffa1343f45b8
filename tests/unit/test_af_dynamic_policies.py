"""A dynamic policy on its way to the PCF (M5 → N5) and back."""

from __future__ import annotations

import ipaddress

import pytest

from nf.af import dynamic_policies, flow_descriptions
from nf.af.errors import RequestedQosNotAuthorized
from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1 import provisioning_pb2 as m1
from nf.common.errors import InvalidArgument
from nf.common.v1 import types_pb2 as types
from nf.pcf.v1 import policy_authorization_pb2 as n5

SESSION = m1.ProvisioningSession(
    provisioning_session_id="ps",
    provisioning_session_type=m1.PROVISIONING_SESSION_TYPE_DOWNLINK,
    app_id="app",
    asp_id="asp",
)
TEMPLATE = m1.PolicyTemplate(
    policy_template_id="pt",
    external_reference="zero-rating",
    qos_specification=m1.M1QosSpecification(
        max_btr_dl_bps=5_000_000, max_auth_btr_dl_bps=8_000_000, max_btr_ul_bps=500_000, qos_reference="gold"
    ),
    application_session_context=m1.ApplicationSessionContext(dnn="internet", slice_info=types.Snssai(sst=1)),
    charging_specification=m1.ChargingSpecification(
        spon_id="sponsor", spon_status=types.SPONSORING_STATUS_SPONSOR_ENABLED, gpsi=["msisdn-491701234567"]
    ),
    service_description_id="7",
)


def flow(port: int, remote: str = "198.51.100.7") -> m5.ServiceDataFlowDescription:
    return m5.ServiceDataFlowDescription(
        flow_description=m5.IpPacketFilterSet(
            src_ip=remote, protocol=6, src_port=443, dst_port=port, direction=m5.FLOW_DIRECTION_BIDIRECTIONAL
        )
    )


def request_of(*flows, ue="10.45.0.2", qos=None, template=TEMPLATE, previous=None) -> n5.AppSessionContextReqData:
    policy = m5.DynamicPolicy(
        ue_address=ue,
        service_data_flow_descriptions=flows,
        qos_specification=qos,
        media_type=types.MEDIA_TYPE_VIDEO,
    )
    parsed = flow_descriptions.parse(policy.service_data_flow_descriptions)
    return dynamic_policies.app_session_request(policy, parsed, template, SESSION, previous=previous)


def numbered(request: n5.AppSessionContextReqData) -> dict[int, str]:
    return {sub.f_num: sub.f_descs[0] for sub in request.med_components[0].med_sub_comps}


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
def test_the_pcf_is_asked_in_the_words_of_n5():
    assert request_of(flow(50000), flow(50001)) == n5.AppSessionContextReqData(
        af_app_id="app",
        asp_id="asp",
        dnn="internet",
        slice_info=types.Snssai(sst=1),
        spon_id="sponsor",
        spon_status=types.SPONSORING_STATUS_SPONSOR_ENABLED,
        gpsis=["msisdn-491701234567"],
        ue_ipv4="10.45.0.2",
        events=[
            n5.AF_EVENT_SUCCESSFUL_RESOURCES_ALLOCATION,
            n5.AF_EVENT_FAILED_RESOURCES_ALLOCATION,
            n5.AF_EVENT_QOS_NOTIF,
            n5.AF_EVENT_USAGE_REPORT,
            n5.AF_EVENT_PDU_SESSION_STATUS,
        ],
        med_components=[
            n5.MediaComponent(
                med_comp_n=1,
                med_type=types.MEDIA_TYPE_VIDEO,
                mar_bw_dl_bps=5_000_000,
                mar_bw_ul_bps=500_000,
                max_auth_bw_dl_bps=8_000_000,
                qos_reference="gold",
                med_sub_comps=[
                    n5.MediaSubComponent(f_num=1, f_descs=["permit out 6 from 198.51.100.7 443 to 10.45.0.2 50000"]),
                    n5.MediaSubComponent(f_num=2, f_descs=["permit out 6 from 198.51.100.7 443 to 10.45.0.2 50001"]),
                ],
            )
        ],
    )


@pytest.mark.parametrize(
    ("asked_bps", "max_btr_bps", "sent_bps"),
    [
        (3_000_000, 5_000_000, 3_000_000),
        (7_000_000, 5_000_000, 5_000_000),
        (0, 5_000_000, 5_000_000),
        (7, 0, 7),
        (0, 0, 0),
    ],
)
def test_what_a_session_asks_for_is_bounded_by_the_template(asked_bps, max_btr_bps, sent_bps):
    template = m1.PolicyTemplate(qos_specification=m1.M1QosSpecification(max_btr_dl_bps=max_btr_bps))
    qos = m5.M5QosSpecification(mar_bw_dl_bps=asked_bps, mir_bw_ul_bps=64_000)
    component = request_of(flow(1), qos=qos, template=template).med_components[0]
    assert component.mar_bw_dl_bps == sent_bps
    assert component.HasField("mar_bw_dl_bps") is bool(sent_bps)
    assert not component.HasField("mar_bw_ul_bps")
    assert not component.HasField("max_auth_bw_dl_bps")
    assert component.mir_bw_ul_bps == 64_000


def test_an_ipv6_ue_is_named_as_such():
    request = request_of(flow(50000, "2001:db8:ff::7"), ue="2001:db8:1::/64")
    assert (request.ue_ipv4, request.ue_ipv6) == ("", "2001:db8:1::")
    assert numbered(request)[1].endswith("to 2001:db8:1::/64 50000")


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
def test_a_flow_that_stays_keeps_its_number_when_others_open_and_close():
    first = request_of(flow(50000), flow(50001), flow(50002))
    second = request_of(flow(50003), flow(50002), flow(50000), previous=first)
    assert {number: rule.rpartition(" ")[2] for number, rule in numbered(second).items()} == {
        1: "50000",
        3: "50002",
        4: "50003",
    }
    assert numbered(request_of(previous=second)) == {}


def test_a_flow_named_twice_is_one_flow():
    assert len(numbered(request_of(flow(50000), flow(50000)))) == 1


@pytest.mark.parametrize(
    ("session_type", "threshold_bps"),
    [(m1.PROVISIONING_SESSION_TYPE_DOWNLINK, 4_000_000), (m1.PROVISIONING_SESSION_TYPE_UPLINK, 250_000)],
    ids=["downlink", "uplink"],
)
@pytest.mark.clause("TS 26.512 A.3.2 step 6")
def test_the_answer_carries_the_threshold_and_what_the_player_filters_by(session_type, threshold_bps):
    policy = m5.DynamicPolicy(dynamic_policy_id="dp", media_type=types.MEDIA_TYPE_VIDEO)
    enforcement = n5.Enforcement(
        enforcement_method=types.ENFORCEMENT_METHOD_POLICE,
        enforcement_bit_rate_dl_bps=4_000_000,
        enforcement_bit_rate_ul_bps=250_000,
    )
    session = m1.ProvisioningSession(provisioning_session_type=session_type)
    assert dynamic_policies.enforced(policy, enforcement, "7", session) == m5.DynamicPolicy(
        dynamic_policy_id="dp",
        media_type=types.MEDIA_TYPE_VIDEO,
        enforcement_method=types.ENFORCEMENT_METHOD_POLICE,
        enforcement_bit_rate_bps=threshold_bps,
        service_descriptor_filter=m5.ServiceDescriptorFilter(
            service_description_id="7",
            operating_bandwidth_max_bps=threshold_bps,
            media_type=types.MEDIA_TYPE_VIDEO,
        ),
    )
    assert not policy.enforcement_bit_rate_bps


def test_an_absurd_qos_is_refused_by_its_property():
    with pytest.raises(InvalidArgument) as refused:
        dynamic_policies.check(
            m5.DynamicPolicy(
                qos_specification=m5.M5QosSpecification(
                    mar_bw_dl_bps=1, mir_bw_dl_bps=2, mar_bw_ul_bps=1, mir_bw_ul_bps=2, des_loss=1001
                )
            )
        )
    assert [each.field for each in refused.value.violations] == [
        "qos_specification.mir_bw_dl_bps",
        "qos_specification.mir_bw_ul_bps",
        "qos_specification.des_loss",
    ]
    dynamic_policies.check(m5.DynamicPolicy(qos_specification=m5.M5QosSpecification(mir_bw_dl_bps=2)))


def test_a_rate_that_no_network_has_and_a_medium_that_nobody_knows_are_refused_in_the_words_of_m5():
    qos = m5.M5QosSpecification(mar_bw_ul_bps=2**64 - 1, mir_bw_dl_bps=10_000_000_000_001)
    with pytest.raises(InvalidArgument) as refused:
        dynamic_policies.check(m5.DynamicPolicy(media_type=99, qos_specification=qos))
    assert [(each.field, each.description) for each in refused.value.violations] == [
        ("media_type", "expected a medium of TS 29.514, found 99"),
        ("qos_specification.mar_bw_ul_bps", "expected at most 10000000000000 bps, found 18446744073709551615 bps"),
        ("qos_specification.mir_bw_dl_bps", "expected at most 10000000000000 bps, found 10000000000001 bps"),
    ]


def test_media_that_need_more_than_the_template_is_about_are_not_authorised():
    template = m1.PolicyTemplate(qos_specification=m1.M1QosSpecification(max_btr_dl_bps=5_000_000))
    dynamic_policies.check_granted(m5.M5QosSpecification(mir_bw_dl_bps=5_000_000, mir_bw_ul_bps=9), template)
    with pytest.raises(RequestedQosNotAuthorized, match="8000000 bps are needed, the policy template is about 5000000"):
        dynamic_policies.check_granted(
            m5.M5QosSpecification(mar_bw_dl_bps=10_000_000, mir_bw_dl_bps=8_000_000), template
        )


def test_a_ue_is_written_as_address_or_prefix():
    assert flow_descriptions.text_of(ipaddress.ip_network("10.45.0.2")) == "10.45.0.2"
    assert flow_descriptions.text_of(ipaddress.ip_network("2001:db8:1::/64")) == "2001:db8:1::/64"


def test_usage_goes_up_as_it_came():
    usage = types.Usage(downlink=types.PolicedVolume(offered=types.Volume(packets=3, bytes=4500)))
    notification = n5.EventNotification(
        app_session_id="dp", usage=usage, zero_rated_bytes=4000, charged_bytes=500, compliant=False
    )
    assert dynamic_policies.usage(notification, compliant=True) == m5.DynamicPolicyUsage(
        dynamic_policy_id="dp", usage=usage, zero_rated_bytes=4000, charged_bytes=500, compliant=True
    )


def test_a_policy_goes_on_where_only_the_case_of_its_data_network_and_slice_has_changed():
    request = n5.AppSessionContextReqData(dnn="internet", slice_info=types.Snssai(sst=1, sd="00000a"))
    template = m1.PolicyTemplate(
        state=m1.PolicyTemplate.STATE_READY,
        application_session_context=m1.ApplicationSessionContext(
            dnn="Internet", slice_info=types.Snssai(sst=1, sd="00000A")
        ),
    )
    assert dynamic_policies.displacement(request, template) is None
    template.application_session_context.dnn = "ims"
    moved = dynamic_policies.displacement(request, template)
    assert moved is not None
    assert moved.cause == "POLICY_TEMPLATE_MOVED"
