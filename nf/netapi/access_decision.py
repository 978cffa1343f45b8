"""What a device is to have of what is booked, and how that compares with what it has. Pure.

It has the quality while its booking is within one of its periods, the device is attached and in the area, and it is not
beyond the booked number. Otherwise its traffic is best effort: no application session at the PCF. Where it is booked so
that devices outside are refused, their traffic is stopped instead: an application session whose flows are closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv6Network
from typing import Final

from nf.common.v1.types_pb2 import EnforcementMethod
from nf.netapi.access_machine import Event
from nf.netapi.geometry import Fit
from nf.netapi.v1.access_pb2 import AccessInstallation, DeviceAccess
from nf.netapi.v1.booking_pb2 import OUTSIDE_POLICY_REFUSED, BookedTraffic, Booking, NetworkAccessId
from nf.netapi.v1.coverage_pb2 import CAPABILITY_GEOFENCING, QosProfile
from nf.netapi.v1.location_pb2 import AttachedUe
from nf.pcf.v1 import policy_authorization_pb2 as n5

# By it an operator policy at the PCF can be about bookings alone.
SPONSOR: Final = "network-api-platform"
# In these a booking is accepted and not over.
STANDING: Final = frozenset({Booking.STATE_BOOKED, Booking.STATE_ACTIVE, Booking.STATE_SUSPENDED})

_OUTSIDE: Final = frozenset(
    {DeviceAccess.REASON_OUTSIDE_AREA, DeviceAccess.REASON_POSITION_UNKNOWN, DeviceAccess.REASON_OUTSIDE_PERIOD}
)
_EVERYTHING: Final = "permit out ip from any to assigned"
_EVENTS: Final = (
    n5.AF_EVENT_SUCCESSFUL_RESOURCES_ALLOCATION,
    n5.AF_EVENT_FAILED_RESOURCES_ALLOCATION,
    n5.AF_EVENT_QOS_NOTIF,
    n5.AF_EVENT_USAGE_REPORT,
    n5.AF_EVENT_PDU_SESSION_STATUS,
)
# Half of where a device may be.
_MOST: Final = 50


class Outcome(Enum):
    """What a device is to have."""

    QUALITY = auto()
    # Best effort, or nothing.
    NONE = auto()
    # It has ended, or its booking has.
    OVER = auto()


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Whether a device is in the area of its network access ID; ``percent`` with PARTIAL."""

    fit: Fit
    percent: int = 0

    def inside(self, before: bool | None) -> bool:
        """Whether it counts as inside.

        Across the border it stays where it was (``before``), so that it does not come and go with every position; where
        that is not known the greater part of where it may be decides.
        """
        if self.fit is Fit.PARTIAL:
            return before if before is not None else self.percent >= _MOST
        return self.fit is Fit.INSIDE


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides on an access; a booking or attached UE that is None is not there."""

    booking: Booking | None
    network_access_id: NetworkAccessId
    whereabouts: Whereabouts
    # Whether it was inside before; None: not known.
    was_inside: bool | None
    ue: AttachedUe | None
    # Whether the number of devices, after a reconfiguration, leaves no room for this one.
    beyond: bool = False
    # Why the access is over by itself; unspecified: it is not.
    over: DeviceAccess.Reason.ValueType = DeviceAccess.REASON_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Decision:
    """What a device is to have; ``request`` is what the PCF is to have for it, None: no application session."""

    outcome: Outcome
    reason: DeviceAccess.Reason.ValueType
    inside: bool
    position_known: bool
    request: n5.AppSessionContextReqData | None = None


def decide(situation: Situation) -> Decision:
    """What the device is to have now."""
    inside = situation.whereabouts.inside(situation.was_inside)
    known = situation.whereabouts.fit is not Fit.UNKNOWN
    booking, ue = situation.booking, situation.ue
    if situation.over:
        return Decision(Outcome.OVER, situation.over, inside, known)
    if booking is None or booking.state not in STANDING:
        return Decision(Outcome.OVER, DeviceAccess.REASON_BOOKING_ENDED, inside, known)
    reason = _hindrance(situation, booking, inside=inside, known=known)
    if situation.network_access_id.capability == CAPABILITY_GEOFENCING:
        # The network has nothing to do for it.
        outcome = Outcome.NONE if reason else Outcome.QUALITY
        return Decision(outcome, reason, inside, known)
    if reason == DeviceAccess.REASON_UNSPECIFIED and ue is not None:
        return Decision(Outcome.QUALITY, reason, inside, known, request(situation.network_access_id, booking, ue))
    stopped = reason in _OUTSIDE and booking.request.outside == OUTSIDE_POLICY_REFUSED and ue is not None
    if not stopped or ue is None:
        return Decision(Outcome.NONE, reason, inside, known)
    return Decision(Outcome.NONE, reason, inside, known, stop(booking, ue))


def _hindrance(situation: Situation, booking: Booking, *, inside: bool, known: bool) -> DeviceAccess.Reason.ValueType:
    """Why the device has no quality; unspecified: it has."""
    if situation.beyond or not situation.network_access_id.active:
        return DeviceAccess.REASON_NO_LONGER_BOOKED
    if booking.state == Booking.STATE_SUSPENDED:
        return DeviceAccess.REASON_SUSPENDED
    if booking.state != Booking.STATE_ACTIVE:
        return DeviceAccess.REASON_OUTSIDE_PERIOD
    if situation.network_access_id.capability == CAPABILITY_GEOFENCING:
        return DeviceAccess.REASON_UNSPECIFIED
    if situation.ue is None:
        return DeviceAccess.REASON_NOT_ATTACHED
    if not known:
        return DeviceAccess.REASON_POSITION_UNKNOWN
    return DeviceAccess.REASON_UNSPECIFIED if inside else DeviceAccess.REASON_OUTSIDE_AREA


def request(network_access_id: NetworkAccessId, booking: Booking, ue: AttachedUe) -> n5.AppSessionContextReqData:
    """The application session of the booked quality: policed at the MFBR, guaranteed the GFBR (TS 23.501 §5.7.2)."""
    qos = network_access_id.qos
    component = n5.MediaComponent(
        med_comp_n=1,
        enforcement_method=EnforcementMethod.ENFORCEMENT_METHOD_POLICE,
        guaranteed=True,
        five_qi=qos.five_qi,
        med_sub_comps=_flows(booking.request.traffic),
    )
    if most_bps := most_downlink_bps(qos):
        component.mar_bw_dl_bps = most_bps
    if most_bps := most_uplink_bps(qos):
        component.mar_bw_ul_bps = most_bps
    if qos.guaranteed_downlink_bps:
        component.mir_bw_dl_bps = qos.guaranteed_downlink_bps
    if qos.guaranteed_uplink_bps:
        component.mir_bw_ul_bps = qos.guaranteed_uplink_bps
    return _session(booking, ue, component)


def stop(booking: Booking, ue: AttachedUe) -> n5.AppSessionContextReqData:
    """The application session that lets none of the booked traffic pass."""
    component = n5.MediaComponent(
        med_comp_n=1,
        f_status=n5.FLOW_STATUS_DISABLED,
        med_sub_comps=_flows(booking.request.traffic),
    )
    return _session(booking, ue, component)


def most_downlink_bps(qos: QosProfile) -> int:
    """The MFBR downlink, which is the GFBR where a profile does not name it; 0: none."""
    return qos.max_downlink_bps or qos.guaranteed_downlink_bps


def most_uplink_bps(qos: QosProfile) -> int:
    """The MFBR uplink; as above."""
    return qos.max_uplink_bps or qos.guaranteed_uplink_bps


def _session(booking: Booking, ue: AttachedUe, component: n5.MediaComponent) -> n5.AppSessionContextReqData:
    return n5.AppSessionContextReqData(
        af_app_id=booking.request.population.application_id,
        asp_id=booking.agreement_id,
        dnn=ue.dnn,
        slice_info=ue.s_nssai if ue.HasField("s_nssai") else None,
        spon_id=SPONSOR,
        supi=ue.supi,
        ue_ipv4=ue.ipv4_address,
        ue_ipv6="" if ue.ipv4_address else str(IPv6Network(ue.ipv6_prefix).network_address),
        med_components=[component],
        events=_EVENTS,
    )


def _flows(traffic: BookedTraffic) -> list[n5.MediaSubComponent]:
    """The booked traffic; everything of the device where nothing is named."""
    flows = [n5.MediaSubComponent(f_descs=[each]) for each in traffic.flow_descriptions]
    flows += [n5.MediaSubComponent(domain_name=each) for each in traffic.domain_names]
    flows = flows or [n5.MediaSubComponent(f_descs=[_EVERYTHING])]
    for number, flow in enumerate(flows, 1):
        flow.f_num = number
    return flows


def in_step(decision: Decision, installed: AccessInstallation) -> bool:
    """Whether the PCF has confirmed what it is to have."""
    if decision.request is None:
        return not installed.app_session_id
    return installed.confirmed and not installed.lost and installed.asked == decision.request


def finding(decision: Decision, installed: AccessInstallation) -> Event:
    """How what a device is to have compares with what it has."""
    if decision.outcome is Outcome.OVER:
        return Event.OVER if installed.app_session_id else Event.GIVEN_BACK
    confirmed = in_step(decision, installed)
    if decision.outcome is Outcome.NONE:
        return Event.CLEARED if confirmed else Event.UNWANTED
    if confirmed and (decision.request is None or installed.enforced):
        return Event.INSTALLED
    tried = decision.request is not None and installed.asked == decision.request
    return Event.FAILED if tried and installed.HasField("problem") else Event.WANTED


class Deed(Enum):
    """What to ask the PCF."""

    CREATE = auto()
    UPDATE = auto()
    DELETE = auto()


def deed(decision: Decision, installed: AccessInstallation) -> Deed | None:
    """What the PCF has to be asked next, for it to have what it is to have; None: nothing."""
    if in_step(decision, installed):
        return None
    wanted = decision.request
    if not installed.app_session_id:
        return Deed.CREATE
    if wanted is None or installed.lost or _binding(wanted) != _binding(installed.asked):
        return Deed.DELETE
    return Deed.UPDATE if installed.created else Deed.CREATE


def _binding(asked: n5.AppSessionContextReqData) -> tuple[str, str, str, int, str, str]:
    """What an application session keeps for as long as it is: the PDU session that it is bound to."""
    where = asked.slice_info
    return asked.ue_ipv4, asked.ue_ipv6, asked.dnn.lower(), where.sst, where.sd.lower(), asked.supi
