"""TMGIs in the SMF's store, by an injected clock: never two alike, expired when their time is over, none lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mbs_plane import area, by_tmgi, info, mbs_session, ssm

from nf.common.clock import ManualClock
from nf.common.config import ConfigError, load
from nf.common.errors import InvalidArgument
from nf.common.mbs_session_ids import tmgi_key
from nf.common.store import Store, url_for
from nf.common.v1.mbs_pb2 import MbsServiceArea, Tmgi
from nf.smf.config import GnbSection, MbsSection
from nf.smf.errors import NoTmgiLeft, UnknownTmgi
from nf.smf.mbs_areas import branches_of, overlap, served
from nf.smf.mbs_requests import requested_session
from nf.smf.mbs_rules import mbr_bps_of
from nf.smf.tmgi import TmgiRange, Tmgis, has_expired
from nf.smf.v1 import mbs_session_pb2 as nmb1
from nf.smf.v1 import tmgi_pb2 as tmgi

INACTIVE = nmb1.MBS_SESSION_ACTIVITY_STATUS_INACTIVE
SMALL = MbsSection(first_service_id="0000fe", last_service_id="000102", tmgi_lifetime_s=100.0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    opened = Store.open(url_for(tmp_path, "smf"), clock=clock)
    try:
        yield opened
    finally:
        await opened.close()


async def allocate(tmgis: Tmgis, number: int) -> list[Tmgi]:
    return list((await tmgis.allocate(tmgi.AllocateTmgiRequest(tmgi_number=number))).tmgi_list)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from("arf"), st.integers(1, 4)), max_size=30))
async def test_no_two_tmgis_are_alike_and_none_is_lost(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    store = Store.open(url_for(tmp_path_factory.mktemp("smf"), "smf"), clock=clock)
    try:
        tmgis, taken = Tmgis(store, TmgiRange(SMALL)), dict[str, datetime]()
        for what, number in steps:
            clock.advance(timedelta(seconds=1))
            until = clock.now() + timedelta(seconds=100)
            some = [by_tmgi(key.rpartition("-")[2]).tmgi for key in list(taken)[:number]]
            if what == "a":
                try:
                    made = await allocate(tmgis, number)
                except NoTmgiLeft:
                    assert len(taken) + number > 5
                    continue
                assert len(made) == number
                for each in made:
                    assert tmgi_key(each) not in taken
                    assert 0xFE <= int(each.mbs_service_id, 16) <= 0x102
                    taken[tmgi_key(each)] = until
            elif what == "f" and some:
                answer = await tmgis.allocate(tmgi.AllocateTmgiRequest(tmgi_list=some))
                assert answer.expiration_time.ToDatetime(UTC) == until
                taken |= {tmgi_key(each): until for each in some}
            elif some:
                await tmgis.release(some)
                for each in some:
                    del taken[tmgi_key(each)]
            kept = {
                tmgi_key(each.tmgi): each.expiration_time.ToDatetime(UTC) for each in (await tmgis.page(0, "")).items
            }
            assert kept == taken
    finally:
        await store.close()


@pytest.mark.clause("TS 29.532 §5.2.2.2")
async def test_what_has_expired_can_not_be_refreshed(store: Store, clock: ManualClock) -> None:
    tmgis = Tmgis(store, TmgiRange(SMALL))
    (allocated,) = await allocate(tmgis, 1)
    clock.advance(timedelta(seconds=99))
    await tmgis.allocate(tmgi.AllocateTmgiRequest(tmgi_list=[allocated]))
    clock.advance(timedelta(seconds=99))
    ((kept),) = (await tmgis.page(0, "")).items
    assert not has_expired(kept, clock.now())
    clock.advance(timedelta(seconds=1))
    assert has_expired(kept, clock.now())
    with pytest.raises(UnknownTmgi, match="TMGI 001-01-0000fe has expired"):
        await tmgis.allocate(tmgi.AllocateTmgiRequest(tmgi_list=[allocated]))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (tmgi.AllocateTmgiRequest(), "tmgi_number"),
        (tmgi.AllocateTmgiRequest(tmgi_number=0), "tmgi_number"),
        (tmgi.AllocateTmgiRequest(tmgi_number=256), "tmgi_number"),
        (tmgi.AllocateTmgiRequest(tmgi_list=[by_tmgi("xyz").tmgi]), "tmgi_list[0].mbs_service_id"),
        (tmgi.AllocateTmgiRequest(tmgi_list=[by_tmgi(1).tmgi, by_tmgi(1).tmgi]), "tmgi_list"),
    ],
)
async def test_an_allocation_that_is_none_is_refused(
    store: Store, request_: tmgi.AllocateTmgiRequest, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        await Tmgis(store, TmgiRange(SMALL)).allocate(request_)
    assert [each.field for each in refusal.value.violations] == [field]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"service_type": 0}, "service_type"),
        ({"tmgi_alloc_req": False}, "mbs_session_id"),
        ({"ssm": None}, "ssm"),
        ({"ssm": ssm("192.0.2.1")}, "ssm.dest_ip_addr"),
        ({"ssm": ssm("ff3e::1")}, "ssm.dest_ip_addr"),
        ({"location_dependent": True}, "mbs_service_area"),
        ({"mbs_service_area": area()}, "mbs_service_area"),
        ({"activity_status": INACTIVE}, "activity_status"),
        ({"mbs_fsa_id_list": ["abc"]}, "mbs_fsa_id_list[0]"),
        ({"mbs_session_ref": "a/b"}, "mbs_session_ref"),
        ({"start_time": {"seconds": 9}, "termination_time": {"seconds": 8}}, "termination_time"),
        ({"snssai": {"sst": 256}}, "snssai.sst"),
        ({"area_session_policy_id": 65_536}, "area_session_policy_id"),
    ],
)
def test_a_session_that_is_wrong_by_itself_is_refused_with_what_is_expected(
    changes: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        requested_session(mbs_session(**changes))
    assert [each.field for each in refusal.value.violations] == [f"mbs_session.{field}"]


AREAS = st.builds(
    area,
    st.integers(1, 4),
    st.integers(1, 4),
    cells=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), max_size=2).map(tuple),
)


@given(AREAS, AREAS)
@pytest.mark.clause("TS 23.247 §6.2.3")
def test_an_overlap_is_found_from_either_side_and_with_oneself(one: MbsServiceArea, other: MbsServiceArea) -> None:
    assert bool(overlap(one, other)) == bool(overlap(other, one))
    assert overlap(one, one)


@given(AREAS)
def test_what_is_served_is_a_part_and_by_a_gnb_that_serves_all_it_is_all(wanted: MbsServiceArea) -> None:
    everywhere = GnbSection(
        name="all", tais=tuple(f"001-01-{number:06x}" for number in range(1, 5)), address="192.0.2.1"
    )
    assert served((everywhere,), wanted) == wanted
    some = GnbSection(name="some", tais=("001-01-000002",), address="192.0.2.2")
    part = served((some,), wanted)
    assert all(each in wanted.tai_list for each in part.tai_list)
    assert bool(branches_of((some,), wanted, 1)) == (part != MbsServiceArea())
    assert branches_of((some, everywhere), wanted, 7)[0].branch_id == 1


def test_the_rate_of_a_session_is_the_least_of_its_maximum_and_the_sum_of_its_media() -> None:
    decision = nmb1.MbsSession().decision
    assert mbr_bps_of(decision) == 0
    decision.mbs_qos_decs["a"].mbr_dl_bps = 3
    decision.mbs_qos_decs["b"].mbr_dl_bps = 4
    assert mbr_bps_of(decision) == 7
    decision.auth_mbs_sess_ambr_bps = 5
    assert mbr_bps_of(decision) == 5
    decision.mbs_qos_decs["b"].mbr_dl_bps = 0
    assert mbr_bps_of(decision) == 5
    assert info(1, 2).mbs_media_comps.keys() == {"1", "2"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('mcc = "1"', "mcc: three digits"),
        ('first_service_id = "000002"\nlast_service_id = "000001"', "first_service_id at most last_service_id"),
        ('[[gnbs]]\nname = "a"\ntais = ["001-01-1"]\naddress = "192.0.2.1"', "a tracking area as MCC-MNC-TAC"),
        ('[[gnbs]]\nname = "a"\ntais = ["001-01-000001"]', "either 'address' or 'group'"),
        ('[[gnbs]]\nname = "a"\naddress = "192.0.2.1"', "'tais' or 'cells'"),
        ('[[gnbs]]\nname = "a"\ntais = ["001-01-000001"]\naddress = "232.1.1.1"', "the address of a host"),
        ('[[gnbs]]\nname = "a"\ntais = ["001-01-000001"]\ngroup = "192.0.2.1"', "the address of a multicast group"),
    ],
)
def test_a_configuration_that_is_wrong_is_refused_with_what_is_expected(
    tmp_path: Path, text: str, expected: str
) -> None:
    path = tmp_path / "mbs.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        load(MbsSection, path=path, environ={})
    assert expected.rpartition(": ")[2] in str(refusal.value)
