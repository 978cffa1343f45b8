from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upf.sdf import Address, Direction, FilterError, SdfFilter, parse_filter

UDP_FROM_SERVER = "permit out 17 from 198.51.100.7 443 to 10.45.0.2"
ADDRESS = "an address: 'any', 'assigned', IPv4[/bits] or IPv6[/bits]"
PROTOCOL = "'ip' or a protocol number 0..255"
END = "the end of the filter"
WORDS = ("tos", "flow-label", "spi", "teid", "qfi", "domain", "filter-id")
TOS = "a ToS 0x00..0xff[/mask]"
LAST = f"{', '.join(map(repr, WORDS))} or {END}"


def after(*words: str) -> str:
    """What may follow when these attributes stand there already."""
    return f"{', '.join(repr(word) for word in WORDS if word not in words)} or {END}"


def number(address: str) -> int:
    return int(ip_address(address))


@pytest.mark.clause("TS 29.214 §5.3.8 Flow-Description AVP")
def test_a_filter_is_read_into_integers() -> None:
    assert parse_filter("permit out 17 from 198.51.100.0/24 443,8000-8099 to 10.45.0.2 5000") == SdfFilter(
        direction=Direction.OUT,
        family=4,
        protocol=17,
        src_network=number("198.51.100.0"),
        src_prefix_length=24,
        src_ports=((443, 443), (8000, 8099)),
        dst_network=number("10.45.0.2"),
        dst_prefix_length=32,
        dst_ports=((5000, 5000),),
    )


def test_a_filter_for_everything_has_neither_family_nor_protocol() -> None:
    assert parse_filter("permit in ip from any to assigned") == SdfFilter(
        direction=Direction.IN,
        family=0,
        protocol=-1,
        src_network=0,
        src_prefix_length=0,
        src_ports=(),
        dst_network=0,
        dst_prefix_length=0,
        dst_ports=(),
    )


def test_an_ipv6_filter_keeps_128_bits() -> None:
    parsed = parse_filter("permit out 6 from 2001:db8:1::/48 to 2001:db8::2")
    assert (parsed.family, parsed.src_network, parsed.src_prefix_length) == (6, number("2001:db8:1::"), 48)
    assert (parsed.dst_network, parsed.dst_prefix_length) == (number("2001:db8::2"), 128)


def test_host_bits_are_masked() -> None:
    parsed = parse_filter("permit out ip from 10.1.2.3/8 to 10.9.9.9/31")
    assert (parsed.src_network, parsed.dst_network) == (number("10.0.0.0"), number("10.9.9.8"))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("  permit   out 17 from\t1.2.3.4/32 5-5 to assigned ", "permit out 17 from 1.2.3.4 5 to any"),
        ("permit out ip from ::/0 to any", "permit out ip from ::/0 to any"),
        ("permit out ip from any to 0.0.0.0/0", "permit out ip from 0.0.0.0/0 to any"),
        ("permit in 6 from any 0,1-65535 to 2001:DB8::/32 9", "permit in 6 from any 0,1-65535 to 2001:db8::/32 9"),
        ("permit out 17 from any 443 to 2001:DB8::1/64", "permit out 17 from any 443 to 2001:db8::/64"),
    ],
)
def test_a_filter_is_written_canonically(text: str, canonical: str) -> None:
    assert str(parse_filter(text)) == canonical


@pytest.mark.parametrize(
    ("ue", "canonical"),
    [
        (IPv4Address("10.45.0.2"), "permit out ip from any to 10.45.0.2"),
        (IPv6Address("2001:db8::2"), "permit out ip from any to 2001:db8::2"),
        (IPv4Network("10.45.0.0/16"), "permit out ip from any to 10.45.0.0/16"),
    ],
)
def test_assigned_stands_for_the_ue(ue: Address, canonical: str) -> None:
    assert str(parse_filter("permit out ip from any to assigned", assigned=ue)) == canonical


