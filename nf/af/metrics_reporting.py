"""Metrics reporting configurations: one transaction each at M1, and what clients are told (TS 26.512 §7.8, §11.2.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from nf.af.providers import Provider
from nf.af.provisioning import MAX_RESOURCE_BYTES, require_session
from nf.af.v1 import metrics_reporting_pb2 as messages
from nf.af.v1.media_session_pb2 import ClientMetricsReportingConfiguration
from nf.af.v1.metrics_reporting_pb2 import MetricsReportingConfiguration
from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.reader import not_found
from nf.common.resources import apply_mask, new_id
from nf.common.store import Page, Reader, Transaction

# What a provider may set, and so change.
SETTABLE: Final = (
    "scheme",
    "data_network_name",
    "reporting_interval_s",
    "sample_percentage",
    "url_filters",
    "sampling_period_s",
    "metrics",
)
# The scheme of 3GP-DASH QoE reports (TS 26.247), where none is named.
DEFAULT_SCHEME: Final = "urn:3GPP:ns:PSS:DASH:QM10"
MAX_CONFIGURATIONS: Final = 100


def create(
    transaction: Transaction, request: messages.CreateMetricsReportingConfigurationRequest, provider: Provider
) -> MetricsReportingConfiguration:
    """Adds a configuration to a session. Raises InvalidArgument, naming every property at fault, and NotFound."""

    def add() -> MetricsReportingConfiguration:
        session = require_session(transaction, request.provisioning_session_id, provider)
        wanted = request.metrics_reporting_configuration
        made = apply_mask(MetricsReportingConfiguration(), wanted, FieldMask(), SETTABLE)
        _check(made)
        if len(session.metrics_reporting_configuration_ids) >= MAX_CONFIGURATIONS:
            raise InvalidArgument.of(
                "provisioning_session_id", f"expected at most {MAX_CONFIGURATIONS} metrics reporting configurations"
            )
        made.provisioning_session_id = session.provisioning_session_id
        made.metrics_reporting_configuration_id = new_id()
        made.create_time.FromDatetime(transaction.clock.now())
        stored = transaction.insert(
            made, made.metrics_reporting_configuration_id, parent=session.provisioning_session_id
        )
        session.metrics_reporting_configuration_ids.append(made.metrics_reporting_configuration_id)
        transaction.update(session, session.provisioning_session_id)
        return stored

    return transaction.once(request.request_id, provider.scoped("CreateMetricsReportingConfiguration"), request, add)


def require(
    reader: Reader, provisioning_session_id: str, metrics_reporting_configuration_id: str, provider: Provider
) -> MetricsReportingConfiguration:
    """The configuration, if it is of that session. Raises NotFound."""
    require_session(reader, provisioning_session_id, provider)
    return of_session(reader, provisioning_session_id, metrics_reporting_configuration_id)


def of_session(
    reader: Reader, provisioning_session_id: str, metrics_reporting_configuration_id: str
) -> MetricsReportingConfiguration:
    """The configuration, if it is of that session, whoever asks. Raises NotFound."""
    found = reader.require(MetricsReportingConfiguration, metrics_reporting_configuration_id)
    if found.provisioning_session_id != provisioning_session_id:
        raise not_found(MetricsReportingConfiguration, metrics_reporting_configuration_id)
    return found


def list_page(
    reader: Reader, request: messages.ListMetricsReportingConfigurationsRequest, provider: Provider
) -> Page[MetricsReportingConfiguration]:
    """One page of the configurations of a session."""
    session = require_session(reader, request.provisioning_session_id, provider)
    return reader.list(
        MetricsReportingConfiguration,
        parent=session.provisioning_session_id,
        page_size=request.page_size,
        page_token=request.page_token,
    )


def update(
    transaction: Transaction, request: messages.UpdateMetricsReportingConfigurationRequest, provider: Provider
) -> MetricsReportingConfiguration:
    """Changes a configuration; what is masked and not set is cleared. Raises EtagMismatch, InvalidArgument."""
    changes = request.metrics_reporting_configuration
    name = changes.metrics_reporting_configuration_id
    current = require(transaction, changes.provisioning_session_id, name, provider)
    changed = apply_mask(current, changes, request.update_mask, SETTABLE)
    _check(changed)
    return transaction.update(changed, name, expect_etag=changes.etag)


def delete(
    transaction: Transaction, request: messages.DeleteMetricsReportingConfigurationRequest, provider: Provider
) -> None:
    """Removes a configuration; what was reported by it stays. Raises EtagMismatch, NotFound."""
    name = request.metrics_reporting_configuration_id
    current = require(transaction, request.provisioning_session_id, name, provider)
    transaction.delete(MetricsReportingConfiguration, name, expect_etag=request.etag)
    session = require_session(transaction, current.provisioning_session_id, provider)
    session.metrics_reporting_configuration_ids.remove(name)
    transaction.update(session, session.provisioning_session_id)


def announced(
    configurations: Iterable[MetricsReportingConfiguration], own_addresses: Sequence[str]
) -> list[ClientMetricsReportingConfiguration]:
    """The configurations as clients get them; reports go to ``own_addresses``."""
    return [_announced(each, own_addresses) for each in configurations]


def _announced(
    configuration: MetricsReportingConfiguration, own_addresses: Sequence[str]
) -> ClientMetricsReportingConfiguration:
    client = ClientMetricsReportingConfiguration(
        server_addresses=own_addresses,
        scheme=configuration.scheme or DEFAULT_SCHEME,
        data_network_name=configuration.data_network_name,
        sample_percentage=configuration.sample_percentage if configuration.HasField("sample_percentage") else 100.0,
        url_filters=configuration.url_filters,
        sampling_period_s=configuration.sampling_period_s,
        metrics=configuration.metrics,
        metrics_reporting_configuration_id=configuration.metrics_reporting_configuration_id,
    )
    if configuration.HasField("reporting_interval_s"):
        client.reporting_interval_s = configuration.reporting_interval_s
    return client


def _check(configuration: MetricsReportingConfiguration) -> None:
    if configuration.ByteSize() > MAX_RESOURCE_BYTES:
        raise InvalidArgument.of(
            "metrics_reporting_configuration",
            f"expected at most {MAX_RESOURCE_BYTES} bytes, found {configuration.ByteSize()}",
        )
    violations = [FieldViolation(field, why) for field, why in _violations(configuration)]
    if violations:
        raise InvalidArgument.of_all(violations)


def _violations(configuration: MetricsReportingConfiguration) -> Iterator[tuple[str, str]]:
    scheme = configuration.scheme
    if scheme and (":" not in scheme or not scheme.isascii() or not scheme.isprintable() or " " in scheme):
        yield "scheme", f"expected an absolute URI, found {scheme[:64]!r}"
    if configuration.HasField("reporting_interval_s") and configuration.reporting_interval_s == 0:
        yield "reporting_interval_s", "expected at least 1 second, found 0 (leave it out for one report at the end)"
    # Not a number is not between them either.
    if configuration.HasField("sample_percentage") and not 0.0 <= configuration.sample_percentage <= 100.0:
        yield "sample_percentage", f"expected 0 to 100, found {configuration.sample_percentage}"
    if not configuration.HasField("sampling_period_s"):
        yield "sampling_period_s", "expected the seconds between two samples, found nothing"
    elif configuration.sampling_period_s == 0:
        yield "sampling_period_s", "expected at least 1 second, found 0"
    for field, values in (("url_filters", configuration.url_filters), ("metrics", configuration.metrics)):
        for index, value in enumerate(values):
            if not value:
                yield f"{field}[{index}]", "expected text, found nothing"
