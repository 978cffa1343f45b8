"""What the handlers of M1 over HTTP have in common: answers with validators, and preconditions."""

from __future__ import annotations

from google.protobuf.message import Message

from nf.af.providers import Provider
from nf.af.v1.metrics_reporting_pb2 import MetricsReportingConfiguration
from nf.af.v1.provisioning_pb2 import ConsumptionReportingConfiguration, PolicyTemplate, ProvisioningSession
from nf.common.rest import Answer, RestCall

Call = RestCall[Provider]
Resource = ProvisioningSession | PolicyTemplate | ConsumptionReportingConfiguration | MetricsReportingConfiguration


def answer(status: int, resource: Resource, *, location: str = "", body: bool = True) -> Answer:
    """The answer about a resource, with its validators."""
    shown: Message | None = resource if body else None
    return Answer(status, shown, etag=resource.etag, last_modified=resource.update_time, location=location)


def check(call: Call, resource: Resource, what: str) -> None:
    """Raises EtagMismatch when the request was meant for another state of the resource."""
    call.check_preconditions(what, resource.etag, resource.update_time)
