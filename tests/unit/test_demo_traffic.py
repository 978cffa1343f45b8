"""The media session of the demonstration, as an independent reader of packets sees it."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from scapy.layers.dns import DNS
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from nf.cli.demo.traffic import SERVER, UE, media_session

EACH = 97


def frames_of(capture: bytes) -> Iterator[bytes]:
    """The packets of a pcap file."""
    at = 24
    while at < len(capture):
        length = struct.unpack_from("=I", capture, at + 8)[0]
        yield capture[at + 16 : at + 16 + length]
        at += 16 + length


def test_every_packet_has_the_lengths_and_checksums_that_scapy_gives_it() -> None:
    frames = list(frames_of(media_session()))
    assert len(frames) == 3_972
    # Some of all, and the whole of what is rare: handshakes, ends and queries.
    chosen = [frame for number, frame in enumerate(frames) if number % EACH == 0 or len(frame) < 80]
    kinds = set()
    for frame in chosen:
        told = Ether(frame)
        kinds.add((told[IP].src, told[IP].proto, str(told[TCP].flags) if TCP in told else ""))
        for layer, fields in ((IP, ("len", "chksum")), (UDP, ("len", "chksum")), (TCP, ("chksum",))):
            if layer in told:
                for field in fields:
                    told[layer].delfieldval(field)
        assert bytes(told) == frame
    assert kinds == {
        *((SERVER, 6, flags) for flags in ("SA", "A", "FA")),
        *((UE, 6, flags) for flags in ("S", "A", "FA")),
        (SERVER, 17, ""),
        (UE, 17, ""),
    }
    queries = [Ether(frame)[DNS] for frame in frames if DNS in Ether(frame)]
    assert [each.qd[0].qname for each in queries] == [b"media.example."] * 3
