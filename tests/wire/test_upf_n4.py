"""The user plane under N4, over a real channel: sessions, measurement, reports, traffic."""

from __future__ import annotations

import asyncio
import io
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from nf.common.channels import Channels
from nf.common.clock import SystemClock
from nf.common.errors import FailedPrecondition, InvalidArgument, NotFound
from nf.common.server import GrpcServer
from nf.common.telemetry import Telemetry
from nf.common.v1.types_pb2 import EnforcementMethod, Usage
from upf.capture import parse_header, read_records, write_header
from upf.compose import build
from upf.config import UpfSection
from upf.n4.v1 import n4_pb2 as n4
from upf.n4.v1.n4_pb2_grpc import N4ServiceStub
from upf.policing import TokenBucket
from upf.traffic.v1.traffic_pb2 import ReplayRequest, ReplayResponse
from upf.traffic.v1.traffic_pb2_grpc import TrafficServiceStub

UE, SERVER = "10.45.0.2", "198.51.100.7"
CORE, ACCESS = n4.SOURCE_INTERFACE_CORE, n4.SOURCE_INTERFACE_ACCESS
MONITOR, POLICE = EnforcementMethod.ENFORCEMENT_METHOD_MONITOR, EnforcementMethod.ENFORCEMENT_METHOD_POLICE
START_NS = 1_700_000_000 * 10**9
RATE_BPS, BURST_BYTES = 800_000, 3_000


@dataclass
class Upf:
    n4: N4ServiceStub
    traffic: TrafficServiceStub

    async def associate(self) -> None:
        await self.n4.SetUpAssociation(n4.SetUpAssociationRequest(node_id="smf"))
        await self.n4.CompleteResynchronisation(n4.CompleteResynchronisationRequest(node_id="smf"))

    async def send(self, packets: Iterable[tuple[int, bytes]], *, piece_bytes: int = 1000) -> ReplayResponse:
        capture = capture_of(packets)

        async def pieces() -> AsyncIterator[ReplayRequest]:
            for at in range(0, len(capture), piece_bytes):
                yield ReplayRequest(capture=capture[at : at + piece_bytes], return_passed=True)

        return await self.traffic.Replay(pieces())


@asynccontextmanager
async def running_upf() -> AsyncIterator[Upf]:
    telemetry = Telemetry()
    function = build(UpfSection(measurement_interval_ms=5), SystemClock(), telemetry.registry)
    server = GrpcServer("upf", telemetry)
    server.add(*function.servicers)
    address = await server.start("127.0.0.1:0")
    await function.start()
    channels = Channels({"upf": address}, function="test", telemetry=telemetry)
    try:
        yield Upf(N4ServiceStub(channels.get("upf")), TrafficServiceStub(channels.get("upf")))
    finally:
        await channels.close()
        await function.stop()
        await server.stop(0.1)


@pytest.fixture
async def upf() -> AsyncIterator[Upf]:
    async with running_upf() as running:
        yield running


def udp(source: str, destination: str, source_port: int, destination_port: int, ip_length: int) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, ip_length, 0, 0, 64, 17, 0)
    addresses = bytes(map(int, source.split("."))) + bytes(map(int, destination.split(".")))
    ports = struct.pack(">HHHH", source_port, destination_port, ip_length - 20, 0)
    return head + addresses + ports + bytes(ip_length - 28)


def downlink(number: int, *, port: int = 443, ip_length: int = 1000, gap_ns: int = 10**6) -> tuple[int, bytes]:
    return START_NS + number * gap_ns, udp(SERVER, UE, port, 40_000, ip_length)


def capture_of(packets: Iterable[tuple[int, bytes]]) -> bytes:
    stream = io.BytesIO()
    write_header(stream, link_type=101, nanoseconds=True)
    for ts_ns, data in packets:
        stream.write(struct.pack("=IIII", *divmod(ts_ns, 10**9), len(data), len(data)) + data)
    return stream.getvalue()


