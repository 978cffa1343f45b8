"""Nmb9 as it leaves: inner packets, the tunnel, when each is due. Time is measured by benchmarks/mbs, not here."""

import socket
import threading
from collections.abc import Iterator
from fractions import Fraction

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nf.common.errors import InvalidArgument, Unavailable
from nf.mbstf._sending import pace
from nf.mbstf.flute import FluteSession
from nf.mbstf.objects import Object
from nf.mbstf.sending import Endpoint, PacedSender, Senders

V4 = Endpoint("10.45.0.9", "232.1.2.3", 5004, source_port=6000)
V6 = Endpoint("2001:db8::9", "ff3e::8000:1", 5004)


class Payloads:
    """A source of these payloads; ``event`` is set whenever it is asked in vain."""

    def __init__(self, *payloads: bytes) -> None:
        self.left = list(payloads)
        self.asked_in_vain = threading.Semaphore(0)

    def batch(self, limit: int) -> list[bytes]:
        taken, self.left = self.left[:limit], self.left[limit:]
        if not taken:
            self.asked_in_vain.release()
        return taken


@pytest.fixture(scope="module")
def senders() -> Iterator[Senders]:
    started = Senders()
    started.start()
    yield started
    started.stop()


@pytest.fixture(params=["127.0.0.1", "::1"])
def tunnel(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        opened.bind((request.param, 0))
        opened.settimeout(20)
        yield opened


def address(opened: socket.socket) -> tuple[str, int]:
    host, port = opened.getsockname()[:2]
    return host, port


def ones_complement(data: bytes) -> int:
    total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_a_payload_leaves_in_an_ipv4_packet_of_the_session_with_right_checksums(
    senders: Senders, tunnel: socket.socket
) -> None:
    payloads = [b"", b"a", b"odd", bytes(range(256)) * 5, b"\xff" * 1372]
    opened = senders.open(Payloads(*payloads[1:]), V4, address(tunnel), mbr_bps=None, dscp=46)
    for number, payload in enumerate(payloads[1:]):
        packet = tunnel.recv(65536)
        ip = dpkt.ip.IP(packet)
        assert (socket.inet_ntoa(ip.src), socket.inet_ntoa(ip.dst)) == ("10.45.0.9", "232.1.2.3")
        assert (ip.tos, ip.ttl, ip.df, ip.mf, ip.offset, ip.id) == (46 << 2, 64, 1, 0, 0, number)
        assert (ip.len, len(packet)) == (28 + len(payload), 28 + len(payload))
        assert ones_complement(packet[:20]) == 0xFFFF
        assert (ip.data.sport, ip.data.dport, ip.data.ulen) == (6000, 5004, 8 + len(payload))
        assert ip.data.sum != 0
        assert ones_complement(packet[12:20] + b"\0\x11" + packet[24:26] + packet[20:]) == 0xFFFF
        assert bytes(ip.data.data) == payload
    opened.close()
    assert (opened.packets, opened.bytes) == (4, sum(28 + len(payload) for payload in payloads[1:]))


def test_a_payload_leaves_in_an_ipv6_packet_of_the_session_with_a_right_checksum(
    senders: Senders, tunnel: socket.socket
) -> None:
    opened = senders.open(Payloads(b"seven bytes"), V6, address(tunnel), mbr_bps=None, dscp=10)
    packet = tunnel.recv(65536)
    opened.close()
    ip = dpkt.ip6.IP6(packet)
    assert (socket.inet_ntop(socket.AF_INET6, ip.src), socket.inet_ntop(socket.AF_INET6, ip.dst)) == (
        V6.source,
        V6.group,
    )
    assert (ip.fc, ip.flow, ip.plen, ip.nxt, ip.hlim) == (10 << 2, 0, 19, 17, 64)
    assert (ip.data.sport, ip.data.dport, ip.data.ulen, bytes(ip.data.data)) == (5004, 5004, 19, b"seven bytes")
    pseudo = packet[8:40] + (19).to_bytes(4, "big") + (17).to_bytes(4, "big")
    assert ones_complement(pseudo + packet[40:]) == 0xFFFF


def test_a_checksum_that_comes_out_as_zero_is_sent_as_all_ones(senders: Senders, tunnel: socket.socket) -> None:
    plain = V4.header(0)
    rest = ones_complement(plain[12:28] + b"\0\x11" + b"\0\x0a" + b"\0\x0a")
    opened = senders.open(Payloads((0xFFFF - rest).to_bytes(2, "big")), V4, address(tunnel), mbr_bps=None)
    assert tunnel.recv(100)[26:28] == b"\xff\xff"
    opened.close()


def test_whole_packets_only_go_into_the_tunnel(senders: Senders, tunnel: socket.socket) -> None:
    opened = senders.open(Payloads(b"E...", b"any bytes"), None, address(tunnel), mbr_bps=None, raw=True)
    assert [tunnel.recv(100), tunnel.recv(100)] == [b"E...", b"any bytes"]
    opened.close()


def test_many_packets_of_any_length_arrive_in_order_paced_or_not(senders: Senders, tunnel: socket.socket) -> None:
    for mbr_bps in (None, 400_000_000):
        payloads = [number.to_bytes(4, "big") * (1 + number * 7 % 340) for number in range(3000)]
        opened = senders.open(Payloads(*payloads), V4, address(tunnel), mbr_bps=mbr_bps)
        assert [tunnel.recv(2000)[28:] for _ in payloads] == payloads
        opened.close()
        counters = opened.counters()
        assert (counters.packets, counters.waiting, counters.refused, counters.oversized) == (3000, 0, 0, 0)


def test_what_is_longer_than_the_mtu_is_left_out_and_counted(senders: Senders, tunnel: socket.socket) -> None:
    payloads = Payloads(bytes(1373), b"fits")
    opened = senders.open(payloads, V4, address(tunnel), mbr_bps=None, mtu=1400)
    assert tunnel.recv(2000)[28:] == b"fits"
    opened.close()
    assert (opened.counters().oversized, opened.counters().packets) == (1, 1)


def test_a_source_that_has_nothing_is_asked_again_when_it_is_woken(senders: Senders, tunnel: socket.socket) -> None:
    source = Payloads()
    opened = senders.open(source, V4, address(tunnel), mbr_bps=10_000_000)
    for text in (b"one", b"two", b"three"):
        assert source.asked_in_vain.acquire(timeout=20)
        source.left.append(text)
        opened.wake()
        assert tunnel.recv(2000)[28:] == text
    opened.close()


def test_a_stream_goes_to_another_tunnel_from_the_next_packet_on(senders: Senders) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as second,
    ):
        first.bind(("127.0.0.1", 0))
        second.bind(("::1", 0))
        first.settimeout(20)
        second.settimeout(20)
        source = Payloads(b"one")
        opened = senders.open(source, V4, address(first), mbr_bps=None)
        assert first.recv(100)[28:] == b"one"
        opened.retarget(address(second))
        source.left.append(b"two")
        opened.wake()
        assert second.recv(100)[28:] == b"two"
        opened.close()


