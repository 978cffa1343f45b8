"""What the AF's validation says about a policy template."""

from __future__ import annotations

import pytest

from nf.af.machine import TemplateState
from nf.af.policy_templates import TemplateLimits, snssai_text, state_reason, validate
from nf.af.v1 import provisioning_pb2 as m1
from nf.common.v1 import types_pb2 as types
from nf.pcf.v1.operator_policies_pb2 import QosReference

ANYTHING = TemplateLimits()


def template(**changes: object) -> m1.PolicyTemplate:
    content: dict[str, object] = {
        "external_reference": "zero-rating",
        "qos_specification": m1.M1QosSpecification(max_btr_dl_bps=5_000_000),
    }
    return m1.PolicyTemplate(**{**content, **changes})


def context(dnn: str = "", snssai: types.Snssai | None = None) -> m1.ApplicationSessionContext:
    return m1.ApplicationSessionContext(dnn=dnn, slice_info=snssai)


def found(each: m1.PolicyTemplate, limits: TemplateLimits = ANYTHING) -> dict[str, str]:
    return {param.param: param.reason for param in validate(each, limits)}


@pytest.mark.parametrize(
    "each",
    [
        template(),
        template(qos_specification=m1.M1QosSpecification(qos_reference="gold")),
        template(qos_specification=m1.M1QosSpecification(max_btr_ul_bps=1)),
        template(qos_specification=m1.M1QosSpecification(max_auth_btr_dl_bps=8_000_000)),
        template(qos_specification=m1.M1QosSpecification(max_btr_dl_bps=5, max_auth_btr_dl_bps=5)),
        template(
            application_session_context=context("internet.mnc001.mcc001.gprs", types.Snssai(sst=255, sd="00aBcD"))
        ),
        template(
            charging_specification=m1.ChargingSpecification(
                spon_id="sponsor-1",
                spon_status=types.SPONSORING_STATUS_SPONSOR_ENABLED,
                gpsi=["msisdn-491701234567", "extid-a@example.com"],
            )
        ),
        template(service_description_id="7"),
    ],
)
@pytest.mark.clause("TS 26.512 A.3.2 step 1")
def test_a_consistent_template_is_valid(each):
    assert found(each) == {}


