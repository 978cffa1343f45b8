"""PCF, SMF and the real UPF: every byte that a capture offers is rated once, as an independent bucket says."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import captures
import pytest
from captures import Captured, ipv4, ports
from control_plane import UE, VIDEO, ControlPlane, app_session, running

from nf.common.errors import InvalidArgument
from nf.common.v1.types_pb2 import EnforcementMethod
from nf.pcf.v1 import operator_policies_pb2 as op
from nf.pcf.v1 import policy_authorization_pb2 as n5
from upf.policing import TokenBucket
from upf.traffic.v1.traffic_pb2 import ReplayRequest, ReplayResponse
from upf.traffic.v1.traffic_pb2_grpc import TrafficServiceStub

SERVER = "198.51.100.7"
RATE_BPS, BURST_BYTES = 1_000_000, 15_000
POLICE = EnforcementMethod.ENFORCEMENT_METHOD_POLICE


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with running(tmp_path, real_upf=True) as plane:
        yield plane


def video(number: int, *, seed: int) -> list[Captured]:
    """So many downlink packets of the video flow, faster than the threshold."""
    draw = random.Random(seed)
    now_ns = captures.START_NS + seed * 3600 * captures.SECOND_NS
    made = []
    for _ in range(number):
        now_ns += draw.randrange(2_000_000, 8_000_000)
        packet = ipv4(SERVER, UE, captures.UDP, ports(443, 40_000, draw.randrange(64, 1400)))
        made.append(Captured(now_ns, packet, len(packet)))
    return made


def judged(packets: Iterable[Captured]) -> tuple[int, int]:
    """Bytes that conform and bytes that exceed, by an independent bucket."""
    bucket = TokenBucket(RATE_BPS, BURST_BYTES)
    conforming = exceeding = 0
    for packet in packets:
        if bucket.take(packet.ts_ns, packet.wire_length):
            conforming += packet.wire_length
        else:
            exceeding += packet.wire_length
    return conforming, exceeding


async def send(plane: ControlPlane, packets: list[Captured]) -> ReplayResponse:
    async def pieces() -> AsyncIterator[ReplayRequest]:
        yield ReplayRequest(
            capture=captures.pcap(packets, link_type=captures.RAW, nanoseconds=True), return_passed=True
        )

    return await TrafficServiceStub(plane.channel("upf")).Replay(pieces())


async def threshold(plane: ControlPlane, **changes: object) -> None:
    policy = op.OperatorPolicy(operator_policy_id="p", threshold_dl_bps=RATE_BPS, burst_bytes=BURST_BYTES, **changes)
    await plane.operator.CreateOperatorPolicy(op.CreateOperatorPolicyRequest(operator_policy=policy))


@pytest.mark.clause("TS 26.512 A.3.1")
async def test_monitored_everything_passes_and_the_excess_is_charged(plane: ControlPlane) -> None:
    await threshold(plane)
    await plane.attach()
    await plane.authorize()
    packets = video(2000, seed=1)
    conforming, exceeding = judged(packets)
    assert conforming > 0
    assert exceeding > 0
    await send(plane, packets)
    notification = await plane.accounted(zero_rated=conforming, charged=exceeding)
    assert notification.usage.downlink.offered.bytes == conforming + exceeding
    assert notification.usage.downlink.dropped.bytes == 0
    _, told = await plane.notification("QOS_NOTIF")
    assert not told.compliant
    assert captures.START_NS < told.since_ns <= packets[-1].ts_ns


@pytest.mark.clause("TS 26.512 A.3.1")
async def test_policed_the_excess_is_dropped_and_nothing_charged(plane: ControlPlane) -> None:
    await threshold(plane, enforcement_method=POLICE)
    await plane.attach()
    await plane.authorize()
    packets = video(2000, seed=2)
    conforming, exceeding = judged(packets)
    await send(plane, packets)
    await plane.accounted(zero_rated=conforming, charged=0)
    (entry,) = await plane.ledger()
    assert (entry.zero_rated_bytes, entry.charged_bytes, entry.dropped_bytes) == (conforming, 0, exceeding)


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
async def test_a_bucket_outlives_the_closing_of_every_flow(plane: ControlPlane) -> None:
    await threshold(plane)
    await plane.attach()
    await plane.authorize()
    packets = video(600, seed=7)
    conforming, exceeding = judged(packets)
    await send(plane, packets[:300])
    closed = app_session("s")
    del closed.asc_req_data.med_components[0].med_sub_comps[:]
    for content in (closed, app_session("s")):
        request = n5.UpdateAppSessionRequest(app_session_id="s", asc_req_data=content.asc_req_data)
        await plane.n5.UpdateAppSession(request)
    await send(plane, packets[300:])
    await plane.accounted(zero_rated=conforming, charged=exceeding)


async def test_the_ledger_is_exact_over_restarts_of_smf_and_upf(plane: ControlPlane) -> None:
    await threshold(plane)
    await plane.attach()
    await plane.authorize()
    conforming = exceeding = 0
    for seed, restarted in ((3, "smf"), (4, "pcf"), (5, "upf"), (6, "")):
        packets = video(500, seed=seed)
        within, beyond = judged(packets)
        conforming, exceeding = conforming + within, exceeding + beyond
        await send(plane, packets)
        await plane.accounted(zero_rated=conforming, charged=exceeding)
        if restarted:
            await plane.lay_down(restarted)
            await plane.take_up(restarted)
        if restarted == "upf":
            # Answered only when the UPF has its sessions again.
            update = n5.UpdateAppSessionRequest(
                app_session_id="s", asc_req_data=app_session("s", VIDEO + " 1-65535").asc_req_data
            )
            await plane.n5.UpdateAppSession(update)
    answer = await plane.n5.DeleteAppSession(n5.DeleteAppSessionRequest(app_session_id="s"))
    assert (answer.final_usage.zero_rated_bytes, answer.final_usage.charged_bytes) == (conforming, exceeding)


async def test_what_the_upf_does_not_understand_comes_back_in_its_words(plane: ControlPlane) -> None:
    await plane.attach()
    with pytest.raises(InvalidArgument) as refusal:
        await plane.authorize("s", f"permit out 17 from {SERVER} 70000 to {UE}")
    assert "expected" in refusal.value.violations[0].description
    assert "70000" in refusal.value.violations[0].description
    assert await plane.app_sessions() == {}


async def set_status(plane: ControlPlane, status: n5.FlowStatus.ValueType) -> None:
    wanted = app_session("s")
    wanted.asc_req_data.med_components[0].med_sub_comps[0].f_status = status
    await plane.n5.UpdateAppSession(n5.UpdateAppSessionRequest(app_session_id="s", asc_req_data=wanted.asc_req_data))


@pytest.mark.clause("TS 29.514 §4.2.3.2")
@pytest.mark.parametrize(
    ("status", "downlink_passes", "uplink_passes"),
    [
        ("DISABLED", False, False),
        ("ENABLED_UPLINK", False, True),
        ("ENABLED_DOWNLINK", True, False),
        ("ENABLED", True, True),
    ],
)
async def test_what_is_not_enabled_is_dropped_and_exceeds_nothing(
    plane: ControlPlane, status: str, downlink_passes: bool, uplink_passes: bool
) -> None:
    await plane.attach()
    await plane.authorize()
    await set_status(plane, n5.FlowStatus.Value(f"FLOW_STATUS_{status}"))
    down = ipv4(SERVER, UE, captures.UDP, ports(443, 40_000, 100))
    up = ipv4(UE, SERVER, captures.UDP, ports(40_000, 443, 200))
    response = await send(plane, [Captured(captures.START_NS, each, len(each)) for each in (down, up)])
    assert [each in response.passed for each in (down, up)] == [downlink_passes, uplink_passes]
    passed = len(down) * downlink_passes + len(up) * uplink_passes
    assert (await plane.notification("USAGE_REPORT"))[1].zero_rated_bytes == passed
    (entry,) = await plane.ledger()
    assert (entry.charged_bytes, entry.dropped_bytes) == (0, len(down) + len(up) - passed)
    assert "QOS_NOTIF" not in [event.type for event in await plane.events("pcf", lambda seen: len(seen) > 2)]
    # The same flow again, in the same bucket, with the same counters.
    await set_status(plane, n5.FlowStatus.FLOW_STATUS_ENABLED)
    await send(plane, [Captured(captures.START_NS + captures.SECOND_NS, down, len(down))])
    await plane.ledger_of(zero_rated=passed + len(down))


@pytest.mark.clause("TS 29.512 §5.6.2.6")
@pytest.mark.parametrize("first", ["general", "specific"])
async def test_the_more_specific_flow_goes_first_whichever_came_first(plane: ControlPlane, first: str) -> None:
    await plane.attach()
    flows = {
        "general": f"permit out ip from {SERVER} to {UE}",
        "specific": f"permit out 17 from {SERVER} 443 to {UE} 40000",
    }
    for name in sorted(flows, key=lambda name: name != first):
        await plane.authorize(name, flows[name])
    packets = [ipv4(SERVER, UE, captures.UDP, ports(443, port, 100)) for port in (40_000, 40_001, 40_001)]
    await send(plane, [Captured(captures.START_NS, packet, len(packet)) for packet in packets])
    for name, number in (("specific", 1), ("general", 2)):
        await plane.accounted(zero_rated=number * 120, charged=0, app_session_id=name)
