"""Device accesses on a store, with a PCF that answers as told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

from netapi_places import PHONE, START, SUPI, circle, keep_ue, seen, ue

from nf.common.clock import ManualClock
from nf.common.errors import AlreadyExists, CastcoreError, NotFound
from nf.common.resources import copy_of
from nf.common.store import Store, Transaction, url_for
from nf.common.v1.events_pb2 import Event
from nf.netapi.access_decision import Deed
from nf.netapi.accesses import Accesses
from nf.netapi.config import NetapiSection
from nf.netapi.v1.access_pb2 import Device, DeviceAccess
from nf.netapi.v1.booking_pb2 import OUTSIDE_POLICY_REFUSED, Booking, NetworkAccessId
from nf.netapi.v1.coverage_pb2 import CAPABILITY_QUALITY_ON_DEMAND, QosProfile, ServiceArea
from nf.pcf.v1 import policy_authorization_pb2 as n5

QOD = "nai-quality"
CAR = Device(phone_number=PHONE)
MBPS = 1_000_000


def enforcement_of(asked: n5.AppSessionContextReqData) -> n5.Enforcement:
    """What a PCF enforces that grants everything."""
    (component,) = asked.med_components
    return n5.Enforcement(
        enforcement_method=component.enforcement_method,
        enforcement_bit_rate_dl_bps=component.mar_bw_dl_bps,
        guaranteed_bit_rate_dl_bps=component.mir_bw_dl_bps,
    )


class FakePcf:
    """Keeps application sessions as a PCF does; ``fails`` are raised in place of an effect, ``loses`` after it."""

    def __init__(self) -> None:
        self.sessions: dict[str, n5.AppSessionContextReqData] = {}
        self.deeds: list[tuple[Deed, str]] = []
        self.fails: list[CastcoreError] = []
        self.loses: list[CastcoreError] = []
        self.state: n5.AppSession.State.ValueType = n5.AppSession.STATE_ACTIVE
        # What happens while the PCF is being asked.
        self.meanwhile: list[Callable[[], Awaitable[object]]] = []

    async def ask(
        self, deed: Deed, app_session_id: str, asked: n5.AppSessionContextReqData
    ) -> n5.AppSession | n5.EventNotification:
        self.deeds.append((deed, app_session_id))
        while self.meanwhile:
            await self.meanwhile.pop(0)()
        if self.fails:
            raise self.fails.pop(0)
        if deed is Deed.DELETE:
            self.sessions.pop(app_session_id, None)
            answer: n5.AppSession | n5.EventNotification = n5.EventNotification(
                app_session_id=app_session_id, event=n5.AF_EVENT_USAGE_REPORT, zero_rated_bytes=1500
            )
        else:
            known = self.sessions.get(app_session_id)
            if deed is Deed.CREATE and known is not None and known != asked:
                raise AlreadyExists(f"app session {app_session_id!r} exists with other content")
            if deed is Deed.UPDATE and known is None:
                raise NotFound(f"app session {app_session_id!r} does not exist")
            self.sessions[app_session_id] = copy_of(asked)
            enforcement = enforcement_of(asked)
            answer = n5.AppSession(
                app_session_id=app_session_id,
                state=self.state,
                asc_resp_data=n5.AppSessionContextRespData(enforcement=enforcement, revision=len(self.deeds)),
            )
        if self.loses:
            raise self.loses.pop(0)
        return answer

    async def session(self, app_session_id: str) -> n5.AppSession | None:
        if app_session_id not in self.sessions:
            return None
        enforcement = enforcement_of(self.sessions[app_session_id])
        answered = n5.AppSessionContextRespData(enforcement=enforcement, revision=len(self.deeds))
        return n5.AppSession(state=self.state, asc_resp_data=answered)

    async def states(self) -> dict[str, n5.AppSession.State.ValueType]:
        return dict.fromkeys(self.sessions, self.state)

    @property
    def what(self) -> list[str]:
        """What was asked, by name."""
        return [deed.name for deed, _ in self.deeds]


class Stand:
    """Accesses on a store that a new process may open again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock(START)
        self.pcf = FakePcf()
        self.usage: list[tuple[str, n5.EventNotification, datetime]] = []
        self.changes: list[tuple[str, str]] = []
        self.open()

    def open(self) -> None:
        self.store = Store.open(url_for(self.folder, "netapi"), clock=self.clock)
        self.accesses = Accesses(
            self.store,
            self.pcf,
            NetapiSection(),
            followers=(self._changed,),
            usage_followers=(lambda _, access, told, at: self.usage.append((access.access_id, told, at)),),
        )

    def _changed(self, transaction: Transaction, access: DeviceAccess, previous: DeviceAccess.State.ValueType) -> None:
        assert transaction.require(DeviceAccess, access.access_id) == access
        names = DeviceAccess.State.Name
        self.changes.append((names(previous)[6:], names(access.state)[6:]))

    async def restart(self, *, running: bool = False) -> None:
        await self.accesses.stop()
        await self.store.close()
        self.open()
        if running:
            await self.accesses.start()

    async def book(
        self,
        *,
        state: Booking.State.ValueType = Booking.STATE_ACTIVE,
        devices: int = 2,
        downlink_bps: int = 2 * MBPS,
        refused: bool = False,
        active: bool = True,
    ) -> None:
        """A booking of quality in a circle of a kilometre, or a change of it."""

        def work(tx: Transaction) -> None:
            tx.put(ServiceArea(area_id="vienna", geometry=circle()), "vienna")
            booking = Booking(booking_id="booking", agreement_id="radio", state=state)
            booking.request.population.application_id = "radio.app"
            if refused:
                booking.request.outside = OUTSIDE_POLICY_REFUSED
            tx.put(booking, "booking", parent="radio")
            qos = QosProfile(five_qi=3, max_downlink_bps=downlink_bps, guaranteed_downlink_bps=MBPS)
            issued = NetworkAccessId(
                network_access_id=QOD,
                booking_id="booking",
                area_id="vienna",
                active=active,
                devices=devices,
                capability=CAPABILITY_QUALITY_ON_DEMAND,
                qos=qos,
            )
            tx.put(issued, QOD, parent="booking")
            self.accesses.on_booking(tx, booking, ())

        await self.store.write(work)

    async def attach(self, **changes: object) -> None:
        made = ue(**changes)  # type: ignore[arg-type]

        def work(tx: Transaction) -> None:
            keep_ue(tx, made)
            self.accesses.on_attachment(tx, made, True)

        await self.store.write(work)

    async def detach(self, ref: str = "ue1") -> None:
        def work(tx: Transaction) -> None:
            gone = tx.require(type(ue()), ref)
            tx.delete(type(gone), ref)
            self.accesses.on_attachment(tx, gone, False)

        await self.store.write(work)

    async def move(self, metres: float, *, key: str = SUPI) -> None:
        position = seen(metres, self.clock.now())

        def work(tx: Transaction) -> None:
            tx.put(position, key)
            self.accesses.on_position(tx, key, position)

        await self.store.write(work)

    async def converge(self) -> None:
        """Does what is due, as the driver would."""
        for each in await self.store.read(lambda reader: reader.due(DeviceAccess, self.clock.now())):
            await self.accesses._due(each.name, each.message)

    async def access(self) -> DeviceAccess:
        """The one access that there is."""
        (found,) = await self.store.read(lambda reader: reader.all(DeviceAccess))
        return found

    async def events(self) -> list[Event]:
        return await self.store.read(lambda reader: reader.events(0))

    async def told(self, event: n5.AfEvent.ValueType, **content: object) -> None:
        """The PCF tells of the application session of the access."""
        access = await self.access()
        notification = n5.EventNotification(app_session_id=access.app_session_id, event=event, **content)  # type: ignore[arg-type]
        await self.store.write(lambda tx: self.accesses.installing.on_notification(tx, notification, START))
