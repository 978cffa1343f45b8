"""What clients are told of an MBS user service: descriptions made of its resources (TS 26.517 §5.2, §5.3).

An announcement is a user service description and the session description of each distribution session in it. It goes
out as one document (``Announcement.bundle``), by MBS-5, in a carousel, or passed back to the provider.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from nf.common.codec import to_json
from nf.common.json_text import encode
from nf.common.v1 import mbs_distribution_pb2 as distribution
from nf.mbsf import session_description as sdp
from nf.mbsf.v1 import announcement_pb2 as told
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1.user_service_pb2 import MbsUserService

BASELINE_PROFILE: Final = "urn:3GPP:26517:17:baseline"
DESCRIPTIONS_TYPE: Final = "application/3gpp-mbs-user-service-descriptions+json"

# Entry points that are known by the ends of their names.
_ENTRY_POINTS: Final = {
    ".mpd": "application/dash+xml",
    ".m3u8": "application/vnd.apple.mpegurl",
}


@dataclass(frozen=True, slots=True)
class Repair:
    """When clients ask repair servers: so long after the end of a transmission, and a random time at most this long."""

    offset_s: int
    random_period_s: int


DEFAULT_REPAIR: Final = Repair(offset_s=1, random_period_s=5)


@dataclass(frozen=True, slots=True)
class Announced:
    """A distribution session that is announced. ``version`` rises with every change of it."""

    info: ingest.MbsDistributionSessionInfo
    flow: told.MbsFlow
    periods: tuple[tuple[datetime, datetime], ...] = ()
    version: int = 0


@dataclass(frozen=True, slots=True)
class Bundle:
    """An announcement in one piece: multipart/related (RFC 2387), the description first."""

    content_type: str
    content: bytes

    @property
    def etag(self) -> str:
        """Names this content."""
        return hashlib.sha256(self.content).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Announcement:
    """A service's description, and the session descriptions (URL, SDP) that it refers to."""

    description: told.UserServiceDescription
    session_descriptions: tuple[tuple[str, str], ...]

    def bundle(self) -> Bundle:
        """Description and session descriptions in one piece."""
        return bundle((self,))


def announce(
    service: MbsUserService,
    sessions: Sequence[Announced],
    *,
    locate: Callable[[str], str],
    service_id: str = "",
    repair: Repair = DEFAULT_REPAIR,
) -> Announcement:
    """The announcement of a service with these distribution sessions, in this order.

    ``locate`` gives the URL of the session description of a distribution session by its id; ``service_id`` is the
    external identifier that was asked for, by default the first. The same resources make the same announcement.
    """
    name = service_id or service.ext_service_ids[0]
    description = told.UserServiceDescription(service_id=name)
    described = sorted(service.serv_name_descs, key=lambda each: each.language != service.main_serv_lang)
    for each in described:
        if each.serv_name:
            description.name.append(each.serv_name)
            description.service_language.append(each.language)
    descriptions = [_distribution_session(each, locate, repair) for each in sessions]
    if descriptions:
        description.distribution_session_description.CopyFrom(descriptions[0])
    if len(descriptions) > 1:
        description.distribution_session_descriptions.extend(descriptions)
    _add_entry_point(description, sessions)
    _add_schedule(description, service, sessions)
    _add_availability(description, sessions)
    title = description.name[0] if description.name else name
    texts = [(locate(each.info.mbs_dist_session_id), _session(service, each, title)) for each in sessions]
    return Announcement(description, tuple(texts))


def bundle(announcements: Iterable[Announcement]) -> Bundle:
    """Announcements in one piece."""
    everything = tuple(announcements)
    root = encode([to_json(each.description) for each in everything])
    texts = [text for each in everything for text in each.session_descriptions]
    marked = hashlib.sha256(root + b"".join(text.encode() for _, text in texts)).hexdigest()
    boundary = f"mbs-{marked[:24]}"
    parts = [(f"Content-Type: {DESCRIPTIONS_TYPE}\r\n", root)]
    parts += [
        (f"Content-Type: {sdp.MEDIA_TYPE}\r\nContent-Location: {location}\r\n", text.encode())
        for location, text in texts
    ]
    content = b"".join(b"--%b\r\n%b\r\n%b\r\n" % (boundary.encode(), head.encode(), body) for head, body in parts)
    return Bundle(
        f'multipart/related; boundary={boundary}; type="{DESCRIPTIONS_TYPE}"',
        content + b"--%b--\r\n" % boundary.encode(),
    )


