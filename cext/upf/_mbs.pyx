"""Packets of MBS sessions: out of the tunnels of Nmb9, policed once, and on by every branch of their session.

One thread receives, judges and sends a batch at a time without the GIL. A packet is never copied: the copies that leave are
its bytes where they came, each behind the header of its branch.
"""

import os

from libc.errno cimport (
    EADDRINUSE, EADDRNOTAVAIL, EAGAIN, EHOSTUNREACH, EINTR, EIO, EMSGSIZE, ENETDOWN, ENETUNREACH, ENOBUFS, ENODEV, ENOMEM,
    ENXIO, errno,
)
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset
from posix.unistd cimport close

from bucket cimport fill_bucket, limits_t, take_tokens
from copies cimport (
    CC_COPIES, CC_DATAGRAM_BYTES, CC_DATAGRAM_STRIDE, CC_INTAKE, cc_await_room, cc_copies_head, cc_copies_peer,
    cc_copies_send, cc_copies_set, cc_copies_t, cc_intake_age, cc_intake_length, cc_intake_open, cc_intake_ready,
    cc_intake_receive, cc_intake_t, cc_intake_wait, cc_open_epoll, cc_open_sender, cc_set_marks, cc_tell_no_more_of,
    cc_tell_of, cc_write_behind,
)
from datagrams cimport cc_make_peer
from door cimport cc_door_t, cc_enter_when_free, cc_leave, cc_open_door
from inner cimport (
    SHAPE_CHECKSUM, SHAPE_FRAGMENT, SHAPE_OPTIONS, SHAPE_UDP, flow_key_t, inner_t, make_key, read_inner, shape_of, shape_t,
)
from intrinsics cimport cc_likely, cc_network16
from packet cimport OUTCOME_COUNT, OUTCOME_LINK_HEADER, OUTCOME_NARROW, outcome_t
from replication cimport (
    MISHAP_CHECKSUM, MISHAP_DOWN, MISHAP_FRAGMENT, MISHAP_NO_ROOM, MISHAP_NOT_UDP, MISHAP_OPTIONS, MISHAP_REFUSED,
    MISHAP_SOURCE_NOT_LOCAL, MISHAP_SOURCE_TAKEN, MISHAP_TOO_LONG, MISHAP_UNREACHABLE, MISHAPS, SENDERS, SENDING_GTP_U,
    SENDING_TUN, SENDING_UDP, add_session, branch_t, count, find_session, mishap_t, remove_session, reserve_session,
    sender_t, sending_t, session_t, session_table_t, volume_t,
)
from superpacket cimport VNET_BYTES
from system cimport cc_monotonic_ns, cc_utc_ns
from tunnels cimport write_outer

from upf.mbs.counters import BranchCounters, IngressCounters, MbsCounters

include "branch.pxi"
include "copier.pxi"

# In the order of outcome_t in packet.pxd, from OUTCOME_LINK_HEADER on.
MALFORMED_REASONS = (
    "link_header", "ip_header", "ip_version", "ip_header_length", "ip_total_length", "ip_extension_header",
    "transport_header", "gtpu_header",
)

cdef enum verdict_t:
    VERDICT_MALFORMED
    VERDICT_UNMATCHED
    VERDICT_HELD_OFF
    VERDICT_NOT_FORWARDED
    VERDICT_DROPPED
    VERDICT_FORWARDED

MALFORMED, UNMATCHED, HELD_OFF = VERDICT_MALFORMED, VERDICT_UNMATCHED, VERDICT_HELD_OFF
NOT_FORWARDED, DROPPED, FORWARDED = VERDICT_NOT_FORWARDED, VERDICT_DROPPED, VERDICT_FORWARDED

# Of one call of offer().
BATCH = CC_INTAKE

cdef enum:
    # What the epoll instance calls stop().
    ENDING = -1

cdef:
    int64_t BIT_NS_PER_BYTE = 8000000000
    int64_t LATEST_NS = 1000000000


