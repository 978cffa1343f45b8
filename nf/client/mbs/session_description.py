"""Session descriptions as the UE reads them: SDP (RFC 8866) of FLUTE (TS 26.346 §7.3.2) or of bare packets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

from nf.client.mbs.errors import AnnouncementInvalid
from nf.common.errors import FieldViolation
from nf.common.v1.mbs_pb2 import PlmnId, Tmgi

Address: TypeAlias = IPv4Address | IPv6Address

_EPOCH: Final = datetime(1900, 1, 1, tzinfo=UTC)
_SHOWN: Final = 80
_LINE: Final = re.compile(r"([a-z])=(.*)")
_CONNECTION: Final = re.compile(r"IN IP([46]) ([0-9A-Fa-f:.]+)(?:/[0-9]+){0,2}")
_FILTER: Final = re.compile(r" ?incl IN (?:IP[46]|\*) (\S+) (\S+)")
_MEDIA: Final = re.compile(r"(\S+) ([0-9]{1,5})(?:/[0-9]+)? (\S+) (\S.*)")
_TIME: Final = re.compile(r"([0-9]{1,20}) ([0-9]{1,20})")
_FEC: Final = re.compile(r"([0-9]+) encoding-id=([0-9]{1,3})(?:; ?instance-id=([0-9]+))?")
_SERVICE: Final = re.compile(r"(multicast|broadcast)(?: ([0-9]{1,15}))?")
_LAST_NUMBER: Final = re.compile(r"([0-9]{1,4})$")
_TSI_BITS: Final = 16


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """How a distribution session is joined and decoded.

    ``tsi`` None: no FLUTE. ``fec_encoding_id`` None: nothing is told, which means 0, no code. ``periods`` empty: at
    any time; an open end is None.
    """

    name: str
    source: Address
    group: Address
    port: int
    protocol: str
    tsi: int | None = None
    fec_encoding_id: int | None = None
    fec_overhead_percent: int = 0
    bandwidth_bps: int = 0
    service_type: str = ""
    tmgi: Tmgi | None = None
    periods: tuple[tuple[datetime, datetime | None], ...] = ()
    version: int = 0

    @property
    def is_flute(self) -> bool:
        """Whether the packets are FLUTE's."""
        return self.protocol == "FLUTE/UDP"


def parse_session_description(text: str) -> SessionDescription:
    """What the text says of its one session. Attributes that are unknown are passed over.

    Raises AnnouncementInvalid, which names the line, for a text that is no SDP, or that lacks what joining takes.
    """
    return _Parser(text).parse()


def tmgi_of(number: int) -> Tmgi:
    """The TMGI that SDP has as the number of its six octets."""
    digits = f"{number:012x}"
    service, (b, a, third, c, e, d) = digits[:6], list(digits[6:])
    return Tmgi(
        mbs_service_id=service,
        plmn_id=PlmnId(mcc=f"{a}{b}{c}", mnc=f"{d}{e}{'' if third == 'f' else third}"),
    )


