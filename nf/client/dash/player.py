"""A DASH player model: fetches real segments, chooses by throughput within the policy's filter, plays in real time.

It is a media player in the sense of M7 (TS 26.512 A.3.2 steps 8 and 9): it opens a connection, tells the Media Session
Handler and waits, and fetches the MPD after that, so that the filter it may have been given meanwhile holds from the
first segment. Segments are fetched and counted, not decoded. It plays audio and video only, and neither reads UTCTiming
nor changes its playback rate.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from functools import partial
from typing import Final

from nf.af.v1.media_session_pb2 import ServiceDescriptorFilter
from nf.client.dash import live
from nf.client.dash.adaptation import choose
from nf.client.dash.combinations import (
    PLAYED,
    UNBOUNDED,
    Bounds,
    Combination,
    DescriptorFilter,
    adaptation_sets,
    allowed,
    bounds_of,
    combinations,
)
from nf.client.dash.descriptor_filters import from_message
from nf.client.dash.errors import NothingToPlay
from nf.client.dash.fetching import Connections
from nf.client.dash.http_connection import Opener, connect
from nf.client.dash.pacing import Pacer, pace_bps
from nf.client.dash.playback import Playback, State
from nf.client.dash.results import Results, Transfer
from nf.client.dash.settings import DEFAULTS, Settings
from nf.client.dash.source import Source
from nf.client.dash.throughput import Estimator, HarmonicMean
from nf.client.m7 import PlayerListener, Preferences
from nf.common.clock import Clock
from nf.common.dash.mpd import Period, Presentation, Representation
from nf.common.dash.segments import (
    Segment,
    available_from,
    earliest_s,
    period_at,
    segments,
)
from nf.common.dash.service_descriptions import AUDIO, VIDEO
from nf.common.errors import FailedPrecondition

# How long after a segment should be there it is asked for: clocks differ a little.
_LATE_S: Final = 0.05
# What TCP may have on its way to a player that paces itself: little, so that what it does not read is not sent.
PACED_BUFFER_BYTES: Final = 32_768


@dataclass(frozen=True, slots=True)
class _Step:
    """What is fetched together, and whether that keeps to the filter that the player was told."""

    combination: Combination
    compliant: bool


class DashPlayer:
    """Plays one presentation, once.

    ``opener`` makes its connections; ``clock`` is the time of everything; ``tls`` is for https, by default with the
    authorities of this machine.
    """

    def __init__(
        self,
        clock: Clock,
        settings: Settings = DEFAULTS,
        *,
        opener: Opener | None = None,
        estimator: Estimator | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.results = Results()
        self._clock = clock
        self._settings = settings
        paced = settings.paced and not settings.ignore_filter
        self._opener = opener or partial(connect, receive_buffer_bytes=PACED_BUFFER_BYTES if paced else None)
        self._estimator = estimator if estimator is not None else HarmonicMean()
        self._tls = tls
        self._listener: PlayerListener | None = None
        self._connections: Connections | None = None
        self._source: Source | None = None
        self._task: asyncio.Task[None] | None = None
        self._preferences: Preferences | None = None
        self._filter: DescriptorFilter | None = None
        self._pacer: Pacer | None = None
        self._playback: Playback | None = None
        self._consumed: dict[str, str] = {}
        # Up to where each medium has been fetched.
        self._positions: dict[str, Fraction] = {}

    @property
    def presentation(self) -> Presentation | None:
        """The MPD as last fetched."""
        return self._source.presentation if self._source is not None else None

    @property
    def descriptor_filter(self) -> DescriptorFilter | None:
        """What it was told that it may choose; None: anything."""
        return self._filter

    @property
    def state(self) -> State:
        """Whether pictures move."""
        return self._playback.state if self._playback is not None else State.STARTING

    async def start(self, entry: str, listener: PlayerListener) -> None:
        """Connects, tells the listener and waits for it, fetches the MPD, and begins. Raises CastcoreError."""
        if self._listener is not None:
            raise FailedPrecondition("the player has been started already: it plays one presentation")
        self._listener = listener
        if self._preferences is not None:
            listener.preferences_changed(self._preferences)
        self._connections = Connections(
            self._opener,
            listener,
            self._clock,
            pacer=lambda: self._pacer,
            tries=self._settings.tries,
            retry_delay_s=self._settings.retry_delay_s,
            tls=self._tls,
        )
        self._source = Source(entry, self._connections, self._clock, self.results)
        try:
            # Both connections at once, so that the filter is there before anything is fetched (steps 7 and 8).
            for lane in range(min(self._settings.connections, 2)):
                await self._connections.prepare(entry, lane)
            self._begin(await self._source.load())
        except BaseException:
            self._connections.close()
            raise
        self._task = asyncio.create_task(self._run(), name="dash player")
        # The listener is told of a failure; whoever asks besides has it from ``finished``.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def stop(self) -> None:
        """Stops, and closes every connection; may be called again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        if self._connections is not None:
            self._connections.close()
        self._end_consumption()
        self._settle()

    async def finished(self) -> Results:
        """What happened, when it has been played to its end, or was stopped. Raises what it failed with."""
        if self._task is None:
            raise FailedPrecondition("the player has not been started")
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.result()
        return self.results

    def set_filter(self, service_descriptor_filter: ServiceDescriptorFilter | None) -> None:
        """What may be chosen from the next segment on; None: anything."""
        self._filter = from_message(service_descriptor_filter)
        if self._filter is None:
            self._pacer = None

    def set_preferences(self, preferences: Preferences) -> None:
        """Passed on to the listener, now or at the start."""
        self._preferences = preferences
        if self._listener is not None:
            self._listener.preferences_changed(preferences)

    async def _run(self) -> None:
        listener = self._told()
        try:
            while await self._step():
                pass
            await self._play_out()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._settle()
            listener.failed(error)
            raise
        self._end_consumption()
        self._settle()
        listener.stopped()

    def _begin(self, presentation: Presentation) -> None:
        language = self._settings.language
        if presentation.dynamic:
            start_s = live.start_s(presentation, self._clock.now(), language=language)
        else:
            start_s = presentation.periods[0].start_s
        period = period_at(presentation, start_s)
        media = [each.media_type for each in adaptation_sets(period, language=language)] if period else []
        if not media:
            raise NothingToPlay(f"{presentation.url}: found no audio or video, expected one of them")
        self._positions = dict.fromkeys(media, start_s)
        self._playback = Playback(float(start_s), media, resume_s=self._settings.resume_s, now_ns=self._clock.now_ns())
        self._began_ns = self._clock.now_ns()

    async def _step(self) -> bool:
        """Fetches the next segment of video and the audio that goes with it. False: that was all."""
        source = self._source
        assert source is not None
        presentation = await source.refresh()
        self._catch_up(presentation)
        lead_medium = VIDEO if VIDEO in self._positions else AUDIO
        position_s = self._positions[lead_medium]
        period = period_at(presentation, position_s)
        if period is None:
            return await source.await_more()
        sets = adaptation_sets(period, language=self._settings.language)
        candidates = combinations(sets)
        if not candidates:
            raise NothingToPlay(f"{presentation.url}, Period {period.id!r}: found no audio or video")
        step = self._decide(presentation, candidates)
        combination = step.combination
        lead = combination.of(lead_medium) or combination.representations[0]
        indexed = await source.indexed(lead, 0)
        segment = next(segments(period, indexed, max(position_s, period.start_s)), None)
        if segment is None:
            if period.end_s is not None and not self._is_last(presentation, period):
                for medium in self._positions:
                    self._positions[medium] = max(self._positions[medium], period.end_s)
                return True
            return await source.await_more()
        await self._await_room(segment)
        await self._await_availability(presentation, segment)
        followers = [each for each in combination.representations if each is not lead]
        fetches = [partial(self._fetch, segment, indexed, step, lane=0)]
        fetches += [
            partial(self._fetch_followers, presentation, period, each, segment.end_s, step) for each in followers
        ]
        if self._settings.connections == 1:
            for fetch in fetches:
                await fetch()
            return True
        try:
            async with asyncio.TaskGroup() as group:
                for fetch in fetches:
                    group.create_task(fetch())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return True

    async def _fetch_followers(
        self,
        presentation: Presentation,
        period: Period,
        representation: Representation,
        until_s: Fraction,
        step: _Step,
    ) -> None:
        """The segments of another medium that begin before the leading one ends."""
        assert self._source is not None
        representation = await self._source.indexed(representation, self._lane(1))
        medium = representation.media_type
        at_s = max(self._positions.get(medium, period.start_s), period.start_s)
        for segment in segments(period, representation, at_s):
            if segment.start_s >= until_s:
                return
            await self._await_availability(presentation, segment)
            await self._fetch(segment, representation, step, lane=1)

    async def _fetch(
        self,
        segment: Segment,
        representation: Representation,
        step: _Step,
        *,
        lane: int,
    ) -> None:
        connections, source, playback = self._connections, self._source, self._playback
        assert connections is not None
        assert source is not None
        assert playback is not None
        lane = self._lane(lane)
        await source.initialize(representation, lane)
        fetched = await connections.fetch(segment.urls, lane, byte_range=segment.byte_range)
        answer = fetched.answer
        self._estimator.add(answer.body_bytes, answer.busy_s)
        now_ns, medium = self._clock.now_ns(), representation.media_type
        playback.received(medium, float(segment.end_s), now_ns)
        self._positions[medium] = segment.end_s
        self.results.connections = connections.opened
        self.results.transfers.append(
            Transfer(
                medium=medium,
                representation_id=representation.id,
                number=segment.number,
                start_s=float(segment.start_s),
                duration_s=float(segment.duration_s),
                bandwidth_bps=representation.bandwidth_bps,
                combination_bps=step.combination.bandwidth_bps,
                compliant=step.compliant,
                filtered=self._filter is not None and not self._settings.ignore_filter,
                body_bytes=answer.body_bytes,
                elapsed_s=fetched.elapsed_s,
                throughput_bps=answer.body_bytes * 8 / max(answer.busy_s, 1e-6),
                buffer_s=playback.buffered_s,
                url=fetched.url,
            )
        )
        if self._consumed.get(medium) != representation.id:
            self._consumed[medium] = representation.id
            self._told().media_changed(medium, representation.id, fetched.connection)

    def _decide(self, presentation: Presentation, candidates: tuple[Combination, ...]) -> _Step:
        """What is played next, of what may be (step 9), and the pace that goes with it."""
        told = bounds_of(presentation.service_descriptions, self._filter, scopes=self._settings.scopes)
        bounds = UNBOUNDED if self._settings.ignore_filter else told
        playable = allowed(candidates, bounds)
        threshold_bps = None if self._settings.ignore_filter else _threshold(self._filter, bounds)
        if not self._settings.paced or threshold_bps is None:
            self._pacer = None
        else:
            rate_bps = pace_bps(threshold_bps, playable.combinations)
            if self._pacer is None or self._pacer.rate_bps != rate_bps:
                self._pacer = Pacer(rate_bps, now_ns=self._clock.now_ns())
        combination = choose(
            playable.combinations,
            self._estimator.bps,
            ceiling_bps=self._pacer.rate_bps if self._pacer is not None else None,
            safety=self._settings.safety,
        )
        return _Step(combination, told.admit(combination))

    async def _await_room(self, segment: Segment) -> None:
        """Pauses while the buffer is full."""
        playback = self._playback
        assert playback is not None
        now_ns = self._clock.now_ns()
        playback.advance(now_ns)
        excess_s = (
            playback.buffered_s + float(segment.duration_s) - max(self._settings.buffer_s, float(segment.duration_s))
        )
        if excess_s <= 0 or playback.state is not State.PLAYING:
            return
        self.results.pauses += 1
        self.results.paused_s += excess_s
        await self._sleep(excess_s)
        playback.advance(self._clock.now_ns())

    async def _await_availability(self, presentation: Presentation, segment: Segment) -> None:
        moment = available_from(presentation, segment)
        if moment is not None and moment > self._clock.now():
            await self._clock.sleep_until(moment + timedelta(seconds=_LATE_S))

    def _lane(self, wanted: int) -> int:
        return min(wanted, self._settings.connections - 1)

    def _catch_up(self, presentation: Presentation) -> None:
        """Skips what has left the time shift buffer of a live presentation."""
        playback = self._playback
        assert playback is not None
        first_s = earliest_s(presentation, self._clock.now())
        behind_s = first_s - min(self._positions.values())
        if behind_s > 0:
            self.results.skipped_s += float(behind_s)
            self._positions = {medium: max(at_s, first_s) for medium, at_s in self._positions.items()}
            playback.skip_to(float(first_s), self._clock.now_ns())

    async def _play_out(self) -> None:
        """Plays what is buffered to its end."""
        playback = self._playback
        assert playback is not None
        playback.completed(self._clock.now_ns())
        while playback.state is not State.ENDED:
            await self._sleep(playback.buffered_s + 0.001)
            playback.advance(self._clock.now_ns())

    async def _sleep(self, duration_s: float) -> None:
        await self._clock.sleep_until(self._clock.now() + timedelta(seconds=max(0.0, duration_s)))

    def _is_last(self, presentation: Presentation, period: Period) -> bool:
        return presentation.periods[-1] == period

    def _end_consumption(self) -> None:
        for medium in [each for each in PLAYED if each in self._consumed]:
            del self._consumed[medium]
            self._told().media_changed(medium, None)

    def _settle(self) -> None:
        """Brings the results up to now."""
        playback = self._playback
        if playback is not None:
            playback.advance(self._clock.now_ns())
            self.results.stalls = tuple(playback.stalls)
            if playback.started_ns is not None:
                self.results.startup_s = (playback.started_ns - self._began_ns) / 1e9

    def _told(self) -> PlayerListener:
        assert self._listener is not None
        return self._listener


def _threshold(wanted: DescriptorFilter | None, bounds: Bounds) -> int | None:
    """The bit rate that all together must keep to; None: there is none."""
    if wanted is None:
        return None
    if wanted.operating_bandwidth_max_bps is not None and not wanted.media_type:
        return wanted.operating_bandwidth_max_bps
    return bounds.max_bps
