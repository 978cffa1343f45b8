"""What is taken of the areas when and by which booking, and which bookings stand: typed tables of the store.

A reservation is held while an offer may still be accepted, and booked from then on. Who ends a booking takes away all
that it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, bindparam, delete, func, select
from sqlalchemy import insert as insert_into

from nf.common.statements import Statement, Values
from nf.common.store import Reader, Transaction
from nf.netapi.calendar import Load, Reservation, Timeline

metadata = MetaData()

# One row for what a booking takes of an area from start to stop. A profile of its own has each that is booked, or
# offered at first; what a reconfiguration needs more is held without.
reservations = Table(
    "netapi_reservations",
    metadata,
    Column("area_id", String, nullable=False),
    Column("start_ns", BigInteger, nullable=False),
    Column("stop_ns", BigInteger, nullable=False),
    Column("downlink_bps", BigInteger, nullable=False),
    Column("uplink_bps", BigInteger, nullable=False),
    Column("devices", BigInteger, nullable=False),
    Column("held", Integer, nullable=False),
    Column("booking_id", String, nullable=False),
    Column("profile_id", String, nullable=False),
    # What is over is at the one end of the index, and is not looked at.
    Index("netapi_reservations_by_area", "area_id", "stop_ns"),
    Index("netapi_reservations_by_booking", "booking_id"),
    Index("netapi_reservations_by_profile", "profile_id"),
)

# Bookings that are neither declined nor over, by the agreement that they were made under.
standing_bookings = Table(
    "netapi_standing_bookings",
    metadata,
    Column("booking_id", String, primary_key=True),
    Column("agreement_id", String, nullable=False),
    Index("netapi_standing_bookings_by_agreement", "agreement_id"),
)

TABLES: Final = (reservations, standing_bookings)

_of_booking = reservations.c.booking_id == bindparam("b")
_load = (reservations.c.downlink_bps, reservations.c.uplink_bps, reservations.c.devices)
_TAKEN = Statement(
    select(reservations.c.start_ns, reservations.c.stop_ns, *_load).where(
        reservations.c.area_id == bindparam("a"),
        reservations.c.stop_ns > bindparam("start"),
        reservations.c.start_ns < bindparam("stop"),
        reservations.c.booking_id != bindparam("b"),
    )
)
_BOOKED = Statement(
    select(reservations.c.area_id, reservations.c.start_ns, reservations.c.stop_ns, *_load).where(
        _of_booking, reservations.c.held == 0
    )
)
_INSERT = Statement(insert_into(reservations))
_RETURN = Statement(delete(reservations).where(_of_booking))
_RETURN_HELD = Statement(delete(reservations).where(_of_booking, reservations.c.held == 1))
_RETURN_PASSED = Statement(delete(reservations).where(_of_booking, reservations.c.stop_ns <= bindparam("now")))
_AREA = Statement(select(reservations.c.area_id).where(reservations.c.area_id == bindparam("v")).limit(1))
_PROFILE = Statement(select(reservations.c.profile_id).where(reservations.c.profile_id == bindparam("v")).limit(1))
_STANDING = Statement(
    select(func.count()).select_from(standing_bookings).where(standing_bookings.c.agreement_id == bindparam("a"))
)
_STAND = Statement(insert_into(standing_bookings))
_FALL = Statement(delete(standing_bookings).where(standing_bookings.c.booking_id == bindparam("b")))


@dataclass(frozen=True, slots=True)
class Part:
    """What a booking takes of an area for a capability profile; "" for what has none of its own."""

    area_id: str
    profile_id: str
    reservation: Reservation


def taken(reader: Reader, area_id: str, start_ns: int, stop_ns: int, *, beside: str = "") -> Timeline:
    """What is held or booked of an area between two moments, but by the booking ``beside``."""
    return Timeline(reader.rows(_TAKEN, {"a": area_id, "start": start_ns, "stop": stop_ns, "b": beside}))


def booked(reader: Reader, booking_id: str) -> list[Part]:
    """What a booking has booked."""
    return [
        Part(area_id, "", Reservation(start, stop, Load(down, up, devices)))
        for area_id, start, stop, down, up, devices in reader.rows(_BOOKED, {"b": booking_id})
    ]


def area_in_use(reader: Reader, area_id: str) -> bool:
    """Whether anything of the area is held or booked."""
    return reader.value(_AREA, {"v": area_id}) is not None


def profile_in_use(reader: Reader, profile_id: str) -> bool:
    """Whether the capability profile is held or booked anywhere."""
    return reader.value(_PROFILE, {"v": profile_id}) is not None


def standing(reader: Reader, agreement_id: str) -> int:
    """How many bookings of the agreement are neither declined nor over."""
    return int(reader.value(_STANDING, {"a": agreement_id}))


def stand(transaction: Transaction, booking_id: str, agreement_id: str) -> None:
    """The booking counts from now on."""
    transaction.change(_STAND, {"booking_id": booking_id, "agreement_id": agreement_id})


def hold(transaction: Transaction, booking_id: str, parts: Iterable[Part]) -> None:
    """Holds these for an offer, in place of what was held for one before."""
    transaction.change(_RETURN_HELD, {"b": booking_id})
    _insert(transaction, booking_id, parts, held=True)


def book(transaction: Transaction, booking_id: str, parts: Sequence[Part]) -> None:
    """Books these, in place of all that the booking had held or booked."""
    transaction.change(_RETURN, {"b": booking_id})
    _insert(transaction, booking_id, parts, held=False)


def return_held(transaction: Transaction, booking_id: str) -> None:
    """Gives back what was held for an offer."""
    transaction.change(_RETURN_HELD, {"b": booking_id})


def return_passed(transaction: Transaction, booking_id: str, now_ns: int) -> None:
    """Forgets what is over."""
    transaction.change(_RETURN_PASSED, {"b": booking_id, "now": now_ns})


def end(transaction: Transaction, booking_id: str) -> None:
    """Gives all of it back: the booking does not stand any more."""
    transaction.change(_RETURN, {"b": booking_id})
    transaction.change(_FALL, {"b": booking_id})


def _insert(transaction: Transaction, booking_id: str, parts: Iterable[Part], *, held: bool) -> None:
    rows: list[Values] = [
        {
            "area_id": part.area_id,
            "start_ns": part.reservation.start_ns,
            "stop_ns": part.reservation.stop_ns,
            "downlink_bps": part.reservation.load.downlink_bps,
            "uplink_bps": part.reservation.load.uplink_bps,
            "devices": part.reservation.load.devices,
            "held": int(held),
            "booking_id": booking_id,
            "profile_id": part.profile_id,
        }
        for part in parts
    ]
    if rows:
        transaction.change_all(_INSERT, rows)
