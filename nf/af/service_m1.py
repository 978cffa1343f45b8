"""M1: the AF's gRPC services for Application Providers (TS 26.512 §7). Requests to the domain, its answers back."""

from __future__ import annotations

from nf.af import provisioning
from nf.af.providers import Context, Providers
from nf.af.v1 import provisioning_pb2 as m1
from nf.af.v1.provisioning_pb2_grpc import (
    ConsumptionReportingProvisioningServiceServicer,
    PolicyTemplatesServiceServicer,
    ProvisioningSessionsServiceServicer,
)
from nf.common.store import Store


class ProvisioningSessionsService(ProvisioningSessionsServiceServicer):
    """Provisioning sessions (TS 26.512 §7.2)."""

    def __init__(self, store: Store, providers: Providers) -> None:
        self._store = store
        self._providers = providers

    async def CreateProvisioningSession(
        self, request: m1.CreateProvisioningSessionRequest, context: Context
    ) -> m1.CreateProvisioningSessionResponse:
        """Creates a session."""
        provider = self._providers.caller(context)
        session = await self._store.write(lambda tx: provisioning.create_session(tx, request, provider))
        return m1.CreateProvisioningSessionResponse(provisioning_session=session)

    async def GetProvisioningSession(
        self, request: m1.GetProvisioningSessionRequest, context: Context
    ) -> m1.GetProvisioningSessionResponse:
        """Reads a session."""
        provider = self._providers.caller(context)
        session = await self._store.read(
            lambda reader: provisioning.require_session(reader, request.provisioning_session_id, provider)
        )
        return m1.GetProvisioningSessionResponse(provisioning_session=session)

    async def ListProvisioningSessions(
        self, request: m1.ListProvisioningSessionsRequest, context: Context
    ) -> m1.ListProvisioningSessionsResponse:
        """Lists sessions."""
        provider = self._providers.caller(context)
        page = await self._store.read(lambda reader: provisioning.list_sessions(reader, request, provider))
        return m1.ListProvisioningSessionsResponse(
            provisioning_sessions=page.items, next_page_token=page.next_page_token
        )

    async def DeleteProvisioningSession(
        self, request: m1.DeleteProvisioningSessionRequest, context: Context
    ) -> m1.DeleteProvisioningSessionResponse:
        """Destroys a session with all that stands on it."""
        provider = self._providers.caller(context)
        await self._store.write(lambda tx: provisioning.delete_session(tx, request, provider))
        return m1.DeleteProvisioningSessionResponse()

    async def GetContentProtocols(
        self, request: m1.GetContentProtocolsRequest, context: Context
    ) -> m1.GetContentProtocolsResponse:
        """Reads which content protocols a session may use."""
        provider = self._providers.caller(context)
        protocols = await self._store.read(
            lambda reader: provisioning.content_protocols(reader, request.provisioning_session_id, provider)
        )
        return m1.GetContentProtocolsResponse(content_protocols=protocols)


