"""What client applications ask of a network API platform with their network access ID, and where devices are.

5G-MAG live media distribution workflow, phase C and phase B step 1b.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

import grpc

from nf.client.paging import pages
from nf.common.resources import new_id
from nf.netapi.v1 import access_pb2, location_pb2
from nf.netapi.v1.access_pb2_grpc import DeviceAccessesServiceStub
from nf.netapi.v1.location_pb2_grpc import GeofencesServiceStub, LocationServiceStub

_PAGE = 500


class NetworkAccess:
    """A typed client for what is used. Every method raises CastcoreError where the platform refuses."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._accesses = DeviceAccessesServiceStub(channel)
        self._location = LocationServiceStub(channel)
        self._geofences = GeofencesServiceStub(channel)

    # --- Phase C ----------------------------------------------------------------------------------------------------

    async def resolve(self, network_access_id: str) -> access_pb2.ResolveNetworkAccessIdResponse:
        """What the ID stands for."""
        request = access_pb2.ResolveNetworkAccessIdRequest(network_access_id=network_access_id)
        return await self._accesses.ResolveNetworkAccessId(request)

    async def begin(self, network_access_id: str, device: access_pb2.Device | None = None) -> access_pb2.DeviceAccess:
        """The device begins to use the ID; without one it is the address that the call comes from."""
        request = access_pb2.CreateDeviceAccessRequest(network_access_id=network_access_id)
        if device is not None:
            request.device.CopyFrom(device)
        return (await self._accesses.CreateDeviceAccess(request)).device_access

    async def access(self, access_id: str, network_access_id: str = "") -> access_pb2.DeviceAccess:
        """One access."""
        request = access_pb2.GetDeviceAccessRequest(access_id=access_id, network_access_id=network_access_id)
        return (await self._accesses.GetDeviceAccess(request)).device_access

    def accesses(self, booking_id: str = "", network_access_id: str = "") -> AsyncIterator[access_pb2.DeviceAccess]:
        """Those of a booking or of an ID."""

        async def fetch(token: str) -> tuple[Sequence[access_pb2.DeviceAccess], str]:
            request = access_pb2.ListDeviceAccessesRequest(
                booking_id=booking_id, network_access_id=network_access_id, page_size=_PAGE, page_token=token
            )
            page = await self._accesses.ListDeviceAccesses(request)
            return page.device_accesses, page.next_page_token

        return pages(fetch)

    async def end(self, access_id: str, network_access_id: str = "") -> access_pb2.DeviceAccess:
        """The device ends its use."""
        request = access_pb2.DeleteDeviceAccessRequest(access_id=access_id, network_access_id=network_access_id)
        return (await self._accesses.DeleteDeviceAccess(request)).device_access

    # --- Location ---------------------------------------------------------------------------------------------------

    async def report_positions(self, positions: Iterable[location_pb2.DevicePosition]) -> int:
        """How many of them were newer than what was known."""
        return (await self._location.ReportPositions(location_pb2.ReportPositionsRequest(positions=positions))).taken

    async def position(
        self, device: access_pb2.Device, network_access_id: str = "", max_age_s: int = 0
    ) -> location_pb2.DevicePosition:
        """Where the device is."""
        request = location_pb2.GetPositionRequest(
            device=device, network_access_id=network_access_id, max_age_s=max_age_s
        )
        return (await self._location.GetPosition(request)).position

    async def verify(
        self, device: access_pb2.Device, network_access_id: str = "", max_age_s: int = 0
    ) -> location_pb2.VerifyPositionResponse:
        """Whether the device is in the area of the ID."""
        request = location_pb2.VerifyPositionRequest(
            device=device, network_access_id=network_access_id, max_age_s=max_age_s
        )
        return await self._location.VerifyPosition(request)

    async def create_geofence(self, geofence: location_pb2.Geofence) -> location_pb2.Geofence:
        """Begins to tell who enters or leaves."""
        request = location_pb2.CreateGeofenceRequest(geofence=geofence, request_id=new_id())
        return (await self._geofences.CreateGeofence(request)).geofence

    async def geofence(self, geofence_id: str) -> location_pb2.Geofence:
        """One geofence."""
        return (await self._geofences.GetGeofence(location_pb2.GetGeofenceRequest(geofence_id=geofence_id))).geofence

    def geofences(self) -> AsyncIterator[location_pb2.Geofence]:
        """Those of the caller."""

        async def fetch(token: str) -> tuple[Sequence[location_pb2.Geofence], str]:
            request = location_pb2.ListGeofencesRequest(page_size=_PAGE, page_token=token)
            page = await self._geofences.ListGeofences(request)
            return page.geofences, page.next_page_token

        return pages(fetch)

    async def delete_geofence(self, geofence_id: str) -> None:
        """Ends it."""
        await self._geofences.DeleteGeofence(location_pb2.DeleteGeofenceRequest(geofence_id=geofence_id))
