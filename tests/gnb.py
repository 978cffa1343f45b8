"""A gNB for tests, without a radio: what its UEs send is given to it, what they receive it returns."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from scapy.contrib.gtp import GTP_U_Header, GTPPDUSessionContainer
from scapy.packet import Packet, Raw

PATIENCE_S = 10.0
UL_PDU_SESSION_INFORMATION = 1
ECHO_REQUEST, ECHO_RESPONSE, ERROR_INDICATION, END_MARKER, G_PDU = 1, 2, 26, 254, 255


@dataclass(frozen=True)
class Received:
    """A G-PDU that came: its tunnel, its QoS flow (None: it has none), its packet."""

    teid: int
    qfi: int | None
    packet: bytes


def g_pdu(teid: int, packet: bytes | Packet, qfi: int | None = None) -> bytes:
    """An uplink G-PDU, as scapy makes it."""
    header = GTP_U_Header(teid=teid, gtp_type=G_PDU)
    if qfi is not None:
        header /= GTPPDUSessionContainer(type=UL_PDU_SESSION_INFORMATION, QFI=qfi)
    return bytes(header / Raw(bytes(packet)))


def read_g_pdu(datagram: bytes) -> Received:
    """A downlink G-PDU, as scapy reads it."""
    message = GTP_U_Header(datagram)
    assert message.gtp_type == G_PDU
    assert message.length == len(datagram) - 8
    qfi = None
    if GTPPDUSessionContainer in message:
        assert message[GTPPDUSessionContainer].type == 0
        qfi = message[GTPPDUSessionContainer].QFI
        inner = message[GTPPDUSessionContainer].payload
    else:
        inner = message.payload
    return Received(message.teid, qfi, bytes(inner.original or inner))


class Gnb:
    """One gNB at an address, with one socket; ``upf`` is where it sends."""

    def __init__(self, bound: socket.socket, upf: tuple[str, int]) -> None:
        self.socket = bound
        self.upf = upf
        bound.settimeout(PATIENCE_S)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)

    @classmethod
    def at(cls, host: str, upf: tuple[str, int], *, port: int | None = None) -> Self:
        """One that is bound to the port of the UPF unless told otherwise: there come messages that nobody asked for."""
        bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind((host, upf[1] if port is None else port))
        return cls(bound, upf)

    @property
    def address(self) -> tuple[str, int]:
        """Where it receives."""
        host, port = self.socket.getsockname()[:2]
        return host, port

    def send(self, teid: int, packet: bytes | Packet, qfi: int | None = 9) -> None:
        """A UE has sent a packet."""
        self.socket.sendto(g_pdu(teid, packet, qfi), self.upf)

    def send_message(self, message: bytes | Packet) -> None:
        """Any message of GTP-U, or what is none."""
        self.socket.sendto(bytes(message), self.upf)

    def receive(self) -> Received:
        """The next packet for a UE. Raises TimeoutError."""
        return read_g_pdu(self.socket.recv(65_536))

    def receive_message(self) -> Packet:
        """The next message of whatever kind."""
        return GTP_U_Header(self.socket.recv(65_536))

    def close(self) -> None:
        """It is gone."""
        self.socket.close()


@contextmanager
def gnb(host: str, upf: tuple[str, int], *, port: int | None = None) -> Iterator[Gnb]:
    """A gNB, closed in the end."""
    made = Gnb.at(host, upf, port=port)
    try:
        yield made
    finally:
        made.close()
