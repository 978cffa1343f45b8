"""Service data flow filters: IPFilterRule of RFC 6733 §4.3.1 as TS 29.214 §5.3.8 and TS 29.212 §5.4.2 restrict it.

::

    permit in|out <protocol> from <address> [ports] to <address> [ports] [attributes]

    protocol   ip | 0..255
    address    any | assigned | IPv4[/bits] | IPv6[/bits]
    ports      443 | 8000-8099 | 443,8000-8099
    attributes castcore's words for what has no place in an IPFilterRule: `upf.sdf_attributes`

No ``deny``, no inversion (``!``), no options. A filter matches as it is written, whatever its direction; an uplink
packet is matched against the downlink filter with source and destination exchanged (TS 29.244 §5.2.1A.2A).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from upf.sdf_attributes import AH, ATTRIBUTE_WORDS, ESP, NO_ATTRIBUTES, Attributes, parse_attributes
from upf.sdf_tokens import END, FilterError, Tokens, any_of, describe_word, parse_number

__all__ = ["Address", "FilterError", "SdfFilter", "parse_filter"]

Address = IPv4Address | IPv6Address | IPv4Network | IPv6Network
PortRange = tuple[int, int]

ANY_PROTOCOL: Final = -1
# The protocol of a packet whose transport could not be reached; with ports unknown, only "ip" matches it.
UNKNOWN_PROTOCOL: Final = 255
# TCP, UDP, DCCP, SCTP, UDP-Lite: ports are the first four bytes of the transport header.
PORT_PROTOCOLS: Final = frozenset({6, 17, 33, 132, 136})

_ADDRESS_BITS: Final = {0: 0, 4: 32, 6: 128}
_PROTOCOL_NUMBERS: Final = {
    "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "gre": 47, "esp": 50, "ah": 51,
    "icmp6": 58, "icmpv6": 58, "ipv6-icmp": 58, "sctp": 132, "udplite": 136, "udp-lite": 136,
}  # fmt: skip


class Direction(StrEnum):
    """Towards the UE is ``out`` (TS 29.214 §5.3.8)."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class SdfFilter:
    """One filter, in the integers that the compiled engine takes; ``str()`` writes it in the grammar.

    ``family`` is 0 (any), 4 or 6; ``protocol`` is -1 (any) or the number; networks are integers with their host bits
    zero, beside their prefix length (0: any address); ports are ranges (low, high), both inclusive, none: any port.

    ``tos`` is compared under ``tos_mask`` (0: any); ``flow_label``, ``spi``, ``teid`` and ``qfi`` of None are any; an
    empty ``domain`` is any name, ``*.`` before it means every name below it; ``filter_id`` (0: none) identifies the
    filter within its PFCP session.
    """

    direction: Direction
    family: int
    protocol: int
    src_network: int
    src_prefix_length: int
    src_ports: tuple[PortRange, ...]
    dst_network: int
    dst_prefix_length: int
    dst_ports: tuple[PortRange, ...]
    tos: int = 0
    tos_mask: int = 0
    flow_label: int | None = None
    spi: int | None = None
    teid: int | None = None
    qfi: int | None = None
    domain: str = ""
    filter_id: int = 0

    @property
    def has_ports(self) -> bool:
        """Whether either side is constrained to ports."""
        return bool(self.src_ports or self.dst_ports)

    def swapped(self) -> SdfFilter:
        """The filter of the other direction: source and destination exchanged."""
        return replace(
            self,
            direction=Direction.IN if self.direction is Direction.OUT else Direction.OUT,
            src_network=self.dst_network,
            src_prefix_length=self.dst_prefix_length,
            src_ports=self.dst_ports,
            dst_network=self.src_network,
            dst_prefix_length=self.src_prefix_length,
            dst_ports=self.src_ports,
        )

    @property
    def attributes(self) -> Attributes:
        """What the filter asks beyond the 5-tuple."""
        return Attributes(*(getattr(self, field.name) for field in fields(Attributes)))

    def matches(
        self,
        family: int,
        src: int,
        dst: int,
        protocol: int,
        src_port: int,
        dst_port: int,
        *,
        ports_known: bool = True,
        tos: int = 0,
        flow_label: int | None = None,
        spi: int | None = None,
        teid: int | None = None,
        qfi: int | None = None,
    ) -> bool:
        """Whether a packet with this flow key is of the service data flow, as far as its headers tell.

        Ports match only where they are known and the protocol has ports; an unknown protocol matches only ``ip``.
        What a packet does not have (None) matches no filter that asks for it. The domain is another's to judge: it
        stands in the flow, not in the packet.
        """
        if self.family not in (0, family) or (tos ^ self.tos) & self.tos_mask:
            return False
        wanted = ((self.flow_label, flow_label), (self.spi, spi), (self.teid, teid), (self.qfi, qfi))
        if any(asked is not None and asked != found for asked, found in wanted):
            return False
        if self.protocol != ANY_PROTOCOL:
            if self.protocol != protocol:
                return False
            if protocol == UNKNOWN_PROTOCOL and not ports_known:
                return False
        bits = _ADDRESS_BITS[family]
        if self.src_prefix_length and (src ^ self.src_network) >> (bits - self.src_prefix_length):
            return False
        if self.dst_prefix_length and (dst ^ self.dst_network) >> (bits - self.dst_prefix_length):
            return False
        if not self.has_ports:
            return True
        if not ports_known or protocol not in PORT_PROTOCOLS:
            return False
        return _in_ranges(src_port, self.src_ports) and _in_ranges(dst_port, self.dst_ports)

    def __str__(self) -> str:
        protocol = "ip" if self.protocol == ANY_PROTOCOL else str(self.protocol)
        # A family that no prefix shows must be shown by one of the two "any".
        explicit = self.family != 0 and not self.src_prefix_length and not self.dst_prefix_length
        source = _format_address(self.family, self.src_network, self.src_prefix_length, explicit=explicit)
        destination = _format_address(self.family, self.dst_network, self.dst_prefix_length, explicit=False)
        return (
            f"permit {self.direction} {protocol} from {source}{_format_ports(self.src_ports)}"
            f" to {destination}{_format_ports(self.dst_ports)}{self.attributes}"
        )


