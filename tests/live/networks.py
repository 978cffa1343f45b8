"""Network namespaces for tests: made under random names, gone at every exit, with processes and sockets inside."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TypeVar

import pytest

from upf.live.namespaces import NAMED, in_namespace

T = TypeVar("T")

_PREFIX = "castcore-test"
_SBIN = "/usr/sbin:/sbin"
# What the kernel counts of each device, in the order of /proc/net/dev.
_COUNTED = ("bytes", "packets", "errors", "dropped")


def required(*tools: str) -> None:
    """Ends a test that cannot have namespaces, tun devices or one of the tools: skipped, but failed in CI."""
    missing = [f"{tool} is not installed" for tool in ("ip", *tools) if tool_path(tool) is None]
    if os.geteuid() != 0:
        missing.append("network namespaces and tun devices need root")
    elif not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        missing.append("there is no /dev/net/tun")
    if missing and os.environ.get("CI") == "true":
        pytest.fail("; ".join(missing))
    if missing:
        pytest.skip("; ".join(missing))


def tool_path(tool: str) -> str | None:
    """Where a tool is, also when the path of an ordinary user does not lead there."""
    return shutil.which(tool) or shutil.which(tool, path=_SBIN)


class Network:
    """A network namespace of its own, loopback up."""

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, *words: object) -> list[str]:
        """The words of a command that runs in here."""
        return [tool_path("ip") or "ip", "netns", "exec", self.name, *map(str, words)]

    def run(self, *words: object, text: str | None = None, timeout_s: float = 60) -> str:
        """Runs a command in here to its end: what it printed. AssertionError with all that it said when it fails."""
        done = subprocess.run(
            self.command(*words), input=text, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert done.returncode == 0, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def ip(self, line: str) -> str:
        """``ip`` in here: ``network.ip("address add 10.45.0.2/32 dev access")``."""
        return run("ip", "-n", self.name, *line.split())

    def set(self, setting: str, value: object) -> None:
        """Sets what stands below ``net``: ``network.set("ipv4/ip_forward", 1)``."""
        self.inside(lambda: Path("/proc/sys/net", setting).write_text(f"{value}\n"))

    @contextmanager
    def process(
        self, *words: object, stdin: int | None = subprocess.DEVNULL, stderr: int | IO[str] | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """A process in here, its output to be read; killed at the end if it is still there."""
        with started(*self.command(*words), stdin=stdin, stderr=stderr) as process:
            yield process

    def socket(self, family: socket.AddressFamily, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
        """A socket that belongs to this network, for use from anywhere."""
        return self.inside(lambda: socket.socket(family, kind, protocol))

    def inside(self, call: Callable[[], T]) -> T:
        """What a call returns that is made by a thread in here."""
        return in_namespace(self.name, call)

    def devices(self) -> list[str]:
        """The names of the devices in here, without loopback."""
        return [name for name in self.inside(_devices) if name != "lo"]

    def device_counters(self, device: str) -> dict[str, int]:
        """What the kernel counted of a device: ``{"rx_packets": …, "rx_bytes": …, "tx_dropped": …}``."""
        return _counted(self.inside(lambda: Path("/proc/thread-self/net/dev").read_text()), device)

    def protocol_counters(self) -> dict[str, int]:
        """What the kernel counted of IP and what is above it: ``{"Ip.InReceives": …, "Udp.RcvbufErrors": …}``."""
        return _snmp(*self.inside(lambda: [Path(f"/proc/thread-self/net/{name}").read_text() for name in _SNMP]))


_SNMP = ("snmp", "snmp6")


@contextmanager
def networks(*roles: str) -> Iterator[list[Network]]:
    """Namespaces, one for each role, that are removed at the end with whatever runs in them."""
    _sweep()
    run_name = f"{_PREFIX}-{os.getpid()}-{secrets.token_hex(3)}"
    with ExitStack() as stack:
        made = []
        for role in roles:
            name = f"{run_name}-{role}"
            run("ip", "netns", "add", name)
            stack.callback(_remove, name)
            network = Network(name)
            network.ip("link set lo up")
            made.append(network)
        yield made


@contextmanager
def started(
    *words: object, stdin: int | None = subprocess.DEVNULL, stderr: int | IO[str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process whose output is to be read; killed at the end if it is still there."""
    with subprocess.Popen(
        [str(word) for word in words], stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def run(*words: str) -> str:
    """Runs a command to its end: what it printed."""
    program = tool_path(words[0]) or words[0]
    done = subprocess.run([program, *words[1:]], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def joined(
    first: Network, second: Network, addresses: Sequence[str], peers: Sequence[str], *, names: tuple[str, str]
) -> None:
    """A veth pair between two networks, up, with the name and the addresses of each end."""
    ends = (names[0], "netns", first.name, "type", "veth", "peer", "name", names[1], "netns", second.name)
    run("ip", "link", "add", *ends)
    for network, device, own in ((first, names[0], addresses), (second, names[1], peers)):
        for address in own:
            network.ip(f"address add {address} dev {device}" + (" nodad" if ":" in address else ""))
        network.ip(f"link set dev {device} up")


def _remove(name: str) -> None:
    for word in run("ip", "netns", "pids", name).split():
        try:
            os.kill(int(word), signal.SIGKILL)
        except ProcessLookupError:
            continue
    run("ip", "netns", "delete", name)


def _sweep() -> None:
    """Removes what a run left behind that was killed itself: a name tells whose it is."""
    for path in NAMED.glob(f"{_PREFIX}-*"):
        owner = path.name.removeprefix(f"{_PREFIX}-").partition("-")[0]
        if not Path("/proc", owner).exists():
            _remove(path.name)


def _devices() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def _counted(table: str, device: str) -> dict[str, int]:
    for line in table.splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == device:
            columns = [int(word) for word in numbers.split()]
            received = {f"rx_{what}": number for what, number in zip(_COUNTED, columns, strict=False)}
            return received | {f"tx_{what}": number for what, number in zip(_COUNTED, columns[8:], strict=False)}
    raise AssertionError(f"there is no device {device}:\n{table}")


def _snmp(table: str, table6: str) -> dict[str, int]:
    counted = {}
    lines = table.splitlines()
    for names, numbers in zip(lines[::2], lines[1::2], strict=True):
        protocol, _, columns = names.partition(":")
        for name, number in zip(columns.split(), numbers.partition(":")[2].split(), strict=True):
            counted[f"{protocol}.{name}"] = int(number)
    for line in table6.splitlines():
        name, number = line.split()
        for protocol in ("UdpLite6", "Udp6", "Icmp6", "Ip6"):
            if name.startswith(protocol):
                counted[f"{protocol}.{name.removeprefix(protocol)}"] = int(number)
                break
    return counted