@pytest.mark.parametrize(
    ("text", "expected", "got", "column"),
    [
        ("", "'permit'", END, 1),
        ("   ", "'permit'", END, 1),
        ("allow out ip from any to any", "'permit'", "'allow'", 1),
        ("deny out ip from any to any", "'permit'", "'deny'", 1),
        ("Permit out ip from any to any", "'permit'", "'Permit'", 1),
        (" permit", "'in' or 'out'", END, 8),
        ("permit up ip from any to any", "'in' or 'out'", "'up'", 8),
        ("permit out", PROTOCOL, END, 11),
        ("permit out udp from any to any", PROTOCOL, "'udp' (its number is 17)", 12),
        ("permit out TCP from any to any", PROTOCOL, "'TCP' (its number is 6)", 12),
        ("permit out foo from any to any", PROTOCOL, "'foo'", 12),
        ("permit out 256 from any to any", PROTOCOL, "'256'", 12),
        ("permit out -1 from any to any", PROTOCOL, "'-1'", 12),
        ("permit out !17 from any to any", PROTOCOL, "'!17' (inversion is not allowed)", 12),
        ("permit out 17", "'from'", END, 14),
        ("permit out 17 to any from any", "'from'", "'to'", 15),
        ("permit out 17 from", ADDRESS, END, 19),
        ("permit out 17 from example.com to any", ADDRESS, "'example.com'", 20),
        ("permit out 17 from 1.2.3 to any", ADDRESS, "'1.2.3'", 20),
        ("permit out 17 from 1.2.3.256 to any", ADDRESS, "'1.2.3.256'", 20),
        ("permit out 17 from !1.2.3.4 to any", ADDRESS, "'!1.2.3.4' (inversion is not allowed)", 20),
        ("permit out 17 from any/8 to any", ADDRESS, "'any/8'", 20),
        ("permit out 17 from 1.2.3.4/33 to any", "a prefix length 0..32", "'33'", 28),
        ("permit out 17 from 1.2.3.4/ to any", "a prefix length 0..32", "nothing", 28),
        ("permit out 17 from 1.2.3.4/255.0.0.0 to any", "a prefix length 0..32", "'255.0.0.0'", 28),
        ("permit out 17 from 2001:db8::/129 to any", "a prefix length 0..128", "'129'", 31),
        ("permit out 17 from fe80::1%eth0 to any", "an address without a zone", "'fe80::1%eth0'", 20),
        ("permit out 17 from any", "'to'", END, 23),
        ("permit out 17 from any port to any", "ports or 'to'", "'port'", 24),
        ("permit out 17 from any !5 to any", "ports or 'to'", "'!5' (inversion is not allowed)", 24),
        ("permit out 17 from any 65536 to any", "a port 0..65535", "'65536'", 24),
        ("permit out 17 from any 443,http to any", "a port 0..65535", "'http'", 28),
        ("permit out 17 from any 443, 80 to any", "a port 0..65535", "nothing", 28),
        ("permit out 17 from any ,443 to any", "a port 0..65535", "nothing", 24),
        ("permit out 17 from any 1,5-3 to any", "a port range 'low-high'", "'5-3'", 26),
        ("permit out 17 from any 1,5- to any", "a port 0..65535", "nothing", 28),
        ("permit out 17 from any -5 to any", "a port 0..65535", "nothing", 24),
        ("permit out 17 from any 1-2-3 to any", "a port 0..65535", "'2-3'", 26),
        ("permit out 17 from any ٣ to any", "a port 0..65535", "'٣'", 24),
        ("permit out 1 from any 80 to any", "'to' (protocol 1 has no ports)", "'80'", 23),
        ("permit out 17 from any 80 443 to any", "'to'", "'443'", 27),
        ("permit out 17 from any 80", "'to'", END, 26),
        ("permit out 17 from any to", ADDRESS, END, 26),
        ("permit out 17 from any to here", ADDRESS, "'here'", 27),
        ("permit out 17 from 1.2.3.4 to ::1", "an IPv4 address like the source's", "'::1'", 31),
        ("permit out 17 from ::1 to 1.2.3.4", "an IPv6 address like the source's", "'1.2.3.4'", 27),
        ("permit out 17 from any to any frag", f"ports, {LAST}", "'frag' (options are not allowed)", 31),
        ("permit out 17 from any to any and", f"ports, {LAST}", "'and'", 31),
        ("permit out 50 from any to any 5", f"{LAST} (protocol 50 has no ports)", "'5'", 31),
        ("permit out 6 from any to any 5 established", LAST, "'established' (options are not allowed)", 32),
        ("permit out 6 from any to any 5 6", LAST, "'6'", 32),
        ("permit out 6 from any to any tos", TOS, END, 33),
        ("permit out 6 from any to any tos 256", TOS, "'256'", 34),
        ("permit out 6 from any to any tos -1", TOS, "'-1'", 34),
        ("permit out 6 from any to any tos 1_0", TOS, "'1_0'", 34),
        ("permit out 6 from any to any tos 0x28/0", "a mask 0x01..0xff", "'0'", 39),
        ("permit out 6 from any to any tos 0x28/", "a mask 0x01..0xff", "nothing", 39),
        ("permit out 6 from any to any tos 0x28/0x1fc", "a mask 0x01..0xff", "'0x1fc'", 39),
        ("permit out 6 from any to any tos 1 qfi 1 tos 2", f"{after('tos', 'qfi')}", "'tos' a second time", 42),
        ("permit out 6 from any to any qfi 1 443", f"{after('qfi')}", "'443'", 36),
        ("permit out 6 from any to any flow-label 0x100000", "a flow label 0..0xfffff", "'0x100000'", 41),
        ("permit out 6 from 1.2.3.4 to any flow-label 1", f"{END} (IPv4 has no flow label)", "'flow-label'", 34),
        ("permit out 50 from any to any spi 0x", "an SPI 0..0xffffffff", "'0x'", 35),
        ("permit out 17 from any to any spi 1", f"{END} (protocol 17 has no SPI)", "'spi'", 31),
        ("permit out ip from any 5 to any spi 1", f"{END} (no protocol has ports and an SPI)", "'spi'", 33),
        ("permit out ip from any to any teid 4294967296", "a TEID 0..0xffffffff", "'4294967296'", 36),
        ("permit out ip from any to any qfi 64", "a QFI 0..63", "'64'", 35),
        ("permit out ip from any to any filter-id 0", "a filter identifier 1..0xffffffff", "'0'", 41),
        (
            "permit out ip from any to any domain a..b",
            "a domain name, such as 'example.com' or '*.example.com'",
            "'a..b': '' is no label: 1 to 63 letters, digits and inner hyphens",
            38,
        ),
    ],
)
def test_an_error_names_what_was_expected_what_was_found_and_the_column(
    text: str, expected: str, got: str, column: int
) -> None:
    with pytest.raises(FilterError) as refused:
        parse_filter(text)
    assert str(refused.value) == f"sdf filter: expected {expected}, got {got} at column {column}"
    assert (refused.value.expected, refused.value.got, refused.value.column) == (expected, got, column)


