"""``castcore lab``: two hosts and ``castcore tun`` between them, to be tried without root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from nf.cli.rule_options import (
    DirectionOption,
    DomainOption,
    DscpOption,
    FlowOption,
    LiveBurstOption,
    ModeOption,
    PerFlowOption,
    QueueOption,
    RateOption,
    RulesOption,
    UeOption,
    rule_set_of,
)

# Where tools are that an ordinary user's path may not lead to.
_SYSTEM_PATHS: Final = ("/usr/sbin", "/sbin")


def lab(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[COMMAND]...",
            help="What to run in place of a shell; its exit code is that of the lab. Best after --.",
            show_default=False,
        ),
    ] = None,
    bare: Annotated[
        bool,
        typer.Option(
            "--bare", help="The two hosts alone: for castcore tun or castcore up with devices and options of your own."
        ),
    ] = False,
    flow: FlowOption = None,
    domain: DomainOption = None,
    ue: UeOption = None,
    rules: RulesOption = None,
    direction: DirectionOption = None,
    rate: RateOption = None,
    burst: LiveBurstOption = None,
    mode: ModeOption = None,
    dscp: DscpOption = None,
    queue: QueueOption = None,
    per_flow: PerFlowOption = False,
) -> None:
    """Open a shell in a network of its own: two hosts, ue and dn, with castcore tun between them.

    It needs no root where user namespaces are allowed, and ends, with all that runs in it, when the shell ends.
    The rule options are those of castcore tun.

    \b
    castcore lab --flow 'permit out ip from any to assigned' --rate '10 Mbps'
    castcore lab --rules lab.toml -- ./measure.sh
    """  # noqa: D301
    from nf.cli.lab.isolation import isolate
    from upf.errors import UpfError

    rule_set_of(
        flow, domain, rate, burst, mode, per_flow, rules, ue, dscp=dscp, queue=queue, direction=direction, live=True
    )
    options = _words(context, without="bare")
    if bare and options:
        raise UpfError(f"option '--bare': goes without {options[0]}: there is nothing yet that could police")
    isolate()
    raise typer.Exit(_inside(command or [], None if bare else options))


def _words(context: typer.Context, *, without: str) -> list[str]:
    """The rule options as they are written, for `castcore tun`; without an option of our own."""
    words = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.param_type_name != "option" or parameter.name == without or not value:
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            words += [parameter.opts[0]] if each is True else [parameter.opts[0], str(each)]
    return words


def _inside(command: Sequence[str], options: Sequence[str] | None) -> int:
    """Everything happens here, as the first process of the lab: the exit code. Options None: no `castcore tun`."""
    from nf.cli.lab.hosts import DN, UE, Pair, loopback_up, make_host

    loopback_up()
    for host in (UE, DN):
        make_host(host.name)
    if options is None:
        if not command:
            _tell_bare()
        return _run(command or [_shell()])
    with Pair(options, lambda: print("castcore: castcore tun has ended", file=sys.stderr)) as pair:
        pair.wait()
        if not command:
            _tell(options)
        code = _run(command or [_shell()])
        if not command:
            print(pair.close(), end="")
        return code


def _run(command: Sequence[str]) -> int:
    """The exit code of the command. Whatever else ends meanwhile is waited for, too: nobody else would."""
    from nf.cli.lab.isolation import exit_code
    from upf.errors import UpfError

    # Ctrl-C is for the command, which starts with what is usual.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda *_: None)
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    path += [each for each in _SYSTEM_PATHS if each not in path]
    environment = os.environ | {"PATH": os.pathsep.join(path)}
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        raise UpfError(f"command {command[0]!r}: cannot be run: {error.strerror}") from None
    while True:
        ended, status = os.wait()
        if ended == process.pid:
            process.returncode = exit_code(status)
            return process.returncode


def _shell() -> str:
    shell = os.environ.get("SHELL", "")
    return shell if shutil.which(shell) and not shell.endswith(("/nologin", "/false")) else "/bin/sh"


def _tell(options: Sequence[str]) -> None:
    from nf.cli.lab.hosts import DN, LOG, UE

    rule = " ".join(f"'{word}'" if " " in word else word for word in options)
    print(
        f"""\
Two hosts with castcore tun between them; all of it ends with this shell.
  {UE.name}  {UE.ipv4}  {UE.ipv6}  device {UE.interface}, the access side
  {DN.name}  {DN.ipv4}  {DN.ipv6}  device {DN.interface}, the core side
  rules: {rule or "none, everything passes"}
Try
  ip netns exec {UE.name} ping -c 3 {DN.ipv4}
  ip netns exec {DN.name} iperf3 -s -D; ip netns exec {UE.name} iperf3 -c {DN.ipv4} -R
  tail -f {LOG}
"""
    )


def _tell_bare() -> None:
    from nf.cli.lab.hosts import DN, UE

    print(
        f"""\
Two hosts, {UE.name} and {DN.name}, with nothing between them yet; all of it ends with this shell.
Try
  castcore tun --access {UE.interface}@{UE.name} --address access={UE.addresses[0]} \\
    --core {DN.interface}@{DN.name} --address core={DN.addresses[0]}
"""
    )
