"""Where packets come in at Nmb8 (packet distribution method, TS 26.502 §6.2): sockets, as long as a session lives.

A session's address is told when it is created and stays the same; nothing is read from it before the session is being
established.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Address, ip_address
from typing import Final

from nf.common.resources import copy_of
from nf.common.telemetry import logger
from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.common.v1.mbs_pb2 import TunnelAddress
from nf.mbstf.errors import IngestAddressTaken
from nf.mbstf.requests import tunnel_end
from nf.mbstf.v1.dist_session_pb2 import DistSession

# Of Linux; Python has no names for them.
_IP_ADD_SOURCE_MEMBERSHIP: Final = 39
_MCAST_JOIN_SOURCE_GROUP: Final = 46
_RECEIVE_BUFFER_BYTES: Final = 4 << 20
_LARGEST: Final = 65_535

_log = logger("mbstf")


class IngestAddresses:
    """The ingest sockets of all sessions of the packet method, at one address of this host."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._sockets: dict[str, socket.socket] = {}

    def reserve(self, session: DistSession) -> DistSession:
        """The session with its ingest address, which is taken for it from now on.

        A session that has one already (of an earlier run) gets the same again; where another process has it meanwhile
        that is logged, and establishing the session will fail. Raises IngestAddressTaken for a new one.
        """
        if not session.HasField("pkt_distribution_data"):
            return session
        reserved = copy_of(session)
        data = reserved.pkt_distribution_data
        ingest = data.mb_stf_ingest_addr
        if data.pkt_ingest_method == shared.PKT_INGEST_METHOD_MULTICAST:
            group = ingest.af_ssm
            address = group.ssm.dest_ip_addr.ipv4_addr or group.ssm.dest_ip_addr.ipv6_addr
            ingest.mb_stf_listen_addr.CopyFrom(_tunnel(address, group.port_number))
            return reserved
        forwards = data.pkt_distribution_operating_mode == shared.PKT_DISTRIBUTION_OPERATING_MODE_PACKET_FORWARD_ONLY
        own = ingest.mb_stf_ingress_tun_addr if forwards else ingest.mb_stf_listen_addr
        known = tunnel_end(own) if own.port_number else (self._host, 0)
        if session.dist_session_id in self._sockets:
            return reserved
        try:
            bound = _bound(*known)
        except OSError as error:
            taken = IngestAddressTaken(f"{known[0]} port {known[1]}: {error.strerror or error}")
            if not known[1]:
                raise taken from error
            _log.error("ingest.address_taken", dist_session_id=session.dist_session_id, error=str(taken))
            return reserved
        self._sockets[session.dist_session_id] = bound
        own.CopyFrom(_tunnel(*bound.getsockname()[:2]))
        return reserved

    def give_back(self, dist_session_id: str) -> None:
        """Lets go of a session's address."""
        bound = self._sockets.pop(dist_session_id, None)
        if bound is not None:
            bound.close()

    def close(self) -> None:
        """Lets go of all addresses."""
        for dist_session_id in list(self._sockets):
            self.give_back(dist_session_id)

    def open(self, session: DistSession) -> tuple[socket.socket, bool]:
        """The socket that the session reads, with what came before thrown away, and whether the reader closes it.

        Raises IngestAddressTaken.
        """
        data = session.pkt_distribution_data
        ingest = data.mb_stf_ingest_addr
        if data.pkt_ingest_method == shared.PKT_INGEST_METHOD_MULTICAST:
            try:
                return _joined(ingest.af_ssm, self._host), True
            except OSError as error:
                listen = tunnel_end(ingest.mb_stf_listen_addr)
                raise IngestAddressTaken(f"{listen[0]} port {listen[1]}: {error.strerror or error}") from error
        bound = self._sockets.get(session.dist_session_id)
        if bound is None:
            self.reserve(session)
            bound = self._sockets.get(session.dist_session_id)
        if bound is None:
            raise IngestAddressTaken(f"distribution session {session.dist_session_id!r}: its ingest address is taken")
        with suppress(BlockingIOError):
            while True:
                bound.recv(_LARGEST)
        return bound, False


def _tunnel(host: str, port: int) -> TunnelAddress:
    if ip_address(host).version == 4:
        return TunnelAddress(ipv4_addr=host, port_number=port)
    return TunnelAddress(ipv6_addr=host, port_number=port)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET if ip_address(host).version == 4 else socket.AF_INET6
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        bound.setblocking(False)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _joined(wanted: shared.ExtSsm, interface: str) -> socket.socket:
    """A socket that has joined (S,G) on the interface that has the address."""
    source = ip_address(wanted.ssm.source_ip_addr.ipv4_addr or wanted.ssm.source_ip_addr.ipv6_addr)
    group = ip_address(wanted.ssm.dest_ip_addr.ipv4_addr or wanted.ssm.dest_ip_addr.ipv6_addr)
    family = socket.AF_INET if group.version == 4 else socket.AF_INET6
    joined = socket.socket(family, socket.SOCK_DGRAM)
    try:
        # Several sessions may listen to one group.
        joined.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        joined.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        joined.setblocking(False)
        joined.bind((str(group), wanted.port_number))
        if group.version == 4:
            own = ip_address(interface)
            on = own.packed if isinstance(own, IPv4Address) else bytes(4)
            joined.setsockopt(socket.IPPROTO_IP, _IP_ADD_SOURCE_MEMBERSHIP, group.packed + on + source.packed)
        else:
            request = _group_source_request(group.packed, source.packed)
            joined.setsockopt(socket.IPPROTO_IPV6, _MCAST_JOIN_SOURCE_GROUP, request)
    except OSError:
        joined.close()
        raise
    return joined


def _group_source_request(group: bytes, source: bytes) -> bytes:
    """Struct group_source_req of IPv6; interface 0 is the system's choice."""

    def storage(address: bytes) -> bytes:
        return struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, address, 0).ljust(128, b"\0")

    return struct.pack("=II", 0, 0) + storage(group) + storage(source)
