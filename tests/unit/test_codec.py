"""The JSON codec: what is written, what is read, and what is refused in which words."""

from __future__ import annotations

import json
import re

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import messages

from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1 import provisioning_pb2 as m1
from nf.common.bit_rate import BIT_RATE_PATTERN, MAX_BIT_RATE_BPS, bit_rate_text, parse_bit_rate
from nf.common.codec import dumps, enum_text, from_json, json_path, loads, to_json
from nf.common.date_time import date_time_text, parse_date_time
from nf.common.errors import InvalidArgument
from nf.common.json_text import decode
from nf.common.v1 import events_pb2 as events
from nf.common.v1 import types_pb2 as types

TYPES = (
    m1.ProvisioningSession,
    m1.PolicyTemplate,
    m1.ConsumptionReportingConfiguration,
    m5.ServiceAccessInformation,
    m5.DynamicPolicy,
    types.ProblemDetails,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)

json_texts = st.text('{}[]",:0123456789eE+-.nulltrfasInityNa \\u', max_size=40).map(str.encode)


def outcome(work) -> list[str] | None:
    """The properties at fault; None: it was taken."""
    try:
        work()
    except InvalidArgument as refused:
        return [each.field for each in refused.violations]
    return None


def violations(body: object, message_type=m1.PolicyTemplate) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as refused:
        from_json(message_type, body)
    return {each.field: each.description for each in refused.value.violations}


@settings(max_examples=20, deadline=None)
@given(st.data())
@pytest.mark.parametrize("message_type", TYPES, ids=lambda each: each.__name__)
def test_what_is_written_reads_back_as_it_was(message_type, data):
    message = data.draw(messages(message_type))
    assert loads(message_type, dumps(message, internal=True), internal=True) == message


@settings(max_examples=30, deadline=None)
@given(st.data())
@pytest.mark.parametrize("message_type", TYPES, ids=lambda each: each.__name__)
def test_any_json_at_all_is_taken_or_refused_as_invalid(message_type, data):
    names = [field.json_name for field in message_type.DESCRIPTOR.fields]
    tree = data.draw(json_values | st.dictionaries(st.sampled_from(names), json_values))
    assert outcome(lambda: from_json(message_type, tree)) != []


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | json_texts)
def test_any_bytes_at_all_are_json_or_refused_as_invalid(body):
    assert outcome(lambda: decode(body)) in (None, ["body"])


def test_a_policy_template_is_written_as_its_api_has_it():
    template = m1.PolicyTemplate(
        provisioning_session_id="s",
        policy_template_id="t",
        state=m1.PolicyTemplate.STATE_READY,
        state_reason=types.ProblemDetails(title="ready"),
        external_reference="gold",
        qos_specification=m1.M1QosSpecification(max_btr_dl_bps=5_000_000, max_btr_ul_bps=0, def_packet_loss_rate_dl=0),
        application_session_context=m1.ApplicationSessionContext(slice_info=types.Snssai(sst=0), dnn="internet"),
        charging_specification=m1.ChargingSpecification(spon_status=types.SPONSORING_STATUS_SPONSOR_ENABLED),
        etag="e",
    )
    assert to_json(template) == {
        "policyTemplateId": "t",
        "state": "READY",
        "stateReason": {"title": "ready"},
        "externalReference": "gold",
        # What is set is kept, be it 0; what is required is there, be it 0.
        "qoSSpecification": {"maxBtrUl": "0 bps", "maxBtrDl": "5.000 Mbps", "defPacketLossRateDl": 0},
        "applicationSessionContext": {"sliceInfo": {"sst": 0}, "dnn": "internet"},
        "chargingSpecification": {"sponStatus": "SPONSOR_ENABLED"},
    }
    assert to_json(template, internal=True)["etag"] == "e"


def test_a_false_that_is_set_is_kept_and_one_that_is_required_is_written():
    configuration = m1.ConsumptionReportingConfiguration(location_reporting=False)
    assert to_json(configuration) == {"locationReporting": False}
    assert to_json(m1.ConsumptionReportingConfiguration()) == {}
    assert to_json(m5.ClientConsumptionReportingConfiguration()) == {
        "serverAddresses": [],
        "locationReporting": False,
        "accessReporting": False,
        "samplePercentage": 0.0,
    }


def test_internal_properties_are_ignored_at_the_doors():
    tree = {"externalReference": "x", "etag": "abc", "createTime": 7, "unknown": {"deep": [None]}}
    assert from_json(m1.PolicyTemplate, tree) == m1.PolicyTemplate(external_reference="x")
    assert "createTime" in violations_internal(tree)


def violations_internal(tree: object) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as refused:
        from_json(m1.PolicyTemplate, tree, internal=True)
    return {each.field: each.description for each in refused.value.violations}


