"""M1: the AF's gRPC services for Application Providers (TS 26.512 §7). Requests to the domain, its answers back."""

from __future__ import annotations

from nf.af import provisioning
from nf.af.config import AfSection
from nf.af.v1 import provisioning_pb2 as m1
from nf.af.v1.provisioning_pb2_grpc import (
    ConsumptionReportingProvisioningServiceServicer,
    PolicyTemplatesServiceServicer,
    ProvisioningSessionsServiceServicer,
)
from nf.common.store import Page, Reader, Store


class ProvisioningSessionsService(ProvisioningSessionsServiceServicer):
    """Provisioning sessions (TS 26.512 §7.2)."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def CreateProvisioningSession(
        self, request: m1.CreateProvisioningSessionRequest, context: object
    ) -> m1.CreateProvisioningSessionResponse:
        """Creates a session."""
        session = await self._store.write(lambda tx: provisioning.create_session(tx, request))
        return m1.CreateProvisioningSessionResponse(provisioning_session=session)

    async def GetProvisioningSession(
        self, request: m1.GetProvisioningSessionRequest, context: object
    ) -> m1.GetProvisioningSessionResponse:
        """Reads a session."""
        session = await self._store.read(
            lambda reader: provisioning.require_session(reader, request.provisioning_session_id)
        )
        return m1.GetProvisioningSessionResponse(provisioning_session=session)

    async def ListProvisioningSessions(
        self, request: m1.ListProvisioningSessionsRequest, context: object
    ) -> m1.ListProvisioningSessionsResponse:
        """Lists sessions."""
        page = await self._store.read(
            lambda reader: reader.list(
                m1.ProvisioningSession, page_size=request.page_size, page_token=request.page_token
            )
        )
        return m1.ListProvisioningSessionsResponse(
            provisioning_sessions=page.items, next_page_token=page.next_page_token
        )

    async def DeleteProvisioningSession(
        self, request: m1.DeleteProvisioningSessionRequest, context: object
    ) -> m1.DeleteProvisioningSessionResponse:
        """Destroys a session with all that stands on it."""
        await self._store.write(lambda tx: provisioning.delete_session(tx, request))
        return m1.DeleteProvisioningSessionResponse()


class PolicyTemplatesService(PolicyTemplatesServiceServicer):
    """Policy templates (TS 26.512 §7.9, A.3.2 step 1)."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def CreatePolicyTemplate(
        self, request: m1.CreatePolicyTemplateRequest, context: object
    ) -> m1.CreatePolicyTemplateResponse:
        """Creates a template, PENDING."""
        template = await self._store.write(lambda tx: provisioning.create_template(tx, request))
        return m1.CreatePolicyTemplateResponse(policy_template=template)

    async def GetPolicyTemplate(
        self, request: m1.GetPolicyTemplateRequest, context: object
    ) -> m1.GetPolicyTemplateResponse:
        """Reads a template."""
        template = await self._store.read(
            lambda reader: provisioning.require_template(
                reader, request.provisioning_session_id, request.policy_template_id
            )
        )
        return m1.GetPolicyTemplateResponse(policy_template=template)

    async def ListPolicyTemplates(
        self, request: m1.ListPolicyTemplatesRequest, context: object
    ) -> m1.ListPolicyTemplatesResponse:
        """Lists the templates of a session."""

        def look(reader: Reader) -> Page[m1.PolicyTemplate]:
            session = provisioning.require_session(reader, request.provisioning_session_id)
            return reader.list(
                m1.PolicyTemplate,
                parent=session.provisioning_session_id,
                page_size=request.page_size,
                page_token=request.page_token,
            )

        page = await self._store.read(look)
        return m1.ListPolicyTemplatesResponse(policy_templates=page.items, next_page_token=page.next_page_token)

    async def UpdatePolicyTemplate(
        self, request: m1.UpdatePolicyTemplateRequest, context: object
    ) -> m1.UpdatePolicyTemplateResponse:
        """Changes a template."""
        template = await self._store.write(lambda tx: provisioning.update_template(tx, request))
        return m1.UpdatePolicyTemplateResponse(policy_template=template)

    async def DeletePolicyTemplate(
        self, request: m1.DeletePolicyTemplateRequest, context: object
    ) -> m1.DeletePolicyTemplateResponse:
        """Destroys a template."""
        await self._store.write(lambda tx: provisioning.delete_template(tx, request))
        return m1.DeletePolicyTemplateResponse()

    async def SuspendPolicyTemplate(
        self, request: m1.SuspendPolicyTemplateRequest, context: object
    ) -> m1.SuspendPolicyTemplateResponse:
        """Withdraws a template for the time being."""
        template = await self._store.write(lambda tx: provisioning.suspend_template(tx, request))
        return m1.SuspendPolicyTemplateResponse(policy_template=template)

    async def ResumePolicyTemplate(
        self, request: m1.ResumePolicyTemplateRequest, context: object
    ) -> m1.ResumePolicyTemplateResponse:
        """Gives a template back."""
        template = await self._store.write(lambda tx: provisioning.resume_template(tx, request))
        return m1.ResumePolicyTemplateResponse(policy_template=template)


class ConsumptionReportingProvisioningService(ConsumptionReportingProvisioningServiceServicer):
    """Consumption reporting configurations (TS 26.512 §7.7)."""

    def __init__(self, store: Store, config: AfSection) -> None:
        self._store = store
        self._location_asp_ids = config.location_asp_ids

    async def CreateConsumptionReportingConfiguration(
        self, request: m1.CreateConsumptionReportingConfigurationRequest, context: object
    ) -> m1.CreateConsumptionReportingConfigurationResponse:
        """Activates consumption reporting."""
        configuration = await self._store.write(
            lambda tx: provisioning.create_consumption_reporting(tx, request, self._location_asp_ids)
        )
        return m1.CreateConsumptionReportingConfigurationResponse(consumption_reporting_configuration=configuration)

    async def GetConsumptionReportingConfiguration(
        self, request: m1.GetConsumptionReportingConfigurationRequest, context: object
    ) -> m1.GetConsumptionReportingConfigurationResponse:
        """Reads the configuration as it was set."""
        configuration = await self._store.read(
            lambda reader: provisioning.require_consumption_reporting(reader, request.provisioning_session_id)
        )
        return m1.GetConsumptionReportingConfigurationResponse(consumption_reporting_configuration=configuration)

    async def UpdateConsumptionReportingConfiguration(
        self, request: m1.UpdateConsumptionReportingConfigurationRequest, context: object
    ) -> m1.UpdateConsumptionReportingConfigurationResponse:
        """Changes the configuration."""
        configuration = await self._store.write(
            lambda tx: provisioning.update_consumption_reporting(tx, request, self._location_asp_ids)
        )
        return m1.UpdateConsumptionReportingConfigurationResponse(consumption_reporting_configuration=configuration)

    async def DeleteConsumptionReportingConfiguration(
        self, request: m1.DeleteConsumptionReportingConfigurationRequest, context: object
    ) -> m1.DeleteConsumptionReportingConfigurationResponse:
        """Ends consumption reporting."""
        await self._store.write(lambda tx: provisioning.delete_consumption_reporting(tx, request))
        return m1.DeleteConsumptionReportingConfigurationResponse()
