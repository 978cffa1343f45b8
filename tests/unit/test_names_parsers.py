"""Names are read from TLS hellos, HTTP requests and DNS answers, however they are cut and whatever else comes."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from random import Random

import named_traffic as made
import pytest

from upf.names import dns, http, tls
from upf.names.answer import Name, No
from upf.names.patterns import matches, places_wanting, read_name

VIDEO = "video.example.com"


# --- patterns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "wanted", "not_wanted"),
    [
        ("example.com", ["example.com"], ["a.example.com", "xexample.com", "example.com.org", "com"]),
        ("*.example.com", ["a.example.com", "b.a.example.com"], ["example.com", "aexample.com", "a.example.org"]),
        ("*.com", ["example.com", "a.example.com"], ["com", "example.org"]),
    ],
)
def test_a_pattern_wants_one_name_or_all_names_below_it(pattern: str, wanted: list[str], not_wanted: list[str]) -> None:
    places = {"other.example.net": 1, pattern: 2}
    for name in wanted:
        assert matches(pattern, name)
        assert places_wanting(places, [name]) == (2,)
    for name in not_wanted:
        assert not matches(pattern, name)
        assert places_wanting(places, [name]) == ()


def test_looking_patterns_up_finds_what_trying_every_pattern_finds() -> None:
    draw = Random(1)
    names = [".".join(draw.choices("abc", k=draw.randint(1, 5))) for _ in range(60)]
    patterns = sorted({draw.choice(("", "*.")) + name for name in names})
    places = {pattern: place for place, pattern in enumerate(patterns)}
    for name in names:
        assert places_wanting(places, [name]) == tuple(
            i for i, pattern in enumerate(patterns) if matches(pattern, name)
        )
    both = names[:2]
    assert places_wanting(places, both) == tuple(
        i for i, pattern in enumerate(patterns) if any(matches(pattern, n) for n in both)
    )


def test_a_name_is_read_in_lower_case_without_its_last_dot() -> None:
    assert read_name(b"Video.EXAMPLE.com.") == "video.example.com"
    assert read_name(b"_dash-1.a0.example") == "_dash-1.a0.example"
    assert read_name(b"localhost") == "localhost"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b".",
        b"a..b",
        b"a.com..",
        b"-a.com",
        b"a-.com",
        b"a b.com",
        b"a\n",
        b"\xc3\xbc.com",
        b"198.51.100.7",
        b"a." * 130,
        b"a" * 64 + b".com",
        b"[2001:db8::1]",
        b"*.example.com",
        b"*",
    ],
)
def test_what_is_no_name_is_not_read_as_one(text: bytes) -> None:
    assert read_name(text) is None


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_the_server_name_of_a_hello_is_found() -> None:
    assert tls.parse_stream(made.client_hello(VIDEO)) == Name(VIDEO)
    assert tls.parse_hello(made.handshake(VIDEO)) == Name(VIDEO)


def test_a_hello_is_waited_for_byte_by_byte() -> None:
    stream = made.client_hello(VIDEO)
    for length in range(len(stream)):
        answer = tls.parse_stream(stream[:length])
        assert answer in (No.MORE_NEEDED, Name(VIDEO, final=False)), length
    assert tls.parse_stream(stream[:60]) is No.MORE_NEEDED


def test_a_hello_may_be_split_over_records_anywhere() -> None:
    message = made.handshake(VIDEO)
    for size in range(1, len(message)):
        assert tls.parse_stream(made.records(message, size)) == Name(VIDEO), size
    assert tls.parse_stream(made.records(message, *[1] * len(message))) == Name(VIDEO)


@pytest.mark.parametrize("first", [True, False])
def test_an_encrypted_hello_leaves_the_outer_name_and_says_that_it_hides_another(first: bool) -> None:
    hello = made.with_extension(made.handshake(VIDEO), 0xFE0D, bytes(200), first=first)
    assert tls.parse_hello(hello) == Name(VIDEO, hidden=True)


def test_unknown_extensions_are_passed_over() -> None:
    hello = made.with_extension(made.handshake(VIDEO), 0x3A3A, b"\0", first=True)
    hello = made.with_extension(hello, 51, bytes(1200), first=True)
    assert len(hello) > 1500
    assert tls.parse_stream(made.records(hello)) == Name(VIDEO)


def test_a_hello_without_a_name_has_none() -> None:
    hello = made.handshake(VIDEO).replace(VIDEO.encode(), b"198.51.100.7     "[: len(VIDEO)])
    assert tls.parse_hello(hello) is No.NAME
    named = struct.pack("!HHHBH", 0, 5 + len(VIDEO), 3 + len(VIDEO), 0, len(VIDEO)) + VIDEO.encode()
    assert named in hello.replace(b"198.51.100.7     ", VIDEO.encode())
    assert tls.parse_hello(made.handshake(VIDEO).replace(named, b"\x5a\x5a" + named[2:])) is No.NAME


@pytest.mark.parametrize(
    "stream",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x02\x00\x00\x05",
        b"\x17\x03\x03\x00\x20" + bytes(32),
        b"\x16\x03\x03\x00\x04\x02\x00\x00\x20",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x40\x01\x01",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
    ],
)
def test_other_streams_are_no_hello(stream: bytes) -> None:
    assert tls.parse_stream(stream) is No.NAME


# --- HTTP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_head", "name"),
    [
        (made.http_request(VIDEO), VIDEO),
        (made.http_request("Video.Example.COM.:8080"), VIDEO),
        (b"POST /up HTTP/1.0\nHOST:\tvideo.example.com \n\n", VIDEO),
        (b"\r\nGET / HTTP/1.1\r\nhost:video.example.com\r\n", VIDEO),
        (b"GET http://video.example.com/a HTTP/1.1\r\nHost: other.example.com\r\n\r\n", VIDEO),
        (b"GET http://user:word@video.example.com:80?a=@b HTTP/1.1\r\n", VIDEO),
        (b"CONNECT video.example.com:443 HTTP/1.1\r\n", VIDEO),
        (b"OPTIONS * HTTP/1.1\r\nHost: video.example.com\r\n", VIDEO),
        (b"M-SEARCH * HTTP/1.1\r\nHost: video.example.com\r\n", VIDEO),
    ],
)
def test_the_host_of_a_request_is_found(request_head: bytes, name: str) -> None:
    assert http.parse_stream(request_head) == Name(name)


def test_a_request_is_waited_for_byte_by_byte() -> None:
    stream = made.http_request(VIDEO, "/" + "a" * 300)
    whole = stream.index(b"\r\nAccept") + 2
    for length in range(len(stream)):
        assert http.parse_stream(stream[:length]) == (Name(VIDEO) if length >= whole else No.MORE_NEEDED), length


@pytest.mark.parametrize(
    "stream",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"DESCRIBE rtsp://video.example.com/ RTSP/1.0\r\nHost: video.example.com\r\n",
        b"HTTP/1.1 200 OK\r\nHost: video.example.com\r\n",
        b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\nHost: video.example.com\r\n",
        b"GET / HTTP/1.1\r\nHost: 198.51.100.7\r\n",
        b"GET / HTTP/1.1\r\nHost: [2001:db8::7]:80\r\n",
        b"GET / HTTP/1.1\r\nHost: video.example.com:a\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n",
        b"GET /\x01 HTTP",
        b"GET / HTTQ",
        b"get / HTTP/1.1\r\n",
        b"A" * 25,
        b"SSH-2.0-x\r\n",
        b"\x00",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 4000,
        b"GET /" + b"a" * 20_000,
    ],
)
def test_other_streams_have_no_host(stream: bytes) -> None:
    assert http.parse_stream(stream) is No.NAME


# --- DNS -------------------------------------------------------------------------------------------------------------


def test_an_answer_gives_addresses_with_their_names_and_times() -> None:
    message = made.dns_answer(VIDEO, [(VIDEO, "A", 60, "198.51.100.7"), (VIDEO, "AAAA", 30, "2001:db8::7")])
    assert dns.parse_response(message) == (
        dns.Resolution(4, int(ip_address("198.51.100.7")), (VIDEO,), 60),
        dns.Resolution(6, int(ip_address("2001:db8::7")), (VIDEO,), 30),
    )


def test_the_names_that_are_aliases_of_an_addresss_name_count_too() -> None:
    message = made.dns_answer(
        VIDEO,
        [
            (VIDEO, "CNAME", 300, "cdn.example.net."),
            ("CDN.example.net", "CNAME", 20, "pop.example.org."),
            ("pop.example.org", "A", 60, "198.51.100.7"),
            ("unrelated.example", "A", 60, "198.51.100.8"),
        ],
    )
    first, second = dns.parse_response(message)
    assert (first.names, first.ttl_s) == (("pop.example.org", "cdn.example.net", VIDEO), 20)
    assert (second.names, second.ttl_s) == (("unrelated.example",), 60)


def test_aliases_that_lead_to_each_other_end() -> None:
    answers = [("a.example", "CNAME", 9, "b.example."), ("b.example", "CNAME", 9, "a.example.")]
    message = made.dns_answer("a.example", [*answers, ("a.example", "A", 9, "198.51.100.7")])
    assert dns.parse_response(message)[0].names == ("a.example", "b.example")


def test_compressed_names_are_read() -> None:
    question = b"\x05video\x07example\x03com\0"
    head = struct.pack("!6H", 1, 0x8180, 1, 2, 0, 0) + question + struct.pack("!HH", 1, 1)
    # The alias points to the question; its target ends in what stands at "example"; the address' owner is that target.
    alias = struct.pack("!HHHIH", 0xC00C, 5, 1, 60, 6) + b"\x03cdn\xc0\x12"
    target_at = len(head) + len(alias) - 6
    address = struct.pack("!HHHIH4s", 0xC000 | target_at, 1, 1, 60, 4, bytes((198, 51, 100, 7)))
    (found,) = dns.parse_response(head + alias + address)
    assert found.names == ("cdn.example.com", VIDEO)


@pytest.mark.parametrize("pointer", [0xC00C, 0xC00D, 0xC02D, 0xFFFF])
def test_a_compression_pointer_that_leads_nowhere_ends(pointer: int) -> None:
    head = struct.pack("!6H", 1, 0x8180, 0, 1, 0, 0)
    record = struct.pack("!HHHIH4s", pointer, 1, 1, 60, 4, bytes(4))
    assert dns.parse_response(head + record) == ()
    looped = (
        struct.pack("!6H", 1, 0x8180, 0, 1, 0, 0) + b"\x01a" + struct.pack("!HHHIH4s", 0xC00C, 1, 1, 60, 4, bytes(4))
    )
    assert dns.parse_response(looped) == ()


def test_only_answers_without_an_error_count() -> None:
    message = bytearray(made.dns_answer(VIDEO, [(VIDEO, "A", 60, "198.51.100.7")]))
    for at, bits in ((2, 0x80), (2, 0x28), (3, 0x03)):
        other = bytearray(message)
        other[at] ^= bits
        assert dns.parse_response(bytes(other)) == ()


def test_of_a_message_that_is_cut_the_whole_records_count() -> None:
    answers = [(f"{i}.example.com", "A", 60, f"198.51.100.{i}") for i in range(20)]
    message = made.dns_answer(VIDEO, answers)
    counts = [len(dns.parse_response(message[:length])) for length in range(len(message) + 1)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 20)


def test_messages_are_told_apart_in_a_stream() -> None:
    messages = [made.dns_answer(f"{i}.example", []) for i in range(3)]
    stream = b"".join(len(message).to_bytes(2, "big") + message for message in messages)
    assert dns.split_messages(stream) == (messages, len(stream))
    assert dns.split_messages(stream[:-1]) == (messages[:2], len(stream) - len(messages[2]) - 2)


def test_huge_numbers_of_records_are_bounded() -> None:
    message = struct.pack("!6H", 1, 0x8180, 65535, 65535, 65535, 65535) + b"\0\0\1\0\1" * 13_000
    assert dns.parse_response(message) == ()


# --- anything --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_no_bytes_make_a_parser_fail(seed: int) -> None:
    draw = Random(seed)
    samples = [
        made.client_hello(VIDEO),
        made.http_request(VIDEO),
        made.dns_answer(VIDEO, [(VIDEO, "CNAME", 1, "b.example."), ("b.example", "A", 1, "198.51.100.7")]),
    ]
    for _ in range(1500):
        spoilt = bytearray(draw.choice(samples))
        for _ in range(draw.randint(1, 6)):
            spoilt[draw.randrange(len(spoilt))] = draw.choice((0, 1, 0xC0, 0xFF, draw.randrange(256)))
        data = bytes(spoilt[: draw.randint(0, len(spoilt))])
        assert isinstance(tls.parse_stream(data), Name | No)
        assert isinstance(tls.parse_hello(data), Name | No)
        assert isinstance(http.parse_stream(data), Name | No)
        assert all(found.names for found in dns.parse_response(data))
        assert dns.split_messages(data)[1] <= len(data)
