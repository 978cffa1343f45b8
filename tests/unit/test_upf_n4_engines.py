"""Sessions in the engines of live traffic: each rule in that of its direction, a change in both or in neither."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from nf.common.clock import SystemClock
from nf.common.errors import InvalidArgument
from upf.capture import CaptureFormat
from upf.engine import Engine
from upf.errors import UpfError
from upf.n4.engines import engine_under_smf, for_live_traffic
from upf.n4.user_plane import UserPlane
from upf.n4.v1 import n4_pb2 as n4
from upf.rules import Rule

CORE, ACCESS = n4.SOURCE_INTERFACE_CORE, n4.SOURCE_INTERFACE_ACCESS
RAW_IP = CaptureFormat(swapped=False, nanoseconds=True, link_type=101, snaplen=262_144)
UE, SERVER = bytes([10, 45, 0, 2]), bytes([198, 51, 100, 7])
LENGTH = 100


def packets(source: bytes, destination: bytes, count: int, *, gap_us: int = 1_000) -> bytes:
    """Records of a capture."""
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, LENGTH, 0, 0, 64, 17, 0, source, destination)
    data = ip + struct.pack(">HHHH", 443, 443, LENGTH - 20, 0) + bytes(LENGTH - 28)
    return b"".join(
        struct.pack("=IIII", 1_700_000_000, at * gap_us * 1_000, LENGTH, LENGTH) + data for at in range(count)
    )


def send(engine: Engine, source: bytes, destination: bytes, count: int = 1) -> None:
    engine.run(packets(source, destination, count), RAW_IP, offset=0, max_packets=count)


def down(engine: Engine, count: int = 1) -> None:
    send(engine, SERVER, UE, count)


def up(engine: Engine, count: int = 1) -> None:
    send(engine, UE, SERVER, count)


class Driven(Engine):
    """An engine to which something happens right before a change of its rules."""

    before_update: Callable[[], object] = staticmethod(lambda: None)

    def update(self, *, add: Iterable[Rule] = (), remove: Iterable[str] = ()) -> None:
        self.before_update()
        super().update(add=add, remove=remove)


@dataclass
class Live:
    uplink: Driven = field(default_factory=lambda: Driven(pass_unmatched=False))
    downlink: Driven = field(default_factory=lambda: Driven(pass_unmatched=False))

    def __post_init__(self) -> None:
        engines = for_live_traffic(uplink=self.uplink, downlink=self.downlink)
        self.user_plane = UserPlane(SystemClock(), engines)

    def rules(self) -> tuple[list[str], list[str]]:
        return list(self.uplink.rule_counters()), list(self.downlink.rule_counters())

    async def usage(self, **more: object) -> tuple[int, int]:
        """Packets (uplink, downlink) that the URR has counted, as a modification reports them."""
        (report,) = await self.user_plane.modify(n4.ModifySessionRequest(cp_seid=7, query_urr_ids=[1], **more))
        return report.usage.uplink.offered.packets, report.usage.downlink.offered.packets


@pytest.fixture
async def live() -> Live:
    made = Live()
    await made.user_plane.set_up_association()
    return made


def pdr(pdr_id: int, interface: n4.SourceInterface.ValueType, *, qer_id: int = 1) -> n4.Pdr:
    pdi = n4.Pdi(source_interface=interface, ue_ip_address="10.45.0.2")
    return n4.Pdr(pdr_id=pdr_id, precedence=10, pdi=pdi, qer_id=qer_id, urr_id=1)


def session(*pdrs: n4.Pdr, mbr_bps: int = 1_000_000) -> n4.Session:
    made = n4.Session(cp_seid=7, pdrs=pdrs or (pdr(1, CORE), pdr(2, ACCESS)), urrs=[n4.Urr(urr_id=1)])
    made.qers.add(qer_id=1, mbr_dl_bps=mbr_bps, mbr_ul_bps=mbr_bps)
    return made


@pytest.mark.clause("TS 29.244 §8.2.2 Source Interface")
async def test_a_rule_is_installed_where_its_packets_come_from(live: Live) -> None:
    await live.user_plane.establish(session())
    assert live.rules() == (["7/qer/1/uplink", "7/2"], ["7/qer/1/downlink", "7/1"])
    up(live.uplink, 2)
    down(live.downlink, 3)
    # What goes the other way is no packet of theirs.
    down(live.uplink)
    up(live.downlink)
    assert await live.usage() == (2, 3)
    await live.user_plane.delete(7)
    assert live.rules() == ([], [])


async def test_what_no_rule_wants_does_not_pass_under_an_smf() -> None:
    engine, passed = engine_under_smf(1000), bytearray()
    engine.run(packets(UE, SERVER, 3), RAW_IP, offset=0, max_packets=3, emit=passed.extend)
    engine.finish(emit=passed.extend)
    assert (engine.totals().unmatched_packets, passed) == (3, b"")


@pytest.mark.parametrize(("given_bytes", "depth_bytes"), [(0, 31_250), (50_000, 50_000)])
async def test_a_bucket_of_live_traffic_is_250_ms_deep_unless_its_qer_says_otherwise(
    live: Live, given_bytes: int, depth_bytes: int
) -> None:
    made = session(mbr_bps=1_000_000)
    made.qers[0].burst_dl_bytes = given_bytes
    await live.user_plane.establish(made)
    live.downlink.run(packets(SERVER, UE, 1_000, gap_us=0), RAW_IP, offset=0, max_packets=1_000)
    (report,) = await live.user_plane.delete(7)
    assert report.usage.downlink.conforming.packets == depth_bytes // LENGTH


async def test_a_change_that_one_engine_refuses_is_made_in_none(live: Live) -> None:
    await live.user_plane.establish(session())
    up(live.uplink, 4)
    down(live.downlink, 5)
    before = live.rules()

    def refuse() -> None:
        raise UpfError("no room")

    live.downlink.before_update = refuse
    changed = session(pdr(2, CORE), pdr(3, ACCESS), mbr_bps=64_000)
    with pytest.raises(InvalidArgument, match="session 7: the rules cannot be enforced: no room"):
        await live.user_plane.establish(changed)
    with pytest.raises(InvalidArgument, match="no room"):
        await live.user_plane.delete(7)
    assert live.rules() == before
    del live.downlink.before_update
    up(live.uplink, 6)
    down(live.downlink, 7)
    assert await live.usage() == (10, 12)
    assert live.user_plane.sessions() == [session()]


async def test_what_a_rule_counts_until_its_removal_is_reported(live: Live) -> None:
    await live.user_plane.establish(session())
    live.uplink.before_update = lambda: up(live.uplink, 2)
    live.downlink.before_update = lambda: down(live.downlink, 3)
    # The second change, that takes the rules out at last, comes too late for them to count anything.
    assert await live.usage(remove_pdr_ids=[1, 2]) == (2, 3)
    assert live.uplink.totals().unmatched_packets == 2
    assert live.downlink.totals().unmatched_packets == 3


async def test_a_rule_that_stays_keeps_counting_through_every_change(live: Live) -> None:
    await live.user_plane.establish(session())
    live.uplink.before_update = lambda: up(live.uplink, 2)
    live.downlink.before_update = lambda: down(live.downlink, 3)
    for at in range(10):
        extra = [pdr(10 + at, CORE), pdr(30 + at, ACCESS)]
        await live.user_plane.modify(n4.ModifySessionRequest(cp_seid=7, create_or_update_pdrs=extra))
    assert await live.usage() == (20, 30)


async def test_a_pdr_whose_packets_come_from_elsewhere_now_is_counted_on_both_sides(live: Live) -> None:
    await live.user_plane.establish(session(pdr(1, ACCESS)))
    live.uplink.before_update = lambda: up(live.uplink, 5)
    assert await live.usage(create_or_update_pdrs=[pdr(1, CORE)]) == (5, 0)
    down(live.downlink, 2)
    assert await live.usage() == (5, 2)
    assert live.rules() == (["7/qer/1/uplink"], ["7/qer/1/downlink", "7/1"])
