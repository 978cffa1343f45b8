"""``castcore book agreement``, ``credential`` and ``token``: what stands before any booking."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nf.cli.book.connection import Connection, PlatformCommand, group, with_platform

agreement = group()
credential = group()

AgreementArgument = Annotated[str, typer.Argument(metavar="AGREEMENT", help="The agreement's identifier.")]


@agreement.callback(invoke_without_command=True)
def list_agreements(ctx: typer.Context) -> None:
    """Agreements: list them, or make, change and end them.

    \b
    castcore book agreement
    castcore book agreement put radio-one --provider "Radio One" --area vienna --devices 500
    castcore book agreement rm radio-one
    """  # noqa: D301
    if ctx.invoked_subcommand is not None:
        return

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell_all
        from nf.cli.resources.listing_netapi import NETAPI_READINGS

        heads = NETAPI_READINGS["agreements"].columns
        await tell_all(connected.platform.agreements(), heads, "agreements", as_json=connected.as_json)

    with_platform(ctx, work)


@agreement.command("show", cls=PlatformCommand)
def show(ctx: typer.Context, agreement_id: AgreementArgument) -> None:
    """Show one agreement, whole.

    \b
    castcore book agreement show radio-one
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell

        tell(await connected.platform.agreement(agreement_id), as_json=connected.as_json)

    with_platform(ctx, work)


@agreement.command("put", cls=PlatformCommand)
def put(
    ctx: typer.Context,
    agreement_id: Annotated[
        str, typer.Argument(metavar="[AGREEMENT]", help="Its identifier, where no --file says it.")
    ] = "",
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="The agreement as TOML or JSON; -: standard input.")
    ] = None,
    provider: Annotated[str | None, typer.Option("--provider", metavar="NAME", help="For people.")] = None,
    area: Annotated[
        list[str] | None, typer.Option("--area", metavar="AREA", help="May be booked. May be repeated. [default: all]")
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option("--profile", metavar="PROFILE", help="May be booked. May be repeated. [default: all]"),
    ] = None,
    bookings: Annotated[int | None, typer.Option("--bookings", min=0, metavar="N", help="Standing at a time.")] = None,
    devices: Annotated[
        int | None, typer.Option("--devices", min=0, metavar="N", help="Of one booking in one area.")
    ] = None,
    downlink: Annotated[
        str | None, typer.Option("--downlink", metavar="RATE", help="Guaranteed, of one booking in one area.")
    ] = None,
    uplink: Annotated[str | None, typer.Option("--uplink", metavar="RATE", help="The same, uplink.")] = None,
    days: Annotated[int | None, typer.Option("--days", min=0, metavar="N", help="Booked ahead at the most.")] = None,
    price: Annotated[
        int | None, typer.Option("--price", min=0, metavar="PERCENT", help="Of the list price. [default: 100]")
    ] = None,
    validity_s: Annotated[
        int | None, typer.Option("--offer-validity", min=0, metavar="S", help="How long an offer stands.")
    ] = None,
    suspended: Annotated[
        bool | None, typer.Option("--suspended/--not-suspended", help="Whether new bookings are refused.")
    ] = None,
) -> None:
    """Make an agreement, or change what is said of the one that is there.

    \b
    castcore book agreement put radio-one --provider "Radio One" --area vienna --area graz --devices 500 --price 80
    castcore book agreement put radio-one --suspended
    castcore book agreement put --file radio-one.toml
    """  # noqa: D301
    if not agreement_id and file is None:
        raise typer.BadParameter("missing, expected an identifier or --file", param_hint="AGREEMENT")

    async def work(connected: Connection) -> None:
        from nf.cli.book import documents
        from nf.cli.book.telling import tell
        from nf.common.errors import NotFound
        from nf.netapi.v1.agreement_pb2 import Agreement
        from upf.units import parse_bit_rate

        tree = documents.read(file) if file is not None else {}
        if isinstance(tree, dict) and agreement_id:
            tree["agreement_id"] = agreement_id
        told = documents.message_of(Agreement, tree, str(file or "options"))
        try:
            wanted, known = await connected.platform.agreement(told.agreement_id), True
            if file is not None:
                wanted = Agreement(etag=wanted.etag)
        except NotFound:
            wanted, known = Agreement(), False
        wanted.MergeFrom(told)
        if provider is not None:
            wanted.provider_name = provider
        if area:
            wanted.area_ids[:] = area
        if profile:
            wanted.profile_ids[:] = profile
        limits = wanted.limits
        if bookings is not None:
            limits.bookings = bookings
        if devices is not None:
            limits.devices = devices
        if downlink is not None:
            limits.downlink_bps = parse_bit_rate(downlink)
        if uplink is not None:
            limits.uplink_bps = parse_bit_rate(uplink)
        if days is not None:
            limits.advance_days = days
        if price is not None:
            wanted.price_percent = price
        if validity_s is not None:
            wanted.offer_validity_s = validity_s
        if suspended is not None:
            wanted.suspended = suspended
        platform = connected.platform
        made = await (platform.update_agreement(wanted) if known else platform.create_agreement(wanted))
        tell(made, as_json=connected.as_json)

    with_platform(ctx, work)


