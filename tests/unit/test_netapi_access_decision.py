"""What a device is to have of what is booked: by booking, period, area, attachment and number."""

from __future__ import annotations

from dataclasses import replace

import pytest
from netapi_places import SUPI, UE_ADDRESS, ue

from nf.common.v1.types_pb2 import EnforcementMethod, ProblemDetails, Snssai
from nf.netapi.access_decision import (
    SPONSOR,
    Decision,
    Deed,
    Outcome,
    Situation,
    Whereabouts,
    decide,
    deed,
    finding,
    in_step,
)
from nf.netapi.access_machine import Event
from nf.netapi.geometry import Fit
from nf.netapi.v1.access_pb2 import AccessInstallation, DeviceAccess
from nf.netapi.v1.booking_pb2 import (
    OUTSIDE_POLICY_BEST_EFFORT,
    OUTSIDE_POLICY_REFUSED,
    BookedTraffic,
    Booking,
    BookingRequest,
    NetworkAccessId,
    Population,
)
from nf.netapi.v1.coverage_pb2 import CAPABILITY_GEOFENCING, CAPABILITY_QUALITY_ON_DEMAND, QosProfile
from nf.pcf.v1 import policy_authorization_pb2 as n5

C = pytest.mark.clause("5G-MAG live media distribution C")
B1A = pytest.mark.clause("5G-MAG live media distribution B.1 a QoD")
MBPS = 1_000_000
FLOW = "permit out 17 from 198.51.100.7 443 to assigned"


def booking(
    state: Booking.State.ValueType = Booking.STATE_ACTIVE, *, refused: bool = False, **traffic: object
) -> Booking:
    """An accepted booking of a radio."""
    request = BookingRequest(
        population=Population(application_id="radio.app", devices=3),
        traffic=BookedTraffic(**traffic),
        outside=OUTSIDE_POLICY_REFUSED if refused else OUTSIDE_POLICY_BEST_EFFORT,
    )
    return Booking(booking_id="b", agreement_id="radio", state=state, request=request)


def quality(**qos: int) -> NetworkAccessId:
    """A Quality-on-Demand ID."""
    made = {"five_qi": 3, "guaranteed_downlink_bps": MBPS, "max_downlink_bps": 2 * MBPS, **qos}
    return NetworkAccessId(
        network_access_id="qod",
        booking_id="b",
        active=True,
        devices=3,
        capability=CAPABILITY_QUALITY_ON_DEMAND,
        qos=QosProfile(**made),
    )


INSIDE = Situation(
    booking=booking(),
    network_access_id=quality(),
    whereabouts=Whereabouts(Fit.INSIDE, 100),
    was_inside=None,
    ue=ue(),
)


@C
@B1A
def test_inside_area_and_period_a_device_has_what_is_booked_policed_and_guaranteed() -> None:
    decision = decide(INSIDE)
    assert (decision.outcome, decision.reason) == (Outcome.QUALITY, DeviceAccess.REASON_UNSPECIFIED)
    assert decision.request == n5.AppSessionContextReqData(
        af_app_id="radio.app",
        asp_id="radio",
        dnn="internet",
        spon_id=SPONSOR,
        supi=SUPI,
        ue_ipv4=UE_ADDRESS,
        med_components=[
            n5.MediaComponent(
                med_comp_n=1,
                enforcement_method=EnforcementMethod.ENFORCEMENT_METHOD_POLICE,
                guaranteed=True,
                five_qi=3,
                mar_bw_dl_bps=2 * MBPS,
                mir_bw_dl_bps=MBPS,
                med_sub_comps=[n5.MediaSubComponent(f_num=1, f_descs=["permit out ip from any to assigned"])],
            )
        ],
        events=[1, 2, 3, 4, 5],
    )


