"""CAMARA accesses to dedicated networks: devices that the provider lets use what is booked, by lists.

Each device of an access is a device access of the platform, made by the provider in the device's place. What becomes of
that is told of the device, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from nf.common.errors import CastcoreError, InvalidArgument, NotFound
from nf.common.reader import not_found
from nf.common.resources import copy_of, new_id
from nf.common.rest_camara import CamaraManners
from nf.common.store import Reader, Store, Transaction
from nf.netapi import attachments, network_access_ids
from nf.netapi.accesses import Accesses
from nf.netapi.callers import Caller, audience_of
from nf.netapi.camara_devices import Name, names_of
from nf.netapi.camara_sinks import credential_of
from nf.netapi.dedicated_network_views import status_of
from nf.netapi.errors import (
    DeviceListedAlready,
    IdentifierNotFound,
    IncompatibleNetworkState,
    InvalidTokenContext,
    MissingIdentifier,
    Unprocessable,
)
from nf.netapi.network_access_views import DOOR, EVENT, device_of, standing_of, subject_of
from nf.netapi.sinks import Sinks
from nf.netapi.v1.access_pb2 import DeviceAccess
from nf.netapi.v1.booking_pb2 import Booking, NetworkAccessId
from nf.netapi.v1.camara_dedicated_network_pb2 import (
    NETWORK_STATUS_TERMINATED,
    CreateNetworkAccess,
    DedicatedNetwork,
    NetworkAccess,
    NetworkAccessDevicesChanged,
    NetworkAccessMember,
    NetworkDeviceResult,
)
from nf.netapi.v1.camara_types_pb2 import CamaraDevice

_DEVICE_ACCESS: Final = "device_access"
_ACCESS_DEVICE: Final = "access_device"
_NETWORK_DEVICE: Final = "network_device"
_NETWORK: Final = "network"
_MANNERS: Final = CamaraManners(codes={"NETWORK_ACCESS_DEVICES_EXHAUSTED": (429, "QUOTA_EXCEEDED")})


@dataclass(slots=True)
class Outcome:
    """What became of the devices of a request: those that were taken (or removed), and those that were not."""

    taken: list[NetworkAccessMember] = field(default_factory=list)
    refused: list[NetworkDeviceResult] = field(default_factory=list)
    errors: list[CastcoreError] = field(default_factory=list)

    def refuse(self, device: CamaraDevice, error: CastcoreError) -> None:
        """Notes that a device was not taken."""
        status, code = _MANNERS.code_of(error)
        result = NetworkDeviceResult(device=device, status=status, code=code, message=error.message[:512])
        self.refused.append(result)
        self.errors.append(error)

    @property
    def results(self) -> list[NetworkDeviceResult]:
        """One for each device, the taken ones first."""
        made = [
            NetworkDeviceResult(
                device=each.device, status=201, code="CREATED", message="The device was added.",
                access_device=device_of(each),
            )
            for each in self.taken
        ]  # fmt: skip
        return made + self.refused


class NetworkAccesses:
    """The accesses of all agreements; those of another one do not exist for a caller."""

    def __init__(self, store: Store, accesses: Accesses, sinks: Sinks) -> None:
        self._store = store
        self._accesses = accesses
        self._sinks = sinks

    async def create(self, caller: Caller, asked: CreateNetworkAccess, network: str) -> tuple[NetworkAccess, Outcome]:
        """Makes an access to a network (by its booking), with those of the devices that can be taken.

        Raises NotFound, IncompatibleNetworkState, InvalidArgument; where no device of several can be taken, that
        refusal if it is the same for all, else Unprocessable.
        """
        made = await self._store.write(partial(self._create, caller, asked, network))
        self._sinks.wake()
        return made

    async def get(self, caller: Caller, access_id: str) -> tuple[NetworkAccess, list[NetworkAccessMember]]:
        """The access and its devices in the order in which they came. Raises NotFound."""
        return await self._store.read(lambda reader: _with_members(reader, _require(reader, caller, access_id)))

    async def all(
        self, caller: Caller, network: str, device: CamaraDevice | None
    ) -> list[tuple[NetworkAccess, list[NetworkAccessMember]]]:
        """The caller's accesses, all or those to a network, all or those with a device."""
        owner = caller.require_agreement()

        def look(reader: Reader) -> list[tuple[NetworkAccess, list[NetworkAccessMember]]]:
            keys = [attachments.device_key(reader, each.device) for each in names_of(device)] if device else []
            found = [each for each in reader.all(NetworkAccess, parent=owner) if network in ("", each.booking_id)]
            return [
                _with_members(reader, each)
                for each in found
                if device is None or any(_member(reader, each.access_id, key) for key in keys)
            ]

        return await self._store.read(look)

    async def add(self, caller: Caller, access_id: str, devices: Sequence[CamaraDevice]) -> Outcome:
        """Adds what can be taken of the devices. Raises NotFound, IncompatibleNetworkState."""
        outcome = await self._store.write(partial(self._add_to, caller, access_id, devices))
        self._sinks.wake()
        return outcome

    async def remove(self, caller: Caller, access_id: str, devices: Sequence[CamaraDevice]) -> Outcome:
        """Ends what those of the devices that are there may use. Raises NotFound."""
        return await self._store.write(partial(self._remove_from, caller, access_id, devices))

    async def delete(self, caller: Caller, access_id: str) -> None:
        """Ends what all of its devices may use. Raises NotFound."""
        await self._store.write(lambda tx: self._forget(tx, _require(tx, caller, access_id)))
        self._sinks.wake()

    def forget_network(self, transaction: Transaction, booking_id: str) -> None:
        """Ends the accesses to a network, which is about to go."""
        for each in transaction.find(NetworkAccess, _NETWORK, booking_id):
            self._forget(transaction, each)

    def _create(
        self, caller: Caller, asked: CreateNetworkAccess, booking_id: str, transaction: Transaction
    ) -> tuple[NetworkAccess, Outcome]:
        owner = caller.require_agreement()
        network = transaction.get(DedicatedNetwork, booking_id)
        if network is None or network.agreement_id != owner:
            raise not_found(DedicatedNetwork, booking_id)
        network_access_id = _open_network(transaction, booking_id)
        _check_profiles(asked, network_access_id)
        now = transaction.clock.now()
        credential = credential_of(asked.sink_credential if asked.HasField("sink_credential") else None, now)
        access = NetworkAccess(access_id=new_id(), booking_id=booking_id, agreement_id=owner, asked=copy_of(asked))
        access.asked.ClearField("sink_credential")
        access.asked.ClearField("devices")
        access.create_time.FromDatetime(now)
        if asked.HasField("sink"):
            access.sink_id = self._sinks.create_sink(
                transaction,
                owner,
                asked.sink,
                credential=credential,
                event_types=(EVENT,),
                subject=subject_of(access.access_id),
                door=DOOR,
            )
        stored = transaction.insert(access, access.access_id, parent=owner, lookups={_NETWORK: booking_id})
        self._check_token(transaction, caller, asked.devices)
        outcome = self._add(transaction, stored, network_access_id, asked.devices)
        if outcome.errors and not outcome.taken:
            # With this nothing has been made.
            kinds = {_MANNERS.code_of(each) for each in outcome.errors}
            first = outcome.errors[0]
            raise first if len(kinds) == 1 else Unprocessable("devices: none of them could be taken")
        return stored, outcome

    def _add_to(
        self, caller: Caller, access_id: str, devices: Sequence[CamaraDevice], transaction: Transaction
    ) -> Outcome:
        access = _require(transaction, caller, access_id)
        network_access_id = _open_network(transaction, access.booking_id)
        self._check_token(transaction, caller, devices)
        return self._add(transaction, access, network_access_id, devices)

    def _add(
        self,
        transaction: Transaction,
        access: NetworkAccess,
        network_access_id: NetworkAccessId,
        devices: Sequence[CamaraDevice],
    ) -> Outcome:
        outcome = Outcome()
        for index, device in enumerate(devices):
            names = names_or_refusal(device, f"devices[{index}]", outcome)
            if names:
                try:
                    work = self._adding(transaction, access, network_access_id, names)
                    outcome.taken.append(transaction.apart(work))
                except CastcoreError as error:
                    outcome.refuse(device, error)
        if outcome.taken:
            _tell(transaction, access.agreement_id, outcome.taken)
        return outcome

    def _adding(
        self, transaction: Transaction, access: NetworkAccess, network_access_id: NetworkAccessId, names: Sequence[Name]
    ) -> Callable[[], NetworkAccessMember]:
        def add() -> NetworkAccessMember:
            name, key = _chosen(transaction, names)
            if transaction.find(NetworkAccessMember, _NETWORK_DEVICE, f"{access.booking_id}/{key}"):
                raise DeviceListedAlready("device: it has access to the network already")
            made = self._accesses.create_in(transaction, network_access_id.network_access_id, name.device)
            status, reason = standing_of(made)
            member = NetworkAccessMember(
                access_id=access.access_id,
                device_key=key,
                device=name.view,
                device_access_id=made.access_id,
                status=status,
                reason=reason,
            )
            lookups = {
                _DEVICE_ACCESS: made.access_id,
                _ACCESS_DEVICE: f"{access.access_id}/{key}",
                _NETWORK_DEVICE: f"{access.booking_id}/{key}",
            }
            return transaction.insert(member, _name_of(access.access_id, key), parent=access.access_id, lookups=lookups)

        return add

    def _remove_from(
        self, caller: Caller, access_id: str, devices: Sequence[CamaraDevice], transaction: Transaction
    ) -> Outcome:
        access = _require(transaction, caller, access_id)
        self._check_token(transaction, caller, devices)
        outcome = Outcome()
        for index, device in enumerate(devices):
            names = names_or_refusal(device, f"devices[{index}]", outcome)
            if not names:
                continue
            keys = [attachments.device_key(transaction, each.device) for each in names]
            member = next((found for key in keys if (found := _member(transaction, access.access_id, key))), None)
            if member is None:
                outcome.refuse(device, IdentifierNotFound("device: it is not in the access"))
            else:
                self._end(transaction, member)
                outcome.taken.append(member)
        return outcome

    def _check_token(self, reader: Reader, caller: Caller, devices: Sequence[CamaraDevice]) -> None:
        """The token of a device's user is for that device alone, which has to be named all the same."""
        if caller.device is None:
            return
        own = attachments.device_key(reader, caller.device)
        if not devices:
            raise MissingIdentifier("devices: expected the device of the access token, found none")
        for index, device in enumerate(devices):
            keys = {attachments.device_key(reader, each.device) for each in names_of(device, f"devices[{index}]")}
            if own not in keys:
                if len(devices) == 1:
                    raise MissingIdentifier("devices: expected the device of the access token, found another")
                raise InvalidTokenContext(f"devices[{index}]: expected the device of the access token")

    def _forget(self, transaction: Transaction, access: NetworkAccess) -> None:
        for member in transaction.all(NetworkAccessMember, parent=access.access_id):
            self._end(transaction, member)
        if access.sink_id:
            self._sinks.end_sink(transaction, access.sink_id)
        transaction.delete(NetworkAccess, access.access_id)

    def _end(self, transaction: Transaction, member: NetworkAccessMember) -> None:
        transaction.delete(NetworkAccessMember, _name_of(member.access_id, member.device_key))
        try:
            self._accesses.delete_in(transaction, member.device_access_id)
        except NotFound:
            # It has been over for long.
            return