class _Parser:
    def __init__(self, text: str) -> None:
        self._lines = [each.rstrip("\r") for each in text.rstrip("\r\n").split("\n")]
        self._number = 0

    def parse(self) -> SessionDescription:
        if self._lines[0] != "v=0":
            raise self._wrong("v=0", self._lines[0])
        name, version = "", 0
        periods: list[tuple[datetime, datetime | None]] = []
        media: re.Match[str] | None = None
        groups: list[Address] = []
        bandwidth_bps = 0
        attributes: dict[str, tuple[int, str]] = {}
        for number, line in enumerate(self._lines, 1):
            self._number = number
            match = _LINE.fullmatch(line)
            if match is None:
                raise self._wrong("TYPE=VALUE", line)
            kind, value = match.groups()
            if kind == "s":
                name = value
            elif kind == "o":
                version = self._version(value)
            elif kind == "t":
                periods += self._period(value)
            elif kind == "c":
                groups.append(self._group(value))
            elif kind == "b" and value.startswith("AS:"):
                bandwidth_bps = 1000 * self._integer(value[3:], "b=AS:KBIT_PER_S", 10**12)
            elif kind == "m":
                if media is not None:
                    raise self._wrong("one medium", line)
                media = _MEDIA.fullmatch(value)
                if media is None:
                    raise self._wrong("m=MEDIA PORT PROTOCOL FORMAT", line)
            elif kind == "a":
                told, _, said = value.partition(":")
                attributes.setdefault(told, (self._number, said))
        if media is None:
            raise self._missing("a line m=MEDIA PORT PROTOCOL FORMAT")
        port = int(media[2])
        if not 0 < port < 2**16:
            raise self._wrong("a port from 1 to 65535", media[2])
        source, group = self._flow(attributes, groups)
        protocol = media[3].upper()
        tsi = self._tsi(attributes, protocol)
        fec, overhead = self._fec(attributes)
        service_type, tmgi = self._service(attributes)
        return SessionDescription(
            name, source, group, port, protocol, tsi, fec, overhead, bandwidth_bps, service_type, tmgi,
            tuple(periods), version,
        )  # fmt: skip

    def _flow(self, attributes: dict[str, tuple[int, str]], groups: list[Address]) -> tuple[Address, Address]:
        if "source-filter" not in attributes:
            raise self._missing("a line a=source-filter: incl IN IP4 GROUP SOURCE")
        self._number, said = attributes["source-filter"]
        match = _FILTER.fullmatch(said)
        if match is None:
            raise self._wrong("a=source-filter: incl IN IP4 GROUP SOURCE", said)
        source = self._address(match[2])
        if match[1] == "*" and not groups:
            raise self._missing("a line c= with the group")
        group = groups[-1] if match[1] == "*" else self._address(match[1])
        if not group.is_multicast:
            raise self._wrong("a multicast group", str(group))
        if groups and group not in groups:
            raise self._wrong(f"the group of line c=, {groups[-1]}", str(group))
        if group.version != source.version or source.is_multicast:
            raise self._wrong(f"a source in IPv{group.version}", str(source))
        return source, group

    def _tsi(self, attributes: dict[str, tuple[int, str]], protocol: str) -> int | None:
        if protocol != "FLUTE/UDP":
            return None
        if "flute-tsi" not in attributes:
            raise self._missing("a line a=flute-tsi:NUMBER")
        self._number, said = attributes["flute-tsi"]
        return self._integer(said, "a=flute-tsi: with a number of 16 bits", 2**_TSI_BITS - 1)

    def _fec(self, attributes: dict[str, tuple[int, str]]) -> tuple[int | None, int]:
        if "FEC-declaration" not in attributes:
            return None, 0
        self._number, said = attributes["FEC-declaration"]
        match = _FEC.fullmatch(said)
        if match is None:
            raise self._wrong("a=FEC-declaration:REFERENCE encoding-id=NUMBER", said)
        overhead = _LAST_NUMBER.search(attributes.get("FEC-redundancy-level", (0, ""))[1])
        return int(match[2]), int(overhead[1]) if overhead is not None else 0

    def _service(self, attributes: dict[str, tuple[int, str]]) -> tuple[str, Tmgi | None]:
        if "mbs-servicetype" not in attributes:
            return "", None
        self._number, said = attributes["mbs-servicetype"]
        match = _SERVICE.fullmatch(said)
        number = int(match[2]) if match is not None and match[2] else 0
        if match is None or number >= 2**48:
            raise self._wrong("a=mbs-servicetype:broadcast TMGI or multicast TMGI", said)
        if not match[2]:
            return match[1], None
        tmgi = tmgi_of(number)
        if not (tmgi.plmn_id.mcc + tmgi.plmn_id.mnc).isdecimal():
            raise self._wrong("a TMGI with the digits of a network", said)
        return match[1], tmgi

    def _period(self, value: str) -> list[tuple[datetime, datetime | None]]:
        match = _TIME.fullmatch(value)
        if match is None:
            raise self._wrong("t=START STOP", value)
        begin, end = int(match[1]), int(match[2])
        if not begin and not end:
            return []
        if end and end < begin:
            raise self._wrong("an end after the beginning", value)
        try:
            return [(_EPOCH + timedelta(seconds=begin), _EPOCH + timedelta(seconds=end) if end else None)]
        except OverflowError:
            raise self._wrong("seconds since 1900", value) from None

    def _version(self, value: str) -> int:
        parts = value.split(" ")
        if len(parts) != 6:
            raise self._wrong("o=USER ID VERSION IN IP4 ADDRESS", value)
        return self._integer(parts[2], "a version", 2**64 - 1)

    def _group(self, value: str) -> Address:
        match = _CONNECTION.fullmatch(value)
        if match is None:
            raise self._wrong("c=IN IP4 GROUP/TTL", value)
        return self._address(match[2])

    def _address(self, text: str) -> Address:
        try:
            return ip_address(text)
        except ValueError:
            raise self._wrong("an IP address", text) from None

    def _integer(self, text: str, expected: str, most: int) -> int:
        if not (text.isascii() and text.isdecimal()) or len(text) > 20 or int(text) > most:
            raise self._wrong(expected, text)
        return int(text)

    def _missing(self, expected: str) -> AnnouncementInvalid:
        self._number = len(self._lines)
        return self._refusal(f"expected {expected}, found none")

    def _wrong(self, expected: str, found: str) -> AnnouncementInvalid:
        return self._refusal(f"expected {expected}, found {found[:_SHOWN]!r}")

    def _refusal(self, why: str) -> AnnouncementInvalid:
        where = f"session description, line {self._number or 1}"
        return AnnouncementInvalid(f"{where}: {why}", violations=(FieldViolation(where, why),))
