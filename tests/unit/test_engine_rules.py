"""What the compiled engine keeps and forgets: rule sets installed one after the other, the flow table, its bounds."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import captures
import pytest
from captures import ETHERNET, LOOP, NULL, RAW, SECOND_NS, START_NS, TCP, UDP, Captured

from upf import engine as _engine
from upf.capture import CaptureFormat, OutputFormat
from upf.engine import Engine
from upf.fragments import MAX_FRAGMENTS
from upf.policing import TokenBucket
from upf.reference import Reference
from upf.rules import Mode, Policer, Rule, RulesError
from upf.sdf import Direction, SdfFilter, parse_filter

SERVER, UE = 0xC6336407, 0x0A2D0002
CONFORMING, DROPPED, UNMATCHED, MALFORMED = (
    _engine.CONFORMING, _engine.DROPPED, _engine.UNMATCHED, _engine.MALFORMED,
)  # fmt: skip
ANY = "permit out ip from any to any"


def rule(name: str, *flows: str, rate_bps: int = 8_000, burst_bytes: int = 1000, **options: object) -> Rule:
    policer = Policer(rate_bps, burst_bytes) if rate_bps else None
    options = {"precedence": 100, "mode": Mode.POLICE, **options}
    return Rule(name=name, filters=tuple(map(parse_filter, flows)), policer=policer, **options)  # type: ignore[arg-type]


def sent(at_ms: float, length: int = 500, *, port: int = 443, to: int = UE, protocol: int = UDP) -> Captured:
    """A packet of ``length`` bytes of IP; the flow is told by port and destination."""
    data = captures.ipv4(SERVER, to, protocol, captures.ports(port, 5000, length - 20))
    return Captured(START_NS + round(at_ms * 1_000_000), data, len(data))


def format_of(link_type: int = RAW) -> CaptureFormat:
    return CaptureFormat(swapped=False, nanoseconds=True, link_type=link_type, snaplen=262_144)


def run(engine: Engine, *packets: Captured, link_type: int = RAW) -> list[int]:
    """The verdict on each packet."""
    verdicts = bytearray(len(packets))
    capture = captures.pcap(packets, nanoseconds=True, link_type=link_type, order="=")
    engine.run(capture, format_of(link_type), offset=24, max_packets=len(packets), verdicts=verdicts)
    return list(verdicts)


def engine_with(*rules: Rule, **options: int) -> Engine:
    engine = Engine(**options)
    engine.install(rules)
    return engine


# --- rule sets, one after the other -----------------------------------------------------------------------------------


def test_a_rule_that_keeps_its_name_keeps_its_counters_whatever_else_changes() -> None:
    engine = engine_with(rule("video", ANY))
    assert run(engine, sent(0), sent(0), sent(0)) == [CONFORMING, CONFORMING, DROPPED]
    engine.install(
        [rule("new", "permit out 6 from any to any"), rule("video", "permit out 17 from any to any", rate_bps=0)]
    )
    assert run(engine, sent(1)) == [CONFORMING]
    video = engine.rule_counters()["video"]
    assert (video.conforming_packets, video.conforming_bytes, video.dropped_packets, video.dropped_bytes) == (
        3, 1500, 1, 500,
    )  # fmt: skip
    assert (video.first_ns, video.last_ns) == (START_NS, START_NS + 1_000_000)
    assert engine.rule_counters()["new"].packets == 0


def test_a_bucket_keeps_its_tokens_by_its_id_even_when_its_rule_goes() -> None:
    engine = engine_with(rule("before", ANY, bucket_id="session"))
    assert run(engine, sent(0), sent(0)) == [CONFORMING, CONFORMING]
    engine.install([rule("after", ANY, bucket_id="session")])
    # 8 kbit/s make 500 bytes in half a second, and not a nanosecond earlier.
    assert run(engine, sent(499.999_999), sent(500)) == [DROPPED, CONFORMING]
    engine.install([rule("other", ANY, bucket_id="another")])
    assert run(engine, sent(500), sent(500), sent(500)) == [CONFORMING, CONFORMING, DROPPED]


def test_a_bucket_named_by_its_rule_is_not_the_shared_one_of_that_name() -> None:
    engine = engine_with(rule("x", ANY, bucket_id="y"))
    run(engine, sent(0), sent(0))
    engine.install([rule("y", ANY)])
    assert run(engine, sent(0)) == [CONFORMING]


def test_a_change_of_rate_keeps_the_tokens_earned_up_to_the_new_depth() -> None:
    engine = engine_with(rule("video", ANY, burst_bytes=1000))
    assert run(engine, sent(0, 300)) == [CONFORMING]
    # 700 bytes are left: a deeper bucket is not filled by being deeper, a shallower one holds what it can.
    engine.install([rule("video", ANY, burst_bytes=5000)])
    assert run(engine, sent(0, 701), sent(0, 100)) == [DROPPED, CONFORMING]
    engine.install([rule("video", ANY, burst_bytes=400)])
    assert run(engine, sent(0, 401), sent(0, 400), sent(0, 28)) == [DROPPED, CONFORMING, DROPPED]
    engine.install([rule("video", ANY, burst_bytes=400, rate_bps=80_000)])
    assert run(engine, sent(9.999_999, 100), sent(10, 100)) == [DROPPED, CONFORMING]


def test_a_flow_that_stays_under_its_rule_keeps_its_bucket_one_that_changes_rules_gets_a_full_one() -> None:
    web = rule("web", "permit out 17 from any 443 to any", per_flow=True)
    rest = rule("rest", ANY, per_flow=True, precedence=200)
    engine = engine_with(web, rest)
    assert run(engine, *[sent(0)] * 3, *[sent(0, port=80)] * 3) == [CONFORMING, CONFORMING, DROPPED] * 2
    engine.install([replace(web, filters=(parse_filter("permit out 17 from any 80,443 to any"),)), rest])
    assert run(engine, sent(0), *[sent(0, port=80)] * 3) == [DROPPED, CONFORMING, CONFORMING, DROPPED]
    engine.install([rest])
    assert run(engine, *[sent(0)] * 3) == [CONFORMING, CONFORMING, DROPPED]


def test_a_flow_s_own_bucket_is_cut_to_a_smaller_depth() -> None:
    engine = engine_with(rule("each", ANY, per_flow=True))
    assert run(engine, sent(0, 100)) == [CONFORMING]
    engine.install([rule("each", ANY, per_flow=True, burst_bytes=300)])
    assert run(engine, sent(0, 301), sent(0, 300), sent(0, 28)) == [DROPPED, CONFORMING, DROPPED]


def test_flows_begin_with_full_buckets_when_their_rule_begins_to_police_them_one_by_one() -> None:
    engine = engine_with(rule("video", ANY))
    assert run(engine, sent(0), sent(0), sent(0)) == [CONFORMING, CONFORMING, DROPPED]
    engine.install([rule("video", ANY, per_flow=True)])
    assert run(engine, sent(0), sent(0), sent(0)) == [CONFORMING, CONFORMING, DROPPED]
    engine.install([rule("video", ANY)])
    assert run(engine, sent(0), sent(0), sent(0)) == [CONFORMING, CONFORMING, DROPPED]


def test_a_name_that_was_away_starts_at_zero_with_a_full_bucket() -> None:
    each, other = rule("each", ANY, per_flow=True), rule("other", ANY, per_flow=True)
    engine = engine_with(each)
    assert run(engine, *[sent(0)] * 3) == [CONFORMING, CONFORMING, DROPPED]
    engine.install([])
    assert run(engine, sent(0)) == [UNMATCHED]
    engine.install([each])
    assert engine.rule_counters()["each"].packets == 0
    assert run(engine, *[sent(0)] * 3) == [CONFORMING, CONFORMING, DROPPED]
    # The same without a packet in between, and with another rule in the place that has become free.
    engine.install([])
    engine.install([other])
    assert [flow.rule for flow in engine.flows()] == [""]
    assert run(engine, *[sent(0)] * 3) == [CONFORMING, CONFORMING, DROPPED]
    assert engine.totals().bytes == 10 * 500


def test_a_rule_without_filters_wants_nothing_and_keeps_its_bucket_for_later() -> None:
    engine = engine_with(rule("video", ANY))
    assert run(engine, *[sent(0)] * 3) == [CONFORMING, CONFORMING, DROPPED]
    engine.install([rule("video")])
    assert run(engine, sent(0)) == [UNMATCHED]
    engine.install([rule("video", ANY)])
    assert run(engine, sent(0)) == [DROPPED]
    assert engine.rule_counters()["video"].packets == 4


def test_flows_under_way_are_classified_anew_when_the_rules_change() -> None:
    engine = engine_with()
    assert run(engine, sent(0), sent(0, port=80)) == [UNMATCHED, UNMATCHED]
    engine.install([rule("web", "permit out 17 from any 443 to any", rate_bps=0)])
    assert run(engine, sent(1), sent(1, port=80)) == [CONFORMING, UNMATCHED]
    earlier = rule("early", "permit out 17 from any 443 to any", precedence=1, rate_bps=8_000, burst_bytes=64)
    engine.install([rule("web", "permit out 17 from any 443 to any", rate_bps=0), earlier])
    assert run(engine, sent(2), sent(2, port=80)) == [DROPPED, UNMATCHED]
    assert {flow.source_port: flow.rule for flow in engine.flows()} == {443: "early", 80: ""}


def test_rules_with_one_bucket_draw_on_the_same_tokens_and_must_agree_on_it() -> None:
    up = rule("up", "permit out 17 from any 80 to any", bucket_id="both")
    down = rule("down", "permit out 17 from any 443 to any", bucket_id="both")
    engine = engine_with(up, down)
    assert run(engine, sent(0), sent(0, port=80), sent(0), sent(0, port=80)) == [
        CONFORMING,
        CONFORMING,
        DROPPED,
        DROPPED,
    ]
    with pytest.raises(RulesError, match="bucket 'both' has other parameters"):
        engine.install([up, replace(down, policer=Policer(8_000, 2000))])
    assert run(engine, sent(500)) == [CONFORMING]


def test_a_rule_set_that_cannot_be_compiled_changes_nothing() -> None:
    engine = engine_with(rule("video", ANY))
    impossible = SdfFilter(Direction.OUT, 0, 17, 0, 0, ((0, 70_000),), 0, 0, ())
    with pytest.raises(OverflowError):
        engine.install([rule("new", "permit out 17 from any to any", precedence=1),
                        Rule("bad", 2, (impossible,), None, Mode.POLICE)])  # fmt: skip
    assert run(engine, *[sent(0)] * 3) == [CONFORMING, CONFORMING, DROPPED]
    assert list(engine.rule_counters()) == ["video"]
    engine.install([rule("new", ANY, precedence=1)])
    assert run(engine, *[sent(0)] * 3) == [CONFORMING, CONFORMING, DROPPED]


def test_many_rules_come_and_go_without_taking_each_other_s_counters_or_buckets() -> None:
    engine = Engine()
    for generation in range(40):
        ports = range(1 + generation % 7 * 50, 400 + generation * 3, 1 + generation % 3)
        engine.install([rule(f"port {port}", f"permit out 17 from any {port} to any") for port in ports])
        counters = engine.rule_counters()
        assert list(counters) == [f"port {port}" for port in ports]
        before = {name: counter.packets for name, counter in counters.items()}
        run(engine, *[sent(generation, port=port) for port in range(1, 520)])
        assert {name: counter.packets for name, counter in engine.rule_counters().items()} == {
            name: packets + 1 for name, packets in before.items()
        }
    assert engine.totals().packets == 40 * 519


def test_flows_keep_their_own_buckets_exact_over_70_000_rule_sets() -> None:
    each = rule("each", ANY, per_flow=True, rate_bps=1_000_000, burst_bytes=2000)
    engine, bucket = Engine(), TokenBucket(1_000_000, 2000)
    other = rule("other", "permit out 6 from any to any", precedence=1, per_flow=True)
    for number in range(70_000):
        engine.install((each, other) if number % 2 else (each,))
        # The generations wrap after 65,535: every packet is looked at around that, and some before.
        if number % 1_000 == 0 or 65_500 < number < 65_600:
            packet = sent(number / 1_000)
            expected = CONFORMING if bucket.take(packet.ts_ns, 500) else DROPPED
            assert run(engine, packet) == [expected], number
    # Small packets all at once tell the tokens that are left.
    verdicts = run(engine, *[sent(70, 28)] * 100)
    assert verdicts == [CONFORMING if bucket.take(START_NS + 70_000_000, 28) else DROPPED for _ in range(100)]
    assert engine.rule_counters()["each"].packets == 70 + 99 + 100


# --- the flow table ---------------------------------------------------------------------------------------------------


def flows_of(count: int) -> Iterator[Captured]:
    """One packet of each of so many flows, a millisecond apart."""
    for number in range(count):
        yield sent(number, 28 + number % 1000, port=number % 50_000, to=UE + number // 50_000)


def test_every_counter_survives_the_growth_of_the_table_to_300_000_flows() -> None:
    engine = engine_with(rule("each", ANY, per_flow=True, rate_bps=1, burst_bytes=1500))
    packets = list(flows_of(300_000))
    run(engine, *packets)
    run(engine, *packets[::3])
    totals = engine.totals()
    assert (totals.flows, totals.aged_flows, totals.evicted_flows, totals.packets) == (300_000, 0, 0, 400_000)
    counted = {(int(flow.destination), flow.source_port): flow for flow in engine.flows()}
    assert len(counted) == 300_000
    for number in range(300_000):
        flow = counted[UE + number // 50_000, number % 50_000]
        length, twice = 28 + number % 1000, number % 3 == 0
        conforming = 1 + (twice and 2 * length <= 1500)
        excess = 1 + twice - conforming
        assert (flow.conforming_packets, flow.conforming_bytes, flow.excess_packets, flow.excess_bytes) == (
            conforming, conforming * length, excess, excess * length,
        )  # fmt: skip


@pytest.mark.parametrize(("idle_s", "counter"), [(0.5, "aged_flows"), (10_000, "evicted_flows")])
def test_a_full_table_forgets_the_idle_and_counts_them_and_polices_those_it_sees_often(
    idle_s: float, counter: str
) -> None:
    each = rule("each", ANY, per_flow=True, rate_bps=100_000, burst_bytes=1000)
    engine = engine_with(each, max_flows=1_000, flow_idle_timeout_ns=int(idle_s * SECOND_NS))
    bucket = TokenBucket(100_000, 1000)
    cold = iter(flows_of(50_000))
    packets, expected = [], []
    for number in range(5_000):
        hot = sent(10 * number, 200, port=65_000)
        packets += [hot, *(next(cold) for _ in range(10))]
        expected.append(CONFORMING if bucket.take(hot.ts_ns, 200) else DROPPED)
    verdicts = run(engine, *packets)
    assert verdicts[::11] == expected
    assert 1_000 < expected.count(DROPPED) < 4_000
    totals = engine.totals()
    assert totals.flows == 50_001
    assert totals.aged_flows + totals.evicted_flows == 50_001 - 1_000
    # It looks at a few flows only: now and then none of them is idle though others are.
    assert getattr(totals, counter) > 48_000
    assert len(engine.flows()) == 1_000
    assert totals.packets == 55_000


def test_a_table_of_one_flow_still_counts_everything() -> None:
    engine = engine_with(rule("each", ANY, per_flow=True), max_flows=1)
    run(engine, *flows_of(500))
    assert (engine.totals().flows, engine.totals().evicted_flows, len(engine.flows())) == (500, 499, 1)
    assert engine.rule_counters()["each"].packets == 500


def test_a_flow_is_not_forgotten_before_its_own_bucket_is_full_again() -> None:
    # At 8 kbit/s 100 kB take 100 s: a timeout of 1 s may not shorten that.
    each = rule("each", ANY, per_flow=True, burst_bytes=100_000)
    engine = engine_with(each, max_flows=100, flow_idle_timeout_ns=SECOND_NS)
    run(engine, *flows_of(100))
    later = [sent(50_000 + number, port=60_000 + number) for number in range(50)]
    run(engine, *later)
    assert (engine.totals().aged_flows, engine.totals().evicted_flows) == (0, 50)
    run(engine, sent(250_000, port=1))
    assert engine.totals().aged_flows == 1


# --- one caller at a time ---------------------------------------------------------------------------------------------


class Meanwhile:
    """A run() in another thread that is under way between `__enter__` and `__exit__`, for as long as it takes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        # Long enough to be met in the middle, whatever the scheduler does.
        self._capture = (
            captures.pcap([sent(0, 28)], nanoseconds=True, order="=")[:24]
            + captures.pcap([sent(0, 28)], nanoseconds=True, order="=")[24:] * 2_000_000
        )

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self._engine.run(self._capture, format_of(), offset=24, max_packets=2_000_000)
            except RuntimeError:
                # The other thread was quicker with its call: the next run will be met.
                continue

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def until_refused(call: Callable[[], object]) -> None:
    """Calls again and again: between two runs of the other thread it may well be let in."""
    for _ in range(1_000_000):
        call()


