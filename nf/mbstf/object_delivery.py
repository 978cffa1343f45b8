"""The object distribution method (TS 26.502 §6.1): objects come in by one of several ways, are held, sent, repaired."""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Final

from nf.common.errors import CastcoreError
from nf.common.resources import copy_of
from nf.common.telemetry import logger
from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.mbstf.config import MbstfSection
from nf.mbstf.delivery import Delivery, Watch
from nf.mbstf.errors import ObjectRefused
from nf.mbstf.flute_fec import Fec, fec_of
from nf.mbstf.holdings import HeldObject, Holdings, SessionObjects, digest_of
from nf.mbstf.naming import Names
from nf.mbstf.requests import ip_address
from nf.mbstf.sending import Senders
from nf.mbstf.timers import Timers
from nf.mbstf.v1.dist_session_pb2 import DistSession, DistSessionProgress

if TYPE_CHECKING:
    from nf.mbstf.object_sending import ObjectSending

# What takes longer is not done in the event loop.
_LARGE_BYTES: Final = 1 << 20
_UDP_HEADER: Final = 8
_IP_HEADER: Final = {4: 20, 6: 40}

_log = logger("mbstf")


class Ingest(ABC):
    """One of the ways in which objects come in."""

    @abstractmethod
    def begin(self, *, resumed: bool) -> None:
        """Begins; ``resumed``: what fails is tried again for ever."""

    @abstractmethod
    async def end(self) -> None:
        """Ends."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the objects of all sessions share."""

    config: MbstfSection
    senders: Senders
    timers: Timers
    holdings: Holdings
    http_url: str


def fec_for(session: DistSession) -> Fec:
    """The forward error correction of a session's objects. Raises InvalidArgument for a scheme that is not offered."""
    if not session.HasField("fec_information"):
        return Fec()
    return fec_of(session.fec_information.fec_scheme, session.fec_information.fec_over_head)


