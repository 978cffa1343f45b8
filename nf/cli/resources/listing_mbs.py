"""Resources of multicast and broadcast: at the MBSF, the MBSTF, the MB-SMF and the PCF."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from nf.cli.resources.reading import PAGE, Filters, Reading, columns
from nf.client.paging import pages
from nf.common.channels import Channels
from nf.common.errors import NotFound
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1 import user_data_ingest_pb2_grpc as ingest_grpc
from nf.mbsf.v1 import user_service_pb2 as services
from nf.mbsf.v1 import user_service_pb2_grpc as services_grpc
from nf.mbstf.v1 import dist_session_pb2 as nmb2
from nf.mbstf.v1 import dist_session_pb2_grpc as nmb2_grpc
from nf.pcf.v1 import mbs_policy_authorization_pb2 as nmb12
from nf.pcf.v1 import mbs_policy_authorization_pb2_grpc as nmb12_grpc
from nf.smf.v1 import mbs_session_pb2 as mbs
from nf.smf.v1 import mbs_session_pb2_grpc as mbs_grpc
from nf.smf.v1 import tmgi_pb2 as tmgi
from nf.smf.v1 import tmgi_pb2_grpc as tmgi_grpc

# --- MBSF ---------------------------------------------------------------------------------------------------------


def _services(channels: Channels, _: Filters) -> AsyncIterator[services.MbsUserService]:
    stub = services_grpc.MbsUserServicesServiceStub(channels.get("mbsf"))

    async def fetch(token: str) -> tuple[Sequence[services.MbsUserService], str]:
        request = services.ListMbsUserServicesRequest(page_size=PAGE, page_token=token)
        page = await stub.ListMbsUserServices(request)
        return page.mbs_user_services, page.next_page_token

    return pages(fetch)


async def _service(channels: Channels, name: str) -> services.MbsUserService:
    stub = services_grpc.MbsUserServicesServiceStub(channels.get("mbsf"))
    return (await stub.GetMbsUserService(services.GetMbsUserServiceRequest(mbs_user_serv_id=name))).mbs_user_service


def _sessions(channels: Channels, filters: Filters) -> AsyncIterator[ingest.MbsUserDataIngSession]:
    stub = ingest_grpc.MbsUserDataIngestSessionsServiceStub(channels.get("mbsf"))

    async def fetch(token: str) -> tuple[Sequence[ingest.MbsUserDataIngSession], str]:
        request = ingest.ListMbsUserDataIngSessionsRequest(
            mbs_user_serv_id=filters.get("service", ""), page_size=PAGE, page_token=token
        )
        page = await stub.ListMbsUserDataIngSessions(request)
        return page.mbs_user_data_ing_sessions, page.next_page_token

    return pages(fetch)


async def _session(channels: Channels, name: str) -> ingest.MbsUserDataIngSession:
    stub = ingest_grpc.MbsUserDataIngestSessionsServiceStub(channels.get("mbsf"))
    request = ingest.GetMbsUserDataIngSessionRequest(mbs_ing_session_id=name)
    return (await stub.GetMbsUserDataIngSession(request)).mbs_user_data_ing_session


async def _distribution_sessions(
    channels: Channels, filters: Filters
) -> AsyncIterator[ingest.MbsDistributionSessionInfo]:
    async for session in _sessions(channels, filters):
        for _, info in sorted(session.mbs_dis_sess_infos.items()):
            yield info


async def _distribution_session(channels: Channels, name: str) -> ingest.MbsDistributionSessionInfo:
    async for each in _distribution_sessions(channels, {}):
        if each.mbs_dist_session_id == name:
            return each
    raise NotFound(f"MbsDistributionSessionInfo {name!r} does not exist")


# --- MBSTF --------------------------------------------------------------------------------------------------------


def _replicas(channels: Channels, _: Filters) -> AsyncIterator[nmb2.DistSession]:
    stub = nmb2_grpc.DistSessionServiceStub(channels.get("mbstf"))

    async def fetch(token: str) -> tuple[Sequence[nmb2.DistSession], str]:
        page = await stub.ListDistSessions(nmb2.ListDistSessionsRequest(page_size=PAGE, page_token=token))
        return page.dist_sessions, page.next_page_token

    return pages(fetch)


async def _replica(channels: Channels, name: str) -> nmb2.DistSession:
    stub = nmb2_grpc.DistSessionServiceStub(channels.get("mbstf"))
    return (await stub.GetDistSession(nmb2.GetDistSessionRequest(dist_session_id=name))).dist_session


# --- MB-SMF -------------------------------------------------------------------------------------------------------


def _tmgis(channels: Channels, _: Filters) -> AsyncIterator[tmgi.AllocatedTmgi]:
    stub = tmgi_grpc.TmgiServiceStub(channels.get("smf"))

    async def fetch(token: str) -> tuple[Sequence[tmgi.AllocatedTmgi], str]:
        page = await stub.ListTmgis(tmgi.ListTmgisRequest(page_size=PAGE, page_token=token))
        return page.tmgis, page.next_page_token

    return pages(fetch)


async def _tmgi(channels: Channels, name: str) -> tmgi.AllocatedTmgi:
    async for each in _tmgis(channels, {}):
        if each.tmgi.mbs_service_id == name:
            return each
    raise NotFound(f"AllocatedTmgi {name!r} does not exist")


def _mbs_sessions(channels: Channels, _: Filters) -> AsyncIterator[mbs.MbsSession]:
    stub = mbs_grpc.MbsSessionServiceStub(channels.get("smf"))

    async def fetch(token: str) -> tuple[Sequence[mbs.MbsSession], str]:
        page = await stub.ListMbsSessions(mbs.ListMbsSessionsRequest(page_size=PAGE, page_token=token))
        return page.mbs_sessions, page.next_page_token

    return pages(fetch)


async def _mbs_session(channels: Channels, name: str) -> mbs.MbsSession:
    stub = mbs_grpc.MbsSessionServiceStub(channels.get("smf"))
    return (await stub.GetMbsSession(mbs.GetMbsSessionRequest(mbs_session_ref=name))).mbs_session


# --- PCF ----------------------------------------------------------------------------------------------------------


def _contexts(channels: Channels, _: Filters) -> AsyncIterator[nmb12.MbsAppSessionContext]:
    stub = nmb12_grpc.MbsPolicyAuthorizationServiceStub(channels.get("pcf"))

    async def fetch(token: str) -> tuple[Sequence[nmb12.MbsAppSessionContext], str]:
        request = nmb12.ListMbsAppSessionContextsRequest(page_size=PAGE, page_token=token)
        page = await stub.ListMbsAppSessionContexts(request)
        return page.contexts, page.next_page_token

    return pages(fetch)


async def _context(channels: Channels, name: str) -> nmb12.MbsAppSessionContext:
    async for each in _contexts(channels, {}):
        if each.context_id == name:
            return each
    raise NotFound(f"MbsAppSessionContext {name!r} does not exist")


MBS_READINGS: Final[Mapping[str, Reading]] = {
    "mbs-user-services": Reading(
        _services,
        _service,
        columns(
            id="mbs_user_serv_id", type="serv_type", service_class="serv_class", names="ext_service_ids",
            modes="serv_ann_modes", created="create_time",
        ),
    ),
    "mbs-ingest-sessions": Reading(
        _sessions,
        _session,
        columns(
            id="mbs_ing_session_id", service="mbs_user_serv_id", distribution_sessions="mbs_dis_sess_infos",
            periods="act_periods", announced_at="mbs_user_service_anmt_url", created="create_time",
        ),
    ),
    "mbs-distribution-sessions": Reading(
        _distribution_sessions,
        _distribution_session,
        columns(
            id="mbs_dist_session_id", state="mbs_dist_sess_state", method="distr_method", rate="max_cont_bit_rate_bps",
            TMGI="mbs_session_id.tmgi.mbs_service_id", announced="announced", problem="problem.detail",
        ),
    ),
    "dist-sessions": Reading(
        _replicas,
        _replica,
        columns(
            id="dist_session_id", state="dist_session_state", rate="mbr_bps",
            group="up_traffic_flow_info.dest_ip_addr.ipv4_addr", port="up_traffic_flow_info.port_number",
            TSI="flute_tsi", ingest_failed="ingest_failed", created="create_time",
        ),
    ),
    "tmgis": Reading(
        _tmgis,
        _tmgi,
        columns(
            id="tmgi.mbs_service_id", MCC="tmgi.plmn_id.mcc", MNC="tmgi.plmn_id.mnc", session="mbs_session_ref",
            expires="expiration_time",
        ),
    ),
    "mbs-sessions": Reading(
        _mbs_sessions,
        _mbs_session,
        columns(
            id="mbs_session_ref", type="service_type", TMGI="tmgi.mbs_service_id", area="area_session_id",
            state="state", activity="activity_status", policy="mbs_policy_id", created="create_time",
        ),
    ),
    "mbs-contexts": Reading(
        _contexts,
        _context,
        columns(
            id="context_id", type="service_type", TMGI="mbs_session_id.tmgi.mbs_service_id", DNN="dnn", slice="snssai",
            state="state", rate="authorized_bw_bps", operator_policy="operator_policy_id",
        ),
    ),
}  # fmt: skip
