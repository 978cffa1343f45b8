"""What the MBSF asks of its peers: the MB-SMF at Nmb1, the PCF at Nmb12, the MBSTF at Nmb2 (TS 26.502 §4.6.1).

Names at the peers are made of the distribution session's and its run, so that a call may be repeated, and what was left
of an earlier run is never taken for this one's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeAlias

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.errors import CastcoreError, DeadlineExceeded, FailedPrecondition, NotFound, Unavailable
from nf.common.v1 import mbs_distribution_pb2 as distribution
from nf.common.v1.mbs_pb2 import IpAddr, MbsMediaComp, MbsMediaInfo, MbsServiceInfo, MbsServiceType, MbsSessionId, Tmgi
from nf.mbsf.v1.announcement_pb2 import MbsFlow
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession
from nf.mbsf.v1.user_data_ingest_pb2 import MbsDistributionSessionInfo
from nf.mbstf.v1 import dist_session_pb2 as nmb2
from nf.mbstf.v1.dist_session_pb2_grpc import DistSessionServiceStub
from nf.pcf.v1 import mbs_policy_authorization_pb2 as nmb12
from nf.pcf.v1.mbs_policy_authorization_pb2_grpc import MbsPolicyAuthorizationServiceStub
from nf.smf.v1 import mbs_session_pb2 as nmb1
from nf.smf.v1 import tmgi_pb2 as tmgis
from nf.smf.v1.mbs_session_pb2_grpc import MbsSessionServiceStub
from nf.smf.v1.tmgi_pb2_grpc import TmgiServiceStub

if TYPE_CHECKING:
    from nf.mbstf.v1.dist_session_pb2_grpc import DistSessionServiceAsyncStub
    from nf.pcf.v1.mbs_policy_authorization_pb2_grpc import MbsPolicyAuthorizationServiceAsyncStub
    from nf.smf.v1.mbs_session_pb2_grpc import MbsSessionServiceAsyncStub
    from nf.smf.v1.tmgi_pb2_grpc import TmgiServiceAsyncStub

# What a call's answer changes in the record.
Change: TypeAlias = Callable[[DistributionSession], None]

# After these the peer may or may not have done what it was asked for.
UNCERTAIN: Final = (Unavailable, DeadlineExceeded)
# The MBSTF is given more time than it is told to take, so that it is the one to say what was missing.
_SLACK_S: Final = 2.0
_OWN_MEDIA: Final = "1"
# What a replica is told again when it may know something else.
_REPLICA_MASK: Final = (
    "up_traffic_flow_info",
    "mbr_bps",
    "max_delay_ms",
    "obj_distribution_data",
    "pkt_distribution_data",
    "fec_information",
    "dscp_marking",
    "source_ip_addr",
)


def ref_of(record: DistributionSession) -> str:
    """The name of this run at the MB-SMF and the PCF."""
    return f"{record.mbs_dist_session_id}-{record.run}"


def session_and_run(ref: str) -> tuple[str, int]:
    """The distribution session and the run that such a name stands for; ("", 0) for another's name."""
    name, _, run = ref.rpartition("-")
    return (name, int(run)) if name and run.isdecimal() else ("", 0)


def _unchanged(_: DistributionSession) -> None:
    return