@agreement.command("rm", cls=PlatformCommand)
def remove(ctx: typer.Context, agreement_id: AgreementArgument) -> None:
    """End an agreement under which nothing is booked.

    \b
    castcore book agreement rm radio-one
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        await connected.platform.delete_agreement(agreement_id)

    with_platform(ctx, work)


@credential.callback(invoke_without_command=True)
def about_credentials(ctx: typer.Context) -> None:
    """Credentials of an agreement: issue, list and revoke them.

    \b
    castcore book credential new radio-one
    castcore book credential ls radio-one
    castcore book credential rm 7c2f…
    """  # noqa: D301
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
        raise typer.Exit


@credential.command("new", cls=PlatformCommand)
def new(
    ctx: typer.Context,
    agreement_id: AgreementArgument,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="SCOPE", help="Only for this (CAMARA). May be repeated. [default: everything]"),
    ] = None,
    expires: Annotated[str, typer.Option("--expires", metavar="TIME", help="RFC 3339. [default: never]")] = "",
) -> None:
    """Issue a credential. Its token is shown this once: without --json it stands alone on standard output.

    \b
    export CASTCORE_CREDENTIAL=$(castcore book credential new radio-one)
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        import sys

        from nf.cli.book.telling import tell
        from nf.netapi.v1.agreement_pb2 import Credential

        wanted = Credential(agreement_id=agreement_id, scopes=scope or ())
        if expires:
            from nf.cli.book.requesting import moment

            wanted.expire_time.FromDatetime(moment(expires, "--expires"))
        made = await connected.platform.create_credential(wanted)
        if connected.as_json:
            tell(made, as_json=True)
        else:
            print(made.token)
            print(f"credential {made.credential_id} of {made.agreement_id}; it is not shown again", file=sys.stderr)

    with_platform(ctx, work)


@credential.command("ls", cls=PlatformCommand)
def list_credentials(ctx: typer.Context, agreement_id: AgreementArgument) -> None:
    """List the credentials of an agreement, without their tokens.

    \b
    castcore book credential ls radio-one
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.telling import tell_all
        from nf.cli.resources.reading import columns

        heads = columns(id="credential_id", scopes="scopes", expires="expire_time", created="create_time")
        found = connected.platform.credentials(agreement_id)
        await tell_all(found, heads, "credentials", as_json=connected.as_json)

    with_platform(ctx, work)


@credential.command("rm", cls=PlatformCommand)
def revoke(
    ctx: typer.Context, credential_id: Annotated[str, typer.Argument(metavar="CREDENTIAL", help="Its identifier.")]
) -> None:
    """Revoke a credential at once, with the access tokens made of it.

    \b
    castcore book credential rm 7c2f…
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        await connected.platform.delete_credential(credential_id)

    with_platform(ctx, work)


def token(
    ctx: typer.Context,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="SCOPE", help="Only for this. May be repeated. [default: the credential's]"),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="Three-legged: it stands for this device's user.")
    ] = "",
    lasts_s: Annotated[int, typer.Option("--lasts", min=0, metavar="S", help="[default: an hour]")] = 0,
) -> None:
    """Make an access token from the credential, for the HTTP APIs of CAMARA. It stands alone on standard output.

    \b
    castcore book token --scope quality-on-demand:sessions:create
    castcore book token --device +43664123456 --lasts 600 --json
    """  # noqa: D301

    async def work(connected: Connection) -> None:
        from nf.cli.book.devices import device_of
        from nf.cli.book.telling import tell
        from nf.netapi.v1.agreement_pb2 import CreateAccessTokenRequest

        wanted = CreateAccessTokenRequest(scopes=scope or (), expires_in_s=lasts_s)
        if device:
            wanted.device.CopyFrom(device_of(device))
        made = await connected.platform.create_access_token(wanted)
        if connected.as_json:
            tell(made, as_json=True)
        else:
            print(made.access_token)

    with_platform(ctx, work)
