"""The station's studio: sends the programme in packets, plays what comes through, and measures it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from nf.cli.demo.booking_media import SEGMENT_NS, Encoding, Heard, Listener, Player, capture_of
from nf.cli.demo.booking_network import Network, Ue
from nf.cli.demo.booking_places import STANDARD
from nf.cli.demo.booking_story import UES, Listening, Measurement, Story
from nf.cli.figures import rate

# Of each UE's session, for all that has no guarantee, and what everybody loads beside the programme.
SESSION_AMBR_BPS: Final = 1_000_000
OTHER_BPS: Final = 2_400_000
# What an encoder that is out of hand sends of everything.
_COPIES: Final = 4
# Buckets are empty after these, and then it is measured.
WARM_UP_SEGMENTS: Final = 4
_MEASURED_SEGMENTS: Final = 8
_S: Final = 10**9

Where = Mapping[Ue, str]
"""In which area each UE has what is booked; empty: in none."""


class Audience(Protocol):
    """What the station knows of its listeners."""

    def edition(self, ue: Ue) -> str:
        """What is played to the device."""

    def quality_id(self, area: str) -> str:
        """The network access ID of the area's quality."""


class Studio:
    """Sends from ``begin_ns`` on, a whole second; packet time is its clock."""

    def __init__(
        self, network: Network, audience: Audience, story: Story, begin_ns: int, tell: Callable[[str], None]
    ) -> None:
        self.encodings: dict[str, Encoding] = {ue.name: STANDARD for ue in UES}
        self._network = network
        self._audience = audience
        self._story = story
        self._tell = tell
        self._players = {ue.name: Player() for ue in UES}
        self._next_ns = begin_ns

    @property
    def next_segment(self) -> int:
        """The number of the segment that is sent next."""
        return self._next_ns // SEGMENT_NS

    async def listen(self, stretch: str, where: Where) -> None:
        """Some seconds of the programme for everybody, measured."""
        first = self.next_segment
        await self.send(where, WARM_UP_SEGMENTS)
        heard = await self.send(where, _MEASURED_SEGMENTS)
        self.hear(stretch, where, first)
        for ue, area in where.items():
            encoding = self.encodings[ue.name]
            offered_bps = encoding.rate_bps + OTHER_BPS
            if area:
                self._measure(heard, ue, stretch, True, "programme", encoding.rate_bps, encoding.rate_bps, 0)
                other = "best effort (AMBR)"
                self._measure(heard, ue, stretch, True, other, OTHER_BPS, SESSION_AMBR_BPS, None)
            else:
                self._measure(heard, ue, stretch, False, "everything", offered_bps, SESSION_AMBR_BPS, None)

    async def overload(self, ue: Ue, stretch: str, where: Where, max_bps: int) -> None:
        """The station sends everything several times: what is booked is policed to the bit."""
        first = self.next_segment
        await self.send(where, WARM_UP_SEGMENTS, copies={ue.name: _COPIES})
        heard = await self.send(where, _MEASURED_SEGMENTS, copies={ue.name: _COPIES})
        offered_bps = self.encodings[ue.name].rate_bps * _COPIES
        self._measure(heard, ue, stretch, True, "programme", offered_bps, max_bps, None)
        self.hear("", where, first)

    async def send(self, where: Where, segments: int, copies: Mapping[str, int] | None = None) -> Sequence[Heard]:
        """The next segments of the programme, in the edition of the region that each device is told to be in."""
        listeners = [
            Listener(
                ue.address,
                self._audience.edition(ue),
                self.encodings[ue.name],
                (copies or {}).get(ue.name, 1),
                OTHER_BPS,
            )
            for ue in where
        ]
        heard = await self._network.send(capture_of(listeners, self._next_ns, segments))
        self._next_ns += segments * SEGMENT_NS
        by_address = {ue.address: (ue, area) for ue, area in where.items()}
        for packet in heard:
            ue, area = by_address[packet.ue]
            if packet.edition:
                self._players[ue.name].receive(packet)
                if area:
                    name = self._audience.quality_id(area)
                    self._story.passed_bytes[name] = self._story.passed_bytes.get(name, 0) + packet.ip_bytes
        return heard

    def hear(self, stretch: str, where: Where, first: int) -> None:
        """What has been sent since ``first`` is played."""
        for ue, area in where.items():
            programme = self._players[ue.name].play(first, self.next_segment - first)
            if not stretch:
                continue
            self._story.listening.append(Listening(ue.name, stretch, bool(area), programme))
            self._tell(
                f"{ue.name:<11} {'/'.join(programme.editions) or 'nothing'}: {programme.segments} segments,"
                f" {programme.interruptions} interruptions, {programme.silent_ns / _S:.1f} s silent"
            )

    def _measure(
        self, heard: Sequence[Heard], ue: Ue, stretch: str, inside: bool, what: str, offered_bps: int,
        expected_bps: int, tolerance_bytes: int | None,
    ) -> None:  # fmt: skip
        span_ns = _MEASURED_SEGMENTS * SEGMENT_NS
        wanted = {"programme": {True}, "everything": {True, False}}.get(what, {False})
        mine = [each for each in heard if each.ue == ue.address and bool(each.edition) in wanted]
        passed_bps = sum(each.ip_bytes for each in mine) * 8 * _S // span_ns
        # A bucket may begin and end with less than a packet in it.
        off_bytes = 2 * max((each.ip_bytes for each in mine), default=0) if tolerance_bytes is None else tolerance_bytes
        measured = Measurement(
            ue.name, stretch, inside, what, offered_bps, expected_bps, passed_bps, off_bytes * 8 * _S // span_ns
        )
        self._story.measurements.append(measured)
        self._tell(
            f"{ue.name:<11} {'inside' if inside else 'outside'}, {what}: {rate(offered_bps)} offered,"
            f" {rate(passed_bps)} passed, {rate(expected_bps)} expected"
        )
