"""Captures in and out: pcap and pcapng, plain or compressed, from files and from what arrives in pieces."""