def test_an_assigned_address_of_the_other_family_is_refused() -> None:
    with pytest.raises(FilterError) as refused:
        parse_filter("permit out ip from 2001:db8::1 to assigned", assigned=IPv4Address("10.45.0.2"))
    assert str(refused.value) == (
        "sdf filter: expected an IPv6 address like the source's, got 'assigned' (10.45.0.2) at column 35"
    )


@st.composite
def filters(draw: st.DrawFn) -> SdfFilter:
    protocol = draw(st.sampled_from([-1, 0, 1, 6, 17, 33, 50, 58, 132, 136, 255]))
    family = draw(st.sampled_from([4, 6]))
    bits = 32 if family == 4 else 128

    def side() -> tuple[int, int]:
        prefix_length = draw(st.integers(0, bits))
        host_bits = bits - prefix_length
        return draw(st.integers(0, 2**bits - 1)) >> host_bits << host_bits, prefix_length

    def ports() -> tuple[tuple[int, int], ...]:
        if protocol not in (-1, 6, 17, 33, 132, 136):
            return ()
        pairs = draw(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 65535)), max_size=4))
        return tuple((min(pair), max(pair)) for pair in pairs)

    src, dst = side(), side()
    if not src[1] and not dst[1]:
        family = draw(st.sampled_from([0, family]))
    src_ports, dst_ports = ports(), ports()
    tos_mask = draw(st.integers(0, 255))
    spi = st.integers(0, 2**32 - 1) if protocol in (-1, 50, 51) and not src_ports and not dst_ports else st.none()
    return SdfFilter(
        draw(st.sampled_from(Direction)), family, protocol, src[0], src[1], src_ports, dst[0], dst[1], dst_ports,
        tos=draw(st.integers(0, 255)) & tos_mask,
        tos_mask=tos_mask,
        flow_label=draw(st.none() | st.integers(0, 2**20 - 1)) if family != 4 else None,
        spi=draw(st.none() | spi),
        teid=draw(st.none() | st.integers(0, 2**32 - 1)),
        qfi=draw(st.none() | st.integers(0, 63)),
        domain=draw(st.sampled_from(["", "example.com", "*.example.com", "xn--bcher-kva.example"])),
        filter_id=draw(st.integers(0, 2**32 - 1)),
    )  # fmt: skip


