"""Any bytes as a DNS response, and as a TCP stream of them: what is read keeps to the bounds, and to the message."""

from __future__ import annotations

from collections.abc import Iterator

from upf.names.dns import MAX_NAMES, MAX_RECORDS, MAX_TTL_S, parse_response, split_messages
from upf.names.patterns import read_name


def check(data: bytes) -> None:
    found = parse_response(data)
    assert len(found) <= MAX_RECORDS
    for resolution in found:
        size = {4: 4, 6: 16}[resolution.family]
        # What stands in the answers as data stands there as bytes; so an address may not come from anywhere else.
        assert resolution.address.to_bytes(size, "big") in data
        assert 0 <= resolution.ttl_s <= MAX_TTL_S
        assert 1 <= len(resolution.names) <= MAX_NAMES
        assert len(set(resolution.names)) == len(resolution.names)
        for name in resolution.names:
            assert read_name(name.encode()) == name
    messages, length = split_messages(data)
    assert b"".join(len(message).to_bytes(2, "big") + message for message in messages) == data[:length]
    assert len(data) - length < 2 + 65_535


def seeds() -> Iterator[bytes]:
    from named_traffic import dns_answer

    chain = [
        ("www.example.com.", "CNAME", 300, "edge.example.net."),
        ("edge.example.net.", "CNAME", 60, "a1.example.org."),
        ("a1.example.org.", "A", 20, "198.51.100.7"),
        ("a1.example.org.", "AAAA", 20, "2001:db8::7"),
    ]
    for count in range(1, 5):
        message = dns_answer("www.example.com", chain[-count:])
        yield message
        yield len(message).to_bytes(2, "big") + message