def on_access(transaction: Transaction, access: DeviceAccess, previous: DeviceAccess.State.ValueType) -> None:
    """What has become of a device access is told of the device."""
    del previous
    for member in transaction.find(NetworkAccessMember, _DEVICE_ACCESS, access.access_id):
        status, reason = standing_of(access)
        if member.status != status:
            member.status = status
            member.reason.CopyFrom(reason)
            stored = transaction.update(member, _name_of(member.access_id, member.device_key))
            _tell(transaction, access.agreement_id, [stored])


def names_or_refusal(device: CamaraDevice, path: str, outcome: Outcome) -> list[Name]:
    """The names of a device; none: it is refused for having none that is supported.

    Raises InvalidArgument for what is no name.
    """
    try:
        return names_of(device, path)
    except Unprocessable as error:
        outcome.refuse(device, error)
        return []


def _chosen(reader: Reader, names: Sequence[Name]) -> tuple[Name, str]:
    """The name that is used, with the device's key. A phone number may be of a device that is not attached yet."""
    for name in names:
        if attachments.resolve(reader, name.device) is not None or name.device.phone_number:
            return name, attachments.device_key(reader, name.device)
    raise IdentifierNotFound("device: no device of this name is known")


def _open_network(reader: Reader, booking_id: str) -> NetworkAccessId:
    """What devices of a network use. Raises IncompatibleNetworkState where it is over."""
    state = reader.require(Booking, booking_id).state
    issued = network_access_ids.of_booking(reader, booking_id)
    if status_of(state) == NETWORK_STATUS_TERMINATED or not issued:
        raise IncompatibleNetworkState("networkId: expected a network that is not TERMINATED")
    return issued[0]