@given(filters())
def test_a_written_filter_reads_back_the_same(sdf_filter: SdfFilter) -> None:
    assert parse_filter(str(sdf_filter)) == sdf_filter


@given(filters())
def test_swapping_twice_changes_nothing(sdf_filter: SdfFilter) -> None:
    assert sdf_filter.swapped().swapped() == sdf_filter


@given(st.text(alphabet=st.sampled_from("permit out in ip from to any assigned 0123456789./:,-!"), max_size=80))
def test_any_text_is_a_filter_or_a_filter_error_within_the_text(text: str) -> None:
    column = 1
    try:
        parse_filter(text)
    except FilterError as refused:
        column = refused.column
    assert 1 <= column <= len(text) + 1


@pytest.mark.clause("TS 29.244 §5.2.1A.2A SDF filters are written for the downlink")
def test_a_swapped_filter_matches_the_uplink_of_the_same_flow() -> None:
    downlink = parse_filter(UDP_FROM_SERVER)
    server, ue = number("198.51.100.7"), number("10.45.0.2")
    assert downlink.matches(4, server, ue, 17, 443, 5000)
    assert not downlink.matches(4, ue, server, 17, 5000, 443)
    assert downlink.swapped().matches(4, ue, server, 17, 5000, 443)
    assert str(downlink.swapped()) == "permit in 17 from 10.45.0.2 to 198.51.100.7 443"


@pytest.mark.parametrize(
    ("source", "source_port", "protocol", "matches"),
    [
        ("198.51.100.7", 443, 17, True),
        ("198.51.100.8", 443, 17, False),
        ("198.51.100.7", 442, 17, False),
        ("198.51.100.7", 443, 6, False),
    ],
)
def test_every_part_of_a_filter_must_match(source: str, source_port: int, protocol: int, matches: bool) -> None:
    sdf_filter = parse_filter(UDP_FROM_SERVER)
    assert sdf_filter.matches(4, number(source), number("10.45.0.2"), protocol, source_port, 9) is matches


@pytest.mark.parametrize(
    ("port", "matches"), [(442, False), (443, True), (7999, False), (8000, True), (8099, True), (8100, False)]
)
def test_port_lists_and_ranges_include_their_ends(port: int, matches: bool) -> None:
    sdf_filter = parse_filter("permit out ip from any 443,8000-8099 to any")
    assert sdf_filter.matches(4, 1, 2, 6, port, 0) is matches
    assert sdf_filter.matches(6, 1, 2, 132, port, 0) is matches


def test_prefixes_match_up_to_their_length() -> None:
    sdf_filter = parse_filter("permit out ip from 10.0.0.0/9 to 0.0.0.0/1")
    assert sdf_filter.matches(4, number("10.127.255.255"), number("127.255.255.255"), 1, 0, 0)
    assert not sdf_filter.matches(4, number("10.128.0.0"), number("127.255.255.255"), 1, 0, 0)
    assert not sdf_filter.matches(4, number("10.127.255.255"), number("128.0.0.0"), 1, 0, 0)