class Peers:
    """The calls for distribution sessions. All of them may be repeated; each raises what its peer refuses with."""

    def __init__(self, channel: Callable[[str], grpc.aio.Channel], call_timeout_s: float) -> None:
        self._channel = channel
        self._timeout_s = call_timeout_s

    @cached_property
    def _tmgis(self) -> TmgiServiceAsyncStub:
        return TmgiServiceStub(self._channel("smf"))

    @cached_property
    def _sessions(self) -> MbsSessionServiceAsyncStub:
        return MbsSessionServiceStub(self._channel("smf"))

    @cached_property
    def _policies(self) -> MbsPolicyAuthorizationServiceAsyncStub:
        return MbsPolicyAuthorizationServiceStub(self._channel("pcf"))

    @cached_property
    def _mbstf(self) -> DistSessionServiceAsyncStub:
        return DistSessionServiceStub(self._channel("mbstf"))

    # --- 1: the replica -----------------------------------------------------------------------------------------------

    async def create_replica(self, record: DistributionSession) -> Change:
        """Makes the replica at the MBSTF, INACTIVE; the answer says where data comes in, and as what it goes out."""
        request = nmb2.CreateDistSessionRequest(dist_session=replica_of(record))
        answer = await self._mbstf.CreateDistSession(request, timeout=self._timeout_s)
        return lambda kept: adopt_replica(kept, answer.dist_session)

    async def update_replica(self, record: DistributionSession) -> Change:
        """Tells the MBSTF what an INACTIVE session is; makes the replica where there is none."""
        request = nmb2.UpdateDistSessionRequest(
            dist_session=replica_of(record), update_mask=FieldMask(paths=_REPLICA_MASK)
        )
        try:
            answer = await self._mbstf.UpdateDistSession(request, timeout=self._timeout_s)
        except NotFound:
            return await self.create_replica(record)
        return lambda kept: adopt_replica(kept, answer.dist_session)

    async def delete_replica(self, record: DistributionSession) -> Change:
        """Removes the replica."""
        request = nmb2.DeleteDistSessionRequest(dist_session_id=record.mbs_dist_session_id)
        await self._mbstf.DeleteDistSession(request, timeout=self._timeout_s)
        return _unchanged

    async def replica(self, mbs_dist_session_id: str) -> nmb2.DistSession | None:
        """The replica as it is; None: there is none."""
        request = nmb2.GetDistSessionRequest(dist_session_id=mbs_dist_session_id)
        try:
            return (await self._mbstf.GetDistSession(request, timeout=self._timeout_s)).dist_session
        except NotFound:
            return None

    # --- 2a -----------------------------------------------------------------------------------------------------------

    async def allocate_tmgi(self, record: DistributionSession) -> Change:
        """Has a TMGI allocated, unless the provider has brought one."""
        if record.info.mbs_session_id.HasField("tmgi"):
            return _unchanged
        answer = await self._tmgis.AllocateTmgi(
            tmgis.AllocateTmgiRequest(tmgi_number=1, request_id=ref_of(record)), timeout=self._timeout_s
        )

        def change(kept: DistributionSession) -> None:
            kept.info.mbs_session_id.tmgi.CopyFrom(answer.tmgi_list[0])
            kept.info.mbs_session_id.nid = answer.nid
            kept.tmgi_allocated = True
            kept.tmgi_expiry.CopyFrom(answer.expiration_time)

        return change

    async def refresh_tmgi(self, record: DistributionSession) -> Change:
        """Keeps the TMGI from expiring."""
        answer = await self._tmgis.AllocateTmgi(
            tmgis.AllocateTmgiRequest(tmgi_list=[record.info.mbs_session_id.tmgi]), timeout=self._timeout_s
        )
        return lambda kept: kept.tmgi_expiry.CopyFrom(answer.expiration_time)

    async def authorise(self, record: DistributionSession, service_type: MbsServiceType.ValueType) -> Change:
        """Has the PCF authorise the MBS session (Nmb12)."""
        context = nmb12.MbsAppSessionContext(
            context_id=ref_of(record),
            mbs_session_id=record.info.mbs_session_id,
            mbs_serv_info=service_info_of(record.info),
            req_for_loc_dep_mbs=record.info.location_dependent,
            service_type=service_type,
        )
        request = nmb12.CreateMbsAppSessionContextRequest(context=context)
        await self._policies.CreateMbsAppSessionContext(request, timeout=self._timeout_s)
        return _unchanged

    async def reserve(self, record: DistributionSession, service_type: MbsServiceType.ValueType) -> Change:
        """Has the MB-SMF set the MBS session up; the answer says where the MB-UPF takes its packets."""
        request = nmb1.CreateMbsSessionRequest(mbs_session=mbs_session_of(record, service_type))
        answer = await self._sessions.CreateMbsSession(request, timeout=self._timeout_s)
        addresses = answer.mbs_session.ingress_tun_addr
        if not addresses:
            raise Unavailable("smf: the MBS session has no ingress tunnel")

        def change(kept: DistributionSession) -> None:
            # What an event has told in the meantime is newer.
            if not kept.HasField("ingress_tun_addr"):
                kept.ingress_tun_addr.CopyFrom(addresses[0])

        return change

    # --- 2b, 3, and what is told meanwhile ----------------------------------------------------------------------------

    async def establish(self, record: DistributionSession, timeout_s: float) -> Change:
        """Returns when something was really ingested, at the latest after ``timeout_s``."""
        request = nmb2.UpdateDistSessionRequest(
            dist_session=nmb2.DistSession(
                dist_session_id=record.mbs_dist_session_id,
                dist_session_state=distribution.DIST_SESSION_STATE_ESTABLISHED,
                mb_upf_tun_addr=record.ingress_tun_addr,
                establish_timeout_ms=round(timeout_s * 1000),
            ),
            update_mask=FieldMask(paths=("dist_session_state", "mb_upf_tun_addr", "establish_timeout_ms")),
        )
        answer = await self._mbstf.UpdateDistSession(request, timeout=timeout_s + _SLACK_S)
        return lambda kept: adopt_replica(kept, answer.dist_session)

    async def activate(self, record: DistributionSession) -> Change:
        """The MBSTF begins to send."""
        await self._set_state(record, distribution.DIST_SESSION_STATE_ACTIVE)
        return _unchanged

    async def retarget(self, record: DistributionSession) -> Change:
        """Tells the MBSTF of a changed ingress tunnel."""
        await self._update(record, nmb2.DistSession(mb_upf_tun_addr=record.ingress_tun_addr), "mb_upf_tun_addr")
        told = record.ingress_tun_addr

        def change(kept: DistributionSession) -> None:
            kept.tunnel_stale = kept.ingress_tun_addr != told

        return change

    async def carry(self, record: DistributionSession, location: str, content_type: str, content: bytes) -> Change:
        """Has the distribution session carry the announcement."""
        carried = nmb2.CarriedObject(location=location, content_type=content_type, content=content)
        await self._update(record, nmb2.DistSession(carried_objects=[carried]), "carried_objects")
        version = record.announcement_version

        def change(kept: DistributionSession) -> None:
            kept.carried_stale = kept.carried_stale and kept.announcement_version != version

        return change

    # --- 4b, 4c, 4d, and what undoes 2a and 2b ------------------------------------------------------------------------

    async def cease(self, record: DistributionSession) -> Change:
        """The MBSTF sends no more."""
        try:
            await self._set_state(record, distribution.DIST_SESSION_STATE_DEACTIVATING)
        except (NotFound, FailedPrecondition):
            # It does not send, or has no such session: 4c is what is left to do.
            return _unchanged
        return _unchanged

    async def release(self, record: DistributionSession) -> Change:
        """The MBSTF ingests no more; the replica is INACTIVE, and carries no announcement."""
        inactive = nmb2.DistSession(dist_session_state=distribution.DIST_SESSION_STATE_INACTIVE)
        try:
            await self._update(record, inactive, "dist_session_state", "carried_objects")
        except NotFound:
            return _stale_replica
        return _unchanged

    async def free_session(self, record: DistributionSession) -> Change:
        """The MB-SMF releases the MBS session."""
        await self._sessions.ReleaseMbsSession(
            nmb1.ReleaseMbsSessionRequest(mbs_session_ref=ref_of(record)), timeout=self._timeout_s
        )
        return _unchanged

    async def free_authorisation(self, record: DistributionSession) -> Change:
        """The PCF lets go of its authorisation."""
        await self._policies.DeleteMbsAppSessionContext(
            nmb12.DeleteMbsAppSessionContextRequest(context_id=ref_of(record)), timeout=self._timeout_s
        )
        return _unchanged

    async def free_tmgi(self, record: DistributionSession) -> Change:
        """The TMGI is released, if it is not the provider's own."""
        if record.tmgi_allocated:
            allocated = record.info.mbs_session_id.tmgi
        elif record.info.mbs_session_id.HasField("tmgi"):
            return _unchanged
        else:
            # The answer to the allocation never came: its repeat is answered with the same, or makes one to release.
            known = await self._known_tmgi(record)
            if known is None:
                return _unchanged
            allocated = known
        await self._tmgis.ReleaseTmgi(tmgis.ReleaseTmgiRequest(tmgi_list=[allocated]), timeout=self._timeout_s)
        return _unchanged

    async def _known_tmgi(self, record: DistributionSession) -> Tmgi | None:
        try:
            answer = await self._tmgis.AllocateTmgi(
                tmgis.AllocateTmgiRequest(tmgi_number=1, request_id=ref_of(record)), timeout=self._timeout_s
            )
        except UNCERTAIN:
            raise
        except CastcoreError:
            # Refused, as it was then.
            return None
        return answer.tmgi_list[0]

    async def _set_state(self, record: DistributionSession, state: distribution.DistSessionState.ValueType) -> None:
        await self._update(record, nmb2.DistSession(dist_session_state=state), "dist_session_state")

    async def _update(self, record: DistributionSession, changes: nmb2.DistSession, *mask: str) -> None:
        changes.dist_session_id = record.mbs_dist_session_id
        request = nmb2.UpdateDistSessionRequest(dist_session=changes, update_mask=FieldMask(paths=mask))
        await self._mbstf.UpdateDistSession(request, timeout=self._timeout_s)


