"""``castcore book``: bookings of network capabilities, from the request to the release."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nf.cli.book import agreements, catalogue, sinks, using, watching
from nf.cli.book.connection import Connection, PlatformCommand, PlatformGroup, with_platform

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nf.client.netapi import Platform
    from nf.netapi.v1.booking_pb2 import Booking

app = typer.Typer(cls=PlatformGroup, no_args_is_help=True, rich_markup_mode=None)

BookingArgument = Annotated[str, typer.Argument(metavar="BOOKING", help="The booking reference.")]
FileOption = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="What is asked for as TOML or JSON; -: standard input.")
]
ApplicationOption = Annotated[str, typer.Option("--application", metavar="ID", help="The client application.")]
DevicesOption = Annotated[
    int | None, typer.Option("--devices", min=1, metavar="N", help="Devices at one time in one area. [default: 1]")
]
AreaOption = Annotated[
    list[str] | None,
    typer.Option("--area", metavar="AREA=PROFILE[:DEVICES]", help="A capability in an area. May be repeated."),
]
PeriodOption = Annotated[
    list[str] | None,
    typer.Option(
        "--period",
        metavar="START/END",
        help="A time, 'now' or '+30m', to a time or for '2h'. May be repeated.",
    ),
]
ZoneOption = Annotated[
    str, typer.Option("--zone", metavar="ZONE", help="Time zone of the periods: Europe/Vienna. [default: UTC]")
]
RepeatOption = Annotated[
    str, typer.Option("--repeat", metavar="RRULE", help="How the periods repeat: FREQ=WEEKLY;BYDAY=SA;COUNT=10.")
]
FlowOption = Annotated[
    list[str] | None,
    typer.Option("--flow", metavar="FILTER", help="IPFilterRule of its traffic (downlink). May be repeated."),
]
DomainOption = Annotated[
    list[str] | None, typer.Option("--domain", metavar="NAME", help="A server of its traffic. May be repeated.")
]
OutsideOption = Annotated[
    str, typer.Option("--outside", metavar="WHAT", help="Outside area and period: best-effort or refused.")
]


@app.callback()
def book() -> None:
    """Network capabilities by area and schedule: book them, use them, watch them, give them back.

    It speaks to any network API platform of castcore, as the provider of an agreement or as the operator. Options that
    say which platform is meant may also stand behind the name of a command.

    \b
    castcore book areas
    castcore book request --application radio --devices 100 --area vienna=radio --area vienna=region --period now/2h
    castcore book accept 7c2f…
    castcore book --platform vienna ls
    """  # noqa: D301


app.add_typer(catalogue.areas, name="areas")
app.add_typer(catalogue.profiles, name="profiles")
app.add_typer(agreements.agreement, name="agreement")
app.add_typer(agreements.credential, name="credential")
app.command("token", cls=PlatformCommand)(agreements.token)


@app.command(cls=PlatformCommand)
def request(
    ctx: typer.Context,
    file: FileOption = None,
    application: ApplicationOption = "",
    devices: DevicesOption = None,
    area: AreaOption = None,
    period: PeriodOption = None,
    zone: ZoneOption = "",
    repeat: RepeatOption = "",
    flow: FlowOption = None,
    domain: DomainOption = None,
    outside: OutsideOption = "",
    request_id: Annotated[str, typer.Option("--request-id", metavar="ID", help="Makes a repeat harmless.")] = "",
    accept_at_once: Annotated[bool, typer.Option("--accept", help="Accept a whole offer at once.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the booking reference alone.")] = False,
) -> None:
    """Ask for network capabilities; the answer is an offer, which stands for a while (steps B.1 and B.2).

    Exit status 1 when there is nothing to offer. With --accept, an offer of all that was asked for is accepted.

    \b
    castcore book request --application radio --devices 100 --area vienna=radio --period now/2h
    castcore book request --application radio --area graz=radio:50 --area graz=region \\
        --period 2026-12-05T18:00/2026-12-05T22:00 --zone Europe/Vienna --repeat "FREQ=WEEKLY;COUNT=4" \\
        --flow "permit out 17 from 198.51.100.7 to assigned" --outside refused
    castcore book request --file booking.toml --json
    B=$(castcore book request --file booking.toml --quiet)
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.requesting import Wish, request_of
        from nf.cli.book.telling import tell_booking
        from nf.common.clock import SystemClock
        from nf.netapi.v1.booking_pb2 import Booking

        wish = Wish(
            application, devices, area or (), period or (), zone, repeat, flow or (), domain or (), outside, file
        )
        made = await connected.platform.request(request_of(wish, SystemClock().now()), request_id)
        if accept_at_once and made.state == Booking.STATE_OFFERED and not made.offer.counter_offer:
            made = await connected.platform.accept(made.booking_id, made.offer.revision)
        tell_booking(made, as_json=connected.as_json, quiet=quiet)
        if made.state == Booking.STATE_DECLINED:
            raise typer.Exit(1)

    with_platform(ctx, work)


