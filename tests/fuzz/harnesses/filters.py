"""Any text as a filter: refused at a column of it, or read as what it says, which written out again reads the same."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from upf.sdf import FilterError, parse_filter

ASSIGNED = (None, ip_address("10.45.0.2"), ip_address("2001:db8:45::2"))
TEXTS = (
    "permit out 17 from 198.51.100.0/24 443,8000-8099 to assigned",
    "permit in ip from any to 2001:db8::1/64 80",
    "permit out 6 from 10.0.0.1 1-65535 to any",
    "permit out ip from any to any",
    "permit out 255 from 2001:db8:a::/124 to assigned 1,2,3-4",
    "permit out 132 from 0.0.0.0/0 to ::/0",
)


def check(data: bytes) -> None:
    text = data[1:].decode(errors="replace")
    try:
        read = parse_filter(text, assigned=ASSIGNED[data[0] % len(ASSIGNED)] if data else None)
    except FilterError as refused:
        assert 1 <= refused.column <= len(text) + 1, f"column {refused.column} of {text!r}"
        assert len(str(refused).splitlines()) == 1 or "\n" in text, str(refused)
    else:
        assert parse_filter(str(read)) == read, f"{text!r} reads as {str(read)!r}"
        assert read.swapped().swapped() == read, text


def seeds() -> Iterator[bytes]:
    for number in range(len(ASSIGNED)):
        for text in TEXTS:
            yield bytes((number,)) + text.encode()
