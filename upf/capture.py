"""Captures: the public face of `upf.captures`."""

from __future__ import annotations

from upf.captures.formats import (
    HEADER_BYTES,
    LINK_TYPES,
    MAX_CAPTURED_LENGTH,
    CaptureError,
    CaptureFormat,
    CutError,
    Record,
)
from upf.captures.opening import STANDARD_INPUT, Capture, in_memory, open_capture
from upf.captures.pcap import parse_header, read_records, write_header
from upf.captures.stream import CaptureStream, Pieces
from upf.captures.writing import CaptureWriter, OutputFormat, asks_for_pcapng

__all__ = [
    "HEADER_BYTES",
    "LINK_TYPES",
    "MAX_CAPTURED_LENGTH",
    "STANDARD_INPUT",
    "Capture",
    "CaptureError",
    "CaptureFormat",
    "CaptureStream",
    "CaptureWriter",
    "CutError",
    "OutputFormat",
    "Pieces",
    "Record",
    "asks_for_pcapng",
    "in_memory",
    "open_capture",
    "parse_header",
    "read_records",
    "write_header",
]
