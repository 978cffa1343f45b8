"""A capture cut into slices, with the flows of the media session that each shows: what a player's sockets would tell.

A Media Session Handler knows which connections its player has open. Of a capture we learn it by looking: the filter
says which flows belong to the session, the slice in which a flow has packets is where it is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from upf.capture import Capture, CaptureFormat, CaptureStream
from upf.captures import pcapng
from upf.counters import FlowCounters
from upf.engine import Engine
from upf.errors import UpfError
from upf.rules import Mode, Rule
from upf.sdf import SdfFilter

_SESSION = "media session"
_CHUNK_PACKETS = 1 << 18
# What opens and closes from slice to slice has to fit into one request.
_FLOWS_PER_SLICE = 1_000


@dataclass(frozen=True, slots=True)
class Slice:
    """Part of a capture, itself a capture, and the session's downlink flows in it."""

    capture: bytes
    flows: Sequence[FlowCounters]


def cut(capture: Capture, filters: Sequence[SdfFilter], *, slices: int) -> list[Slice]:
    """The capture in about ``slices`` pieces of equal packet counts, in order; in more where it has very many flows.

    Raises CaptureError where the capture is cut or damaged.
    """
    size = max(1, -(-_count(capture) // slices))
    engine = Engine(flow_times=True)
    engine.install([Rule(name=_SESSION, precedence=1, filters=tuple(filters), policer=None, mode=Mode.MONITOR)])
    pieces = []
    stream, over = capture.stream(), False
    while not over and stream.more():
        engine.reset_flow_counters()
        begin, left, shown = stream.offset, size, list[FlowCounters]()
        beginning = _beginning(stream)
        # A packet shows one flow more at the most.
        while not over and left and len(shown) < _FLOWS_PER_SLICE:
            step = min(left, _FLOWS_PER_SLICE - len(shown))
            offset, processed, over = engine.run(stream.view, stream.format, offset=stream.offset, max_packets=step)
            stream.taken(offset, over=over)
            left -= processed
            shown = [flow for flow in engine.flows() if flow.rule == _SESSION and flow.conforming_packets]
        shown.sort(key=lambda flow: (flow.first_ns, flow.destination_port, flow.source_port))
        pieces.append(Slice(beginning + bytes(stream.view[begin : stream.offset]), shown))
    return pieces


def _beginning(stream: CaptureStream) -> bytes:
    """What has to stand before the next packets, so that they are a capture."""
    if isinstance(stream.format, CaptureFormat):
        return bytes(stream.view[: stream.format.header_bytes])
    order, interfaces = stream.format.section()
    return pcapng.beginning(pcapng.Section(order, [pcapng.Interface(*interface) for interface in interfaces]))


def _count(capture: Capture) -> int:
    """How many packets the capture has, which is held in memory from here on."""
    capture.hold()
    engine, stream = Engine(), capture.stream()
    while stream.more():
        offset, _, over = engine.run(stream.view, stream.format, offset=stream.offset, max_packets=_CHUNK_PACKETS)
        stream.taken(offset, over=over)
    if stream.error is not None:
        raise stream.error
    return engine.packets


def ue_of(pieces: Sequence[Slice]) -> IPv4Address | IPv6Address:
    """The address that all flows of the session go to. Raises UpfError when there is none, or more than one."""
    addresses = sorted({str(flow.destination) for piece in pieces for flow in piece.flows})
    if not addresses:
        raise UpfError("option '--flow': no packet of the capture matches the filter")
    if len(addresses) > 1:
        shown = ", ".join(addresses[:4]) + (", …" if len(addresses) > 4 else "")
        raise UpfError(
            f"option '--flow': the filter matches packets to {len(addresses)} addresses ({shown}): "
            "name the UE's with '--ue'"
        )
    return next(flow.destination for piece in pieces for flow in piece.flows)