cdef class Session:
    """An MBS session on the packet path; its counters outlive what is changed about it."""

    cdef session_t state
    cdef bint is_in_force
    cdef readonly tuple branches

    def __cinit__(self):
        self.branches = ()

    def __dealloc__(self):
        free(self.state.branches)

    cdef void limit(self, int64_t rate_bps, int64_t burst_bytes) noexcept nogil:
        """As TokenBucket.limit(): the tokens earned stay, as far as there is room."""
        cdef limits_t limits
        cdef bint was_policed = self.state.limits.cost_of_byte != 0
        memset(&limits, 0, sizeof(limits_t))
        if rate_bps != 0:
            limits.rate_bps, limits.cost_of_byte = rate_bps, BIT_NS_PER_BYTE
            limits.capacity = burst_bytes * BIT_NS_PER_BYTE
            limits.filling_ns = (limits.capacity + rate_bps - 1) // rate_bps
        self.state.limits = limits
        if not was_policed:
            fill_bucket(&self.state.bucket, &limits)
        elif self.state.bucket.tokens > limits.capacity:
            self.state.bucket.tokens = limits.capacity


cdef branch_t **point_to(tuple branches) except NULL:
    """The branches, in an order in which those of one descriptor stand together."""
    cdef branch_t **pointers = <branch_t **>calloc(len(branches) + 1, sizeof(branch_t *))
    cdef Branch branch
    cdef int at = 0
    if pointers == NULL:
        raise MemoryError
    for branch in sorted(branches, key=descriptor_of):
        pointers[at] = &branch.state
        at += 1
    return pointers


def descriptor_of(Branch branch):
    """What `point_to` sorts branches by."""
    return branch.state.fd


