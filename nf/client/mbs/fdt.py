"""The file delivery table as a receiver reads it, whichever profile it follows (RFC 3926, TS 26.346 §7.2.10)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from lxml import etree

from nf.client.mbs.alc import NO_CODE, REED_SOLOMON, REED_SOLOMON_UNDERSPECIFIED, TransmissionInformation, is_consistent

_NTP_EPOCH_S: Final = 2_208_988_800
_SCHEMES: Final = (NO_CODE, REED_SOLOMON, REED_SOLOMON_UNDERSPECIFIED)
_LONGEST_NUMBER: Final = 20
_MOST_BYTES: Final = 1 << 48


class FdtInvalid(ValueError):
    """A table, or a line of one, that cannot be used."""


@dataclass(frozen=True, slots=True)
class FileInformation:
    """A file that a table lists. ``information`` None: only the packets say how it is cut."""

    toi: int
    location: str
    transfer_length: int | None
    content_type: str
    content_encoding: str
    md5: bytes | None
    etag: str
    information: TransmissionInformation | None


@dataclass(frozen=True, slots=True)
class FdtInstance:
    """A table: its files, until when it is valid (seconds since 1970 UTC), whether there will be no others."""

    files: tuple[FileInformation, ...]
    expires_s: int
    complete: bool
    # Lines that cannot be used.
    refused: int


def parse_fdt(xml: bytes) -> FdtInstance:
    """The table; lines that cannot be used are left out, and counted. Raises FdtInvalid for what is no table."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(xml, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise FdtInvalid(f"no XML: {error}") from error
    if _name(root) != "FDT-Instance":
        raise FdtInvalid(f"expected FDT-Instance, found {root.tag!r}")
    expires = _number(root, "Expires")
    if expires is None:
        raise FdtInvalid("FDT-Instance: expected Expires")
    files, refused = [], 0
    for child in root:
        if _name(child) == "File":
            try:
                files.append(_file(child, root))
            except FdtInvalid:
                refused += 1
    complete = root.get("Complete", "").strip() in ("true", "1")
    return FdtInstance(tuple(files), expires - _NTP_EPOCH_S, complete, refused)


def _file(element: etree._Element, root: etree._Element) -> FileInformation:
    toi = _number(element, "TOI")
    location = element.get("Content-Location", "").strip()
    if not toi or not location:
        raise FdtInvalid("File: expected TOI and Content-Location")
    length = _number(element, "Transfer-Length")
    if length is None:
        length = _number(element, "Content-Length")
    return FileInformation(
        toi=toi,
        location=location,
        transfer_length=length,
        content_type=_either(element, root, "Content-Type"),
        content_encoding=_either(element, root, "Content-Encoding"),
        md5=_md5(element),
        etag=next((str(value) for key, value in element.attrib.items() if str(key).endswith("File-ETag")), ""),
        information=_information(element, root, length),
    )


def _information(element: etree._Element, root: etree._Element, length: int | None) -> TransmissionInformation | None:
    def number(name: str) -> int | None:
        found = _number(element, f"FEC-OTI-{name}")
        return _number(root, f"FEC-OTI-{name}") if found is None else found

    encoding_id = number("FEC-Encoding-ID")
    symbol_bytes, source = number("Encoding-Symbol-Length"), number("Maximum-Source-Block-Length")
    if length is None or encoding_id is None or symbol_bytes is None or source is None:
        return None
    most = number("Max-Number-of-Encoding-Symbols") if encoding_id != NO_CODE else source
    information = TransmissionInformation(encoding_id, length, symbol_bytes, source, source if most is None else most)
    if encoding_id not in _SCHEMES or not is_consistent(information):
        raise FdtInvalid("File: FEC-OTI that no object can have")
    return information


def _either(element: etree._Element, root: etree._Element, name: str) -> str:
    return element.get(name, root.get(name, "")).strip()


def _number(element: etree._Element, name: str) -> int | None:
    text = element.get(name)
    if text is None:
        return None
    text = text.strip()
    if not (text.isascii() and text.isdecimal()) or len(text) > _LONGEST_NUMBER or int(text) >= _MOST_BYTES:
        raise FdtInvalid(f"{name}: expected a number, found {text[:80]!r}")
    return int(text)


def _md5(element: etree._Element) -> bytes | None:
    text = element.get("Content-MD5")
    if text is None:
        return None
    try:
        digest = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise FdtInvalid("Content-MD5: expected Base64") from error
    if len(digest) != 16:
        raise FdtInvalid(f"Content-MD5: expected 16 bytes, found {len(digest)}")
    return digest


def _name(element: etree._Element) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""
