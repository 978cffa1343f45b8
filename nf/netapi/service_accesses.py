"""DeviceAccessesService: requests to the domain, its answers back.

Client applications show a network access ID and no credential; a provider sees the accesses of its own bookings.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

from nf.common.errors import InvalidArgument
from nf.common.reader import Reader, not_found
from nf.common.store import Store
from nf.netapi.access_transitions import shown
from nf.netapi.accesses import Accesses
from nf.netapi.callers import Callers, Context
from nf.netapi.errors import NetworkAccessIdUnknown
from nf.netapi.v1 import access_pb2 as pb
from nf.netapi.v1.access_pb2_grpc import DeviceAccessesServiceServicer
from nf.netapi.v1.booking_pb2 import Booking, NetworkAccessId

_ONE_OF_TWO: Final = "expected a booking_id or a network_access_id"


class DeviceAccessesService(DeviceAccessesServiceServicer):
    """Devices that use what is booked (5G-MAG live media distribution workflow, phase C)."""

    def __init__(self, store: Store, accesses: Accesses, callers: Callers) -> None:
        self._store = store
        self._accesses = accesses
        self._callers = callers

    async def ResolveNetworkAccessId(
        self, request: pb.ResolveNetworkAccessIdRequest, context: Context
    ) -> pb.ResolveNetworkAccessIdResponse:
        """What an ID stands for."""
        known, booking = await self._store.read(lambda reader: _resolve(reader, request.network_access_id))
        return pb.ResolveNetworkAccessIdResponse(
            network_access_id=known,
            state=booking.state,
            current_period=booking.current_period if booking.HasField("current_period") else None,
        )

    async def CreateDeviceAccess(
        self, request: pb.CreateDeviceAccessRequest, context: Context
    ) -> pb.CreateDeviceAccessResponse:
        """A device begins its use."""
        device = request.device if request.HasField("device") else _caller_device(context.peer())
        access = await self._accesses.create(request.network_access_id, device)
        return pb.CreateDeviceAccessResponse(device_access=shown(access))

    async def GetDeviceAccess(self, request: pb.GetDeviceAccessRequest, context: Context) -> pb.GetDeviceAccessResponse:
        """Reads an access."""
        access = await self._visible(request.access_id, request.network_access_id, context)
        return pb.GetDeviceAccessResponse(device_access=access)

    async def ListDeviceAccesses(
        self, request: pb.ListDeviceAccessesRequest, context: Context
    ) -> pb.ListDeviceAccessesResponse:
        """Lists accesses."""
        caller = await self._callers.caller(context)
        if bool(request.booking_id) == bool(request.network_access_id):
            found = "both" if request.booking_id else "neither"
            raise InvalidArgument.of("booking_id", f"{_ONE_OF_TWO}, found {found}")
        booking_id = request.booking_id
        if request.network_access_id:
            known, _ = await self._store.read(lambda reader: _resolve(reader, request.network_access_id))
            booking_id = known.booking_id
        booking = await self._store.read(lambda reader: reader.get(Booking, booking_id))
        if booking is None or not caller.may_see(booking.agreement_id):
            if request.network_access_id:
                raise _unknown(request.network_access_id)
            raise not_found(Booking, booking_id)
        page = await self._accesses.page(
            booking_id,
            network_access_id=request.network_access_id,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        items = page.items if caller.operator else [shown(each) for each in page.items]
        return pb.ListDeviceAccessesResponse(device_accesses=items, next_page_token=page.next_page_token)

    async def DeleteDeviceAccess(
        self, request: pb.DeleteDeviceAccessRequest, context: Context
    ) -> pb.DeleteDeviceAccessResponse:
        """A device ends its use."""
        await self._visible(request.access_id, request.network_access_id, context)
        access = await self._accesses.delete(request.access_id)
        return pb.DeleteDeviceAccessResponse(device_access=shown(access))

    async def _visible(self, access_id: str, network_access_id: str, context: Context) -> pb.DeviceAccess:
        """The access, for who shows its network access ID, its provider, and the operator. Raises NotFound."""
        if network_access_id:
            access = await self._accesses.get(access_id)
            if access.network_access_id != network_access_id:
                raise not_found(pb.DeviceAccess, access_id)
            return shown(access)
        caller = await self._callers.caller(context)
        access = await self._accesses.get(access_id)
        if not caller.may_see(access.agreement_id):
            raise not_found(pb.DeviceAccess, access_id)
        return access if caller.operator else shown(access)


def _resolve(reader: Reader, network_access_id: str) -> tuple[NetworkAccessId, Booking]:
    known = reader.get(NetworkAccessId, network_access_id)
    booking = None if known is None else reader.get(Booking, known.booking_id)
    if known is None or booking is None:
        raise _unknown(network_access_id)
    return known, booking


def _unknown(network_access_id: str) -> NetworkAccessIdUnknown:
    return NetworkAccessIdUnknown(f"network access ID {network_access_id!r} is unknown")


def _caller_device(peer: str) -> pb.Device:
    """The device that a call comes from, by its address ("ipv4:10.45.0.2:4711", "ipv6:[2001:db8::2]:4711")."""
    kind, _, rest = unquote(peer).partition(":")
    host = rest.rpartition(":")[0].strip("[]")
    if kind == "ipv4" and host:
        return pb.Device(ipv4_address=host)
    if kind == "ipv6" and host:
        return pb.Device(ipv6_address=host.partition("%")[0])
    raise InvalidArgument.of("device", "expected a device, found none, and the call comes from no IP address")
