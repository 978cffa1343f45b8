"""What a PDR detects → filters of the engine (TS 29.244 §5.2.1A, §7.5.2.2).

Filters are written for the downlink: with source interface core they match as written, with access source and
destination change places (§5.2.1A.2A). Either way only packets of the session's UE addresses match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from upf.errors import UpfError
from upf.n4.v1.n4_pb2 import Pdi, Pdr, SdfFilter, SourceInterface
from upf.sdf import Direction, parse_filter
from upf.sdf import SdfFilter as EngineFilter
from upf.sdf_attributes import MAX_FLOW_LABEL, MAX_QFI, MAX_TOS, parse_domain

ACCESS: Final = SourceInterface.SOURCE_INTERFACE_ACCESS
CORE: Final = SourceInterface.SOURCE_INTERFACE_CORE

Network = IPv4Network | IPv6Network
Wrong = Callable[[str, str], None]
"""Told of each field that is wrong, and why."""

_DEFAULT_PREFIX_LENGTH: Final = 64
_NO_TUNNEL: Final[list[tuple[int | None, int | None]]] = [(None, None)]
# Sessions of many UEs have the same few descriptions.
_parse: Final = lru_cache(maxsize=4096)(parse_filter)
_EVERYTHING: Final = "permit out ip from any to any"


def described_filters(pdrs: Iterable[Pdr], wrong: Wrong) -> dict[int, SdfFilter]:
    """The filters of a session that its PDRs may refer to by their identifiers."""
    described: dict[int, SdfFilter] = {}
    for at, pdr in enumerate(pdrs):
        for number, sdf in enumerate(pdr.pdi.sdf_filters):
            if not sdf.sdf_filter_id or is_reference(sdf):
                continue
            first = described.setdefault(sdf.sdf_filter_id, sdf)
            if first is not sdf and first != sdf:
                wrong(
                    f"pdrs[{at}].pdi.sdf_filters[{number}].sdf_filter_id",
                    f"found {sdf.sdf_filter_id} for another filter too, expected one of its own",
                )
    return described


def filters_of(pdi: Pdi, described: dict[int, SdfFilter], wrong: Wrong) -> tuple[EngineFilter, ...]:
    """The filters that detect what the PDI says; ``wrong`` is told of what cannot be, by fields of the PDI."""
    ues = _ue_networks(pdi, wrong)
    tunnels = _tunnels(pdi, wrong)
    found: list[EngineFilter] = []
    for number, sdf in enumerate(pdi.sdf_filters or [SdfFilter(flow_description=_EVERYTHING)]):
        found += _filters_of(sdf, described, ues, f"sdf_filters[{number}]", wrong)
    if pdi.source_interface != CORE:
        found = [each.swapped() for each in found]
    if tunnels == _NO_TUNNEL:
        return tuple(found)
    return tuple(replace(each, teid=teid, qfi=qfi) for each in found for teid, qfi in tunnels)


def limited_to_ue(sdf_filter: EngineFilter, ue: Network) -> EngineFilter:
    """The downlink filter, its destination narrowed to the UE's address or prefix.

    Raises UpfError when the UE's address is none that the filter could match.
    """
    if sdf_filter.family not in (0, ue.version):
        raise UpfError(f"an IPv{sdf_filter.family} filter cannot match UE address {_written(ue)}")
    bits = ue.max_prefixlen
    shorter = bits - min(sdf_filter.dst_prefix_length, ue.prefixlen)
    if sdf_filter.dst_network >> shorter != int(ue.network_address) >> shorter:
        raise UpfError(f"the destination does not contain UE address {_written(ue)}")
    if sdf_filter.dst_prefix_length > ue.prefixlen:
        return sdf_filter
    return replace(sdf_filter, family=ue.version, dst_network=int(ue.network_address), dst_prefix_length=ue.prefixlen)


@lru_cache(maxsize=1024)
def ue_network(text: str) -> Network:
    """The UE's address or prefix; an IPv6 address without a length stands for its /64. Raises UpfError."""
    try:
        if "/" in text:
            return ip_network(text)
        address = ip_address(text)
        if address.version == 6:
            return IPv6Network((int(address), _DEFAULT_PREFIX_LENGTH), strict=False)
        return IPv4Network(int(address))
    except ValueError:
        raise UpfError(f"UE address {text!r}: expected an address or prefix") from None


def _written(ue: Network) -> str:
    return str(ue.network_address) if ue.prefixlen == ue.max_prefixlen else str(ue)


def is_reference(sdf: SdfFilter) -> bool:
    """Whether nothing but the identifier is there."""
    return not sdf.flow_description and sdf == SdfFilter(sdf_filter_id=sdf.sdf_filter_id)


