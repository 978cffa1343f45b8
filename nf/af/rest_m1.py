"""M1 over HTTP: what Application Providers set up, as the final APIs of TS 26.512 §7 have it."""

from __future__ import annotations

from collections.abc import Mapping

from nf.af import provisioning
from nf.af.providers import AUTHORIZATION, Provider, Providers
from nf.af.rest_m1_answers import Call, answer, check
from nf.af.rest_m1_metrics import tell_metrics
from nf.af.v1 import provisioning_pb2 as m1
from nf.common.rest import Answer, Door
from nf.common.store import Store, Transaction

PREFIX = "/3gpp-m1/v2"
SESSIONS = "/provisioning-sessions"
SESSION = f"{SESSIONS}/{{provisioningSessionId}}"
CONSUMPTION = f"{SESSION}/consumption-reporting-configuration"
TEMPLATES = f"{SESSION}/policy-templates"
TEMPLATE = f"{TEMPLATES}/{{policyTemplateId}}"
PROTOCOLS = f"{SESSION}/protocols"


def build_door(store: Store, providers: Providers) -> Door[Provider]:
    """The door of M1. A provider's credential is the bearer token of the configuration; without providers, none."""

    def identify(headers: Mapping[str, str]) -> Provider:
        return providers.identify(headers.get(AUTHORIZATION, ""))

    door: Door[Provider] = Door(
        PREFIX,
        title="M1: provisioning",
        version="2.2.1",
        description="What an Application Provider sets up at the 5GMS AF (TS 26.512 §7).",
        identify=identify,
        secured=providers.configured,
    )
    _tell_sessions(door, M1Sessions(store))
    _tell_consumption(door, M1Consumption(store))
    _tell_templates(door, M1Templates(store))
    tell_metrics(door, store)
    return door


class M1Sessions:
    """Provisioning sessions and what they may use (TS 26.512 §7.2, §7.5)."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, call: Call) -> Answer:
        """A new session."""
        request = m1.CreateProvisioningSessionRequest(provisioning_session=call.message(m1.ProvisioningSession))
        session = await self._store.write(lambda tx: provisioning.create_session(tx, request, call.caller))
        return answer(201, session, location=f"{call.url}/{session.provisioning_session_id}")

    async def read(self, call: Call) -> Answer:
        """The session."""
        name = call.path["provisioningSessionId"]
        return answer(200, await self._store.read(lambda tx: provisioning.require_session(tx, name, call.caller)))

    async def delete(self, call: Call) -> Answer:
        """Destroys the session with all that stands on it."""
        request = m1.DeleteProvisioningSessionRequest(provisioning_session_id=call.path["provisioningSessionId"])

        def delete(transaction: Transaction) -> None:
            session = provisioning.require_session(transaction, request.provisioning_session_id, call.caller)
            check(call, session, f"provisioning session {session.provisioning_session_id!r}")
            provisioning.delete_session(transaction, request, call.caller)

        await self._store.write(delete)
        return Answer(204)

    async def protocols(self, call: Call) -> Answer:
        """The content protocols of the session."""
        name = call.path["provisioningSessionId"]
        return Answer(200, await self._store.read(lambda tx: provisioning.content_protocols(tx, name, call.caller)))


class M1Consumption:
    """The consumption reporting configuration of a session (TS 26.512 §7.7)."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, call: Call) -> Answer:
        """Activates consumption reporting."""
        request = m1.CreateConsumptionReportingConfigurationRequest(
            provisioning_session_id=call.path["provisioningSessionId"],
            consumption_reporting_configuration=call.message(m1.ConsumptionReportingConfiguration),
        )
        made = await self._store.write(lambda tx: provisioning.create_consumption_reporting(tx, request, call.caller))
        return answer(201, made, location=call.url)

    async def read(self, call: Call) -> Answer:
        """The configuration as it was set."""
        name = call.path["provisioningSessionId"]
        return answer(
            200,
            await self._store.read(
                lambda reader: provisioning.require_consumption_reporting(reader, name, call.caller)
            ),
        )

    async def replace(self, call: Call) -> m1.ConsumptionReportingConfiguration:
        """The configuration after PUT: what is not set is cleared."""
        return await self._store.write(
            lambda tx: self._change(tx, call, call.message(m1.ConsumptionReportingConfiguration))
        )

    async def patch(self, call: Call) -> m1.ConsumptionReportingConfiguration:
        """The configuration after PATCH."""

        def change(transaction: Transaction) -> m1.ConsumptionReportingConfiguration:
            name = call.path["provisioningSessionId"]
            current = provisioning.require_consumption_reporting(transaction, name, call.caller)
            return self._change(transaction, call, call.patched(current))

        return await self._store.write(change)

    async def delete(self, call: Call) -> None:
        """Ends consumption reporting."""
        request = m1.DeleteConsumptionReportingConfigurationRequest(
            provisioning_session_id=call.path["provisioningSessionId"]
        )

        def delete(transaction: Transaction) -> None:
            self._check(transaction, call)
            provisioning.delete_consumption_reporting(transaction, request, call.caller)

        await self._store.write(delete)

    def _check(self, transaction: Transaction, call: Call) -> None:
        name = call.path["provisioningSessionId"]
        current = provisioning.require_consumption_reporting(transaction, name, call.caller)
        check(call, current, f"the consumption reporting configuration of {name!r}")

    def _change(
        self, transaction: Transaction, call: Call, wanted: m1.ConsumptionReportingConfiguration
    ) -> m1.ConsumptionReportingConfiguration:
        self._check(transaction, call)
        request = m1.UpdateConsumptionReportingConfigurationRequest(consumption_reporting_configuration=wanted)
        changes = request.consumption_reporting_configuration
        changes.provisioning_session_id = call.path["provisioningSessionId"]
        changes.etag = ""
        return provisioning.update_consumption_reporting(transaction, request, call.caller)


