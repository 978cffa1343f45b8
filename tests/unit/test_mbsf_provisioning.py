"""What providers may provision and change at the MBSF, and what is announced of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from mbs_peers import MbsPeers
from mbsf_stack import MINUTE, START, Assembled, ingest_session, objects, period, state_of, user_service

from nf.common.clock import ManualClock
from nf.common.errors import EtagMismatch, InvalidArgument, PermissionDenied
from nf.common.store import RequestIdReused
from nf.common.v1 import mbs_distribution_pb2 as distribution
from nf.common.v1.mbs_pb2 import MBS_SERVICE_TYPE_UNSPECIFIED
from nf.mbsf.announcements import announced, announced_session, was_announced
from nf.mbsf.errors import DistributionSessionRunning, ServiceInUse
from nf.mbsf.periods import Periods
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1 import user_service_pb2 as services
from nf.mbsf.v1.user_data_ingest_pb2 import MbsDistributionSessionInfo

HOUR = timedelta(hours=1)
LATER = period(START + HOUR, START + 2 * HOUR)
INFO = "mbs_user_data_ing_session.mbs_dis_sess_infos[main]"
VIA_MBS_5 = services.SERVICE_ANNOUNCEMENT_MODE_VIA_MBS_5
CARRIED = services.SERVICE_ANNOUNCEMENT_MODE_VIA_MBS_DISTRIBUTION_SESSION
PASSED_BACK = services.SERVICE_ANNOUNCEMENT_MODE_PASSED_BACK


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def peers(clock: ManualClock) -> MbsPeers:
    return MbsPeers(clock)


@pytest.fixture
async def mbsf(tmp_path: Path, peers: MbsPeers, clock: ManualClock) -> AsyncIterator[Assembled]:
    made = Assembled(tmp_path, peers, clock, lead=timedelta(seconds=30))
    await made.start()
    yield made
    await made.stop()


async def service(mbsf: Assembled, *modes: services.ServiceAnnouncementMode.ValueType) -> services.MbsUserService:
    request = services.CreateMbsUserServiceRequest(mbs_user_service=user_service(*modes))
    return await mbsf.provisioning.create_service(request)


async def create(mbsf: Assembled, session: ingest.MbsUserDataIngSession, **more) -> ingest.MbsUserDataIngSession:
    request = ingest.CreateMbsUserDataIngSessionRequest(mbs_user_data_ing_session=session, **more)
    made = await mbsf.provisioning.create_session(request)
    await mbsf.settle()
    return made


async def update(mbsf: Assembled, session: ingest.MbsUserDataIngSession, *mask: str) -> ingest.MbsUserDataIngSession:
    request = ingest.UpdateMbsUserDataIngSessionRequest(mbs_user_data_ing_session=session)
    request.update_mask.paths.extend(mask)
    made = await mbsf.provisioning.update_session(request)
    await mbsf.settle()
    return made


def changed(**changes: object) -> MbsDistributionSessionInfo:
    info = objects()
    for path, value in changes.items():
        target, names = info, path.split("__")
        for each in names[:-1]:
            target = getattr(target, each)
        setattr(target, names[-1], value)
    return info


def packet() -> MbsDistributionSessionInfo:
    info = objects()
    info.distr_method = distribution.DISTRIBUTION_METHOD_PACKET
    return info


def two_of_one() -> MbsDistributionSessionInfo:
    info = objects("http://a.example/1", "http://a.example/2")
    info.obj_distr_info.operating_mode = distribution.OBJ_DISTRIBUTION_OPERATING_MODE_SINGLE
    return info


def external_area() -> MbsDistributionSessionInfo:
    info = objects()
    info.ext_tgt_serv_areas.SetInParent()
    return info


def unicast_group() -> MbsDistributionSessionInfo:
    info = objects()
    info.mbs_session_id.ssm.source_ip_addr.ipv4_addr = "192.0.2.1"
    info.mbs_session_id.ssm.dest_ip_addr.ipv4_addr = "192.0.2.2"
    return info


@pytest.mark.parametrize(
    ("info", "field"),
    [
        (changed(max_cont_bit_rate_bps=0), "max_cont_bit_rate_bps"),
        (changed(distr_method=0), "distr_method"),
        (changed(obj_distr_info__operating_mode=0), "obj_distr_info.operating_mode"),
        (changed(obj_distr_info__obj_acq_method=0), "obj_distr_info.obj_acq_method"),
        (objects("not a url"), "obj_distr_info.obj_acq_ids[0]"),
        (changed(obj_distr_info__obj_distr_uri="ftp://x/"), "obj_distr_info.obj_distr_uri"),
        (two_of_one(), "obj_distr_info.obj_acq_ids"),
        (changed(traffic_marking_info="64"), "traffic_marking_info"),
        (changed(mbs_fsa_id="12345G"), "mbs_fsa_id"),
        (changed(multiplexed_serv_flag=True), "multiplexed_serv_flag"),
        (changed(restricted_flag=True), "restricted_flag"),
        (changed(location_dependent=True), "tgt_serv_areas"),
        (changed(up_traffic_flow_info__port_number=70_000), "up_traffic_flow_info.port_number"),
        (packet(), "pck_distr_info"),
        (external_area(), "ext_tgt_serv_areas"),
        (unicast_group(), "mbs_session_id.ssm.dest_ip_addr"),
    ],
)
async def test_what_is_wrong_is_named_by_its_field(
    mbsf: Assembled, peers: MbsPeers, info: MbsDistributionSessionInfo, field: str
) -> None:
    session = ingest_session(await service(mbsf), LATER, main=info)
    with pytest.raises(InvalidArgument) as refused:
        await create(mbsf, session)
    assert f"{INFO}.{field}" in [each.field for each in refused.value.violations]
    assert peers.replicas == {}


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (period(START + HOUR, START), "act_periods[0].stop_time"),
        (period(START, START + HOUR, "FREQ=HOURLY"), "act_periods[0].repetition_rule"),
        (period(START, START + HOUR, "FREQ=SECONDLY"), "act_periods[0].repetition_rule"),
        (period(START, START + HOUR, "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30"), "act_periods[0].repetition_rule"),
        (period(START, START + HOUR, "every day"), "act_periods[0].repetition_rule"),
        (ingest.ActivePeriod(), "act_periods[0].start_time"),
    ],
)
@pytest.mark.clause("TS 26.502 §4.6.1 step 1")
async def test_periods_that_cannot_be_are_refused(mbsf: Assembled, wanted: ingest.ActivePeriod, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await create(mbsf, ingest_session(await service(mbsf), wanted))
    assert f"mbs_user_data_ing_session.{field}" in [each.field for each in refused.value.violations]


def test_a_rule_gives_the_windows_of_its_repetitions() -> None:
    weekly = Periods([period(START, START + HOUR, "FREQ=WEEKLY;BYDAY=SU,MO;COUNT=3")], START)
    starts = [each.start for each in weekly.upcoming(START, 10)]
    assert starts == [START, START + timedelta(days=1), START + timedelta(days=7)]
    assert weekly.is_over(START + timedelta(days=7) + HOUR)
    endless = Periods([], START)
    assert endless.next(START + timedelta(days=10_000)) is not None


async def test_a_repeat_answers_with_what_the_first_request_made(mbsf: Assembled, peers: MbsPeers) -> None:
    wanted = ingest_session(await service(mbsf), LATER)
    first = await create(mbsf, wanted, request_id="r1")
    assert await create(mbsf, wanted, request_id="r1") == first
    assert peers.names().count("CreateDistSession") == 1
    wanted.mbs_dis_sess_infos["main"].max_cont_bit_rate_bps += 1
    with pytest.raises(RequestIdReused):
        await create(mbsf, wanted, request_id="r1")


async def test_each_session_gets_a_group_of_its_own_and_the_provider_may_name_one(mbsf: Assembled) -> None:
    own = objects()
    own.up_traffic_flow_info.dest_ip_addr.ipv4_addr = "232.9.9.9"
    own.up_traffic_flow_info.port_number = 6000
    made = await create(mbsf, ingest_session(await service(mbsf), LATER, a=objects(), b=objects(), c=own))
    flows = {key: info.up_traffic_flow_info for key, info in made.mbs_dis_sess_infos.items()}
    assert (flows["c"].dest_ip_addr.ipv4_addr, flows["c"].port_number) == ("232.9.9.9", 6000)
    assert flows["a"].dest_ip_addr != flows["b"].dest_ip_addr
    assert flows["a"].dest_ip_addr.ipv4_addr.startswith("232.0.0.")


async def test_a_service_with_sessions_stays(mbsf: Assembled) -> None:
    offered = await service(mbsf)
    made = await create(mbsf, ingest_session(offered, LATER))
    with pytest.raises(ServiceInUse):
        await mbsf.provisioning.delete_service(offered.mbs_user_serv_id)
    await mbsf.provisioning.delete_session(made.mbs_ing_session_id)
    await mbsf.settle()
    await mbsf.provisioning.delete_service(offered.mbs_user_serv_id)
    assert (await mbsf.provisioning.list_services()).items == []


async def test_a_service_is_refused_with_every_field_that_is_wrong(mbsf: Assembled) -> None:
    wanted = user_service()
    wanted.serv_type = MBS_SERVICE_TYPE_UNSPECIFIED
    wanted.serv_class = "no uri"
    wanted.serv_name_descs[0].language = "not a language"
    with pytest.raises(InvalidArgument) as refused:
        await mbsf.provisioning.create_service(services.CreateMbsUserServiceRequest(mbs_user_service=wanted))
    fields = {each.field for each in refused.value.violations}
    assert fields == {
        "mbs_user_service.serv_type",
        "mbs_user_service.serv_class",
        "mbs_user_service.serv_name_descs[0].language",
    }


async def test_an_update_adds_changes_and_destroys_at_the_mbstf_too(mbsf: Assembled, peers: MbsPeers) -> None:
    made = await create(mbsf, ingest_session(await service(mbsf), LATER, a=objects(), b=objects()))
    ids = {key: info.mbs_dist_session_id for key, info in made.mbs_dis_sess_infos.items()}
    made.mbs_dis_sess_infos["a"].max_cont_bit_rate_bps = 5_000_000
    del made.mbs_dis_sess_infos["b"]
    made.mbs_dis_sess_infos["c"].CopyFrom(objects())
    after = await update(mbsf, made, "mbs_dis_sess_infos")
    assert set(after.mbs_dis_sess_infos) == {"a", "c"}
    assert after.mbs_dis_sess_infos["a"].mbs_dist_session_id == ids["a"]
    assert after.mbs_dis_sess_infos["a"].up_traffic_flow_info == made.mbs_dis_sess_infos["a"].up_traffic_flow_info
    assert peers.replicas[ids["a"]].mbr_bps == 5_000_000
    assert set(peers.replicas) == {info.mbs_dist_session_id for info in after.mbs_dis_sess_infos.values()}
    assert after.etag != made.etag
    with pytest.raises(EtagMismatch):
        await update(mbsf, made, "act_periods")


async def test_an_update_that_the_mbstf_refuses_changes_nothing(mbsf: Assembled, peers: MbsPeers) -> None:
    made = await create(mbsf, ingest_session(await service(mbsf), LATER))
    wanted = ingest.MbsUserDataIngSession()
    wanted.CopyFrom(made)
    wanted.mbs_dis_sess_infos["main"].max_cont_bit_rate_bps = 7
    wanted.mbs_dis_sess_infos["more"].CopyFrom(objects())
    peers.refuse["UpdateDistSession"] = PermissionDenied("too slow")
    with pytest.raises(PermissionDenied, match="too slow"):
        await update(mbsf, wanted, "mbs_dis_sess_infos")
    peers.refuse.clear()
    for _ in range(3):
        mbsf.clock.advance(timedelta(seconds=31))
        await mbsf.settle()
    assert await mbsf.provisioning.get_session(made.mbs_ing_session_id) == made
    assert [each.mbr_bps for each in peers.replicas.values()] == [1_000_000]


async def test_what_runs_may_get_other_periods_but_no_other_content(mbsf: Assembled) -> None:
    made = await create(mbsf, ingest_session(await service(mbsf), period(START, START + HOUR)))
    running = await mbsf.provisioning.get_session(made.mbs_ing_session_id)
    assert state_of(running.mbs_dis_sess_infos["main"]) == "ACTIVE"
    # What it shows by itself is no change.
    running.act_periods[0].CopyFrom(period(START, START + 2 * HOUR))
    longer = await update(mbsf, running)
    assert state_of(longer.mbs_dis_sess_infos["main"]) == "ACTIVE"
    longer.mbs_dis_sess_infos["main"].max_cont_bit_rate_bps = 2
    with pytest.raises(DistributionSessionRunning) as refused:
        await update(mbsf, longer)
    assert [each.field for each in refused.value.violations] == [INFO]
    longer.mbs_dis_sess_infos["main"].max_cont_bit_rate_bps = 1_000_000
    longer.act_periods[0].CopyFrom(LATER)
    await update(mbsf, longer, "act_periods")
    later = await mbsf.provisioning.get_session(made.mbs_ing_session_id)
    assert state_of(later.mbs_dis_sess_infos["main"]) == "INACTIVE"


async def test_a_failed_session_is_tried_again_once_it_is_updated(mbsf: Assembled, peers: MbsPeers) -> None:
    peers.refuse["CreateMbsAppSessionContext"] = PermissionDenied("no")
    made = await create(mbsf, ingest_session(await service(mbsf), period(START, START + HOUR)))
    peers.refuse.clear()
    mbsf.clock.advance(MINUTE)
    await mbsf.settle()
    shown = await mbsf.provisioning.get_session(made.mbs_ing_session_id)
    assert state_of(shown.mbs_dis_sess_infos["main"]) == "INACTIVE"
    assert shown.mbs_dis_sess_infos["main"].problem.title
    await update(mbsf, shown, "act_periods")
    shown = await mbsf.provisioning.get_session(made.mbs_ing_session_id)
    assert state_of(shown.mbs_dis_sess_infos["main"]) == "ACTIVE"


@pytest.mark.clause("TS 26.502 §4.6.1 step 2", "TS 26.502 §4.6.1 step 4a")
async def test_it_is_announced_from_established_until_it_is_withdrawn(mbsf: Assembled) -> None:
    offered = await service(mbsf, VIA_MBS_5, PASSED_BACK)
    made = await create(mbsf, ingest_session(offered, period(START + 15 * MINUTE, START + 20 * MINUTE)))
    name = made.mbs_dis_sess_infos["main"].mbs_dist_session_id
    external = offered.ext_service_ids[0]
    assert not made.HasField("mbs_user_service_anmt")
    mbsf.clock.advance(15 * MINUTE - timedelta(seconds=20))
    await mbsf.settle()
    (found,) = await mbsf.store.read(lambda reader: announced(reader, external_service_id=external))
    assert [each.info.mbs_dist_session_id for each in found.sessions] == [name]
    assert found.sessions[0].flow.group == made.mbs_dis_sess_infos["main"].up_traffic_flow_info.dest_ip_addr.ipv4_addr
    shown = await mbsf.provisioning.get_session(made.mbs_ing_session_id)
    assert shown.mbs_user_service_anmt.service_id == external
    path = "/3gpp-mbs5/v1/user-service-descriptions/http%3A%2F%2Fexample.com%2Fservices%2Fnews"
    assert shown.mbs_user_service_anmt_url.endswith(path)
    (passed_back,) = [each for each in await mbsf.events() if each.type == "USER_SER_AD"]
    notification = ingest.EventNotification()
    assert passed_back.payload.Unpack(notification)
    assert external in notification.status_add_info
    await mbsf.provisioning.delete_session(made.mbs_ing_session_id)
    # 4a comes before what the MBSTF is asked.
    assert await mbsf.store.read(lambda reader: was_announced(reader, name))
    await mbsf.settle()
    assert await mbsf.store.read(lambda reader: announced_session(reader, name)) is None
    assert await mbsf.store.read(lambda reader: announced(reader, external_service_id=external)) == []


async def test_the_distribution_session_carries_its_announcement_and_a_changed_one_anew(
    mbsf: Assembled, peers: MbsPeers
) -> None:
    offered = await service(mbsf, CARRIED)
    await create(mbsf, ingest_session(offered, period(START, START + HOUR)))
    (replica,) = peers.replicas.values()
    (carried,) = replica.carried_objects
    assert carried.content_type.startswith("multipart/related")
    assert offered.ext_service_ids[0].encode() in carried.content
    changes = services.MbsUserService(mbs_user_serv_id=offered.mbs_user_serv_id)
    changes.serv_name_descs.add(serv_name="Old news", language="en")
    request = services.UpdateMbsUserServiceRequest(mbs_user_service=changes)
    request.update_mask.paths.append("serv_name_descs")
    await mbsf.provisioning.update_service(request)
    await mbsf.settle()
    (replica,) = peers.replicas.values()
    assert b"Old news" in replica.carried_objects[0].content
    mbsf.clock.advance(HOUR)
    await mbsf.settle()
    assert peers.replicas == {}


async def test_an_unknown_service_is_named(mbsf: Assembled) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await create(mbsf, ingest_session(services.MbsUserService(mbs_user_serv_id="none"), LATER))
    assert [each.field for each in refused.value.violations] == ["mbs_user_data_ing_session.mbs_user_serv_id"]
