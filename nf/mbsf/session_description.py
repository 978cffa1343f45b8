"""How a distribution session is received: SDP (RFC 8866) as FLUTE has it (TS 26.346 §7.3.2, TS 26.517 §6.2.2).

What joining and decoding take: source, group and port, transport session identifier, FEC, bit rate, times.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Final

from nf.common.v1 import mbs_pb2
from nf.common.v1.mbs_distribution_pb2 import FecConfig
from nf.common.v1.mbs_pb2 import MbsServiceInfo, MbsServiceType, Tmgi
from nf.mbsf.v1.announcement_pb2 import MbsFlow

MEDIA_TYPE: Final = "application/sdp"

# From the beginning of 1900, which NTP counts from, to that of 1970.
_NTP_OFFSET_S: Final = 2_208_988_800
_NO_TEXT: Final = re.compile(r"[\x00-\x1f\x7f]+")
_TTL: Final = 127
_ENCODING: Final = re.compile(r"urn:ietf:rmt:fec:encoding:([0-9]{1,3})")
# Encoding ids from here on say nothing without an instance (RFC 5052 §6.1).
_UNDER_SPECIFIED: Final = 128
_MEDIA_LINE: Final = re.compile(
    r"m=([A-Za-z0-9.-]+) [0-9]+(?:/[0-9]+)? ([A-Za-z0-9./-]+) ([\x21-\x7e]+(?: [\x21-\x7e]+)*)"
)
_FORMAT_ATTRIBUTES: Final = ("a=rtpmap:", "a=fmtp:")


@dataclass(frozen=True, slots=True)
class Media:
    """What the packets are: media type, protocol and formats of the media line, and attributes of those formats."""

    kind: str
    protocol: str
    formats: str
    attributes: tuple[str, ...] = ()


FLUTE: Final = Media("application", "FLUTE/UDP", "0")
# Packets of which nothing is told.
UDP: Final = Media("application", "UDP", "octet-stream")


def session_description(
    flow: MbsFlow,
    *,
    session_id: str,
    version: int,
    name: str,
    periods: Sequence[tuple[datetime, datetime]],
    bit_rate_bps: int,
    service_type: MbsServiceType.ValueType,
    tmgi: Tmgi | None = None,
    fec: FecConfig | None = None,
    media: Media = FLUTE,
) -> str:
    """The text, lines ended by CRLF. ``periods`` empty: at any time. ``version`` rises with every change.

    ``bit_rate_bps`` counts whole IP packets (TS 26.346 §7.3.2.10). Raises ValueError where source or group is no
    address, or where they are of two families.
    """
    source, group = ip_address(flow.source), ip_address(flow.group)
    if source.version != group.version:
        raise ValueError(f"flow: expected source and group of one family, found {flow.source} and {flow.group}")
    family = f"IN IP{group.version}"
    lines = [
        "v=0",
        f"o=- {_number_of(session_id)} {version} {family} {source}",
        f"s={_text(name) or '-'}",
        *([f"t={ntp(begin)} {ntp(end)}" for begin, end in periods] or ["t=0 0"]),
        f"a=mbs-servicetype:{_service_type(service_type, tmgi)}",
        f"a=source-filter: incl {family} {group} {source}",
    ]
    if flow.HasField("tsi"):
        lines.append(f"a=flute-tsi:{flow.tsi}")
    encoding = encoding_id(fec) if fec is not None else None
    if encoding is not None:
        instance = "; instance-id=0" if encoding >= _UNDER_SPECIFIED else ""
        lines.append(f"a=FEC-declaration:0 encoding-id={encoding}{instance}")
    lines += [
        f"m={media.kind} {flow.port} {media.protocol} {media.formats}",
        f"c={family} {group}{f'/{_TTL}' if group.version == 4 else ''}",
        f"b=AS:{-(-bit_rate_bps // 1000)}",
        *media.attributes,
    ]
    if encoding is not None and fec is not None:
        lines.append("a=FEC:0")
        if fec.fec_over_head:
            lines.append(f"a=FEC-redundancy-level:0 redundancy-level={fec.fec_over_head}")
    return "".join(f"{line}\r\n" for line in lines)


def media_of(service_info: MbsServiceInfo) -> Media:
    """What the packets of the packet method are, if the codec data (TS 29.214 §5.3.7) of a component say it."""
    for _, component in sorted(service_info.mbs_media_comps.items()):
        for text in component.mbs_media_info.codecs:
            direction, _, media, *attributes = [*text.replace("\r\n", "\n").split("\n"), "", ""]
            match = _MEDIA_LINE.fullmatch(media) if direction == "downlink" else None
            if match is not None:
                told = tuple(each for each in attributes if each.startswith(_FORMAT_ATTRIBUTES))
                return Media(match[1], match[2], match[3], told)
    return UDP


def encoding_id(fec: FecConfig) -> int | None:
    """The FEC encoding id that a scheme's URN names; None for a scheme that is named otherwise."""
    match = _ENCODING.fullmatch(fec.fec_scheme)
    return int(match[1]) if match is not None else None


def tmgi_number(tmgi: Tmgi) -> int:
    """The TMGI as the number that SDP has: six octets, the service id and then the network's (TS 24.008 §10.5.6.13)."""
    mcc, mnc = tmgi.plmn_id.mcc, tmgi.plmn_id.mnc
    third = mnc[2] if len(mnc) > 2 else "f"
    return int(f"{tmgi.mbs_service_id}{mcc[1]}{mcc[0]}{third}{mcc[2]}{mnc[1]}{mnc[0]}", 16)


def ntp(moment: datetime) -> int:
    """The moment in seconds as SDP counts them."""
    return int(moment.timestamp()) + _NTP_OFFSET_S


def _service_type(service_type: MbsServiceType.ValueType, tmgi: Tmgi | None) -> str:
    word = "multicast" if service_type == mbs_pb2.MBS_SERVICE_TYPE_MULTICAST else "broadcast"
    return f"{word} {tmgi_number(tmgi)}" if tmgi is not None else word


def _number_of(session_id: str) -> int:
    """A number that stays the session's: RFC 8866 §5.2 wants digits."""
    return int.from_bytes(session_id.encode()[-7:], "big")


def _text(text: str) -> str:
    return _NO_TEXT.sub(" ", text).strip()
