"""``castcore ue``: service access information, dynamic policies, reports, playing, and populations of clients."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nf.cli.book.connection import PlatformCommand
from nf.cli.panels import PanelCommand
from nf.cli.ue import track_command
from nf.cli.ue.connection import (
    DirOption,
    DraftOption,
    Http2Option,
    JsonOption,
    M5Option,
    Reach,
    TlsCaOption,
    TlsCertificateOption,
    TlsKeyOption,
    UeOption,
    until_stopped,
    with_m5,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from nf.af.v1.consumption_reporting_pb2 import ConsumptionReport
    from nf.client.m5 import M5

app = typer.Typer(
    help="The UE side: Media Session Handler, player and application, against any 5GMS AF.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
policy = typer.Typer(help="Dynamic policies at M5.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(policy, name="policy")

SessionArgument = Annotated[str, typer.Argument(metavar="SESSION", help="The provisioning session.")]
PolicyArgument = Annotated[str, typer.Argument(metavar="POLICY", help="The dynamic policy.")]
FlowOption = Annotated[
    list[str] | None,
    typer.Option("--flow", metavar="FLOW", help="PROTOCOL/SERVER[:PORT][/UE_PORT] or domain/NAME. May be repeated."),
]
ClientOption = Annotated[str, typer.Option("--client", metavar="ID", help="reportingClientId of the reports.")]
LocationOption = Annotated[
    str | None, typer.Option("--location", metavar="TYPE:CELL", help="Where the UE is: NCGI:001-01-000000001.")
]

_ENTRY: Final = "https://media.example.com/title.mpd"


@app.command("access-info", cls=PanelCommand)
def access_info(
    session: SessionArgument,
    m5: M5Option = None,
    directory: DirOption = None,
    http2: Http2Option = False,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Service access information: what a client needs to use a provisioned service.

    \b
    castcore ue access-info 7c2f… --m5 http://127.0.0.1:8080
    """  # noqa: D301
    reach = Reach(m5, directory, None, http2, None, tls_ca, tls_certificate, tls_key)

    async def work(connected: M5, _: asyncio.Event) -> None:
        from nf.cli.ue.telling import access_lines
        from nf.common import codec

        answer = await connected.service_access_information(session)
        if answer.information is None:
            return
        if as_json:
            print(codec.dumps(answer.information).decode())
        else:
            _print(access_lines(answer.information, answer.max_age_s))

    with_m5(reach, work)


