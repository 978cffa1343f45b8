"""MBS sessions as N4mb gives them, read and checked (TS 29.244 §8.2.206 to §8.2.210). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.v1.mbs_pb2 import IpAddr
from upf.errors import UpfError
from upf.gtpu import GTPU_PORT
from upf.live.devices import Place
from upf.n4.forwarding import peer_address
from upf.n4.v1.n4_pb2 import ApplyAction, OuterHeaderCreation
from upf.n4.v1.n4mb_pb2 import Branch, MbsSession, ModifyMbsSessionRequest
from upf.tunnels import MAX_PORT, MAX_QFI, MAX_TEID
from upf.units import (
    LIVE_BURST_MS,
    MAX_BURST_BYTES,
    MAX_RATE_BPS,
    MIN_BURST_BYTES,
    MIN_RATE_BPS,
    default_burst_bytes,
)

Address = IPv4Address | IPv6Address

MAX_BRANCHES: Final = 1024
# What a modification may name of a session.
_CHANGEABLE: Final = (
    "tmgi", "area_session_id", "ssm", "mbr_bps", "burst_bytes", "qfi", "apply_action", "ingress_ip_version",
)  # fmt: skip
_SERVICE_ID: Final = re.compile(r"[A-Fa-f0-9]{6}")
_MCC: Final = re.compile(r"[0-9]{3}")
_MNC: Final = re.compile(r"[0-9]{2,3}")

_Wrong = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Multicast:
    """Every packet once to its group, by an interface; empty: the one of the configuration."""

    interface: str


@dataclass(frozen=True, slots=True)
class ToTun:
    """Every packet to a tun device."""

    place: Place


@dataclass(frozen=True, slots=True)
class GtpU:
    """Every packet in GTP-U to an address; to a group by an interface, from an address of this host.

    Empty, and None: as it is configured.
    """

    address: Address
    port: int
    teid: int
    interface: str = ""
    source: Address | None = None


Delivery = Multicast | ToTun | GtpU


@dataclass(frozen=True, slots=True)
class Replicated:
    """What the packet path is to do about a session. ``rate_bps`` 0: nothing is policed."""

    source: Address
    group: Address
    rate_bps: int
    burst_bytes: int
    qfi: int | None
    forwards: bool
    deliveries: tuple[tuple[int, Delivery], ...]
    ingress_ip_version: int


def replicated(session: MbsSession) -> Replicated:
    """The session, read.

    Raises InvalidArgument that names every field that cannot be enforced, what was found and what was expected.
    """
    violations: list[FieldViolation] = []

    def wrong(field: str, description: str) -> None:
        violations.append(FieldViolation(f"mbs_session.{field}", description))

    if not session.cp_seid:
        wrong("cp_seid", "found 0, expected an identifier from 1 on")
    _check_tmgi(session, wrong)
    source, group = _ssm(session, wrong)
    rate_bps, burst_bytes = _bucket(session, wrong)
    if session.qfi > MAX_QFI:
        wrong("qfi", f"found {session.qfi}, expected 1 to {MAX_QFI}, or 0 for none")
    if session.apply_action not in ApplyAction.values():
        wrong("apply_action", f"found {session.apply_action}, expected DROP or FORW")
    if session.ingress_ip_version not in (0, 4, 6):
        wrong("ingress_ip_version", f"found {session.ingress_ip_version}, expected 4, 6, or 0 for either")
    deliveries = _deliveries(session, wrong)
    if violations:
        raise InvalidArgument(f"MBS session {session.cp_seid}: it cannot be enforced", violations=violations)
    assert source is not None
    assert group is not None
    return Replicated(
        source,
        group,
        rate_bps,
        burst_bytes,
        session.qfi or None,
        session.apply_action != ApplyAction.APPLY_ACTION_DROP,
        deliveries,
        session.ingress_ip_version,
    )


def modified(session: MbsSession, request: ModifyMbsSessionRequest) -> MbsSession:
    """The session after the modification; branches keep their order, new ones follow.

    Raises InvalidArgument naming what cannot be changed, and branches that are to be removed and are not there.
    """
    violations = [
        FieldViolation("update_mask", f"found {path!r}, expected paths of {', '.join(_CHANGEABLE)}")
        for path in request.update_mask.paths
        if path.partition(".")[0] not in _CHANGEABLE
    ]
    branches = {branch.branch_id: branch for branch in session.branches}
    violations += [
        FieldViolation(f"remove_branch_ids[{at}]", f"found {number}, expected a branch of the session")
        for at, number in enumerate(request.remove_branch_ids)
        if number not in branches
    ]
    if violations:
        raise InvalidArgument(f"MBS session {session.cp_seid}: it cannot be changed so", violations=violations)
    after = MbsSession()
    after.CopyFrom(session)
    mask = FieldMask(paths=[path.partition(".")[0] for path in request.update_mask.paths])
    mask.MergeMessage(request.mbs_session, after, replace_message_field=True)
    if "mbr_bps" in mask.paths and not request.mbs_session.HasField("mbr_bps"):
        after.ClearField("mbr_bps")
    branches |= {branch.branch_id: branch for branch in request.create_or_update_branches}
    gone = set(request.remove_branch_ids)
    after.ClearField("branches")
    after.branches.extend(branch for number, branch in branches.items() if number not in gone)
    return after


def _check_tmgi(session: MbsSession, wrong: _Wrong) -> None:
    tmgi = session.tmgi
    if not _SERVICE_ID.fullmatch(tmgi.mbs_service_id):
        wrong("tmgi.mbs_service_id", f"found {tmgi.mbs_service_id!r}, expected six hexadecimal digits")
    if not _MCC.fullmatch(tmgi.plmn_id.mcc):
        wrong("tmgi.plmn_id.mcc", f"found {tmgi.plmn_id.mcc!r}, expected three digits")
    if not _MNC.fullmatch(tmgi.plmn_id.mnc):
        wrong("tmgi.plmn_id.mnc", f"found {tmgi.plmn_id.mnc!r}, expected two or three digits")


def _ssm(session: MbsSession, wrong: _Wrong) -> tuple[Address | None, Address | None]:
    source = _address(session.ssm.source_ip_addr, "ssm.source_ip_addr", wrong)
    group = _address(session.ssm.dest_ip_addr, "ssm.dest_ip_addr", wrong)
    if source is not None and (source.is_multicast or source.is_unspecified):
        wrong("ssm.source_ip_addr", f"found {source}, expected the address of a sender")
    if group is not None and not group.is_multicast:
        wrong("ssm.dest_ip_addr", f"found {group}, expected a multicast group")
    if source is not None and group is not None and source.version != group.version:
        wrong("ssm", f"found {source} and {group}, expected addresses of one IP version")
    return source, group


def _address(given: IpAddr, field: str, wrong: _Wrong) -> Address | None:
    if given.ipv6_prefix:
        wrong(f"{field}.ipv6_prefix", f"found {given.ipv6_prefix!r}, expected an address")
        return None
    try:
        return peer_address(given.ipv4_addr, given.ipv6_addr)
    except UpfError as error:
        wrong(field, str(error))
        return None


def _bucket(session: MbsSession, wrong: _Wrong) -> tuple[int, int]:
    burst_bytes = session.burst_bytes
    if burst_bytes and not MIN_BURST_BYTES <= burst_bytes <= MAX_BURST_BYTES:
        wrong("burst_bytes", f"found {burst_bytes}, expected {MIN_BURST_BYTES} to {MAX_BURST_BYTES}, or 0")
    if not session.HasField("mbr_bps"):
        return 0, 0
    if not MIN_RATE_BPS <= session.mbr_bps <= MAX_RATE_BPS:
        wrong("mbr_bps", f"found {session.mbr_bps}, expected {MIN_RATE_BPS} to {MAX_RATE_BPS} bit/s, or none")
    return session.mbr_bps, burst_bytes or default_burst_bytes(session.mbr_bps, LIVE_BURST_MS)


def _deliveries(session: MbsSession, wrong: _Wrong) -> tuple[tuple[int, Delivery], ...]:
    if len(session.branches) > MAX_BRANCHES:
        wrong("branches", f"found {len(session.branches)}, expected {MAX_BRANCHES} at most")
    found: dict[int, Delivery] = {}
    seen: set[int] = set()
    for at, branch in enumerate(session.branches):
        field = f"branches[{at}]"
        if not branch.branch_id:
            wrong(f"{field}.branch_id", "found 0, expected an identifier from 1 on")
        elif branch.branch_id in seen:
            wrong(f"{field}.branch_id", f"found {branch.branch_id} a second time, expected one of its own")
        seen.add(branch.branch_id)
        try:
            found[branch.branch_id] = _delivery(branch)
        except UpfError as error:
            kind = branch.WhichOneof("delivery")
            wrong(f"{field}.{kind}" if kind is not None else field, str(error))
    return tuple(found.items())


def _delivery(branch: Branch) -> Delivery:
    kind = branch.WhichOneof("delivery")
    if kind == "multicast":
        return Multicast(branch.multicast.interface)
    if kind == "tun":
        return ToTun(Place.parse(branch.tun.interface))
    if kind == "unicast":
        unicast = _gtp_u(branch.unicast)
        if unicast.address.is_multicast:
            raise UpfError(
                f"found the group {unicast.address}, expected one receiver: low_layer_ssm delivers to groups"
            )
        return unicast
    if kind == "low_layer_ssm":
        ssm = branch.low_layer_ssm
        shared = _gtp_u(ssm.outer_header_creation, ssm.interface, ssm.source_address)
        if not shared.address.is_multicast:
            raise UpfError(f"found {shared.address}, expected a multicast group: unicast delivers to one receiver")
        return shared
    raise UpfError("found no delivery, expected multicast, tun, unicast or low_layer_ssm")


def _gtp_u(creation: OuterHeaderCreation, interface: str = "", source: str = "") -> GtpU:
    address = peer_address(creation.ipv4_address, creation.ipv6_address)
    if address.is_unspecified:
        raise UpfError(f"found {address}, expected the address of a receiver")
    if not 1 <= creation.teid <= MAX_TEID:
        raise UpfError(f"teid: found {creation.teid}, expected 1 to {MAX_TEID}")
    if creation.port > MAX_PORT:
        raise UpfError(f"port: found {creation.port}, expected 1 to {MAX_PORT}, or 0 for {GTPU_PORT}")
    return GtpU(address, creation.port or GTPU_PORT, creation.teid, interface, _source(source, address))


def _source(text: str, group: Address) -> Address | None:
    if not text:
        return None
    try:
        source = ip_address(text)
    except ValueError:
        source = None
    if source is None or source.version != group.version or source.is_multicast or source.is_unspecified:
        raise UpfError(f"source_address: found {text!r}, expected an IPv{group.version} address of this host")
    return source
