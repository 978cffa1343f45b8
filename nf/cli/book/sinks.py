"""``castcore book sinks``: where the platform sends its events to, as signed CloudEvents."""

from __future__ import annotations

from typing import Annotated

import typer

from nf.cli.book.connection import Connection, PlatformCommand, group, with_platform

sinks = group()


@sinks.callback(invoke_without_command=True)
def list_sinks(ctx: typer.Context) -> None:
    """Sinks: URLs that events are sent to, as signed CloudEvents. List them, or set and end them.

    \b
    castcore book sinks
    castcore book sinks new http://127.0.0.1:8000/events --type BOOKING_STATE --type THRESHOLD_CROSSED
    """  # noqa: D301
    if ctx.invoked_subcommand is not None:
        return

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell_all
        from nf.cli.resources.listing_netapi import NETAPI_READINGS

        heads = NETAPI_READINGS["event-sinks"].columns
        await tell_all(connected.platform.sinks(), heads, "sinks", as_json=connected.as_json)

    with_platform(ctx, work)


@sinks.command("new", cls=PlatformCommand)
def new_sink(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are sent to, by POST.")],
    event_type: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only events of this type. May be repeated. [default: all]"),
    ] = None,
    subject: Annotated[
        str, typer.Option("--subject", metavar="SUBJECT", help="Only about it, or below it: bookings/7c2f….")
    ] = "",
    secret: Annotated[
        str, typer.Option("--secret", metavar="TEXT", help="What they are signed with. [default: one is made]")
    ] = "",
    access_token: Annotated[str, typer.Option("--bearer", metavar="TOKEN", help="Shown to the receiver.")] = "",
    expires: Annotated[str, typer.Option("--expires", metavar="TIME", help="RFC 3339. [default: never]")] = "",
    max_events: Annotated[int, typer.Option("--max-events", min=0, metavar="N", help="It ends after so many.")] = 0,
    after: Annotated[
        int | None, typer.Option("--after", min=0, metavar="N", help="Begin after this sequence. [default: now]")
    ] = None,
) -> None:
    """Have events sent somewhere. The secret that they are signed with is shown this once.

    \b
    castcore book sinks new https://radio.example/events --subject bookings/7c2f… --max-events 100
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.requesting import moment
        from nf.cli.book.telling import tell
        from nf.netapi.v1.monitoring_pb2 import EventSink

        wanted = EventSink(
            url=url, event_types=event_type or (), subject=subject, secret=secret, access_token=access_token,
            max_events=max_events, after_sequence=after,
        )  # fmt: skip
        if expires:
            wanted.expire_time.FromDatetime(moment(expires, "--expires"))
        tell(await connected.platform.create_sink(wanted), as_json=connected.as_json)

    with_platform(ctx, work)


@sinks.command("show", cls=PlatformCommand)
def show_sink(ctx: typer.Context, sink: Annotated[str, typer.Argument(metavar="SINK", help="Its identifier.")]) -> None:
    """Show a sink, without its secrets: how its delivery goes.

    \b
    castcore book sinks show 7c2f…
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell

        tell(await connected.platform.sink(sink), as_json=connected.as_json)

    with_platform(ctx, work)


@sinks.command("rm", cls=PlatformCommand)
def remove_sink(
    ctx: typer.Context, sink: Annotated[str, typer.Argument(metavar="SINK", help="Its identifier.")]
) -> None:
    """End a sink.

    \b
    castcore book sinks rm 7c2f…
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        await connected.platform.delete_sink(sink)

    with_platform(ctx, work)
