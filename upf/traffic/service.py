"""Traffic over gRPC: captures that a lab sends through the UPF as if they were live."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from google.protobuf.message import Message
from grpc.aio import ServicerContext

from nf.common.errors import CastcoreError, FailedPrecondition, ResourceExhausted
from nf.common.v1.types_pb2 import PolicedVolume, Volume
from upf.counters import FlowCounters
from upf.n4.rules import CORE, Detection
from upf.rules import Mode
from upf.traffic.captures import Captures
from upf.traffic.v1.traffic_pb2 import Flow, Malformed, ReplayRequest, ReplayResponse
from upf.traffic.v1.traffic_pb2_grpc import TrafficServiceServicer

# Leaves room for the flows beside the packets within a gRPC message of 64 MiB.
LARGEST_ANSWER_BYTES: Final = 48 << 20


class LiveTraffic(FailedPrecondition):
    """The UPF has live traffic between its two devices, and takes no captures beside it."""

    reason = "LIVE_TRAFFIC"


class TrafficService(TrafficServiceServicer):
    """Packets in, verdicts out. Without ``captures`` the UPF has live traffic instead."""

    def __init__(self, captures: Captures | None) -> None:
        self._captures = captures

    async def Replay(
        self, request_iterator: AsyncIterator[ReplayRequest], context: ServicerContext[Message, Message]
    ) -> ReplayResponse:
        pieces = aiter(request_iterator)
        first = await anext(pieces, ReplayRequest())
        try:
            if self._captures is None:
                raise LiveTraffic(
                    "this UPF polices live traffic and takes no captures: start one without [upf.tun] for that, or "
                    "send the capture through the devices"
                )
            treated = await self._captures.treat(_pieces(first, pieces), keep_passed=first.return_passed)
        except CastcoreError:
            # Python's gRPC clients lose the status that reaches them while they are still sending: hear them out.
            async for _ in pieces:
                pass
            raise
        if len(treated.passed) > LARGEST_ANSWER_BYTES:
            raise ResourceExhausted(
                f"the packets that passed are {len(treated.passed)} bytes, more than one answer holds "
                f"({LARGEST_ANSWER_BYTES}): they have been treated; send shorter captures to have them back"
            )
        return ReplayResponse(
            packets=treated.packets,
            bytes=treated.total_bytes,
            malformed=[Malformed(reason=reason, packets=packets) for reason, packets in treated.malformed.items()],
            unmatched=Volume(packets=treated.unmatched_packets, bytes=treated.unmatched_bytes),
            flows=[_flow(flow, detection) for flow, detection in treated.flows],
            passed=treated.format.beginning() + treated.passed if first.return_passed else b"",
        )


async def _pieces(first: ReplayRequest, others: AsyncIterator[ReplayRequest]) -> AsyncIterator[bytes]:
    yield first.capture
    async for other in others:
        yield other.capture


def _flow(flow: FlowCounters, detection: Detection | None) -> Flow:
    conforming = Volume(packets=flow.conforming_packets, bytes=flow.conforming_bytes)
    excess = Volume(packets=flow.excess_packets, bytes=flow.excess_bytes)
    offered = Volume(packets=conforming.packets + excess.packets, bytes=conforming.bytes + excess.bytes)
    volume = PolicedVolume(offered=offered, conforming=conforming)
    if detection is not None and detection.mode in (Mode.MONITOR, Mode.MARK):
        volume.exceeding.CopyFrom(excess)
    elif detection is not None:
        volume.dropped.CopyFrom(excess)
    return Flow(
        src_ip=str(flow.source),
        dst_ip=str(flow.destination),
        protocol=flow.protocol,
        src_port=flow.source_port,
        dst_port=flow.destination_port,
        cp_seid=detection.cp_seid if detection else 0,
        pdr_id=detection.pdr_id if detection else 0,
        downlink=detection is not None and detection.source_interface == CORE,
        first_ns=flow.first_ns,
        last_ns=flow.last_ns,
        volume=volume,
    )
