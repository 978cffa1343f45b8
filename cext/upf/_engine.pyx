"""The packet path."""
