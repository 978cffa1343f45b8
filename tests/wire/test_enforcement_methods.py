"""PCF, SMF and the real UPF: what marking, shaping and guarantees make of packets, exact to the byte."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import captures
import pytest
from captures import Captured, ipv4, ports
from control_plane import UE, VIDEO, ControlPlane, app_session, running

from nf.common.errors import PermissionDenied
from nf.common.v1.types_pb2 import EnforcementMethod
from nf.pcf.v1 import operator_policies_pb2 as op
from nf.pcf.v1 import policy_authorization_pb2 as n5
from upf.capture import parse_header, read_records
from upf.policing import TokenBucket
from upf.traffic.v1.traffic_pb2 import ReplayRequest, ReplayResponse
from upf.traffic.v1.traffic_pb2_grpc import TrafficServiceStub

SERVER = "198.51.100.7"
RATE_BPS, BURST_BYTES = 1_000_000, 15_000
MARK, SHAPE = EnforcementMethod.ENFORCEMENT_METHOD_MARK, EnforcementMethod.ENFORCEMENT_METHOD_SHAPE


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with running(tmp_path, real_upf=True) as plane:
        yield plane


async def lay_down_policy(plane: ControlPlane, **changes: object) -> None:
    policy = op.OperatorPolicy(operator_policy_id="p", threshold_dl_bps=RATE_BPS, burst_bytes=BURST_BYTES, **changes)
    await plane.operator.CreateOperatorPolicy(op.CreateOperatorPolicyRequest(operator_policy=policy))


def video(number: int, *, seed: int) -> list[Captured]:
    draw = random.Random(seed)
    now_ns = captures.START_NS + seed * 3600 * captures.SECOND_NS
    made = []
    for _ in range(number):
        now_ns += draw.randrange(2_000_000, 8_000_000)
        packet = ipv4(SERVER, UE, captures.UDP, ports(443, 40_000, draw.randrange(64, 1400)))
        made.append(Captured(now_ns, packet, len(packet)))
    return made


async def send(plane: ControlPlane, packets: list[Captured]) -> ReplayResponse:
    async def pieces() -> AsyncIterator[ReplayRequest]:
        capture = captures.pcap(packets, link_type=captures.RAW, nanoseconds=True)
        yield ReplayRequest(capture=capture, return_passed=True)

    return await TrafficServiceStub(plane.channel("upf")).Replay(pieces())


def passed_of(response: ReplayResponse) -> list[bytes]:
    capture_format = parse_header(response.passed[:24], source="passed")
    records = read_records(memoryview(response.passed), capture_format, source="passed")
    return [bytes(record.data) for record in records]


@pytest.mark.clause("TS 26.512 A.3.1")
@pytest.mark.parametrize("spared", [False, True])
async def test_marked_everything_passes_with_the_dscp_of_its_colour(plane: ControlPlane, spared: bool) -> None:
    excess = op.EXCESS_TREATMENT_ZERO_RATE if spared else op.EXCESS_TREATMENT_CHARGE
    await lay_down_policy(plane, enforcement_method=MARK, dscp_green=18, dscp_red=10, excess=excess)
    await plane.attach()
    session = await plane.authorize()
    assert session.asc_resp_data.enforcement.enforcement_method == MARK
    packets = video(600, seed=1)
    bucket = TokenBucket(RATE_BPS, BURST_BYTES)
    conforming = [bucket.take(packet.ts_ns, packet.wire_length) for packet in packets]
    assert 0 < sum(conforming) < len(packets)
    passed = passed_of(await send(plane, packets))
    assert [data[1] >> 2 for data in passed] == [18 if kept else 10 for kept in conforming]
    within = sum(packet.wire_length for packet, kept in zip(packets, conforming, strict=True) if kept)
    beyond = sum(packet.wire_length for packet in packets) - within
    await plane.accounted(zero_rated=within + beyond * spared, charged=beyond * (not spared))


@pytest.mark.clause("TS 26.512 A.3.1")
async def test_shaped_what_the_queue_holds_passes_later_and_is_zero_rated(plane: ControlPlane) -> None:
    queue_bytes = 20_000
    await lay_down_policy(plane, enforcement_method=SHAPE, queue_bytes=queue_bytes)
    await plane.attach()
    await plane.authorize()
    packets = video(600, seed=2)
    # In bit-nanoseconds, exact: what is owed may be as much as the queue holds.
    tokens, last_ns, passed, dropped = BURST_BYTES * 8 * 10**9, packets[0].ts_ns, 0, 0
    for packet in packets:
        tokens = min(BURST_BYTES * 8 * 10**9, tokens + RATE_BPS * (packet.ts_ns - last_ns))
        last_ns, cost = packet.ts_ns, packet.wire_length * 8 * 10**9
        if tokens - cost >= -queue_bytes * 8 * 10**9:
            tokens, passed = tokens - cost, passed + packet.wire_length
        else:
            dropped += packet.wire_length
    assert min(passed, dropped) > 10_000
    response = await send(plane, packets)
    assert sum(len(data) for data in passed_of(response)) == passed
    await plane.accounted(zero_rated=passed, charged=0)
    (entry,) = await plane.ledger()
    assert entry.dropped_bytes == dropped
    # A full queue is what congestion looks like from here.
    _, told = await plane.notification("QOS_NOTIF")
    assert not told.compliant


@pytest.mark.clause("TS 29.514 §4.2.2.2")
async def test_what_is_guaranteed_is_marked_apart_and_admitted_while_it_fits(plane: ControlPlane) -> None:
    await lay_down_policy(
        plane,
        enforcement_method=MARK,
        dscp_green=18,
        dscp_yellow=20,
        dscp_red=10,
        guaranteed=True,
        guaranteed_total_dl_bps=500_000,
    )
    await plane.attach()
    wanted = app_session("s")
    wanted.asc_req_data.med_components[0].mir_bw_dl_bps = 300_000
    made = await plane.n5.CreateAppSession(n5.CreateAppSessionRequest(app_session=wanted))
    assert made.app_session.asc_resp_data.enforcement.guaranteed_bit_rate_dl_bps == 300_000
    passed = passed_of(await send(plane, video(600, seed=3)))
    assert {data[1] >> 2 for data in passed} == {18, 20, 10}

    second = app_session("t", VIDEO + " 1-1000")
    second.asc_req_data.med_components[0].mir_bw_dl_bps = 300_000
    with pytest.raises(PermissionDenied) as refusal:
        await plane.n5.CreateAppSession(n5.CreateAppSessionRequest(app_session=second))
    assert refusal.value.cause == "REQUESTED_SERVICE_TEMPORARILY_NOT_AUTHORIZED"
    assert refusal.value.metadata["free_bps"] == "200000"
    assert set(await plane.app_sessions()) == {"s"}
    second.asc_req_data.med_components[0].mir_bw_dl_bps = 200_000
    await plane.n5.CreateAppSession(n5.CreateAppSessionRequest(app_session=second))
    # Less needs no room; more than there is is refused, and what was in force still is.
    for needed_bps, granted in ((100_000, True), (400_000, False)):
        wanted.asc_req_data.med_components[0].mir_bw_dl_bps = needed_bps
        update = n5.UpdateAppSessionRequest(app_session_id="s", asc_req_data=wanted.asc_req_data)
        if granted:
            await plane.n5.UpdateAppSession(update)
        else:
            with pytest.raises(PermissionDenied, match="cannot be guaranteed"):
                await plane.n5.UpdateAppSession(update)
    known = await plane.n5.GetAppSession(n5.GetAppSessionRequest(app_session_id="s"))
    assert known.app_session.asc_resp_data.enforcement.guaranteed_bit_rate_dl_bps == 100_000


async def test_the_ledger_of_marked_and_shaped_sessions_outlives_every_restart(plane: ControlPlane) -> None:
    await lay_down_policy(plane, enforcement_method=MARK, dscp_red=10)
    await plane.attach()
    await plane.authorize()
    within = beyond = 0
    for seed, restarted in ((4, "smf"), (5, "pcf"), (6, "upf"), (7, "")):
        packets = video(200, seed=seed)
        bucket = TokenBucket(RATE_BPS, BURST_BYTES)
        for packet in packets:
            kept = bucket.take(packet.ts_ns, packet.wire_length)
            within, beyond = within + packet.wire_length * kept, beyond + packet.wire_length * (not kept)
        await send(plane, packets)
        await plane.accounted(zero_rated=within, charged=beyond)
        if restarted:
            await plane.lay_down(restarted)
            await plane.take_up(restarted)
        if restarted == "upf":
            wider = app_session("s", VIDEO + " 1-65535").asc_req_data
            await plane.n5.UpdateAppSession(n5.UpdateAppSessionRequest(app_session_id="s", asc_req_data=wider))
    # From now on, in the same account, the excess waits instead of being charged.
    shape = op.OperatorPolicy(
        operator_policy_id="p", threshold_dl_bps=RATE_BPS, burst_bytes=BURST_BYTES, enforcement_method=SHAPE
    )
    await plane.operator.UpdateOperatorPolicy(op.UpdateOperatorPolicyRequest(operator_policy=shape))
    response = await send(plane, video(200, seed=8))
    passed = sum(len(data) for data in passed_of(response))
    await plane.accounted(zero_rated=within + passed, charged=beyond)
