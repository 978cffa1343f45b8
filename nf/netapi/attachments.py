"""The UEs that are attached, kept as the SMF tells of them, and which of them a device means (TS 29.502, TS 29.508).

The SMF's list is the truth at the beginning of every stream, its events after that. An event says which session to ask
for; what the answer says is kept, so that it does not matter how late the event comes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

import grpc

from nf.common.errors import NotFound
from nf.common.resources import copy_of
from nf.common.store import Reader, Store, Transaction
from nf.common.subscribe import Subscriber
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.common.v1.types_pb2 import Snssai
from nf.netapi import devices
from nf.netapi.errors import AmbiguousDevice, DeviceMismatch
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.location_pb2 import AttachedUe, SubscriberNames
from nf.smf.v1.pdu_session_pb2 import (
    GetPduSessionRequest,
    ListPduSessionsRequest,
    PduSession,
    PduSessionStatus,
)
from nf.smf.v1.pdu_session_pb2_grpc import PduSessionsServiceStub, SmfEventsServiceStub

FROM_SMF: Final = "netapi from smf"
_PAGE: Final = 1000
# So many changes of a list are one write.
_TOGETHER: Final = 200
_NOTED_EVERY: Final = 1000

# What is done in the transaction that takes note of an attachment (True), a change of it, or a detachment (False).
AttachmentFollower: TypeAlias = Callable[[Transaction, AttachedUe, bool], None]


def resolve(reader: Reader, device: Device, *, dnn: str = "", s_nssai: Snssai | None = None) -> AttachedUe | None:
    """The attached UE that a device means; None: none of its names is one of an attached UE.

    Of several PDU sessions of a UE the first one that was set up, in ``dnn`` and ``s_nssai`` where they are given.
    Raises InvalidArgument for a device that is none, DeviceMismatch where its names mean different ones,
    AmbiguousDevice for an address that UEs have in several data networks.
    """
    checked = devices.check_device(device, "device")
    found = {ue.sm_context_ref: ue for name in _lookups_of(checked) for ue in reader.find(AttachedUe, *name)}
    meant = [ue for ue in found.values() if not _contradiction(ue, checked)]
    if found and not meant:
        first = next(iter(found.values()))
        raise DeviceMismatch.of("device", f"its names mean different ones: {_contradiction(first, checked)}")
    meant = [ue for ue in meant if _is_in(ue, dnn, s_nssai)]
    if len({ue.supi for ue in meant}) > 1:
        where = ", ".join(repr(ue.dnn) for ue in meant)
        raise AmbiguousDevice(f"device: it is one of several, in the data networks {where}: name it by more")
    return meant[0] if meant else None


def device_key(reader: Reader, device: Device) -> str:
    """One and the same text for all names of a device: its SUPI, or its canonical name where that is not known.

    Raises as ``resolve`` does.
    """
    ue = resolve(reader, device)
    if ue is not None:
        return ue.supi
    known = {names.supi for names in _subscribers(reader, device)}
    if len(known) > 1:
        raise DeviceMismatch.of("device", f"its names mean different ones: {len(known)} subscribers have them")
    return next(iter(known), "") or devices.canonical_names(devices.check_device(device, "device"))[0]


def attached_ues(reader: Reader, key: str) -> list[AttachedUe]:
    """The PDU sessions of the device with this key, in the order in which they were set up."""
    return reader.find(AttachedUe, devices.SUPI, key)


def names_of(ue: AttachedUe) -> tuple[str, ...]:
    """Every key that the device may have had before it was known by its SUPI."""
    return tuple(
        name
        for name in (
            ue.gpsi,
            f"extid-{ue.supi.removeprefix('nai-')}" if ue.supi.startswith("nai-") else "",
            f"ipv4-{ue.ipv4_address}" if ue.ipv4_address else "",
            f"ipv6-{ue.ipv6_prefix}" if ue.ipv6_prefix else "",
        )
        if name
    )


def device_of(ue: AttachedUe) -> Device:
    """The device by all names that the network knows."""
    device = Device(supi=ue.supi, ipv4_address=ue.ipv4_address)
    kind, _, rest = ue.gpsi.partition("-")
    if kind == "msisdn":
        device.phone_number = f"+{rest}"
    elif kind == "extid":
        device.network_access_identifier = rest
    if ue.ipv6_prefix:
        device.ipv6_address = ue.ipv6_prefix.partition("/")[0]
    return device


def _lookups_of(device: Device) -> list[tuple[str, str]]:
    found = []
    if device.supi:
        found.append((devices.SUPI, device.supi))
    if device.phone_number:
        found.append((devices.GPSI, devices.gpsi_of(device.phone_number)))
    if device.network_access_identifier:
        found.append((devices.GPSI, f"extid-{device.network_access_identifier}"))
        found.append((devices.SUPI, f"nai-{device.network_access_identifier}"))
    if device.ipv4_address:
        found.append((devices.IPV4, device.ipv4_address))
    if device.ipv6_address:
        found.append((devices.IPV6, devices.prefix_of(device.ipv6_address)))
    return found


def _subscribers(reader: Reader, device: Device) -> list[SubscriberNames]:
    return [
        names
        for field, value in _lookups_of(device)
        if field in (devices.SUPI, devices.GPSI)
        for names in reader.find(SubscriberNames, field, value)
    ]


def _contradiction(ue: AttachedUe, device: Device) -> str:
    """Which of the names that are given is another one at this UE; empty: none."""
    has = device_of(ue)
    identifiers = {has.network_access_identifier, ue.supi.removeprefix("nai-") if ue.supi.startswith("nai-") else ""}
    pairs = (
        ("supi", device.supi, {ue.supi}),
        ("phone_number", device.phone_number, {has.phone_number or device.phone_number}),
        (
            "network_access_identifier",
            device.network_access_identifier,
            (identifiers - {""}) or {device.network_access_identifier},
        ),
        ("ipv4_address", device.ipv4_address, {ue.ipv4_address}),
        ("ipv6_address", devices.prefix_of(device.ipv6_address) if device.ipv6_address else "", {ue.ipv6_prefix}),
    )
    for field, given, known in pairs:
        if given and given not in known:
            return f"{field} {given!r} is not that of the others"
    return ""


def _is_in(ue: AttachedUe, dnn: str, s_nssai: Snssai | None) -> bool:
    # The case of a data network name means nothing (TS 23.003 §9A).
    if dnn and ue.dnn.lower() != dnn.lower():
        return False
    return s_nssai is None or (ue.s_nssai.sst == s_nssai.sst and ue.s_nssai.sd.lower() == s_nssai.sd.lower())


def attached_ue(session: PduSession) -> AttachedUe:
    """What is kept of a PDU session."""
    return AttachedUe(
        sm_context_ref=session.sm_context_ref,
        supi=session.supi,
        gpsi=session.gpsi,
        ipv4_address=session.ue_ipv4_address,
        ipv6_prefix=session.ue_ipv6_prefix,
        dnn=session.dnn,
        s_nssai=session.s_nssai if session.HasField("s_nssai") else None,
        cell=session.user_location if session.HasField("user_location") else None,
    )


class Attachments:
    """Keeps the attached UEs as the SMF has them, from ``start`` to ``stop``."""

    def __init__(
        self, store: Store, smf: Callable[[], grpc.aio.Channel], followers: Sequence[AttachmentFollower] = ()
    ) -> None:
        self._store = store
        self._smf_channel = smf
        self.followers = list(followers)
        self._passed_over = 0
        self._subscriber = Subscriber(FROM_SMF, store, self._stream, _nothing_more, prepare=self._take)

    async def start(self) -> None:
        """Begins to follow the SMF."""
        await self._subscriber.start()

    async def stop(self) -> None:
        """Ends following; the next start begins with the SMF's list."""
        await self._subscriber.stop()

    async def _stream(self, after: int) -> AsyncIterator[Event]:
        await self.align()
        stub = SmfEventsServiceStub(self._smf_channel())
        async for response in stub.WatchEvents(WatchEventsRequest(after_sequence=after)):
            yield response.event

    async def align(self) -> None:
        """Makes what is kept the same as the SMF's list."""
        stub = PduSessionsServiceStub(self._smf_channel())
        listed: dict[str, AttachedUe] = {}
        token = ""
        while True:
            answer = await stub.ListPduSessions(ListPduSessionsRequest(page_size=_PAGE, page_token=token))
            for session in answer.pdu_sessions:
                if session.state == PduSession.STATE_ACTIVE:
                    listed[session.sm_context_ref] = attached_ue(session)
            token = answer.next_page_token
            if not token:
                break
        kept = await self._store.read(lambda reader: {ue.sm_context_ref: ue for ue in reader.all(AttachedUe)})
        changes: list[tuple[str, AttachedUe | None]] = [(ref, None) for ref in kept.keys() - listed.keys()]
        changes += [(ref, ue) for ref, ue in listed.items() if kept.get(ref) != ue]
        for begin in range(0, len(changes), _TOGETHER):
            await self._store.write(partial(self._keep_all, changes[begin : begin + _TOGETHER]))

    async def _take(self, event: Event) -> bool:
        status = PduSessionStatus()
        if not event.payload.Unpack(status) or not status.sm_context_ref:
            # Usage reports are many: now and then it is noted how far they have been passed over.
            self._passed_over = (self._passed_over + 1) % _NOTED_EVERY
            return self._passed_over == 0
        ref = status.sm_context_ref
        stub = PduSessionsServiceStub(self._smf_channel())
        try:
            session = (await stub.GetPduSession(GetPduSessionRequest(sm_context_ref=ref))).pdu_session
        except NotFound:
            session = None
        active = session is not None and session.state == PduSession.STATE_ACTIVE
        ue = attached_ue(session) if session is not None and active else None
        if await self._store.read(lambda reader: reader.get(AttachedUe, ref)) != ue:
            await self._store.write(partial(self._keep, ref, ue))
        return True

    def _keep_all(self, changes: Sequence[tuple[str, AttachedUe | None]], transaction: Transaction) -> None:
        for ref, ue in changes:
            self._keep(ref, ue, transaction)

    def _keep(self, ref: str, ue: AttachedUe | None, transaction: Transaction) -> None:
        before = transaction.get(AttachedUe, ref)
        if before is not None and (ue is None or before.supi != ue.supi):
            transaction.delete(AttachedUe, ref)
            self._tell(transaction, before, attached=False)
        if ue is None or ue == before:
            return
        transaction.put(
            ue,
            ref,
            lookups={
                devices.SUPI: ue.supi,
                devices.GPSI: ue.gpsi,
                devices.IPV4: ue.ipv4_address,
                devices.IPV6: ue.ipv6_prefix,
            },
        )
        transaction.put(
            SubscriberNames(supi=ue.supi, gpsi=ue.gpsi), ue.supi, lookups={devices.SUPI: ue.supi, devices.GPSI: ue.gpsi}
        )
        self._tell(transaction, ue, attached=True)

    def _tell(self, transaction: Transaction, ue: AttachedUe, *, attached: bool) -> None:
        for follower in self.followers:
            follower(transaction, copy_of(ue), attached)


def _nothing_more(_: Transaction, __: Event) -> None:
    return