def session(
    method: EnforcementMethod.ValueType = POLICE, *, cp_seid: int = 7, flows: tuple[str, ...] = ("443",)
) -> n4.Session:
    made = n4.Session(cp_seid=cp_seid, urrs=[n4.Urr(urr_id=1)])
    made.qers.add(
        qer_id=1, mbr_dl_bps=RATE_BPS, mbr_ul_bps=RATE_BPS, burst_dl_bytes=BURST_BYTES, burst_ul_bytes=BURST_BYTES,
        enforcement_method=method,
    )  # fmt: skip
    for number, port in enumerate(flows):
        made.pdrs.extend(pdrs(number, port))
    return made


def pdrs(number: int, port: str) -> list[n4.Pdr]:
    description = n4.SdfFilter(flow_description=f"permit out 17 from {SERVER} {port} to assigned")
    return [
        n4.Pdr(
            pdr_id=2 * number + offset, precedence=10, qer_id=1, urr_id=1,
            pdi=n4.Pdi(source_interface=interface, ue_ip_address=UE, sdf_filters=[description]),
        )
        for offset, interface in ((1, CORE), (2, ACCESS))
    ]  # fmt: skip


def conforming_bytes(packets: Iterable[tuple[int, bytes]]) -> int:
    bucket = TokenBucket(RATE_BPS, BURST_BYTES)
    return sum(len(data) for ts_ns, data in packets if bucket.take(ts_ns, len(data)))


async def test_nothing_is_forwarded_before_resynchronisation_has_ended(upf: Upf) -> None:
    with pytest.raises(FailedPrecondition) as refused:
        await upf.send([downlink(0)])
    assert refused.value.reason == "AWAITING_RESYNCHRONISATION"
    await upf.n4.SetUpAssociation(n4.SetUpAssociationRequest(node_id="smf"))
    assert not (await upf.n4.Heartbeat(n4.HeartbeatRequest())).forwarding
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session()))
    await upf.n4.CompleteResynchronisation(n4.CompleteResynchronisationRequest(node_id="smf"))
    assert (await upf.n4.Heartbeat(n4.HeartbeatRequest())).forwarding
    assert (await upf.send([downlink(0)])).flows[0].volume.conforming.bytes == 1000


async def test_sessions_need_an_association(upf: Upf) -> None:
    for asked in (
        upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session())),
        upf.n4.ModifySession(n4.ModifySessionRequest(cp_seid=7)),
        upf.n4.DeleteSession(n4.DeleteSessionRequest(cp_seid=7)),
        upf.n4.CompleteResynchronisation(n4.CompleteResynchronisationRequest(node_id="smf")),
    ):
        with pytest.raises(FailedPrecondition) as refused:
            await asked
        assert refused.value.reason == "NO_ESTABLISHED_PFCP_ASSOCIATION"


@pytest.mark.parametrize("method", [MONITOR, POLICE])
async def test_a_session_polices_what_an_independent_bucket_polices(
    upf: Upf, method: EnforcementMethod.ValueType
) -> None:
    await upf.associate()
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session(method)))
    packets = [downlink(number, ip_length=100 + number) for number in range(1000)]
    within = conforming_bytes(packets)
    excess = sum(len(data) for _, data in packets) - within
    assert within
    assert excess
    answer = await upf.send(packets)
    (flow,) = answer.flows
    assert (flow.downlink, flow.cp_seid, flow.pdr_id) == (True, 7, 1)
    assert flow.volume.conforming.bytes == within
    assert (flow.volume.exceeding.bytes, flow.volume.dropped.bytes) == (
        (excess, 0) if method == MONITOR else (0, excess)
    )
    passed = list(read_records(memoryview(answer.passed), parse_header(answer.passed[:24], source=""), source=""))
    assert sum(len(record.data) for record in passed) == within + (excess if method == MONITOR else 0)


async def test_uplink_has_its_own_bucket_and_matches_with_the_ends_exchanged(upf: Upf) -> None:
    await upf.associate()
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session()))
    both = []
    for number in range(200):
        both.append(downlink(number))
        both.append((START_NS + number * 10**6, udp(UE, SERVER, 40_000, 443, 500)))
    answer = await upf.send(both)
    volumes = {flow.downlink: flow.volume.conforming.bytes for flow in answer.flows}
    assert volumes == {True: conforming_bytes(both[::2]), False: conforming_bytes(both[1::2])}


