"""What is announced now, out of the store (TS 26.502 §4.6.1, end of step 2 and step 4a)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from nf.common.codec import dumps
from nf.common.store import Reader
from nf.mbsf.announcement import Announced, Bundle, announce
from nf.mbsf.periods import FAR
from nf.mbsf.schedules import periods_of
from nf.mbsf.v1.announcement_pb2 import UserServiceDescription
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession
from nf.mbsf.v1.user_data_ingest_pb2 import MbsUserDataIngSession
from nf.mbsf.v1.user_service_pb2 import SERVICE_ANNOUNCEMENT_MODE_VIA_MBS_5, MbsUserService

DESCRIPTIONS_PATH: Final = "/3gpp-mbs5/v1/user-service-descriptions"
SESSIONS_PATH: Final = "/3gpp-mbs5/v1/session-descriptions"
# Lookups by which services are found; an external identifier is part of the name, since there may be several.
BY_CLASS: Final = "serv_class"
_BY_NAME: Final = "ext_service_id "
# So many periods of a session are told.
_PERIODS_TOLD: Final = 16


@dataclass(frozen=True, slots=True)
class ServiceAnnounced:
    """A service and its distribution sessions that are announced now."""

    service: MbsUserService
    sessions: tuple[Announced, ...]


def lookups_of(service: MbsUserService) -> dict[str, str]:
    """What a service is found by."""
    return {BY_CLASS: service.serv_class} | {f"{_BY_NAME}{each}": "1" for each in service.ext_service_ids}


def announced(reader: Reader, *, external_service_id: str = "", service_class: str = "") -> list[ServiceAnnounced]:
    """The services of that name, or of that class, that are announced at MBS-5, with what of them is."""
    found = (
        reader.find(MbsUserService, f"{_BY_NAME}{external_service_id}", "1")
        if external_service_id
        else reader.find(MbsUserService, BY_CLASS, service_class)
    )
    told = [
        ServiceAnnounced(each, _sessions(reader, each))
        for each in found
        if SERVICE_ANNOUNCEMENT_MODE_VIA_MBS_5 in each.serv_ann_modes
    ]
    return [each for each in told if each.sessions]


def announced_session(reader: Reader, mbs_dist_session_id: str) -> tuple[MbsUserService, Announced] | None:
    """One distribution session that is announced now, with its service."""
    record = reader.get(DistributionSession, mbs_dist_session_id)
    if record is None or not record.info.announced:
        return None
    return service_of(reader, record), _announced(reader, record)


def was_announced(reader: Reader, mbs_dist_session_id: str) -> bool:
    """Whether that session is provisioned, and was announced in its present or last period."""
    record = reader.get(DistributionSession, mbs_dist_session_id)
    return record is not None and record.was_announced


def was_service_announced(reader: Reader, external_service_id: str) -> bool:
    """Whether a service of that name is provisioned of which a session was announced at MBS-5 lately."""
    return any(
        record.was_announced
        for service in reader.find(MbsUserService, f"{_BY_NAME}{external_service_id}", "1")
        if SERVICE_ANNOUNCEMENT_MODE_VIA_MBS_5 in service.serv_ann_modes
        for session in reader.all(MbsUserDataIngSession, parent=service.mbs_user_serv_id)
        for record in reader.all(DistributionSession, parent=session.mbs_ing_session_id)
    )


def service_of(reader: Reader, record: DistributionSession) -> MbsUserService:
    """The service that a distribution session belongs to; an empty one where that has gone."""
    session = reader.get(MbsUserDataIngSession, record.mbs_ing_session_id)
    service = reader.get(MbsUserService, session.mbs_user_serv_id) if session is not None else None
    return service if service is not None else MbsUserService()


def description_of(
    reader: Reader, service: MbsUserService, records: Sequence[DistributionSession], locate: Callable[[str], str]
) -> UserServiceDescription | None:
    """The description of those of these sessions that are announced; None: nothing is."""
    told = [_announced(reader, each) for each in records if each.info.announced]
    if not told or not service.ext_service_ids:
        return None
    return announce(service, told, locate=locate).description


def document_of(
    reader: Reader, service: MbsUserService, record: DistributionSession, locate: Callable[[str], str]
) -> str:
    """The description of one session, as the text of a JSON object."""
    description = announce(service, [_announced(reader, record)], locate=locate).description
    return dumps(description).decode()


def bundle_of(
    reader: Reader, service: MbsUserService, record: DistributionSession, locate: Callable[[str], str]
) -> Bundle:
    """The announcement of one session in one piece, for the session itself to carry."""
    return announce(service, [_announced(reader, record)], locate=locate).bundle()


def description_url(http_url: str, service: MbsUserService) -> str:
    """Where clients fetch the description of a service at MBS-5; empty where there is no door."""
    if not http_url or not service.ext_service_ids:
        return ""
    return f"{http_url}{DESCRIPTIONS_PATH}/{quote(service.ext_service_ids[0], safe='')}"


def session_url(http_url: str, mbs_dist_session_id: str) -> str:
    """Where clients fetch a session description at MBS-5; where there is no door, its name alone."""
    return f"{http_url}{SESSIONS_PATH}/{mbs_dist_session_id}"


def _sessions(reader: Reader, service: MbsUserService) -> tuple[Announced, ...]:
    return tuple(
        _announced(reader, record)
        for session in reader.all(MbsUserDataIngSession, parent=service.mbs_user_serv_id)
        for record in reader.all(DistributionSession, parent=session.mbs_ing_session_id)
        if record.info.announced
    )


def _announced(reader: Reader, record: DistributionSession) -> Announced:
    windows = periods_of(reader, record).upcoming(reader.clock.now(), _PERIODS_TOLD)
    return Announced(
        info=record.info,
        flow=record.flow,
        periods=tuple((each.start, each.stop) for each in windows if each.stop < FAR),
        version=record.announcement_version,
    )