def _stale_replica(record: DistributionSession) -> None:
    record.replica_stale = True


def replica_of(record: DistributionSession) -> nmb2.DistSession:
    """The distribution session as the MBSTF is told it (TS 29.581 DistSession)."""
    info = record.info
    replica = nmb2.DistSession(
        dist_session_id=record.mbs_dist_session_id,
        dist_session_state=distribution.DIST_SESSION_STATE_INACTIVE,
        mbr_bps=info.max_cont_bit_rate_bps,
        max_delay_ms=info.max_cont_delay_ms,
        dscp_marking=info.traffic_marking_info,
    )
    if info.HasField("up_traffic_flow_info"):
        replica.up_traffic_flow_info.CopyFrom(info.up_traffic_flow_info)
    if info.HasField("fec_config"):
        replica.fec_information.CopyFrom(info.fec_config)
    if info.mbs_session_id.HasField("ssm"):
        replica.source_ip_addr.CopyFrom(info.mbs_session_id.ssm.source_ip_addr)
    if info.distr_method == distribution.DISTRIBUTION_METHOD_OBJECT:
        objects = info.obj_distr_info
        is_pull = objects.obj_acq_method == distribution.OBJ_ACQUISITION_METHOD_PULL
        data = nmb2.ObjDistributionData(
            obj_distribution_operating_mode=objects.operating_mode,
            obj_acquisition_method=objects.obj_acq_method,
            obj_acquisition_ids_pull=objects.obj_acq_ids if is_pull else (),
            obj_acquisition_id_push="" if is_pull or not objects.obj_acq_ids else objects.obj_acq_ids[0],
            # Where objects are pushed to is the MBSTF's choice.
            obj_ingest_base_url=objects.obj_ing_uri if is_pull else "",
            obj_distribution_base_url=objects.obj_distr_uri,
            obj_repair_base_url="" if record.repair_assigned else objects.obj_repair_uri,
        )
        replica.obj_distribution_data.CopyFrom(data)
    else:
        packets = info.pck_distr_info
        replica.pkt_distribution_data.CopyFrom(
            nmb2.PktDistributionData(
                pkt_distribution_operating_mode=packets.operating_mode,
                pkt_ingest_method=packets.pck_ing_method,
                mb_stf_ingest_addr=packets.ing_endpoint_addrs,
            )
        )
    return replica