async def test_what_no_session_wants_is_not_passed(upf: Upf) -> None:
    await upf.associate()
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session()))
    answer = await upf.send([downlink(0, port=80), (START_NS, udp(SERVER, "10.45.0.3", 443, 40_000, 700))])
    assert (answer.unmatched.packets, answer.unmatched.bytes, len(answer.passed)) == (2, 1700, 24)


async def test_a_bucket_and_its_urr_outlive_the_flows_that_come_and_go(upf: Upf) -> None:
    await upf.associate()
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session(flows=("443", "444"))))
    packets = [downlink(number, port=443 + number % 3) for number in range(300)]
    # The third port opens when the first closes; for a moment no flow is open at all.
    await upf.send(packet for packet in packets[:100] if packet[1][21] != 445 % 256)
    close = n4.ModifySessionRequest(cp_seid=7, remove_pdr_ids=[1, 2, 3, 4], query_urr_ids=[1])
    closed = await upf.n4.ModifySession(close)
    await upf.n4.ModifySession(n4.ModifySessionRequest(cp_seid=7, create_or_update_pdrs=pdrs(2, "445")))
    await upf.send(packet for packet in packets[100:] if packet[1][21] == 445 % 256)
    sent = [p for p in packets[:100] if p[1][21] != 445 % 256] + [p for p in packets[100:] if p[1][21] == 445 % 256]
    deleted = await upf.n4.DeleteSession(n4.DeleteSessionRequest(cp_seid=7))
    (report,) = deleted.usage_reports
    assert report.usage.downlink.offered.bytes == 1000 * len(sent)
    assert report.usage.downlink.conforming.bytes == conforming_bytes(sent)
    (before,) = closed.usage_reports
    assert before.usage.downlink.conforming.bytes == conforming_bytes(sent[: before.usage.downlink.offered.packets])
    assert report.ur_seqn > before.ur_seqn


async def test_a_refused_modification_has_no_effect(upf: Upf) -> None:
    await upf.associate()
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session()))
    bad = pdrs(1, "70000")[0]
    with pytest.raises(InvalidArgument) as refused:
        await upf.n4.ModifySession(
            n4.ModifySessionRequest(cp_seid=7, create_or_update_pdrs=[*pdrs(2, "445"), bad], remove_pdr_ids=[1])
        )
    (violation,) = refused.value.violations
    assert violation.field == "session.pdrs[3].pdi.sdf_filters[0].flow_description"
    assert "column 33" in violation.description
    (kept,) = (await upf.n4.ListSessions(n4.ListSessionsRequest())).sessions
    assert kept == session()
    with pytest.raises(NotFound):
        await upf.n4.ModifySession(n4.ModifySessionRequest(cp_seid=8))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda s: s.pdrs[0].pdi.ClearField("source_interface"), "session.pdrs[0].pdi.source_interface"),
        (lambda s: setattr(s.pdrs[0], "qer_id", 9), "session.pdrs[0].qer_id"),
        (lambda s: setattr(s.pdrs[1], "urr_id", 9), "session.pdrs[1].urr_id"),
        (lambda s: setattr(s.pdrs[1], "pdr_id", 1), "session.pdrs[1].pdr_id"),
        (lambda s: setattr(s.qers[0], "enforcement_method", 9), "session.qers[0].enforcement_method"),
        (lambda s: setattr(s.qers[0], "mbr_dl_bps", 0), "session.qers[0].mbr_dl_bps"),
        (lambda s: setattr(s.qers[0], "burst_ul_bytes", 10), "session.qers[0].burst_ul_bytes"),
        (
            lambda s: setattr(s.pdrs[0].pdi, "ue_ip_address", "2001:db8::/64"),
            "session.pdrs[0].pdi.sdf_filters[0].flow_description",
        ),
        (lambda s: setattr(s, "cp_seid", 0), "session.cp_seid"),
    ],
)
async def test_a_session_that_cannot_be_enforced_is_refused_by_field(upf: Upf, change, field: str) -> None:  # type: ignore[no-untyped-def]
    await upf.associate()
    wrong = session()
    change(wrong)
    with pytest.raises(InvalidArgument) as refused:
        await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=wrong))
    assert [violation.field for violation in refused.value.violations] == [field]
    assert not (await upf.n4.ListSessions(n4.ListSessionsRequest())).sessions


