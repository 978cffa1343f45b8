"""M1, one transaction each: provisioning sessions, their templates, their consumption reporting (TS 26.512 §7).

Everything below a provisioning session goes with it. ``provider`` is who asks: what is another's is not there for it.
"""

from __future__ import annotations

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from nf.af import consumption_reporting, consumption_sessions, policy_templates
from nf.af.errors import ConsumptionReportingAlreadyActive, ExternalReferenceInUse, LocationReportingNotAllowed
from nf.af.machine import TemplateEvent, TemplateState
from nf.af.policy_templates import TemplateLimits
from nf.af.providers import Provider
from nf.af.transitions import step_template
from nf.af.v1 import provisioning_pb2 as m1
from nf.af.v1.metrics_reporting_pb2 import MetricsReportingConfiguration
from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.reader import not_found
from nf.common.resources import apply_mask, check_etag, copy_of, new_id
from nf.common.store import Page, Reader, Transaction
from nf.pcf.v1.operator_policies_pb2 import QosReference

# No session, template or configuration that means something comes near to it.
MAX_RESOURCE_BYTES = 65_536
# Set where every session stands below its provider.
_BY_PROVIDER = "provisioning-sessions-by-provider"


def create_session(
    transaction: Transaction, request: m1.CreateProvisioningSessionRequest, provider: Provider
) -> m1.ProvisioningSession:
    """A new session, of the provider that asks unless an operator names another.

    Raises NotOwnAspId, and InvalidArgument when the type or the application is missing or an entry point is none.
    """
    wanted = request.provisioning_session
    asp_id = provider.own_asp_id(wanted.asp_id)
    _check_size(wanted, "provisioning_session")
    violations = []
    if wanted.provisioning_session_type not in m1.ProvisioningSessionType.values()[1:]:
        violations.append(
            FieldViolation("provisioning_session.provisioning_session_type", "expected DOWNLINK or UPLINK")
        )
    if not wanted.app_id:
        violations.append(
            FieldViolation("provisioning_session.app_id", "expected the external application identifier, found nothing")
        )
    for index, entry in enumerate(wanted.entry_points):
        path = f"provisioning_session.entry_points[{index}]"
        if "://" not in entry.locator:
            violations.append(FieldViolation(f"{path}.locator", f"expected an absolute URL, found {entry.locator!r}"))
        if not entry.content_type:
            violations.append(FieldViolation(f"{path}.content_type", "expected a media type, found nothing"))
    if violations:
        raise InvalidArgument.of_all(violations)

    def create() -> m1.ProvisioningSession:
        session = m1.ProvisioningSession(
            provisioning_session_id=new_id(),
            provisioning_session_type=wanted.provisioning_session_type,
            asp_id=asp_id,
            app_id=wanted.app_id,
            entry_points=wanted.entry_points,
        )
        session.create_time.FromDatetime(transaction.clock.now())
        return transaction.insert(session, session.provisioning_session_id, parent=asp_id)

    return transaction.once(request.request_id, provider.scoped("CreateProvisioningSession"), request, create)


def adopt_sessions(transaction: Transaction) -> None:
    """Puts the sessions that were made before there were providers below theirs, so that lists find them."""
    if transaction.cursor(_BY_PROVIDER):
        return
    for session in transaction.all(m1.ProvisioningSession, parent=""):
        if session.asp_id:
            transaction.put(session, session.provisioning_session_id, parent=session.asp_id)
    transaction.set_cursor(_BY_PROVIDER, 1)


def list_sessions(
    reader: Reader, request: m1.ListProvisioningSessionsRequest, provider: Provider
) -> Page[m1.ProvisioningSession]:
    """One page of the sessions that the provider may see."""
    return reader.list(
        m1.ProvisioningSession, parent=provider.sees, page_size=request.page_size, page_token=request.page_token
    )


def delete_session(transaction: Transaction, request: m1.DeleteProvisioningSessionRequest, provider: Provider) -> None:
    """Destroys a session, its templates and configurations, and the dynamic policies that stand on them."""
    session = require_session(transaction, request.provisioning_session_id, provider)
    check_etag(session.etag, request.etag, f"ProvisioningSession {session.provisioning_session_id!r}")
    for template in transaction.all(m1.PolicyTemplate, parent=session.provisioning_session_id):
        step_template(transaction, template, TemplateEvent.DELETED)
    transaction.delete(m1.ConsumptionReportingConfiguration, session.provisioning_session_id)
    consumption_sessions.end_all(transaction, session.provisioning_session_id)
    for name in session.metrics_reporting_configuration_ids:
        transaction.delete(MetricsReportingConfiguration, name)
    transaction.delete(m1.ProvisioningSession, session.provisioning_session_id)