def test_while_a_run_is_under_way_nothing_else_may_touch_the_rules_the_table_or_the_output() -> None:
    engine = engine_with(rule("video", ANY))
    calls = {
        "install": lambda: engine.install([rule("video", ANY)]),
        "run": lambda: run(engine, sent(0)),
        "flows": engine.flows,
        "begin_output": lambda: engine.begin_output(OutputFormat.of([RAW], nanoseconds=True)),
        "reset_flow_counters": engine.reset_flow_counters,
    }
    with Meanwhile(engine):
        for name, call in calls.items():
            with pytest.raises(RuntimeError, match=rf"^{name}\(\) while another call has the engine"):
                until_refused(call)
        # Counters are there to be polled.
        while not engine.totals().packets:
            assert engine.rule_counters().keys() == {"video"}
    assert engine.rule_counters()["video"].packets == engine.totals().packets
    assert len(engine.flows()) == 1


# --- what a caller may get wrong --------------------------------------------------------------------------------------


def test_verdicts_without_room_for_every_packet_are_refused_before_anything_is_done() -> None:
    engine = engine_with(rule("video", ANY))
    capture = captures.pcap([sent(0)] * 10, nanoseconds=True, order="=")
    for verdicts in (bytearray(9), bytearray()):
        with pytest.raises(ValueError, match=f"verdicts: expected room for 10 packets, got {len(verdicts)}"):
            engine.run(capture, format_of(), offset=24, max_packets=10, verdicts=verdicts)
    with pytest.raises(BufferError):
        engine.run(capture, format_of(), offset=24, max_packets=10, verdicts=bytes(10))  # type: ignore[arg-type]
    assert engine.totals().packets == 0
    assert engine.run(capture, format_of(), offset=24, max_packets=10, verdicts=bytearray(10)) == (
        len(capture),
        10,
        False,
    )