async def test_reports_tell_usage_and_when_the_rate_was_left_and_kept_again(upf: Upf) -> None:
    await upf.associate()
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session(MONITOR)))
    reports = upf.n4.WatchReports(n4.WatchReportsRequest())
    slow = [downlink(number, gap_ns=10**8) for number in range(10)]
    fast = [downlink(10_000 + number, gap_ns=10**5) for number in range(50)]
    slow_again = [downlink(100 + number, gap_ns=10**8) for number in range(30)]
    changes, latest = [], None
    for packets in (slow, fast, slow_again):
        await upf.send(packets)
        total = (latest.usage.downlink.offered.packets if latest else 0) + len(packets)
        while latest is None or latest.usage.downlink.offered.packets < total:
            report = (await reports.read()).report
            changes += report.compliance_reports
            latest = report.usage_reports[0] if report.usage_reports else latest
    first_excess_ns = next(ts for ts, _ in fast[BURST_BYTES // 1000 :])
    assert [(change.compliant, change.source_interface) for change in changes] == [(False, CORE), (True, CORE)]
    assert changes[0].since_ns == first_excess_ns
    assert latest.usage.downlink.conforming.bytes == conforming_bytes(slow + fast + slow_again)
    reports.cancel()


async def test_reports_resume_after_a_sequence_number_of_the_same_run(upf: Upf) -> None:
    await upf.associate()
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session(MONITOR)))
    await upf.send([downlink(0)])
    await upf.send([downlink(1)])
    watch = upf.n4.WatchReports(n4.WatchReportsRequest())
    first = (await watch.read()).report
    watch.cancel()
    again = upf.n4.WatchReports(
        n4.WatchReportsRequest(after_sequence=first.sequence, recovery_time_stamp=first.recovery_time_stamp)
    )
    assert (await again.read()).report.sequence == first.sequence + 1
    again.cancel()
    other_run = upf.n4.WatchReports(n4.WatchReportsRequest(after_sequence=first.sequence))
    assert (await other_run.read()).report.sequence == first.sequence
    other_run.cancel()


async def test_an_smf_that_starts_again_keeps_the_buckets_of_sessions_it_establishes_and_loses_the_others(
    upf: Upf,
) -> None:
    await upf.associate()
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session()))
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session(cp_seid=8)))
    packets = [downlink(number) for number in range(100)]
    await upf.send(packets[:50])
    await upf.n4.SetUpAssociation(n4.SetUpAssociationRequest(node_id="smf"))
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session()))
    await upf.n4.CompleteResynchronisation(n4.CompleteResynchronisationRequest(node_id="smf"))
    assert [s.cp_seid for s in (await upf.n4.ListSessions(n4.ListSessionsRequest())).sessions] == [7]
    await upf.send(packets[50:])
    (report,) = (await upf.n4.DeleteSession(n4.DeleteSessionRequest(cp_seid=7))).usage_reports
    assert report.usage.downlink.conforming.bytes == conforming_bytes(packets)


async def test_a_capture_that_is_cut_says_where_and_what_stood_before_is_measured(upf: Upf) -> None:
    await upf.associate()
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session()))
    whole = capture_of([downlink(0), downlink(1)])

    async def cut() -> AsyncIterator[ReplayRequest]:
        yield ReplayRequest(capture=whole[:-10])

    with pytest.raises(InvalidArgument, match=f"the record at byte {24 + 1016} is cut: 990 of its 1000"):
        await upf.traffic.Replay(cut())
    with pytest.raises(InvalidArgument, match="shorter than the header"):
        await upf.traffic.Replay(iter([ReplayRequest(capture=b"abc")]))
    (report,) = (await upf.n4.DeleteSession(n4.DeleteSessionRequest(cp_seid=7))).usage_reports
    assert report.usage.downlink.offered.bytes == 1000