def test_nothing_leaves_after_close(senders: Senders, tunnel: socket.socket) -> None:
    opened = senders.open(Payloads(*[b"x" * 1000] * 500), V4, address(tunnel), mbr_bps=1_000_000)
    tunnel.recv(2000)
    opened.close()
    left = opened.packets
    assert left < 500
    for _ in range(left - 1):
        tunnel.recv(2000)
    tunnel.setblocking(False)
    with pytest.raises(BlockingIOError):
        tunnel.recv(2000)
    opened.close()
    opened.wake()
    assert opened.packets == left


def test_a_source_that_fails_ends_its_own_stream_only(senders: Senders, tunnel: socket.socket) -> None:
    class Broken:
        def batch(self, limit: int) -> list[bytes]:
            raise RuntimeError("no more")

    told: list[Exception] = []
    happened = threading.Event()

    def on_failure(error: Exception) -> None:
        told.append(error)
        happened.set()

    broken = senders.open(Broken(), V4, address(tunnel), mbr_bps=None, on_failure=on_failure)
    assert happened.wait(20)
    assert broken.failure is told[0]
    assert str(told[0]) == "no more"
    opened = senders.open(Payloads(b"still here"), V4, address(tunnel), mbr_bps=None)
    assert tunnel.recv(100)[28:] == b"still here"
    opened.close()


def test_whoever_waits_for_an_object_is_told_when_its_last_packet_has_left(
    senders: Senders, tunnel: socket.socket
) -> None:
    session = FluteSession(7)
    left: list[int] = []
    all_left = threading.Semaphore(0)
    opened: list[PacedSender] = []

    is_open = threading.Event()

    def on_sent() -> None:
        assert is_open.wait(20)
        left.append(opened[0].packets)
        all_left.release()

    for name in "ab":
        session.add(Object(f"http://example.com/{name}", bytes(1340 * 30)), on_sent=on_sent)
    opened.append(senders.open(session, V4, address(tunnel), mbr_bps=20_000_000))
    is_open.set()
    assert all_left.acquire(timeout=20)
    assert all_left.acquire(timeout=20)
    # A table before each of the two, and two at the end.
    assert left[0] >= 31
    assert left[1] >= 62
    opened[0].close()
    session.add(Object("http://example.com/c", b"c"), on_sent=on_sent)
    assert len(left) == 2


