"""What FARs say of a session: whether its packets pass, and in which tunnel (TS 29.244 §5.2.3)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network

import pytest

from nf.common.errors import InvalidArgument
from upf.errors import UpfError
from upf.n4.forwarding import tunnel_of
from upf.n4.rules import rules_of
from upf.n4.sessions import modified
from upf.n4.v1 import n4_pb2 as n4
from upf.tunnels import OuterHeader, Tunnel, TunnelBook

CORE, ACCESS = n4.SOURCE_INTERFACE_CORE, n4.SOURCE_INTERFACE_ACCESS
GNB = n4.OuterHeaderCreation(teid=0x1001, ipv4_address="192.0.2.7")


def far(far_id: int, destination: n4.DestinationInterface.ValueType, **more: object) -> n4.Far:
    forwarding = n4.ForwardingParameters(destination_interface=destination, **more)  # type: ignore[arg-type]
    return n4.Far(far_id=far_id, apply_action=n4.APPLY_ACTION_FORW, forwarding_parameters=forwarding)


def session() -> n4.Session:
    """A session in a tunnel: uplink PDR 1 and downlink PDR 2."""
    uplink = n4.Pdi(source_interface=ACCESS, ue_ip_address="10.45.0.2", local_f_teid=n4.FTeid(teid=7))
    downlink = n4.Pdi(source_interface=CORE, ue_ip_address="10.45.0.2")
    return n4.Session(
        cp_seid=7,
        pdrs=[
            n4.Pdr(pdr_id=1, pdi=uplink, far_id=1, outer_header_removal=n4.OUTER_HEADER_REMOVAL_GTP_U_UDP_IP),
            n4.Pdr(pdr_id=2, pdi=downlink, far_id=2, qer_id=1),
        ],
        qers=[n4.Qer(qer_id=1, qfi=5)],
        fars=[
            far(1, n4.DESTINATION_INTERFACE_CORE),
            far(2, n4.DESTINATION_INTERFACE_ACCESS, outer_header_creation=GNB),
        ],
    )


def gates(made: n4.Session) -> dict[str, bool]:
    return {rule.name: rule.gate_open for _, rule in rules_of(made)}


@pytest.mark.clause("TS 29.244 §7.5.2.3")
def test_the_tunnel_of_a_session_has_the_end_of_its_pdis_and_that_of_its_fars() -> None:
    outer_header = OuterHeader(ip_address("192.0.2.7"), 0x1001, qfi=5, port=2152)
    assert tunnel_of(session()) == Tunnel("7", (ip_network("10.45.0.2/32"),), 7, outer_header)
    assert gates(session()) == {"7/1": True, "7/2": True}


def test_a_session_without_removal_has_no_tunnel_whatever_its_filters_ask_for() -> None:
    made = session()
    made.pdrs[0].outer_header_removal = n4.OUTER_HEADER_REMOVAL_UNSPECIFIED
    assert tunnel_of(made) is None


def test_a_tunnel_may_lead_nowhere_yet() -> None:
    made = session()
    made.fars[1].forwarding_parameters.ClearField("outer_header_creation")
    tunnel = tunnel_of(made)
    assert tunnel is not None
    assert tunnel.outer_header is None


def test_ipv6_and_another_port_are_where_the_far_says() -> None:
    made = session()
    creation = made.fars[1].forwarding_parameters.outer_header_creation
    creation.ipv4_address, creation.ipv6_address, creation.port = "", "2001:db8::7", 21_520
    made.qers[0].qfi = 0
    tunnel = tunnel_of(made)
    assert tunnel is not None
    assert tunnel.outer_header == OuterHeader(ip_address("2001:db8::7"), 0x1001, None, 21_520)


@pytest.mark.clause("TS 29.244 §8.2.26 Apply Action")
def test_what_a_far_drops_is_stopped_by_a_closed_gate() -> None:
    made = session()
    made.fars[1].apply_action = n4.APPLY_ACTION_DROP
    assert gates(made) == {"7/1": True, "7/2": False}


def test_fars_are_created_changed_and_removed_by_a_modification() -> None:
    changed = far(2, n4.DESTINATION_INTERFACE_ACCESS)
    request = n4.ModifySessionRequest(cp_seid=7, create_or_update_fars=[changed, far(3, 2)], remove_far_ids=[1])
    assert list(modified(session(), request).fars) == [changed, far(3, 2)]
    with pytest.raises(InvalidArgument, match="not there"):
        modified(session(), n4.ModifySessionRequest(cp_seid=7, remove_far_ids=[9]))


def without_far(made: n4.Session) -> None:
    made.pdrs[0].far_id = 3


def to_the_same_side(made: n4.Session) -> None:
    made.pdrs[1].far_id = 1


def without_f_teid(made: n4.Session) -> None:
    made.pdrs[0].pdi.ClearField("local_f_teid")


def teid_zero(made: n4.Session) -> None:
    made.pdrs[0].pdi.local_f_teid.teid = 0


def two_teids(made: n4.Session) -> None:
    other = made.pdrs.add()
    other.CopyFrom(made.pdrs[0])
    other.pdr_id, other.pdi.local_f_teid.teid = 3, 8


def two_outer_headers(made: n4.Session) -> None:
    other = made.fars.add()
    other.CopyFrom(made.fars[1])
    other.far_id, other.forwarding_parameters.outer_header_creation.teid = 3, 0x1002


def outer_header_to_core(made: n4.Session) -> None:
    made.fars[0].forwarding_parameters.outer_header_creation.CopyFrom(GNB)


def no_address(made: n4.Session) -> None:
    made.fars[1].forwarding_parameters.outer_header_creation.ipv4_address = ""


def wrong_address(made: n4.Session) -> None:
    made.fars[1].forwarding_parameters.outer_header_creation.ipv4_address = "gnb"


def two_qos_flows(made: n4.Session) -> None:
    made.qers.add(qer_id=2, qfi=6)


def large_qfi(made: n4.Session) -> None:
    made.qers[0].qfi = 64


def wide_ue(made: n4.Session) -> None:
    made.pdrs[0].pdi.ue_ip_address = "10.45.0.0/16"


CREATION = "fars[1].forwarding_parameters.outer_header_creation"


@pytest.mark.parametrize(
    ("change", "field", "description"),
    [
        (without_far, "pdrs[0].far_id", "found 3, expected a FAR of the session"),
        (
            to_the_same_side,
            "fars[0].forwarding_parameters.destination_interface",
            "found CORE, expected ACCESS, where PDR 2 sends its packets",
        ),
        (
            without_f_teid,
            "pdrs[0].outer_header_removal",
            "found one without pdi.local_f_teid, expected both or none",
        ),
        (teid_zero, "pdrs[0].pdi.local_f_teid.teid", "found 0, expected an identifier from 1 on"),
        (two_teids, "pdrs[2].pdi.local_f_teid.teid", "found 8, expected 7: a session has one tunnel"),
        (
            two_outer_headers,
            "fars[2].forwarding_parameters.outer_header_creation",
            "found 192.0.2.7:2152 teid 4098 qfi 5, expected 192.0.2.7:2152 teid 4097 qfi 5: a session has one tunnel",
        ),
        (
            outer_header_to_core,
            "fars[0].forwarding_parameters.outer_header_creation",
            "found one with destination interface CORE, expected ACCESS: N6 has no tunnels",
        ),
        (no_address, CREATION, "found neither, expected an IPv4 or an IPv6 address"),
        (wrong_address, CREATION, "found 'gnb', expected an IPv4 address"),
        (two_qos_flows, "qers[1].qfi", "found 6, expected 5: a session has one QoS flow"),
        (large_qfi, "qers[0].qfi", "found 64, expected 1 to 63"),
        (
            wide_ue,
            "pdrs[0].pdi.ue_ip_address",
            "ue: found 10.45.0.0/16, expected an IPv4 address or an IPv6 prefix of /64",
        ),
    ],
)
def test_what_cannot_be_forwarded_is_named(change: Callable[[n4.Session], None], field: str, description: str) -> None:
    made = session()
    change(made)
    with pytest.raises(InvalidArgument) as refused:
        rules_of(made)
    found = [(each.field.removeprefix("session."), each.description) for each in refused.value.violations]
    assert found == [(field, description)]


# --- all tunnels of a UPF ---------------------------------------------------------------------------------------------


def tunnel(name: str, teid: int, *ues: str) -> Tunnel:
    return Tunnel(name, tuple(ip_network(ue) for ue in ues), teid)


def test_a_change_of_tunnels_says_what_goes_and_what_comes() -> None:
    book = TunnelBook()
    one, two = tunnel("1", 1, "10.45.0.1"), tunnel("2", 2, "10.45.0.2", "2001:db8:2::/64")
    assert book.change([one, two]) == ([], [one, two])
    assert book.change([one]) == ([], [])
    moved = tunnel("1", 9, "10.45.0.1")
    assert book.change([moved], ["2"]) == ([two, one], [moved])
    assert list(book) == [moved]


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        (tunnel("2", 1, "10.45.0.2"), "session 2: teid 1 is that of session 1"),
        (tunnel("2", 2, "10.45.0.1"), "session 2: ue 10.45.0.1/32 is that of session 1"),
    ],
)
def test_a_teid_and_a_ue_are_of_one_session_and_a_refused_change_has_no_effect(second: Tunnel, problem: str) -> None:
    book = TunnelBook()
    one = tunnel("1", 1, "10.45.0.1")
    book.change([one])
    with pytest.raises(UpfError) as refused:
        book.change([second], ["3"])
    assert str(refused.value) == problem
    assert list(book) == [one]


def test_two_sessions_may_change_places_at_once() -> None:
    book = TunnelBook()
    book.change([tunnel("1", 1, "10.45.0.1"), tunnel("2", 2, "10.45.0.2")])
    swapped = [tunnel("1", 2, "10.45.0.1"), tunnel("2", 1, "10.45.0.2")]
    assert book.change(swapped)[1] == swapped
    assert list(book) == swapped
