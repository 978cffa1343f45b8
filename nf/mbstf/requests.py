"""What a distribution session must be by itself, whatever the state (TS 29.581 §6.1.6)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final, TypeAlias
from urllib.parse import urljoin, urlsplit

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.reader import MAX_INTEGER
from nf.common.resources import copy_of, new_id
from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.common.v1.mbs_pb2 import IpAddr, Ssm, TunnelAddress
from nf.mbstf.dscp import dscp_of
from nf.mbstf.v1.dist_session_pb2 import DistSession, ObjDistributionData, PktDistributionData

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_MAX_PORT: Final = 65_535
_MAX_URL: Final = 2048
MAX_IDS: Final = 1000
# Below that not even one packet of a usual size leaves within some seconds.
MIN_MBR_BPS: Final = 1000
# What may be changed whatever the state; the rest only in INACTIVE.
LIVE_FIELDS: Final = (
    "dist_session_state",
    "mb_upf_tun_addr",
    "mbr_bps",
    "max_delay_ms",
    "ingest_timeout_ms",
    "carried_objects",
)
CHANGEABLE: Final = (
    *LIVE_FIELDS,
    "up_traffic_flow_info",
    "obj_distribution_data",
    "pkt_distribution_data",
    "fec_information",
    "dscp_marking",
    "establish_timeout_ms",
    "source_ip_addr",
)


def ip_address(text: IpAddr) -> Address | None:
    """The address of an IpAddr; None where it has none. Raises ValueError."""
    if text.ipv6_prefix or (text.ipv4_addr and text.ipv6_addr):
        raise ValueError("expected ipv4Addr or ipv6Addr")
    if text.ipv4_addr:
        return _ipv4(text.ipv4_addr)
    return ipaddress.IPv6Address(text.ipv6_addr) if text.ipv6_addr else None


@lru_cache(maxsize=4096)
def _ipv4(text: str) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(text)


def tunnel_end(tunnel: TunnelAddress) -> tuple[str, int]:
    """Host and port of one end of a tunnel."""
    return tunnel.ipv4_addr or tunnel.ipv6_addr, tunnel.port_number


def requested_session(request: DistSession, check_fec: Callable[[shared.FecConfig], None]) -> DistSession:
    """What is asked for, a new identifier where none is given, INACTIVE where no state is.

    ``check_fec`` raises InvalidArgument for a FEC configuration that cannot be sent. Raises InvalidArgument naming
    every property that is wrong.
    """
    session = requested_part(request)
    session.dist_session_id = session.dist_session_id or new_id()
    session.dist_session_state = session.dist_session_state or shared.DIST_SESSION_STATE_INACTIVE
    check_session(session, check_fec)
    return session


def requested_part(session: DistSession) -> DistSession:
    """The session without what the MBSTF sets."""
    requested = copy_of(session)
    for field in ("flute_tsi", "ingest_failed", "progress", "create_time", "update_time", "etag"):
        requested.ClearField(field)
    if requested.HasField("pkt_distribution_data"):
        ingest = requested.pkt_distribution_data.mb_stf_ingest_addr
        ingest.ClearField("mb_stf_ingress_tun_addr")
        ingest.ClearField("mb_stf_listen_addr")
    objects = requested.obj_distribution_data
    if requested.HasField("obj_distribution_data"):
        if objects.obj_acquisition_method == shared.OBJ_ACQUISITION_METHOD_PUSH:
            objects.ClearField("obj_ingest_base_url")
        for field in ("obj_ingest_base_url", "obj_distribution_base_url", "obj_repair_base_url"):
            url = getattr(objects, field)
            if url and not url.endswith("/"):
                setattr(objects, field, f"{url}/")
    return requested


def check_session(session: DistSession, check_fec: Callable[[shared.FecConfig], None]) -> None:
    """Raises InvalidArgument naming every property that is wrong."""
    found = [FieldViolation(f"dist_session.{each.field}", each.description) for each in _violations(session)]
    if session.HasField("fec_information"):
        try:
            check_fec(session.fec_information)
        except InvalidArgument as error:
            found += [
                FieldViolation(f"dist_session.fec_information.{_field(each.field)}", each.description)
                for each in error.violations
            ] or [FieldViolation("dist_session.fec_information", error.message)]
    if found:
        raise InvalidArgument.of_all(found)


def _field(path: str) -> str:
    """The proto's name of a property of the FEC configuration that an error calls by its JSON name."""
    name = path.rpartition(".")[2]
    return {"fecScheme": "fec_scheme", "fecOverHead": "fec_over_head"}.get(name, name)