async def test_rules_change_while_traffic_flows_and_nothing_is_lost(upf: Upf) -> None:
    await upf.associate()
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session(MONITOR)))
    packets = [downlink(number) for number in range(20_000)]
    sending = asyncio.create_task(upf.send(packets, piece_bytes=200_000))
    for number in range(1, 20):
        await upf.n4.ModifySession(
            n4.ModifySessionRequest(cp_seid=7, create_or_update_pdrs=pdrs(number, f"{500 + number}"))
        )
    answer = await sending
    assert answer.unmatched.packets == 0
    (report,) = (await upf.n4.DeleteSession(n4.DeleteSessionRequest(cp_seid=7))).usage_reports
    assert report.usage.downlink.offered.packets == 20_000
    assert report.usage.downlink.conforming.bytes == conforming_bytes(packets)


async def test_sessions_are_listed_page_by_page(upf: Upf) -> None:
    await upf.associate()
    for cp_seid in range(1, 6):
        await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session(cp_seid=cp_seid)))
    seen, token = [], ""
    while True:
        page = await upf.n4.ListSessions(n4.ListSessionsRequest(page_size=2, page_token=token))
        seen.append([s.cp_seid for s in page.sessions])
        if not (token := page.next_page_token):
            break
    assert seen == [[1, 2], [3, 4], [5]]


async def test_a_flow_whose_rule_goes_while_the_capture_runs_keeps_its_account(upf: Upf) -> None:
    await upf.associate()
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session()))
    packets = [downlink(number) for number in range(100)]
    treated, removed = asyncio.Event(), asyncio.Event()

    async def pieces() -> AsyncIterator[ReplayRequest]:
        yield ReplayRequest(capture=capture_of(packets))
        treated.set()
        await removed.wait()

    sending = asyncio.ensure_future(upf.traffic.Replay(pieces()))
    await treated.wait()
    usage = Usage()
    while usage.downlink.offered.packets < len(packets):
        answer = await upf.n4.ModifySession(n4.ModifySessionRequest(cp_seid=7, query_urr_ids=[1]))
        usage = answer.usage_reports[0].usage
    await upf.n4.ModifySession(n4.ModifySessionRequest(cp_seid=7, remove_pdr_ids=[1, 2]))
    removed.set()
    (flow,) = (await sending).flows
    assert (flow.cp_seid, flow.pdr_id) == (7, 1)
    assert flow.volume.conforming.bytes == conforming_bytes(packets)
    assert flow.volume.dropped.bytes == 100_000 - conforming_bytes(packets)


async def test_a_sender_that_hangs_up_leaves_the_user_plane_to_the_others(upf: Upf) -> None:
    await upf.associate()
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=session()))
    begun = asyncio.Event()

    async def half() -> AsyncIterator[ReplayRequest]:
        yield ReplayRequest(capture=capture_of(downlink(number, ip_length=100) for number in range(30_000)))
        begun.set()
        await asyncio.Event().wait()

    sending = asyncio.ensure_future(upf.traffic.Replay(half()))
    await begun.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    answer = await upf.send([downlink(50_000)])
    assert answer.flows[0].volume.conforming.bytes == 1000


def small_session(number: int) -> n4.Session:
    """Two flows of one server, both ways, for the UE of that number."""
    made = n4.Session(cp_seid=number + 1, urrs=[n4.Urr(urr_id=1)])
    made.qers.add(qer_id=1, mbr_dl_bps=RATE_BPS, mbr_ul_bps=RATE_BPS)
    for flow, port in enumerate((443, 5004)):
        made.pdrs.extend(pdrs(flow, str(port)))
    for pdr in made.pdrs:
        pdr.pdi.ue_ip_address = ue_of(number)
    return made


def ue_of(number: int) -> str:
    return f"10.46.{number >> 8}.{number & 255}"


async def test_two_thousand_sessions_with_four_pdrs_each_are_told_apart(upf: Upf) -> None:
    await upf.associate()
    for first in range(0, 2_000, 200):
        await asyncio.gather(
            *(
                upf.n4.EstablishSession(n4.EstablishSessionRequest(session=small_session(number)))
                for number in range(first, first + 200)
            )
        )
    page = await upf.n4.ListSessions(n4.ListSessionsRequest(page_size=1_000))
    left = await upf.n4.ListSessions(n4.ListSessionsRequest(page_size=1_000, page_token=page.next_page_token))
    assert [each.cp_seid for each in (*page.sessions, *left.sessions)] == list(range(1, 2_001))
    assert not left.next_page_token
    chosen = [0, 255, 256, 1_999]
    await upf.n4.DeleteSession(n4.DeleteSessionRequest(cp_seid=256))
    answer = await upf.send(
        [
            (START_NS + at, udp(SERVER, ue_of(number), port, 9, 100))
            for at, number in enumerate(chosen)
            for port in (443, 5004)
        ]
    )
    assert {(flow.dst_ip, flow.src_port): (flow.cp_seid, flow.pdr_id) for flow in answer.flows} == {
        (ue_of(number), port): ((number + 1, pdr_id) if number != 255 else (0, 0))
        for number in chosen
        for port, pdr_id in ((443, 1), (5004, 3))
    }