def _session(service: MbsUserService, session: Announced, title: str) -> str:
    info = session.info
    is_object = info.distr_method == distribution.DISTRIBUTION_METHOD_OBJECT
    identity = info.mbs_session_id
    return sdp.session_description(
        session.flow,
        session_id=info.mbs_dist_session_id,
        version=session.version,
        name=title,
        periods=session.periods,
        bit_rate_bps=info.max_cont_bit_rate_bps,
        service_type=service.serv_type,
        tmgi=identity.tmgi if identity.HasField("tmgi") else None,
        fec=info.fec_config if is_object and info.HasField("fec_config") else None,
        media=sdp.FLUTE if is_object else sdp.media_of(info.mbs_serv_info),
    )


def _distribution_session(
    session: Announced, locate: Callable[[str], str], repair: Repair
) -> told.DistributionSessionDescription:
    info = session.info
    described = told.DistributionSessionDescription(
        distribution_method=info.distr_method,
        conformance_profile=BASELINE_PROFILE,
        session_description_locator=locate(info.mbs_dist_session_id),
    )
    objects = info.obj_distr_info
    if objects.obj_repair_uri:
        post = described.object_repair_parameters.post_object_repair
        post.service_locators.append(objects.obj_repair_uri)
        post.offset_time_s, post.random_time_period_s = repair.offset_s, repair.random_period_s
    if objects.obj_distr_uri:
        described.mbs_app_service.add(base_pattern=objects.obj_distr_uri)
    return described


def _add_entry_point(description: told.UserServiceDescription, sessions: Sequence[Announced]) -> None:
    """Where the application begins: the presentation of the first distribution session that streams one."""
    for session in sessions:
        objects = session.info.obj_distr_info
        if objects.operating_mode != distribution.OBJ_DISTRIBUTION_OPERATING_MODE_STREAMING:
            continue
        for location in objects.obj_acq_ids:
            path = urlsplit(location).path
            kind = next((kind for end, kind in _ENTRY_POINTS.items() if path.endswith(end)), "")
            if kind:
                entry = description.app_service_description
                entry.media_entry_point_locator, entry.mime_type = _distributed(objects, location), kind
                return


def _distributed(objects: ingest.ObjectDistrMethInfo, location: str) -> str:
    """The URL under which an object is distributed that is ingested from ``location``."""
    base = objects.obj_ing_uri
    if base and objects.obj_distr_uri and location.startswith(base):
        return objects.obj_distr_uri + location[len(base) :]
    return location


def _add_schedule(
    description: told.UserServiceDescription, service: MbsUserService, sessions: Sequence[Announced]
) -> None:
    periods = sorted({period for session in sessions for period in session.periods})
    if not periods:
        return
    schedule = description.schedule_description.add(service_id=description.service_id, service_class=service.serv_class)
    for index, (begin, end) in enumerate(periods):
        period = schedule.session_schedule.add(index=index)
        period.start.FromDatetime(begin)
        period.stop.FromDatetime(end)


def _add_availability(description: told.UserServiceDescription, sessions: Sequence[Announced]) -> None:
    seen = set()
    for session in sessions:
        info = session.info
        has_area = info.HasField("tgt_serv_areas")
        if not has_area and not info.mbs_fsa_id:
            continue
        key = (info.tgt_serv_areas.SerializeToString(deterministic=True), info.mbs_fsa_id)
        if key in seen:
            continue
        seen.add(key)
        where = description.availability_info.add(mbs_fsa_id=info.mbs_fsa_id)
        if has_area:
            where.mbs_service_area.append(info.tgt_serv_areas)
