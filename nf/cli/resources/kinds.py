"""The kinds of resources that ``castcore ls`` and ``castcore show`` know, and whose they are."""

from __future__ import annotations

from typing import Final, NamedTuple


class Kind(NamedTuple):
    """One kind: the function that keeps it, what it is, and which options narrow its list."""

    function: str
    about: str
    filters: tuple[str, ...] = ()


KINDS: Final[dict[str, Kind]] = {
    "provisioning-sessions": Kind("af", "what providers have provisioned"),
    "policy-templates": Kind("af", "their policy templates", ("session",)),
    "consumption-reporting-configurations": Kind("af", "who reports what is consumed, as it was set", ("session",)),
    "dynamic-policies": Kind("af", "policies at work on media sessions", ("session",)),
    "consumption-reporting-sessions": Kind("af", "reporting sessions that have not ended", ("session",)),
    "consumption-reporting-units": Kind("af", "what clients have reported", ("session",)),
    "metrics-reporting-configurations": Kind("af", "which metrics clients report", ("session",)),
    "metrics-reports": Kind("af", "what they have reported of them", ("session",)),
    "notification-subscriptions": Kind("af", "who is told of events by HTTP"),
    "app-sessions": Kind("pcf", "what the AF has asked the PCF for"),
    "sm-policies": Kind("pcf", "policy associations of PDU sessions, with their PCC rules"),
    "operator-policies": Kind("pcf", "thresholds and methods of the operator"),
    "ledger": Kind("pcf", "what was used, zero-rated, charged and dropped", ("supi", "app-session")),
    "pdu-sessions": Kind("smf", "UEs that are attached"),
    "mbs-user-services": Kind("mbsf", "multicast and broadcast services of providers"),
    "mbs-ingest-sessions": Kind("mbsf", "what is distributed of them, and when", ("service",)),
    "mbs-distribution-sessions": Kind("mbsf", "their distribution sessions, and how these go", ("service",)),
    "dist-sessions": Kind("mbstf", "distribution sessions as the MBSTF has them"),
    "tmgis": Kind("smf", "temporary mobile group identities that are taken"),
    "mbs-sessions": Kind("smf", "MBS sessions that carry them"),
    "mbs-contexts": Kind("pcf", "what of MBS the PCF has authorised"),
    "agreements": Kind("netapi", "what providers may book, where, how much"),
    "service-areas": Kind("netapi", "where network capabilities can be booked"),
    "capability-profiles": Kind("netapi", "what can be booked: Quality on Demand, geofencing"),
    "bookings": Kind("netapi", "what is booked, from request to release"),
    "network-access-ids": Kind("netapi", "by what devices use it, one per area and capability", ("booking",)),
    "device-accesses": Kind("netapi", "devices that use it, and what they have of it now", ("booking",)),
    "geofences": Kind("netapi", "who is told of devices that enter or leave"),
    "thresholds": Kind("netapi", "measures that are watched"),
    "event-sinks": Kind("netapi", "where the platform's events are sent to"),
    "usage-records": Kind("netapi", "what has been used of bookings", ("booking",)),
}

# Functions that tell events.
SOURCES: Final = ("af", "netapi", "pcf", "smf", "mbsf", "mbstf")
