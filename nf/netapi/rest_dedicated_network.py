"""The CAMARA doors of dedicated networks: dedicated-network, -profiles 0.2.0-alpha.1 and -areas 0.1.0-alpha.1."""

from __future__ import annotations

from typing import Final

from nf.common.reader import Reader, not_found
from nf.common.rest import Answer, Door, Query, RestCall, Several
from nf.common.store import Store
from nf.netapi import agreements, coverage, qos_profiles
from nf.netapi.callers import Caller, Callers
from nf.netapi.camara_checks import checked, uuid_hex, uuid_text
from nf.netapi.config import NetapiSection
from nf.netapi.dedicated_network_views import most_devices, network_profile_of
from nf.netapi.dedicated_networks import DedicatedNetworks
from nf.netapi.network_areas import Wanted, view_of
from nf.netapi.rest_camara import camara_door
from nf.netapi.v1.camara_dedicated_network_pb2 import (
    CamaraNetworkProfile,
    CreateDedicatedNetwork,
    DedicatedNetworkInfo,
    NetworkServiceArea,
    RetrieveNetworkServiceAreas,
)
from nf.netapi.v1.coverage_pb2 import CapabilityProfile, ServiceArea

NETWORKS: Final = "/dedicated-network/v0.2alpha1"
PROFILES: Final = "/dedicated-network-profiles/v0.2alpha1"
AREAS: Final = "/dedicated-network-areas/v0.1alpha1"
# What the platform's refusals are at the doors that take sinks.
CODES: Final = {"CALLBACK_HOST_NOT_ALLOWED": (400, "INVALID_ARGUMENT"), "INVALID_SINK": (400, "INVALID_ARGUMENT")}

Call = RestCall[Caller]


def build_networks_door(callers: Callers, networks: DedicatedNetworks) -> Door[Caller]:
    """The door at ``NETWORKS``."""
    door = camara_door(
        NETWORKS,
        title="CAMARA: Dedicated Network",
        version="0.2.0-alpha.1",
        callers=callers,
        description="Networks of so many devices in an area for a time.",
        codes=CODES,
    )
    handlers = _Networks(networks)
    door.operation(
        "GET",
        "/networks",
        handlers.all,
        operation_id="listNetworks",
        summary="All dedicated networks, or those of a name",
        answers={200: Several(DedicatedNetworkInfo)},
        query=(Query("name", "The name of a network."),),
        conditional=False,
        scope="dedicated-network:networks:read",
    )
    door.operation(
        "POST",
        "/networks",
        handlers.create,
        operation_id="createNetwork",
        summary="Requests a dedicated network",
        request=CreateDedicatedNetwork,
        answers={201: DedicatedNetworkInfo},
        conditional=False,
        scope="dedicated-network:networks:create",
    )
    door.operation(
        "GET",
        "/networks/{networkId}",
        handlers.read,
        operation_id="readNetwork",
        summary="Reads a dedicated network",
        answers={200: DedicatedNetworkInfo},
        conditional=False,
        scope="dedicated-network:networks:read",
    )
    door.operation(
        "DELETE",
        "/networks/{networkId}",
        handlers.delete,
        operation_id="deleteNetwork",
        summary="Ends a dedicated network",
        answers={204: None},
        conditional=False,
        scope="dedicated-network:networks:delete",
    )
    return door


def build_profiles_door(callers: Callers, store: Store, config: NetapiSection) -> Door[Caller]:
    """The door at ``PROFILES``."""
    door = camara_door(
        PROFILES,
        title="CAMARA: Dedicated Network profiles",
        version="0.2.0-alpha.1",
        callers=callers,
        description="What dedicated networks can be requested by.",
    )
    handlers = _Profiles(store, config.network_devices)
    scope = "dedicated-network-profiles:profiles:read"
    door.operation(
        "GET",
        "/profiles",
        handlers.all,
        operation_id="readNetworkProfiles",
        summary="All network profiles, or those of a name",
        answers={200: Several(CamaraNetworkProfile)},
        query=(Query("name", "The name of a network profile."),),
        conditional=False,
        scope=scope,
    )
    door.operation(
        "GET",
        "/profiles/{profileId}",
        handlers.read,
        operation_id="readNetworkProfile",
        summary="Reads a network profile",
        answers={200: CamaraNetworkProfile},
        conditional=False,
        scope=scope,
    )
    return door