@app.command(cls=PlatformCommand)
def show(ctx: typer.Context, booking: BookingArgument) -> None:
    """Show a booking: its state, the offer that stands, its network access IDs.

    \b
    castcore book show 7c2f…
    castcore book show 7c2f… --json
    """  # noqa: D301
    _tell(ctx, lambda platform: platform.booking(booking))


@app.command(cls=PlatformCommand)
def ls(
    ctx: typer.Context,
    state: Annotated[
        list[str] | None, typer.Option("--state", metavar="STATE", help="Only in this state. May be repeated.")
    ] = None,
) -> None:
    """List bookings.

    \b
    castcore book ls --state BOOKED --state ACTIVE
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell_all
        from nf.cli.resources.listing_netapi import NETAPI_READINGS

        states = [_state(each) for each in state or ()]
        heads = NETAPI_READINGS["bookings"].columns
        await tell_all(connected.platform.bookings(*states), heads, "bookings", as_json=connected.as_json)

    with_platform(ctx, work)


@app.command(cls=PlatformCommand)
def ids(
    ctx: typer.Context,
    booking: BookingArgument,
    area: Annotated[str, typer.Option("--area", metavar="AREA", help="Only of this area.")] = "",
    profile: Annotated[str, typer.Option("--profile", metavar="PROFILE", help="Only of this profile.")] = "",
) -> None:
    """The network access IDs that a booking has now: what client applications are configured with (step B.4).

    Without --json each stands alone on a line.

    \b
    ID=$(castcore book ids 7c2f… --area vienna --profile radio)
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell

        found = [
            each
            for each in (await connected.platform.booking(booking)).network_access_ids
            if each.active and area in ("", each.area_id) and profile in ("", each.profile_id)
        ]
        for each in found:
            if connected.as_json:
                tell(each, as_json=True)
            else:
                print(each.network_access_id)
        if not found:
            raise typer.Exit(1)

    with_platform(ctx, work)


@app.command(cls=PlatformCommand)
def accept(
    ctx: typer.Context,
    booking: BookingArgument,
    revision: Annotated[
        int, typer.Option("--revision", min=0, metavar="N", help="Of the offer that is meant. [default: any]")
    ] = 0,
) -> None:
    """Accept the offer that stands; network access IDs are issued (steps B.3 and B.4).

    \b
    castcore book accept 7c2f… --revision 1
    """  # noqa: D301
    _tell(ctx, lambda platform: platform.accept(booking, revision))


@app.command(cls=PlatformCommand)
def decline(ctx: typer.Context, booking: BookingArgument) -> None:
    """Let the offer go, and what it held; of a booking that stands, the offer of a change.

    \b
    castcore book decline 7c2f…
    """  # noqa: D301
    _tell(ctx, lambda platform: platform.decline(booking))


