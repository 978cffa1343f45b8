"""Announcements as the MBSF client reads them (TS 26.517 §5): service descriptions with their session descriptions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias
from urllib.parse import urljoin

from google.protobuf.timestamp_pb2 import Timestamp

from nf.client.mbs.errors import AnnouncementInvalid
from nf.client.mbs.session_description import SessionDescription, parse_session_description
from nf.common.clock import from_ns
from nf.common.codec import from_json
from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.json_text import decode, type_name
from nf.common.v1 import mbs_distribution_pb2 as distribution
from nf.mbsf.v1 import announcement_pb2 as told

DESCRIPTIONS_TYPE: Final = "application/3gpp-mbs-user-service-descriptions+json"
JSON_TYPES: Final = ("application/json", DESCRIPTIONS_TYPE)
SDP_TYPE: Final = "application/sdp"
BUNDLE_TYPE: Final = "multipart/related"

_PARAMETER: Final = re.compile(r';\s*([A-Za-z-]+)\s*=\s*(?:"([^"]*)"|([^;\s]+))')
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_SHOWN: Final = 80
_MAX_PARTS: Final = 1000

Period: TypeAlias = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class RepairServers:
    """Where what was missed is fetched: after ``offset`` and a random time of at most ``random_period``."""

    locators: tuple[str, ...]
    offset: timedelta
    random_period: timedelta


@dataclass(frozen=True, slots=True)
class AnnouncedSession:
    """A distribution session: how it is joined, what of the application comes by it, how it is repaired."""

    locator: str
    is_object: bool
    description: SessionDescription
    base_patterns: tuple[str, ...] = ()
    repair: RepairServers | None = None


@dataclass(frozen=True, slots=True)
class AnnouncedService:
    """An MBS user service as a client knows it. ``periods`` empty: at any time."""

    service_id: str
    names: tuple[tuple[str, str], ...]
    service_class: str
    sessions: tuple[AnnouncedSession, ...]
    periods: tuple[Period, ...]
    entry_point: str
    entry_point_type: str
    description: told.UserServiceDescription

    def is_on(self, moment: datetime) -> bool:
        """Whether there is something to receive then."""
        return not self.periods or any(begin <= moment < end for begin, end in self.periods)


@dataclass(frozen=True, slots=True)
class Document:
    """What has come in one piece: the descriptions, and the session descriptions that came with them, by URL."""

    descriptions: tuple[told.UserServiceDescription, ...]
    session_descriptions: Mapping[str, str]

    def missing(self, base_url: str = "") -> tuple[str, ...]:
        """The URLs of session descriptions that have to be fetched yet."""
        wanted = dict.fromkeys(_locators(each, base_url) for each in self._sessions())
        return tuple(each for each in wanted if each not in self.session_descriptions)

    def services(self, base_url: str = "", fetched: Mapping[str, str] | None = None) -> tuple[AnnouncedService, ...]:
        """The services, ``fetched`` being what was missing. Raises AnnouncementInvalid."""
        texts = {**self.session_descriptions, **(fetched or {})}
        return tuple(_service(each, base_url, texts) for each in self.descriptions)

    def _sessions(self) -> Iterator[told.DistributionSessionDescription]:
        for description in self.descriptions:
            yield from _sessions_of(description)


def parse(content_type: str, content: bytes, base_url: str = "") -> Document:
    """What an announcement says: one description, a list of them, or a bundle with session descriptions.

    URLs in it are resolved against ``base_url``, where it came from. Raises AnnouncementInvalid.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in JSON_TYPES:
        return Document(_descriptions(content, "announcement"), {})
    if media_type != BUNDLE_TYPE:
        raise _wrong("content-type", f"{', '.join((*JSON_TYPES, BUNDLE_TYPE))}", repr(content_type[:_SHOWN]))
    descriptions: tuple[told.UserServiceDescription, ...] | None = None
    texts: dict[str, str] = {}
    for index, (headers, body) in enumerate(_parts(content_type, content)):
        where = f"part {index}"
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if descriptions is None:
            if kind not in JSON_TYPES:
                raise _wrong(f"{where}, content-type", " or ".join(JSON_TYPES), repr(kind))
            descriptions = _descriptions(body, where)
        elif kind == SDP_TYPE:
            location = headers.get("content-location", "")
            if not location:
                raise _wrong(f"{where}, content-location", "a URL", "nothing")
            texts[urljoin(base_url, location)] = _text(body, where)
    if descriptions is None:
        raise _wrong("announcement", "a part with descriptions", "none")
    return Document(descriptions, texts)


def _service(description: told.UserServiceDescription, base_url: str, texts: Mapping[str, str]) -> AnnouncedService:
    where = f"service {description.service_id!r}"
    sessions = []
    for session in _sessions_of(description):
        locator = _locators(session, base_url)
        if locator not in texts:
            raise _wrong(f"{where}, sessionDescriptionLocator", "a session description there", repr(locator))
        sessions.append(_session(session, locator, texts[locator]))
    schedules = description.schedule_description
    periods = sorted(_period(each, where) for schedule in schedules for each in _taking_place(schedule))
    names = list(description.name)
    languages = [*description.service_language, *[""] * len(names)]
    entry = description.app_service_description
    return AnnouncedService(
        description.service_id,
        tuple(zip(names, languages, strict=False)),
        schedules[0].service_class if schedules else "",
        tuple(sessions),
        tuple(periods),
        urljoin(base_url, entry.media_entry_point_locator) if entry.media_entry_point_locator else "",
        entry.mime_type,
        description,
    )