def build_areas_door(callers: Callers, store: Store, config: NetapiSection) -> Door[Caller]:
    """The door at ``AREAS``; the API knows no scopes."""
    door = camara_door(
        AREAS,
        title="CAMARA: Dedicated Network areas",
        version="0.1.0-alpha.1",
        callers=callers,
        description="Where dedicated networks can be requested.",
    )
    handlers = _Areas(store, config.network_devices)
    door.operation(
        "POST",
        "/retrieve-service-areas",
        handlers.retrieve,
        operation_id="retrieveNetworkServiceAreas",
        summary="The service areas that answer to a description",
        request=RetrieveNetworkServiceAreas,
        answers={200: Several(NetworkServiceArea)},
        conditional=False,
    )
    door.operation(
        "GET",
        "/areas/{areaId}",
        handlers.read,
        operation_id="readNetworkServiceArea",
        summary="Reads a service area",
        answers={200: NetworkServiceArea},
        conditional=False,
    )
    return door


class _Networks:
    def __init__(self, networks: DedicatedNetworks) -> None:
        self._networks = networks

    async def all(self, call: Call) -> Answer:
        return Answer(200, await self._networks.all(call.caller, call.query("name")))

    async def create(self, call: Call) -> Answer:
        made = await self._networks.create(call.caller, checked(call.message(CreateDedicatedNetwork)))
        return Answer(201, made, location=f"{call.url}/{made.id}")

    async def read(self, call: Call) -> Answer:
        return Answer(200, await self._networks.get(call.caller, _network_id(call)))

    async def delete(self, call: Call) -> Answer:
        await self._networks.delete(call.caller, _network_id(call))
        return Answer(204)


class _Profiles:
    def __init__(self, store: Store, devices: int) -> None:
        self._store = store
        self._devices = devices

    async def all(self, call: Call) -> Answer:
        name = call.query("name")
        found = await self._store.read(lambda reader: self._of(reader, call.caller))
        return Answer(200, [each for each in found if not name or each.name == name])

    async def read(self, call: Call) -> Answer:
        wanted = uuid_text(uuid_hex("profileId", call.path["profileId"]))
        for each in await self._store.read(lambda reader: self._of(reader, call.caller)):
            if each.id == wanted:
                return Answer(200, each)
        raise not_found(CapabilityProfile, wanted)

    def _of(self, reader: Reader, caller: Caller) -> list[CamaraNetworkProfile]:
        agreement = agreements.require(reader, caller.agreement_id)
        return [
            network_profile_of(each, devices)
            for each in qos_profiles.offered(reader, agreement)
            if (devices := most_devices(each, agreement, self._devices))
        ]


class _Areas:
    def __init__(self, store: Store, devices: int) -> None:
        self._store = store
        self._devices = devices

    async def retrieve(self, call: Call) -> Answer:
        wanted = Wanted(checked(call.message(RetrieveNetworkServiceAreas)))
        found = await self._store.read(lambda reader: self._of(reader, call.caller))
        return Answer(200, [view for area, view in found if wanted.has(area, view)])

    async def read(self, call: Call) -> Answer:
        area_id = uuid_text(uuid_hex("areaId", call.path["areaId"]))
        for _, view in await self._store.read(lambda reader: self._of(reader, call.caller)):
            if view.id == area_id:
                return Answer(200, view)
        raise not_found(ServiceArea, area_id)

    def _of(self, reader: Reader, caller: Caller) -> list[tuple[ServiceArea, NetworkServiceArea]]:
        """What the caller may book, with what can be had there."""
        agreement = agreements.require(reader, caller.agreement_id)
        profiles = qos_profiles.offered(reader, agreement)
        return [
            (area, view)
            for area in coverage.areas(reader)
            if agreements.allows_area(agreement, area.area_id) and (view := view_of(area, profiles)) is not None
        ]


def _network_id(call: Call) -> str:
    return uuid_hex("networkId", call.path["networkId"])