def _check_profiles(asked: CreateNetworkAccess, network_access_id: NetworkAccessId) -> None:
    known = network_access_id.profile_id
    for index, each in enumerate(asked.qos_profiles):
        if each != known:
            raise InvalidArgument.of(f"qosProfiles[{index}]", f"expected {known!r}, found {each[:64]!r}")
    if asked.HasField("default_qos_profile") and asked.default_qos_profile != known:
        raise InvalidArgument.of("defaultQosProfile", f"expected {known!r}, found {asked.default_qos_profile[:64]!r}")


def _require(reader: Reader, caller: Caller, access_id: str) -> NetworkAccess:
    access = reader.get(NetworkAccess, access_id)
    if access is None or access.agreement_id != caller.agreement_id:
        raise not_found(NetworkAccess, access_id)
    return access


def _with_members(reader: Reader, access: NetworkAccess) -> tuple[NetworkAccess, list[NetworkAccessMember]]:
    return access, list(reader.all(NetworkAccessMember, parent=access.access_id))


def _member(reader: Reader, access_id: str, key: str) -> NetworkAccessMember | None:
    return next(iter(reader.find(NetworkAccessMember, _ACCESS_DEVICE, f"{access_id}/{key}")), None)


def _name_of(access_id: str, key: str) -> str:
    return f"{access_id}/{key}"


def _tell(transaction: Transaction, agreement_id: str, members: Sequence[NetworkAccessMember]) -> None:
    access_id = members[0].access_id
    changed = NetworkAccessDevicesChanged(access_id=access_id, members=members)
    audience = (audience_of(agreement_id),)
    transaction.emit(EVENT, subject_of(access_id), changed, source="netapi", audience=audience)
