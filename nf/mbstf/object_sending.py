"""Which object goes when: held objects into the FLUTE session of an ACTIVE session, once or again and again.

A packet leaves when the sender's pace allows; an object is repeated so long after its sending began, never sooner than
it ended.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from nf.common.errors import CastcoreError
from nf.common.telemetry import logger
from nf.mbstf.dscp import dscp_of
from nf.mbstf.flute import FluteSession
from nf.mbstf.flute_fec import Fec
from nf.mbstf.holdings import HeldObject
from nf.mbstf.requests import ip_address, tunnel_end
from nf.mbstf.sending import Endpoint, PacedSender, Senders
from nf.mbstf.timers import Timer, Timers
from nf.mbstf.v1.dist_session_pb2 import DistSession

# Even where the bit rate would allow more, an object does not come again sooner.
SOONEST: Final = timedelta(milliseconds=100)

_log = logger("mbstf")


@dataclass(slots=True)
class _Going:
    """An object that is sent, or waits to be sent again."""

    held: HeldObject
    begun: datetime
    timer: Timer | None = None


class ObjectSending:
    """Sends from its making until ``close``. Belongs to the event loop."""

    def __init__(
        self,
        session: DistSession,
        senders: Senders,
        timers: Timers,
        fec: Fec,
        *,
        packet_max_bytes: int,
        on_sent: Callable[[HeldObject], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._timers = timers
        self._on_sent = on_sent
        self._loop = asyncio.get_running_loop()
        self._going: dict[str, _Going] = {}
        self._closed = False
        source = ip_address(session.source_ip_addr)
        group = ip_address(session.up_traffic_flow_info.dest_ip_addr)
        assert source is not None
        assert group is not None
        self._flute = FluteSession(
            session.flute_tsi,
            fec=fec,
            mtu=packet_max_bytes,
            ip_version=group.version,
            clock=timers.clock,
            # Nothing that has to be secret; the system's randomness would be asked for under every activation.
            first_instance=random.getrandbits(20),
            first_toi=random.getrandbits(16),
        )
        self._sender: PacedSender = senders.open(
            self._flute,
            Endpoint(str(source), str(group), session.up_traffic_flow_info.port_number),
            tunnel_end(session.mb_upf_tun_addr),
            mbr_bps=session.mbr_bps,
            dscp=dscp_of(session.dscp_marking),
            mtu=packet_max_bytes,
            on_failure=on_failure,
        )

    @property
    def packets(self) -> int:
        """Packets that have left."""
        return int(self._sender.packets)

    @property
    def bytes(self) -> int:
        """IP total lengths of those packets."""
        return int(self._sender.bytes)

    def change(self, session: DistSession) -> None:
        """Goes on to another tunnel or at another rate."""
        self._sender.retarget(tunnel_end(session.mb_upf_tun_addr))
        self._sender.set_rate(session.mbr_bps)

    def offer(self, held: HeldObject) -> None:
        """Sends an object, after those that were offered before; what had its name is sent no longer.

        Raises InvalidArgument for one too large for the FEC scheme.
        """
        self.withdraw(held.location)
        self._send(held)

    def withdraw(self, location: str) -> None:
        """Sends an object no longer."""
        going = self._going.pop(location, None)
        if going is not None:
            if going.timer is not None:
                going.timer.cancel()
            self._flute.remove(location)

    def close(self) -> None:
        """Nothing leaves any more when this returns."""
        self._closed = True
        for going in self._going.values():
            if going.timer is not None:
                going.timer.cancel()
        self._going.clear()
        self._sender.close()

    def _send(self, held: HeldObject) -> None:
        going = _Going(held, self._timers.clock.now())
        self._flute.add(
            held.object,
            on_sent=lambda: self._hear(going),
            last=held.repeat is None,
        )
        self._going[held.location] = going
        self._sender.wake()

    def _hear(self, going: _Going) -> None:
        """On the sender's thread."""
        if not self._closed:
            try:
                self._loop.call_soon_threadsafe(self._sent, going)
            except RuntimeError:
                # The loop has gone meanwhile.
                return

    def _sent(self, going: _Going) -> None:
        held = going.held
        if self._closed or self._going.get(held.location) is not going:
            return
        held.sent += 1
        if held.repeat is None:
            del self._going[held.location]
        else:
            now = self._timers.clock.now()
            again = going.begun + max(held.repeat, SOONEST)
            going.timer = self._timers.at(max(again, now), lambda: self._again(going))
        self._on_sent(held)

    def _again(self, going: _Going) -> None:
        if self._closed or self._going.get(going.held.location) is not going:
            return
        try:
            self._send(going.held)
        except CastcoreError as error:
            _log.error("object.not_repeated", location=going.held.location, error=str(error))