cdef class Replicator(Copier):
    """The packet path of an MB-UPF. forwarding: while it is false, everything that comes is let fall (``held_off``).

    Packets are judged at the time at which they came, UTC as it was when this was made, from where it never steps.
    """

    cdef int ending             # an eventfd, readable when run() is to end
    cdef int epoll              # tells of tunnels by their numbers, and of the end by ENDING
    cdef bint passes            # see ``forwarding``
    cdef bint running
    cdef bint over
    cdef int64_t utc_ns         # at the origin of the monotonic clock
    cdef cc_door_t changing     # sessions are being changed or counted, or packets treated
    cdef int *tunnels           # descriptors by number; -1: none
    cdef int tunnel_count
    cdef session_table_t table
    cdef set sessions           # keeps alive what the table points to
    cdef uint8_t *arena
    cdef cc_intake_t *intake
    cdef inner_t packets[CC_INTAKE]
    cdef int64_t times_ns[CC_INTAKE]
    cdef uint32_t lengths[CC_INTAKE]
    cdef uint8_t verdicts[CC_INTAKE]
    cdef int judged[CC_INTAKE]  # the packets of one session that leave together
    cdef volume_t unmatched
    cdef volume_t held_off
    cdef uint64_t malformed[OUTCOME_COUNT]

    def __cinit__(self, *, bint forwarding=False):
        self.ending = self.epoll = -1
        self.passes = forwarding
        self.sessions = set()
        self.arena = <uint8_t *>malloc(CC_INTAKE * <size_t>CC_DATAGRAM_STRIDE)
        self.intake = <cc_intake_t *>calloc(1, sizeof(cc_intake_t))
        if cc_open_door(&self.changing) or self.arena == NULL or self.intake == NULL:
            raise MemoryError
        cc_intake_open(self.intake, self.arena)
        self.utc_ns = cc_utc_ns() - cc_monotonic_ns()
        self.ending = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.epoll = cc_open_epoll()
        if self.epoll < 0 or cc_tell_of(self.epoll, self.ending, ENDING):
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        free(self.arena)
        free(self.intake)
        free(self.tunnels)
        free(self.table.places)
        if self.ending >= 0:
            close(self.ending)
        if self.epoll >= 0:
            close(self.epoll)

    # --- control --------------------------------------------------------------------------------------------------

    @property
    def forwarding(self):
        """Whether packets go on at all."""
        return self.passes

    @forwarding.setter
    def forwarding(self, bint forwarding):
        with nogil:
            cc_enter_when_free(&self.changing)
            self.passes = forwarding
            cc_leave(&self.changing)

    def open_tunnel(self, int fd):
        """Receives from a socket that does not block and has SO_TIMESTAMPNS; returns the tunnel's number."""
        cdef int number = 0
        cdef int *more
        cdef bint failed = False
        with nogil:
            cc_enter_when_free(&self.changing)
            while number < self.tunnel_count and self.tunnels[number] >= 0:
                number += 1
            if number == self.tunnel_count:
                more = <int *>realloc(self.tunnels, (number + 1) * sizeof(int))
                failed = more == NULL
                if not failed:
                    self.tunnels, self.tunnel_count = more, number + 1
            if not failed:
                failed = cc_tell_of(self.epoll, fd, number) != 0
                self.tunnels[number] = -1 if failed else fd
            cc_leave(&self.changing)
        if failed:
            raise OSError(errno, os.strerror(errno))
        return number

    def close_tunnel(self, int number):
        """Receives from it no more, before its socket is closed; no session in force has it."""
        with nogil:
            cc_enter_when_free(&self.changing)
            cc_tell_no_more_of(self.epoll, self.tunnels[number])
            self.tunnels[number] = -1
            cc_leave(&self.changing)

    def put(
        self, Session session, int tunnel, bytes source, bytes group, *, uint64_t rate_bps, uint64_t burst_bytes,
        bint forwards, tuple branches,
    ):
        """Puts a session in force, or changes it between two batches.

        tunnel: the number of its ingress. source, group: 4 or 16 bytes each; no other session in force may have them in
        that tunnel. rate_bps 0: nothing is policed. forwards: not where the action is DROP.
        """
        cdef const uint8_t *packed_source = source
        cdef const uint8_t *packed_group = group
        cdef flow_key_t key
        cdef branch_t **pointers
        cdef branch_t **before = NULL
        cdef bint there_is_room
        cdef uint32_t branch_count = <uint32_t>len(branches)
        if len(source) != len(group) or len(source) not in (4, 16):
            raise ValueError("source, group: expected two addresses of one IP version")
        make_key(&key, tunnel, 4 if len(source) == 4 else 6, packed_source, packed_group)
        pointers = point_to(branches)
        with nogil:
            cc_enter_when_free(&self.changing)
            there_is_room = session.is_in_force or reserve_session(&self.table)
            if there_is_room:
                if session.is_in_force:
                    remove_session(&self.table, &session.state)
                session.state.key = key
                before, session.state.branches = session.state.branches, pointers
                session.state.branch_count, session.state.forwards = branch_count, forwards
                session.limit(<int64_t>rate_bps, <int64_t>burst_bytes)
                add_session(&self.table, &session.state)
                session.is_in_force = True
            cc_leave(&self.changing)
        free(before if there_is_room else pointers)
        if not there_is_room:
            raise MemoryError
        # Branches that go are closed here, when no packet can be on its way to them any more.
        session.branches = branches
        self.sessions.add(session)

    def remove(self, Session session):
        """Puts it out of force; its counters stay as they are."""
        with nogil:
            cc_enter_when_free(&self.changing)
            if session.is_in_force:
                remove_session(&self.table, &session.state)
            session.is_in_force = False
            if self.table.count == 0:
                self.close_senders()
            cc_leave(&self.changing)
        self.sessions.discard(session)

    def counters(self, Session session):
        """What the session has counted, as MbsCounters, with each of its branches in their order."""
        cdef session_t now
        cdef tuple branches = session.branches
        cdef uint32_t branch_count = <uint32_t>len(branches), at
        cdef int i
        cdef Branch branch
        cdef branch_t *state
        cdef branch_t *states = <branch_t *>calloc(branch_count + 1, sizeof(branch_t))
        cdef branch_t **pointers
        if states == NULL:
            raise MemoryError
        try:
            pointers = <branch_t **>calloc(branch_count + 1, sizeof(branch_t *))
            if pointers == NULL:
                raise MemoryError
            for at in range(branch_count):
                branch = branches[at]
                pointers[at] = &branch.state
            with nogil:
                cc_enter_when_free(&self.changing)
                now = session.state
                for at in range(branch_count):
                    states[at] = pointers[at][0]
                cc_leave(&self.changing)
            free(pointers)
            counted = []
            for at in range(branch_count):
                state = &states[at]
                errors = {
                    reason: state.mishaps[i] for i, reason in enumerate(BRANCH_ERRORS) if state.mishaps[i]
                }
                counted.append(BranchCounters(state.sent.packets, state.sent.bytes, errors))
        finally:
            free(states)
        return MbsCounters(
            received_packets=now.received.packets, received_bytes=now.received.bytes,
            dropped_packets=now.dropped.packets, dropped_bytes=now.dropped.bytes,
            forwarded_packets=now.forwarded.packets, forwarded_bytes=now.forwarded.bytes,
            not_forwarded_packets=now.not_forwarded.packets, not_forwarded_bytes=now.not_forwarded.bytes,
            time_steps_back=now.time_steps_back, first_ns=now.first_ns, last_ns=now.last_ns, branches=tuple(counted),
        )

    def ingress(self):
        """What came and was no session's, as IngressCounters."""
        cdef volume_t unmatched, held_off
        cdef int i
        with nogil:
            cc_enter_when_free(&self.changing)
            unmatched, held_off = self.unmatched, self.held_off
            cc_leave(&self.changing)
        return IngressCounters(
            unmatched_packets=unmatched.packets, unmatched_bytes=unmatched.bytes,
            held_off_packets=held_off.packets, held_off_bytes=held_off.bytes,
            malformed={
                reason: self.malformed[<int>OUTCOME_LINK_HEADER + i] for i, reason in enumerate(MALFORMED_REASONS)
                if self.malformed[<int>OUTCOME_LINK_HEADER + i]
            },
        )

    # --- the loop -------------------------------------------------------------------------------------------------

    def run(self):
        """Forwards until stop(); a thread of its own calls it."""
        if self.running:
            raise RuntimeError("run() runs already")
        self.running, self.over = True, False
        try:
            with nogil:
                while not self.over:
                    self.look()
        finally:
            self.running = False

    def stop(self):
        """Ends run(), from any thread, once the batch is over; it does not run a second time."""
        os.eventfd_write(self.ending, 1)

    def offer(self, int tunnel, datagrams):
        """Treats datagrams as if they had come out of the tunnel: a sequence of (UTC in ns, bytes), BATCH at the most.

        Returns the verdict on each. Not while run() runs.
        """
        cdef const uint8_t *data
        cdef int i = 0
        if self.running or len(datagrams) > CC_INTAKE:
            raise RuntimeError(f"offer: expected {CC_INTAKE} datagrams at most, and run() not to run")
        for ts_ns, datagram in datagrams:
            if len(datagram) > CC_DATAGRAM_BYTES:
                raise ValueError(f"datagram {i}: found {len(datagram)} bytes, expected {CC_DATAGRAM_BYTES} at most")
            data = datagram
            memcpy(self.data_of(i), data, len(datagram))
            self.lengths[i], self.times_ns[i] = <uint32_t>len(datagram), ts_ns
            i += 1
        with nogil:
            cc_enter_when_free(&self.changing)
            self.treat(tunnel, i)
            cc_leave(&self.changing)
        return list(self.verdicts[:i])

    cdef inline uint8_t *data_of(self, int i) noexcept nogil:
        return self.arena + i * <size_t>CC_DATAGRAM_STRIDE

    cdef void look(self) noexcept nogil:
        """Waits for something to come, and takes a batch of every tunnel that has something."""
        cdef int ready = cc_intake_wait(self.intake, self.epoll), i, tunnel
        for i in range(ready):
            tunnel = cc_intake_ready(self.intake, i)
            if tunnel == ENDING:
                self.over = True
                return
            cc_enter_when_free(&self.changing)
            # It may have been closed since.
            if self.tunnels[tunnel] >= 0:
                self.receive(tunnel)
            cc_leave(&self.changing)

    cdef void receive(self, int tunnel) noexcept nogil:
        cdef int arrived = cc_intake_receive(self.intake, self.tunnels[tunnel]), i
        cdef int64_t now_ns, wall_ns, age_ns
        if arrived <= 0:
            return
        now_ns, wall_ns = cc_monotonic_ns() + self.utc_ns, cc_utc_ns()
        for i in range(arrived):
            age_ns = cc_intake_age(self.intake, i, wall_ns)
            # More is no wait: the clock on the wall has been set.
            self.times_ns[i] = now_ns - (age_ns if age_ns < LATEST_NS else LATEST_NS)
            self.lengths[i] = cc_intake_length(self.intake, i)
        self.treat(tunnel, arrived)

    # --- packets --------------------------------------------------------------------------------------------------

    cdef void treat(self, int tunnel, int arrived) noexcept nogil:
        cdef session_t *session = NULL
        cdef session_t *latest = NULL
        cdef int i, together = 0
        self.room_ms = ROOM_MS
        for i in range(arrived):
            self.verdicts[i] = <uint8_t>self.judge(tunnel, i, &session)
            if self.verdicts[i] != VERDICT_FORWARDED:
                continue
            if session != latest and together != 0:
                self.replicate(latest, together)
                together = 0
            latest = session
            self.judged[together] = i
            together += 1
        if together != 0:
            self.replicate(latest, together)
        # The next batch comes to where the bytes of this one are.
        self.flush()

    cdef verdict_t judge(self, int tunnel, int i, session_t **found) noexcept nogil:
        cdef inner_t *inner = &self.packets[i]
        cdef session_t *session
        cdef outcome_t outcome
        if not self.passes:
            count(&self.held_off, self.lengths[i])
            return VERDICT_HELD_OFF
        outcome = read_inner(inner, self.data_of(i), self.lengths[i], tunnel)
        if outcome != OUTCOME_NARROW:
            self.malformed[<int>outcome] += 1
            return VERDICT_MALFORMED
        session = find_session(&self.table, &inner.key)
        if session == NULL:
            count(&self.unmatched, inner.length)
            return VERDICT_UNMATCHED
        found[0] = session
        count(&session.received, inner.length)
        if session.first_ns == 0:
            session.first_ns = self.times_ns[i]
        session.last_ns = self.times_ns[i]
        if not session.forwards or session.branch_count == 0:
            count(&session.not_forwarded, inner.length)
            return VERDICT_NOT_FORWARDED
        if not take_tokens(
            &session.bucket, &session.limits, self.times_ns[i], inner.length, &session.time_steps_back
        ):
            count(&session.dropped, inner.length)
            return VERDICT_DROPPED
        count(&session.forwarded, inner.length)
        return VERDICT_FORWARDED

    cdef void replicate(self, const session_t *session, int together) noexcept nogil:
        """Packets by packets to the branches that share a descriptor, so that the bytes stay in the cache."""
        cdef uint32_t first = 0, end, at
        cdef int i
        while first < session.branch_count:
            end = first + 1
            # Sockets of SENDING_UDP are each their branch's own.
            while (
                end < session.branch_count and session.branches[end].fd == session.branches[first].fd
                and session.branches[first].fd >= 0
            ):
                end += 1
            for i in range(together):
                for at in range(first, end):
                    self.send(session.branches[at], &self.packets[self.judged[i]], self.times_ns[self.judged[i]])
            first = end