def test_a_family_without_a_prefix_still_matches_only_that_family() -> None:
    sdf_filter = parse_filter("permit out ip from ::/0 to any")
    assert sdf_filter.matches(6, 1, 2, 17, 1, 1)
    assert not sdf_filter.matches(4, 1, 2, 17, 1, 1)


def test_ports_never_match_where_they_are_unknown_or_do_not_exist() -> None:
    with_ports = parse_filter("permit out ip from any 0-65535 to any")
    assert with_ports.matches(4, 1, 2, 17, 0, 0)
    assert not with_ports.matches(4, 1, 2, 17, 0, 0, ports_known=False)
    assert not with_ports.matches(4, 1, 2, 1, 0, 0)
    assert parse_filter("permit out 17 from any to any").matches(4, 1, 2, 17, 0, 0, ports_known=False)


def test_a_protocol_that_is_unknown_matches_only_ip() -> None:
    assert parse_filter("permit out ip from any to any").matches(6, 1, 2, 255, 0, 0, ports_known=False)
    assert not parse_filter("permit out 255 from any to any").matches(6, 1, 2, 255, 0, 0, ports_known=False)
    assert parse_filter("permit out 255 from any to any").matches(6, 1, 2, 255, 0, 0, ports_known=True)


@given(filters(), st.sampled_from([4, 6]), st.data())
def test_prefixes_match_as_the_standard_library_says(sdf_filter: SdfFilter, family: int, data: st.DataObject) -> None:
    bits = 32 if family == 4 else 128
    # Near the networks as well as anywhere, so that both outcomes come up.
    distance = st.integers(0, 255) | st.integers(0, 2**bits - 1)
    src = (sdf_filter.src_network ^ data.draw(distance)) & (2**bits - 1)
    dst = (sdf_filter.dst_network ^ data.draw(distance)) & (2**bits - 1)

    def within(value: int, network: int, prefix_length: int) -> bool:
        if sdf_filter.family != family:
            return sdf_filter.family == 0
        address = IPv4Address if family == 4 else IPv6Address
        return address(value) in ip_network((address(network), prefix_length))

    addresses_only = replace(
        sdf_filter, protocol=-1, src_ports=(), dst_ports=(), tos_mask=0, flow_label=None, spi=None, teid=None, qfi=None
    )
    assert addresses_only.matches(family, src, dst, 6, 1, 1) is (
        within(src, sdf_filter.src_network, sdf_filter.src_prefix_length)
        and within(dst, sdf_filter.dst_network, sdf_filter.dst_prefix_length)
    )


# --- attributes -------------------------------------------------------------------------------------------------------


@pytest.mark.clause("TS 29.244 §8.2.5 SDF Filter: ToS Traffic Class, SPI, Flow Label, SDF Filter ID")
def test_attributes_are_read_in_any_order_and_written_in_one() -> None:
    parsed = parse_filter(
        "permit out 50 from 2001:db8::/32 to any filter-id 3 domain *.Example.COM. qfi 0x5 teid 7 spi 4660"
        " flow-label 12 tos 0x2B/0xfc"
    )
    assert parsed == SdfFilter(
        Direction.OUT, 6, 50, number("2001:db8::"), 32, (), 0, 0, (),
        tos=0x28, tos_mask=0xFC, flow_label=12, spi=0x1234, teid=7, qfi=5, domain="*.example.com", filter_id=3,
    )  # fmt: skip
    assert str(parsed) == (
        "permit out 50 from 2001:db8::/32 to any tos 0x28/0xfc flow-label 12 spi 0x1234 teid 7 qfi 5"
        " domain *.example.com filter-id 3"
    )


