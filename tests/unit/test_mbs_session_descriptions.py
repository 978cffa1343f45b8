"""Session descriptions: what the MBSF writes, the client reads, whatever it is (TS 26.346 §7.3.2, TS 26.517 §6.2.2)."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nf.client.mbs.errors import AnnouncementInvalid
from nf.client.mbs.session_description import parse_session_description, tmgi_of
from nf.common.v1 import mbs_pb2 as mbs
from nf.common.v1.mbs_distribution_pb2 import FecConfig
from nf.mbsf.session_description import FLUTE, UDP, Media, media_of, session_description, tmgi_number
from nf.mbsf.v1.announcement_pb2 import MbsFlow

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TMGI = mbs.Tmgi(mbs_service_id="0000a1", plmn_id=mbs.PlmnId(mcc="001", mnc="01"))
FLOW = MbsFlow(source="192.0.2.1", group="232.0.0.1", port=5000, tsi=7)
GOLDEN = """\
v=0
o=- 25649 3 IN IP4 192.0.2.1
s=Late news
t=3981355200 3981358800
a=mbs-servicetype:broadcast 2701193488
a=source-filter: incl IN IP4 232.0.0.1 192.0.2.1
a=flute-tsi:7
a=FEC-declaration:0 encoding-id=5
m=application 5000 FLUTE/UDP 0
c=IN IP4 232.0.0.1/127
b=AS:2001
a=FEC:0
a=FEC-redundancy-level:0 redundancy-level=20
"""


def described(flow: MbsFlow = FLOW, **changes: object) -> str:
    given_: dict[str, object] = {
        "session_id": "d1",
        "version": 3,
        "name": "Late news",
        "periods": [(START, START + timedelta(hours=1))],
        "bit_rate_bps": 2_000_001,
        "service_type": mbs.MBS_SERVICE_TYPE_BROADCAST,
        "tmgi": TMGI,
        "fec": FecConfig(fec_scheme="urn:ietf:rmt:fec:encoding:5", fec_over_head=20),
    }
    return session_description(flow, **{**given_, **changes})  # type: ignore[arg-type]


@pytest.mark.clause("TS 26.517 §6.2.2", "TS 26.346 §7.3.2")
def test_a_session_description_is_the_text_that_it_was_decided_to_be() -> None:
    assert described() == GOLDEN.replace("\n", "\r\n")


def test_the_client_reads_all_of_it() -> None:
    found = parse_session_description(described())
    assert (found.name, found.version) == ("Late news", 3)
    assert (str(found.source), str(found.group), found.port) == ("192.0.2.1", "232.0.0.1", 5000)
    assert found.is_flute
    assert (found.tsi, found.fec_encoding_id, found.fec_overhead_percent) == (7, 5, 20)
    assert found.bandwidth_bps == 2_001_000
    assert (found.service_type, found.tmgi) == ("broadcast", TMGI)
    assert found.periods == ((START, START + timedelta(hours=1)),)


sources = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(lambda each: not each.is_multicast)


def groups(version: int) -> st.SearchStrategy[IPv4Address | IPv6Address]:
    network = "224.0.0.0/4" if version == 4 else "ff00::/8"
    return st.ip_addresses(network=network)


digits = st.sampled_from("0123456789")
tmgis = st.builds(
    lambda service, mcc, mnc: mbs.Tmgi(mbs_service_id=f"{service:06x}", plmn_id=mbs.PlmnId(mcc=mcc, mnc=mnc)),
    st.integers(0, 2**24 - 1),
    st.text(digits, min_size=3, max_size=3),
    st.text(digits, min_size=2, max_size=3),
)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2099, 1, 1)).map(
    lambda each: each.replace(microsecond=0, tzinfo=UTC)
)
periods = st.tuples(moments, st.timedeltas(timedelta(seconds=1), timedelta(days=400))).map(
    lambda each: (each[0], each[0] + timedelta(seconds=int(each[1].total_seconds()) + 1))
)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


@given(
    st.data(),
    sources,
    st.integers(1, 65535),
    st.integers(0, 65535),
    texts,
    st.none() | tmgis,
    st.lists(periods, max_size=4),
    st.integers(0, 255),
    st.integers(0, 300),
    st.integers(1, 10**12),
)
def test_whatever_is_written_is_read_again(
    data: st.DataObject,
    source: IPv4Address | IPv6Address,
    port: int,
    tsi: int,
    name: str,
    tmgi: mbs.Tmgi | None,
    when: list[tuple[datetime, datetime]],
    encoding: int,
    overhead: int,
    rate: int,
) -> None:
    group = data.draw(groups(source.version))
    text = session_description(
        MbsFlow(source=str(source), group=str(group), port=port, tsi=tsi),
        session_id=data.draw(texts),
        version=4,
        name=name,
        periods=when,
        bit_rate_bps=rate,
        service_type=mbs.MBS_SERVICE_TYPE_MULTICAST,
        tmgi=tmgi,
        fec=FecConfig(fec_scheme=f"urn:ietf:rmt:fec:encoding:{encoding}", fec_over_head=overhead),
    )
    found = parse_session_description(text)
    assert (found.source, found.group, found.port, found.tsi) == (source, group, port, tsi)
    assert (found.service_type, found.tmgi, found.periods) == ("multicast", tmgi, tuple(when))
    assert (found.fec_encoding_id, found.fec_overhead_percent) == (encoding, overhead)
    assert rate <= found.bandwidth_bps < rate + 1000
    assert "\n" not in found.name
    assert found.name


@given(tmgis)
def test_a_tmgi_is_the_number_of_its_six_octets(tmgi: mbs.Tmgi) -> None:
    assert tmgi_of(tmgi_number(tmgi)) == tmgi


def test_packets_of_the_packet_method_have_no_transport_session() -> None:
    flow = MbsFlow(source="2001:db8::1", group="ff3e::8000:1", port=5004)
    text = described(flow, fec=None, media=UDP, tmgi=None, periods=[])
    found = parse_session_description(text)
    assert "m=application 5004 UDP octet-stream\r\nc=IN IP6 ff3e::8000:1\r\n" in text
    assert (found.is_flute, found.tsi, found.fec_encoding_id, found.tmgi) == (False, None, None, None)
    assert (found.periods, found.service_type) == ((), "broadcast")


def test_a_medium_is_what_its_codec_data_say() -> None:
    info = mbs.MbsServiceInfo()
    assert media_of(info) == UDP
    component = info.mbs_media_comps["1"]
    component.mbs_media_info.codecs.append("uplink\noffer\nm=audio 1 RTP/AVP 0\n")
    component.mbs_media_info.codecs.append(
        "downlink\r\noffer\r\nm=video 4002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=recvonly\r\n"
    )
    assert media_of(info) == Media("video", "RTP/AVP", "96", ("a=rtpmap:96 H264/90000",))
    for text in ("", "downlink", "downlink\noffer", "downlink\noffer\nm=video 1\n"):
        del component.mbs_media_info.codecs[:]
        component.mbs_media_info.codecs.append(text)
        assert media_of(info) == UDP


def test_an_underspecified_code_is_told_with_its_instance() -> None:
    fec = FecConfig(fec_scheme="urn:ietf:rmt:fec:encoding:129", fec_over_head=0)
    text = described(fec=fec)
    assert "a=FEC-declaration:0 encoding-id=129; instance-id=0\r\n" in text
    assert "redundancy-level" not in text
    assert parse_session_description(text).fec_encoding_id == 129
    assert "FEC" not in described(fec=FecConfig(fec_scheme="urn:example:own"))


def test_source_and_group_of_two_families_are_refused() -> None:
    flow = MbsFlow(source="2001:db8::1", group="232.0.0.1", port=5004)
    with pytest.raises(
        ValueError, match=r"expected source and group of one family, found 2001:db8::1 and 232\.0\.0\.1"
    ):
        described(flow, media=FLUTE)


@pytest.mark.parametrize(
    ("line", "instead", "why"),
    [
        ("v=0", "v=1", "line 1: expected v=0, found 'v=1'"),
        ("o=- 25649 3 IN IP4 192.0.2.1", "o=- x", "line 2: expected o=USER ID VERSION IN IP4 ADDRESS, found '- x'"),
        ("s=Late news", "late news", "line 3: expected TYPE=VALUE, found 'late news'"),
        ("t=3981355200 3981358800", "t=1", "line 4: expected t=START STOP, found '1'"),
        ("t=3981355200 3981358800", "t=9 8", "line 4: expected an end after the beginning, found '9 8'"),
        ("t=3981355200 3981358800", "t=0 99999999999999999999", "line 4: expected seconds since 1900"),
        ("a=mbs-servicetype:broadcast 2701193488", "a=mbs-servicetype:x", "line 5: expected a=mbs-servicetype:"),
        ("a=mbs-servicetype:broadcast 2701193488", "a=mbs-servicetype:multicast 1099511627775",
         "line 5: expected a TMGI"),
        ("a=source-filter: incl IN IP4 232.0.0.1 192.0.2.1", "a=x", "line 13: expected a line a=source-filter"),
        ("a=source-filter: incl IN IP4 232.0.0.1 192.0.2.1", "a=source-filter: excl IN IP4 * 192.0.2.1", "line 6"),
        ("a=source-filter: incl IN IP4 232.0.0.1 192.0.2.1", "a=source-filter: incl IN IP4 232.0.0.1 x",
         "line 6: expected an IP address, found 'x'"),
        ("a=source-filter: incl IN IP4 232.0.0.1 192.0.2.1", "a=source-filter: incl IN IP4 232.0.0.1 ::1",
         "line 6: expected a source in IPv4, found '::1'"),
        ("a=source-filter: incl IN IP4 232.0.0.1 192.0.2.1", "a=source-filter: incl IN IP4 192.0.2.2 192.0.2.1",
         "line 6: expected a multicast group, found '192.0.2.2'"),
        ("a=source-filter: incl IN IP4 232.0.0.1 192.0.2.1", "a=source-filter: incl IN IP4 232.0.0.2 192.0.2.1",
         r"line 6: expected the group of line c=, 232.0.0.1, found '232.0.0.2'"),
        ("a=flute-tsi:7", "a=lang:en", "line 13: expected a line a=flute-tsi:NUMBER, found none"),
        ("a=flute-tsi:7", "a=flute-tsi:65536", "line 7: expected a=flute-tsi: with a number of 16 bits, found '65536'"),
        ("a=FEC-declaration:0 encoding-id=5", "a=FEC-declaration:0", "line 8: expected a=FEC-declaration:REFERENCE"),
        ("m=application 5000 FLUTE/UDP 0", "m=application", "line 9: expected m=MEDIA PORT PROTOCOL FORMAT"),
        ("m=application 5000 FLUTE/UDP 0", "m=application 0 FLUTE/UDP 0", "expected a port from 1 to 65535, found '0'"),
        ("m=application 5000 FLUTE/UDP 0", "a=x", "line 13: expected a line m=MEDIA PORT PROTOCOL FORMAT, found none"),
        ("a=FEC:0", "m=application 5002 FLUTE/UDP 0", "line 12: expected one medium"),
        ("c=IN IP4 232.0.0.1/127", "c=IN IP4", "line 10: expected c=IN IP4 GROUP/TTL, found 'IN IP4'"),
        ("b=AS:2001", "b=AS:fast", "line 11: expected b=AS:KBIT_PER_S, found 'fast'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(line: str, instead: str, why: str) -> None:
    assert f"{line}\n" in GOLDEN
    with pytest.raises(AnnouncementInvalid) as raised:
        parse_session_description(GOLDEN.replace(f"{line}\n", f"{instead}\n"))
    assert why in raised.value.message
    assert raised.value.violations[0].field.startswith("session description, line ")


def test_any_group_of_the_source_is_the_group_of_the_connection() -> None:
    text = GOLDEN.replace("incl IN IP4 232.0.0.1 192.0.2.1", "incl IN IP4 * 192.0.2.1")
    assert parse_session_description(text).group == ip_address("232.0.0.1")
    with pytest.raises(AnnouncementInvalid, match="expected a line c= with the group, found none"):
        parse_session_description(text.replace("c=IN IP4 232.0.0.1/127\n", ""))


@given(st.text(max_size=200) | st.text("vostabcm= :/0123456789.\n", max_size=200).map(lambda each: f"v=0\n{each}"))
def test_no_text_makes_the_parser_fall_over(text: str) -> None:
    with suppress(AnnouncementInvalid):
        assert parse_session_description(text).group.is_multicast
