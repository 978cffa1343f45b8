"""Traffic for live tests: UDP at an exact rate and a sink that counts it (traffic.c), TCP by iperf3.

Rates and bytes are those of IP packets, as policers measure them.
"""

from __future__ import annotations

import array
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
CALL_BYTES = 4_000


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
    call_times_ns: array.array[int] | None = None

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
    """What a sink saw; flows by source port, bytes by time in bins of ``bin_ns`` since the first datagram."""

    overflowed: int
    damaged: int
    first_ns: int
    last_ns: int
    bin_ns: int
    bins: tuple[int, ...]
    flows: dict[int, FlowArrived]

    @classmethod
    def of(cls, report: dict[str, Any]) -> Self:
        flows = {int(port): FlowArrived(**counted) for port, counted in report.pop("flows").items()}
        return cls(flows=flows, bins=tuple(report.pop("bins")), **report)

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

    def rate_bps(self, since_s: float, until_s: float) -> float:
        """The mean rate between two times, in seconds since the first datagram."""
        first, last = round(since_s * SECOND_NS / self.bin_ns), round(until_s * SECOND_NS / self.bin_ns)
        return sum(self.bins[first:last]) * 8 / ((last - first) * self.bin_ns / SECOND_NS)


class Traffic:
    """The compiled sender and sink."""

    def __init__(self, directory: Path) -> None:
        compiler = shutil.which("cc") or "gcc"
        self.program = directory / "traffic"
        subprocess.run([compiler, "-O2", "-Wall", "-Werror", SOURCE, "-o", self.program], check=True)

    def send(
        self,
        network: Network,
        address: str,
        port: int,
        *,
        rate_bps: float,
        length: int,
        seconds: float,
        flows: int = 1,
        source_port: int = FIRST_SOURCE_PORT,
        call_bytes: int = CALL_BYTES,
        log: Path | None = None,
    ) -> Sent:
        """Sends packets of ``length`` bytes from that network; flows take turns. With ``log``, when each call ended."""
        words = self._send_words(address, port, source_port, flows, length, rate_bps, seconds, call_bytes, log)
        return self._sent(network.run(*words, timeout_s=seconds + 30), log)

    def send_side_by_side(
        self,
        network: Network,
        address: str,
        port: int,
        flows: Sequence[tuple[int, float, int]],
        *,
        seconds: float,
        call_bytes: int = CALL_BYTES,
    ) -> list[Sent]:
        """A sender for each flow, given by source port, rate and length of its packets."""
        with ExitStack() as stack:
            senders = [
                stack.enter_context(
                    network.process(
                        *self._send_words(address, port, source_port, 1, length, rate_bps, seconds, call_bytes, None)
                    )
                )
                for source_port, rate_bps, length in flows
            ]
            return [self._sent(finished(sender, seconds + 30), None) for sender in senders]

    def _send_words(
        self,
        address: str,
        port: int,
        source_port: int,
        flows: int,
        length: int,
        rate_bps: float,
        seconds: float,
        call_bytes: int,
        log: Path | None,
    ) -> list[object]:
        numbers = [port, source_port, flows, length, round(rate_bps), round(seconds * SECOND_NS), call_bytes]
        return [self.program, "send", address, *numbers, *([log] if log else [])]

    def _sent(self, answer: str, log: Path | None) -> Sent:
        times = array.array("q", log.read_bytes()) if log else None
        return Sent(**json.loads(answer), call_times_ns=times)

    @contextmanager
    def sink(self, network: Network, port: int) -> Iterator[Sink]:
        """Counts the datagrams that come to that port of the network."""
        with network.process(self.program, "sink", port) as process:
            sink = Sink(process)
            assert sink.line() == {"ready": True}
            yield sink


def finished(process: subprocess.Popen[str], timeout_s: float) -> str:
    """What a process said, after its end."""
    answer, _ = process.communicate(timeout=timeout_s)
    assert process.returncode == 0
    return answer


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