def _violations(session: DistSession) -> Iterator[FieldViolation]:
    if not _IDENTIFIER.fullmatch(session.dist_session_id):
        found = repr(session.dist_session_id)
        yield FieldViolation("dist_session_id", f"expected 1 to 128 of A-Z a-z 0-9 . _ ~ -, found {found}")
    if session.dist_session_state not in shared.DistSessionState.values():
        yield FieldViolation("dist_session_state", f"expected a state, found {session.dist_session_state}")
    if session.mbr_bps < MIN_MBR_BPS or session.mbr_bps > MAX_INTEGER:
        yield FieldViolation("mbr_bps", f"expected {MIN_MBR_BPS} bit/s or more, found {session.mbr_bps}")
    try:
        dscp_of(session.dscp_marking)
    except ValueError as error:
        yield FieldViolation("dscp_marking", str(error))
    if session.HasField("mb_upf_tun_addr"):
        yield from tunnel_violations(session.mb_upf_tun_addr, "mb_upf_tun_addr")
    yield from _method_violations(session)
    locations = [each.location for each in session.carried_objects]
    if len(set(locations)) < len(locations):
        yield FieldViolation("carried_objects", "expected different locations")
    for at, location in enumerate(locations):
        if not is_url(location, any_scheme=True):
            yield FieldViolation(
                f"carried_objects[{at}].location", f"expected an absolute URL, found {location[:200]!r}"
            )


def _method_violations(session: DistSession) -> Iterator[FieldViolation]:
    by_object, by_packet = session.HasField("obj_distribution_data"), session.HasField("pkt_distribution_data")
    if by_object == by_packet:
        how = "both" if by_object else "neither"
        yield FieldViolation("obj_distribution_data", f"expected it or pkt_distribution_data, found {how}")
        return
    forwards = (
        session.pkt_distribution_data.pkt_distribution_operating_mode
        == shared.PKT_DISTRIBUTION_OPERATING_MODE_PACKET_FORWARD_ONLY
    )
    if not (by_packet and forwards):
        yield from _flow_violations(session)
    if by_object:
        for each in _object_violations(session.obj_distribution_data):
            yield FieldViolation(f"obj_distribution_data.{each.field}", each.description)
        return
    if session.carried_objects:
        yield FieldViolation("carried_objects", "packets carry none: expected none")
    if session.HasField("fec_information"):
        yield FieldViolation("fec_information", "objects are protected by it, packets are not: expected none")
    for each in _packet_violations(session.pkt_distribution_data):
        yield FieldViolation(f"pkt_distribution_data.{each.field}", each.description)


def _flow_violations(session: DistSession) -> Iterator[FieldViolation]:
    flow = session.up_traffic_flow_info
    group = source = None
    try:
        group = ip_address(flow.dest_ip_addr)
    except ValueError as error:
        yield FieldViolation("up_traffic_flow_info.dest_ip_addr", str(error))
    else:
        if group is None or not group.is_multicast:
            text = flow.dest_ip_addr.ipv4_addr or flow.dest_ip_addr.ipv6_addr
            yield FieldViolation("up_traffic_flow_info.dest_ip_addr", f"expected a multicast group, found {text!r}")
    if not 1 <= flow.port_number <= _MAX_PORT:
        yield FieldViolation("up_traffic_flow_info.port_number", f"expected 1 to {_MAX_PORT}, found {flow.port_number}")
    try:
        source = ip_address(session.source_ip_addr)
    except ValueError as error:
        yield FieldViolation("source_ip_addr", str(error))
    else:
        if source is not None and (source.is_multicast or source.is_unspecified):
            yield FieldViolation("source_ip_addr", f"expected the address of a host, found {str(source)!r}")
    if source is not None and group is not None and source.version != group.version:
        yield FieldViolation("source_ip_addr", f"expected IPv{group.version} as the group, found {str(source)!r}")


def tunnel_violations(tunnel: TunnelAddress, field: str) -> Iterator[FieldViolation]:
    """What is wrong with one end of a UDP tunnel."""
    if bool(tunnel.ipv4_addr) == bool(tunnel.ipv6_addr):
        yield FieldViolation(f"{field}.ipv4_addr", "expected it or ipv6_addr")
    for name, text, kind in (
        ("ipv4_addr", tunnel.ipv4_addr, ipaddress.IPv4Address),
        ("ipv6_addr", tunnel.ipv6_addr, ipaddress.IPv6Address),
    ):
        try:
            host = kind(text) if text else None
        except ValueError:
            yield FieldViolation(f"{field}.{name}", f"expected an address, found {text!r}")
            continue
        if host is not None and (host.is_unspecified or host.is_multicast):
            yield FieldViolation(f"{field}.{name}", f"expected the address of a host, found {text!r}")
    if not 1 <= tunnel.port_number <= _MAX_PORT:
        yield FieldViolation(f"{field}.port_number", f"expected 1 to {_MAX_PORT}, found {tunnel.port_number}")


