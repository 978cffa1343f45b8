"""What N4 says of a session, and the rules of the engine that enforce it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nf.common.errors import InvalidArgument
from nf.common.v1.types_pb2 import EnforcementMethod
from upf.n4.filters import ue_network
from upf.n4.rules import Interface, Made, detection_of, rules_of
from upf.n4.sessions import modified
from upf.n4.v1 import n4_pb2 as n4
from upf.rules import Aggregate, Marker, Mode, Policer, Rule

CORE, ACCESS = n4.SOURCE_INTERFACE_CORE, n4.SOURCE_INTERFACE_ACCESS
POLICE = EnforcementMethod.ENFORCEMENT_METHOD_POLICE
MONITOR = EnforcementMethod.ENFORCEMENT_METHOD_MONITOR
MARK = EnforcementMethod.ENFORCEMENT_METHOD_MARK
SHAPE = EnforcementMethod.ENFORCEMENT_METHOD_SHAPE
VIDEO = "permit out 17 from 198.51.100.7 443 to assigned"


def pdr(
    pdr_id: int = 1, *sdf_filters: n4.SdfFilter, interface: n4.SourceInterface.ValueType = CORE, **more: object
) -> n4.Pdr:
    pdi = n4.Pdi(source_interface=interface, ue_ip_address="10.45.0.2", sdf_filters=sdf_filters)
    return n4.Pdr(pdr_id=pdr_id, precedence=10, pdi=pdi, **more)  # type: ignore[arg-type]


def session(*pdrs: n4.Pdr, qers: tuple[n4.Qer, ...] = ()) -> n4.Session:
    return n4.Session(cp_seid=7, pdrs=pdrs, qers=qers)


def rules(*pdrs: n4.Pdr, qers: tuple[n4.Qer, ...] = ()) -> dict[str, Rule]:
    return {rule.name: rule for _, rule in rules_of(session(*pdrs, qers=qers))}


def filters(*pdrs: n4.Pdr) -> list[list[str]]:
    return [[str(each) for each in rule.filters] for _, rule in rules_of(session(*pdrs))]


def violations(made: n4.Session) -> list[tuple[str, str]]:
    with pytest.raises(InvalidArgument) as refused:
        rules_of(made)
    return [(violation.field.removeprefix("session."), violation.description) for violation in refused.value.violations]


# --- what is detected -------------------------------------------------------------------------------------------------


@pytest.mark.clause("TS 29.244 §8.2.5 SDF Filter")
def test_a_filter_asks_for_all_that_its_information_element_says() -> None:
    sdf = n4.SdfFilter(
        flow_description="permit out 50 from 2001:db8:a::7 to assigned",
        tos_traffic_class=0x2B,
        tos_traffic_class_mask=0xFC,
        security_parameter_index=0x1234,
        flow_label=12,
        domain_name="*.Example.com",
    )
    downlink = pdr(1, sdf)
    downlink.pdi.ue_ip_address = "2001:db8:45::/64"
    assert filters(downlink) == [
        [
            "permit out 50 from 2001:db8:a::7 to 2001:db8:45::/64 tos 0x28/0xfc flow-label 12 spi 0x1234"
            " domain *.example.com"
        ]
    ]


def test_without_a_description_the_rest_of_a_filter_counts() -> None:
    assert filters(pdr(1, n4.SdfFilter(tos_traffic_class=184))) == [
        ["permit out ip from any to 10.45.0.2 tos 0xb8/0xff"]
    ]
    assert filters(pdr(1)) == [["permit out ip from any to 10.45.0.2"]]


@pytest.mark.clause("TS 29.244 §8.2.5 SDF Filter ID: a bidirectional filter is described once")
def test_a_filter_given_by_its_identifier_is_the_one_that_the_session_describes_under_it() -> None:
    described = n4.SdfFilter(flow_description=VIDEO, sdf_filter_id=3, tos_traffic_class=0x28)
    referred = n4.SdfFilter(sdf_filter_id=3)
    expected = [
        ["permit in 17 from 10.45.0.2 to 198.51.100.7 443 tos 0x28/0xff"],
        ["permit out 17 from 198.51.100.7 443 to 10.45.0.2 tos 0x28/0xff"],
    ]
    assert filters(pdr(1, referred, interface=ACCESS), pdr(2, described)) == expected
    assert filters(pdr(1, described, interface=ACCESS), pdr(2, referred)) == expected


def test_a_tunnel_and_its_qos_flows_are_asked_for_in_the_uplink() -> None:
    uplink = pdr(1, n4.SdfFilter(flow_description=VIDEO), interface=ACCESS)
    uplink.pdi.local_f_teid.teid = 0
    uplink.pdi.qfis.extend([5, 9])
    assert filters(uplink) == [[f"permit in 17 from 10.45.0.2 to 198.51.100.7 443 teid 0 qfi {qfi}" for qfi in (5, 9)]]


@pytest.mark.clause("TS 29.244 §8.2.62 UE IP Address: IPv4 and IPv6 at once, a /64 by default")
def test_a_ue_may_have_an_address_and_a_prefix_at_once() -> None:
    both = pdr(
        1,
        n4.SdfFilter(flow_description="permit out ip from any to assigned"),
        n4.SdfFilter(flow_description=VIDEO),
        n4.SdfFilter(flow_description="permit out 17 from 2001:db8:a::7 to assigned"),
        n4.SdfFilter(flow_label=5),
    )
    both.pdi.ue_ipv6_prefix = "2001:db8:45::9"
    assert filters(both) == [
        [
            "permit out ip from any to 10.45.0.2",
            "permit out ip from any to 2001:db8:45::/64",
            "permit out 17 from 198.51.100.7 443 to 10.45.0.2",
            "permit out 17 from 2001:db8:a::7 to 2001:db8:45::/64",
            "permit out ip from any to 2001:db8:45::/64 flow-label 5",
        ]
    ]


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.45.0.2", "10.45.0.2/32"),
        ("10.45.0.0/24", "10.45.0.0/24"),
        ("2001:db8:45::9", "2001:db8:45::/64"),
        ("2001:db8:45::/56", "2001:db8:45::/56"),
        ("2001:db8:45::9/128", "2001:db8:45::9/128"),
    ],
)
def test_the_address_of_a_ue_is_a_network(text: str, network: str) -> None:
    assert str(ue_network(text)) == network


def change_filter(**fields: object) -> Callable[[n4.Session], None]:
    def change(made: n4.Session) -> None:
        made.pdrs[0].pdi.sdf_filters[0].MergeFrom(n4.SdfFilter(**fields))  # type: ignore[arg-type]

    return change


@pytest.mark.parametrize(
    ("change", "field", "description"),
    [
        (
            change_filter(flow_description=VIDEO + " tos 1"),
            "sdf_filters[0].flow_description",
            f"'{VIDEO} tos 1': sdf filter: expected ports or the end of the filter, got 'tos' at column 49",
        ),
        (change_filter(tos_traffic_class=256), "sdf_filters[0].tos_traffic_class", "found 256, expected 0 to 255"),
        (
            change_filter(tos_traffic_class_mask=3),
            "sdf_filters[0].tos_traffic_class_mask",
            "found 3 without tos_traffic_class",
        ),
        (change_filter(flow_label=1 << 20), "sdf_filters[0].flow_label", "found 1048576, expected 0 to 1048575"),
        (change_filter(flow_label=5), "sdf_filters[0].flow_label", "found 5, expected none: IPv4 has no flow label"),
        (
            change_filter(security_parameter_index=5),
            "sdf_filters[0].security_parameter_index",
            "found one, expected none: ESP and AH alone have it",
        ),
        (
            change_filter(domain_name="a..b"),
            "sdf_filters[0].domain_name",
            "'a..b': '' is no label: 1 to 63 letters, digits and inner hyphens",
        ),
        (
            lambda made: made.pdrs[0].pdi.sdf_filters[0].CopyFrom(n4.SdfFilter(sdf_filter_id=9)),
            "sdf_filters[0].sdf_filter_id",
            "found 9, expected a description, or the identifier of a filter that the session describes",
        ),
        (
            lambda made: made.pdrs[0].pdi.sdf_filters[0].Clear(),
            "sdf_filters[0].sdf_filter_id",
            "found nothing, expected a description, or the identifier of a filter that the session describes",
        ),
        (
            lambda made: made.pdrs[0].pdi.local_f_teid.SetInParent(),
            "local_f_teid",
            "found one with source interface CORE, expected ACCESS: the downlink comes in no tunnel",
        ),
        (
            lambda made: setattr(made.pdrs[0].pdi, "ue_ip_address", ""),
            "ue_ip_address",
            "UE address '': expected an address or prefix",
        ),
        (
            lambda made: setattr(made.pdrs[0].pdi, "ue_ipv6_prefix", "10.0.0.0/8"),
            "ue_ipv6_prefix",
            "found '10.0.0.0/8', expected an IPv6 prefix",
        ),
    ],
)
def test_what_cannot_be_detected_is_named(change: Callable[[n4.Session], None], field: str, description: str) -> None:
    made = session(pdr(1, n4.SdfFilter(flow_description=VIDEO)))
    change(made)
    assert violations(made) == [(f"pdrs[0].pdi.{field}", description)]


def test_a_qfi_has_six_bits() -> None:
    uplink = pdr(1, interface=ACCESS)
    uplink.pdi.qfis.extend([63, 64])
    assert violations(session(uplink)) == [("pdrs[0].pdi.qfis[1]", "found 64, expected 0 to 63")]


def test_one_identifier_is_of_one_filter() -> None:
    made = session(
        pdr(1, n4.SdfFilter(flow_description=VIDEO, sdf_filter_id=3)),
        pdr(2, n4.SdfFilter(sdf_filter_id=3, flow_label=1)),
    )
    assert ("pdrs[1].pdi.sdf_filters[0].sdf_filter_id", "found 3 for another filter too, expected one of its own") in (
        violations(made)
    )


# --- what is enforced -------------------------------------------------------------------------------------------------


def qer(qer_id: int = 1, **fields: object) -> n4.Qer:
    return n4.Qer(qer_id=qer_id, **{"mbr_dl_bps": 5_000_000, **fields})  # type: ignore[arg-type]


def downlink_rule(*qers: n4.Qer, **names: object) -> Rule:
    return rules(pdr(1, **names), qers=qers)["7/1"]


@pytest.mark.clause("TS 29.244 §8.2.7 Gate Status")
def test_a_gate_closes_its_direction_alone() -> None:
    closed = qer(gate_status_dl=n4.GATE_STATUS_CLOSED, gate_status_ul=n4.GATE_STATUS_OPEN)
    made = rules(pdr(1, qer_id=1), pdr(2, interface=ACCESS, qer_id=1), qers=(closed,))
    assert [made[name].gate_open for name in ("7/1", "7/2")] == [False, True]


def test_the_gate_of_a_further_qer_closes_too() -> None:
    closed = qer(2, gate_status_dl=n4.GATE_STATUS_CLOSED)
    assert not downlink_rule(qer(1), closed, qer_id=1, further_qer_ids=[2]).gate_open


@pytest.mark.clause("TS 29.244 §8.2.8 MBR, §8.2.9 GBR")
def test_guaranteed_and_maximum_bit_rate_are_the_rates_of_a_three_colour_marker() -> None:
    made = downlink_rule(qer(gbr_dl_bps=2_000_000, burst_dl_bytes=30_000), qer_id=1)
    assert made.policer == Policer(2_000_000, 30_000, Marker.TRTCM, 5_000_000, 30_000)
    made = downlink_rule(qer(gbr_dl_bps=2_000_000), qer_id=1)
    assert made.policer == Policer(2_000_000, 25_000, Marker.TRTCM, 5_000_000, 62_500)


@pytest.mark.clause("TS 29.244 §5.4.4 session AMBR: a PDR names several QERs")
def test_further_qers_are_aggregates_above_the_first() -> None:
    ambr = qer(2, mbr_dl_bps=8_000_000, burst_dl_bytes=20_000)
    made = downlink_rule(qer(1), ambr, qer_id=1, further_qer_ids=[2])
    assert (made.bucket_id, made.policer) == ("7/qer/1/downlink", Policer(5_000_000, 62_500))
    assert made.aggregates == (Aggregate("7/qer/2/downlink", Policer(8_000_000, 20_000)),)
    alone = downlink_rule(ambr, further_qer_ids=[2])
    assert (alone.policer, alone.mode) == (None, Mode.POLICE)
    assert alone.aggregates == made.aggregates


def test_the_bucket_of_an_aggregate_is_held_while_no_pdr_names_it() -> None:
    held = rules(qers=(qer(2),))
    assert held["7/qer/2/downlink"].bucket_id == "7/qer/2/downlink"


def test_marking_writes_what_the_qer_says_for_each_colour() -> None:
    made = downlink_rule(qer(enforcement_method=MARK, dscp_green=10, dscp_red=0), qer_id=1)
    assert (made.mode, made.dscp) == (Mode.MARK, (10, None, 0))


def test_shaping_holds_back_as_much_as_the_qer_says_or_as_a_bucket_of_the_rate() -> None:
    made = downlink_rule(qer(enforcement_method=SHAPE, queue_dl_bytes=9_000), qer_id=1)
    assert (made.mode, made.queue_bytes) == (Mode.SHAPE, 9_000)
    assert downlink_rule(qer(enforcement_method=SHAPE), qer_id=1).queue_bytes == 62_500


def test_a_direction_without_a_bit_rate_is_not_shaped() -> None:
    shaping = qer(enforcement_method=SHAPE)
    made = rules(pdr(1, interface=ACCESS, qer_id=1), qers=(shaping,))["7/1"]
    assert (made.policer, made.mode) == (None, Mode.POLICE)


@pytest.mark.parametrize(
    ("qers", "names", "field", "description"),
    [
        (
            [n4.Qer(qer_id=1, gbr_dl_bps=5)],
            {"qer_id": 1},
            "qers[0].gbr_dl_bps",
            "found 5 without mbr_dl_bps, expected both or none",
        ),
        (
            [qer(gbr_dl_bps=6_000_000)],
            {"qer_id": 1},
            "qers[0].gbr_dl_bps",
            "found 6000000, expected at most mbr_dl_bps, 5000000",
        ),
        (
            [qer(dscp_green=64, enforcement_method=MARK)],
            {"qer_id": 1},
            "qers[0].dscp_green",
            "found 64, expected 0 to 63",
        ),
        (
            [qer(dscp_green=10)],
            {"qer_id": 1},
            "qers[0].dscp_green",
            "found 10, expected none unless the method is MARK",
        ),
        (
            [qer(queue_dl_bytes=10)],
            {"qer_id": 1},
            "qers[0].queue_dl_bytes",
            "found 10, expected 0 unless SHAPE holds back",
        ),
        (
            [qer()],
            {"qer_id": 1, "further_qer_ids": [2]},
            "pdrs[0].further_qer_ids[0]",
            "found 2, expected a QER of the session",
        ),
        (
            [qer()],
            {"qer_id": 1, "further_qer_ids": [1]},
            "pdrs[0].further_qer_ids[0]",
            "found 1 a second time, expected each QER once",
        ),
        (
            [qer(), qer(2, enforcement_method=MONITOR)],
            {"qer_id": 1, "further_qer_ids": [2]},
            "pdrs[0].further_qer_ids[0]",
            "found QER 2 with method monitor, expected police as QER 1",
        ),
        (
            [qer(), qer(2, gbr_dl_bps=1_000_000)],
            {"qer_id": 1, "further_qer_ids": [2]},
            "pdrs[0].further_qer_ids[0]",
            "found 2, expected a QER without GBR: aggregate '7/qer/2/downlink': marker: found rfc2698, "
            "expected token-bucket",
        ),
    ],
)
def test_what_cannot_be_enforced_is_named(
    qers: list[n4.Qer], names: dict[str, object], field: str, description: str
) -> None:
    assert violations(session(pdr(1, **names), qers=tuple(qers))) == [(field, description)]


def test_a_rule_stands_for_its_pdr() -> None:
    made = session(pdr(1, qer_id=1), pdr(2, interface=ACCESS, further_qer_ids=[2]), qers=(
        qer(1, enforcement_method=MARK, averaging_window_ms=500), qer(2, enforcement_method=MONITOR),
    ))  # fmt: skip
    first, second = detection_of(made, "7/1"), detection_of(made, "7/2")
    assert first is not None
    assert second is not None
    assert (first.qer_id, first.mode, first.averaging_window_ns) == (1, Mode.MARK, 500_000_000)
    assert (second.qer_id, second.mode, second.averaging_window_ns) == (2, Mode.MONITOR, 2_000_000_000)
    assert detection_of(made, "7/3") is None
    assert detection_of(made, "7/qer/1/downlink") is None


# --- from session to session ------------------------------------------------------------------------------------------

SDFS = st.builds(
    n4.SdfFilter,
    flow_description=st.sampled_from((VIDEO, VIDEO, "")),
    sdf_filter_id=st.sampled_from((0, 1, 2)),
    domain_name=st.sampled_from(("", "", "example.com")),
)
PDRS = st.builds(
    lambda pdr_id, sdf, interface, ids, qer_ids: pdr(
        pdr_id, sdf, interface=interface, urr_id=ids[0], far_id=ids[1], qer_id=ids[2], further_qer_ids=qer_ids
    ),
    st.integers(1, 4),
    SDFS,
    st.sampled_from((CORE, ACCESS)),
    st.tuples(*[st.sampled_from((0, 0, 1))] * 3),
    st.lists(st.sampled_from((1, 2)), max_size=1),
)
QERS = st.builds(
    n4.Qer,
    qer_id=st.sampled_from((1, 2)),
    mbr_dl_bps=st.sampled_from((None, 5_000_000, 9_000_000)),
    gate_status_dl=st.sampled_from(n4.GateStatus.values()),
    enforcement_method=st.sampled_from((0, 0, POLICE, MONITOR)),
)
FARS = st.builds(n4.Far, far_id=st.just(1), apply_action=st.sampled_from((1, 2)))
SESSIONS = st.builds(
    n4.Session,
    cp_seid=st.just(7),
    pdrs=st.lists(PDRS, max_size=3, unique_by=lambda each: each.pdr_id),
    qers=st.lists(QERS, max_size=2, unique_by=lambda each: each.qer_id),
    urrs=st.sampled_from(([], [n4.Urr(urr_id=1)], [n4.Urr(urr_id=1)])),
    fars=st.lists(FARS, max_size=1),
)
Outcome = list[tuple[Interface, Rule]] | list[tuple[str, str]]


def outcome(each: n4.Session, made: Made | None = None) -> Outcome:
    try:
        return rules_of(each, made=made)
    except InvalidArgument as refused:
        return [(violation.field, violation.description) for violation in refused.violations]


def with_everything() -> n4.Session:
    described = n4.SdfFilter(flow_description=VIDEO, sdf_filter_id=3)
    names = {"qer_id": 1, "further_qer_ids": [2], "urr_id": 1, "far_id": 1}
    return n4.Session(
        cp_seid=7,
        pdrs=[pdr(1, described, **names), pdr(2, n4.SdfFilter(sdf_filter_id=3), **names), pdr(3, interface=ACCESS)],
        qers=[n4.Qer(qer_id=number, mbr_dl_bps=5_000_000) for number in (1, 2)],
        urrs=[n4.Urr(urr_id=1)],
        fars=[n4.Far(far_id=1, apply_action=n4.APPLY_ACTION_FORW)],
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda each: each.Clear(),
        lambda each: setattr(each.qers[0], "mbr_dl_bps", 9_000_000),
        lambda each: setattr(each.qers[0], "enforcement_method", MONITOR),
        lambda each: setattr(each.qers[0], "mbr_dl_bps", 0),
        lambda each: setattr(each.qers[1], "mbr_dl_bps", 9_000_000),
        lambda each: setattr(each.qers[1], "gate_status_dl", n4.GATE_STATUS_CLOSED),
        lambda each: each.qers.pop(),
        lambda each: each.urrs.pop(),
        lambda each: setattr(each.fars[0], "apply_action", n4.APPLY_ACTION_DROP),
        lambda each: each.fars.pop(),
        lambda each: setattr(each.pdrs[0], "precedence", 11),
        lambda each: each.pdrs[0].pdi.sdf_filters[0].ClearField("flow_description"),
        lambda each: setattr(each.pdrs[0].pdi.sdf_filters[0], "domain_name", "example.com"),
        lambda each: each.pdrs.pop(0),
    ],
)
def test_what_is_known_of_a_session_as_it_was_says_the_same_of_it_as_it_is(
    change: Callable[[n4.Session], object],
) -> None:
    changed = with_everything()
    change(changed)
    assert outcome(changed) != outcome(with_everything())
    made = Made()
    for each in (with_everything(), changed, with_everything(), with_everything(), changed):
        assert outcome(each, made) == outcome(each)


def test_what_a_change_leaves_as_it_is_is_not_made_anew() -> None:
    made = Made()
    before = rules_of(with_everything(), made=made)
    changed = with_everything()
    changed.pdrs.add().CopyFrom(pdr(4))
    after = rules_of(changed, made=made)
    stay = [rule for _, rule in before if rule.name != "7/2"]
    assert all(any(rule is same for _, same in after) for rule in stay)


@given(SESSIONS, SESSIONS, SESSIONS)
def test_a_modification_keeps_the_order_of_the_rules_that_stay(
    before: n4.Session, created: n4.Session, removed: n4.Session
) -> None:
    request = n4.ModifySessionRequest(
        create_or_update_pdrs=[*created.pdrs, *created.pdrs[:1]],
        create_or_update_qers=created.qers,
        create_or_update_urrs=created.urrs,
        create_or_update_fars=created.fars,
        remove_pdr_ids=sorted({each.pdr_id for each in before.pdrs} & {each.pdr_id for each in removed.pdrs}),
        remove_qer_ids=[each.qer_id for each in before.qers[:1]],
    )
    pdrs = {each.pdr_id: each for each in (*before.pdrs, *request.create_or_update_pdrs)}
    qers = {each.qer_id: each for each in (*before.qers, *request.create_or_update_qers)}
    untouched = n4.Session()
    untouched.CopyFrom(before)
    after = modified(before, request)
    assert list(after.pdrs) == [each for number, each in pdrs.items() if number not in request.remove_pdr_ids]
    assert list(after.qers) == [each for number, each in qers.items() if number not in request.remove_qer_ids]
    assert list(after.urrs) == list(before.urrs or created.urrs)
    assert list(after.fars) == list(created.fars or before.fars)
    assert before == untouched
