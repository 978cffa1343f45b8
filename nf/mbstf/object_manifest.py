"""The object manifest of carousels and collections (TS 26.517 §6, MBSObjectManifest), read from its JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, cast

from nf.common.clock import from_ns
from nf.common.date_time import parse_date_time
from nf.mbstf.errors import IngestFailed
from nf.mbstf.requests import is_url

MEDIA_TYPE: Final = "application/3gpp-mbs-object-manifest+json"
_JSON: Final = ("application/json", "text/json")
_MAX_OBJECTS: Final = 10_000


class ManifestRefused(IngestFailed):
    """The object manifest cannot be read."""


@dataclass(frozen=True, slots=True)
class ManifestObject:
    """One object of a manifest; None where it leaves something to the MBSTF."""

    locator: str
    repetition_interval: timedelta | None = None
    keep_updated_interval: timedelta | None = None
    earliest_fetch_time: datetime | None = None
    latest_fetch_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class ObjectManifest:
    """The objects, and how often the manifest is fetched again; None: never."""

    objects: tuple[ManifestObject, ...]
    update_interval: timedelta | None = None


def is_manifest(content_type: str, data: bytes) -> bool:
    """Whether that is an object manifest: by its media type, or JSON that has objects with locators."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == MEDIA_TYPE:
        return True
    if kind not in _JSON:
        return False
    try:
        found = json.loads(data)
    except ValueError:
        return False
    objects = found.get("objects") if isinstance(found, dict) else None
    return isinstance(objects, list) and all(isinstance(each, dict) and "locator" in each for each in objects)


def read_manifest(data: bytes, where: str) -> ObjectManifest:
    """The manifest; ``where`` it comes from is for messages. Raises ManifestRefused, naming what is wrong."""
    try:
        found = json.loads(data)
    except ValueError as error:
        raise ManifestRefused(f"{where}: expected an object manifest in JSON, {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("objects"), list):
        raise ManifestRefused(f"{where}: objects: expected a list, found {type(found).__name__}")
    objects = cast("list[object]", found["objects"])
    if len(objects) > _MAX_OBJECTS:
        raise ManifestRefused(f"{where}: objects: expected at most {_MAX_OBJECTS}, found {len(objects)}")
    read = tuple(_object(each, f"{where}: objects[{at}]") for at, each in enumerate(objects))
    locators = [each.locator for each in read]
    if len(set(locators)) < len(locators):
        raise ManifestRefused(f"{where}: objects: expected each locator once")
    return ObjectManifest(read, _interval(found, "updateInterval", where, timedelta(seconds=1)))


def _object(found: object, where: str) -> ManifestObject:
    if not isinstance(found, dict):
        raise ManifestRefused(f"{where}: expected an object, found {type(found).__name__}")
    locator = found.get("locator")
    if not isinstance(locator, str) or not is_url(locator):
        raise ManifestRefused(f"{where}.locator: expected an absolute http or https URL, found {locator!r:.200}")
    return ManifestObject(
        locator,
        _interval(found, "repetitionInterval", where, timedelta(milliseconds=1)),
        _interval(found, "keepUpdatedInterval", where, timedelta(seconds=1)),
        _moment(found, "earliestFetchTime", where),
        _moment(found, "latestFetchTime", where),
    )


def _interval(found: dict[str, object], name: str, where: str, unit: timedelta) -> timedelta | None:
    value = found.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31:
        raise ManifestRefused(f"{where}.{name}: expected a whole number from 1 on, found {value!r:.100}")
    return value * unit


def _moment(found: dict[str, object], name: str, where: str) -> datetime | None:
    value = found.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ManifestRefused(f"{where}.{name}: expected a date-time, found {value!r:.100}")
    try:
        seconds, nanos = parse_date_time(value)
    except ValueError as error:
        raise ManifestRefused(f"{where}.{name}: {error}") from error
    return from_ns(seconds * 10**9 + nanos)
