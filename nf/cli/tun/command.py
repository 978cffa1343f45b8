"""``castcore tun``: a live bump in the wire. Imports gRPC and HTTP only for who asks for them."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from nf.cli.rule_options import (
    DEFAULT_MAX_FLOWS,
    DETECTION,
    ENGINE,
    RESULTS,
    DirectionOption,
    DomainOption,
    DscpOption,
    FlowOption,
    LiveBurstOption,
    MaxFlowsOption,
    ModeOption,
    PerFlowOption,
    QueueOption,
    RateOption,
    RulesOption,
    UeOption,
    rule_set_of,
)

DEVICES: Final = "Between what"


def tun(
    core: Annotated[
        str,
        typer.Option(
            metavar="IFACE[@NETNS]",
            help="The device on the side of the network: what comes from it is downlink.",
            rich_help_panel=DEVICES,
        ),
    ],
    access: Annotated[
        str | None,
        typer.Option(
            metavar="IFACE[@NETNS]",
            help="The device on the side of the UE, made in that network namespace: what comes from it is uplink.",
            rich_help_panel=DEVICES,
        ),
    ] = None,
    n3: Annotated[
        str | None,
        typer.Option(
            "--n3",
            metavar="ADDR[:PORT][@NETNS]",
            help="In place of --access: where gNBs send GTP-U. [default port: 2152] The sessions, with their tunnels, "
            "are those of the rules file or, with --n4, of the SMF.",
            rich_help_panel=DEVICES,
        ),
    ] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(
            "--address",
            metavar="SIDE=CIDR",
            help="Address of a device, e.g. 'access=10.45.0.2/24' or 'core=198.51.100.7/24'. May be repeated.",
            rich_help_panel=DEVICES,
        ),
    ] = None,
    route: Annotated[
        list[str] | None,
        typer.Option(
            "--route",
            metavar="SIDE=CIDR",
            help="Network that is reached through a device, e.g. 'access=default'. May be repeated.",
            rich_help_panel=DEVICES,
        ),
    ] = None,
    mtu: Annotated[
        int | None,
        typer.Option(
            metavar="BYTES", help="MTU of both devices. [default: 1500, with --n3 1400]", rich_help_panel=DEVICES
        ),
    ] = None,
    flow: FlowOption = None,
    domain: DomainOption = None,
    ue: UeOption = None,
    rules: RulesOption = None,
    direction: DirectionOption = None,
    n4: Annotated[
        bool,
        typer.Option(
            "--n4",
            help="Take the rules from an SMF, as a UPF does: nothing passes until it has established its sessions, and "
            "what none of them wants is dropped. In place of the options for a rule.",
            rich_help_panel=DETECTION,
        ),
    ] = False,
    rate: RateOption = None,
    burst: LiveBurstOption = None,
    mode: ModeOption = None,
    dscp: DscpOption = None,
    queue: QueueOption = None,
    per_flow: PerFlowOption = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="One JSON object a line: ready, every second, and at the end.", rich_help_panel=RESULTS
        ),
    ] = False,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve Prometheus counters there, at /metrics; port 0: a free one.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    grpc: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="With --n4: where the SMF finds the UPF's gRPC server. [default: 127.0.0.1:0, a free port]",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="End by itself, e.g. after '30 s'.", rich_help_panel=ENGINE),
    ] = None,
    max_flows: MaxFlowsOption = DEFAULT_MAX_FLOWS,
) -> None:
    """Police live traffic between two tun devices, each made here, and gone with this command.

    What the hosts behind the devices send each other passes through the user plane, in each direction through an
    engine of its own with buckets of its own. What no rule wants passes. Needs CAP_NET_ADMIN.

    \b
    Two hosts as network namespaces, the server's media to the UE at 5 Mbps:
      ip netns add ue; ip netns add net
      castcore tun --access ue0@ue --address access=10.45.0.2/24 --core net0@net --address core=10.45.0.1/24 \\
        --flow "permit out ip from 10.45.0.1 to assigned" --ue 10.45.0.2 --direction down --rate "5 Mbps"
      ip netns exec net iperf3 -s -D; ip netns exec ue iperf3 -c 10.45.0.1 -R
    Shape instead of dropping, each flow for itself, for a minute, and tell scripts:
      castcore tun ... --flow "permit out ip from any to any" --rate "5 Mbps" --mode shape --per-flow \\
        --duration "60 s" --json
    Many rules, and their counters for Prometheus:
      castcore tun ... --rules rules.toml --metrics 127.0.0.1:9090
    Between a gNB and the network, with the sessions in the file:
      castcore tun --n3 192.0.2.1 --core net0@net --address core=10.45.0.1/16 --rules sessions.toml
    As the UPF of a running core, whose configuration names the address under [upf]:
      castcore tun ... --n4 --grpc 127.0.0.1:7004

    Ctrl-C and SIGTERM end it with exit code 0 and a summary.
    """  # noqa: D301
    import asyncio

    from nf.cli.tun.options import check_sessions, duration_s_of, grpc_address_of, listening_address_of, sides_of
    from nf.cli.tun.session import LiveOptions, run_live
    from nf.cli.tun.view import teller_of
    from nf.common.run import run

    sides = sides_of(access, n3, core, address or [], route or [])
    rule_set = rule_set_of(
        flow, domain, rate, burst, mode, per_flow, rules, ue, dscp=dscp, queue=queue, direction=direction, live=True
    )
    options = LiveOptions(
        access=sides[0],
        core=sides[1],
        mtu=mtu,
        rules=rule_set.rules,
        tunnels=rule_set.tunnels,
        max_flows=max_flows,
        grpc_address=grpc_address_of(
            n4=n4, grpc=grpc, given=bool(rule_set.rules or rule_set.tunnels) or ue is not None
        ),
        metrics_address=None if metrics is None else listening_address_of("--metrics", metrics),
        duration_s=duration_s_of(duration),
    )
    check_sessions(n3=n3, n4=n4, tunnels=rule_set.tunnels)
    for warning in rule_set.warnings:
        print(f"castcore: warning: {warning}", file=sys.stderr)
    teller = teller_of(as_json=as_json)

    async def until_stopped(stop: asyncio.Event) -> None:
        await run_live(options, teller, stop)

    run(until_stopped)
