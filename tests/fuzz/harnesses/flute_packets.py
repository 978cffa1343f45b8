"""Any bytes as packets of a FLUTE session: nothing is raised, and what is handed over is what a table says.

An input is a row of packets, each after two bytes of its length; a length of 0xFFFF is a whole session of castcore.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from nf.client.mbs.reception import Reception
from nf.mbstf.flute import FluteSession
from nf.mbstf.flute_fdt import FdtProfile, FdtSettings, fdt_packets
from nf.mbstf.flute_fec import Fec, fec_of
from nf.mbstf.objects import Object

CONTENTS = {"http://example.com/a": bytes(range(256)) * 20, "http://example.com/empty": b""}
MOST_BYTES = 1 << 20


def session(fec: Fec, profile: FdtProfile = FdtProfile.TS_26_346_L6) -> list[bytes]:
    sending = FluteSession(7, fec=fec, fdt=FdtSettings(profile=profile), mtu=576, first_toi=1, first_instance=1)
    for location, content in CONTENTS.items():
        sending.add(Object(location, content))
    packets = []
    while batch := sending.batch(64):
        packets += batch
    return packets


REED_SOLOMON = session(fec_of("urn:ietf:rmt:fec:encoding:5", 20))


def packets_of(data: bytes) -> Iterator[bytes]:
    while len(data) >= 2:
        length = int.from_bytes(data[:2], "big")
        data = data[2:]
        if length == 0xFFFF:
            yield from REED_SOLOMON
        else:
            yield data[:length]
            data = data[length:]


def check(data: bytes) -> None:
    reception = Reception(7, max_object_bytes=MOST_BYTES, max_bytes=2 * MOST_BYTES)
    pushed = handed_over = 0
    for packet in packets_of(data):
        pushed += 1
        for file in reception.push(packet):
            handed_over += 1
            known = reception._files[file.toi]
            assert known.location == file.location
            assert known.transfer_length in (None, len(file.content))
            assert known.md5 in (None, hashlib.md5(file.content).digest())
    assert reception.packets + sum(reception.refused.values()) >= pushed
    assert reception.files_received == handed_over
    assert 0 <= reception._bytes <= 2 * MOST_BYTES
    assert reception._bytes == sum(each.information.transfer_length for each in reception._objects.values())
    for missing in reception.missing():
        end = missing.information.transfer_length
        last = 0
        for start, stop in missing.ranges or ():
            assert last <= start < stop <= (MOST_BYTES if end is None else max(end, MOST_BYTES))
            last = stop


def seeds() -> Iterator[bytes]:
    def row(packets: list[bytes]) -> bytes:
        return b"".join(len(packet).to_bytes(2, "big") + packet for packet in packets)

    yield row(REED_SOLOMON)
    yield row(session(Fec(), FdtProfile.RFC_3926))
    yield row(session(fec_of("urn:ietf:rmt:fec:encoding:129", 50))[::2])
    yield row(REED_SOLOMON[:3]) + b"\xff\xff" + row(REED_SOLOMON[5:])
    for lines in (b"", b'<File TOI="1" Content-Location="a" Content-Length="3"/>'):
        table = b'<FDT-Instance Expires="2208988801">' + lines + b"</FDT-Instance>"
        yield row(fdt_packets(table, 7, 3, 2, 548))