class M1Templates:
    """The policy templates of a session (TS 26.512 §7.9)."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, call: Call) -> Answer:
        """A new template, PENDING."""
        request = m1.CreatePolicyTemplateRequest(
            provisioning_session_id=call.path["provisioningSessionId"], policy_template=call.message(m1.PolicyTemplate)
        )
        made = await self._store.write(lambda tx: provisioning.create_template(tx, request, call.caller))
        return answer(201, made, location=f"{call.url}/{made.policy_template_id}")

    async def read(self, call: Call) -> Answer:
        """The template."""
        session, name = call.path["provisioningSessionId"], call.path["policyTemplateId"]
        return answer(
            200,
            await self._store.read(lambda reader: provisioning.require_template(reader, session, name, call.caller)),
        )

    async def replace(self, call: Call) -> Answer:
        """PUT: what is not set is cleared."""
        changed = await self._store.write(lambda tx: self._change(tx, call, call.message(m1.PolicyTemplate)))
        return answer(204, changed, body=False)

    async def patch(self, call: Call) -> Answer:
        """PATCH."""
        changed = await self._store.write(lambda tx: self._change(tx, call, call.patched(self._current(tx, call))))
        return answer(200, changed)

    async def delete(self, call: Call) -> Answer:
        """Destroys the template and the dynamic policies that stand on it."""
        request = m1.DeletePolicyTemplateRequest(
            provisioning_session_id=call.path["provisioningSessionId"], policy_template_id=call.path["policyTemplateId"]
        )

        def delete(transaction: Transaction) -> None:
            current = self._current(transaction, call)
            check(call, current, f"policy template {current.policy_template_id!r}")
            provisioning.delete_template(transaction, request, call.caller)

        await self._store.write(delete)
        return Answer(204)

    def _current(self, transaction: Transaction, call: Call) -> m1.PolicyTemplate:
        session, name = call.path["provisioningSessionId"], call.path["policyTemplateId"]
        return provisioning.require_template(transaction, session, name, call.caller)

    def _change(self, transaction: Transaction, call: Call, wanted: m1.PolicyTemplate) -> m1.PolicyTemplate:
        current = self._current(transaction, call)
        check(call, current, f"policy template {current.policy_template_id!r}")
        request = m1.UpdatePolicyTemplateRequest(policy_template=wanted)
        changes = request.policy_template
        changes.provisioning_session_id = current.provisioning_session_id
        changes.policy_template_id = current.policy_template_id
        changes.etag = ""
        return provisioning.update_template(transaction, request, call.caller)


def _tell_sessions(door: Door[Provider], sessions: M1Sessions) -> None:
    kind = m1.ProvisioningSession
    door.operation(
        "POST",
        SESSIONS,
        sessions.create,
        operation_id="createProvisioningSession",
        summary="Creates a provisioning session",
        request=kind,
        answers={201: kind},
        errors=(403,),
    )
    door.operation(
        "GET",
        SESSION,
        sessions.read,
        operation_id="getProvisioningSessionById",
        summary="Reads a provisioning session",
        answers={200: kind},
    )
    door.operation(
        "DELETE",
        SESSION,
        sessions.delete,
        operation_id="destroyProvisioningSession",
        summary="Destroys a provisioning session with all that stands on it",
        answers={204: None},
    )
    door.operation(
        "GET",
        PROTOCOLS,
        sessions.protocols,
        operation_id="retrieveContentProtocols",
        summary="Reads which content protocols a provisioning session may use",
        answers={200: m1.ContentProtocols},
        conditional=False,
    )


def _tell_consumption(door: Door[Provider], consumption: M1Consumption) -> None:
    kind = m1.ConsumptionReportingConfiguration

    async def replace(call: Call) -> Answer:
        return answer(204, await consumption.replace(call), body=False)

    async def patch(call: Call) -> Answer:
        return answer(200, await consumption.patch(call))

    async def delete(call: Call) -> Answer:
        await consumption.delete(call)
        return Answer(204)

    door.operation(
        "POST",
        CONSUMPTION,
        consumption.create,
        operation_id="activateConsumptionReporting",
        summary="Activates consumption reporting for a provisioning session",
        request=kind,
        answers={201: kind},
        errors=(403, 409),
    )
    door.operation(
        "GET",
        CONSUMPTION,
        consumption.read,
        operation_id="retrieveConsumptionReportingConfiguration",
        summary="Reads the consumption reporting configuration as it was set",
        answers={200: kind},
    )
    door.operation(
        "PUT",
        CONSUMPTION,
        replace,
        operation_id="updateConsumptionReportingConfiguration",
        summary="Replaces the consumption reporting configuration",
        request=kind,
        answers={204: None},
        errors=(403,),
    )
    door.operation(
        "PATCH",
        CONSUMPTION,
        patch,
        operation_id="patchConsumptionReportingConfiguration",
        summary="Changes the consumption reporting configuration",
        request=kind,
        answers={200: kind},
        errors=(403,),
    )
    door.operation(
        "DELETE",
        CONSUMPTION,
        delete,
        operation_id="destroyConsumptionReportingConfiguration",
        summary="Ends consumption reporting",
        answers={204: None},
    )


def _tell_templates(door: Door[Provider], templates: M1Templates) -> None:
    kind = m1.PolicyTemplate
    door.operation(
        "POST",
        TEMPLATES,
        templates.create,
        operation_id="createPolicyTemplate",
        summary="Creates a policy template, which is PENDING until it has been validated",
        request=kind,
        answers={201: kind},
        errors=(409,),
    )
    door.operation(
        "GET",
        TEMPLATE,
        templates.read,
        operation_id="retrievePolicyTemplate",
        summary="Reads a policy template",
        answers={200: kind},
    )
    door.operation(
        "PUT",
        TEMPLATE,
        templates.replace,
        operation_id="updatePolicyTemplate",
        summary="Replaces a policy template, which is PENDING again",
        request=kind,
        answers={204: None},
        errors=(409,),
    )
    door.operation(
        "PATCH",
        TEMPLATE,
        templates.patch,
        operation_id="patchPolicyTemplate",
        summary="Changes a policy template, which is PENDING again",
        request=kind,
        answers={200: kind},
    )
    door.operation(
        "DELETE",
        TEMPLATE,
        templates.delete,
        operation_id="destroyPolicyTemplate",
        summary="Destroys a policy template and the dynamic policies that stand on it",
        answers={204: None},
    )