def test_enums_may_be_written_otherwise_than_they_are_named():
    configuration = m5.DynamicPolicyInvocationConfiguration(
        sdf_methods=[m5.SDF_METHOD_FIVE_TUPLE, m5.SDF_METHOD_TWO_TUPLE, m5.SDF_METHOD_DOMAIN_NAME]
    )
    assert to_json(configuration)["sdfMethods"] == ["5_TUPLE", "2_TUPLE", "DOMAIN_NAME"]
    read = from_json(
        m5.DynamicPolicyInvocationConfiguration,
        {"sdfMethods": ["2_TUPLE"], "serverAddresses": [], "policyTemplateBindings": []},
    )
    assert list(read.sdf_methods) == [m5.SDF_METHOD_TWO_TUPLE]
    assert enum_text(m5.SdfMethod.DESCRIPTOR, 4) == "FLOW_LABEL"
    assert enum_text(m5.SdfMethod.DESCRIPTOR, 99) == "99"


def test_every_property_at_fault_is_named_with_what_was_found_and_expected():
    assert violations(
        {
            "externalReference": 7,
            "qoSSpecification": {"maxBtrDl": "5 MBps", "defPacketLossRateDl": True, "maxBtrUl": 5},
            "applicationSessionContext": {"sliceInfo": {"sst": -1}},
            "chargingSpecification": {"gpsi": ["msisdn-1", None], "sponStatus": "MAYBE"},
        }
    ) == {
        "externalReference": "expected a string, found the number 7",
        "qoSSpecification.maxBtrDl": 'expected a bit rate such as "5.000 Mbps" (bps, Kbps, Mbps, Gbps, Tbps), '
        "found '5 MBps'",
        "qoSSpecification.defPacketLossRateDl": "expected an integer, found a boolean",
        "qoSSpecification.maxBtrUl": 'expected a bit rate such as "5.000 Mbps", found the number 5',
        "applicationSessionContext.sliceInfo.sst": "expected an integer from 0 to 4294967295, found the number -1",
        "chargingSpecification.gpsi[1]": "expected a string, found null",
        "chargingSpecification.sponStatus": "expected SPONSOR_DISABLED or SPONSOR_ENABLED, found the string 'MAYBE'",
    }
    assert violations({}) == {"externalReference": "expected, found nothing"}
    assert violations([]) == {"": "expected an object, found an array"}


def test_what_the_af_sets_is_required_in_answers_and_not_of_clients():
    assert from_json(m1.ProvisioningSession, {"provisioningSessionType": "DOWNLINK", "appId": "a"}).app_id == "a"
    assert violations({}, m1.ProvisioningSession).keys() == {"provisioningSessionType", "appId"}


def test_a_flow_has_one_description_only():
    tree = {"flowDescription": {"direction": "DOWNLINK"}, "domainName": "example.org"}
    assert violations(tree, m5.ServiceDataFlowDescription) == {
        "domainName": "expected only one of flowDescription, domainName, found flowDescription too"
    }


def test_a_list_with_a_million_faults_is_refused_with_the_first_of_them():
    found = violations({"policyTemplateIds": [0] * 1_000_000, "appId": "a"}, m1.ProvisioningSession)
    assert len(found) == 32
    assert found["policyTemplateIds[0]"] == "expected a string, found the number 0"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"a": 1,}', "at byte 8"),
        ('{"ä": }'.encode(), "expecting value at byte 7"),
        (b'{"a": "\xff"}', "expected UTF-8, found byte 0xff at byte 7"),
        (b"", "at byte 0"),
        (b"\xef\xbb\xbf{}", "at byte 0"),
        (b'{"a": 1, "b": 2, "a": 3}', "the property 'a' is there twice in one object"),
        (b'{"a": {"b": 1, "b": 1}}', "the property 'b' is there twice in one object"),
        (b'{"a": NaN}', "expected a number, found NaN"),
        (b"-Infinity", "expected a number, found -Infinity"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"1" * 10_000, "an integer of thousands of digits"),
    ],
)
def test_what_is_no_json_is_refused_with_the_byte_at_fault(body, why):
    with pytest.raises(InvalidArgument) as refused:
        loads(m1.PolicyTemplate, body)
    assert refused.value.message.startswith("body: no JSON: ")
    assert refused.value.message.endswith(why)


def test_numbers_that_no_field_holds_are_refused():
    configuration = m1.ConsumptionReportingConfiguration
    for number in ("1e400", "-1e400", "9" * 4000):
        tree = decode(f'{{"samplePercentage": {number}}}'.encode())
        assert violations(tree, configuration)["samplePercentage"].startswith("expected a number of at most 1.8e308")
    assert "reportingInterval" in violations({"reportingInterval": 2**32}, configuration)
    assert "reportingInterval" in violations({"reportingInterval": 1.5}, configuration)
    # 60.0 is an integer to JSON Schema.
    assert from_json(configuration, {"reportingInterval": 60.0}).reporting_interval_s == 60


def test_half_a_character_is_no_text():
    assert violations(decode(b'{"externalReference": "\\ud800"}')) == {
        "externalReference": "expected text, found a surrogate that stands alone"
    }


