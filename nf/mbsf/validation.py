"""What a provider may ask for (TS 29.580, TS 26.502 §4.6.1): every violation, by the field of the request."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.v1 import mbs_distribution_pb2 as distribution
from nf.common.v1.mbs_pb2 import (
    MBS_SERVICE_TYPE_MULTICAST,
    MBS_SERVICE_TYPE_UNSPECIFIED,
    IpAddr,
    MbsServiceType,
    MbsSessionId,
)
from nf.mbsf import periods
from nf.mbsf.v1.user_data_ingest_pb2 import (
    MbsDistributionSessionInfo,
    MbsUserDataIngSession,
    ObjectDistrMethInfo,
    PacketDistrMethInfo,
)
from nf.mbsf.v1.user_service_pb2 import SERVICE_ANNOUNCEMENT_MODE_UNSPECIFIED, MbsUserService

MAX_DISTRIBUTION_SESSIONS: Final = 2000
MAX_KEY: Final = 128
MAX_OBJECTS: Final = 1000
_MAX_LIST: Final = 64
_MAX_TEXT: Final = 2048
_SERVICE: Final = "mbs_user_service"
_SESSION: Final = "mbs_user_data_ing_session"
_HEX6: Final = re.compile(r"[A-Fa-f0-9]{6}")
_LANGUAGE: Final = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")
# Differentiated services code points by name (RFC 2474, RFC 2597, RFC 3246, RFC 5865).
_DSCP_NAMES: Final = frozenset(
    {"EF", "VA", "DF", *(f"CS{each}" for each in range(8)), *(f"AF{c}{d}" for c in range(1, 5) for d in range(1, 4))}
)
_SINGLE_SOURCE: Final = (
    distribution.OBJ_DISTRIBUTION_OPERATING_MODE_SINGLE,
    distribution.OBJ_DISTRIBUTION_OPERATING_MODE_STREAMING,
)


def check_service(service: MbsUserService) -> None:
    """Raises InvalidArgument for what is wrong with a user service."""
    _raise(list(_service(service)))


def check_session(session: MbsUserDataIngSession, service_type: MbsServiceType.ValueType) -> None:
    """Raises InvalidArgument for what is wrong with an ingest session of a service of that type."""
    violations = periods.check(session.act_periods)
    infos = session.mbs_dis_sess_infos
    path = f"{_SESSION}.mbs_dis_sess_infos"
    if not 1 <= len(infos) <= MAX_DISTRIBUTION_SESSIONS:
        violations.append(FieldViolation(path, f"expected 1 to {MAX_DISTRIBUTION_SESSIONS}, found {len(infos)}"))
    for key in infos:
        if not 1 <= len(key) <= MAX_KEY:
            violations.append(FieldViolation(path, f"expected keys of 1 to {MAX_KEY} characters, found {key[:32]!r}"))
        else:
            violations += _info(infos[key], f"{path}[{key}]", service_type)
    _raise(violations)


def _raise(violations: list[FieldViolation]) -> None:
    if violations:
        raise InvalidArgument(
            "; ".join(f"{each.field}: {each.description}" for each in violations[:8]), violations=violations
        )


def _service(service: MbsUserService) -> Iterator[FieldViolation]:
    ids = f"{_SERVICE}.ext_service_ids"
    yield from _count(ids, len(service.ext_service_ids), 1)
    for index, each in enumerate(service.ext_service_ids):
        yield from _uri(f"{ids}[{index}]", each)
    if len(set(service.ext_service_ids)) != len(service.ext_service_ids):
        yield FieldViolation(ids, "expected each once")
    if service.serv_type == MBS_SERVICE_TYPE_UNSPECIFIED:
        yield FieldViolation(f"{_SERVICE}.serv_type", "expected MULTICAST or BROADCAST, found none")
    yield from _uri(f"{_SERVICE}.serv_class", service.serv_class)
    yield from _count(f"{_SERVICE}.serv_ann_modes", len(service.serv_ann_modes), 1)
    if SERVICE_ANNOUNCEMENT_MODE_UNSPECIFIED in service.serv_ann_modes:
        yield FieldViolation(
            f"{_SERVICE}.serv_ann_modes", "expected VIA_MBS_5, VIA_MBS_DISTRIBUTION_SESSION or PASSED_BACK"
        )
    names = f"{_SERVICE}.serv_name_descs"
    yield from _count(names, len(service.serv_name_descs), 1)
    for index, described in enumerate(service.serv_name_descs):
        if not described.serv_name and not described.serv_descrip:
            yield FieldViolation(f"{names}[{index}]", "expected serv_name or serv_descrip, found neither")
        if not _LANGUAGE.fullmatch(described.language):
            yield FieldViolation(
                f"{names}[{index}].language", f'expected a language tag such as "en", found {described.language[:64]!r}'
            )
        for field, text in (("serv_name", described.serv_name), ("serv_descrip", described.serv_descrip)):
            if len(text) > _MAX_TEXT:
                yield FieldViolation(f"{names}[{index}].{field}", f"expected at most {_MAX_TEXT} characters")
    if service.main_serv_lang and not _LANGUAGE.fullmatch(service.main_serv_lang):
        yield FieldViolation(
            f"{_SERVICE}.main_serv_lang", f'expected a language tag such as "en", found {service.main_serv_lang[:64]!r}'
        )


def _info(
    info: MbsDistributionSessionInfo, path: str, service_type: MbsServiceType.ValueType
) -> Iterator[FieldViolation]:
    if info.max_cont_bit_rate_bps <= 0:
        yield FieldViolation(f"{path}.max_cont_bit_rate_bps", "expected a bit rate above 0, found 0")
    if info.HasField("max_cont_delay_ms") and info.max_cont_delay_ms < 1:
        yield FieldViolation(f"{path}.max_cont_delay_ms", "expected 1 ms or more, found 0")
    yield from _method(info, path)
    yield from _identity(info.mbs_session_id, f"{path}.mbs_session_id")
    if info.HasField("up_traffic_flow_info"):
        yield from _flow(info, f"{path}.up_traffic_flow_info")
    if not _is_dscp(info.traffic_marking_info):
        yield FieldViolation(
            f"{path}.traffic_marking_info",
            f'expected 0 to 63 or a name such as "EF" or "AF41", found {info.traffic_marking_info[:16]!r}',
        )
    if info.mbs_fsa_id and not _HEX6.fullmatch(info.mbs_fsa_id):
        yield FieldViolation(f"{path}.mbs_fsa_id", f"expected six hexadecimal digits, found {info.mbs_fsa_id[:16]!r}")
    if info.HasField("ext_tgt_serv_areas"):
        yield FieldViolation(
            f"{path}.ext_tgt_serv_areas", "expected cells or tracking areas in tgt_serv_areas: no map is known here"
        )
    if info.multiplexed_serv_flag:
        yield FieldViolation(
            f"{path}.multiplexed_serv_flag", "expected false: each distribution session has an MBS session of its own"
        )
    if info.restricted_flag and service_type != MBS_SERVICE_TYPE_MULTICAST:
        yield FieldViolation(f"{path}.restricted_flag", "expected false: only a multicast service may be restricted")
    if info.location_dependent and not info.HasField("tgt_serv_areas"):
        yield FieldViolation(f"{path}.tgt_serv_areas", "expected the area of a location-dependent session, found none")


def _method(info: MbsDistributionSessionInfo, path: str) -> Iterator[FieldViolation]:
    is_object = info.distr_method == distribution.DISTRIBUTION_METHOD_OBJECT
    is_packet = info.distr_method == distribution.DISTRIBUTION_METHOD_PACKET
    if not is_object and not is_packet:
        yield FieldViolation(f"{path}.distr_method", "expected OBJECT or PACKET, found none")
        return
    wanted, other = ("obj_distr_info", "pck_distr_info") if is_object else ("pck_distr_info", "obj_distr_info")
    has_objects, has_packets = info.HasField("obj_distr_info"), info.HasField("pck_distr_info")
    if not (has_objects if is_object else has_packets):
        yield FieldViolation(f"{path}.{wanted}", f"expected with the {'OBJECT' if is_object else 'PACKET'} method")
    if has_packets if is_object else has_objects:
        yield FieldViolation(f"{path}.{other}", f"expected none with the {'OBJECT' if is_object else 'PACKET'} method")
    if is_object and has_objects:
        yield from _objects(info.obj_distr_info, f"{path}.obj_distr_info")
    if is_packet and has_packets:
        yield from _packets(info.pck_distr_info, f"{path}.pck_distr_info")
    if is_packet and info.HasField("fec_config"):
        yield FieldViolation(f"{path}.fec_config", "expected none with the PACKET method")
    if info.HasField("fec_config") and not info.fec_config.fec_scheme:
        yield FieldViolation(f"{path}.fec_config.fec_scheme", "expected the URN of a FEC scheme, found none")


def _objects(objects: ObjectDistrMethInfo, path: str) -> Iterator[FieldViolation]:
    if objects.operating_mode == distribution.OBJ_DISTRIBUTION_OPERATING_MODE_UNSPECIFIED:
        yield FieldViolation(f"{path}.operating_mode", "expected SINGLE, COLLECTION, CAROUSEL or STREAMING, found none")
    ids, count = f"{path}.obj_acq_ids", len(objects.obj_acq_ids)
    if objects.obj_acq_method == distribution.OBJ_ACQUISITION_METHOD_PULL:
        if objects.operating_mode in _SINGLE_SOURCE and count != 1:
            yield FieldViolation(ids, f"expected one URL, found {count}")
        elif not 1 <= count <= MAX_OBJECTS:
            yield FieldViolation(ids, f"expected 1 to {MAX_OBJECTS} URLs, found {count}")
        for index, each in enumerate(objects.obj_acq_ids):
            if not objects.obj_ing_uri or urlsplit(each).scheme:
                yield from _url(f"{ids}[{index}]", each)
        yield from _url(f"{path}.obj_ing_uri", objects.obj_ing_uri, optional=True)
    elif objects.obj_acq_method == distribution.OBJ_ACQUISITION_METHOD_PUSH:
        if count > 1:
            yield FieldViolation(ids, f"expected one identifier at most with PUSH, found {count}")
    else:
        yield FieldViolation(f"{path}.obj_acq_method", "expected PULL or PUSH, found none")
    yield from _url(f"{path}.obj_distr_uri", objects.obj_distr_uri, optional=True)
    yield from _url(f"{path}.obj_repair_uri", objects.obj_repair_uri, optional=True)


def _packets(packets: PacketDistrMethInfo, path: str) -> Iterator[FieldViolation]:
    if packets.operating_mode == distribution.PKT_DISTRIBUTION_OPERATING_MODE_UNSPECIFIED:
        yield FieldViolation(f"{path}.operating_mode", "expected PACKET_PROXY or PACKET_FORWARD_ONLY, found none")
    if packets.pck_ing_method == distribution.PKT_INGEST_METHOD_UNSPECIFIED:
        yield FieldViolation(f"{path}.pck_ing_method", "expected MULTICAST or UNICAST, found none")
    if not packets.HasField("ing_endpoint_addrs"):
        yield FieldViolation(f"{path}.ing_endpoint_addrs", "expected the provider's end, found none")
        return
    is_multicast = packets.pck_ing_method == distribution.PKT_INGEST_METHOD_MULTICAST
    if is_multicast and not packets.ing_endpoint_addrs.HasField("af_ssm"):
        yield FieldViolation(f"{path}.ing_endpoint_addrs.af_ssm", "expected with MULTICAST ingest, found none")


def _identity(identity: MbsSessionId, path: str) -> Iterator[FieldViolation]:
    if identity.HasField("tmgi") and not _HEX6.fullmatch(identity.tmgi.mbs_service_id):
        yield FieldViolation(
            f"{path}.tmgi.mbs_service_id",
            f"expected six hexadecimal digits, found {identity.tmgi.mbs_service_id[:16]!r}",
        )
    if not identity.HasField("ssm"):
        return
    source, group = _parsed(identity.ssm.source_ip_addr), _parsed(identity.ssm.dest_ip_addr)
    if source is None or source.is_multicast:
        yield FieldViolation(f"{path}.ssm.source_ip_addr", "expected an address of a sender")
    if group is None or not group.is_multicast:
        yield FieldViolation(f"{path}.ssm.dest_ip_addr", "expected an address of a multicast group")
    if source is not None and group is not None and source.version != group.version:
        yield FieldViolation(f"{path}.ssm", "expected two addresses of one IP version")


def _flow(info: MbsDistributionSessionInfo, path: str) -> Iterator[FieldViolation]:
    flow = info.up_traffic_flow_info
    if not 1 <= flow.port_number <= 65535:
        yield FieldViolation(f"{path}.port_number", f"expected 1 to 65535, found {flow.port_number}")
    if not flow.dest_ip_addr.ByteSize():
        return
    group = _parsed(flow.dest_ip_addr)
    if group is None or not group.is_multicast:
        yield FieldViolation(f"{path}.dest_ip_addr", "expected an address of a multicast group")
    elif info.mbs_session_id.HasField("ssm") and group != _parsed(info.mbs_session_id.ssm.dest_ip_addr):
        yield FieldViolation(f"{path}.dest_ip_addr", "expected the group of mbs_session_id.ssm")


def _parsed(address: IpAddr) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(address.ipv4_addr or address.ipv6_addr)
    except ValueError:
        return None


def _is_dscp(text: str) -> bool:
    return not text or text.upper() in _DSCP_NAMES or (text.isascii() and text.isdecimal() and int(text) <= 63)


def _count(path: str, count: int, least: int) -> Iterator[FieldViolation]:
    if not least <= count <= _MAX_LIST:
        yield FieldViolation(path, f"expected {least} to {_MAX_LIST}, found {count}")


def _uri(path: str, text: str) -> Iterator[FieldViolation]:
    parts = urlsplit(text)
    if not parts.scheme or not (parts.netloc or parts.path) or len(text) > _MAX_TEXT or not text.isprintable():
        yield FieldViolation(path, f"expected an absolute URI, found {text[:64]!r}")


def _url(path: str, text: str, *, optional: bool = False) -> Iterator[FieldViolation]:
    if optional and not text:
        return
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or len(text) > _MAX_TEXT or " " in text:
        yield FieldViolation(path, f"expected an absolute http or https URL, found {text[:64]!r}")
