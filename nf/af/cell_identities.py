"""Cell identities as consumption reports write them: CGI, ECGI, NCGI (TS 23.003 §4.3.1, §19.6, §19.6A).

A cell is kept as its parts with hyphens between them, hexadecimal digits in capitals and with leading zeros:
"262-01-2A3B-0001" (CGI), "262-01-0ABCDEF" (ECGI, 28 bits), "262-01-00000000A" (NCGI, 36 bits).
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Final

CGI, ECGI, NCGI = 0, 1, 2
NAMES: Final = {CGI: "CGI", ECGI: "ECGI", NCGI: "NCGI"}

# Hexadecimal digits of the parts after MCC and MNC: LAC and CI, ECI, NCI.
_WIDTHS: Final = {CGI: (4, 4), ECGI: (7,), NCGI: (9,)}
# What TS 29.571 calls these parts.
_JSON_NAMES: Final = {CGI: ("lac", "cellId"), ECGI: ("eutraCellId",), NCGI: ("nrCellId",)}
_EXPECTED: Final = {
    CGI: "MCC-MNC-LAC-CI with LAC and CI in hexadecimal, 16 bits each",
    ECGI: "MCC-MNC-ECI with the ECI in hexadecimal, 28 bits",
    NCGI: "MCC-MNC-NCI with the NCI in hexadecimal, 36 bits",
}
_MCC = re.compile(r"[0-9]{3}")
_MNC = re.compile(r"[0-9]{2,3}")
_HEX = re.compile(r"[0-9A-Fa-f]+")
_SEPARATOR = re.compile(r"[-:.]")
_MAX_LENGTH = 256

# A location area of CGI, or the part of a cell identity that an area may be given by.
_AREA = re.compile(r"[0-9]{3}(-[0-9]{2,3}(-[0-9A-F]{4}(-[0-9A-F]{4})?|-[0-9A-F]{7}|-[0-9A-F]{9})?)?")


@lru_cache(maxsize=65_536)
def normalised(location_type: int, location: str) -> str:
    """The cell in the form in which it is kept.

    Accepted are the parts with "-", ":" or "." between them (leading zeros of the hexadecimal ones may be missing), the
    digits one after the other without any, and the JSON objects of TS 29.571 (plmnId and lac, cellId, eutraCellId or
    nrCellId). Raises ValueError, saying what was expected.
    """
    widths = _WIDTHS[location_type]
    parts = _parts(location_type, location) if len(location) <= _MAX_LENGTH else []
    if len(parts) != 2 + len(widths):
        raise ValueError(_refusal(location_type, location))
    mcc, mnc, *cell = parts
    if not _MCC.fullmatch(mcc) or not _MNC.fullmatch(mnc):
        raise ValueError(_refusal(location_type, location))
    for part, width in zip(cell, widths, strict=True):
        if not _HEX.fullmatch(part) or len(part) > width:
            raise ValueError(_refusal(location_type, location))
    padded = (part.upper().zfill(width) for part, width in zip(cell, widths, strict=True))
    return "-".join((mcc, mnc, *padded))


def check_area(area: str) -> None:
    """Raises ValueError unless ``area`` is a cell as it is kept, or begins like one: MCC, MCC-MNC, MCC-MNC-LAC."""
    if not _AREA.fullmatch(area):
        raise ValueError(
            'expected a cell or its first parts ("262", "262-01", "262-01-2A3B"), hexadecimal in capitals, '
            f"found {area[:64]!r}"
        )


def _parts(location_type: int, location: str) -> list[str]:
    text = location.strip()
    if text.startswith("{"):
        return _parts_of_json(location_type, text)
    if _SEPARATOR.search(text):
        return _SEPARATOR.split(text)
    # Without separators the length tells how long the MNC is.
    widths = _WIDTHS[location_type]
    mnc_digits = len(text) - 3 - sum(widths)
    if mnc_digits not in (2, 3):
        return []
    parts = [text[:3], text[3 : 3 + mnc_digits]]
    at = 3 + mnc_digits
    for width in widths:
        parts.append(text[at : at + width])
        at += width
    return parts


def _parts_of_json(location_type: int, text: str) -> list[str]:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return []
    plmn = tree.get("plmnId")
    if not isinstance(plmn, dict):
        return []
    parts = [plmn.get("mcc"), plmn.get("mnc"), *(tree.get(name) for name in _JSON_NAMES[location_type])]
    return [part for part in parts if isinstance(part, str)]


def _refusal(location_type: int, location: str) -> str:
    shown = location if len(location) <= 64 else f"{location[:64]}…"
    return f"expected {NAMES[location_type]}: {_EXPECTED[location_type]}; found {shown!r}"