@policy.command("create", cls=PanelCommand)
def create(
    session: SessionArgument,
    network_policy: Annotated[str, typer.Argument(metavar="NETWORK_POLICY", help="The network policy id.")],
    flow: FlowOption = None,
    ue: UeOption = None,
    m5: M5Option = None,
    directory: DirOption = None,
    http2: Http2Option = False,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Activate a network policy for flows, and tell what the network will enforce.

    \b
    castcore ue policy create 7c2f… zero-rating --ue 10.45.0.2 --flow tcp/198.51.100.7:443/50000
    """  # noqa: D301
    reach = Reach(m5, directory, ue, http2, None, tls_ca, tls_certificate, tls_key)

    async def work(connected: M5, _: asyncio.Event) -> None:
        from nf.cli.ue.flows import parse_flow
        from nf.client.dynamic_policy import DynamicPolicyHandler
        from nf.common.clock import SystemClock

        flows = [parse_flow(each) for each in flow or ()]
        handler = DynamicPolicyHandler(connected, SystemClock())
        _tell_policy(await handler.activate(session, network_policy, flows), as_json=as_json)

    with_m5(reach, work)


@policy.command("update", cls=PanelCommand)
def update(
    policy_id: PolicyArgument,
    flow: FlowOption = None,
    ue: UeOption = None,
    m5: M5Option = None,
    directory: DirOption = None,
    http2: Http2Option = False,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which flows are open now: those named, and no others."""
    reach = Reach(m5, directory, ue, http2, None, tls_ca, tls_certificate, tls_key)

    async def work(connected: M5, _: asyncio.Event) -> None:
        from nf.af.v1.media_session_pb2 import DynamicPolicy
        from nf.cli.ue.flows import parse_flow

        flows = [parse_flow(each).description() for each in flow or ()]
        changed = DynamicPolicy(dynamic_policy_id=policy_id, service_data_flow_descriptions=flows)
        _tell_policy(
            await connected.update_dynamic_policy(changed, ["service_data_flow_descriptions"]), as_json=as_json
        )

    with_m5(reach, work)


@policy.command("delete", cls=PanelCommand)
def delete(
    policy_id: PolicyArgument,
    ue: UeOption = None,
    m5: M5Option = None,
    directory: DirOption = None,
    http2: Http2Option = False,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
) -> None:
    """Deactivate a dynamic policy."""
    reach = Reach(m5, directory, ue, http2, None, tls_ca, tls_certificate, tls_key)

    async def work(connected: M5, _: asyncio.Event) -> None:
        await connected.delete_dynamic_policy(policy_id)

    with_m5(reach, work)


@policy.command("watch", cls=PanelCommand)
def watch(
    policy_id: PolicyArgument,
    ue: UeOption = None,
    m5: M5Option = None,
    directory: DirOption = None,
    http2: Http2Option = False,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell a dynamic policy whenever the network changes it, until it is over or Ctrl-C."""
    reach = Reach(m5, directory, ue, http2, None, tls_ca, tls_certificate, tls_key)

    async def work(connected: M5, _: asyncio.Event) -> None:
        _tell_policy(await connected.get_dynamic_policy(policy_id), as_json=as_json)
        async for each in connected.watch_dynamic_policy(policy_id):
            _tell_policy(each, as_json=as_json)

    with_m5(reach, work)


@app.command(cls=PanelCommand)
def report(
    session: SessionArgument,
    media: Annotated[
        list[str] | None,
        typer.Option("--media", metavar="ID", help="What was consumed: an @id of the MPD. May be repeated."),
    ] = None,
    duration: Annotated[int, typer.Option("--duration", min=0, metavar="S", help="For so long.")] = 0,
    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", help="Since then (RFC 3339). [default: S seconds ago]")
    ] = None,
    entry: Annotated[str, typer.Option("--entry", metavar="URL", help="Media Player Entry.")] = _ENTRY,
    client: ClientOption = "castcore-ue",
    location: LocationOption = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="In place of all these: the report as JSON; -: stdin.")
    ] = None,
    ue: UeOption = None,
    draft: DraftOption = None,
    m5: M5Option = None,
    directory: DirOption = None,
    http2: Http2Option = False,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hand in one consumption report; returns when the AF has stored it.

    \b
    castcore ue report 7c2f… --media video-1080p --duration 30 --client msisdn-15550100
    castcore ue report 7c2f… --file report.json --m5 http://127.0.0.1:8080 --draft provider
    """  # noqa: D301
    reach = Reach(m5, directory, ue, http2, draft, tls_ca, tls_certificate, tls_key)
    if file is not None and media:
        raise typer.BadParameter("goes without --file: the file says what was consumed", param_hint="--media")
    if file is None and not media:
        raise typer.BadParameter("missing, expected what was consumed, or --file", param_hint="--media")
    made = _report_in(file) if file is not None else _report_of(media or [], duration, start, entry, client, location)

    async def work(connected: M5, _: asyncio.Event) -> None:
        from nf.common import codec

        await connected.report_consumption(session, made)
        if as_json:
            print(codec.dumps(made).decode())
        else:
            print(f"taken: {len(made.consumption_reporting_units)} units of {made.reporting_client_id}")

    with_m5(reach, work)


@app.command(cls=PanelCommand)
def play(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="An M8 document (file), or the URL of an MPD.")],
    title: Annotated[
        str | None, typer.Option("--title", metavar="ID", help="Which of the document. [default: the first]")
    ] = None,
    network_policy: Annotated[
        str | None, typer.Option("--policy", metavar="ID", help="Activate this network policy.")
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="With the URL of an MPD: the provisioning session.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", min=0.1, metavar="S", help="Stop after so long. [default: to the end]")
    ] = None,
    client: ClientOption = "castcore-ue",
    report_consumption: Annotated[
        bool, typer.Option("--report/--no-report", help="Whether the user allows consumption reports.")
    ] = True,
    share_location: Annotated[
        bool, typer.Option("--share-location", help="The user allows the location in them.")
    ] = False,
    location: LocationOption = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="Where reports wait while the AF is away.")
    ] = None,
    ignore_filter: Annotated[
        bool, typer.Option("--ignore-filter", help="A player that takes what it can get.")
    ] = False,
    ue: UeOption = None,
    draft: DraftOption = None,
    m5: M5Option = None,
    directory: DirOption = None,
    http2: Http2Option = False,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play a title as an application would: policy, filter, segments, reports. Ctrl-C stops with the final report.

    \b
    castcore ue play m8.json --title title1 --policy conditional-zero-rating
    castcore ue play http://127.0.0.1:8000/title1.mpd --session 7c2f…
    """  # noqa: D301
    from nf.cli.ue.playing import Wish, playing

    wish = Wish(
        what, title, network_policy or "", session, duration, client, report_consumption, share_location, location,
        keep, ignore_filter,
    )  # fmt: skip
    reach = Reach(m5, directory, ue, http2, draft, tls_ca, tls_certificate, tls_key)
    until_stopped(lambda stop: playing(wish, reach, stop, as_json=as_json), polite=True)


@app.command(cls=PanelCommand)
def population(
    session: SessionArgument,
    clients: Annotated[int, typer.Option("--clients", min=1, metavar="N", help="So many clients.")] = 100,
    duration: Annotated[str, typer.Option("--duration", metavar="TIME", help="For so long: 30s, 5m, 1h.")] = "60s",
    ramp: Annotated[str, typer.Option("--ramp", metavar="TIME", help="They start evenly over so long.")] = "5s",
    session_time: Annotated[
        str, typer.Option("--session-time", metavar="TIME", help="How long one plays, in the mean.")
    ] = "60s",
    switch_time: Annotated[
        str, typer.Option("--switch-time", metavar="TIME", help="Until it switches its representation, in the mean.")
    ] = "8s",
    reconnect_time: Annotated[
        str, typer.Option("--reconnect-time", metavar="TIME", help="Until it reconnects, in the mean; 0s: never.")
    ] = "0s",
    network_policy: Annotated[
        str | None, typer.Option("--policy", metavar="ID", help="Each session activates this network policy.")
    ] = None,
    ues: Annotated[
        str | None, typer.Option("--ues", metavar="CIDR", help="Addresses of the UEs; they need PDU sessions.")
    ] = None,
    client_prefix: Annotated[
        str, typer.Option("--client-prefix", metavar="TEXT", help="Clients are called TEXT-0, TEXT-1, …")
    ] = "client",
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="The same seed, the same behaviour.")] = 1,
    draft: DraftOption = None,
    m5: M5Option = None,
    directory: DirOption = None,
    http2: Http2Option = False,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Thousands of clients in this process, for load: media are pretended, what is sent to the AF is real.

    \b
    castcore ue population 7c2f… --clients 1000 --duration 60s
    castcore ue population 7c2f… --clients 200 --policy zero-rating --ues 10.45.0.0/24 --reconnect-time 10s --json
    """  # noqa: D301
    from nf.cli.ue.populating import plan_of, populating

    plan = plan_of(
        session, clients, seed=seed, network_policy=network_policy, ues=ues, client_prefix=client_prefix,
        times={"--duration": duration, "--ramp": ramp, "--session-time": session_time, "--switch-time": switch_time,
               "--reconnect-time": reconnect_time},
    )  # fmt: skip
    reach = Reach(m5, directory, None, http2, draft, tls_ca, tls_certificate, tls_key)
    until_stopped(lambda stop: populating(plan, reach, stop, as_json=as_json), polite=True)


