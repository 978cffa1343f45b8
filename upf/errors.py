"""The user plane's error: bad rules, filters, units and captures."""

from __future__ import annotations


class UpfError(ValueError):
    """What was given cannot be used; the message names the thing, the value and what was expected."""


class OutputError(UpfError):
    """A packet that passed has no place in the output capture."""
