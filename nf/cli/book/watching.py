"""``castcore book usage``, ``records``, ``watch``, ``thresholds`` and ``geofences``: how what is booked is used."""

from __future__ import annotations

from typing import Annotated

import typer

from nf.cli.book.connection import Connection, PlatformCommand, group, with_platform

thresholds = group()
geofences = group()

BookingArgument = Annotated[str, typer.Argument(metavar="BOOKING", help="The booking reference.")]
IdOption = Annotated[str, typer.Option("--id", metavar="ID", help="Only of this network access ID.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The network access ID.")]

_METRICS = {
    "downlink": "METRIC_DOWNLINK_THROUGHPUT",
    "uplink": "METRIC_UPLINK_THROUGHPUT",
    "delay": "METRIC_DELAY",
    "loss": "METRIC_LOSS",
    "devices": "METRIC_DEVICES",
}


def usage(ctx: typer.Context, booking: BookingArgument, network_access_id: IdOption = "") -> None:
    """How the network access IDs of a booking are used: devices, rates, loss, delay as the user plane measures them.

    \b
    castcore book usage 7c2f…
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import USAGES, tell_these

        found = await connected.platform.usage(booking, network_access_id)
        tell_these(found, USAGES, "network access IDs", as_json=connected.as_json)

    with_platform(ctx, work)


def records(ctx: typer.Context, booking: BookingArgument) -> None:
    """What has been used of a booking in all; final once it is over.

    \b
    castcore book records 7c2f… --json
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell_these
        from nf.cli.resources.listing_netapi import NETAPI_READINGS

        found = await connected.platform.usage_records(booking)
        tell_these(found, NETAPI_READINGS["usage-records"].columns, "usage records", as_json=connected.as_json)

    with_platform(ctx, work)


def watch(
    ctx: typer.Context,
    subject: Annotated[
        str, typer.Option("--subject", metavar="SUBJECT", help="Only about it, or below it: bookings/7c2f….")
    ] = "",
    after: Annotated[
        int | None,
        typer.Option("--after", min=0, metavar="N", help="Only of a higher sequence; 0: all. [default: new ones]"),
    ] = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="End after what is kept.")] = False,
) -> None:
    """Tell the platform's events as far as they concern the caller, as they happen, until Ctrl-C.

    \b
    castcore book watch
    castcore book watch --subject bookings/7c2f… --after 0 --json
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.resources.events import event_json, event_line

        begin = after or 0
        if after is None and not no_follow:
            async for event in connected.platform.watch(follow=False):
                begin = event.sequence
        async for event in connected.platform.watch(after=begin, subject=subject, follow=not no_follow):
            print(event_json("netapi", event) if connected.as_json else event_line("netapi", event), flush=True)

    with_platform(ctx, work)


@thresholds.callback(invoke_without_command=True)
def list_thresholds(ctx: typer.Context, network_access_id: IdOption = "") -> None:
    """Thresholds: list them, or set and end them.

    \b
    castcore book thresholds
    castcore book thresholds new 9f3e… devices --above 80
    """  # noqa: D301
    if ctx.invoked_subcommand is not None:
        return

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell_all
        from nf.cli.resources.listing_netapi import NETAPI_READINGS

        heads = NETAPI_READINGS["thresholds"].columns
        found = connected.platform.thresholds(network_access_id)
        await tell_all(found, heads, "thresholds", as_json=connected.as_json)

    with_platform(ctx, work)


@thresholds.command("new", cls=PlatformCommand)
def new_threshold(
    ctx: typer.Context,
    network_access_id: IdArgument,
    metric: Annotated[
        str,
        typer.Argument(
            metavar="METRIC",
            help="downlink or uplink (a rate), loss (%), devices; delay (ms), where the platform measures it.",
        ),
    ],
    above: Annotated[str | None, typer.Option("--above", metavar="VALUE", help="It is crossed above this.")] = None,
    below: Annotated[str | None, typer.Option("--below", metavar="VALUE", help="It is crossed below this.")] = None,
    for_ms: Annotated[int, typer.Option("--for", min=0, metavar="MS", help="Only once it has been so for long.")] = 0,
) -> None:
    """Be told when a measure goes beyond a value, and when it comes back.

    \b
    castcore book thresholds new 9f3e… downlink --below "300 Kbps" --for 2000
    castcore book thresholds new 9f3e… loss --above 0.5%
    castcore book thresholds new 9f3e… devices --above 80
    """  # noqa: D301
    if metric not in _METRICS:
        raise typer.BadParameter(f"found {metric!r}, expected one of {', '.join(_METRICS)}", param_hint="METRIC")
    if (above is None) == (below is None):
        raise typer.BadParameter("expected --above or --below, one of them", param_hint="--above")

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell
        from nf.netapi.v1 import monitoring_pb2 as monitoring

        wanted = monitoring.Threshold(
            network_access_id=network_access_id, metric=monitoring.Metric.Value(_METRICS[metric]), for_ms=for_ms
        )
        if above is not None:
            wanted.above = _value(metric, above)
        if below is not None:
            wanted.below = _value(metric, below)
        tell(await connected.platform.create_threshold(wanted), as_json=connected.as_json)

    with_platform(ctx, work)


@thresholds.command("rm", cls=PlatformCommand)
def remove_threshold(
    ctx: typer.Context, threshold: Annotated[str, typer.Argument(metavar="THRESHOLD", help="Its identifier.")]
) -> None:
    """End a threshold.

    \b
    castcore book thresholds rm 7c2f…
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        await connected.platform.delete_threshold(threshold)

    with_platform(ctx, work)


