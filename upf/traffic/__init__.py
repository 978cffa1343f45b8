"""Packets for a UPF that has no interface of its own."""
