"""``castcore book areas`` and ``castcore book profiles``: what there is to book."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nf.cli.book.connection import Connection, PlatformCommand, group, with_platform

areas = group()
profiles = group()

AreaArgument = Annotated[str, typer.Argument(metavar="AREA", help="The area's identifier.")]
ProfileArgument = Annotated[str, typer.Argument(metavar="PROFILE", help="The profile's identifier.")]


@areas.callback(invoke_without_command=True)
def list_areas(
    ctx: typer.Context,
    touching: Annotated[
        Path | None, typer.Option("--touching", metavar="FILE", help="Only areas that touch this place (GeoJSON).")
    ] = None,
    cell: Annotated[str | None, typer.Option("--cell", metavar="MCC-MNC-CELL", help="Only areas with it.")] = None,
    as_geojson: Annotated[bool, typer.Option("--geojson", help="As one FeatureCollection, for maps.")] = False,
) -> None:
    """Service areas: list them, or make, replace and remove them.

    \b
    castcore book areas
    castcore book areas --touching route.geojson --json
    castcore book areas --geojson > areas.geojson
    castcore book areas put areas.geojson
    """  # noqa: D301
    if ctx.invoked_subcommand is not None:
        return

    async def work(connected: Connection) -> None:
        from nf.cli.book.places import cells_of, geometry_in
        from nf.cli.book.telling import tell_all
        from nf.cli.resources.listing_netapi import NETAPI_READINGS
        from nf.netapi.v1.coverage_pb2 import ListServiceAreasRequest

        narrowed = ListServiceAreasRequest()
        if touching is not None:
            narrowed.touching.CopyFrom(geometry_in(touching))
        if cell is not None:
            narrowed.cell.CopyFrom(cells_of([cell])[0])
        if as_geojson:
            import json

            from nf.netapi.geojson import collection_of

            print(json.dumps(collection_of([each async for each in connected.platform.areas(narrowed)])))
            return
        heads = NETAPI_READINGS["service-areas"].columns
        await tell_all(connected.platform.areas(narrowed), heads, "service areas", as_json=connected.as_json)

    with_platform(ctx, work)


@areas.command("show", cls=PlatformCommand)
def show_area(ctx: typer.Context, area: AreaArgument) -> None:
    """Show one area, whole.

    \b
    castcore book areas show vienna
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell

        tell(await connected.platform.area(area), as_json=connected.as_json)

    with_platform(ctx, work)


@areas.command("put", cls=PlatformCommand)
def put_areas(
    ctx: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="One area or several, as GeoJSON, TOML or JSON; -: standard input."),
    ] = None,
    area_id: Annotated[str, typer.Option("--id", metavar="AREA", help="In place of a file: its identifier.")] = "",
    name: Annotated[str, typer.Option("--name", metavar="TEXT", help="For people.")] = "",
    circle: Annotated[str | None, typer.Option("--circle", metavar="LAT,LON,METRES", help="It is this circle.")] = None,
    geojson: Annotated[
        Path | None, typer.Option("--geojson", metavar="FILE", help="It is this Polygon or MultiPolygon.")
    ] = None,
    cell: Annotated[
        list[str] | None, typer.Option("--cell", metavar="MCC-MNC-CELL", help="A cell that covers it. May be repeated.")
    ] = None,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="It is everywhere.")] = False,
    downlink: Annotated[
        str | None, typer.Option("--downlink", metavar="RATE", help="Guaranteed bit rates of all bookings together.")
    ] = None,
    uplink: Annotated[str | None, typer.Option("--uplink", metavar="RATE", help="The same, uplink.")] = None,
    devices: Annotated[int | None, typer.Option("--devices", min=0, metavar="N", help="Devices, all together.")] = None,
) -> None:
    """Make or replace service areas; for the operator. GeoJSON features are named by their id or area_id.

    \b
    castcore book areas put areas.geojson
    castcore book areas put --id vienna --circle 48.21,16.37,5000 --downlink "2 Gbps" --devices 1000
    """  # noqa: D301
    if (file is None) == (not area_id):
        raise typer.BadParameter("expected a FILE, or --id AREA with options", param_hint="FILE")

    async def work(connected: Connection) -> None:
        from nf.cli.book import places
        from nf.cli.book.telling import tell
        from nf.netapi.v1.coverage_pb2 import ServiceArea
        from upf.units import parse_bit_rate

        if file is not None:
            wanted = places.areas_in(file)
        else:
            area = ServiceArea(area_id=area_id, name=name, everywhere=everywhere, cells=places.cells_of(cell or ()))
            if circle is not None:
                area.geometry.CopyFrom(places.circle_of(circle))
            if geojson is not None:
                area.geometry.CopyFrom(places.geometry_in(geojson))
            if downlink is not None:
                area.capacity.downlink_bps = parse_bit_rate(downlink)
            if uplink is not None:
                area.capacity.uplink_bps = parse_bit_rate(uplink)
            if devices is not None:
                area.capacity.devices = devices
            wanted = [area]
        for each in wanted:
            made = await connected.platform.put_area(each)
            if connected.as_json:
                tell(made, as_json=True)
            else:
                print(f"area {made.area_id} is there")

    with_platform(ctx, work)