async def test_a_session_may_ask_for_the_traffic_class_of_either_family(upf: Upf) -> None:
    await upf.associate()
    made = n4.Session(cp_seid=7)
    made.pdrs.add(pdr_id=1, precedence=1).pdi.CopyFrom(
        n4.Pdi(
            source_interface=CORE, ue_ip_address=UE, ue_ipv6_prefix="2001:db8:45::",
            sdf_filters=[n4.SdfFilter(tos_traffic_class=0xB8, tos_traffic_class_mask=0xFC, sdf_filter_id=1)],
        )
    )  # fmt: skip
    made.pdrs.add(pdr_id=2, precedence=2).pdi.CopyFrom(n4.Pdi(source_interface=CORE, ue_ip_address=UE))
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=made))
    plain = udp(SERVER, UE, 443, 9, 100)
    marked = plain[:1] + b"\xb9" + plain[2:]
    marked6 = struct.pack(">IHBB", 6 << 28 | 0xB9 << 20, 8, 17, 64) + bytes.fromhex(
        "20010db8000a0000000000000000000720010db80045000000000000000000090050000900080000"
    )
    answer = await upf.send([(START_NS, plain), (START_NS, marked), (START_NS, marked6)])
    assert sorted((flow.dst_ip, flow.pdr_id) for flow in answer.flows) == [(UE, 1), (UE, 2), ("2001:db8:45::9", 1)]


def one_rule(*qers: n4.Qer, **names: object) -> n4.Session:
    """A session whose downlink is one PDR that names these QERs."""
    made = n4.Session(cp_seid=7, qers=qers, urrs=[n4.Urr(urr_id=1)])
    pdi = n4.Pdi(source_interface=CORE, ue_ip_address=UE)
    made.pdrs.append(n4.Pdr(pdr_id=1, precedence=1, pdi=pdi, urr_id=1, **names))  # type: ignore[arg-type]
    return made


async def passed_of(upf: Upf, made: n4.Session, sent: list[tuple[int, bytes]]) -> tuple[list[tuple[int, bytes]], Usage]:
    """The packets that pass and their times, and the session's usage."""
    await upf.associate()
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=made))
    answer = await upf.send(sent)
    capture_format = parse_header(answer.passed[:24], source="passed")
    records = read_records(memoryview(answer.passed), capture_format, source="passed")
    passed = [(record.ts_ns, bytes(record.data)) for record in records]
    (report,) = (await upf.n4.DeleteSession(n4.DeleteSessionRequest(cp_seid=7))).usage_reports
    return passed, report.usage


async def test_a_closed_gate_drops_everything_and_the_uplink_stays_open(upf: Upf) -> None:
    closed = n4.Qer(qer_id=1, gate_status_dl=n4.GATE_STATUS_CLOSED)
    passed, usage = await passed_of(upf, one_rule(closed, qer_id=1), [downlink(0), downlink(1)])
    assert passed == []
    assert (usage.downlink.dropped.packets, usage.downlink.offered.packets) == (2, 2)


