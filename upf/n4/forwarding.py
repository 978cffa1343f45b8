"""What a session's FARs say: what passes at all, and the tunnel on N3 that it takes (TS 29.244 §5.2.3, §7.5.2.3).

A session has one tunnel: one local F-TEID in its PDIs of source interface access, one outer header in its FARs towards
the access, one QFI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from upf.errors import UpfError
from upf.gtpu import GTPU_PORT
from upf.n4.filters import ACCESS, CORE, Network, ue_network
from upf.n4.v1.n4_pb2 import ApplyAction, DestinationInterface, Far, OuterHeaderRemoval, Pdr, Session
from upf.tunnels import OuterHeader, Tunnel

Wrong = Callable[[str, str], None]

_TO_ACCESS: Final = DestinationInterface.DESTINATION_INTERFACE_ACCESS
_TO_CORE: Final = DestinationInterface.DESTINATION_INTERFACE_CORE
_OTHER_SIDE: Final = {ACCESS: _TO_CORE, CORE: _TO_ACCESS}
_ACTIONS: Final = frozenset(ApplyAction.values())
_REMOVALS: Final = frozenset(OuterHeaderRemoval.values())
_SIDES: Final = {_TO_ACCESS: "ACCESS", _TO_CORE: "CORE"}


def drops(session: Session, pdr: Pdr) -> bool:
    """Whether the PDR's packets are not to be forwarded."""
    far_id = pdr.far_id
    return bool(far_id) and any(
        far.far_id == far_id and far.apply_action == ApplyAction.APPLY_ACTION_DROP for far in session.fars
    )


def tunnel_of(session: Session) -> Tunnel | None:
    """The session's tunnel; None where its packets come and go without. For what check_forwarding() lets pass."""
    return _read(session, _nobody)


def check_forwarding(session: Session, wrong: Wrong) -> None:
    """Tells ``wrong`` of what cannot be done, by fields of the session."""
    fars = {far.far_id: far for far in session.fars}
    for at, far in enumerate(session.fars):
        if far.apply_action not in _ACTIONS:
            wrong(f"fars[{at}].apply_action", f"found {far.apply_action}, expected DROP or FORW")
    for at, pdr in enumerate(session.pdrs):
        interface = pdr.pdi.source_interface
        if pdr.far_id and pdr.far_id not in fars:
            wrong(f"pdrs[{at}].far_id", f"found {pdr.far_id}, expected a FAR of the session")
        elif pdr.far_id and interface in _OTHER_SIDE:
            found = fars[pdr.far_id].forwarding_parameters.destination_interface
            if found and found != _OTHER_SIDE[interface]:
                field = f"fars[{list(fars).index(pdr.far_id)}].forwarding_parameters.destination_interface"
                expected = f"{_SIDES[_OTHER_SIDE[interface]]}, where PDR {pdr.pdr_id} sends its packets"
                wrong(field, f"found {_SIDES.get(found, found)}, expected {expected}")
        if pdr.outer_header_removal not in _REMOVALS:
            wrong(f"pdrs[{at}].outer_header_removal", f"found {pdr.outer_header_removal}, expected GTP_U_UDP_IP")
        elif pdr.outer_header_removal and not pdr.pdi.HasField("local_f_teid"):
            wrong(f"pdrs[{at}].outer_header_removal", "found one without pdi.local_f_teid, expected both or none")
    _read(session, wrong)


def _nobody(field: str, description: str) -> None:
    """Told already."""


def _read(session: Session, wrong: Wrong) -> Tunnel | None:
    teid, outer_header = _local_teid(session, wrong), _outer_header(session, wrong)
    if teid is None:
        return None
    tunnelled = [pdr for pdr in session.pdrs if pdr.pdi.HasField("local_f_teid")]
    ues = dict.fromkeys(ue for pdr in tunnelled for ue in _ues(pdr))
    try:
        return Tunnel(str(session.cp_seid), tuple(ues), teid, outer_header)
    except UpfError as error:
        wrong(f"pdrs[{list(session.pdrs).index(tunnelled[0])}].pdi.ue_ip_address", str(error))
        return None


def _local_teid(session: Session, wrong: Wrong) -> int | None:
    """The TEID that the session's packets come with. A PDR that takes nothing off asks for one as a filter does."""
    found: int | None = None
    for at, pdr in enumerate(session.pdrs):
        if not pdr.pdi.HasField("local_f_teid") or not pdr.outer_header_removal:
            continue
        teid = pdr.pdi.local_f_teid.teid
        if teid == 0:
            wrong(f"pdrs[{at}].pdi.local_f_teid.teid", "found 0, expected an identifier from 1 on")
        elif found not in (None, teid):
            wrong(f"pdrs[{at}].pdi.local_f_teid.teid", f"found {teid}, expected {found}: a session has one tunnel")
        else:
            found = teid
    return found


def _outer_header(session: Session, wrong: Wrong) -> OuterHeader | None:
    """What the downlink is put into."""
    qfi = _qfi(session, wrong)
    found: OuterHeader | None = None
    for at, far in enumerate(session.fars):
        if not far.forwarding_parameters.HasField("outer_header_creation"):
            continue
        field = f"fars[{at}].forwarding_parameters.outer_header_creation"
        if far.forwarding_parameters.destination_interface == _TO_CORE:
            wrong(field, "found one with destination interface CORE, expected ACCESS: N6 has no tunnels")
            continue
        try:
            made = _made(far, qfi)
        except UpfError as error:
            wrong(field, str(error))
            continue
        if found not in (None, made):
            wrong(field, f"found {made}, expected {found}: a session has one tunnel")
        else:
            found = made
    return found


def _made(far: Far, qfi: int | None) -> OuterHeader:
    creation = far.forwarding_parameters.outer_header_creation
    return OuterHeader(
        peer_address(creation.ipv4_address, creation.ipv6_address), creation.teid, qfi, creation.port or GTPU_PORT
    )


def peer_address(ipv4: str, ipv6: str) -> IPv4Address | IPv6Address:
    """The one address that is given. Raises UpfError."""
    if bool(ipv4) == bool(ipv6):
        found = f"{ipv4} and {ipv6}" if ipv4 else "neither"
        raise UpfError(f"found {found}, expected an IPv4 or an IPv6 address")
    try:
        return IPv4Address(ipv4) if ipv4 else IPv6Address(ipv6)
    except ValueError:
        raise UpfError(f"found {ipv4 or ipv6!r}, expected an {'IPv4' if ipv4 else 'IPv6'} address") from None


def _qfi(session: Session, wrong: Wrong) -> int | None:
    found: int | None = None
    for at, qer in enumerate(session.qers):
        if not qer.qfi:
            continue
        if qer.qfi > 63:
            wrong(f"qers[{at}].qfi", f"found {qer.qfi}, expected 1 to 63")
        elif found not in (None, qer.qfi):
            wrong(f"qers[{at}].qfi", f"found {qer.qfi}, expected {found}: a session has one QoS flow")
        else:
            found = qer.qfi
    return found


def _ues(pdr: Pdr) -> Iterable[Network]:
    """The UE's networks, as far as they can be read."""
    for text in (pdr.pdi.ue_ip_address, pdr.pdi.ue_ipv6_prefix):
        if text:
            try:
                yield ue_network(text)
            except UpfError:
                continue
