"""The network API platform's refusals."""

from __future__ import annotations

from nf.common.errors import FailedPrecondition, FieldViolation, InvalidArgument


class DeviceMismatch(InvalidArgument):
    """The names that are given for one device mean different ones."""

    reason = "DEVICE_MISMATCH"

    @classmethod
    def of(cls, field: str, description: str) -> DeviceMismatch:
        """The error about one property."""
        return cls(f"{field}: {description}", violations=(FieldViolation(field, description),))


class AmbiguousDevice(FailedPrecondition):
    """Several devices have the name that is given."""

    reason = "AMBIGUOUS_DEVICE"
