"""What is booked, from options or a file: population, traffic, periods, capabilities by area."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Final

from nf.cli.book import documents
from nf.common.errors import InvalidArgument
from nf.netapi.v1 import booking_pb2 as booking

OUTSIDE: Final = {
    "best-effort": booking.OUTSIDE_POLICY_BEST_EFFORT,
    "refused": booking.OUTSIDE_POLICY_REFUSED,
}
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"\+?([0-9]+)([smhd])")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the options say; what is None or empty was not said."""

    application: str = ""
    devices: int | None = None
    areas: Sequence[str] = ()
    periods: Sequence[str] = ()
    zone: str = ""
    repeat: str = ""
    flows: Sequence[str] = ()
    domains: Sequence[str] = ()
    outside: str = ""
    file: Path | None = None


def request_of(wish: Wish, now: datetime) -> booking.BookingRequest:
    """A whole request: the file, with what the options say in its place. Raises InvalidArgument."""
    request, _ = changed(booking.BookingRequest(), wish, now)
    missing = [
        option
        for option, there in (
            ("--application", request.population.application_id),
            ("--area", request.area_capabilities),
            ("--period", request.periods),
        )
        if not there
    ]
    if missing:
        raise InvalidArgument(f"{', '.join(missing)}: missing, expected by option or in the --file")
    if not request.population.devices:
        request.population.devices = 1
    return request


def changed(present: booking.BookingRequest, wish: Wish, now: datetime) -> tuple[booking.BookingRequest, list[str]]:
    """A request with what the wish changes of it, and the names of the fields that it says. Raises InvalidArgument."""
    said: dict[str, None] = {}
    request = booking.BookingRequest()
    request.CopyFrom(present)
    if wish.file is not None:
        told = documents.message_of(booking.BookingRequest, documents.read(wish.file), str(wish.file))
        for field, _ in told.ListFields():
            request.ClearField(field.name)  # type: ignore[arg-type]
            said[field.name] = None
        request.MergeFrom(told)
    if wish.application:
        request.population.application_id = wish.application
        said["population"] = None
    if wish.devices is not None:
        request.population.devices = wish.devices
        said["population"] = None
    if wish.areas:
        del request.area_capabilities[:]
        request.area_capabilities.extend(map(area_capability, wish.areas))
        said["area_capabilities"] = None
    if wish.periods:
        del request.periods[:]
        request.periods.extend(period(each, wish.zone, wish.repeat, now) for each in wish.periods)
        said["periods"] = None
    elif wish.zone or wish.repeat:
        raise InvalidArgument("options '--zone' and '--repeat': go with '--period'")
    for values, there in (
        (wish.flows, request.traffic.flow_descriptions),
        (wish.domains, request.traffic.domain_names),
    ):
        if values:
            del there[:]
            there.extend(values)
            said["traffic"] = None
    if wish.outside:
        request.outside = _outside(wish.outside)
        said["outside"] = None
    return request, list(said)


def area_capability(text: str) -> booking.AreaCapability:
    """``AREA=PROFILE[:DEVICES]``. Raises InvalidArgument."""
    area, equals, rest = text.partition("=")
    profile, colon, count = rest.rpartition(":")
    if not colon or not count.isdecimal():
        profile, count = rest, "0"
    if not (area and equals and profile):
        raise InvalidArgument(f"option '--area': found {text!r}, expected AREA=PROFILE or AREA=PROFILE:DEVICES")
    return booking.AreaCapability(area_id=area, profile_id=profile, devices=int(count))


def period(text: str, zone: str, repeat: str, now: datetime) -> booking.BookingPeriod:
    """``START/STOP`` or ``START/DURATION``; START is a time, "now", or "+DURATION" from now. Raises InvalidArgument.

    Times without an offset are those of ``zone``, which is UTC where it is empty.
    """
    begin, slash, end = text.partition("/")
    if not slash or not begin or not end:
        raise InvalidArgument(
            f"option '--period': found {text!r}, expected START/STOP or START/DURATION, such as"
            " 2026-12-24T18:00/2026-12-24T22:00 or now/2h"
        )
    start = _when(begin, _zone(zone), now)
    lasts = _duration(end)
    stop = start + lasts if lasts is not None else _when(end, _zone(zone), now)
    made = booking.BookingPeriod(repetition_rule=repeat.removeprefix("RRULE:"), time_zone=zone)
    made.start_time.FromDatetime(start)
    made.stop_time.FromDatetime(stop)
    return made


def moment(text: str, option: str, zone: tzinfo = UTC) -> datetime:
    """A time, in ``zone`` where it has no offset. Raises InvalidArgument."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(
            f"option '{option}': found {text!r}, expected a time such as 2026-12-24T18:00 or 2026-12-24T17:00Z"
        ) from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=zone)).astimezone(UTC)


def _when(text: str, zone: tzinfo, now: datetime) -> datetime:
    # Periods that repeat begin at whole seconds.
    now = now.replace(microsecond=0)
    if text == "now":
        return now
    ahead = _duration(text) if text.startswith("+") else None
    return now + ahead if ahead is not None else moment(text, "--period", zone)


def _duration(text: str) -> timedelta | None:
    match = _DURATION.fullmatch(text)
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]]) if match else None


def _zone(name: str) -> tzinfo:
    if not name:
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InvalidArgument(f"option '--zone': found {name!r}, expected a time zone such as Europe/Vienna") from None


def _outside(text: str) -> booking.OutsidePolicy.ValueType:
    policy = OUTSIDE.get(text)
    if policy is None:
        raise InvalidArgument(f"option '--outside': found {text!r}, expected {' or '.join(OUTSIDE)}")
    return policy