REASONS = [
    ({"booking": None}, Outcome.OVER, DeviceAccess.REASON_BOOKING_ENDED),
    ({"booking": booking(Booking.STATE_RELEASED)}, Outcome.OVER, DeviceAccess.REASON_BOOKING_ENDED),
    ({"booking": booking(Booking.STATE_EXPIRED)}, Outcome.OVER, DeviceAccess.REASON_BOOKING_ENDED),
    ({"over": DeviceAccess.REASON_RELEASED}, Outcome.OVER, DeviceAccess.REASON_RELEASED),
    ({"booking": booking(Booking.STATE_SUSPENDED)}, Outcome.NONE, DeviceAccess.REASON_SUSPENDED),
    ({"booking": booking(Booking.STATE_BOOKED)}, Outcome.NONE, DeviceAccess.REASON_OUTSIDE_PERIOD),
    ({"beyond": True}, Outcome.NONE, DeviceAccess.REASON_NO_LONGER_BOOKED),
    ({"network_access_id": NetworkAccessId()}, Outcome.NONE, DeviceAccess.REASON_NO_LONGER_BOOKED),
    ({"ue": None}, Outcome.NONE, DeviceAccess.REASON_NOT_ATTACHED),
    ({"whereabouts": Whereabouts(Fit.UNKNOWN)}, Outcome.NONE, DeviceAccess.REASON_POSITION_UNKNOWN),
    ({"whereabouts": Whereabouts(Fit.OUTSIDE)}, Outcome.NONE, DeviceAccess.REASON_OUTSIDE_AREA),
]


@C
@pytest.mark.parametrize(("changes", "outcome", "reason"), REASONS)
def test_otherwise_its_traffic_is_best_effort_and_the_access_says_why(
    changes: dict[str, object], outcome: Outcome, reason: DeviceAccess.Reason.ValueType
) -> None:
    decision = decide(replace(INSIDE, **changes))
    assert (decision.outcome, decision.reason, decision.request) == (outcome, reason, None)


@C
@pytest.mark.parametrize(
    ("changes", "stopped"),
    [
        ({"whereabouts": Whereabouts(Fit.OUTSIDE)}, True),
        ({"whereabouts": Whereabouts(Fit.UNKNOWN)}, True),
        ({"booking": booking(Booking.STATE_BOOKED, refused=True)}, True),
        ({"booking": booking(Booking.STATE_SUSPENDED, refused=True)}, False),
        ({"beyond": True}, False),
        ({"ue": None}, False),
    ],
)
def test_where_it_is_booked_so_the_traffic_of_a_device_outside_is_stopped(
    changes: dict[str, object], stopped: bool
) -> None:
    decision = decide(replace(INSIDE, **{"booking": booking(refused=True), **changes}))
    assert decision.outcome is Outcome.NONE
    found = None if decision.request is None else decision.request.med_components[0]
    assert (found is not None) == stopped
    if found is not None:
        assert found.f_status == n5.FLOW_STATUS_DISABLED
        # What is stopped holds no guaranteed bit rate.
        assert not found.guaranteed
        assert not found.HasField("mir_bw_dl_bps")


@B1A
def test_flows_and_names_of_servers_are_the_booked_traffic() -> None:
    booked = booking(flow_descriptions=[FLOW], domain_names=["*.radio.example"])
    request = decide(replace(INSIDE, booking=booked)).request
    assert request is not None
    assert list(request.med_components[0].med_sub_comps) == [
        n5.MediaSubComponent(f_num=1, f_descs=[FLOW]),
        n5.MediaSubComponent(f_num=2, domain_name="*.radio.example"),
    ]


def test_an_mfbr_that_is_not_named_is_the_gfbr() -> None:
    qod = quality(max_downlink_bps=0, guaranteed_uplink_bps=64_000)
    request = decide(replace(INSIDE, network_access_id=qod)).request
    assert request is not None
    (component,) = request.med_components
    assert (component.mar_bw_dl_bps, component.mar_bw_ul_bps, component.mir_bw_ul_bps) == (MBPS, 64_000, 64_000)


def test_the_application_session_is_for_the_pdu_session_of_the_device() -> None:
    attached = ue(ipv6_prefix="2001:db8:1::/64", s_nssai=Snssai(sst=1, sd="00000a"))
    attached.ipv4_address = ""
    request = decide(replace(INSIDE, ue=attached)).request
    assert request is not None
    assert (request.ue_ipv4, request.ue_ipv6) == ("", "2001:db8:1::")
    assert request.slice_info == Snssai(sst=1, sd="00000a")