@pytest.mark.clause("TS 29.571 §5.5.2")
@pytest.mark.parametrize(
    ("text", "rate_bps"),
    [
        ("5 Mbps", 5_000_000),
        ("5.000 Mbps", 5_000_000),
        ("0.5 Kbps", 500),
        ("1.000000000001 Tbps", 1_000_000_000_001),
        ("12.0 bps", 12),
        ("007 bps", 7),
        ("18446744073709551615 bps", 2**64 - 1),
    ],
)
def test_bit_rates_are_read_exactly(text, rate_bps):
    assert parse_bit_rate(text) == rate_bps


@pytest.mark.parametrize(
    "text",
    ["", "5", "5Mbps", "5 mbps", "5 MBPS", " 5 bps", "5  bps", "-5 bps", "5. bps", ".5 Mbps", "1e6 bps", "5,0 Mbps",
     "0.5 bps", "1.0001 Kbps", "18446744073709551616 bps", "٥ bps", "5 bps\n", "1" * 1000 + " bps"],
)  # fmt: skip
def test_bit_rates_that_are_none_or_no_whole_number_of_bits_are_refused(text):
    with pytest.raises(ValueError, match="expected"):
        parse_bit_rate(text)


@pytest.mark.clause("TS 29.571 §5.5.2")
@given(st.integers(0, MAX_BIT_RATE_BPS) | st.integers(0, 20).map(lambda exponent: min(10**exponent, MAX_BIT_RATE_BPS)))
def test_every_bit_rate_is_written_exactly_and_as_the_specification_has_it(rate_bps):
    text = bit_rate_text(rate_bps)
    assert re.fullmatch(BIT_RATE_PATTERN, text)
    assert parse_bit_rate(text) == rate_bps


def test_bit_rates_are_written_in_their_greatest_unit():
    assert [bit_rate_text(each) for each in (0, 999, 1000, 5_000_000, 1_234_567, 10**13)] == [
        "0 bps",
        "999 bps",
        "1.000 Kbps",
        "5.000 Mbps",
        "1.234567 Mbps",
        "10.000 Tbps",
    ]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01T12:00:00Z", (1772366400, 0)),
        ("2026-03-01t12:00:00.25z", (1772366400, 250_000_000)),
        ("2026-03-01T13:30:00.123456789+01:30", (1772366400, 123_456_789)),
        ("2026-03-01T11:00:00-01:00", (1772366400, 0)),
        ("1969-12-31T23:59:59Z", (-1, 0)),
        ("2016-12-31T23:59:60Z", (1483228800, 0)),
        ("0001-01-01T00:00:00Z", (-62135596800, 0)),
    ],
)
def test_times_are_read_as_rfc_3339_has_them(text, moment):
    assert parse_date_time(text) == moment


@pytest.mark.parametrize(
    "text",
    ["2026-03-01", "2026-03-01T12:00:00", "20260301T120000Z", "2026-02-29T12:00:00Z", "2026-03-01T24:00:00Z",
     "2026-03-01T12:00:61Z", "2026-03-01 12:00:00Z", "2026-03-01T12:00:00.Z", "2026-03-01T12:00:00+25:00",
     "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "2026-13-01T12:00:00Z", "", "٢٠٢٦-03-01T12:00:00Z"],
)  # fmt: skip
def test_times_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="RFC 3339"):
        parse_date_time(text)


def test_times_are_written_in_utc_with_as_many_digits_as_they_need():
    assert date_time_text(Timestamp(seconds=1772366400)) == "2026-03-01T12:00:00Z"
    assert date_time_text(Timestamp(seconds=1, nanos=5_000_000)) == "1970-01-01T00:00:01.005Z"
    assert date_time_text(Timestamp(seconds=1, nanos=5_000)) == "1970-01-01T00:00:01.000005Z"
    assert date_time_text(Timestamp(seconds=-62135596800, nanos=1)) == "0001-01-01T00:00:00.000000001Z"


def test_an_event_carries_its_payload_with_its_type():
    event = events.Event(sequence=3, type="POLICY_TEMPLATE_STATE")
    event.payload.Pack(m1.PolicyTemplateStateChanged(previous_state=m1.PolicyTemplate.STATE_PENDING))
    written = to_json(event)
    assert written["payload"] == {"@type": "nf.af.v1.PolicyTemplateStateChanged", "previousState": "PENDING"}
    assert from_json(events.Event, json.loads(json.dumps(written))) == event
    assert "payload.@type" in violations({"payload": {"@type": "no.such"}}, events.Event)


def test_a_path_in_the_words_of_the_contract_becomes_one_in_the_words_of_the_api():
    template = m1.PolicyTemplate.DESCRIPTOR
    assert json_path(template, "policy_template.qos_specification.max_btr_dl_bps") == "qoSSpecification.maxBtrDl"
    assert json_path(template, "charging_specification.gpsi[2]") == "chargingSpecification.gpsi[2]"
    assert json_path(template, "policy_template") == "policy_template"
    assert json_path(template, "page_size") == "page_size"
    assert json_path(template, "") == ""
