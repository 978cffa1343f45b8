"""A capture cut into slices, with the flows of the media session that each shows: what a player's sockets would tell.

A Media Session Handler knows which connections its player has open. Of a capture we learn it by looking: the filter
says which flows belong to the session, the slice in which a flow has packets is where it is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from upf.capture import CaptureFormat, parse_header, record_error
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


def cut(capture: bytes, filters: Sequence[SdfFilter], *, slices: int, source: str) -> list[Slice]:
    """The capture in about ``slices`` pieces of equal packet counts, in order; in more where it has very many flows.

    Raises CaptureError when the capture is none or is cut, naming ``source``.
    """
    capture_format = parse_header(capture[:24], source=source)
    size = max(1, -(-_count(capture, capture_format, source) // slices))
    engine = Engine(flow_times=True)
    engine.install([Rule(name=_SESSION, precedence=1, filters=tuple(filters), policer=None, mode=Mode.MONITOR)])
    pieces = []
    offset, over = capture_format.header_bytes, False
    while not over and offset < len(capture):
        engine.reset_flow_counters()
        begin, left, shown = offset, size, list[FlowCounters]()
        # A packet shows one flow more at the most.
        while not over and left and len(shown) < _FLOWS_PER_SLICE:
            step = min(left, _FLOWS_PER_SLICE - len(shown))
            offset, processed, over = engine.run(capture, capture_format, offset=offset, max_packets=step)
            left -= processed
            shown = [flow for flow in engine.flows() if flow.rule == _SESSION and flow.conforming_packets]
        shown.sort(key=lambda flow: (flow.first_ns, flow.destination_port, flow.source_port))
        pieces.append(Slice(capture[: capture_format.header_bytes] + capture[begin:offset], shown))
    return pieces


def _count(capture: bytes, capture_format: CaptureFormat, source: str) -> int:
    """How many packets the capture has."""
    engine = Engine()
    offset, over = capture_format.header_bytes, False
    while not over:
        offset, _, over = engine.run(capture, capture_format, offset=offset, max_packets=_CHUNK_PACKETS)
    if offset < len(capture):
        raise record_error(memoryview(capture), capture_format, offset, source=source)
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
