"""Captures for benchmarks: 64-byte frames of many UDP flows in random order, made fast."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE_HEADER_BYTES, RECORD_HEADER_BYTES, FRAME_BYTES = 24, 16, 64
IP_BYTES = FRAME_BYTES - 14
FIRST_SECOND = 1_600_000_000
FILTER = "permit out 17 from 198.51.100.0/24 443,8000-8099 to any"

_RECORD = np.dtype(
    [("seconds", "=u4"), ("fraction", "=u4"), ("captured", "=u4"), ("wire", "=u4"), ("frame", "u1", FRAME_BYTES)]
)
_FLOW = np.dtype([("source", ">u4"), ("destination", ">u4"), ("source_port", ">u2"), ("destination_port", ">u2")])
# Where in an Ethernet frame that carries IPv4 the addresses begin, which the ports follow.
_ADDRESSES_AT = 26


@dataclass(frozen=True)
class Workload:
    """A capture as wanted: each flow comes equally often, and each packet ``gap_ns`` after the one before."""

    flows: int
    packets: int
    gap_ns: int
    nanoseconds: bool = True


def write_capture(path: Path, workload: Workload) -> NDArray[np.uint32]:
    """Writes it, and returns the flow of each packet. The order is random, and always the same."""
    flows = np.resize(np.arange(workload.flows, dtype=np.uint32), workload.packets)
    np.random.default_rng(1).shuffle(flows)
    path.write_bytes(file_header(nanoseconds=workload.nanoseconds))
    times_ns = np.arange(workload.packets, dtype=np.int64) * workload.gap_ns
    with path.open("ab") as stream:
        records(flows, times_ns, nanoseconds=workload.nanoseconds).tofile(stream)
    return flows


def file_header(*, nanoseconds: bool) -> bytes:
    return struct.pack("=IHHiIII", 0xA1B23C4D if nanoseconds else 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1)


def records(flows: NDArray[np.uint32], times_ns: NDArray[np.int64], *, nanoseconds: bool = True) -> np.ndarray:
    """The pcap records of packets of these flows; any number below 2^32 is a flow of its own."""
    made = np.zeros(len(flows), _RECORD)
    made["seconds"] = FIRST_SECOND + times_ns // 10**9
    made["fraction"] = times_ns % 10**9 if nanoseconds else times_ns % 10**9 // 1000
    made["captured"] = made["wire"] = FRAME_BYTES
    ip = struct.pack("!BBHHHBBHII", 0x45, 0, IP_BYTES, 0, 0, 64, 17, 0, 0, 0)
    frame = bytes(12) + b"\x08\0" + ip + struct.pack("!HHHH", 0, 0, IP_BYTES - 20, 0)
    made["frame"][:, : len(frame)] = np.frombuffer(frame, np.uint8)
    keys = np.zeros(len(flows), _FLOW)
    keys["source"] = 0xC6336400 + flows % 250
    keys["destination"] = 0x0A2D0000 + flows // 250
    keys["source_port"] = 443
    # Above GTP-U's 2152: what these carry is not a tunnel.
    keys["destination_port"] = 4096 + flows % 60_000
    made["frame"][:, _ADDRESSES_AT : _ADDRESSES_AT + _FLOW.itemsize] = keys.view(np.uint8).reshape(len(flows), -1)
    return made
