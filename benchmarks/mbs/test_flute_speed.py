"""How fast do objects leave as FLUTE in the Nmb9 tunnel, unpaced, beside flute-alc's encoder alone?

Times are those of the processors that all threads of the process took: what else the machine does is not in them, and
that the MBSTF's two threads may run side by side is not counted in its favour.
"""

from __future__ import annotations

import contextlib
import gc
import random
import socket
import threading
import time
from collections.abc import Callable

import pytest
from flute import sender

from benchmarks.conftest import Figures
from nf.client.mbs.reception import Reception
from nf.mbstf.flute import FluteSession
from nf.mbstf.flute_fec import NO_CODE, Fec, fec_of
from nf.mbstf.objects import Object
from nf.mbstf.sending import Endpoint, Senders

OBJECTS, OBJECT_BYTES, ROUNDS = 20, 1_000_000, 9
ENDPOINT = Endpoint("127.0.0.9", "232.0.0.1", 5004)
INNER_HEADER = 28
SO_RCVBUFFORCE = 33
SCHEMES = {"no code": Fec(), "Reed-Solomon, 20 %": fec_of("urn:ietf:rmt:fec:encoding:5", 20)}


def objects() -> list[Object]:
    rng = random.Random(1)
    return [
        Object(f"http://origin.example/{number}.m4s", rng.randbytes(OBJECT_BYTES), "video/mp4")
        for number in range(OBJECTS)
    ]


def session_of(fec: Fec, items: list[Object]) -> FluteSession:
    session = FluteSession(7, fec=fec)
    for item in items:
        session.add(item)
    return session


def encoded_bare(fec: Fec, items: list[Object]) -> int:
    """flute-alc alone: the objects into packets, which nobody takes; how many, without those of its table."""
    blocks = fec.blocks(OBJECT_BYTES, 1372)
    if fec.encoding_id == NO_CODE:
        oti = sender.Oti.new_no_code(blocks.symbol_bytes, blocks.source_symbols)
    else:
        oti = sender.Oti.new_reed_solomon_rs28(blocks.symbol_bytes, blocks.source_symbols, blocks.parity_symbols)
    config = sender.Config()
    config.multiplex_files = 1
    encoder = sender.Sender(7, oti, config)
    for item in items:
        assert isinstance(item.content, bytes)
        encoder.add_object_from_buffer(item.content, item.content_type, item.location, None)
    encoder.publish()
    packets = 0
    while (packet := encoder.read()) is not None:
        packets += packet[10:12] != b"\0\0"
    return packets


def sent(senders: Senders, session: FluteSession, tunnel: tuple[str, int]) -> int:
    """The whole way, unpaced: as many packets as have left once there are no others."""
    stream = senders.open(session, ENDPOINT, tunnel, mbr_bps=None)
    while not session.is_idle() or stream.counters().waiting:
        time.sleep(0.001)
    counters = stream.counters()
    stream.close()
    assert (counters.refused, counters.oversized) == (0, 0)
    return counters.packets


def verified(senders: Senders, fec: Fec, items: list[Object], opened: socket.socket) -> int:
    """What leaves is what a receiver makes the objects of: none is missing, none differs; their packets."""
    session = session_of(fec, items)
    packets: list[bytes] = []
    done = threading.Event()

    def receive() -> None:
        opened.settimeout(2)
        try:
            while True:
                packets.append(opened.recv(2048))
        except TimeoutError:
            done.set()

    reader = threading.Thread(target=receive)
    reader.start()
    # As fast as the reader of the check takes them, so that none is lost on the way.
    stream = senders.open(session, ENDPOINT, opened.getsockname(), mbr_bps=50_000_000)
    assert done.wait(120)
    reader.join()
    left = stream.counters()
    stream.close()
    assert (len(packets), sum(map(len, packets))) == (left.packets, left.bytes)
    reception = Reception(7)
    got = {file.location: file.content for packet in packets for file in reception.push(packet[INNER_HEADER:])}
    assert got == {item.location: item.content for item in items}
    assert not reception.refused
    return sum(packet[INNER_HEADER + 10 : INNER_HEADER + 12] != b"\0\0" for packet in packets)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_flute_speed(scheme: str, figures_of: Callable[..., Figures]) -> None:
    fec, items = SCHEMES[scheme], objects()
    figures = figures_of("flute", baselines=tuple(f"flute-alc alone, {each}" for each in SCHEMES))
    senders = Senders()
    senders.start()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            with contextlib.suppress(PermissionError):
                opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            opened.bind(("127.0.0.1", 0))
            packets = verified(senders, fec, items, opened)
            assert encoded_bare(fec, items) == packets
            bare, whole = [], []
            for _ in range(ROUNDS):
                gc.collect()
                begun = time.process_time()
                encoded_bare(fec, items)
                bare.append(time.process_time() - begun)
                begun = time.process_time()
                left = sent(senders, session_of(fec, items), opened.getsockname())
                whole.append(time.process_time() - begun)
                # The table goes with them.
                assert packets < left < 1.1 * packets
    finally:
        senders.stop()
    figures.add(f"flute-alc alone, {scheme}", packets, bare)
    figures.add(f"MBSTF, into the tunnel, {scheme}", packets, whole)
    ratios = sorted(one / other for one, other in zip(bare, whole, strict=True))
    assert ratios[len(ratios) // 2] >= 0.5, f"{scheme}: {ratios} times as fast as flute-alc alone"
