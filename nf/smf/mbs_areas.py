"""MBS service areas: whether two overlap, who serves them, by which branches (TS 23.247 §6.2, TS 29.571 §5.9). Pure.

A gNB serves the cells that it names and all cells of the tracking areas that it names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from nf.common.v1.mbs_pb2 import MbsServiceArea, Ncgi, NcgiTai, Tai
from nf.smf.config import GnbSection
from upf.n4.v1.n4_pb2 import OuterHeaderCreation
from upf.n4.v1.n4mb_pb2 import Branch, LowLayerSsmDelivery


def tai_key(tai: Tai) -> str:
    """A tracking area as in the configuration: equal ones have equal keys."""
    return f"{tai.plmn_id.mcc}-{tai.plmn_id.mnc}-{tai.tac.lower()}"


def cell_key(cell: Ncgi) -> str:
    """A cell as in the configuration: equal ones have equal keys."""
    return f"{cell.plmn_id.mcc}-{cell.plmn_id.mnc}-{cell.nr_cell_id.lower()}"


def overlap(one: MbsServiceArea, other: MbsServiceArea) -> str:
    """A tracking area or cell that both have; empty: none."""
    for tai in sorted(_tais(one) & _tais(other)):
        return f"tracking area {tai}"
    mine, others = dict(_cells(one)), dict(_cells(other))
    for cell in sorted(mine.keys() & others.keys()):
        return f"cell {cell}"
    for cells, area in ((mine, other), (others, one)):
        for cell, tai in sorted(cells.items()):
            if tai in _tais(area):
                return f"cell {cell} of tracking area {tai}"
    return ""


def serving(gnbs: Sequence[GnbSection], area: MbsServiceArea | None) -> list[GnbSection]:
    """The gNBs that serve something of the area; None: everywhere."""
    if area is None:
        return list(gnbs)
    return [gnb for gnb in gnbs if served((gnb,), area) != MbsServiceArea()]


def served(gnbs: Sequence[GnbSection], area: MbsServiceArea) -> MbsServiceArea:
    """That part of the area that gNBs serve; all of it where none is configured."""
    if not gnbs:
        return area
    found = MbsServiceArea()
    for each in area.ncgi_list:
        cells = [cell for cell in each.cell_list if any(_serves(gnb, each.tai, cell) for gnb in gnbs)]
        if cells:
            found.ncgi_list.append(NcgiTai(tai=each.tai, cell_list=cells))
    tais = {tai for gnb in gnbs for tai in gnb.tais}
    found.tai_list.extend(tai for tai in area.tai_list if tai_key(tai) in tais)
    return found


def branches_of(gnbs: Sequence[GnbSection], area: MbsServiceArea | None, cp_seid: int) -> list[Branch]:
    """The ways by which an N4mb session reaches the gNBs that serve the area: one for each receiver of packets.

    None where no gNB is configured: the UPF has its own.
    """
    branches: list[Branch] = []
    known: set[tuple[str, int, int, str]] = set()
    for gnb in serving(gnbs, area):
        teid = gnb.first_teid + cp_seid - 1
        address = gnb.address or gnb.group or ""
        if (key := (address, gnb.port, teid, gnb.interface)) in known:
            continue
        known.add(key)
        header = OuterHeaderCreation(teid=teid & 0xFFFF_FFFF or 1, port=gnb.port)
        if ip_address(address).version == 4:
            header.ipv4_address = address
        else:
            header.ipv6_address = address
        branch = Branch(branch_id=len(branches) + 1)
        if gnb.group is None:
            branch.unicast.CopyFrom(header)
        else:
            branch.low_layer_ssm.CopyFrom(LowLayerSsmDelivery(outer_header_creation=header, interface=gnb.interface))
        branches.append(branch)
    return branches


def _tais(area: MbsServiceArea) -> set[str]:
    return {tai_key(tai) for tai in area.tai_list}


def _cells(area: MbsServiceArea) -> Iterator[tuple[str, str]]:
    """Each cell with its tracking area."""
    for each in area.ncgi_list:
        for cell in each.cell_list:
            yield cell_key(cell), tai_key(each.tai)


def _serves(gnb: GnbSection, tai: Tai, cell: Ncgi) -> bool:
    return cell_key(cell) in gnb.cells or tai_key(tai) in gnb.tais