def adopt_replica(record: DistributionSession, replica: nmb2.DistSession) -> None:
    """Takes over what the MBSTF has chosen: where data is sent to, and as what it goes out."""
    record.replica_stale = False
    info = record.info
    if replica.HasField("obj_distribution_data"):
        objects = replica.obj_distribution_data
        if info.obj_distr_info.obj_acq_method == distribution.OBJ_ACQUISITION_METHOD_PUSH:
            info.obj_distr_info.obj_ing_uri = objects.obj_ingest_base_url
        if not info.obj_distr_info.obj_repair_uri or record.repair_assigned:
            record.repair_assigned = True
            info.obj_distr_info.obj_repair_uri = objects.obj_repair_base_url
    if replica.pkt_distribution_data.HasField("mb_stf_ingest_addr"):
        chosen = replica.pkt_distribution_data.mb_stf_ingest_addr
        addresses = info.pck_distr_info.ing_endpoint_addrs
        for field in ("mb_stf_ingress_tun_addr", "mb_stf_listen_addr"):
            if chosen.HasField(field):
                getattr(addresses, field).CopyFrom(getattr(chosen, field))
    record.flow.CopyFrom(_flow_of(record, replica))


def _flow_of(record: DistributionSession, replica: nmb2.DistSession) -> MbsFlow:
    info = record.info
    source = _text(replica.source_ip_addr) or _text(info.mbs_session_id.ssm.source_ip_addr)
    group = _text(info.up_traffic_flow_info.dest_ip_addr)
    flow = MbsFlow(source=source, group=group, port=info.up_traffic_flow_info.port_number)
    if info.distr_method == distribution.DISTRIBUTION_METHOD_OBJECT:
        flow.tsi = replica.flute_tsi
    return flow