class ObjectDelivery(Delivery):
    """What runs of a session of the object method. ``ingest`` is set before anything begins."""

    ingest: Ingest

    def __init__(self, session: DistSession, watch: Watch, surroundings: Surroundings) -> None:
        super().__init__(session, watch)
        self.names = Names(session, surroundings.http_url)
        self.timers = surroundings.timers
        self.config = surroundings.config
        self.objects = SessionObjects(surroundings.holdings, self.names, surroundings.config.session_max_bytes)
        self._senders = surroundings.senders
        self._fec = fec_for(session)
        group = ip_address(session.up_traffic_flow_info.dest_ip_addr)
        header = _IP_HEADER[group.version if group is not None else 4]
        self._payload_bytes = surroundings.config.packet_max_bytes - header - _UDP_HEADER
        self._sending: ObjectSending | None = None
        # Segments in the order in which they came: they are let go of in that order.
        self._passing: deque[HeldObject] = deque()
        self._sent_before = DistSessionProgress()

    @property
    def mode(self) -> shared.ObjDistributionOperatingMode.ValueType:
        """The operating mode."""
        return self.session.obj_distribution_data.obj_distribution_operating_mode

    async def load(self) -> None:
        """Loads what fetches and packages objects."""
        wanted = ["nf.mbstf.object_sending"]
        if self.session.obj_distribution_data.obj_acquisition_method == shared.OBJ_ACQUISITION_METHOD_PULL:
            wanted.append("httpx")
            if self.mode == shared.OBJ_DISTRIBUTION_OPERATING_MODE_STREAMING:
                wanted.append("nf.common.dash.parsing")
        if any(each not in sys.modules for each in wanted):
            await asyncio.to_thread(lambda: [import_module(each) for each in wanted])

    def begin_ingest(self, *, resumed: bool) -> None:
        """Begins to ingest."""
        self._carry()
        self.ingest.begin(resumed=resumed)

    async def end_ingest(self) -> None:
        """Ends ingest and lets go of the objects."""
        await self.ingest.end()
        self.objects.clear()
        self._passing.clear()

    def begin_sending(self) -> None:
        """Sends what is held, in the order in which it came, and from now on what comes."""
        # Here: what only sessions that send need is loaded when the first one does.
        from nf.mbstf.object_sending import ObjectSending

        if self._sending is not None:
            return
        self._sending = ObjectSending(
            self.session,
            self._senders,
            self.timers,
            self._fec,
            packet_max_bytes=self.config.packet_max_bytes,
            on_sent=self._sent,
            on_failure=self.sending_failed,
        )
        for held in self.objects:
            self._sending.offer(held)

    def end_sending(self) -> None:
        """Sends nothing any more."""
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.close()
            self._sent_before.packets_sent += sending.packets
            self._sent_before.bytes_sent += sending.bytes

    def change(self, session: DistSession) -> None:
        """Goes on with another tunnel, bit rate, or other carried objects."""
        carried = session.carried_objects != self.session.carried_objects
        self.session = session
        if self._sending is not None and session.HasField("mb_upf_tun_addr"):
            self._sending.change(session)
        if carried:
            self._carry()

    def progress(self) -> DistSessionProgress:
        """What has come in and gone out."""
        progress = copy_of(self.counted)
        progress.packets_sent = self._sent_before.packets_sent
        progress.bytes_sent = self._sent_before.bytes_sent
        if self._sending is not None:
            progress.packets_sent += self._sending.packets
            progress.bytes_sent += self._sending.bytes
        progress.objects = len(self.objects)
        progress.objects_bytes = self.objects.bytes
        return progress

    async def take(
        self,
        url: str,
        data: bytes,
        content_type: str,
        *,
        repeat: timedelta | None = None,
        passing: bool = False,
        establishes: bool = True,
    ) -> None:
        """Holds an object that has come in from, or at, a URL, and sends it where the session is ACTIVE.

        ``passing``: it is a segment of a live presentation, held for a while only. ``establishes``: it shows that
        ingest goes well. Raises ObjectRefused.
        """
        self.check(url, data)
        large = len(data) > _LARGE_BYTES
        digest = await asyncio.to_thread(digest_of, data) if large else digest_of(data)
        now = self.timers.clock.now()
        self._let_pass(now)
        location = self.names.location(url)
        held = self.objects.put(location, data, content_type, now, digest=digest, repeat=repeat)
        self.counted.ingested += 1
        self.counted.ingested_bytes += len(data)
        if held is not None:
            if passing:
                self._passing.append(held)
            self._offer(held)
        if establishes:
            self.note_first()

    def check(self, url: str, data: bytes) -> None:
        """Raises ObjectRefused for an object that cannot be sent."""
        try:
            self._fec.blocks(len(data), self._payload_bytes)
        except CastcoreError as error:
            raise ObjectRefused(f"{url}: {error.message}") from error

    def drop(self, url: str) -> None:
        """Lets go of an object, and sends it no longer."""
        location = self.names.location(url)
        if self.objects.remove(location) is not None and self._sending is not None:
            self._sending.withdraw(location)

    def failed(self, problem: str) -> None:
        """Something did not come in, or could not be taken."""
        self.counted.ingest_failures += 1
        self.watch.problem(problem)
        _log.info("ingest.failed", dist_session_id=self.session.dist_session_id, error=problem)

    def _offer(self, held: HeldObject) -> None:
        if self._sending is None:
            return
        try:
            self._sending.offer(held)
        except CastcoreError as error:
            self.failed(f"{held.location}: {error.message}")

    def _sent(self, _: HeldObject) -> None:
        self.counted.objects_sent += 1

    def _let_pass(self, now: datetime) -> None:
        oldest = now - timedelta(seconds=self.config.segments_held_s)
        while self._passing and self._passing[0].taken < oldest:
            gone = self._passing.popleft()
            if self.objects.get(gone.location) is gone:
                self.objects.remove(gone.location)
                if self._sending is not None:
                    self._sending.withdraw(gone.location)

    def _carry(self) -> None:
        """Holds and sends the objects that the MBSF gives, and no others."""
        wanted = {each.location: each for each in self.session.carried_objects}
        for held in self.objects:
            if held.carried and held.location not in wanted:
                self.objects.remove(held.location)
                if self._sending is not None:
                    self._sending.withdraw(held.location)
        repeat = timedelta(seconds=self.config.carried_interval_s)
        for location, each in wanted.items():
            try:
                self.check(location, each.content)
                new = self.objects.put(
                    location,
                    each.content,
                    each.content_type,
                    self.timers.clock.now(),
                    digest=digest_of(each.content),
                    repeat=repeat,
                    carried=True,
                )
            except ObjectRefused as error:
                self.failed(error.message)
                continue
            if new is not None:
                self._offer(new)
