"""Errors of the MBSF, with the application errors of TS 29.580 where it has them."""

from __future__ import annotations

from nf.common.errors import FailedPrecondition


class ServiceInUse(FailedPrecondition):
    """A user service has user data ingest sessions."""

    reason = "MBS_USER_SERVICE_IN_USE"


class DistributionSessionRunning(FailedPrecondition):
    """A distribution session may be changed only while it is INACTIVE."""

    reason = "MBS_DIST_SESSION_RUNNING"


class IngestSessionDestroyed(FailedPrecondition):
    """The provider has destroyed the ingest session; what is left of it is being taken down."""

    reason = "MBS_ING_SESSION_DESTROYED"
