"""``castcore book access``: what a client application does with a network access ID (phase C)."""

from __future__ import annotations

from typing import Annotated

import typer

from nf.cli.book.connection import Connection, PlatformCommand, group, with_platform

access = group()

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The network access ID.")]
AccessArgument = Annotated[str, typer.Argument(metavar="ACCESS", help="The access, as its beginning told it.")]
IdOption = Annotated[
    str, typer.Option("--id", metavar="ID", help="The network access ID, where no credential is shown.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="+43…, imsi-…, USER@REALM or address. [default: who calls]")
]


@access.callback(invoke_without_command=True)
def about(ctx: typer.Context) -> None:
    """Network access IDs at work: what a client application does with them, and who uses them.

    \b
    castcore book access begin 9f3e… --device 10.45.0.2
    castcore book access ls --booking 7c2f…
    """  # noqa: D301
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
        raise typer.Exit


@access.command("resolve", cls=PlatformCommand)
def resolve(ctx: typer.Context, network_access_id: IdArgument) -> None:
    """What a network access ID stands for, and whether it can be used now.

    \b
    castcore book access resolve 9f3e…
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell

        tell(await connected.use.resolve(network_access_id), as_json=connected.as_json)

    with_platform(ctx, work)


@access.command("begin", cls=PlatformCommand)
def begin(ctx: typer.Context, network_access_id: IdArgument, device: DeviceOption = "") -> None:
    """Begin to use a network access ID. A device beyond the booked number is refused.

    \b
    castcore book access begin 9f3e… --device +43664123456
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.devices import device_of
        from nf.cli.book.telling import tell

        made = await connected.use.begin(network_access_id, device_of(device) if device else None)
        tell(made, as_json=connected.as_json)

    with_platform(ctx, work)


@access.command("show", cls=PlatformCommand)
def show(ctx: typer.Context, access_id: AccessArgument, network_access_id: IdOption = "") -> None:
    """Show an access: whether it has what is booked, and if not, why.

    \b
    castcore book access show 4b1d… --id 9f3e…
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell

        tell(await connected.use.access(access_id, network_access_id), as_json=connected.as_json)

    with_platform(ctx, work)


@access.command("end", cls=PlatformCommand)
def end(ctx: typer.Context, access_id: AccessArgument, network_access_id: IdOption = "") -> None:
    """End an access; its place is free for another device.

    \b
    castcore book access end 4b1d… --id 9f3e…
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell

        tell(await connected.use.end(access_id, network_access_id), as_json=connected.as_json)

    with_platform(ctx, work)


@access.command("ls", cls=PlatformCommand)
def ls(
    ctx: typer.Context,
    booking: Annotated[str, typer.Option("--booking", metavar="BOOKING", help="Those of a booking.")] = "",
    network_access_id: Annotated[str, typer.Option("--id", metavar="ID", help="Those of a network access ID.")] = "",
) -> None:
    """List the devices that use a booking or a network access ID; for the provider.

    \b
    castcore book access ls --booking 7c2f…
    """  # noqa: D301
    if bool(booking) == bool(network_access_id):
        raise typer.BadParameter("expected --booking or --id, one of them", param_hint="--booking")

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell_all
        from nf.cli.resources.listing_netapi import NETAPI_READINGS

        heads = NETAPI_READINGS["device-accesses"].columns
        found = connected.use.accesses(booking, network_access_id)
        await tell_all(found, heads, "device accesses", as_json=connected.as_json)

    with_platform(ctx, work)


@access.command("where", cls=PlatformCommand)
def where(
    ctx: typer.Context,
    network_access_id: Annotated[str, typer.Argument(metavar="ID", help="A geofencing ID.")],
    device: Annotated[str, typer.Option("--device", metavar="DEVICE", help="Which device.")],
    verify: Annotated[bool, typer.Option("--verify", help="Only whether it is in the area.")] = False,
    max_age_s: Annotated[int, typer.Option("--max-age", min=0, metavar="S", help="Nothing that is older.")] = 0,
) -> None:
    """Where a device is, or whether it is in the area of a geofencing ID.

    \b
    castcore book access where 9f3e… --device +43664123456
    castcore book access where 9f3e… --device +43664123456 --verify --json
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.devices import device_of
        from nf.cli.book.telling import tell

        named = device_of(device)
        if verify:
            tell(await connected.use.verify(named, network_access_id, max_age_s), as_json=connected.as_json)
        else:
            tell(await connected.use.position(named, network_access_id, max_age_s), as_json=connected.as_json)

    with_platform(ctx, work)