@pytest.mark.parametrize(
    ("each", "param", "reason"),
    [
        (template(external_reference=""), "externalReference", "found nothing"),
        (template(external_reference=" zero "), "externalReference", "' zero '"),
        (template(external_reference="a\nb"), "externalReference", r"'a\nb'"),
        (template(external_reference="x" * 256), "externalReference", "at most 255 characters, found 256"),
        (template(qos_specification=None), "qoSSpecification", "a qosReference"),
        (template(qos_specification=m1.M1QosSpecification(max_btr_dl_bps=0)), "qoSSpecification", "a qosReference"),
        (
            template(qos_specification=m1.M1QosSpecification(max_btr_dl_bps=6, max_auth_btr_dl_bps=5)),
            "qoSSpecification.maxBtrDl",
            "at most maxAuthBtrDl (5 bps), found 6 bps",
        ),
        (
            template(qos_specification=m1.M1QosSpecification(max_btr_ul_bps=6, max_auth_btr_ul_bps=5)),
            "qoSSpecification.maxBtrUl",
            "at most maxAuthBtrUl (5 bps), found 6 bps",
        ),
        (
            template(qos_specification=m1.M1QosSpecification(max_btr_dl_bps=10**13 + 1)),
            "qoSSpecification.maxBtrDl",
            "found 10000000000001 bps",
        ),
        (
            template(qos_specification=m1.M1QosSpecification(max_btr_dl_bps=5, def_packet_loss_rate_dl=1001)),
            "qoSSpecification.defPacketLossRateDl",
            "found 1001",
        ),
        (template(application_session_context=context("inter net")), "applicationSessionContext.dnn", "'inter net'"),
        (template(application_session_context=context("a..b")), "applicationSessionContext.dnn", "'a..b'"),
        (template(application_session_context=context("a." * 50 + "ab")), "applicationSessionContext.dnn", "DNN"),
        (
            template(application_session_context=context(snssai=types.Snssai(sst=256))),
            "applicationSessionContext.sliceInfo.sst",
            "found 256",
        ),
        (
            template(application_session_context=context(snssai=types.Snssai(sst=1, sd="12345"))),
            "applicationSessionContext.sliceInfo.sd",
            "six hexadecimal digits, found '12345'",
        ),
        (
            template(charging_specification=m1.ChargingSpecification(spon_status=types.SponsoringStatus.ValueType(99))),
            "chargingSpecification.sponStatus",
            "found 99",
        ),
        (
            template(
                charging_specification=m1.ChargingSpecification(spon_status=types.SPONSORING_STATUS_SPONSOR_ENABLED)
            ),
            "chargingSpecification.sponId",
            "sponStatus is SPONSOR_ENABLED",
        ),
        (
            template(charging_specification=m1.ChargingSpecification(gpsi=["msisdn-491701234567", "491701234567"])),
            "chargingSpecification.gpsi[1]",
            "found '491701234567'",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_property_at_m1(each, param, reason):
    problems = found(each)
    assert list(problems) == [param]
    assert reason in problems[param]


@pytest.mark.parametrize(
    ("limits", "given", "param"),
    [
        (TemplateLimits(dnns=("internet",)), template(application_session_context=context("ims")), "dnn"),
        (TemplateLimits(dnns=("internet",)), template(), "dnn"),
        (
            TemplateLimits(snssais=("1", "2-00ABCD")),
            template(application_session_context=context(snssai=types.Snssai(sst=2))),
            "sliceInfo",
        ),
        (TemplateLimits(snssais=("1",)), template(), "sliceInfo"),
    ],
    ids=["another dnn", "any dnn", "another slice", "any slice"],
)
def test_data_networks_and_slices_that_the_operator_does_not_allow_are_refused(limits, given, param):
    assert list(found(given, limits)) == [f"applicationSessionContext.{param}"]


def test_data_networks_slices_and_sponsors_that_the_operator_allows_are_accepted():
    limits = TemplateLimits(dnns=("Internet",), snssais=("2-00abcd",), sponsors=("sponsor-1",))
    given = template(
        application_session_context=context("internet", types.Snssai(sst=2, sd="00abCD")),
        charging_specification=m1.ChargingSpecification(spon_id="sponsor-1"),
    )
    assert found(given, limits) == {}
    given.charging_specification.spon_id = "sponsor-2"
    assert found(given, limits) == {"chargingSpecification.sponId": "expected one of sponsor-1, found sponsor-2"}


def test_everything_that_is_wrong_is_named_at_once():
    given = template(
        external_reference="",
        qos_specification=None,
        charging_specification=m1.ChargingSpecification(spon_status=types.SPONSORING_STATUS_SPONSOR_ENABLED),
    )
    assert list(found(given)) == ["externalReference", "qoSSpecification", "chargingSpecification.sponId"]


def test_every_state_has_a_reason():
    problems = (types.InvalidParam(param="externalReference", reason="found nothing"),)
    invalid = state_reason(TemplateState.INVALID, invalid_params=problems)
    assert invalid.detail == "externalReference: found nothing"
    assert list(invalid.invalid_params) == list(problems)
    suspended = state_reason(TemplateState.SUSPENDED, detail="under investigation")
    assert (suspended.cause, suspended.detail) == ("POLICY_TEMPLATE_SUSPENDED", "under investigation")
    assert state_reason(TemplateState.READY).title
    assert state_reason(TemplateState.PENDING).title == "The policy template awaits validation"


def test_a_slice_is_written_as_the_configuration_writes_it():
    assert snssai_text(types.Snssai(sst=1)) == "1"
    assert snssai_text(types.Snssai(sst=1, sd="00abcd")) == "1-00ABCD"


def test_a_qos_reference_is_valid_when_the_operator_has_arranged_something_under_it():
    gold = template(qos_specification=m1.M1QosSpecification(qos_reference="gold"))
    nothing = QosReference(qos_reference="gold")
    (problem,) = validate(gold, ANYTHING, nothing)
    assert problem.param == "qoSSpecification.qosReference"
    assert problem.reason == "expected a QoS that is arranged with the operator, found 'gold'"
    assert validate(gold, ANYTHING, QosReference(qos_reference="gold", max_br_dl_bps=1)) == ()
