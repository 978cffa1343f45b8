"""What ``castcore book`` prints: tables and lines for eyes, one JSON object a line for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from google.protobuf.message import Message

from nf.cli.resources.reading import columns
from nf.cli.resources.tables import Columns, console, lines, table
from nf.cli.resources.tree import time_text, tree_of
from nf.netapi.v1 import booking_pb2 as booking

M = TypeVar("M", bound=Message)

_OFFER_LINES: Final = columns(
    area="area_id", profile="profile_id", begins="start_time", ends="stop_time", asked_for="requested_devices",
    offered="offered_devices", because="limited_by", price="price_units",
)  # fmt: skip
_IDS: Final = columns(
    network_access_ID="network_access_id", area="area_id", capability="capability", profile="profile_id",
    devices="devices", guaranteed_down="qos.guaranteed_downlink_bps", max_down="qos.max_downlink_bps", active="active",
)  # fmt: skip
USAGES: Final = columns(
    network_access_ID="network_access_id", devices="devices", in_use="devices_in_use", booked="booked_devices",
    peak="peak_devices", down="downlink_bps", up="uplink_bps", loss_ppm="loss_ppm", delay_ms="delay_ms",
    down_bytes="usage.downlink.conforming.bytes", dropped_bytes="usage.downlink.dropped.bytes",
    measured="measured_time",
)  # fmt: skip


def tell(message: Message, *, as_json: bool) -> None:
    """One resource, whole."""
    tree = tree_of(message)
    print(json.dumps(tree, ensure_ascii=False) if as_json else "\n".join(lines(tree)), flush=True)


async def tell_all(items: AsyncIterator[M], heads: Columns, what: str, *, as_json: bool) -> None:
    """A table, or a line each. ``what`` there is none of, if there is none."""
    if as_json:
        async for each in items:
            print(json.dumps(tree_of(each), ensure_ascii=False), flush=True)
        return
    tell_table([each async for each in items], heads, what)


def tell_these(items: Sequence[Message], heads: Columns, what: str, *, as_json: bool) -> None:
    """The same of what is there already."""
    if as_json:
        for each in items:
            print(json.dumps(tree_of(each), ensure_ascii=False), flush=True)
        return
    tell_table(items, heads, what)


def tell_table(resources: Sequence[Message], heads: Columns, what: str) -> None:
    """A table, or that there is none."""
    if not resources:
        print(f"no {what}", file=sys.stderr)
        return
    _print(table(heads, resources))


def tell_booking(told: booking.Booking, *, as_json: bool, quiet: bool = False) -> None:
    """A booking: its state, what it is about, the offer that stands, its network access IDs; ``quiet``: its name."""
    if quiet:
        print(told.booking_id, flush=True)
        return
    if as_json:
        print(json.dumps(tree_of(told), ensure_ascii=False), flush=True)
        return
    print("\n".join(_booking_lines(told)))
    for title, offer in offers(told):
        counter = ", less than was asked for" if offer.counter_offer else ""
        print(
            f"\n{title} {offer.revision}{counter}: {offer.total_price_units} price units, valid until"
            f" {time_text(offer.valid_until)}"
        )
        _print(table(_OFFER_LINES, offer.lines))
    if told.network_access_ids:
        _print(table(_IDS, told.network_access_ids))
    hint = _hint(told)
    if hint:
        print(hint, file=sys.stderr)


def offers(told: booking.Booking) -> Iterator[tuple[str, booking.Offer]]:
    """What can be accepted of a booking now."""
    if told.state == booking.Booking.STATE_OFFERED:
        yield "offer", told.offer
    if told.HasField("reconfiguration"):
        yield "offer of a change,", told.reconfiguration.offer


def _booking_lines(told: booking.Booking) -> Iterable[str]:
    state = booking.Booking.State.Name(told.state).removeprefix("STATE_")
    yield f"booking      {told.booking_id}  {state}"
    population = told.request.population
    yield f"application  {population.application_id}, {population.devices} devices"
    for each in told.request.periods:
        repeated = f", repeats {each.repetition_rule}" if each.repetition_rule else ""
        zone = f" ({each.time_zone})" if each.time_zone else ""
        yield f"period       {time_text(each.start_time)} to {time_text(each.stop_time)}{repeated}{zone}"
    for flow in (*told.request.traffic.flow_descriptions, *told.request.traffic.domain_names):
        yield f"traffic      {flow}"
    period, (first, *more) = told.current_period, told.request.periods or [booking.BookingPeriod()]
    if told.HasField("current_period") and (more or first.repetition_rule):
        yield f"next         {time_text(period.start_time)} to {time_text(period.stop_time)}"
    if told.problem.detail or told.problem.cause:
        yield f"because      {told.problem.detail or told.problem.cause}"


def _hint(told: booking.Booking) -> str:
    if any(True for _ in offers(told)):
        return f"accept it:   castcore book accept {told.booking_id}"
    return ""


def _print(drawn: object) -> None:
    # Printed here: a console that finds its pipe broken would end the process from within the event loop.
    shown = console()
    with shown.capture() as text:
        shown.print(drawn)
    print(text.get().rstrip(), flush=True)
