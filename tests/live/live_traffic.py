"""Traffic for live tests: UDP at an exact rate and a sink that counts it (traffic.c), TCP by iperf3.

Rates and bytes are those of IP packets, as policers measure them.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from live.networks import Network

SOURCE = Path(__file__).with_name("traffic.c")
SECOND_NS = 1_000_000_000
FIRST_SOURCE_PORT = 40_000
# A super-packet of the sender: so small that a bucket of 20,000 bytes does not notice that its packets come at once.
CALL_BYTES = 8_000


class HeldUp(AssertionError):
    """Less was measured than was to be, as happens where the machine does not keep up."""


def kept_up(enough: bool, told: str) -> None:
    """Raises HeldUp."""
    if not enough:
        raise HeldUp(told)


@dataclass(frozen=True)
class Sent:
    datagrams: int
    bytes: int
    calls: int
    segments: int
    refused_calls: int
    began_ns: int
    ended_ns: int
    longest_gap_ns: int
    skipped_ns: int

    @property
    def seconds(self) -> float:
        return (self.ended_ns - self.began_ns) / SECOND_NS


@dataclass(frozen=True)
class FlowArrived:
    datagrams: int
    bytes: int
    gaps: int
    out_of_order: int


@dataclass(frozen=True)
class Arrived:
    """What a sink saw; flows by source port."""

    overflowed: int
    damaged: int
    flows: dict[int, FlowArrived]

    @classmethod
    def of(cls, report: dict[str, Any]) -> Self:
        flows = {int(port): FlowArrived(**counted) for port, counted in report.pop("flows").items()}
        return cls(flows=flows, **report)

    @property
    def datagrams(self) -> int:
        return sum(flow.datagrams for flow in self.flows.values())

    @property
    def bytes(self) -> int:
        return sum(flow.bytes for flow in self.flows.values())

    @property
    def intact(self) -> bool:
        """No datagram was damaged or came out of order, and the sink itself missed none."""
        return not (self.overflowed or self.damaged or any(flow.out_of_order for flow in self.flows.values()))


class Traffic:
    """The compiled sender and sink."""

    def __init__(self, directory: Path) -> None:
        compiler = shutil.which("cc") or "gcc"
        self.program = directory / "traffic"
        subprocess.run([compiler, "-O2", "-Wall", "-Werror", SOURCE, "-o", self.program], check=True)

    def send(self, network: Network, address: str, port: int, *, rate_bps: float, length: int, seconds: float) -> Sent:
        """Sends packets of ``length`` bytes from that network."""
        flows = [(FIRST_SOURCE_PORT, rate_bps, length)]
        return self.send_side_by_side(network, address, port, flows, seconds=seconds)[0]

    def send_side_by_side(
        self, network: Network, address: str, port: int, flows: Sequence[tuple[int, float, int]], *, seconds: float
    ) -> list[Sent]:
        """A sender for each flow, given by source port, rate and length of its packets."""
        with ExitStack() as stack:
            senders = [
                stack.enter_context(
                    self.sending(
                        network,
                        address,
                        port,
                        source_port=source_port,
                        rate_bps=rate_bps,
                        length=length,
                        seconds=seconds,
                    )
                )
                for source_port, rate_bps, length in flows
            ]
            return [sent(sender) for sender in senders]

    @contextmanager
    def sending(
        self,
        network: Network,
        address: str,
        port: int,
        *,
        rate_bps: float,
        length: int,
        seconds: float,
        source_port: int = FIRST_SOURCE_PORT,
    ) -> Iterator[subprocess.Popen[str]]:
        """Sends one flow beside other things; ``sent`` waits for its end."""
        numbers = [port, source_port, length, round(rate_bps), round(seconds * SECOND_NS), CALL_BYTES]
        with network.process(self.program, "send", address, *numbers) as process:
            yield process

    @contextmanager
    def sink(self, network: Network, port: int) -> Iterator[Sink]:
        """Counts the datagrams that come to that port of the network."""
        with network.process(self.program, "sink", port) as process:
            sink = Sink(process)
            assert sink.line() == {"ready": True}
            yield sink


def sent(sender: subprocess.Popen[str]) -> Sent:
    """What a sender has sent, at its end."""
    answer, _ = sender.communicate(timeout=120)
    assert sender.returncode == 0
    return Sent(**json.loads(answer))


class Sink:
    """A running sink."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        read: dict[str, Any] = json.loads(self._process.stdout.readline())
        return read

    def arrived(self) -> Arrived:
        """What has arrived once nothing arrives any more; ends the sink."""
        self._process.send_signal(signal.SIGTERM)
        return Arrived.of(self.line())


def iperf3(client: Network, server: Network, address: str, *options: object, seconds: float = 3) -> dict[str, Any]:
    """One TCP test by iperf3, the server in one network and the client in the other: the client's report."""
    with server.process("iperf3", "-s", "-1", "--forceflush") as process:
        assert process.stdout is not None
        while "Server listening" not in (line := process.stdout.readline()):
            assert line, "the server ended"
        report: dict[str, Any] = json.loads(
            client.run("iperf3", "-c", address, "-t", seconds, "-J", *options, timeout_s=seconds + 20)
        )
        process.communicate(timeout=20)
    return report