def test_an_offset_outside_of_the_capture_is_refused() -> None:
    capture = captures.pcap([sent(0)], nanoseconds=True, order="=")
    for offset in (len(capture) + 1, 2**64 - 8):
        with pytest.raises(ValueError, match="offset: expected at most"):
            Engine().run(capture, format_of(), offset=offset, max_packets=1)
    assert Engine().run(capture, format_of(), offset=len(capture), max_packets=1) == (len(capture), 0, True)


# --- the engine and the reference, where they once differed ----------------------------------------------------------


def agree(packets: Sequence[Captured], link_type: int, rules: Sequence[Rule]) -> Engine:
    """Runs both, and compares all they count."""
    engine, reference = engine_with(*rules), Reference(rules)
    run(engine, *packets, link_type=link_type)
    for packet in packets:
        reference.process(*packet, link_type)
    assert engine.totals() == reference.totals()
    engine.finish()
    reference.finish()
    assert engine.totals() == reference.totals()
    assert engine.rule_counters() == reference.rule_counters()
    return engine


@pytest.mark.parametrize("link_type", [NULL, LOOP])
def test_the_family_of_a_null_link_is_all_four_bytes_in_one_byte_order_or_the_other(link_type: int) -> None:
    ip4, ip6 = sent(0).data, captures.ipv6(1, 2, TCP, captures.ports(1, 2))
    families = [2, 10, 24, 28, 30, 7, 0x0200, 0x02000032, 0x1E000A00, 0x00001E00, 0x02010000]
    headers = [struct.pack(order + "I", family) for family in families for order in "<>"]
    packets = [Captured(START_NS, header + ip, 4 + len(ip)) for header in headers for ip in (ip4, ip6)]
    engine = agree(packets, link_type, [rule("all", ANY, rate_bps=0)])
    # 2, 24, 28 and 30 with the packet of their version; on NULL in either byte order.
    assert engine.rule_counters()["all"].packets == (8 if link_type == NULL else 4)
    assert engine.totals().malformed == {"ip_version": 8 if link_type == NULL else 4}


