"""The names of a connection become known from its packets and from DNS answers, for both directions, within bounds."""

from __future__ import annotations

from ipaddress import ip_address

import captures
import named_traffic as made
import pytest

from upf.names.inspector import Inspector, Limits

UE, SERVER, RESOLVER = (int(ip_address(a)) for a in ("10.45.0.2", "198.51.100.7", "192.0.2.53"))
VIDEO, OTHER = "video.example.com", "other.example.com"
SECOND_NS = 1_000_000_000
TCP, UDP = 6, 17
Seen = tuple[tuple[str, ...], bool]


class Network:
    """Packets between a UE and a server, given to an inspector, which says the names and if they are settled."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.inspector = Inspector(limits)
        self.now_ns = 0

    def up(self, data: bytes = b"", sequence: int = 1001, *, port: int = 40000, flags: int = made.ACK) -> Seen:
        segment = made.tcp(port, 443, sequence, data, flags=flags)
        return self.inspector.inspect(self.now_ns, 4, UE, SERVER, TCP, port, 443, segment)

    def down(self, data: bytes = b"", sequence: int = 5001, *, port: int = 40000, flags: int = made.ACK) -> Seen:
        segment = made.tcp(443, port, sequence, data, flags=flags)
        return self.inspector.inspect(self.now_ns, 4, SERVER, UE, TCP, 443, port, segment)

    def up_udp(self, data: bytes, *, port: int = 40000) -> Seen:
        return self.inspector.inspect(self.now_ns, 4, UE, SERVER, UDP, port, 443, captures.udp(port, 443, data))

    def down_udp(self, data: bytes, *, port: int = 40000) -> Seen:
        return self.inspector.inspect(self.now_ns, 4, SERVER, UE, UDP, 443, port, captures.udp(443, port, data))

    def resolve(self, question: str, *answers: tuple[str, str, int, str]) -> Seen:
        message = made.dns_answer(question, answers)
        return self.inspector.inspect(self.now_ns, 4, RESOLVER, UE, UDP, 53, 5353, captures.udp(53, 5353, message))

    def shake_hands(self, *, port: int = 40000) -> None:
        assert self.up(b"", 1000, port=port, flags=made.SYN) == ((), False)
        assert self.down(b"", 5000, port=port, flags=made.SYN | made.ACK) == ((), False)
        assert self.up(port=port) == ((), False)


def test_the_packet_that_completes_the_name_is_the_first_to_have_it_and_the_other_direction_follows() -> None:
    network = Network()
    network.shake_hands()
    hello = made.client_hello(VIDEO)
    assert network.up(hello[:60]) == ((), False)
    assert network.down() == ((), False)
    assert network.up(hello[60:], 1061) == ((VIDEO,), True)
    assert network.down(b"\x16\x03\x03") == ((VIDEO,), True)
    assert network.inspector.counters().named == 1


def test_a_hello_may_be_cut_anywhere_and_its_segments_come_in_any_order_and_twice() -> None:
    network, hello = Network(), made.client_hello(VIDEO)
    for cut in range(1, len(hello)):
        first, second = (hello[:cut], 1001), (hello[cut:], 1001 + cut)
        for port, order in (
            (30_000 + cut, (first, second)),
            (10_000 + cut, (second, second, first)),
            (20_000 + cut, (first, first, second)),
        ):
            network.up(b"", 1000, port=port, flags=made.SYN)
            answers = [network.up(*piece, port=port) for piece in order]
            assert answers[-1] == ((VIDEO,), True), (cut, order)
            assert not any(settled for _, settled in answers[:-1])


def test_segments_may_overlap_and_sequence_numbers_wrap() -> None:
    network, hello = Network(), made.client_hello(VIDEO)
    start = (1 << 32) - 100
    network.up(b"", start - 1, flags=made.SYN)
    assert network.up(hello[150:], (start + 150) % (1 << 32)) == ((), False)
    assert network.up(hello[:160], start) == ((VIDEO,), True)


def test_without_the_handshake_a_name_is_found_all_the_same() -> None:
    network, hello = Network(), made.client_hello(VIDEO)
    assert network.up(hello[200:], 1201) == ((), False)
    assert network.up(hello[:200], 1001) == ((VIDEO,), True)


def test_data_with_the_syn_counts() -> None:
    network = Network()
    assert network.up(made.http_request(VIDEO), 1000, flags=made.SYN) == ((VIDEO,), True)


def test_a_request_over_http_names_its_connection() -> None:
    network = Network()
    network.shake_hands()
    assert network.up(made.http_request(VIDEO)) == ((VIDEO,), True)


def test_a_connection_of_another_protocol_is_settled_without_a_name() -> None:
    network = Network()
    network.shake_hands()
    assert network.down(b"220 mail.example.com\r\n") == ((), False)
    assert network.up(b"EHLO ue\r\n") == ((), True)
    assert network.down(b"250 ok\r\n", 5023) == ((), True)


def test_a_quic_connection_is_named_by_its_initial_packets() -> None:
    network, hello = Network(), made.handshake(VIDEO)
    first, second = (made.quic_initial(made.crypto(at, hello[at : at + 300]), b"12345678") for at in (0, 300))
    assert network.up_udp(first)[1] is False
    assert network.up_udp(second) == ((VIDEO,), True)
    assert network.down_udp(bytes(1200)) == ((VIDEO,), True)


def test_other_datagrams_settle_their_flow_at_once() -> None:
    network = Network()
    assert network.down_udp(b"\x80\x60" + bytes(3)) == ((), True)
    assert network.up_udp(bytes(100), port=40001) == ((), True)
    assert network.up_udp(b"", port=40002) == ((), True)


def test_a_flow_to_an_address_that_an_answer_gave_has_the_name_from_its_first_packet() -> None:
    network = Network()
    assert network.resolve(VIDEO, (VIDEO, "CNAME", 60, OTHER), (OTHER, "A", 60, "198.51.100.7")) == ((), False)
    assert network.up(b"", 1000, flags=made.SYN) == ((OTHER, VIDEO), False)
    assert network.down(b"", 5000, flags=made.SYN | made.ACK) == ((OTHER, VIDEO), False)
    # Not only TCP and UDP, and also where ports are not known.
    assert network.inspector.inspect(0, 4, UE, SERVER, 132, 9, 9, b"") == ((OTHER, VIDEO), True)
    assert network.inspector.inspect(0, 4, SERVER, UE, TCP, 0, 0, None) == ((OTHER, VIDEO), True)
    assert network.inspector.inspect(0, 6, UE, SERVER, 132, 9, 9, b"") == ((), True)


def test_an_answer_holds_for_its_time_to_live_and_a_flow_keeps_the_names_that_it_began_with() -> None:
    network = Network()
    network.resolve(VIDEO, (VIDEO, "A", 30, "198.51.100.7"))
    network.now_ns = 31 * SECOND_NS
    assert network.up(port=1)[0] == (VIDEO,)
    network.now_ns += 1
    assert network.up(port=2)[0] == ()
    assert network.up(port=1)[0] == (VIDEO,)
    network.resolve(VIDEO, (VIDEO, "A", 30, "198.51.100.7"))
    assert network.up(port=2)[0] == ()
    assert network.up(port=3)[0] == (VIDEO,)


def test_what_the_client_says_outweighs_what_the_dns_says_of_a_shared_address() -> None:
    network = Network()
    network.resolve(VIDEO, (VIDEO, "CNAME", 60, "cdn.example.net"), ("cdn.example.net", "A", 60, "198.51.100.7"))
    network.resolve(OTHER, (OTHER, "A", 60, "198.51.100.7"))
    assert network.up(b"", 1000, flags=made.SYN)[0] == ("cdn.example.net", VIDEO, OTHER)
    names, settled = network.up(made.client_hello(VIDEO))
    assert settled
    assert set(names) == {VIDEO, "cdn.example.net"}
    assert network.up(made.client_hello("third.example.com"), port=40001) == (("third.example.com",), True)


def test_where_the_client_hides_its_name_those_of_the_dns_stay() -> None:
    network = Network()
    network.resolve(VIDEO, (VIDEO, "A", 60, "198.51.100.7"))
    hello = made.records(made.with_extension(made.handshake("public.example.net"), 0xFE0D, bytes(100)))
    assert network.up(hello) == (("public.example.net", VIDEO), True)


def test_answers_over_tcp_are_read_message_by_message() -> None:
    network = Network()
    messages = [made.dns_answer(VIDEO, [(f"{i}.example.com", "A", 60, f"198.51.100.{i}")]) for i in (7, 8)]
    stream = b"".join(len(message).to_bytes(2, "big") + message for message in messages)
    for at in range(0, len(stream), 30):
        segment = made.tcp(53, 5353, 100 + at, stream[at : at + 30])
        assert network.inspector.inspect(0, 4, RESOLVER, UE, TCP, 53, 5353, segment) == ((), False)
    assert network.up()[0] == ("7.example.com",)
    assert network.inspector.counters().learned == 2
    assert network.inspector.inspect(0, 4, UE, RESOLVER, TCP, 5353, 53, made.tcp(5353, 53, 1)) == ((), True)


def test_a_five_tuple_that_is_used_again_is_a_connection_of_its_own() -> None:
    network = Network()
    network.shake_hands()
    assert network.up(made.client_hello(VIDEO)) == ((VIDEO,), True)
    assert network.up(b"", 9000, flags=made.SYN) == ((), False)
    assert network.up(made.client_hello(OTHER), 9001) == ((OTHER,), True)


def test_a_connection_is_looked_into_for_so_many_packets() -> None:
    network = Network(Limits(packets=8))
    answers = [network.down(bytes(10), 5001 + 20 * i) for i in range(8)]
    assert answers == [((), False)] * 7 + [((), True)]
    assert network.up(made.client_hello(VIDEO)) == ((), True)
    counters = network.inspector.counters()
    assert (counters.inspected, counters.given_up, counters.named) == (8, 1, 0)


def test_no_more_connections_than_the_limit_are_waited_with_and_the_oldest_is_given_up() -> None:
    network = Network(Limits(pending=3))
    for port in range(1, 5):
        network.up(b"", 1000, port=port, flags=made.SYN)
    assert network.inspector.counters().given_up == 1
    assert network.up(made.client_hello(VIDEO), port=1) == ((), True)
    assert network.up(made.client_hello(VIDEO), port=2) == ((VIDEO,), True)


def test_no_more_bytes_than_the_limit_are_kept() -> None:
    network = Network(Limits(pending_bytes=1000))
    hello = made.client_hello(VIDEO)
    for port in range(1, 12):
        network.up(hello[:100], port=port)
    assert network.inspector.counters().given_up == 1
    assert network.up(hello[100:], 1101, port=1) == ((), True)
    assert network.up(hello[100:], 1101, port=2) == ((VIDEO,), True)


def test_the_names_of_so_many_connections_are_kept() -> None:
    network = Network(Limits(connections=4))
    for port in range(1, 6):
        assert network.up(made.client_hello(VIDEO), port=port) == ((VIDEO,), True)
    assert network.inspector.counters().forgotten == 1
    assert network.down(port=1) == ((), False)
    assert network.down(port=3) == ((VIDEO,), True)


def test_the_names_of_so_many_addresses_are_kept() -> None:
    network = Network(Limits(addresses=2))
    for i in (7, 8, 9):
        network.resolve(VIDEO, (VIDEO, "A", 60, f"198.51.100.{i}"))
    assert network.inspector.counters().forgotten_addresses == 1
    assert network.up()[0] == ()
    network.resolve(VIDEO, (VIDEO, "A", 60, "198.51.100.7"))
    assert network.up(port=2)[0] == (VIDEO,)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 12, 19, 20])
def test_segments_that_are_cut_say_nothing(cut: int) -> None:
    network = Network()
    for protocol in (TCP, UDP):
        for source, destination in ((40000, 443), (53, 40000)):
            segment = made.tcp(source, destination, 1, b"")[:cut]
            network.inspector.inspect(0, 4, UE, SERVER, protocol, source, destination, segment)
    assert network.inspector.counters().named == 0


def test_a_segment_longer_than_all_that_is_kept_is_read_from_its_beginning() -> None:
    network = Network()
    network.shake_hands()
    assert network.up(made.http_request(VIDEO) + bytes(60_000)) == ((VIDEO,), True)
