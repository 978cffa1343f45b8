"""The service area of a CAMARA session, which names none: everywhere, or where the device is."""

from __future__ import annotations

from nf.common.reader import Reader
from nf.netapi import agreements, coverage, geometry
from nf.netapi.errors import Unprocessable
from nf.netapi.positions import position_of
from nf.netapi.v1.agreement_pb2 import Agreement
from nf.netapi.v1.coverage_pb2 import ServiceArea


def area_for(reader: Reader, agreement: Agreement, configured: str | None, device_key: str) -> ServiceArea:
    """The configured area, else the first one that is everywhere, else the only one, else the one the device is in.

    Of those of the agreement alone. Raises Unprocessable where there is none.
    """
    areas = [each for each in coverage.areas(reader) if agreements.allows_area(agreement, each.area_id)]
    if configured is not None:
        areas = [each for each in areas if each.area_id == configured]
    found = next((each for each in areas if each.everywhere), None)
    if found is None and len(areas) == 1:
        found = areas[0]
    if found is None and areas:
        position = position_of(reader, device_key)
        found = next((each for each in areas if geometry.fit(each, position)[0] is geometry.Fit.INSIDE), None)
    if found is None:
        raise Unprocessable("device: it is in no service area of the agreement")
    return found