def create_template(
    transaction: Transaction, request: m1.CreatePolicyTemplateRequest, provider: Provider
) -> m1.PolicyTemplate:
    """A new template, PENDING until it is validated. Raises ExternalReferenceInUse."""
    _check_size(request.policy_template, "policy_template")

    def create() -> m1.PolicyTemplate:
        session = require_session(transaction, request.provisioning_session_id, provider)
        template = apply_mask(m1.PolicyTemplate(), request.policy_template, FieldMask(), policy_templates.SETTABLE)
        template.provisioning_session_id = session.provisioning_session_id
        template.policy_template_id = new_id()
        template.state = m1.PolicyTemplate.STATE_PENDING
        template.state_reason.CopyFrom(policy_templates.state_reason(TemplateState.PENDING))
        template.create_time.FromDatetime(transaction.clock.now())
        _check_reference(transaction, template)
        stored = transaction.insert(
            template,
            template.policy_template_id,
            parent=session.provisioning_session_id,
            due=transaction.clock.now(),
        )
        session.policy_template_ids.append(stored.policy_template_id)
        transaction.update(session, session.provisioning_session_id)
        return stored

    return transaction.once(request.request_id, provider.scoped("CreatePolicyTemplate"), request, create)


def list_templates(
    reader: Reader, request: m1.ListPolicyTemplatesRequest, provider: Provider
) -> Page[m1.PolicyTemplate]:
    """One page of the templates of a session."""
    session = require_session(reader, request.provisioning_session_id, provider)
    return reader.list(
        m1.PolicyTemplate,
        parent=session.provisioning_session_id,
        page_size=request.page_size,
        page_token=request.page_token,
    )


def update_template(
    transaction: Transaction, request: m1.UpdatePolicyTemplateRequest, provider: Provider
) -> m1.PolicyTemplate:
    """Changes a template, which is PENDING again; a SUSPENDED one stays so. Raises ExternalReferenceInUse."""
    changes = request.policy_template
    template = require_template(transaction, changes.provisioning_session_id, changes.policy_template_id, provider)
    check_etag(template.etag, changes.etag, f"PolicyTemplate {template.policy_template_id!r}")
    changed = apply_mask(template, changes, request.update_mask, policy_templates.SETTABLE)
    _check_size(changed, "policy_template")
    _check_reference(transaction, changed)
    return step_template(transaction, changed, TemplateEvent.UPDATED)


def delete_template(transaction: Transaction, request: m1.DeletePolicyTemplateRequest, provider: Provider) -> None:
    """Destroys a template and the dynamic policies that stand on it."""
    template = require_template(transaction, request.provisioning_session_id, request.policy_template_id, provider)
    check_etag(template.etag, request.etag, f"PolicyTemplate {template.policy_template_id!r}")
    step_template(transaction, template, TemplateEvent.DELETED)
    session = require_session(transaction, template.provisioning_session_id, provider)
    session.policy_template_ids.remove(template.policy_template_id)
    transaction.update(session, session.provisioning_session_id)


def suspend_template(
    transaction: Transaction, request: m1.SuspendPolicyTemplateRequest, provider: Provider
) -> m1.PolicyTemplate:
    """The operator withdraws a READY template. Raises OperatorOnly, and InvalidTransition in any other state."""
    template = require_template(transaction, request.provisioning_session_id, request.policy_template_id, provider)
    provider.check_operator("suspend a policy template")
    return step_template(transaction, template, TemplateEvent.WITHDRAWN, detail=request.detail)


def resume_template(
    transaction: Transaction, request: m1.ResumePolicyTemplateRequest, provider: Provider
) -> m1.PolicyTemplate:
    """The operator gives a SUSPENDED template back. Raises OperatorOnly, and InvalidTransition in any other state."""
    template = require_template(transaction, request.provisioning_session_id, request.policy_template_id, provider)
    provider.check_operator("resume a policy template")
    return step_template(transaction, template, TemplateEvent.RESUMED)


def validate_template(
    transaction: Transaction, policy_template_id: str, limits: TemplateLimits, arranged: QosReference | None
) -> None:
    """Makes a PENDING template READY or INVALID; one that is not PENDING any more stays as it is.

    ``arranged`` is what the operator has arranged under the template's QoS reference, its name alone where that is
    nothing. A template that has come to another reference meanwhile stays PENDING, and is due again.
    """
    template = transaction.get(m1.PolicyTemplate, policy_template_id)
    if template is None or template.state != m1.PolicyTemplate.STATE_PENDING:
        return
    named = template.qos_specification.qos_reference
    if named and (arranged is None or arranged.qos_reference != named):
        return
    problems = policy_templates.validate(template, limits, arranged)
    if problems:
        step_template(transaction, template, TemplateEvent.REFUSED, invalid_params=problems)
    else:
        step_template(transaction, template, TemplateEvent.VALIDATED)