def parse_filter(text: str, *, assigned: Address | None = None, attributes: bool = True) -> SdfFilter:
    """Read a filter; ``assigned`` is the UE's address or prefix, without which that word means any address.

    Without ``attributes`` only an IPFilterRule is one.

    Raises FilterError with the column and what was expected there.
    """
    tokens = Tokens(text)
    tokens.take_word("'permit'", "permit")
    direction = Direction(tokens.take_word("'in' or 'out'", *Direction))
    protocol = _parse_protocol(tokens)
    tokens.take_word("'from'", "from")
    source = _parse_address(tokens, assigned, other_family=0)
    src_ports = _parse_ports(tokens, protocol, ("to",), "'to'")
    tokens.take_word("'to'", "to")
    destination = _parse_address(tokens, assigned, other_family=source.family)
    words = ATTRIBUTE_WORDS if attributes else ()
    dst_ports = _parse_ports(tokens, protocol, words, *map(repr, words), END)
    family = source.family or destination.family

    def refuse(word: str) -> str | None:
        return _why_not(word, family, protocol, has_ports=bool(src_ports or dst_ports))

    if attributes:
        found = parse_attributes(tokens, any_of(*map(repr, words), END), refuse)
    elif tokens.peek() is not None:
        word, column = tokens.take(END)
        raise FilterError(expected=END, got=describe_word(word), column=column)
    else:
        found = NO_ATTRIBUTES
    return SdfFilter(
        direction=direction,
        family=family,
        protocol=protocol,
        src_network=source.network,
        src_prefix_length=source.prefix_length,
        src_ports=src_ports,
        dst_network=destination.network,
        dst_prefix_length=destination.prefix_length,
        dst_ports=dst_ports,
        **{field.name: getattr(found, field.name) for field in fields(found)},
    )


def _why_not(word: str, family: int, protocol: int, *, has_ports: bool) -> str | None:
    """What an attribute would need that the rest of the filter rules out."""
    if word == "flow-label" and family == 4:
        return f"{END} (IPv4 has no flow label)"
    if word == "spi" and protocol not in (ANY_PROTOCOL, ESP, AH):
        return f"{END} (protocol {protocol} has no SPI)"
    if word == "spi" and has_ports:
        return f"{END} (no protocol has ports and an SPI)"
    return None


