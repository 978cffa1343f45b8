"""``castcore reports list``, ``aggregate`` and ``export``: options in; tables, JSON a line, files and plots out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nf.cli.resources.command import ConfigOption, DirOption, GrpcOption, JsonOption, _Shown, _with_channels
from nf.cli.tls_options import TlsCaOption, TlsCertificateOption, TlsKeyOption, TokenOption

if TYPE_CHECKING:
    from nf.af.v1.consumption_reporting_pb2 import ConsumptionFilter
    from nf.common.channels import Channels

app = typer.Typer(no_args_is_help=True)

SessionOption = Annotated[str, typer.Option("--session", metavar="ID", help="Only of this provisioning session.")]
ReportingOption = Annotated[
    str, typer.Option("--reporting-session", metavar="ID", help="Only of this reporting session.")
]
ClientOption = Annotated[str, typer.Option("--client", metavar="ID", help="Only of this client.")]
EntryOption = Annotated[str, typer.Option("--entry", metavar="URL", help="Only of this Media Player Entry.")]
MediaOption = Annotated[str, typer.Option("--media", metavar="ID", help="Only of this medium.")]
FromOption = Annotated[str, typer.Option("--from", metavar="TIME", help="Only what had not ended by then (RFC 3339).")]
ToOption = Annotated[str, typer.Option("--to", metavar="TIME", help="Only what had begun before then (RFC 3339).")]
AreaOption = Annotated[
    str, typer.Option("--area", metavar="CELL", help="Only in this cell, or network or area: '262-01', '262-01-2A3B'.")
]
OutOption = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="[default: standard output]")]


@app.callback()
def reports() -> None:
    """Consumption reports: what clients have reported, found, counted and written to files."""


@app.command("list")
def list_(
    session: SessionOption = "",
    reporting_session: ReportingOption = "",
    client: ClientOption = "",
    entry: EntryOption = "",
    media: MediaOption = "",
    begin: FromOption = "",
    end: ToOption = "",
    area: AreaOption = "",
    limit: Annotated[int, typer.Option("--limit", min=0, metavar="N", help="At most so many; 0: all.")] = 0,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    token: TokenOption = None,
    grpc: GrpcOption = None,
    config: ConfigOption = None,
    directory: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what was consumed, a line per unit, in the order of receipt."""
    wanted = _filter(session, reporting_session, client, entry, media, begin, end, area)

    async def tell(channels: Channels) -> None:
        from nf.cli.reports.telling import tell_records

        await tell_records(channels, wanted, limit=limit, as_json=as_json)

    _with_channels(tell, ["af"], grpc, config, directory, _Shown(tls_ca, tls_certificate, tls_key, token))


@app.command()
def aggregate(
    session: SessionOption = "",
    reporting_session: ReportingOption = "",
    client: ClientOption = "",
    entry: EntryOption = "",
    media: MediaOption = "",
    begin: FromOption = "",
    end: ToOption = "",
    area: AreaOption = "",
    bucket_s: Annotated[
        int, typer.Option("--bucket", min=0, metavar="SECONDS", help="Length of a period; 0: one for all.")
    ] = 0,
    by_area: Annotated[bool, typer.Option("--by-area", help="Tell cells apart.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Clients and time per period (PNG, SVG, PDF).")
    ] = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    token: TokenOption = None,
    grpc: GrpcOption = None,
    config: ConfigOption = None,
    directory: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count clients and seconds, per medium and period; units are split where periods meet."""
    wanted = _filter(session, reporting_session, client, entry, media, begin, end, area)
    if plot is not None:
        from nf.cli.reports.plot import check_plot

        check_plot(plot)

    async def tell(channels: Channels) -> None:
        from nf.cli.reports.telling import tell_aggregates

        await tell_aggregates(channels, wanted, bucket_s=bucket_s, by_area=by_area, plot=plot, as_json=as_json)

    _with_channels(tell, ["af"], grpc, config, directory, _Shown(tls_ca, tls_certificate, tls_key, token))


@app.command()
def export(
    session: SessionOption = "",
    reporting_session: ReportingOption = "",
    client: ClientOption = "",
    entry: EntryOption = "",
    media: MediaOption = "",
    begin: FromOption = "",
    end: ToOption = "",
    area: AreaOption = "",
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="csv, jsonl or parquet. [default: as FILE ends, or csv]")
    ] = "",
    output: OutOption = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    token: TokenOption = None,
    grpc: GrpcOption = None,
    config: ConfigOption = None,
    directory: DirOption = None,
) -> None:
    """Write what was consumed as CSV, JSON Lines or Parquet. A file is there whole or not at all."""
    wanted = _filter(session, reporting_session, client, entry, media, begin, end, area)
    ending = output.suffix.removeprefix(".") if output is not None else ""
    chosen = form or (ending if ending in ("csv", "jsonl", "parquet") else "csv")
    if chosen not in ("csv", "jsonl", "parquet"):
        raise typer.BadParameter(f"found {chosen!r}, expected csv, jsonl or parquet", param_hint="--format")

    async def work(channels: Channels) -> None:
        from nf.cli.reports.telling import write_export

        await write_export(channels, wanted, chosen, output)

    _with_channels(work, ["af"], grpc, config, directory, _Shown(tls_ca, tls_certificate, tls_key, token))


def _filter(
    session: str, reporting_session: str, client: str, entry: str, media: str, begin: str, end: str, area: str
) -> ConsumptionFilter:
    from nf.af.v1.consumption_reporting_pb2 import ConsumptionFilter

    wanted = ConsumptionFilter(
        provisioning_session_id=session,
        session_id=reporting_session,
        reporting_client_id=client,
        media_player_entry=entry,
        media_consumed=media,
        area=area,
    )
    if begin:
        wanted.start_time.FromDatetime(_time("--from", begin))
    if end:
        wanted.end_time.FromDatetime(_time("--to", end))
    return wanted


def _time(option: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"found {text!r}, expected a time such as 2026-03-01T12:00:00Z", param_hint=option
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