def test_a_protocol_behind_headers_that_were_not_captured_is_that_of_no_filter_nor_of_its_number() -> None:
    hidden = captures.ipv6(1, 2, 60, captures.extension(60, UDP, 64) + captures.ports(1, 2))[:60]
    later = captures.ipv6(1, 2, 44, captures.fragment_header(255, 9, 64, more=False) + captures.payload(40))
    whole = captures.ipv6(1, 2, 255, captures.payload(40))
    packets = [Captured(START_NS, data, 120) for data in (hidden, later, whole)]
    named = rule("named", "permit out 255 from any to any", rate_bps=0)
    engine = agree(packets, RAW, [named, rule("all", ANY, rate_bps=0, precedence=200)])
    assert engine.rule_counters()["named"].packets == 1
    assert engine.totals().flows == 2


def test_first_fragments_are_remembered_up_to_the_bound_and_the_oldest_goes_first() -> None:
    def fragment(number: int, offset: int, at_ms: float) -> Captured:
        content = captures.payload(64) if offset else captures.ports(443, number % 65536, 64)
        data = captures.ipv4(
            SERVER, UE + number // 60_000, UDP, content,
            identification=number % 60_000, fragment_offset=offset, more_fragments=not offset,
        )  # fmt: skip
        return Captured(START_NS + round(at_ms * 1e6), data, len(data))

    web = rule("web", "permit out 17 from any 443 to any", rate_bps=0)
    order = [*range(MAX_FRAGMENTS), *range(100), MAX_FRAGMENTS, *range(200, 300), MAX_FRAGMENTS + 1]
    # Time runs backwards here: what is old is what came long ago.
    firsts = [fragment(number, 0, 20_000 - at) for at, number in enumerate(order)]
    later = [fragment(number, 64, 12_000) for number in range(MAX_FRAGMENTS + 2)]
    engine = agree([*firsts, *later], RAW, [web])
    # Of all only the two were forgotten that were the oldest when room was needed.
    assert engine.totals().fragments_without_first == 2
    assert engine.rule_counters()["web"].packets == len(firsts) + MAX_FRAGMENTS


def test_packets_at_the_very_first_nanosecond_have_a_first_time_of_zero() -> None:
    packets = [Captured(0, sent(0).data, 500), Captured(5, sent(0, port=80).data, 500)]
    agree(packets, RAW, [rule("all", ANY, rate_bps=0)])


def test_a_frame_of_tags_alone_is_malformed_however_many_there_are() -> None:
    tags = [Captured(START_NS, bytes(12) + b"\x81\0\0\1" * count, 1500) for count in range(1, 400)]
    engine = agree(tags, ETHERNET, [])
    assert engine.totals().malformed == {"link_header": 399}