app.command("track", cls=PlatformCommand)(track_command.track)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _tell_policy(told: object, *, as_json: bool) -> None:
    from nf.af.v1.media_session_pb2 import DynamicPolicy
    from nf.cli.ue.telling import policy_json, policy_lines

    assert isinstance(told, DynamicPolicy)
    if as_json:
        print(policy_json(told), flush=True)
    else:
        print("\n".join(policy_lines(told)), flush=True)


def _report_in(file: Path) -> ConsumptionReport:
    import sys

    from nf.af.v1.consumption_reporting_pb2 import ConsumptionReport
    from nf.common import codec
    from nf.common.errors import InvalidArgument

    try:
        body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{file}: cannot be read: {error.strerror}") from None
    return codec.loads(ConsumptionReport, body)


def _report_of(
    media: list[str], duration_s: int, start: str | None, entry: str, client: str, location: str | None
) -> ConsumptionReport:
    from datetime import timedelta

    from google.protobuf.timestamp_pb2 import Timestamp

    from nf.af.v1.consumption_reporting_pb2 import ConsumptionReport, ConsumptionReportingUnit
    from nf.cli.ue.flows import parse_location
    from nf.common.errors import InvalidArgument

    begun = datetime.now(UTC) - timedelta(seconds=duration_s)
    if start is not None:
        try:
            begun = datetime.fromisoformat(start)
        except ValueError:
            raise InvalidArgument(f"option '--start': found {start!r}, expected a time (RFC 3339)") from None
        if begun.tzinfo is None:
            raise InvalidArgument(f"option '--start': found {start!r}, expected a time with its zone ('…Z')")
    start_time = Timestamp()
    start_time.FromDatetime(begun)
    locations = [parse_location(location)] if location is not None else []
    return ConsumptionReport(
        media_player_entry=entry,
        reporting_client_id=client,
        consumption_reporting_units=[
            ConsumptionReportingUnit(
                media_consumed=each, start_time=start_time, duration_s=duration_s, locations=locations
            )
            for each in media
        ],
    )
