"""The ``[[session]]`` tables of a rules file: a UE, and its tunnel on N3."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from upf.errors import UpfError
from upf.gtpu import GTPU_PORT
from upf.rule_keys import TableReader
from upf.tunnels import MAX_PORT, MAX_QFI, MAX_TEID, Network, OuterHeader, Tunnel

SESSION_KEYS: Final = ("name", "ue", "teid", "gnb", "gnb_teid", "qfi")

_EXPECTED_UE: Final = "the UE's IPv4 address, its IPv6 prefix of /64, or a list of both"
_EXPECTED_GNB: Final = "an address, or ADDRESS:PORT (an IPv6 address in brackets then)"


def parse_endpoint(text: str) -> tuple[IPv4Address | IPv6Address, int]:
    """Read ``ADDRESS`` or ``ADDRESS:PORT``, an IPv6 address in brackets where a port follows. Raises UpfError."""
    host, port = text, ""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise UpfError(f"found {text!r}, expected {_EXPECTED_GNB}")
        port = port[1:] if port else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address = ip_address(host)
    except ValueError:
        raise UpfError(f"found {text!r}, expected {_EXPECTED_GNB}") from None
    if text.endswith(":") and not text.endswith("::"):
        raise UpfError(f"found {text!r}, expected a port behind the colon")
    if port and not (port.isascii() and port.isdigit() and 1 <= int(port) <= MAX_PORT):
        raise UpfError(f"found {text!r}, expected a port from 1 to {MAX_PORT}")
    return address, int(port) if port else GTPU_PORT


class SessionReader(TableReader):
    """Reads one [[session]]."""

    def __init__(self, source: str, position: int, table: Mapping[str, object]) -> None:
        super().__init__(source, "session", position, table)
        self._position = position

    def read(self) -> Tunnel | None:
        """The tunnel; None if there are problems. One without ``gnb`` cannot be reached, and only sends."""
        self._check_keys(SESSION_KEYS)
        name = self._typed("name", str, "a string") or str(self._position)
        ues = self._ues()
        teid = self._number("teid", MAX_TEID, required=True)
        outer_header = self._outer_header()
        if self.problems or teid is None:
            return None
        return Tunnel(name, ues, teid, outer_header)

    def _ues(self) -> tuple[Network, ...]:
        given = self._table.get("ue")
        texts = given if isinstance(given, list) else [given]
        found: list[Network] = []
        for text in texts:
            try:
                network = _ue(text)
            except ValueError:
                if "ue" not in self._table:
                    self.problems.append(f"{self._at('ue')}: missing, expected {_EXPECTED_UE}")
                else:
                    self._wrong("ue", text, _EXPECTED_UE)
                continue
            if network.version in [other.version for other in found]:
                self._wrong("ue", given, _EXPECTED_UE)
            found.append(network)
        if not texts:
            self._wrong("ue", given, _EXPECTED_UE)
        return tuple(found)

    def _outer_header(self) -> OuterHeader | None:
        gnb = self._typed("gnb", str, _EXPECTED_GNB)
        teid = self._number("gnb_teid", MAX_TEID, required=gnb is not None)
        qfi = self._number("qfi", MAX_QFI)
        if gnb is None:
            for key in ("gnb_teid", "qfi"):
                if key in self._table and "gnb" not in self._table:
                    self._wrong(key, self._table[key], f"{self._key('gnb')} beside it")
            return None
        try:
            address, port = parse_endpoint(gnb)
        except UpfError as error:
            self.problems.append(f"{self._at('gnb')}: {error}")
            return None
        return OuterHeader(address, teid, qfi, port) if teid is not None else None

    def _number(self, key: str, most: int, *, required: bool = False) -> int | None:
        expected = f"an integer from 1 to {most}"
        number = self._typed(key, int, expected, required=required)
        if number is not None and not 1 <= number <= most:
            self._wrong(key, number, expected)
            return None
        return number


def _ue(text: object) -> Network:
    """A UE's address or prefix; an IPv6 address stands for its /64 (TS 23.501 §5.8.2.2)."""
    if not isinstance(text, str):
        raise ValueError(text)
    if "/" not in text and (address := ip_address(text)).version == 6:
        return IPv6Network((int(address) >> 64 << 64, 64))
    network = ip_network(text)
    if network.prefixlen != (32 if network.version == 4 else 64):
        raise ValueError(text)
    return network
