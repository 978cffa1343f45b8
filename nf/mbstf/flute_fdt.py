"""The file delivery table: its XML in the profiles of 3GPP and IETF, and its packets (TS 26.346 §7.2.10, RFC 3926).

The version of FLUTE is 1 in TS 26.346 (RFC 3926) and 2 in RFC 6726: four bits of EXT_FDT.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final
from xml.sax.saxutils import quoteattr

from nf.mbstf.flute_fec import NO_CODE, Blocks, Fec
from nf.mbstf.objects import CacheDirective

# Seconds from 1900 to 1970: Expires counts as NTP does.
_NTP_EPOCH_S: Final = 2_208_988_800
# Instances are numbered with 20 bits.
INSTANCES: Final = 1 << 20

_EXT_FDT: Final = 192
_EXT_FTI: Final = 64
_CLOSE_SESSION: Final = 0x02


class FdtProfile(Enum):
    """Whose schema an FDT follows."""

    TS_26_346_L6 = "ts-126-346-l6"
    RFC_3926 = "rfc3926"


@dataclass(frozen=True, slots=True)
class FdtSettings:
    """How a session describes its files.

    ``lifetime_s`` is how long an instance is valid, ``files`` how many files it lists at most (those sent last),
    ``every`` after how many packets it comes again (more where the table itself takes many).
    """

    version: int = 1
    profile: FdtProfile = FdtProfile.TS_26_346_L6
    lifetime_s: int = 3600
    files: int = 16
    every: int = 50

    def __post_init__(self) -> None:
        if self.version not in (1, 2):
            raise ValueError(f"FLUTE version: expected 1 (RFC 3926, TS 26.346) or 2 (RFC 6726), got {self.version}")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of an FDT."""

    toi: int
    location: str
    content_type: str
    size_bytes: int
    md5: bytes
    blocks: Blocks
    etag: str | None = None
    cache: CacheDirective | None = None
    content_encoding: str | None = None


def fdt_xml(files: Sequence[FileEntry], expires_s: int, profile: FdtProfile, *, complete: bool = False) -> bytes:
    """The table of these files, valid until ``expires_s`` (1970 UTC); ``complete``: no further files will come."""
    l6 = profile is FdtProfile.TS_26_346_L6
    lines = ['<?xml version="1.0" encoding="UTF-8"?>\n<FDT-Instance']
    if l6:
        lines.append(' xmlns="urn:3GPP:metadata:2022:FLUTE:FDT"')
    else:
        lines.append(
            ' xmlns="urn:IETF:metadata:2005:FLUTE:FDT" xmlns:mbms2007="urn:3GPP:metadata:2007:MBMS:FLUTE:FDT"'
            ' xmlns:mbms2012="urn:3GPP:metadata:2012:MBMS:FLUTE:FDT"'
        )
    lines.append(f' Expires="{expires_s + _NTP_EPOCH_S}"')
    if complete:
        lines.append(' Complete="true"')
    lines.append(">")
    lines.extend(_file_xml(file, l6=l6) for file in files)
    if l6:
        lines.append("<schemaVersion>4</schemaVersion>")
    lines.append("</FDT-Instance>")
    return "".join(lines).encode()


def _file_xml(file: FileEntry, *, l6: bool) -> str:
    attributes = [
        f"Content-Location={quoteattr(file.location)}",
        f'TOI="{file.toi}" Content-Length="{file.size_bytes}" Transfer-Length="{file.size_bytes}"',
        f"Content-Type={quoteattr(file.content_type)}",
    ]
    if file.content_encoding is not None:
        attributes.append(f"Content-Encoding={quoteattr(file.content_encoding)}")
    blocks = file.blocks
    attributes.append(
        f'Content-MD5="{base64.b64encode(file.md5).decode()}" FEC-OTI-FEC-Encoding-ID="{blocks.encoding_id}"'
        f' FEC-OTI-FEC-Instance-ID="0" FEC-OTI-Maximum-Source-Block-Length="{blocks.source_symbols}"'
        f' FEC-OTI-Encoding-Symbol-Length="{blocks.symbol_bytes}"'
    )
    if blocks.encoding_id != NO_CODE:
        attributes.append(f'FEC-OTI-Max-Number-of-Encoding-Symbols="{blocks.source_symbols + blocks.parity_symbols}"')
    if file.etag is not None:
        attributes.append(f"{'' if l6 else 'mbms2012:'}File-ETag={quoteattr(file.etag)}")
    start = f"<File {' '.join(attributes)}"
    if file.cache is None:
        return f"{start}/>"
    return f"{start}>{_cache_xml(file.cache, '' if l6 else 'mbms2007:')}</File>"


def _cache_xml(cache: CacheDirective, prefix: str) -> str:
    if cache.no_cache:
        inner = f"<{prefix}no-cache>true</{prefix}no-cache>"
    elif cache.max_stale:
        inner = f"<{prefix}max-stale>true</{prefix}max-stale>"
    else:
        inner = f"<{prefix}Expires>{(cache.expires_s or 0) + _NTP_EPOCH_S}</{prefix}Expires>"
    return f"<{prefix}Cache-Control>{inner}</{prefix}Cache-Control>"


def fdt_packets(
    xml: bytes, tsi: int, instance: int, version: int, payload_bytes: int, *, close_session: bool = False
) -> list[bytes]:
    """The ALC packets (TOI 0, no code, one block) of an instance, each of at most ``payload_bytes``."""
    room = Fec().symbol_bytes(payload_bytes - 4)
    symbols = [xml[at : at + room] for at in range(0, len(xml), room)]
    head = b"".join(
        (
            # LCT 1, 16-bit TSI and TOI; 8 words; code point 0; congestion control information 0.
            bytes((0x10, 0x10 | (_CLOSE_SESSION if close_session else 0), 8, NO_CODE)),
            bytes(4),
            tsi.to_bytes(2, "big"),
            bytes(2),
            (_EXT_FDT << 24 | version << 20 | instance).to_bytes(4, "big"),
            bytes((_EXT_FTI, 4)),
            len(xml).to_bytes(6, "big"),
            bytes(2),
            room.to_bytes(2, "big"),
            len(symbols).to_bytes(4, "big"),
        )
    )
    return [head + esi.to_bytes(4, "big") + symbol for esi, symbol in enumerate(symbols)]


def as_table_packet(packet: bytes, instance: int, version: int, *, close_session: bool = False) -> bytes:
    """A packet of an object (16-bit TSI and TOI) as one of the table: TOI 0, with EXT_FDT, closing no object."""
    flags = packet[1] & ~0x03 | (_CLOSE_SESSION if close_session else 0)
    extension = _EXT_FDT << 24 | version << 20 | instance
    return b"".join(
        (packet[:1], bytes((flags, packet[2] + 1)), packet[3:10], bytes(2), extension.to_bytes(4, "big"), packet[12:])
    )