@geofences.callback(invoke_without_command=True)
def list_geofences(ctx: typer.Context) -> None:
    """Geofences: list them, or set and end them.

    \b
    castcore book geofences
    castcore book geofences new 9f3e…
    """  # noqa: D301
    if ctx.invoked_subcommand is not None:
        return

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell_all
        from nf.cli.resources.listing_netapi import NETAPI_READINGS

        heads = NETAPI_READINGS["geofences"].columns
        await tell_all(connected.use.geofences(), heads, "geofences", as_json=connected.as_json)

    with_platform(ctx, work)


@geofences.command("new", cls=PlatformCommand)
def new_geofence(
    ctx: typer.Context,
    network_access_id: Annotated[str, typer.Argument(metavar="ID", help="The geofencing ID.")],
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="Only this device. [default: all that use the ID]")
    ] = "",
    entered: Annotated[bool, typer.Option("--entered/--not-entered", help="Tell who enters.")] = True,
    left: Annotated[bool, typer.Option("--left/--not-left", help="Tell who leaves.")] = True,
    initial: Annotated[bool, typer.Option("--initial", help="Tell at once who is inside already.")] = False,
    circle: Annotated[
        str | None, typer.Option("--circle", metavar="LAT,LON,METRES", help="A part of the area. [default: all of it]")
    ] = None,
    max_events: Annotated[int, typer.Option("--max-events", min=0, metavar="N", help="It ends after so many.")] = 0,
) -> None:
    """Be told when devices enter or leave.

    \b
    castcore book geofences new 9f3e… --initial
    castcore book geofences new 9f3e… --device +43664123456 --circle 48.21,16.37,500 --max-events 2
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.devices import device_of
        from nf.cli.book.places import circle_of
        from nf.cli.book.telling import tell
        from nf.netapi.v1.location_pb2 import Geofence

        wanted = Geofence(
            network_access_id=network_access_id, entered=entered, left=left, initial_event=initial,
            max_events=max_events,
        )  # fmt: skip
        if device:
            wanted.device.CopyFrom(device_of(device))
        if circle is not None:
            wanted.area.CopyFrom(circle_of(circle))
        tell(await connected.use.create_geofence(wanted), as_json=connected.as_json)

    with_platform(ctx, work)


@geofences.command("rm", cls=PlatformCommand)
def remove_geofence(
    ctx: typer.Context, geofence: Annotated[str, typer.Argument(metavar="GEOFENCE", help="Its identifier.")]
) -> None:
    """End a geofence.

    \b
    castcore book geofences rm 7c2f…
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        await connected.use.delete_geofence(geofence)

    with_platform(ctx, work)


def _value(metric: str, text: str) -> int:
    """A value in the unit of the contract. Raises InvalidArgument."""
    from nf.common.errors import InvalidArgument

    if metric in ("downlink", "uplink") and not text.isdecimal():
        from upf.units import parse_bit_rate

        return parse_bit_rate(text)
    scale = 10_000 if metric == "loss" and text.endswith("%") else 1
    try:
        value = float(text.removesuffix("%")) * scale
    except ValueError:
        value = -1.0
    if value < 0 or value != value:
        example = {"delay": "50 (ms)", "loss": "0.5%", "devices": "80"}.get(metric, '"300 Kbps"')
        raise InvalidArgument(f"{metric}: found {text!r}, expected a value such as {example}")
    return round(value)