async def test_a_session_s_ambr_bounds_what_its_flows_pass_together(upf: Upf) -> None:
    flow = {"mbr_dl_bps": 8_000, "burst_dl_bytes": 3_000}
    ambr = n4.Qer(qer_id=9, mbr_dl_bps=8_000, burst_dl_bytes=4_000)
    made = n4.Session(cp_seid=7, qers=[n4.Qer(qer_id=1, **flow), n4.Qer(qer_id=2, **flow), ambr])  # type: ignore[arg-type]
    made.urrs.add(urr_id=1)
    for number, port in ((1, 443), (2, 444)):
        sdf = n4.SdfFilter(flow_description=f"permit out 17 from {SERVER} {port} to assigned")
        pdi = n4.Pdi(source_interface=CORE, ue_ip_address=UE, sdf_filters=[sdf])
        made.pdrs.append(n4.Pdr(pdr_id=number, precedence=1, pdi=pdi, qer_id=number, further_qer_ids=[9], urr_id=1))
    passed, usage = await passed_of(
        upf, made, [downlink(number, port=port, gap_ns=1) for number in range(4) for port in (443, 444)]
    )
    # Each flow may send three packets at once, the session four.
    assert [data[21] for _, data in passed] == [0xBB, 0xBC, 0xBB, 0xBC]
    assert (usage.downlink.conforming.packets, usage.downlink.dropped.packets) == (4, 4)


async def test_what_is_above_the_guaranteed_rate_and_within_the_maximum_one_passes(upf: Upf) -> None:
    guaranteed = n4.Qer(qer_id=1, gbr_dl_bps=8_000, mbr_dl_bps=16_000, burst_dl_bytes=2_000)
    passed, usage = await passed_of(upf, one_rule(guaranteed, qer_id=1), [downlink(n, gap_ns=1) for n in range(4)])
    assert len(passed) == 2
    assert (usage.downlink.conforming.packets, usage.downlink.dropped.packets) == (2, 2)


async def test_marking_passes_everything_with_the_dscp_of_its_colour(upf: Upf) -> None:
    marking = n4.Qer(
        qer_id=1, mbr_dl_bps=8_000, burst_dl_bytes=2_000, dscp_green=10, dscp_red=14,
        enforcement_method=EnforcementMethod.ENFORCEMENT_METHOD_MARK,
    )  # fmt: skip
    passed, usage = await passed_of(upf, one_rule(marking, qer_id=1), [downlink(n, gap_ns=1) for n in range(3)])
    assert [data[1] >> 2 for _, data in passed] == [10, 10, 14]
    assert (usage.downlink.conforming.packets, usage.downlink.exceeding.packets) == (2, 1)


async def test_shaping_delays_what_exceeds_the_rate_and_drops_what_its_queue_has_no_room_for(upf: Upf) -> None:
    shaping = n4.Qer(
        qer_id=1, mbr_dl_bps=8_000, burst_dl_bytes=1_000, queue_dl_bytes=2_000,
        enforcement_method=EnforcementMethod.ENFORCEMENT_METHOD_SHAPE,
    )  # fmt: skip
    passed, usage = await passed_of(upf, one_rule(shaping, qer_id=1), [downlink(0, gap_ns=1) for _ in range(4)])
    assert [ts_ns - START_NS for ts_ns, _ in passed] == [0, 10**9, 2 * 10**9]
    assert (usage.downlink.dropped.packets, usage.downlink.offered.packets) == (1, 4)


async def test_a_filter_described_for_the_downlink_serves_the_uplink_by_its_identifier(upf: Upf) -> None:
    await upf.associate()
    made = n4.Session(cp_seid=7)
    described = n4.SdfFilter(flow_description=f"permit out 17 from {SERVER} 443 to assigned", sdf_filter_id=4)
    for number, interface, sdf in ((1, CORE, described), (2, ACCESS, n4.SdfFilter(sdf_filter_id=4))):
        pdi = n4.Pdi(source_interface=interface, ue_ip_address=UE, sdf_filters=[sdf])
        made.pdrs.append(n4.Pdr(pdr_id=number, precedence=1, pdi=pdi))
    await upf.n4.EstablishSession(n4.EstablishSessionRequest(session=made))
    answer = await upf.send(
        [
            (START_NS, udp(SERVER, UE, 443, 9, 100)),
            (START_NS, udp(UE, SERVER, 9, 443, 100)),
            (START_NS, udp(UE, SERVER, 9, 444, 100)),
        ]
    )
    assert sorted((flow.dst_port, flow.pdr_id, flow.downlink) for flow in answer.flows) == [
        (9, 1, True), (443, 2, False), (444, 0, False),
    ]  # fmt: skip