def test_a_tos_without_a_mask_is_compared_whole() -> None:
    parsed = parse_filter("permit out 17 from any 443 to any 5000 tos 184")
    assert (parsed.tos, parsed.tos_mask, parsed.dst_ports) == (0xB8, 0xFF, ((5000, 5000),))
    assert parsed.matches(4, 1, 2, 17, 443, 5000, tos=0xB8)
    assert not parsed.matches(4, 1, 2, 17, 443, 5000, tos=0xB9)


def test_a_tos_is_compared_under_its_mask_in_either_family() -> None:
    marked = parse_filter("permit out ip from any to any tos 0x28/0xfc")
    for family in (4, 6):
        assert marked.matches(family, 1, 2, 17, 1, 1, tos=0x2B)
        assert not marked.matches(family, 1, 2, 17, 1, 1, tos=0x2C)
        assert not marked.matches(family, 1, 2, 17, 1, 1)


@pytest.mark.parametrize("attribute", ["flow_label", "spi", "teid", "qfi"])
def test_what_a_packet_does_not_have_is_not_0(attribute: str) -> None:
    asked = parse_filter(f"permit out ip from any to any {attribute.replace('_', '-')} 0")
    assert asked.matches(6, 1, 2, 50, 0, 0, **{attribute: 0})  # type: ignore[arg-type]
    assert not asked.matches(6, 1, 2, 50, 0, 0, **{attribute: 1})  # type: ignore[arg-type]
    assert not asked.matches(6, 1, 2, 50, 0, 0)


def test_attributes_stay_when_a_filter_is_swapped() -> None:
    swapped = parse_filter("permit out 17 from any 443 to any tos 0x28/0xfc teid 7 qfi 5 domain example.com").swapped()
    assert str(swapped) == "permit in 17 from any to any 443 tos 0x28/0xfc teid 7 qfi 5 domain example.com"


def test_where_only_an_ip_filter_rule_is_wanted_attributes_are_refused() -> None:
    with pytest.raises(FilterError) as refused:
        parse_filter("permit out 17 from any to any 5 tos 0x28", attributes=False)
    assert str(refused.value) == "sdf filter: expected the end of the filter, got 'tos' at column 33"
    with pytest.raises(FilterError) as refused:
        parse_filter("permit out 17 from any to any tos 0x28", attributes=False)
    assert str(refused.value) == "sdf filter: expected ports or the end of the filter, got 'tos' at column 31"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Video.Example.com", "video.example.com"),
        ("*.EXAMPLE.com.", "*.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("*.BÜCHER.example", "*.xn--bcher-kva.example"),
        ("_dns.example.com", "_dns.example.com"),
        ("localhost", "localhost"),
        ("a" * 63 + ".com", "a" * 63 + ".com"),
    ],
)
def test_a_domain_is_held_in_lower_case_and_a_labels(text: str, name: str) -> None:
    assert parse_filter(f"permit out ip from any to any domain {text}").domain == name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("*", "'*' stands only for the first label, before a name"),
        ("*.", "'*' stands only for the first label, before a name"),
        ("www.*.com", "'*' stands only for the first label, before a name"),
        ("*.*.com", "'*' stands only for the first label, before a name"),
        ("*video.com", "'*' stands only for the first label, before a name"),
        (".", "'' is no label: 1 to 63 letters, digits and inner hyphens"),
        (".com", "'' is no label: 1 to 63 letters, digits and inner hyphens"),
        ("-a.com", "'-a' is no label: 1 to 63 letters, digits and inner hyphens"),
        ("a-.com", "'a-' is no label: 1 to 63 letters, digits and inner hyphens"),
        ("https://a.com", "'https://a' is no label: 1 to 63 letters, digits and inner hyphens"),
        ("a" * 64, f"'{'a' * 64}' is no label: 1 to 63 letters, digits and inner hyphens"),
        (".".join(["a" * 50] * 5), "254 characters, at most 253 are a name"),
        ("198.51.100.7", "is an address, not a name"),
        ("bücher..example", "not a name of IDNA"),
    ],
)
def test_what_is_no_domain_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(FilterError) as refused:
        parse_filter(f"permit out ip from any to any domain {text}")
    assert refused.value.got == f"{text!r}: {reason}"
    assert refused.value.column == 38
