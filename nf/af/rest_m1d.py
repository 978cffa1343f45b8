"""M1d over HTTP: the consumption reporting configuration as the draft of TS 26.512 has it (its clause 5.4).

A second door to the same resources: the provider stands in the path, and changes answer 200. Of the draft's tables the
union is accepted, with its other spelling of the interval.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from nf.af import provisioning
from nf.af.providers import AUTHORIZATION, Provider, Providers
from nf.af.rest_m1 import M1Consumption
from nf.af.rest_m1_answers import Call, answer
from nf.af.v1 import provisioning_pb2 as m1
from nf.common.reader import not_found
from nf.common.rest import Answer, Door
from nf.common.store import Reader, Store

PREFIX = "/3gpp-m1d/v1"
CONSUMPTION = (
    "/application-service-providers/{aspId}/provisioning-sessions/{provisioningSessionId}"
    "/consumption-reporting-configuration"
)
# What the draft's tables call the properties beside the names that are produced.
ALIASES: Final[Mapping[str, str]] = {
    "reportInterval": "reportingInterval",
    "Sample percentage": "samplePercentage",
    "SamplePercentage": "samplePercentage",
}


def build_door(store: Store, providers: Providers) -> Door[Provider]:
    """The door of M1d."""

    def identify(headers: Mapping[str, str]) -> Provider:
        return providers.identify(headers.get(AUTHORIZATION, ""))

    door: Door[Provider] = Door(
        PREFIX,
        title="M1d: consumption reporting configuration (draft)",
        version="1.0.0",
        description="The draft's door to the consumption reporting configuration of a provisioning session.",
        identify=identify,
        secured=providers.configured,
    )
    consumption = M1Consumption(store)
    kind = m1.ConsumptionReportingConfiguration

    def owned(handler: Callable[[Call], Awaitable[Answer]]) -> Callable[[Call], Awaitable[Answer]]:
        async def handle(call: Call) -> Answer:
            asp_id, name = call.path["aspId"], call.path["provisioningSessionId"]
            call.caller.check_asp_id(asp_id)

            def check(reader: Reader) -> None:
                if provisioning.require_session(reader, name, call.caller).asp_id != asp_id:
                    raise not_found(m1.ProvisioningSession, name)

            # A session never changes its provider: what holds now holds in the transaction that follows.
            await store.read(check)
            return await handler(call)

        return handle

    async def replace(call: Call) -> Answer:
        return answer(200, await consumption.replace(call))

    async def patch(call: Call) -> Answer:
        return answer(200, await consumption.patch(call))

    async def delete(call: Call) -> Answer:
        await consumption.delete(call)
        return Answer(200)

    door.operation(
        "POST",
        CONSUMPTION,
        owned(consumption.create),
        operation_id="draftActivateConsumptionReporting",
        summary="Activates consumption reporting",
        request=kind,
        answers={201: kind},
        errors=(403, 409),
        aliases=ALIASES,
    )
    door.operation(
        "GET",
        CONSUMPTION,
        owned(consumption.read),
        operation_id="draftFetchConsumptionReportingConfiguration",
        summary="Reads the configuration as it was set",
        answers={200: kind},
        errors=(403,),
    )
    door.operation(
        "PUT",
        CONSUMPTION,
        owned(replace),
        operation_id="draftUpdateConsumptionReportingConfiguration",
        summary="Replaces the configuration",
        request=kind,
        answers={200: kind},
        errors=(403,),
        aliases=ALIASES,
    )
    door.operation(
        "PATCH",
        CONSUMPTION,
        owned(patch),
        operation_id="draftPatchConsumptionReportingConfiguration",
        summary="Changes the configuration",
        request=kind,
        answers={200: kind},
        errors=(403,),
        aliases=ALIASES,
    )
    door.operation(
        "DELETE",
        CONSUMPTION,
        owned(delete),
        operation_id="draftDeleteConsumptionReporting",
        summary="Ends consumption reporting",
        answers={200: None},
        errors=(403,),
    )
    return door
