"""MBS sessions in force: their tunnels, their branches and what they count, kept through every change of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from upf._mbs import Branch, Replicator, Session
from upf.errors import UpfError
from upf.mbs.counters import BranchCounters, IngressCounters, MbsCounters
from upf.mbs.ingress import Flow, Ingress, IngressTunnel
from upf.mbs.outlets import Outlets
from upf.mbs.sessions import Delivery, Multicast, Replicated

_NOTHING_SENT = BranchCounters(0, 0, {})


@dataclass(frozen=True, slots=True)
class _Way:
    """A branch in force. ``before``: what it had counted when it was opened again for another source, group or QFI."""

    branch_id: int
    delivery: Delivery
    # Whatever it was opened with beside its delivery.
    opened_with: tuple[object, ...]
    branch: Branch
    before: BranchCounters


@dataclass(slots=True)
class _InForce:
    replicated: Replicated
    session: Session
    tunnel: IngressTunnel
    ways: tuple[_Way, ...]


@dataclass(frozen=True, slots=True)
class SentBy:
    """What has left by a branch, and how: one of `upf._mbs.SENDINGS`."""

    branch_id: int
    sending: str
    counters: BranchCounters


@dataclass(slots=True)
class Totals:
    """Of all sessions, those that have gone included: volumes by what became of them, copies by how they left."""

    volumes: Counter[str] = field(default_factory=Counter)
    sent_packets: Counter[str] = field(default_factory=Counter)
    sent_bytes: Counter[str] = field(default_factory=Counter)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, counters: MbsCounters) -> None:
        """Counts a session."""
        for name in ("received", "dropped", "forwarded", "not_forwarded"):
            for unit in ("packets", "bytes"):
                self.volumes[f"{name}_{unit}"] += getattr(counters, f"{name}_{unit}")

    def add_sent(self, sent: SentBy) -> None:
        """Counts a branch."""
        self.sent_packets[sent.sending] += sent.counters.sent_packets
        self.sent_bytes[sent.sending] += sent.counters.sent_bytes
        for reason, number in sent.counters.errors.items():
            self.errors[sent.sending, reason] += number


class Deliveries:
    """What a UPF delivers, by the identifiers of sessions."""

    def __init__(self, replicator: Replicator, ingress: Ingress, outlets: Outlets) -> None:
        self._replicator = replicator
        self._ingress = ingress
        self._outlets = outlets
        self._in_force: dict[int, _InForce] = {}
        self._gone = Totals()

    def __len__(self) -> int:
        return len(self._in_force)

    def put(self, cp_seid: int, wanted: Replicated) -> IngressTunnel:
        """Puts a session in force or changes it: all of it or, with UpfError, nothing.

        Bucket and counters stay, branches that stay are not interrupted, and so is the tunnel where it can be kept.
        """
        before = self._in_force.get(cp_seid)
        flow = wanted.source, wanted.group
        if before is not None and before.tunnel.flows and flow == (before.replicated.source, before.replicated.group):
            keeps = wanted.ingress_ip_version in (0, before.tunnel.address.version)
            tunnel = before.tunnel if keeps else self._ingress.take(flow, wanted.ingress_ip_version)
        else:
            tunnel = self._ingress.take(flow, wanted.ingress_ip_version, before.tunnel if before is not None else None)
        session = before.session if before is not None else Session()
        ways: list[_Way] = []
        try:
            known = {way.branch_id: way for way in before.ways} if before is not None else {}
            counted = self._counted(before) if before is not None else {}
            for branch_id, delivery in wanted.deliveries:
                ways.append(self._way(branch_id, delivery, wanted, known.get(branch_id), counted))
            self._replicator.put(
                session,
                tunnel.number,
                wanted.source.packed,
                wanted.group.packed,
                rate_bps=wanted.rate_bps,
                burst_bytes=wanted.burst_bytes,
                forwards=wanted.forwards,
                branches=tuple(way.branch for way in ways),
            )
        except BaseException:
            self._close(ways, before.ways if before is not None else ())
            if before is None or (tunnel, flow) != (before.tunnel, _flow(before)):
                self._ingress.give_back(tunnel, flow)
            raise
        self._in_force[cp_seid] = _InForce(wanted, session, tunnel, tuple(ways))
        if before is not None:
            # Those whose counters do not go on in another.
            kept = {(way.branch_id, way.delivery) for way in ways}
            for way in before.ways:
                if (way.branch_id, way.delivery) not in kept:
                    self._gone.add_sent(SentBy(way.branch_id, way.branch.sending, counted[way.branch_id]))
            self._close(before.ways, ways)
            if (tunnel, flow) != (before.tunnel, _flow(before)):
                self._ingress.give_back(before.tunnel, _flow(before))
        return tunnel

    def remove(self, cp_seid: int) -> tuple[MbsCounters, list[SentBy]] | None:
        """Puts a session out of force; its last counters, None where there is none."""
        gone = self._in_force.pop(cp_seid, None)
        if gone is None:
            return None
        self._replicator.remove(gone.session)
        last = self._usage(gone)
        self._gone.add(last[0])
        for sent in last[1]:
            self._gone.add_sent(sent)
        self._close(gone.ways, ())
        self._ingress.give_back(gone.tunnel, _flow(gone))
        return last

    def tunnel_of(self, cp_seid: int) -> IngressTunnel:
        """Where the packets of a session in force come."""
        return self._in_force[cp_seid].tunnel

    def usage(self, cp_seid: int) -> tuple[MbsCounters, list[SentBy]]:
        """What a session in force has counted, and what has left by each of its branches."""
        return self._usage(self._in_force[cp_seid])

    def ingress(self) -> IngressCounters:
        """What came and was no session's."""
        return self._replicator.ingress()

    def totals(self) -> Totals:
        """Of all that has been delivered."""
        totals = Totals(
            Counter(self._gone.volumes),
            Counter(self._gone.sent_packets),
            Counter(self._gone.sent_bytes),
            Counter(self._gone.errors),
        )
        for in_force in list(self._in_force.values()):
            counters, sent = self._usage(in_force)
            totals.add(counters)
            for each in sent:
                totals.add_sent(each)
        return totals

    def close(self) -> None:
        """Every session, tunnel, socket and device."""
        for cp_seid in list(self._in_force):
            self.remove(cp_seid)
        self._ingress.close()
        self._outlets.close_all()

    def _way(
        self,
        branch_id: int,
        delivery: Delivery,
        wanted: Replicated,
        known: _Way | None,
        counted: Mapping[int, BranchCounters],
    ) -> _Way:
        opened_with: tuple[object, ...] = (wanted.qfi,)
        if isinstance(delivery, Multicast):
            opened_with = (wanted.source, wanted.group)
        if known is None or known.delivery != delivery:
            branch = self._open(branch_id, delivery, wanted)
            return _Way(branch_id, delivery, opened_with, branch, _NOTHING_SENT)
        if known.opened_with == opened_with:
            return known
        return _Way(branch_id, delivery, opened_with, self._open(branch_id, delivery, wanted), counted[branch_id])

    def _open(self, branch_id: int, delivery: Delivery, wanted: Replicated) -> Branch:
        try:
            return self._outlets.open(delivery, wanted)
        except UpfError as error:
            raise UpfError(f"branch {branch_id}: {error}") from error

    def _close(self, ways: Iterable[_Way], but: Iterable[_Way]) -> None:
        kept = {way.branch for way in but}
        for way in ways:
            if way.branch not in kept:
                self._outlets.close(way.branch)

    def _counted(self, in_force: _InForce) -> dict[int, BranchCounters]:
        return {sent.branch_id: sent.counters for sent in self._usage(in_force)[1]}

    def _usage(self, in_force: _InForce) -> tuple[MbsCounters, list[SentBy]]:
        counters = self._replicator.counters(in_force.session)
        sent = [
            SentBy(way.branch_id, way.branch.sending, _sum(way.before, now))
            for way, now in zip(in_force.ways, counters.branches, strict=True)
        ]
        return counters, sent


def _flow(in_force: _InForce) -> Flow:
    return in_force.replicated.source, in_force.replicated.group


def _sum(one: BranchCounters, other: BranchCounters) -> BranchCounters:
    errors = Counter(one.errors)
    errors.update(other.errors)
    return BranchCounters(one.sent_packets + other.sent_packets, one.sent_bytes + other.sent_bytes, dict(errors))
