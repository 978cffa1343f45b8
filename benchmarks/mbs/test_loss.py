"""What loss do sessions stand? Objects whole by multicast alone, and what repair by HTTP has to fetch of the others."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from benchmarks.conftest import Results
from nf.client.mbs.reception import Reception
from nf.client.mbs.repair import ranges_to_ask
from nf.mbstf.flute import FluteSession
from nf.mbstf.flute_fec import Fec, fec_of
from nf.mbstf.objects import Object

OBJECTS, SEEDS = 20, 10
FEWEST_BYTES, MOST_BYTES = 80_000, 400_000
SCHEMES = {
    "no code": Fec(),
    **{f"Reed-Solomon, {percent} %": fec_of("urn:ietf:rmt:fec:encoding:5", percent) for percent in (10, 20, 50)},
}
LOSSES_PERCENT = (1, 5, 10, 15, 30)
PARTS = tuple((scheme, loss) for scheme in SCHEMES for loss in LOSSES_PERCENT)


def contents_of(seed: int) -> dict[str, bytes]:
    rng = random.Random(seed)
    return {
        f"http://origin.example/{number}.m4s": rng.randbytes(rng.randint(FEWEST_BYTES, MOST_BYTES))
        for number in range(OBJECTS)
    }


def packets_of(fec: Fec, contents: dict[str, bytes]) -> list[bytes]:
    session = FluteSession(7, fec=fec)
    for location, content in contents.items():
        session.add(Object(location, content, "video/mp4"))
    packets = []
    while batch := session.batch(64):
        packets += batch
    return packets


@pytest.mark.parametrize("scheme", SCHEMES)
def test_loss(scheme: str, results_of: Callable[..., Results]) -> None:
    results = results_of("loss", about="Objects under random loss, by FEC", parts=PARTS)
    contents = contents_of(1)
    size = sum(map(len, contents.values()))
    packets = packets_of(SCHEMES[scheme], contents)
    for loss in LOSSES_PERCENT:
        whole = fetched = sessions = 0
        for seed in range(SEEDS):
            rng = random.Random(seed)
            reception = Reception(7)
            got = {}
            for packet in packets:
                if rng.random() >= loss / 100:
                    got |= {file.location: file.content for file in reception.push(packet)}
            whole += len(got)
            sessions += len(got) == OBJECTS
            for missing in reception.missing():
                content = contents[missing.information.location]
                toi, length = missing.information.toi, len(content)
                assert missing.ranges is not None
                asked = ranges_to_ask(missing.ranges, length) or [(0, length)]
                fetched += sum(end - start for start, end in asked)
                repaired = [reception.repair(toi, start, content[start:end]) for start, end in asked]
                got |= {file.location: file.content for file in repaired if file is not None}
            # With what is repaired everything is there, byte for byte.
            assert got == contents
        row: dict[str, object] = {
            "subject": scheme,
            "loss_percent": loss,
            "objects_whole_by_multicast": round(whole / OBJECTS / SEEDS, 4),
            "sessions_without_repair": round(sessions / SEEDS, 4),
            "repaired_bytes_by_those_sent": round(fetched / size / SEEDS, 4),
        }
        results.add((scheme, loss), [row])
        if (scheme, loss) == ("Reed-Solomon, 20 %", 5):
            assert sessions == SEEDS