@dataclass(frozen=True, slots=True)
class _Side:
    """One address of a filter."""

    family: int
    network: int
    prefix_length: int


def _parse_protocol(tokens: Tokens) -> int:
    expected = "'ip' or a protocol number 0..255"
    word, column = tokens.take(expected)
    if word == "ip":
        return ANY_PROTOCOL
    number = parse_number(word, 255)
    if number is None:
        known = _PROTOCOL_NUMBERS.get(word.lower())
        got = describe_word(word) if known is None else f"{word!r} (its number is {known})"
        raise FilterError(expected=expected, got=got, column=column)
    return number


def _parse_address(tokens: Tokens, assigned: Address | None, *, other_family: int) -> _Side:
    expected = "an address: 'any', 'assigned', IPv4[/bits] or IPv6[/bits]"
    word, column = tokens.take(expected)
    if word == "any" or (word == "assigned" and assigned is None):
        return _Side(0, 0, 0)
    got = repr(word)
    if word == "assigned" and assigned is not None:
        side = _side_of(assigned)
        got = f"'assigned' ({assigned})"
    else:
        side = _parse_network(word, column, expected)
    if other_family and side.family != other_family:
        raise FilterError(expected=f"an IPv{other_family} address like the source's", got=got, column=column)
    return side


def _side_of(address: Address) -> _Side:
    if isinstance(address, IPv4Network | IPv6Network):
        return _Side(address.version, int(address.network_address), address.prefixlen)
    return _Side(address.version, int(address), address.max_prefixlen)


def _parse_network(word: str, column: int, expected: str) -> _Side:
    host, slash, bits = word.partition("/")
    try:
        address = ip_address(host)
    except ValueError:
        raise FilterError(expected=expected, got=describe_word(word), column=column) from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise FilterError(expected="an address without a zone", got=repr(word), column=column)
    width: int = address.max_prefixlen
    prefix_length = width
    if slash:
        length = parse_number(bits, width)
        if length is None:
            raise FilterError(
                expected=f"a prefix length 0..{width}",
                got=repr(bits) if bits else "nothing",
                column=column + len(host) + 1,
            )
        prefix_length = length
    host_bits = width - prefix_length
    return _Side(address.version, int(address) >> host_bits << host_bits, prefix_length)


def _parse_ports(tokens: Tokens, protocol: int, then: tuple[str, ...], *expected_then: str) -> tuple[PortRange, ...]:
    expected = any_of("ports", *expected_then)
    word = tokens.peek()
    if word is None or word in then:
        return ()
    word, column = tokens.take(expected)
    if not word[0].isdigit() and word[0] not in ",-":
        raise FilterError(expected=expected, got=describe_word(word), column=column)
    if protocol != ANY_PROTOCOL and protocol not in PORT_PROTOCOLS:
        expected = f"{any_of(*expected_then)} (protocol {protocol} has no ports)"
        raise FilterError(expected=expected, got=repr(word), column=column)
    ranges = []
    for piece in word.split(","):
        ranges.append(_parse_range(piece, column))
        column += len(piece) + 1
    return tuple(ranges)


def _parse_range(piece: str, column: int) -> PortRange:
    first, dash, last = piece.partition("-")
    low = _parse_port(first, column)
    if not dash:
        return low, low
    high = _parse_port(last, column + len(first) + 1)
    if low > high:
        raise FilterError(expected="a port range 'low-high'", got=repr(piece), column=column)
    return low, high


def _parse_port(text: str, column: int) -> int:
    port = parse_number(text, 65535)
    if port is None:
        raise FilterError(expected="a port 0..65535", got=repr(text) if text else "nothing", column=column)
    return port


def _in_ranges(port: int, ranges: tuple[PortRange, ...]) -> bool:
    return not ranges or any(low <= port <= high for low, high in ranges)


def _format_address(family: int, network: int, prefix_length: int, *, explicit: bool) -> str:
    if not prefix_length and not explicit:
        return "any"
    address = IPv4Address(network) if family == 4 else IPv6Address(network)
    return str(address) if prefix_length == address.max_prefixlen else f"{address}/{prefix_length}"


def _format_ports(ranges: tuple[PortRange, ...]) -> str:
    if not ranges:
        return ""
    return " " + ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