class PolicyTemplatesService(PolicyTemplatesServiceServicer):
    """Policy templates (TS 26.512 §7.9, A.3.2 step 1)."""

    def __init__(self, store: Store, providers: Providers) -> None:
        self._store = store
        self._providers = providers

    async def CreatePolicyTemplate(
        self, request: m1.CreatePolicyTemplateRequest, context: Context
    ) -> m1.CreatePolicyTemplateResponse:
        """Creates a template, PENDING."""
        provider = self._providers.caller(context)
        template = await self._store.write(lambda tx: provisioning.create_template(tx, request, provider))
        return m1.CreatePolicyTemplateResponse(policy_template=template)

    async def GetPolicyTemplate(
        self, request: m1.GetPolicyTemplateRequest, context: Context
    ) -> m1.GetPolicyTemplateResponse:
        """Reads a template."""
        provider = self._providers.caller(context)
        template = await self._store.read(
            lambda reader: provisioning.require_template(
                reader, request.provisioning_session_id, request.policy_template_id, provider
            )
        )
        return m1.GetPolicyTemplateResponse(policy_template=template)

    async def ListPolicyTemplates(
        self, request: m1.ListPolicyTemplatesRequest, context: Context
    ) -> m1.ListPolicyTemplatesResponse:
        """Lists the templates of a session."""
        provider = self._providers.caller(context)
        page = await self._store.read(lambda reader: provisioning.list_templates(reader, request, provider))
        return m1.ListPolicyTemplatesResponse(policy_templates=page.items, next_page_token=page.next_page_token)

    async def UpdatePolicyTemplate(
        self, request: m1.UpdatePolicyTemplateRequest, context: Context
    ) -> m1.UpdatePolicyTemplateResponse:
        """Changes a template."""
        provider = self._providers.caller(context)
        template = await self._store.write(lambda tx: provisioning.update_template(tx, request, provider))
        return m1.UpdatePolicyTemplateResponse(policy_template=template)

    async def DeletePolicyTemplate(
        self, request: m1.DeletePolicyTemplateRequest, context: Context
    ) -> m1.DeletePolicyTemplateResponse:
        """Destroys a template."""
        provider = self._providers.caller(context)
        await self._store.write(lambda tx: provisioning.delete_template(tx, request, provider))
        return m1.DeletePolicyTemplateResponse()

    async def SuspendPolicyTemplate(
        self, request: m1.SuspendPolicyTemplateRequest, context: Context
    ) -> m1.SuspendPolicyTemplateResponse:
        """Withdraws a template for the time being."""
        provider = self._providers.caller(context)
        template = await self._store.write(lambda tx: provisioning.suspend_template(tx, request, provider))
        return m1.SuspendPolicyTemplateResponse(policy_template=template)

    async def ResumePolicyTemplate(
        self, request: m1.ResumePolicyTemplateRequest, context: Context
    ) -> m1.ResumePolicyTemplateResponse:
        """Gives a template back."""
        provider = self._providers.caller(context)
        template = await self._store.write(lambda tx: provisioning.resume_template(tx, request, provider))
        return m1.ResumePolicyTemplateResponse(policy_template=template)


class ConsumptionReportingProvisioningService(ConsumptionReportingProvisioningServiceServicer):
    """Consumption reporting configurations (TS 26.512 §7.7)."""

    def __init__(self, store: Store, providers: Providers) -> None:
        self._store = store
        self._providers = providers

    async def CreateConsumptionReportingConfiguration(
        self, request: m1.CreateConsumptionReportingConfigurationRequest, context: Context
    ) -> m1.CreateConsumptionReportingConfigurationResponse:
        """Activates consumption reporting."""
        provider = self._providers.caller(context)
        configuration = await self._store.write(
            lambda tx: provisioning.create_consumption_reporting(tx, request, provider)
        )
        return m1.CreateConsumptionReportingConfigurationResponse(consumption_reporting_configuration=configuration)

    async def GetConsumptionReportingConfiguration(
        self, request: m1.GetConsumptionReportingConfigurationRequest, context: Context
    ) -> m1.GetConsumptionReportingConfigurationResponse:
        """Reads the configuration as it was set."""
        provider = self._providers.caller(context)
        configuration = await self._store.read(
            lambda reader: provisioning.require_consumption_reporting(reader, request.provisioning_session_id, provider)
        )
        return m1.GetConsumptionReportingConfigurationResponse(consumption_reporting_configuration=configuration)

    async def UpdateConsumptionReportingConfiguration(
        self, request: m1.UpdateConsumptionReportingConfigurationRequest, context: Context
    ) -> m1.UpdateConsumptionReportingConfigurationResponse:
        """Changes the configuration."""
        provider = self._providers.caller(context)
        configuration = await self._store.write(
            lambda tx: provisioning.update_consumption_reporting(tx, request, provider)
        )
        return m1.UpdateConsumptionReportingConfigurationResponse(consumption_reporting_configuration=configuration)

    async def DeleteConsumptionReportingConfiguration(
        self, request: m1.DeleteConsumptionReportingConfigurationRequest, context: Context
    ) -> m1.DeleteConsumptionReportingConfigurationResponse:
        """Ends consumption reporting."""
        provider = self._providers.caller(context)
        await self._store.write(lambda tx: provisioning.delete_consumption_reporting(tx, request, provider))
        return m1.DeleteConsumptionReportingConfigurationResponse()
