"""Whatever happens to accesses: once the network answers again it has what is wanted, and nothing else."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netapi_access_stand import CAR, MBPS, QOD, Stand
from netapi_places import SUPI

from nf.common.errors import Internal, PermissionDenied, Unavailable
from nf.netapi.errors import NetworkAccessDevicesExhausted, NetworkAccessIdInactive
from nf.netapi.v1.access_pb2 import AccessInstallation, Device, DeviceAccess
from nf.netapi.v1.booking_pb2 import Booking, NetworkAccessId
from nf.pcf.v1 import policy_authorization_pb2 as n5

OTHER = {"ref": "ue2", "supi": "imsi-232010000000002", "gpsi": "msisdn-431", "ipv4_address": "10.45.0.3"}
DEVICES = {"car": CAR, "other": Device(ipv4_address="10.45.0.3")}
STATES = [Booking.STATE_ACTIVE] * 3 + [Booking.STATE_BOOKED, Booking.STATE_SUSPENDED]
ERRORS = [Unavailable("away"), Internal("broken"), PermissionDenied("too much")]

deeds = st.one_of(
    st.tuples(st.just("present"), st.sampled_from(sorted(DEVICES))),
    st.tuples(st.just("end"), st.sampled_from(sorted(DEVICES))),
    st.tuples(st.just("move"), st.sampled_from([SUPI, OTHER["supi"]]), st.sampled_from([0, 5_000])),
    st.tuples(st.just("attach"), st.booleans()),
    st.tuples(st.just("detach"), st.booleans()),
    st.tuples(
        st.just("book"),
        st.sampled_from(STATES),
        st.integers(1, 2),
        st.sampled_from([2 * MBPS, 4 * MBPS]),
        st.booleans(),
    ),
    st.tuples(st.just("fail"), st.sampled_from(ERRORS), st.booleans()),
    st.tuples(st.just("lose"), st.sampled_from([n5.AppSession.STATE_TERMINATED, n5.AppSession.STATE_INTERRUPTED])),
    st.tuples(st.just("pass"), st.integers(1, 10)),
    st.tuples(st.just("restart")),
)


class World(Stand):
    """Does what it is told, as far as that can be."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.attached: set[str] = set()
        self.presented: dict[str, str] = {}
        self.metres: dict[str, float] = {}

    async def do(self, name: str, *what) -> None:
        await getattr(self, f"do_{name}")(*what)

    async def do_present(self, name: str) -> None:
        try:
            self.presented[name] = (await self.accesses.create(QOD, DEVICES[name])).access_id
        except (NetworkAccessDevicesExhausted, NetworkAccessIdInactive):
            return

    async def do_end(self, name: str) -> None:
        if name in self.presented:
            await self.accesses.delete(self.presented[name])

    async def do_move(self, key: str, metres: float) -> None:
        self.metres[key] = metres
        await self.move(metres, key=key)

    async def do_attach(self, second: bool) -> None:
        ref = "ue2" if second else "ue1"
        if ref not in self.attached:
            self.attached.add(ref)
            await self.attach(**(OTHER if second else {}))

    async def do_detach(self, second: bool) -> None:
        ref = "ue2" if second else "ue1"
        if ref in self.attached:
            self.attached.remove(ref)
            await self.detach(ref)

    async def do_book(self, state: Booking.State.ValueType, devices: int, downlink_bps: int, refused: bool) -> None:
        await self.book(state=state, devices=devices, downlink_bps=downlink_bps, refused=refused)

    async def do_fail(self, error: Exception, done: bool) -> None:
        (self.pcf.loses if done else self.pcf.fails).append(error)

    async def do_lose(self, state: n5.AppSession.State.ValueType) -> None:
        """The PCF says of a session that it has ended it, or does not enforce it at present."""
        for app_session_id in list(self.pcf.sessions)[:1]:
            notification = n5.EventNotification(
                app_session_id=app_session_id, event=n5.AF_EVENT_FAILED_RESOURCES_ALLOCATION, state=state
            )
            told = partial(self.accesses.installing.on_notification, told=notification, at=self.clock.now())
            await self.store.write(told)

    async def do_pass(self, seconds: int) -> None:
        self.clock.advance(timedelta(seconds=seconds))
        await self.converge()

    async def do_restart(self) -> None:
        await self.restart()

    async def come_to_rest(self) -> None:
        """The network answers, and there is nothing left to do."""
        self.pcf.fails.clear()
        self.pcf.loses.clear()
        for _ in range(4):
            self.clock.advance(timedelta(seconds=5))
            await self.converge()
        # What is only interrupted is brought back by the PCF itself.
        await self.accesses.installing.align()

    async def check(self) -> None:
        accesses = await self.store.read(lambda reader: reader.all(DeviceAccess))
        kept = {each.access_id: each for each in await self.store.read(lambda reader: reader.all(AccessInstallation))}
        wanted = set()
        for access in accesses:
            installed = kept[access.access_id]
            assert access.state in (DeviceAccess.STATE_IN_USE, DeviceAccess.STATE_WAITING, DeviceAccess.STATE_ENDED)
            if access.state == DeviceAccess.STATE_IN_USE:
                session = self.pcf.sessions[access.app_session_id]
                assert session.med_components[0].mar_bw_dl_bps == access.max_downlink_bps
                assert session.med_components[0].f_status != n5.FLOW_STATUS_DISABLED
                assert access.inside_area
            elif access.app_session_id:
                session = self.pcf.sessions[access.app_session_id]
                assert session.med_components[0].f_status == n5.FLOW_STATUS_DISABLED
                assert access.max_downlink_bps == 0
            if access.state == DeviceAccess.STATE_ENDED:
                assert not access.app_session_id
            if access.app_session_id:
                wanted.add(access.app_session_id)
            assert access.app_session_id == installed.app_session_id
        # Nothing stays in the network that nobody knows of.
        assert set(self.pcf.sessions) == wanted
        # The oldest of those that are not over have it, where they are attached and inside.
        (booked,) = await self.store.read(lambda reader: reader.all(Booking))
        (issued,) = await self.store.read(lambda reader: reader.all(NetworkAccessId))
        standing = [each for each in accesses if each.state != DeviceAccess.STATE_ENDED]
        for place, access in enumerate(standing):
            key = kept[access.access_id].device_key
            attached = ("ue1" if key == SUPI else "ue2") in self.attached
            entitled = place < issued.devices and attached and self.metres.get(key) == 0
            used = access.state == DeviceAccess.STATE_IN_USE
            assert used == (entitled and booked.state == Booking.STATE_ACTIVE)


@pytest.mark.clause("5G-MAG live media distribution C")
@settings(max_examples=25, deadline=None)
@given(st.lists(deeds, max_size=25))
def test_whatever_happens_the_network_has_what_is_wanted_and_nothing_else(story: list[tuple]) -> None:
    async def play() -> None:
        with tempfile.TemporaryDirectory() as folder:
            world = World(Path(folder))
            await world.book()
            await world.do("attach", False)
            await world.do("move", SUPI, 0)
            try:
                for deed in story:
                    await world.do(*deed)
                await world.come_to_rest()
                await world.check()
                await world.book(state=Booking.STATE_RELEASED)
                await world.come_to_rest()
                assert world.pcf.sessions == {}
                ended = await world.store.read(lambda reader: reader.all(DeviceAccess))
                assert {each.state for each in ended} <= {DeviceAccess.STATE_ENDED}
            finally:
                await world.accesses.stop()
                await world.store.close()

    asyncio.run(play())
