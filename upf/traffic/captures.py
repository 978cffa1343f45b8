"""Captures as traffic: packets processed in a thread, by the rules in force, which may change between two chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from nf.common.errors import InvalidArgument
from upf.capture import CaptureError, CaptureFormat, CaptureStream, OutputFormat, Pieces
from upf.counters import FlowCounters, Totals
from upf.engine import Engine
from upf.n4.rules import Detection
from upf.n4.user_plane import UserPlane

T = TypeVar("T")

# Packets between two moments at which rules may change: a few milliseconds at the most.
CHUNK_PACKETS: Final = 1 << 15


@dataclass(frozen=True, slots=True)
class Treated:
    """What became of a capture: counters of this one alone, flows in the order of their first packets.

    A flow stands beside the PDR that detected it last; None where no rule has wanted it.
    """

    packets: int
    total_bytes: int
    malformed: dict[str, int]
    unmatched_packets: int
    unmatched_bytes: int
    flows: Sequence[tuple[FlowCounters, Detection | None]]
    passed: bytes
    format: OutputFormat


class Captures:
    """Takes captures, one after the other: flow counters are those of a single one."""

    def __init__(self, user_plane: UserPlane, engine: Engine) -> None:
        self._user_plane = user_plane
        self._engine = engine
        self._one_at_a_time = asyncio.Lock()

    async def treat(self, pieces: AsyncIterator[bytes], *, keep_passed: bool) -> Treated:
        """Takes a capture that arrives in pieces as traffic, and reports what was measured when it has ended.

        Raises AwaitingResynchronisation, and InvalidArgument when the pieces are no capture, or not to their end: what
        stood before that has been treated.
        """
        self._user_plane.check_forwarding()
        async with self._one_at_a_time:
            with self._user_plane.keeping_removed() as removed:
                self._engine.reset_flow_counters()
                before = self._engine.totals()
                passed = bytearray() if keep_passed else None
                try:
                    output_format = await self._treat_pieces(pieces, passed)
                except CaptureError as error:
                    raise InvalidArgument.of("capture", str(error)) from error
                finally:
                    await self._user_plane.measure(before_time=True)
                return self._treated(before, self._engine.totals(), output_format, bytes(passed or b""), removed)

    async def _treat_pieces(self, pieces: AsyncIterator[bytes], passed: bytearray | None) -> OutputFormat:
        source = Pieces()
        stream = CaptureStream(source, name="capture")
        begun = False
        try:
            async for piece in pieces:
                source.feed(piece)
                if not begun and stream.begin():
                    begun = True
                    self._engine.begin_output(_output_format(stream))
                await self._walk(stream, passed)
                if stream.error is not None:
                    raise stream.error
            source.end()
            await self._walk(stream, passed)
        finally:
            async with self._user_plane.at_rest():
                self._engine.finish(emit=passed.extend if passed is not None else None)
        if stream.error is not None:
            raise stream.error
        return _output_format(stream)

    async def _walk(self, stream: CaptureStream, passed: bytearray | None) -> None:
        """Treats what the stream has been fed; rules may change after every so many packets."""
        more = True
        while more:
            async with self._user_plane.at_rest():
                self._user_plane.check_forwarding()
                more = await _to_its_end(asyncio.to_thread(self._step, stream, passed))

    def _step(self, stream: CaptureStream, passed: bytearray | None) -> bool:
        if not stream.more():
            return False
        offset, _, over = self._engine.run(
            stream.view,
            stream.format,
            offset=stream.offset,
            max_packets=CHUNK_PACKETS,
            emit=passed.extend if passed is not None else None,
        )
        stream.taken(offset, over=over)
        return True

    def _treated(
        self,
        before: Totals,
        after: Totals,
        output_format: OutputFormat,
        passed: bytes,
        removed: Mapping[str, Detection],
    ) -> Treated:
        flows = [flow for flow in self._engine.flows() if flow.conforming_packets or flow.excess_packets]
        flows.sort(key=lambda flow: (flow.first_ns, str(flow.source), flow.source_port, flow.destination_port))
        return Treated(
            packets=after.packets - before.packets,
            total_bytes=after.bytes - before.bytes,
            malformed={
                reason: packets - before.malformed.get(reason, 0)
                for reason, packets in after.malformed.items()
                if packets > before.malformed.get(reason, 0)
            },
            unmatched_packets=after.unmatched_packets - before.unmatched_packets,
            unmatched_bytes=after.unmatched_bytes - before.unmatched_bytes,
            flows=[(flow, self._user_plane.detect(flow.rule) or removed.get(flow.rule)) for flow in flows],
            passed=passed,
            format=output_format,
        )


def _output_format(stream: CaptureStream) -> OutputFormat:
    """What passes is a capture as the one that came."""
    if isinstance(stream.format, CaptureFormat):
        return OutputFormat.of([stream.format.link_type], nanoseconds=stream.format.nanoseconds)
    return OutputFormat.of([], nanoseconds=True, pcapng=True)


async def _to_its_end(work: Coroutine[object, object, T]) -> T:
    """The result of work that must not be left alone: a caller that is cancelled waits for its end first."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