@app.command(cls=PlatformCommand)
def reconfigure(
    ctx: typer.Context,
    booking: BookingArgument,
    file: FileOption = None,
    application: ApplicationOption = "",
    devices: DevicesOption = None,
    area: AreaOption = None,
    period: PeriodOption = None,
    zone: ZoneOption = "",
    repeat: RepeatOption = "",
    flow: FlowOption = None,
    domain: DomainOption = None,
    outside: OutsideOption = "",
    accept_at_once: Annotated[bool, typer.Option("--accept", help="Accept a whole offer at once.")] = False,
) -> None:
    """Ask for a change of a booking; it is an offer again, and nothing changes until it is accepted.

    What is named takes the place of what there is; what is not named stays. Network access IDs stay.

    \b
    castcore book reconfigure 7c2f… --devices 200
    castcore book reconfigure 7c2f… --area vienna=radio-hd --area graz=radio --accept
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.requesting import Wish, changed
        from nf.cli.book.telling import offers, tell_booking
        from nf.common.clock import SystemClock
        from nf.common.errors import InvalidArgument

        wish = Wish(
            application, devices, area or (), period or (), zone, repeat, flow or (), domain or (), outside, file
        )
        present = await connected.platform.booking(booking)
        wanted, said = changed(present.request, wish, SystemClock().now())
        if not said:
            raise InvalidArgument("nothing to change: expected --devices, --area, --period, … or --file")
        made = await connected.platform.reconfigure(booking, wanted, *said, etag=present.etag)
        if accept_at_once:
            for _, offer in offers(made):
                if not offer.counter_offer:
                    made = await connected.platform.accept(booking, offer.revision)
        tell_booking(made, as_json=connected.as_json)

    with_platform(ctx, work)


@app.command(cls=PlatformCommand)
def release(ctx: typer.Context, booking: BookingArgument) -> None:
    """Give back what is booked (phase D). What was used of it: castcore book records.

    \b
    castcore book release 7c2f…
    """  # noqa: D301
    _tell(ctx, lambda platform: platform.release(booking))


@app.command(cls=PlatformCommand)
def suspend(
    ctx: typer.Context,
    booking: BookingArgument,
    because: Annotated[str, typer.Option("--because", metavar="TEXT", help="Why, for the provider.")] = "",
) -> None:
    """Withhold what is booked; for the operator.

    \b
    castcore book suspend 7c2f… --because maintenance
    """  # noqa: D301
    _tell(ctx, lambda platform: platform.suspend(booking, because))


@app.command(cls=PlatformCommand)
def resume(ctx: typer.Context, booking: BookingArgument) -> None:
    """Let it go on; for the operator.

    \b
    castcore book resume 7c2f…
    """  # noqa: D301
    _tell(ctx, lambda platform: platform.resume(booking))


app.command("usage", cls=PlatformCommand)(watching.usage)
app.command("records", cls=PlatformCommand)(watching.records)
app.command("watch", cls=PlatformCommand)(watching.watch)
app.add_typer(watching.thresholds, name="thresholds")
app.add_typer(watching.geofences, name="geofences")
app.add_typer(sinks.sinks, name="sinks")
app.add_typer(using.access, name="access")


def _tell(ctx: typer.Context, ask: Callable[[Platform], Awaitable[Booking]]) -> None:
    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell_booking

        tell_booking(await ask(connected.platform), as_json=connected.as_json)

    with_platform(ctx, work)


def _state(text: str) -> Booking.State.ValueType:
    from nf.common.errors import InvalidArgument
    from nf.netapi.v1.booking_pb2 import Booking

    name = f"STATE_{text.upper()}"
    known = [each for each in Booking.State.keys() if each != "STATE_UNSPECIFIED"]  # noqa: SIM118 (no mapping)
    if name not in known:
        told = ", ".join(each.removeprefix("STATE_") for each in known)
        raise InvalidArgument(f"option '--state': found {text!r}, expected one of {told}")
    return Booking.State.Value(name)
