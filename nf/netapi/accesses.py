"""Devices that use what is booked: presented, provided for, ended (5G-MAG live media distribution workflow, phase C).

What is acknowledged is durable. What the PCF is to have is decided from the store alone, and brought about afterwards
by calls that may be repeated: whatever was under way when the platform died is decided anew when it starts again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from nf.common.due import DueDriver
from nf.common.resources import new_id
from nf.common.store import Page, Reader, Store, Transaction
from nf.netapi import devices
from nf.netapi.access_decision import STANDING
from nf.netapi.access_installing import Installing, UsageFollower
from nf.netapi.access_transitions import BY_BOTH, BY_DEVICE, BY_ID, AccessFollower, Transitions, use_of
from nf.netapi.attachments import device_key, names_of
from nf.netapi.config import NetapiSection
from nf.netapi.errors import NetworkAccessDevicesExhausted, NetworkAccessIdInactive, NetworkAccessIdUnknown
from nf.netapi.machine import Effect
from nf.netapi.peers import Network
from nf.netapi.v1.access_pb2 import AccessInstallation, Device, DeviceAccess
from nf.netapi.v1.booking_pb2 import Booking, NetworkAccessId
from nf.netapi.v1.coverage_pb2 import ServiceArea
from nf.netapi.v1.location_pb2 import AttachedUe, DevicePosition


class Accesses:
    """All device accesses of one platform. ``start`` carries on where an earlier run has stopped."""

    def __init__(
        self,
        store: Store,
        pcf: Network,
        config: NetapiSection,
        *,
        followers: Sequence[AccessFollower] = (),
        usage_followers: Sequence[UsageFollower] = (),
    ) -> None:
        self._store = store
        retry = timedelta(seconds=config.access_retry_s)
        self.transitions = Transitions(
            timedelta(seconds=config.ended_accesses_kept_s),
            timedelta(seconds=config.detached_accesses_kept_s),
            followers,
        )
        self.installing = Installing(store, pcf, self.transitions, retry, usage_followers)
        self._driver = DueDriver(store, DeviceAccess, self._due, retry=retry)

    async def start(self) -> None:
        """Begins, with what is due already."""
        await self._driver.start()

    async def stop(self) -> None:
        """Ends; what is under way is due at the next start."""
        await self._driver.stop()

    # --- as a device or its provider asks -----------------------------------------------------------------------------

    async def create(self, network_access_id: str, device: Device) -> DeviceAccess:
        """A device begins to use a network access ID; returns when the network has it, or has not been able to.

        The same device again gets the access that it has. Raises InvalidArgument, DeviceMismatch, AmbiguousDevice,
        NetworkAccessIdUnknown, NetworkAccessIdInactive, NetworkAccessDevicesExhausted.
        """
        access = await self._store.write(lambda tx: self.create_in(tx, network_access_id, device))
        await self.installing.converge(access.access_id)
        return await self.get(access.access_id)

    def create_in(self, transaction: Transaction, network_access_id: str, device: Device) -> DeviceAccess:
        """As ``create``, within a transaction; what the network is asked for comes after it."""
        checked = devices.check_device(device, "device")
        known = require_id(transaction, network_access_id)
        key = device_key(transaction, checked)
        for access in transaction.find(DeviceAccess, BY_BOTH, use_of(network_access_id, key)):
            return access
        used = transaction.count(DeviceAccess, BY_ID, network_access_id)
        if used >= known.devices:
            raise NetworkAccessDevicesExhausted(
                f"network access ID {network_access_id!r}: {known.devices} devices are booked, {used} use it",
                metadata={"booked_devices": str(known.devices), "used_devices": str(used)},
            )
        booking = transaction.require(Booking, known.booking_id)
        access = DeviceAccess(
            access_id=new_id(),
            network_access_id=network_access_id,
            booking_id=known.booking_id,
            agreement_id=booking.agreement_id,
            device=checked,
        )
        installed = AccessInstallation(access_id=access.access_id, device_key=key)
        return self.transitions.present(transaction, access, installed)

    async def get(self, access_id: str) -> DeviceAccess:
        """The access. Raises NotFound."""
        return await self._store.read(lambda reader: reader.require(DeviceAccess, access_id))

    async def page(
        self, booking_id: str, *, network_access_id: str = "", page_size: int = 0, page_token: str = ""
    ) -> Page[DeviceAccess]:
        """One page of the accesses of a booking in the order of their creation, or of one of its network access IDs.

        Of one ID a page may be shorter than asked for, and still not be the last.
        """
        return await self._store.read(
            lambda reader: _page(reader, booking_id, network_access_id, page_size, page_token)
        )

    async def delete(self, access_id: str) -> DeviceAccess:
        """A device ends its use; returns when the network has withdrawn it, or has not been able to yet.

        Ending again is harmless. Raises NotFound.
        """
        await self._store.write(lambda tx: self.delete_in(tx, access_id))
        await self.installing.converge(access_id)
        return await self.get(access_id)

    def delete_in(self, transaction: Transaction, access_id: str) -> DeviceAccess:
        """As ``delete``, within a transaction; what the network is asked for comes after it."""
        access = transaction.require(DeviceAccess, access_id)
        self._end(transaction, access)
        return transaction.require(DeviceAccess, access_id)

    # --- as things happen ---------------------------------------------------------------------------------------------

    def on_booking(self, transaction: Transaction, booking: Booking, _effects: Sequence[Effect]) -> None:
        """A booking has changed its state, or what it is about."""
        places: dict[str, int] = {}
        for access in transaction.all(DeviceAccess, parent=booking.booking_id):
            installed = transaction.get(AccessInstallation, access.access_id)
            if installed is None or access.state == DeviceAccess.STATE_ENDED:
                continue
            if not installed.over:
                # Who came first keeps what a reconfiguration has left.
                place = places.get(access.network_access_id, 0)
                places[access.network_access_id] = place + 1
                known = transaction.get(NetworkAccessId, access.network_access_id)
                installed.beyond = known is None or place >= known.devices
            self.transitions.settle(transaction, access, installed)

    def on_position(self, transaction: Transaction, key: str, _position: DevicePosition) -> None:
        """A device has another position."""
        self._look_at(transaction, key)

    def on_attachment(self, transaction: Transaction, ue: AttachedUe, _attached: bool) -> None:
        """A UE was attached, changed its cell or address, or was detached."""
        for name in names_of(ue):
            for access in transaction.find(DeviceAccess, BY_DEVICE, name):
                self._recognise(transaction, access, ue.supi)
        self._look_at(transaction, ue.supi)

    def on_area(self, transaction: Transaction, area: ServiceArea) -> None:
        """An area is another one: who is inside may change."""
        for access in transaction.all(DeviceAccess):
            known = transaction.get(NetworkAccessId, access.network_access_id)
            installed = transaction.get(AccessInstallation, access.access_id)
            if known is not None and installed is not None and known.area_id == area.area_id:
                self.transitions.settle(transaction, access, installed)

    # ------------------------------------------------------------------------------------------------------------------

    def _look_at(self, transaction: Transaction, key: str) -> None:
        for access in transaction.find(DeviceAccess, BY_DEVICE, key):
            installed = transaction.get(AccessInstallation, access.access_id)
            if installed is not None:
                self.transitions.settle(transaction, access, installed)

    def _recognise(self, transaction: Transaction, access: DeviceAccess, supi: str) -> None:
        """A device that was known by one of its names turns out to be this subscriber's."""
        for other in transaction.find(DeviceAccess, BY_BOTH, use_of(access.network_access_id, supi)):
            if other.access_id != access.access_id:
                # It has presented the ID under another name already.
                self._end(transaction, access)
                return
        installed = transaction.require(AccessInstallation, access.access_id)
        installed.device_key = supi
        self.transitions.settle(transaction, access, installed)

    def _end(self, transaction: Transaction, access: DeviceAccess) -> None:
        installed = transaction.get(AccessInstallation, access.access_id)
        if installed is not None and access.state != DeviceAccess.STATE_ENDED:
            installed.over = installed.over or DeviceAccess.REASON_RELEASED
            self.transitions.settle(transaction, access, installed)

    async def _due(self, name: str, _: DeviceAccess) -> None:
        await self.installing.converge(name)


def require_id(reader: Reader, network_access_id: str) -> NetworkAccessId:
    """What a network access ID stands for. Raises NetworkAccessIdUnknown, and NetworkAccessIdInactive."""
    known = reader.get(NetworkAccessId, network_access_id)
    booking = None if known is None else reader.get(Booking, known.booking_id)
    if known is None or booking is None:
        raise NetworkAccessIdUnknown(f"network access ID {network_access_id!r} is unknown")
    if booking.state not in STANDING:
        state = Booking.State.Name(booking.state).removeprefix("STATE_")
        raise NetworkAccessIdInactive(f"network access ID {network_access_id!r}: its booking is {state}")
    if not known.active:
        raise NetworkAccessIdInactive(f"network access ID {network_access_id!r}: its capability is no longer booked")
    return known


def _page(
    reader: Reader, booking_id: str, network_access_id: str, page_size: int, page_token: str
) -> Page[DeviceAccess]:
    page = reader.list(DeviceAccess, parent=booking_id, page_size=page_size, page_token=page_token)
    wanted = [each for each in page.items if network_access_id in ("", each.network_access_id)]
    return Page(wanted, page.next_page_token)
