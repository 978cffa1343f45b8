"""The CAMARA door qos-profiles 1.2.0-rc.3: the QoS profiles that sessions can be made with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nf.common.reader import Reader, not_found
from nf.common.rest import Answer, Door, RestCall, Several
from nf.common.store import Store
from nf.netapi import agreements, attachments, qos_profiles
from nf.netapi.callers import Caller, Callers
from nf.netapi.camara_checks import checked
from nf.netapi.camara_devices import Name, subject_names
from nf.netapi.config import NetapiSection
from nf.netapi.errors import IdentifierNotFound
from nf.netapi.rest_camara import camara_door
from nf.netapi.v1.camara_qos_profiles_pb2 import CamaraQosProfile, RetrieveQosProfiles
from nf.netapi.v1.coverage_pb2 import CapabilityProfile

PREFIX: Final = "/qos-profiles/v1rc3"
MAX_LISTED: Final = 100
_SCOPE: Final = "qos-profiles:read"

Call = RestCall[Caller]


def build_door(callers: Callers, store: Store, config: NetapiSection) -> Door[Caller]:
    """The door at ``PREFIX``."""
    door = camara_door(
        PREFIX,
        title="CAMARA: QoS Profiles",
        version="1.2.0-rc.3",
        callers=callers,
        description="The QoS profiles that sessions can be made with.",
        strict=True,
        codes={"AMBIGUOUS_DEVICE": (422, "SERVICE_NOT_APPLICABLE")},
    )
    handlers = _Profiles(store, config.longest_session_s)
    door.operation(
        "POST",
        "/retrieve-qos-profiles",
        handlers.retrieve,
        operation_id="retrieveQoSProfiles",
        summary="The QoS profiles that answer to a description",
        request=RetrieveQosProfiles,
        answers={200: Several(CamaraQosProfile)},
        errors=(404, 422),
        conditional=False,
        scope=_SCOPE,
    )
    door.operation(
        "GET",
        "/qos-profiles/{name}",
        handlers.read,
        operation_id="getQosProfile",
        summary="Reads a QoS profile",
        answers={200: CamaraQosProfile},
        conditional=False,
        scope=_SCOPE,
    )
    return door


class _Profiles:
    def __init__(self, store: Store, longest_s: int) -> None:
        self._store = store
        self._longest_s = longest_s

    async def retrieve(self, call: Call) -> Answer:
        asked = checked(call.message(RetrieveQosProfiles))
        view = asked.device if asked.HasField("device") else None
        names = subject_names(call.caller.device, view, required=False)

        def look(reader: Reader) -> list[CamaraQosProfile]:
            agreement = agreements.require(reader, call.caller.agreement_id)
            found = [
                qos_profiles.view_of(each, agreement, self._longest_s)
                for each in _for_device(reader, names, qos_profiles.offered(reader, agreement))
            ]
            return [
                each
                for each in found
                if (not asked.HasField("name") or each.name == asked.name) and asked.status in (0, each.status)
            ]

        return Answer(200, (await self._store.read(look))[:MAX_LISTED])

    async def read(self, call: Call) -> Answer:
        # A name that none can have is refused as it would be in a body.
        name = checked(RetrieveQosProfiles(name=call.path["name"])).name
        names = subject_names(call.caller.device, None, required=False)

        def look(reader: Reader) -> CamaraQosProfile:
            agreement = agreements.require(reader, call.caller.agreement_id)
            found = qos_profiles.find(reader, agreement, name)
            if found is None or not _for_device(reader, names, [found]):
                raise not_found(CapabilityProfile, name)
            return qos_profiles.view_of(found, agreement, self._longest_s)

        return Answer(200, await self._store.read(look))


def _for_device(reader: Reader, names: Sequence[Name], profiles: list[CapabilityProfile]) -> list[CapabilityProfile]:
    """Those of the profiles that the device can have where it is connected; without a device, all."""
    if not names:
        return profiles
    name = next((each for each in names if attachments.resolve(reader, each.device) is not None), None)
    if name is None:
        raise IdentifierNotFound("device: no device of this name is known")
    return [
        each
        for each in profiles
        if attachments.resolve(
            reader, name.device, dnn=each.dnn, s_nssai=each.s_nssai if each.HasField("s_nssai") else None
        )
    ]