def create_consumption_reporting(
    transaction: Transaction,
    request: m1.CreateConsumptionReportingConfigurationRequest,
    provider: Provider,
) -> m1.ConsumptionReportingConfiguration:
    """Activates consumption reporting. Raises ConsumptionReportingAlreadyActive for a second one."""
    session = require_session(transaction, request.provisioning_session_id, provider)
    name = session.provisioning_session_id
    wanted = copy_of(request.consumption_reporting_configuration)
    wanted.provisioning_session_id = name
    _check_consumption(wanted, session, provider)
    if transaction.get(m1.ConsumptionReportingConfiguration, name) is not None:
        raise ConsumptionReportingAlreadyActive(
            f"provisioning session {name!r} has a consumption reporting configuration already: change it instead"
        )
    return transaction.insert(wanted, name, parent=name, lookups={consumption_sessions.ASP_ID: session.asp_id})


def update_consumption_reporting(
    transaction: Transaction,
    request: m1.UpdateConsumptionReportingConfigurationRequest,
    provider: Provider,
) -> m1.ConsumptionReportingConfiguration:
    """Changes the configuration; what is masked and not set is cleared."""
    changes = request.consumption_reporting_configuration
    session = require_session(transaction, changes.provisioning_session_id, provider)
    current = require_consumption_reporting(transaction, session.provisioning_session_id, provider)
    changed = apply_mask(current, changes, request.update_mask, consumption_reporting.SETTABLE)
    _check_consumption(changed, session, provider)
    return transaction.update(changed, session.provisioning_session_id, expect_etag=changes.etag)


def delete_consumption_reporting(
    transaction: Transaction, request: m1.DeleteConsumptionReportingConfigurationRequest, provider: Provider
) -> None:
    """Ends consumption reporting, and the reporting sessions; what was reported stays."""
    current = require_consumption_reporting(transaction, request.provisioning_session_id, provider)
    transaction.delete(m1.ConsumptionReportingConfiguration, current.provisioning_session_id, expect_etag=request.etag)
    consumption_sessions.end_all(transaction, current.provisioning_session_id)


def content_protocols(reader: Reader, provisioning_session_id: str, provider: Provider) -> m1.ContentProtocols:
    """The content protocols of a session: none, for this AF directs no application server. Raises NotFound."""
    require_session(reader, provisioning_session_id, provider)
    return m1.ContentProtocols()


def require_session(reader: Reader, provisioning_session_id: str, provider: Provider) -> m1.ProvisioningSession:
    """The session, if the provider may use it. Raises NotFound."""
    session = reader.require(m1.ProvisioningSession, provisioning_session_id)
    provider.check(session)
    return session


def require_template(
    reader: Reader, provisioning_session_id: str, policy_template_id: str, provider: Provider
) -> m1.PolicyTemplate:
    """The template, if it is of that session. Raises NotFound."""
    require_session(reader, provisioning_session_id, provider)
    template = reader.require(m1.PolicyTemplate, policy_template_id)
    if template.provisioning_session_id != provisioning_session_id:
        raise not_found(m1.PolicyTemplate, policy_template_id)
    return template


def require_consumption_reporting(
    reader: Reader, provisioning_session_id: str, provider: Provider
) -> m1.ConsumptionReportingConfiguration:
    """The configuration of a session. Raises NotFound."""
    require_session(reader, provisioning_session_id, provider)
    return reader.require(m1.ConsumptionReportingConfiguration, provisioning_session_id)


def _check_size(message: Message, field: str) -> None:
    # Everything that is stored is told again: in lists, in events, in service access information.
    if message.ByteSize() > MAX_RESOURCE_BYTES:
        raise InvalidArgument.of(field, f"expected at most {MAX_RESOURCE_BYTES} bytes, found {message.ByteSize()}")


def _check_reference(reader: Reader, template: m1.PolicyTemplate) -> None:
    # A template without a reference is INVALID, which the validation says.
    if not template.external_reference:
        return
    for other in reader.all(m1.PolicyTemplate, parent=template.provisioning_session_id):
        same = other.external_reference == template.external_reference
        if same and other.policy_template_id != template.policy_template_id:
            raise ExternalReferenceInUse(
                f"external_reference {template.external_reference!r} is used by policy template"
                f" {other.policy_template_id!r} of the same provisioning session",
                violations=(FieldViolation("policy_template.external_reference", "used by another template"),),
            )


def _check_consumption(
    configuration: m1.ConsumptionReportingConfiguration,
    session: m1.ProvisioningSession,
    provider: Provider,
) -> None:
    _check_size(configuration, "consumption_reporting_configuration")
    consumption_reporting.check(configuration)
    if consumption_reporting.location_is_on(configuration) and not provider.may_ask_location(session):
        raise LocationReportingNotAllowed(
            f"application provider {session.asp_id!r} may not ask for the location of UEs",
            violations=(FieldViolation("location_reporting", "only for providers that the operator trusts"),),
        )