def _session(session: told.DistributionSessionDescription, locator: str, text: str) -> AnnouncedSession:
    described = parse_session_description(text)
    is_object = session.distribution_method == distribution.DISTRIBUTION_METHOD_OBJECT
    if is_object != described.is_flute:
        expected = "FLUTE/UDP" if is_object else "another protocol than FLUTE/UDP"
        raise _wrong(f"session description {locator}", expected, described.protocol)
    repair = None
    post = session.object_repair_parameters.post_object_repair
    if post.service_locators:
        repair = RepairServers(
            tuple(urljoin(locator, each) for each in post.service_locators),
            timedelta(seconds=post.offset_time_s),
            timedelta(seconds=post.random_time_period_s),
        )
    patterns = tuple(each.base_pattern for each in session.mbs_app_service)
    return AnnouncedSession(locator, is_object, described, patterns, repair)


def _taking_place(schedule: told.ServiceSchedule) -> Iterator[told.SessionPeriod]:
    """The periods of a schedule as its overrides leave them."""
    overrides = {each.index: each for each in schedule.session_schedule_override if each.HasField("index")}
    for period in schedule.session_schedule:
        override = overrides.get(period.index) if period.HasField("index") else None
        if override is None:
            yield period
        elif not override.cancelled:
            moved = told.SessionPeriod()
            moved.CopyFrom(period)
            for name in ("start", "stop"):
                if override.HasField(name):
                    getattr(moved, name).CopyFrom(getattr(override, name))
            yield moved


def _period(period: told.SessionPeriod, where: str) -> Period:
    begin, end = _moment(period.start), _moment(period.stop)
    if end <= begin:
        raise _wrong(f"{where}, stop", f"a time after {begin.isoformat()}", end.isoformat())
    return begin, end


def _moment(stamp: Timestamp) -> datetime:
    return from_ns(stamp.seconds * 1_000_000_000 + stamp.nanos)


def _sessions_of(
    description: told.UserServiceDescription,
) -> Iterable[told.DistributionSessionDescription]:
    """All of them: the list of later releases, where it is there, has the single one too."""
    if description.distribution_session_descriptions:
        return description.distribution_session_descriptions
    if description.HasField("distribution_session_description"):
        return (description.distribution_session_description,)
    return ()


def _locators(session: told.DistributionSessionDescription, base_url: str) -> str:
    return urljoin(base_url, session.session_description_locator)


def _descriptions(content: bytes, where: str) -> tuple[told.UserServiceDescription, ...]:
    try:
        tree = decode(content)
        if isinstance(tree, list):
            return tuple(_description(each, f"{where}[{index}]") for index, each in enumerate(tree))
        return (_description(tree, where),)
    except InvalidArgument as error:
        if isinstance(error, AnnouncementInvalid):
            raise
        raise AnnouncementInvalid(f"{where}: {error.message}", violations=error.violations) from error


def _description(tree: object, where: str) -> told.UserServiceDescription:
    if not isinstance(tree, dict):
        raise _wrong(where, "an object", type_name(tree))
    try:
        return from_json(told.UserServiceDescription, tree)
    except InvalidArgument as error:
        raise AnnouncementInvalid(f"{where}: {error.message}", violations=error.violations) from error


def _parts(content_type: str, content: bytes) -> Iterator[tuple[dict[str, str], bytes]]:
    """The parts of a bundle (RFC 2046 §5.1): header fields, names in small letters, and content."""
    parameters = {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(content_type)}
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise _wrong("content-type", "a boundary", repr(boundary))
    delimiter = b"\r\n--" + boundary.encode()
    pieces = (b"\r\n" + content).split(delimiter)
    if len(pieces) < 2:
        raise _wrong("announcement", f"parts between boundaries {boundary!r}", "none")
    if len(pieces) > _MAX_PARTS:
        raise _wrong("announcement", f"at most {_MAX_PARTS} parts", str(len(pieces)))
    for index, piece in enumerate(pieces[1:]):
        if piece.startswith(b"--"):
            return
        padding, end_of_line, rest = piece.partition(b"\r\n")
        # A part without header fields begins with the line that ends them.
        head, empty, body = (b"\r\n" + rest).partition(b"\r\n\r\n")
        if padding.strip(b" \t") or not end_of_line or not empty:
            raise _wrong(f"part {index}", "header fields, an empty line and content", repr(piece[:_SHOWN]))
        headers = {}
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        yield headers, body
    raise _wrong("announcement", f"the end --{boundary}--", "none")


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _wrong(where, "UTF-8", f"byte 0x{content[error.start]:02x}") from None


def _wrong(where: str, expected: str, found: str) -> AnnouncementInvalid:
    why = f"expected {expected}, found {found}"
    return AnnouncementInvalid(f"{where}: {why}", violations=(FieldViolation(where, why),))
