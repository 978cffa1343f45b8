"""Coverage: the platform's gRPC service of what it has to offer, kept by the operator and discovered by providers."""

from __future__ import annotations

from collections.abc import Sequence

from nf.common.store import Store
from nf.netapi import coverage
from nf.netapi.callers import Callers, Context
from nf.netapi.coverage import AreaFollower
from nf.netapi.v1 import coverage_pb2 as v1
from nf.netapi.v1.coverage_pb2_grpc import CoverageServiceServicer


class CoverageService(CoverageServiceServicer):
    """Service areas and capability profiles. ``followers`` are told of areas that change."""

    def __init__(self, store: Store, callers: Callers, followers: Sequence[AreaFollower] = ()) -> None:
        self._store = store
        self._callers = callers
        self._followers = followers

    async def PutServiceArea(self, request: v1.PutServiceAreaRequest, context: Context) -> v1.PutServiceAreaResponse:
        """Makes or replaces a service area."""
        caller = await self._callers.caller(context)
        area = await self._store.write(lambda tx: coverage.put_area(tx, request.service_area, caller, self._followers))
        return v1.PutServiceAreaResponse(service_area=area)

    async def DeleteServiceArea(
        self, request: v1.DeleteServiceAreaRequest, context: Context
    ) -> v1.DeleteServiceAreaResponse:
        """Removes a service area."""
        caller = await self._callers.caller(context)
        await self._store.write(lambda tx: coverage.delete_area(tx, request.area_id, caller))
        return v1.DeleteServiceAreaResponse()

    async def PutCapabilityProfile(
        self, request: v1.PutCapabilityProfileRequest, context: Context
    ) -> v1.PutCapabilityProfileResponse:
        """Makes or replaces a capability profile."""
        caller = await self._callers.caller(context)
        profile = await self._store.write(lambda tx: coverage.put_profile(tx, request.capability_profile, caller))
        return v1.PutCapabilityProfileResponse(capability_profile=profile)

    async def DeleteCapabilityProfile(
        self, request: v1.DeleteCapabilityProfileRequest, context: Context
    ) -> v1.DeleteCapabilityProfileResponse:
        """Removes a capability profile."""
        caller = await self._callers.caller(context)
        await self._store.write(lambda tx: coverage.delete_profile(tx, request.profile_id, caller))
        return v1.DeleteCapabilityProfileResponse()

    async def GetServiceArea(self, request: v1.GetServiceAreaRequest, context: Context) -> v1.GetServiceAreaResponse:
        """Reads a service area."""
        caller = await self._callers.caller(context)
        area = await self._store.read(lambda reader: coverage.get_area(reader, request.area_id, caller))
        return v1.GetServiceAreaResponse(service_area=area)

    async def GetCapabilityProfile(
        self, request: v1.GetCapabilityProfileRequest, context: Context
    ) -> v1.GetCapabilityProfileResponse:
        """Reads a capability profile."""
        caller = await self._callers.caller(context)
        profile = await self._store.read(lambda reader: coverage.get_profile(reader, request.profile_id, caller))
        return v1.GetCapabilityProfileResponse(capability_profile=profile)

    async def ListServiceAreas(
        self, request: v1.ListServiceAreasRequest, context: Context
    ) -> v1.ListServiceAreasResponse:
        """Lists the service areas that the caller may book."""
        caller = await self._callers.caller(context)
        page = await self._store.read(lambda reader: coverage.page_of_areas(reader, request, caller))
        return v1.ListServiceAreasResponse(service_areas=page.items, next_page_token=page.next_page_token)

    async def ListCapabilityProfiles(
        self, request: v1.ListCapabilityProfilesRequest, context: Context
    ) -> v1.ListCapabilityProfilesResponse:
        """Lists the capability profiles that the caller may book."""
        caller = await self._callers.caller(context)
        page = await self._store.read(lambda reader: coverage.page_of_profiles(reader, request, caller))
        return v1.ListCapabilityProfilesResponse(capability_profiles=page.items, next_page_token=page.next_page_token)