def _ue_networks(pdi: Pdi, wrong: Wrong) -> list[Network]:
    networks: list[Network] = []
    for field, text in (("ue_ip_address", pdi.ue_ip_address), ("ue_ipv6_prefix", pdi.ue_ipv6_prefix)):
        if not text and (field == "ue_ipv6_prefix" or pdi.ue_ipv6_prefix):
            continue
        try:
            network = ue_network(text)
        except UpfError as error:
            wrong(field, str(error))
            continue
        if field == "ue_ipv6_prefix" and network.version != 6:
            wrong(field, f"found {text!r}, expected an IPv6 prefix")
        elif network.version in [other.version for other in networks]:
            wrong(field, f"found {text!r} beside {pdi.ue_ip_address!r}, expected one IPv6 prefix")
        else:
            networks.append(network)
    return networks


def _tunnels(pdi: Pdi, wrong: Wrong) -> list[tuple[int | None, int | None]]:
    """The TEIDs and QFIs that the filters are to ask for, any of these; None asks for none."""
    for field, given in (("local_f_teid", pdi.HasField("local_f_teid")), ("qfis", bool(pdi.qfis))):
        if given and pdi.source_interface == CORE:
            wrong(field, "found one with source interface CORE, expected ACCESS: the downlink comes in no tunnel")
    teid = pdi.local_f_teid.teid if pdi.HasField("local_f_teid") else None
    for at, qfi in enumerate(pdi.qfis):
        if qfi > MAX_QFI:
            wrong(f"qfis[{at}]", f"found {qfi}, expected 0 to {MAX_QFI}")
    return [(teid, qfi) for qfi in pdi.qfis or [None]]


def _filters_of(
    sdf: SdfFilter, described: dict[int, SdfFilter], ues: list[Network], field: str, wrong: Wrong
) -> Iterator[EngineFilter]:
    if is_reference(sdf):
        if sdf.sdf_filter_id not in described:
            expected = "a description, or the identifier of a filter that the session describes"
            wrong(f"{field}.sdf_filter_id", f"found {sdf.sdf_filter_id or 'nothing'}, expected {expected}")
            return
        # What is wrong with it is told of where it is described.
        sdf, wrong = described[sdf.sdf_filter_id], _nobody
    text = sdf.flow_description or _EVERYTHING
    try:
        written = _parse(text, attributes=False)
        if written.direction is not Direction.OUT:
            raise UpfError("expected 'out': N4 filters are written for the downlink")
        written = _with_attributes(written, sdf, field, wrong)
        # A filter of one family is about the UE's address of that family.
        about = [ue for ue in ues if len(ues) == 1 or written.family in (0, ue.version)]
        limited = [limited_to_ue(written, ue) for ue in about]
    except UpfError as error:
        wrong(f"{field}.flow_description", f"{text!r}: {error}")
        return
    for each in limited:
        if each.flow_label is not None and each.family != 6:
            if len(limited) == 1:
                wrong(f"{field}.flow_label", f"found {each.flow_label}, expected none: IPv4 has no flow label")
            continue
        yield each


def _nobody(field: str, description: str) -> None:
    """Told already."""


def _with_attributes(written: EngineFilter, sdf: SdfFilter, field: str, wrong: Wrong) -> EngineFilter:
    """The filter with what it asks beyond its description."""

    def within(name: str, value: int, most: int) -> bool:
        if value > most:
            wrong(f"{field}.{name}", f"found {value}, expected 0 to {most}")
        return value <= most

    asked: dict[str, int | str] = {}
    if sdf.HasField("tos_traffic_class"):
        mask = sdf.tos_traffic_class_mask or MAX_TOS
        if within("tos_traffic_class_mask", mask, MAX_TOS) and within(
            "tos_traffic_class", sdf.tos_traffic_class, MAX_TOS
        ):
            asked |= {"tos": sdf.tos_traffic_class & mask, "tos_mask": mask}
    elif sdf.tos_traffic_class_mask:
        wrong(f"{field}.tos_traffic_class_mask", f"found {sdf.tos_traffic_class_mask} without tos_traffic_class")
    if sdf.HasField("security_parameter_index"):
        if written.protocol not in (-1, 50, 51) or written.has_ports:
            wrong(f"{field}.security_parameter_index", "found one, expected none: ESP and AH alone have it")
        asked["spi"] = sdf.security_parameter_index
    if sdf.HasField("flow_label") and within("flow_label", sdf.flow_label, MAX_FLOW_LABEL):
        asked["flow_label"] = sdf.flow_label
    if sdf.domain_name:
        try:
            asked["domain"] = parse_domain(sdf.domain_name)
        except UpfError as error:
            wrong(f"{field}.domain_name", str(error))
    return replace(written, **asked) if asked else written  # type: ignore[arg-type]
