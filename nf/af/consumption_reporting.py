"""The consumption reporting configuration (TS 26.512 §7.7.3, TS 26.501 §5.6): what is valid, and what it means.

The configuration is kept as it was set; ``effective`` fills in what the AF decides.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Iterator, Sequence

from nf.af.v1.media_session_pb2 import ClientConsumptionReportingConfiguration
from nf.af.v1.provisioning_pb2 import ConsumptionReportingConfiguration
from nf.common.errors import FieldViolation, InvalidArgument

# What a provider may set, and so change.
SETTABLE = (
    "reporting_interval_s",
    "sample_percentage",
    "location_reporting",
    "location_type",
    "access_reporting",
    "consumption_reporting_server_address",
)
# CGI, ECGI, NCGI.
LOCATION_TYPES = (0, 1, 2)

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_FQDN = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_FQDN_AND_PORT = re.compile(r"(?P<host>[^:]+)(:(?P<port>[0-9]{1,5}))?")
_MAX_FQDN_LENGTH = 253


def check(configuration: ConsumptionReportingConfiguration) -> None:
    """Raises InvalidArgument with a violation for every property at fault."""
    violations = [FieldViolation(field, why) for field, why in _violations(configuration)]
    if violations:
        raise InvalidArgument.of_all(violations)


def location_is_on(configuration: ConsumptionReportingConfiguration) -> bool:
    """Whether reports carry the UE's location: a type alone turns it on, with that type."""
    return configuration.location_reporting or configuration.HasField("location_type")


def effective(
    configuration: ConsumptionReportingConfiguration,
    own_addresses: Sequence[str],
    default_interval_s: int | None = None,
) -> ClientConsumptionReportingConfiguration:
    """The configuration as clients get it; reports go to ``own_addresses`` unless the provider names servers.

    A server named by FQDN alone is reached by http, as all of this core is. Where the provider leaves the interval to
    the AF, it is the default; None: reports come at the start, the end and at changes only.
    """
    servers = [
        address if "://" in address else f"http://{address}"
        for address in configuration.consumption_reporting_server_address
    ]
    client = ClientConsumptionReportingConfiguration(
        server_addresses=servers or own_addresses,
        location_reporting=location_is_on(configuration),
        access_reporting=configuration.access_reporting,
        sample_percentage=configuration.sample_percentage if configuration.HasField("sample_percentage") else 100.0,
    )
    if configuration.HasField("reporting_interval_s"):
        client.reporting_interval_s = configuration.reporting_interval_s
    elif default_interval_s is not None:
        client.reporting_interval_s = default_interval_s
    return client


def in_force(
    configuration: ConsumptionReportingConfiguration, own_addresses: Sequence[str], default_interval_s: int
) -> ConsumptionReportingConfiguration:
    """The configuration with all that the AF decides filled in (the draft's acquisition, §5.4.3.3)."""
    client = effective(configuration, own_addresses, default_interval_s)
    filled = ConsumptionReportingConfiguration(
        provisioning_session_id=configuration.provisioning_session_id,
        reporting_interval_s=client.reporting_interval_s,
        sample_percentage=client.sample_percentage,
        location_reporting=client.location_reporting,
        access_reporting=client.access_reporting,
        consumption_reporting_server_address=configuration.consumption_reporting_server_address or own_addresses,
        etag=configuration.etag,
    )
    if configuration.HasField("location_type"):
        filled.location_type = configuration.location_type
    return filled


def _violations(configuration: ConsumptionReportingConfiguration) -> Iterator[tuple[str, str]]:
    if configuration.HasField("reporting_interval_s") and configuration.reporting_interval_s == 0:
        yield "reporting_interval_s", "expected at least 1 second, found 0 (leave it out to let the AF decide)"
    # Not a number is not between them either.
    if configuration.HasField("sample_percentage") and not 0.0 <= configuration.sample_percentage <= 100.0:
        yield "sample_percentage", f"expected 0 to 100, found {configuration.sample_percentage}"
    if configuration.HasField("location_type"):
        if configuration.location_type not in LOCATION_TYPES:
            yield "location_type", f"expected 0 (CGI), 1 (ECGI) or 2 (NCGI), found {configuration.location_type}"
        if configuration.HasField("location_reporting") and not configuration.location_reporting:
            yield "location_reporting", "expected true, or no location_type: a type turns location reporting on"
    for index, address in enumerate(configuration.consumption_reporting_server_address):
        if not _is_destination(address):
            yield (
                f"consumption_reporting_server_address[{index}]",
                f"expected FQDN[:port] or an absolute http(s) URL, found {address!r}",
            )


def _is_destination(address: str) -> bool:
    if "://" not in address:
        match = _FQDN_AND_PORT.fullmatch(address)
        return match is not None and _is_host(match["host"]) and 0 < int(match["port"] or 80) <= 65535
    if not address.isascii() or not address.isprintable() or " " in address:
        return False
    try:
        url = urllib.parse.urlsplit(address)
        return url.scheme in ("http", "https") and _is_host(url.hostname or "") and url.port != 0 and not url.fragment
    except ValueError:
        return False


def _is_host(host: str) -> bool:
    # A regular expression is no destination, so the host of a URL is held to the same form.
    if ":" in host:
        return bool(ipaddress.IPv6Address(host))
    return len(host) <= _MAX_FQDN_LENGTH and _FQDN.fullmatch(host) is not None