@areas.command("rm", cls=PlatformCommand)
def remove_area(ctx: typer.Context, area: AreaArgument) -> None:
    """Remove an area on which nothing is booked; for the operator.

    \b
    castcore book areas rm vienna
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        await connected.platform.delete_area(area)

    with_platform(ctx, work)


@profiles.callback(invoke_without_command=True)
def list_profiles(ctx: typer.Context) -> None:
    """Capability profiles: list them, or make, replace and remove them.

    \b
    castcore book profiles
    castcore book profiles show radio --json
    castcore book profiles put profiles.toml
    """  # noqa: D301
    if ctx.invoked_subcommand is not None:
        return

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell_all
        from nf.cli.resources.listing_netapi import NETAPI_READINGS

        heads = NETAPI_READINGS["capability-profiles"].columns
        await tell_all(connected.platform.profiles(), heads, "capability profiles", as_json=connected.as_json)

    with_platform(ctx, work)


@profiles.command("show", cls=PlatformCommand)
def show_profile(ctx: typer.Context, profile: ProfileArgument) -> None:
    """Show one profile, whole.

    \b
    castcore book profiles show radio
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell

        tell(await connected.platform.profile(profile), as_json=connected.as_json)

    with_platform(ctx, work)


@profiles.command("put", cls=PlatformCommand)
def put_profiles(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="One profile or several, as TOML or JSON; -: stdin.")
    ] = None,
    profile_id: Annotated[str, typer.Option("--id", metavar="PROFILE", help="In place of a file: its name.")] = "",
    five_qi: Annotated[int, typer.Option("--5qi", min=0, max=255, help="Quality on Demand: its 5QI.")] = 0,
    guaranteed_downlink: Annotated[str, typer.Option("--guaranteed-downlink", metavar="RATE", help="GFBR.")] = "",
    guaranteed_uplink: Annotated[str, typer.Option("--guaranteed-uplink", metavar="RATE", help="GFBR.")] = "",
    max_downlink: Annotated[
        str, typer.Option("--max-downlink", metavar="RATE", help="MFBR, policed. [default: the GFBR]")
    ] = "",
    max_uplink: Annotated[str, typer.Option("--max-uplink", metavar="RATE", help="MFBR. [default: the GFBR]")] = "",
    delay_ms: Annotated[int, typer.Option("--delay", min=0, metavar="MS", help="Packet delay budget.")] = 0,
    geofencing: Annotated[
        bool, typer.Option("--geofencing", help="It is geofencing: verify, retrieve, enter and leave.")
    ] = False,
    dnn: Annotated[str, typer.Option("--dnn", metavar="DNN", help="The data network that it is had in.")] = "",
    price: Annotated[
        int, typer.Option("--price", min=0, metavar="UNITS", help="Price units of a device and hour.")
    ] = 0,
) -> None:
    """Make or replace capability profiles; for the operator.

    \b
    castcore book profiles put profiles.toml
    castcore book profiles put --id radio --5qi 3 --guaranteed-downlink "320 Kbps" --delay 50 --price 2
    castcore book profiles put --id region --geofencing
    """  # noqa: D301
    if (file is None) == (not profile_id):
        raise typer.BadParameter("expected a FILE, or --id PROFILE with options", param_hint="FILE")
    if profile_id and geofencing == bool(five_qi):
        raise typer.BadParameter("expected --5qi or --geofencing", param_hint="--id")

    async def work(connected: Connection) -> None:
        from nf.cli.book import documents, places
        from nf.cli.book.telling import tell
        from nf.netapi.v1 import coverage_pb2 as coverage
        from upf.units import parse_bit_rate

        def rate_bps(text: str) -> int:
            return parse_bit_rate(text) if text else 0

        if file is not None:
            listed = places.listed(documents.read(file), "capability_profiles", file)
            wanted = [documents.message_of(coverage.CapabilityProfile, each, where) for each, where in listed]
        else:
            profile = coverage.CapabilityProfile(profile_id=profile_id, dnn=dnn, price_units_per_device_hour=price)
            if geofencing:
                profile.capability = coverage.CAPABILITY_GEOFENCING
                profile.geofencing.CopyFrom(coverage.GeofencingProfile(verify=True, retrieve=True, notify=True))
            else:
                profile.capability = coverage.CAPABILITY_QUALITY_ON_DEMAND
                profile.qos.CopyFrom(
                    coverage.QosProfile(
                        five_qi=five_qi,
                        guaranteed_downlink_bps=rate_bps(guaranteed_downlink),
                        guaranteed_uplink_bps=rate_bps(guaranteed_uplink),
                        max_downlink_bps=rate_bps(max_downlink),
                        max_uplink_bps=rate_bps(max_uplink),
                        packet_delay_budget_ms=delay_ms,
                    )
                )
            wanted = [profile]
        for each in wanted:
            made = await connected.platform.put_profile(each)
            if connected.as_json:
                tell(made, as_json=True)
            else:
                print(f"profile {made.profile_id} is there")

    with_platform(ctx, work)


@profiles.command("rm", cls=PlatformCommand)
def remove_profile(ctx: typer.Context, profile: ProfileArgument) -> None:
    """Remove a profile of which nothing is booked; for the operator.

    \b
    castcore book profiles rm radio
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        await connected.platform.delete_profile(profile)

    with_platform(ctx, work)