def _object_violations(data: ObjDistributionData) -> Iterator[FieldViolation]:
    mode, method = data.obj_distribution_operating_mode, data.obj_acquisition_method
    if mode not in shared.ObjDistributionOperatingMode.values() or not mode:
        expected = "SINGLE, COLLECTION, CAROUSEL or STREAMING"
        yield FieldViolation("obj_distribution_operating_mode", f"expected {expected}, found {mode or 'none'}")
    for field in ("obj_ingest_base_url", "obj_distribution_base_url", "obj_repair_base_url"):
        url = getattr(data, field)
        if url and not is_url(url, any_scheme=field == "obj_distribution_base_url"):
            yield FieldViolation(field, f"expected an absolute http or https URL, found {url[:200]!r}")
    ids = data.obj_acquisition_ids_pull
    if method == shared.OBJ_ACQUISITION_METHOD_PULL:
        yield from _pull_violations(data)
        if data.obj_acquisition_id_push:
            yield FieldViolation("obj_acquisition_id_push", "expected none where objects are pulled")
    elif method == shared.OBJ_ACQUISITION_METHOD_PUSH:
        if ids:
            yield FieldViolation(
                "obj_acquisition_ids_pull", f"expected none where objects are pushed, found {len(ids)}"
            )
        if mode == shared.OBJ_DISTRIBUTION_OPERATING_MODE_STREAMING and not data.obj_acquisition_id_push:
            # Every segment that comes is sent; the manifest as well, whatever its name.
            return
    else:
        yield FieldViolation("obj_acquisition_method", f"expected PULL or PUSH, found {method or 'none'}")


def _pull_violations(data: ObjDistributionData) -> Iterator[FieldViolation]:
    ids, mode = data.obj_acquisition_ids_pull, data.obj_distribution_operating_mode
    if not ids:
        yield FieldViolation("obj_acquisition_ids_pull", "expected at least one where objects are pulled")
    one_only = (
        shared.OBJ_DISTRIBUTION_OPERATING_MODE_SINGLE,
        shared.OBJ_DISTRIBUTION_OPERATING_MODE_STREAMING,
    )
    if len(ids) > 1 and mode in one_only:
        name = shared.ObjDistributionOperatingMode.Name(mode).rpartition("_")[2]
        yield FieldViolation("obj_acquisition_ids_pull", f"expected one for {name}, found {len(ids)}")
    if len(ids) > MAX_IDS:
        yield FieldViolation("obj_acquisition_ids_pull", f"expected at most {MAX_IDS}, found {len(ids)}")
    if len(set(ids)) < len(ids):
        yield FieldViolation("obj_acquisition_ids_pull", "expected each once")
    for at, each in enumerate(ids):
        if not is_url(urljoin(data.obj_ingest_base_url, each)):
            expected = "an absolute http or https URL, or one relative to obj_ingest_base_url"
            yield FieldViolation(f"obj_acquisition_ids_pull[{at}]", f"expected {expected}, found {each[:200]!r}")


def _packet_violations(data: PktDistributionData) -> Iterator[FieldViolation]:
    mode, method = data.pkt_distribution_operating_mode, data.pkt_ingest_method
    if mode not in shared.PktDistributionOperatingMode.values() or not mode:
        expected = "PACKET_PROXY or PACKET_FORWARD_ONLY"
        yield FieldViolation("pkt_distribution_operating_mode", f"expected {expected}, found {mode or 'none'}")
    if method not in shared.PktIngestMethod.values():
        yield FieldViolation("pkt_ingest_method", f"expected MULTICAST or UNICAST, found {method}")
    by_group = method == shared.PKT_INGEST_METHOD_MULTICAST
    if by_group and mode == shared.PKT_DISTRIBUTION_OPERATING_MODE_PACKET_FORWARD_ONLY:
        yield FieldViolation("pkt_ingest_method", "packets are forwarded out of a tunnel only: expected UNICAST")
    ingest = data.mb_stf_ingest_addr
    if by_group != ingest.HasField("af_ssm"):
        how = "expected it for" if by_group else "expected none without"
        yield FieldViolation("mb_stf_ingest_addr.af_ssm", f"{how} pkt_ingest_method MULTICAST")
    elif by_group:
        yield from _ssm_violations(ingest.af_ssm.ssm, "mb_stf_ingest_addr.af_ssm.ssm")
        if not 1 <= ingest.af_ssm.port_number <= _MAX_PORT:
            found = ingest.af_ssm.port_number
            yield FieldViolation("mb_stf_ingest_addr.af_ssm.port_number", f"expected 1 to {_MAX_PORT}, found {found}")
    if ingest.HasField("af_egress_tun_addr"):
        yield from tunnel_violations(ingest.af_egress_tun_addr, "mb_stf_ingest_addr.af_egress_tun_addr")


def _ssm_violations(ssm: Ssm, field: str) -> Iterator[FieldViolation]:
    try:
        source, group = ip_address(ssm.source_ip_addr), ip_address(ssm.dest_ip_addr)
    except ValueError as error:
        yield FieldViolation(field, str(error))
        return
    if source is None or source.is_multicast or source.is_unspecified:
        yield FieldViolation(f"{field}.source_ip_addr", f"expected the address of a host, found {source}")
    if group is None or not group.is_multicast:
        yield FieldViolation(f"{field}.dest_ip_addr", f"expected a multicast group, found {group}")
    if source is not None and group is not None and source.version != group.version:
        yield FieldViolation(f"{field}.dest_ip_addr", f"expected IPv{source.version} as the source, found {group}")


def is_url(text: str, *, any_scheme: bool = False) -> bool:
    """Whether it is an absolute URL, of http or https unless any scheme will do."""
    if len(text) > _MAX_URL or not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    if any_scheme and parts.scheme:
        return True
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
