"""An MB-UPF under an MB-SMF: its sessions, and whether anything is forwarded (TS 29.244 §6.2, §6.3)."""

from __future__ import annotations

from datetime import datetime
from heapq import nsmallest
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from nf.common.errors import InvalidArgument, ResourceExhausted
from nf.common.v1.mbs_pb2 import TunnelAddress
from nf.common.v1.types_pb2 import Volume
from upf._mbs import Replicator
from upf.errors import UpfError
from upf.mbs.counters import MbsCounters
from upf.mbs.delivery import Deliveries, SentBy
from upf.mbs.ingress import IngressTunnel
from upf.mbs.sessions import modified, replicated
from upf.n4.sessions import SessionNotFound
from upf.n4.user_plane import NoAssociation
from upf.n4.v1.n4mb_pb2 import (
    Branch,
    BranchUsage,
    EstablishedMbsSession,
    IngressUsage,
    MbsSession,
    MbsUsage,
    ModifyMbsSessionRequest,
    Sending,
)

MAX_SESSIONS: Final = 65_536

_SENDING: Final = {
    "gtp_u": Sending.SENDING_GTP_U,
    "raw": Sending.SENDING_RAW,
    "udp": Sending.SENDING_UDP,
    "tun": Sending.SENDING_TUN,
}