def mbs_session_of(record: DistributionSession, service_type: MbsServiceType.ValueType) -> nmb1.MbsSession:
    """The MBS session that the MB-SMF is asked for (TS 29.571 MbsSession)."""
    info = record.info
    session = nmb1.MbsSession(
        mbs_session_ref=ref_of(record),
        mbs_session_id=MbsSessionId(tmgi=info.mbs_session_id.tmgi),
        service_type=service_type,
        location_dependent=info.location_dependent,
        mbs_serv_info=service_info_of(info),
        mbs_policy_auth_ref=ref_of(record),
        activity_status=nmb1.MBS_SESSION_ACTIVITY_STATUS_ACTIVE,
        any_ue_ind=not info.restricted_flag,
        start_time=record.period_start,
    )
    if info.mbs_session_id.nid:
        session.mbs_session_id.nid = info.mbs_session_id.nid
    if info.mbs_session_id.HasField("ssm"):
        session.mbs_session_id.ssm.CopyFrom(info.mbs_session_id.ssm)
    if record.flow.source and record.flow.group:
        session.ssm.source_ip_addr.CopyFrom(_address(record.flow.source))
        session.ssm.dest_ip_addr.CopyFrom(_address(record.flow.group))
    if info.HasField("tgt_serv_areas"):
        session.mbs_service_area.CopyFrom(info.tgt_serv_areas)
    if info.mbs_fsa_id:
        session.mbs_fsa_id_list.append(info.mbs_fsa_id)
    return session


def service_info_of(info: MbsDistributionSessionInfo) -> MbsServiceInfo:
    """What the session needs of the network: as the provider says, or one medium of its bit rate."""
    if info.HasField("mbs_serv_info"):
        return info.mbs_serv_info
    medium = MbsMediaComp(
        mbs_med_comp_num=int(_OWN_MEDIA),
        mbs_media_info=MbsMediaInfo(max_req_mbs_bw_dl_bps=info.max_cont_bit_rate_bps),
    )
    return MbsServiceInfo(mbs_media_comps={_OWN_MEDIA: medium})


def _text(address: IpAddr) -> str:
    return address.ipv4_addr or address.ipv6_addr


def _address(text: str) -> IpAddr:
    return IpAddr(ipv6_addr=text) if ":" in text else IpAddr(ipv4_addr=text)