@pytest.mark.parametrize(
    ("percent", "before", "inside"), [(49, None, False), (50, None, True), (99, False, False), (1, True, True)]
)
def test_across_the_border_a_device_stays_where_it_was(percent: int, before: bool | None, inside: bool) -> None:
    decision = decide(replace(INSIDE, whereabouts=Whereabouts(Fit.PARTIAL, percent), was_inside=before))
    assert decision.inside is inside
    assert decision.outcome is (Outcome.QUALITY if inside else Outcome.NONE)


@pytest.mark.clause("5G-MAG live media distribution B.1 b geofencing")
def test_a_geofencing_id_is_in_use_wherever_the_device_is_and_asks_the_network_for_nothing() -> None:
    fence = NetworkAccessId(network_access_id="fence", active=True, capability=CAPABILITY_GEOFENCING)
    nowhere = replace(INSIDE, network_access_id=fence, whereabouts=Whereabouts(Fit.UNKNOWN), ue=None)
    assert (decide(nowhere).outcome, decide(nowhere).request) == (Outcome.QUALITY, None)
    assert finding(decide(nowhere), AccessInstallation()) is Event.INSTALLED
    later = decide(replace(nowhere, booking=booking(Booking.STATE_BOOKED)))
    assert (later.outcome, later.reason) == (Outcome.NONE, DeviceAccess.REASON_OUTSIDE_PERIOD)


WANTED = decide(INSIDE)
NONE = decide(replace(INSIDE, whereabouts=Whereabouts(Fit.OUTSIDE)))
OVER = decide(replace(INSIDE, over=DeviceAccess.REASON_RELEASED))
STOPPED = decide(replace(INSIDE, booking=booking(refused=True), whereabouts=Whereabouts(Fit.OUTSIDE)))
MOVED = decide(replace(INSIDE, ue=ue(ipv4_address="10.45.0.9")))
NOTHING = AccessInstallation()
ASKED = AccessInstallation(app_session_id="a.1", asked=WANTED.request)
IN_FORCE = AccessInstallation(app_session_id="a.1", asked=WANTED.request, confirmed=True, created=True, enforced=True)
UNENFORCED = AccessInstallation(
    app_session_id="a.1", asked=WANTED.request, confirmed=True, created=True, problem=ProblemDetails(title="away")
)
LOST = AccessInstallation(
    app_session_id="a.1",
    asked=WANTED.request,
    confirmed=True,
    created=True,
    lost=True,
    problem=ProblemDetails(title="gone"),
)
REFUSED = AccessInstallation(app_session_id="a.1", asked=WANTED.request, problem=ProblemDetails(title="no"))
CLOSED = AccessInstallation(app_session_id="a.1", asked=STOPPED.request, confirmed=True, created=True, enforced=True)


@C
@pytest.mark.parametrize(
    ("decision", "installed", "event", "todo"),
    [
        (WANTED, NOTHING, Event.WANTED, Deed.CREATE),
        (WANTED, ASKED, Event.WANTED, Deed.CREATE),
        (WANTED, IN_FORCE, Event.INSTALLED, None),
        (WANTED, UNENFORCED, Event.FAILED, None),
        (WANTED, LOST, Event.FAILED, Deed.DELETE),
        (WANTED, REFUSED, Event.FAILED, Deed.CREATE),
        # The flows are opened again in the same application session.
        (WANTED, CLOSED, Event.WANTED, Deed.UPDATE),
        # Another PDU session needs another application session.
        (MOVED, IN_FORCE, Event.WANTED, Deed.DELETE),
        (NONE, NOTHING, Event.CLEARED, None),
        (NONE, ASKED, Event.UNWANTED, Deed.DELETE),
        (NONE, IN_FORCE, Event.UNWANTED, Deed.DELETE),
        (STOPPED, NOTHING, Event.UNWANTED, Deed.CREATE),
        (STOPPED, IN_FORCE, Event.UNWANTED, Deed.UPDATE),
        (STOPPED, CLOSED, Event.CLEARED, None),
        (OVER, NOTHING, Event.GIVEN_BACK, None),
        (OVER, ASKED, Event.OVER, Deed.DELETE),
        (OVER, IN_FORCE, Event.OVER, Deed.DELETE),
    ],
)
def test_what_follows_is_found_by_comparing(
    decision: Decision, installed: AccessInstallation, event: Event, todo: Deed | None
) -> None:
    assert finding(decision, installed) is event
    assert deed(decision, installed) is todo
    assert in_step(decision, installed) == (todo is None)