class MbsUserPlane:
    """All methods belong to one event loop; packets are treated in another thread meanwhile.

    recovery_time: the UPF's start, after which rules that were given before are gone. default_branches: those of a
    session that is established without any.
    """

    def __init__(
        self,
        replicator: Replicator,
        deliveries: Deliveries,
        recovery_time: datetime,
        *,
        default_branches: tuple[Branch, ...] = (),
    ) -> None:
        self.recovery_time_stamp = Timestamp()
        self.recovery_time_stamp.FromDatetime(recovery_time)
        self._replicator = replicator
        self._deliveries = deliveries
        self._default_branches = default_branches
        self._associated = False
        self._sessions: dict[int, MbsSession] = {}
        self._stale: set[int] = set()

    # --- association ----------------------------------------------------------------------------------------------

    def set_up_association(self) -> None:
        """An MB-SMF begins: nothing is forwarded until it has established its sessions anew."""
        self._replicator.forwarding = False
        self._associated = True
        self._stale = set(self._sessions)

    def complete_resynchronisation(self) -> None:
        """Sessions that have not been established again are deleted, and packets pass. Raises NoAssociation."""
        self._check_associated()
        for cp_seid in self._stale:
            self._remove(cp_seid)
        self._stale = set()
        self._replicator.forwarding = True

    @property
    def forwarding(self) -> bool:
        """Whether packets pass; not while the MB-SMF has yet to establish its sessions."""
        return self._replicator.forwarding

    # --- sessions -------------------------------------------------------------------------------------------------

    def establish(self, session: MbsSession) -> EstablishedMbsSession:
        """Establishes the session or replaces the one with its identifier; returns it as it is enforced.

        Raises NoAssociation, InvalidArgument or ResourceExhausted, without effect.
        """
        self._check_associated()
        wanted = MbsSession()
        wanted.CopyFrom(session)
        if not wanted.branches:
            wanted.branches.extend(self._default_branches)
        if wanted.cp_seid not in self._sessions and len(self._sessions) >= MAX_SESSIONS:
            raise ResourceExhausted(f"found {MAX_SESSIONS} MBS sessions, expected fewer: no more are taken")
        established = self._put(wanted)
        self._stale.discard(wanted.cp_seid)
        return established

    def modify(self, request: ModifyMbsSessionRequest) -> EstablishedMbsSession:
        """Changes a session; returns it as it is enforced.

        Raises NoAssociation, SessionNotFound or InvalidArgument, without effect.
        """
        self._check_associated()
        before = self._sessions.get(request.mbs_session.cp_seid)
        if before is None:
            raise SessionNotFound(f"no MBS session {request.mbs_session.cp_seid}")
        return self._put(modified(before, request))

    def delete(self, cp_seid: int) -> MbsUsage | None:
        """Deletes the session, if it is there; returns its last counters. Raises NoAssociation."""
        self._check_associated()
        self._stale.discard(cp_seid)
        return self._remove(cp_seid)

    def sessions(self, *, after: int = 0, limit: int | None = None) -> list[EstablishedMbsSession]:
        """The sessions as they are enforced, by identifier: those above ``after``, at most ``limit`` of them."""
        return [self._established(self._sessions[number]) for number in self._numbers(after, limit)]

    def usages(self, *, after: int = 0, limit: int | None = None) -> list[MbsUsage]:
        """What the sessions have counted, in the same order."""
        return [self.usage(number) for number in self._numbers(after, limit)]

    def usage(self, cp_seid: int) -> MbsUsage:
        """What the session has counted. Raises SessionNotFound."""
        if cp_seid not in self._sessions:
            raise SessionNotFound(f"no MBS session {cp_seid}")
        return _usage(cp_seid, *self._deliveries.usage(cp_seid))

    def ingress_usage(self) -> IngressUsage:
        """What came and was no session's."""
        found = self._deliveries.ingress()
        return IngressUsage(
            unmatched=Volume(packets=found.unmatched_packets, bytes=found.unmatched_bytes),
            held_off=Volume(packets=found.held_off_packets, bytes=found.held_off_bytes),
            malformed_packets=found.malformed,
        )

    def _put(self, session: MbsSession) -> EstablishedMbsSession:
        wanted = replicated(session)
        try:
            tunnel = self._deliveries.put(session.cp_seid, wanted)
        except UpfError as error:
            raise InvalidArgument(f"MBS session {session.cp_seid}: it cannot be enforced: {error}") from error
        self._sessions[session.cp_seid] = session
        return EstablishedMbsSession(mbs_session=session, ingress_tun_addr=_address(tunnel))

    def _remove(self, cp_seid: int) -> MbsUsage | None:
        self._sessions.pop(cp_seid, None)
        last = self._deliveries.remove(cp_seid)
        return _usage(cp_seid, *last) if last is not None else None

    def _established(self, session: MbsSession) -> EstablishedMbsSession:
        tunnel = self._deliveries.tunnel_of(session.cp_seid)
        return EstablishedMbsSession(mbs_session=session, ingress_tun_addr=_address(tunnel))

    def _numbers(self, after: int, limit: int | None) -> list[int]:
        later = (number for number in self._sessions if number > after)
        return sorted(later) if limit is None else nsmallest(limit, later)

    def _check_associated(self) -> None:
        if not self._associated:
            raise NoAssociation("no MB-SMF has set up an association since this UPF started")


def _address(tunnel: IngressTunnel) -> TunnelAddress:
    address = TunnelAddress(port_number=tunnel.port)
    setattr(address, "ipv4_addr" if tunnel.address.version == 4 else "ipv6_addr", str(tunnel.address))
    return address


def _usage(cp_seid: int, counters: MbsCounters, sent: list[SentBy]) -> MbsUsage:
    return MbsUsage(
        cp_seid=cp_seid,
        received=Volume(packets=counters.received_packets, bytes=counters.received_bytes),
        dropped=Volume(packets=counters.dropped_packets, bytes=counters.dropped_bytes),
        forwarded=Volume(packets=counters.forwarded_packets, bytes=counters.forwarded_bytes),
        not_forwarded=Volume(packets=counters.not_forwarded_packets, bytes=counters.not_forwarded_bytes),
        time_steps_back=counters.time_steps_back,
        time_of_first_packet_ns=counters.first_ns,
        time_of_last_packet_ns=counters.last_ns,
        branches=[
            BranchUsage(
                branch_id=each.branch_id,
                sending=_SENDING[each.sending],
                sent=Volume(packets=each.counters.sent_packets, bytes=each.counters.sent_bytes),
                error_packets=each.counters.errors,
            )
            for each in sent
        ],
    )