def test_a_thousand_streams_share_two_threads(senders: Senders, tunnel: socket.socket) -> None:
    before = threading.active_count()
    streams = [
        senders.open(Payloads(number.to_bytes(4, "big")), V4, address(tunnel), mbr_bps=64_000) for number in range(1000)
    ]
    assert threading.active_count() == before
    assert {tunnel.recv(100)[28:] for _ in streams} == {number.to_bytes(4, "big") for number in range(1000)}
    for stream in streams:
        stream.close()
    assert sum(stream.packets for stream in streams) == 1000


def test_stopping_ends_every_stream_and_starting_again_serves(tunnel: socket.socket) -> None:
    own = Senders()
    with pytest.raises(Unavailable):
        own.open(Payloads(), V4, address(tunnel), mbr_bps=None)
    own.start()
    opened = own.open(Payloads(*[bytes(100)] * 1000), V4, address(tunnel), mbr_bps=100_000)
    tunnel.recv(200)
    own.stop()
    assert opened.packets < 1000
    own.start()
    again = own.open(Payloads(b"again"), V4, address(tunnel), mbr_bps=None)
    while tunnel.recv(200)[28:] != b"again":
        pass
    again.close()
    own.stop()
    own.stop()


@given(
    lengths=st.lists(st.integers(28, 65535), min_size=1, max_size=200),
    rate_bps=st.integers(1_000, 400_000_000_000),
    start_ns=st.integers(0, 2**62 // 1000),
)
def test_when_packets_are_due_is_exact_however_many_there_are(lengths: list[int], rate_bps: int, start_ns: int) -> None:
    due_ns, rest = start_ns, 0
    for length in lengths:
        due_ns, rest = pace(due_ns, rest, length, rate_bps)
    assert Fraction(due_ns - start_ns) + Fraction(rest, rate_bps) == Fraction(sum(lengths) * 8 * 10**9, rate_bps)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"source": "nowhere"}, "source"),
        ({"group": "10.0.0.1"}, "group"),
        ({"group": "ff3e::1"}, "group"),
        ({"port": 0}, "port"),
        ({"source_port": 65536}, "source_port"),
        ({"hop_limit": 0}, "hop_limit"),
    ],
)
def test_an_endpoint_that_is_none_is_refused(change: dict[str, object], field: str) -> None:
    arguments: dict[str, object] = {"source": "10.0.0.1", "group": "232.0.0.1", "port": 5000} | change
    with pytest.raises(InvalidArgument) as refusal:
        Endpoint(**arguments)  # type: ignore[arg-type]
    assert refusal.value.violations[0].field == field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tunnel": ("nowhere", 1)}, "mbUpfTunAddr"),
        ({"tunnel": ("127.0.0.1", 0)}, "mbUpfTunAddr.portNumber"),
        ({"mbr_bps": 0}, "mbr"),
        ({"dscp": 64}, "dscpMarking"),
        ({"mtu": 10}, "mtu"),
        ({"endpoint": None}, "endpoint"),
        ({"raw": True}, "endpoint"),
    ],
)
def test_a_stream_that_cannot_be_is_refused(senders: Senders, change: dict[str, object], field: str) -> None:
    arguments: dict[str, object] = {"endpoint": V4, "tunnel": ("127.0.0.1", 9), "mbr_bps": 1000} | change
    with pytest.raises(InvalidArgument) as refusal:
        senders.open(Payloads(), **arguments)  # type: ignore[arg-type]
    assert refusal.value.violations[0].field == field


def test_a_stream_has_another_rate_from_the_next_packet_on(senders: Senders, tunnel: socket.socket) -> None:
    # At 1 kbit/s the second packet would be due after eight seconds, the thousandth after hours.
    source = Payloads(*[bytes(972)] * 1000)
    opened = senders.open(source, V4, address(tunnel), mbr_bps=1_000_000)
    tunnel.recv(2000)
    opened.set_rate(None)
    assert [len(tunnel.recv(2000)) for _ in range(999)] == [1000] * 999
    opened.close()
    with pytest.raises(InvalidArgument):
        opened.set_rate(0)


def test_a_paced_sender_is_of_senders_alone() -> None:
    with pytest.raises(RuntimeError, match="not open"):
        PacedSender(Payloads(), None).counters()
