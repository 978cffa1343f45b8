"""``castcore demo zero-rating``: options in, tables or JSON out. The other stories have modules of their own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nf.cli.demo.booking_command import booking
from nf.cli.demo.mbs_command import mbs

if TYPE_CHECKING:
    import asyncio

    from nf.cli.demo.slices import Slice
    from nf.cli.demo.zero_rating import MediaSession, Story
    from nf.common.v1.events_pb2 import Event

_DEFAULT_RATE = "2 Mbps"
_SLICES = 9
_DASH_RATE = "5 Mbps"
_DASH_SECONDS = 5

_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}

app = typer.Typer(no_args_is_help=True)


@app.callback()
def demo() -> None:
    """The story end to end: real packets, real sockets, no root."""


app.command("mbs")(mbs)
app.command("booking")(booking)


@app.command("zero-rating")
def zero_rating(
    pcap: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A capture of your own, instead of a generated one.")
    ] = None,
    flow: Annotated[
        list[str] | None,
        typer.Option(
            "--flow", metavar="FILTER", help="With --pcap: which of its flows are the media session. May be repeated."
        ),
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="RATE", help=f"The policy threshold. [default: {_DEFAULT_RATE}]")
    ] = None,
    burst: Annotated[
        str | None, typer.Option(metavar="SIZE|TIME", help="Depth of the bucket. [default: 100 ms, at least 15000 B]")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(metavar="MODE", help="monitor or police. [default: both in turn; with --json monitor]")
    ] = None,
    ue: Annotated[
        str | None, typer.Option(metavar="ADDR", help="The UE, where the filter does not say. Also what 'assigned' is.")
    ] = None,
    dash: Annotated[
        bool, typer.Option("--dash", help="A DASH player over a live UPF, in a network of its own. [threshold: 5 Mbps]")
    ] = False,
    seconds: Annotated[
        int | None, typer.Option("--seconds", min=2, max=120, help="With --dash: length of the title. [default: 5]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """A (Conditional) Zero Rating policy, from M1 to policed packets and back (TS 26.512 A.3).

    Starts the functions on real sockets, provisions, attaches a UE, activates the policy for the flows of a media
    session, sends the session through the UPF while its flows open and close, and tells what was zero-rated, charged
    and dropped. Monitor drops nothing and charges the excess; police drops it.

    With --dash it takes every step from 1 to 9: a DASH player plays real segments over HTTP through a live UPF, once
    keeping to the filter that it is told, and once ignoring it. It needs no root where user namespaces are allowed.

    \b
    castcore demo zero-rating
    castcore demo zero-rating --dash
    castcore demo zero-rating --pcap in.pcap --flow "permit out 6 from any 443 to 10.45.0.2" --rate "2 Mbps" --json
    """  # noqa: D301
    from nf.cli.demo.zero_rating import MediaSession
    from nf.common.run import run
    from nf.common.telemetry import configure_logging
    from upf.errors import UpfError
    from upf.units import parse_bit_rate, parse_burst

    if mode not in (None, "monitor", "police"):
        raise typer.BadParameter(f"found {mode!r}, expected monitor or police", param_hint="--mode")
    if pcap is None and (flow or ue):
        raise UpfError("options '--flow' and '--ue' go with '--pcap': the generated session has its own")
    if pcap is not None and not flow:
        raise UpfError("option '--flow': missing, expected the filter of the media session's flows in the capture")
    if seconds is not None and not dash:
        raise UpfError("option '--seconds': goes with '--dash': a capture has its own length")
    if dash and (pcap is not None or flow or ue):
        raise UpfError("option '--dash': goes without '--pcap', '--flow' and '--ue': it makes its own traffic")
    rate_bps = parse_bit_rate(rate or (_DASH_RATE if dash else _DEFAULT_RATE))
    burst_bytes = parse_burst(burst, rate_bps) if burst is not None else None
    if dash:
        _dash(rate_bps, burst_bytes, mode or "monitor", seconds or _DASH_SECONDS, as_json=as_json)
        return
    pieces, ue_address = _pieces(pcap, flow or [], ue)
    media = MediaSession(pieces, ue_address, rate_bps, burst_bytes)
    configure_logging("error")
    modes = [mode] if mode else ["monitor"] if as_json else ["monitor", "police"]

    async def tell(stop: asyncio.Event) -> None:
        await _until_stopped(stop, media, modes, as_json=as_json)

    run(tell)


def _dash(rate_bps: int, burst_bytes: int | None, mode: str, seconds: int, *, as_json: bool) -> None:
    """The story with a DASH player; returns in a process of its own network, which ends with it."""
    from nf.cli.demo import dash_network

    # Before anything has threads.
    dash_network.enter()
    from nf.cli.demo.dash_zero_rating import Terms, tell_story
    from nf.common.clock import SystemClock
    from nf.common.run import run
    from nf.common.telemetry import configure_logging

    configure_logging("error")
    terms = Terms(rate_bps, mode, seconds, burst_bytes)

    async def play() -> None:
        from nf.cli.configuration import Configuration, StateSection
        from nf.cli.demo import dash_report
        from nf.cli.stack import Stack
        from nf.common.channels import Channels
        from upf.config import UpfSection

        configuration = Configuration(
            state=StateSection(directory=str(dash_network.STATE / "state")),
            upf=UpfSection(tun=dash_network.tun_section()),
        )
        stack = Stack(configuration)
        await stack.start()
        channels = Channels(stack.grpc, function="demo")
        try:
            story = await tell_story(
                channels, stack.http, SystemClock(), terms, lambda line: None if as_json else print(line, flush=True)
            )
            print(json.dumps(dash_report.to_json(story)) if as_json else dash_report.to_text(story), flush=True)
        finally:
            await channels.close()
            await stack.stop()

    async def tell(stop: asyncio.Event) -> None:
        from nf.cli.demo.stopping import unless_stopped

        await unless_stopped(stop, play())

    run(tell)


def _pieces(pcap: Path | None, flows: Sequence[str], ue: str | None) -> tuple[list[Slice], str]:
    """The capture in slices, and the UE that the media session goes to."""
    from nf.cli.demo import traffic
    from nf.cli.demo.slices import cut, ue_of
    from upf.capture import in_memory, open_capture
    from upf.n4.filters import limited_to_ue
    from upf.rules_file import parse_ue
    from upf.sdf import parse_filter

    if pcap is None:
        filters = [parse_filter(f"permit out ip from {traffic.SERVER} to {traffic.UE}")]
        session = in_memory(traffic.media_session(), name="media session")
        return cut(session, filters, slices=_SLICES), traffic.UE
    assigned = parse_ue(ue) if ue is not None else None
    filters = [parse_filter(flow, assigned=assigned) for flow in flows]
    if assigned is not None:
        filters = [limited_to_ue(sdf_filter, ip_network(assigned)) for sdf_filter in filters]
    with open_capture(pcap) as capture:
        pieces = cut(capture, filters, slices=_SLICES)
    return pieces, str(ue_of(pieces))


async def _until_stopped(stop: asyncio.Event, media: MediaSession, modes: Sequence[str], *, as_json: bool) -> None:
    """Plays the story in each mode; Ctrl-C ends it, and everything that was started."""
    from nf.cli.demo.stopping import unless_stopped

    await unless_stopped(stop, _play(media, modes, as_json=as_json))


async def _play(media: MediaSession, modes: Sequence[str], *, as_json: bool) -> None:
    import tempfile

    from nf.cli.configuration import Configuration, StateSection
    from nf.cli.demo.zero_rating import play
    from nf.cli.stack import Stack
    from nf.common.channels import Channels
    from nf.common.clock import SystemClock

    def narrate(line: str) -> None:
        if not as_json:
            print(line, flush=True)

    with tempfile.TemporaryDirectory(prefix="castcore-demo-") as directory:
        # What MBS is made of has no part in it.
        stack = Stack(Configuration(state=StateSection(directory=directory)), functions=("af", "pcf", "smf", "upf"))
        await stack.start()
        channels = Channels(stack.grpc, function="demo")
        try:
            narrate(f"         {', '.join(f'{name} {address}' for name, address in stack.grpc.items())}")
            for mode in modes:
                narrate(f"\n{mode.upper()}")
                story = await play(
                    channels,
                    SystemClock(),
                    media,
                    mode=mode,
                    narrate=narrate,
                )
                print(json.dumps(to_json(story)) if as_json else to_text(story), flush=True)
        finally:
            await channels.close()
            await stack.stop()


def to_json(story: Story) -> dict[str, object]:
    """What ``--json`` promises. Bytes are downlink: the threshold is about it; ``uplink`` and ``other`` stand apart."""
    from nf.common.v1.types_pb2 import EnforcementMethod

    downlink, uplink = story.usage.downlink, story.usage.uplink
    return {
        "enforcement_method": EnforcementMethod.Name(story.policy.enforcement_method).removeprefix(
            "ENFORCEMENT_METHOD_"
        ),
        "enforcement_bit_rate_bps": story.policy.enforcement_bit_rate_bps,
        "ue_address": story.ue_address,
        "offered_bytes": downlink.offered.bytes,
        "passed_bytes": downlink.conforming.bytes + downlink.exceeding.bytes,
        "zero_rated_bytes": story.zero_rated_bytes - uplink.conforming.bytes,
        "charged_bytes": story.charged_bytes,
        "dropped_bytes": downlink.dropped.bytes,
        "flows": [
            {
                "src_ip": account.five_tuple[0],
                "dst_ip": account.five_tuple[1],
                "protocol": account.five_tuple[2],
                "src_port": account.five_tuple[3],
                "dst_port": account.five_tuple[4],
                "offered_bytes": account.offered_bytes,
                "passed_bytes": account.passed_bytes,
                "zero_rated_bytes": account.conforming_bytes,
                "charged_bytes": account.exceeding_bytes,
                "dropped_bytes": account.dropped_bytes,
                "first_ns": account.first_ns,
                "last_ns": account.last_ns,
            }
            for account in story.flows
        ],
        "events": [_event_to_json(event) for event in story.events],
        "uplink": {"offered_bytes": uplink.offered.bytes, "zero_rated_bytes": uplink.conforming.bytes},
        "other": {"packets": story.other.packets, "bytes": story.other.bytes},
    }


def _event_to_json(event: Event) -> dict[str, object]:
    from nf.af.v1.media_session_pb2 import DynamicPolicy, DynamicPolicyStateChanged, DynamicPolicyUsage

    shown: dict[str, object] = {
        "source": event.source,
        "path": event.path,
        "type": event.type,
        "subject": event.subject,
        "sequence": event.sequence,
    }
    usage, changed = DynamicPolicyUsage(), DynamicPolicyStateChanged()
    if event.payload.Unpack(usage):
        shown["compliant"] = usage.compliant
        shown["zero_rated_bytes"] = usage.zero_rated_bytes
        shown["charged_bytes"] = usage.charged_bytes
    elif event.payload.Unpack(changed):
        shown["state"] = DynamicPolicy.State.Name(changed.dynamic_policy.state).removeprefix("STATE_")
    return shown


def to_text(story: Story) -> str:
    """The story for eyes: the flows against the threshold, the account, the events."""
    from rich.console import Console
    from rich.table import Table

    from nf.cli.figures import mean_rate

    told = to_json(story)
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("flow", overflow="fold")
    for heading in ("offered", "passed", "zero-rated", "charged", "dropped"):
        table.add_column(heading, justify="right")
    for account in story.flows:
        src, _, protocol, sport, dport = account.five_tuple
        span_ns = account.last_ns - account.first_ns
        table.add_row(
            f"{_PROTOCOLS.get(protocol, protocol)} {f'[{src}]' if ':' in src else src}:{sport}>{dport}",
            mean_rate(account.offered_bytes, span_ns),
            mean_rate(account.passed_bytes, span_ns),
            f"{account.conforming_bytes:,}",
            f"{account.exceeding_bytes:,}",
            f"{account.dropped_bytes:,}",
        )
    table.add_row(
        "bytes as rated by the PCF",
        "",
        "",
        *(f"{told[key]:,}" for key in ("zero_rated_bytes", "charged_bytes", "dropped_bytes")),
        style="bold",
    )
    lines = []
    for event in story.events:
        if event.type in ("QOS_NOTIF", "DYNAMIC_POLICY_STATE"):
            shown = _event_to_json(event)
            what = shown.get("state") or ("keeps to the threshold" if shown["compliant"] else "exceeds the threshold")
            lines.append(f"event    {event.path or event.source:<10} {event.type}: {what}")
    reports = sum(event.type == "USAGE_REPORT" for event in story.events)
    lines.append(f"event    {reports} × USAGE_REPORT; other traffic of the UE: {story.other.packets:,} packets")
    # Printed by the caller: a console that finds its pipe broken would end the process from within the event loop.
    with console.capture() as table_text:
        console.print(table)
    return table_text.get() + "\n".join(lines)
