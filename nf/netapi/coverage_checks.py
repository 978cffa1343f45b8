"""What is wrong with a service area or a capability profile, by the field of the request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from nf.common.errors import FieldViolation
from nf.common.v1.mbs_pb2 import Ncgi
from nf.common.v1.types_pb2 import Snssai
from nf.netapi import geometry
from nf.netapi.names import name_violations, text_violations
from nf.netapi.v1.coverage_pb2 import (
    CAPABILITY_GEOFENCING,
    CAPABILITY_QUALITY_ON_DEMAND,
    Capability,
    CapabilityProfile,
    GeofencingProfile,
    QosProfile,
    ServiceArea,
)

MAX_CELLS: Final = 10_000
MAX_FIVE_QI: Final = 255
MAX_MS: Final = 3_600_000
MAX_PPM: Final = 1_000_000
# Beyond it no rate is policed.
MAX_RATE_BPS: Final = 400_000_000_000
MAX_PRICE_UNITS: Final = 1_000_000_000_000
# Standardised 5QIs without a guaranteed bit rate (TS 23.501 table 5.7.4-1).
NON_GBR_FIVE_QIS: Final = frozenset((5, 6, 7, 8, 9, 10, 69, 70, 79, 80))
_MCC: Final = re.compile(r"[0-9]{3}")
_MNC: Final = re.compile(r"[0-9]{2,3}")
_NCI: Final = re.compile(r"[0-9A-Fa-f]{9}")
_NID: Final = re.compile(r"([0-9A-Fa-f]{11})?")
_SD: Final = re.compile(r"([0-9A-Fa-f]{6})?")
# Labels of an APN with dots between them (TS 23.003 §9.1).
_DNN: Final = re.compile(
    r"(?=.{1,100}\Z)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)


def area_violations(area: ServiceArea, field: str) -> list[FieldViolation]:
    """What is wrong with a service area."""
    return list(_area(area, field))


def profile_violations(profile: CapabilityProfile, field: str) -> list[FieldViolation]:
    """What is wrong with a capability profile."""
    return list(_profile(profile, field))


def cell_violations(cell: Ncgi, field: str) -> Iterator[FieldViolation]:
    """What is wrong with a cell."""
    for path, value, form, told in (
        ("plmn_id.mcc", cell.plmn_id.mcc, _MCC, "three digits"),
        ("plmn_id.mnc", cell.plmn_id.mnc, _MNC, "two or three digits"),
        ("nr_cell_id", cell.nr_cell_id, _NCI, "nine hexadecimal digits"),
        ("nid", cell.nid, _NID, "eleven hexadecimal digits or nothing"),
    ):
        if not form.fullmatch(value):
            yield FieldViolation(f"{field}.{path}", f"expected {told}, found {value[:64]!r}")


def _area(area: ServiceArea, field: str) -> Iterator[FieldViolation]:
    yield from name_violations(f"{field}.area_id", area.area_id)
    yield from text_violations(f"{field}.name", area.name)
    has_geometry = area.HasField("geometry")
    if area.everywhere and (has_geometry or area.cells):
        yield FieldViolation(f"{field}.everywhere", "expected neither geometry nor cells beside it, found one")
    elif not (area.everywhere or has_geometry or area.cells):
        yield FieldViolation(f"{field}.geometry", "expected a geometry, cells or everywhere, found none of them")
    if has_geometry:
        yield from geometry.violations(area.geometry, f"{field}.geometry")
    if len(area.cells) > MAX_CELLS:
        yield FieldViolation(f"{field}.cells", f"expected at most {MAX_CELLS}, found {len(area.cells)}")
        return
    seen: set[tuple[str, str, str, str]] = set()
    for index, cell in enumerate(area.cells):
        where = f"{field}.cells[{index}]"
        yield from cell_violations(cell, where)
        key = (cell.plmn_id.mcc, cell.plmn_id.mnc, cell.nr_cell_id.upper(), cell.nid.upper())
        if key in seen:
            yield FieldViolation(where, f"expected each cell once, found {cell.nr_cell_id!r} again")
        seen.add(key)


def _profile(profile: CapabilityProfile, field: str) -> Iterator[FieldViolation]:
    yield from name_violations(f"{field}.profile_id", profile.profile_id)
    yield from text_violations(f"{field}.description", profile.description)
    if profile.price_units_per_device_hour > MAX_PRICE_UNITS:
        found = profile.price_units_per_device_hour
        yield FieldViolation(
            f"{field}.price_units_per_device_hour", f"expected at most {MAX_PRICE_UNITS}, found {found}"
        )
    if profile.dnn and not _DNN.fullmatch(profile.dnn):
        yield FieldViolation(f"{field}.dnn", f"expected the name of a data network, found {profile.dnn[:64]!r}")
    if profile.HasField("s_nssai"):
        yield from _slice(profile.s_nssai, f"{field}.s_nssai")
    for capability, name in ((CAPABILITY_QUALITY_ON_DEMAND, "qos"), (CAPABILITY_GEOFENCING, "geofencing")):
        present = profile.HasField("qos" if name == "qos" else "geofencing")
        if present != (profile.capability == capability):
            told = "expected nothing with this capability, found one" if present else "expected, found nothing"
            if profile.capability in (CAPABILITY_QUALITY_ON_DEMAND, CAPABILITY_GEOFENCING):
                yield FieldViolation(f"{field}.{name}", told)
    if profile.capability == CAPABILITY_QUALITY_ON_DEMAND:
        yield from _qos(profile.qos, f"{field}.qos")
    elif profile.capability == CAPABILITY_GEOFENCING:
        yield from _geofencing(profile.geofencing, f"{field}.geofencing")
    else:
        found_name = Capability.Name(profile.capability) if profile.capability in Capability.values() else "another"
        yield FieldViolation(f"{field}.capability", f"expected QUALITY_ON_DEMAND or GEOFENCING, found {found_name}")


def _slice(s_nssai: Snssai, field: str) -> Iterator[FieldViolation]:
    if s_nssai.sst > 255:
        yield FieldViolation(f"{field}.sst", f"expected 0 to 255, found {s_nssai.sst}")
    if not _SD.fullmatch(s_nssai.sd):
        yield FieldViolation(f"{field}.sd", f"expected six hexadecimal digits or nothing, found {s_nssai.sd[:64]!r}")


def _qos(qos: QosProfile, field: str) -> Iterator[FieldViolation]:
    if not 1 <= qos.five_qi <= MAX_FIVE_QI:
        yield FieldViolation(f"{field}.five_qi", f"expected 1 to {MAX_FIVE_QI}, found {qos.five_qi}")
    elif qos.five_qi in NON_GBR_FIVE_QIS and (qos.guaranteed_downlink_bps or qos.guaranteed_uplink_bps):
        why = f"expected one for guaranteed bit rates, as some are given, found {qos.five_qi} (TS 23.501 table 5.7.4-1)"
        yield FieldViolation(f"{field}.five_qi", why)
    for direction, guaranteed_bps, max_bps in (
        ("downlink", qos.guaranteed_downlink_bps, qos.max_downlink_bps),
        ("uplink", qos.guaranteed_uplink_bps, qos.max_uplink_bps),
    ):
        for name, rate_bps in ((f"guaranteed_{direction}_bps", guaranteed_bps), (f"max_{direction}_bps", max_bps)):
            if rate_bps > MAX_RATE_BPS:
                yield FieldViolation(f"{field}.{name}", f"expected at most {MAX_RATE_BPS}, found {rate_bps}")
        if max_bps and guaranteed_bps > max_bps:
            told = f"expected at least what is guaranteed, {guaranteed_bps}, found {max_bps}"
            yield FieldViolation(f"{field}.max_{direction}_bps", told)
    for name, value, most in (
        ("packet_delay_budget_ms", qos.packet_delay_budget_ms, MAX_MS),
        ("jitter_ms", qos.jitter_ms, MAX_MS),
        ("packet_error_loss_ppm", qos.packet_error_loss_ppm, MAX_PPM),
    ):
        if value > most:
            yield FieldViolation(f"{field}.{name}", f"expected at most {most}, found {value}")


def _geofencing(geofencing: GeofencingProfile, field: str) -> Iterator[FieldViolation]:
    if not (geofencing.verify or geofencing.retrieve or geofencing.notify):
        yield FieldViolation(field, "expected verify, retrieve or notify, found none of them")
