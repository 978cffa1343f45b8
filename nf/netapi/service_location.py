"""The gRPC services about where devices are: requests to the domain, its answers back."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from nf.netapi.callers import Callers, Context
from nf.netapi.geofences import Geofences
from nf.netapi.geometry import Fit
from nf.netapi.locating import Locating
from nf.netapi.positions import Positions
from nf.netapi.v1 import location_pb2 as pb
from nf.netapi.v1.location_pb2_grpc import GeofencesServiceServicer, LocationServiceServicer

_RESULTS: Final = {
    Fit.INSIDE: pb.VERIFICATION_RESULT_TRUE,
    Fit.OUTSIDE: pb.VERIFICATION_RESULT_FALSE,
    Fit.PARTIAL: pb.VERIFICATION_RESULT_PARTIAL,
    Fit.UNKNOWN: pb.VERIFICATION_RESULT_UNKNOWN,
}


def _age(max_age_s: int) -> timedelta | None:
    return timedelta(seconds=max_age_s) if max_age_s else None


class LocationService(LocationServiceServicer):
    """The location function."""

    def __init__(self, callers: Callers, positions: Positions, locating: Locating) -> None:
        self._callers = callers
        self._positions = positions
        self._locating = locating

    async def ReportPositions(self, request: pb.ReportPositionsRequest, context: Context) -> pb.ReportPositionsResponse:
        """Takes positions."""
        caller = await self._callers.caller(context)
        caller.check_operator("report positions")
        return pb.ReportPositionsResponse(taken=await self._positions.report(request.positions))

    async def GetPosition(self, request: pb.GetPositionRequest, context: Context) -> pb.GetPositionResponse:
        """Where a device is."""
        caller = await self._callers.caller(context)
        position = await self._locating.get(caller, request.device, request.network_access_id, _age(request.max_age_s))
        return pb.GetPositionResponse(position=position)

    async def VerifyPosition(self, request: pb.VerifyPositionRequest, context: Context) -> pb.VerifyPositionResponse:
        """Whether a device is in an area."""
        caller = await self._callers.caller(context)
        found = await self._locating.verify(
            caller,
            request.device,
            request.network_access_id,
            request.area if request.HasField("area") else None,
            _age(request.max_age_s),
        )
        answer = pb.VerifyPositionResponse(result=_RESULTS[found.fit])
        if found.fit is Fit.PARTIAL:
            answer.match_rate_percent = found.percent
        if found.position_time is not None:
            answer.position_time.FromDatetime(found.position_time)
        return answer


class GeofencesService(GeofencesServiceServicer):
    """Geofences of the provider that calls."""

    def __init__(self, callers: Callers, geofences: Geofences) -> None:
        self._callers = callers
        self._geofences = geofences

    async def CreateGeofence(self, request: pb.CreateGeofenceRequest, context: Context) -> pb.CreateGeofenceResponse:
        """Begins to tell who enters or leaves."""
        caller = await self._callers.caller(context)
        return pb.CreateGeofenceResponse(
            geofence=await self._geofences.create(caller, request.geofence, request.request_id)
        )

    async def GetGeofence(self, request: pb.GetGeofenceRequest, context: Context) -> pb.GetGeofenceResponse:
        """Reads a geofence."""
        caller = await self._callers.caller(context)
        return pb.GetGeofenceResponse(geofence=await self._geofences.get(caller, request.geofence_id))

    async def ListGeofences(self, request: pb.ListGeofencesRequest, context: Context) -> pb.ListGeofencesResponse:
        """Lists geofences."""
        caller = await self._callers.caller(context)
        page = await self._geofences.page(caller, request.page_size, request.page_token)
        return pb.ListGeofencesResponse(geofences=page.items, next_page_token=page.next_page_token)

    async def DeleteGeofence(self, request: pb.DeleteGeofenceRequest, context: Context) -> pb.DeleteGeofenceResponse:
        """Ends a geofence."""
        caller = await self._callers.caller(context)
        await self._geofences.delete(caller, request.geofence_id)
        return pb.DeleteGeofenceResponse()
