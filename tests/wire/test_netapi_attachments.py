"""UEs that attach at the SMF are known to the platform, in their cells, whoever of the two is away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from control_plane import GPSI, SUPI, UE, ControlPlane, running
from netapi_places import cell

from nf.common.clock import SystemClock
from nf.common.errors import InvalidArgument, NotFound
from nf.common.store import Store, Transaction, url_for
from nf.common.v1.mbs_pb2 import Ncgi
from nf.netapi.attachments import Attachments, device_key, resolve
from nf.netapi.positions import Positions, position_of
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.location_pb2 import AttachedUe
from nf.smf.v1 import pdu_session_pb2 as pdu
from nf.smf.v1.pdu_session_pb2_grpc import PduSessionsServiceStub

PATIENCE_S = 20.0


class Kept:
    """What a platform keeps of the UEs that attach at an SMF."""

    def __init__(self, folder: Path, plane: ControlPlane) -> None:
        self.store = Store.open(url_for(folder, "netapi"), clock=SystemClock())
        self._changed = asyncio.Event()
        self._attachments = Attachments(
            self.store, lambda: plane.channel("smf"), (Positions(self.store).on_attachment, self._note)
        )

    def _note(self, _: Transaction, __: AttachedUe, ___: bool) -> None:
        self._changed.set()

    async def until(self, satisfied: Callable[[list[AttachedUe]], bool]) -> list[AttachedUe]:
        """The attached UEs, once they are so."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                # After the writes that have been told of.
                known = await self.store.write(lambda tx: tx.all(AttachedUe))
                if satisfied(known):
                    return known
                await self._changed.wait()
                self._changed.clear()

    @classmethod
    @asynccontextmanager
    async def by(cls, folder: Path, plane: ControlPlane) -> AsyncIterator[Kept]:
        """It is kept meanwhile."""
        made = cls(folder, plane)
        await made._attachments.start()
        try:
            yield made
        finally:
            await made._attachments.stop()
            await made.store.close()


async def move(plane: ControlPlane, ref: str, to: Ncgi | None) -> pdu.PduSession:
    stub = PduSessionsServiceStub(plane.channel("smf"))
    request = pdu.UpdateUserLocationRequest(sm_context_ref=ref, user_location=to)
    return (await stub.UpdateUserLocation(request)).pdu_session


async def release(plane: ControlPlane, ref: str) -> None:
    stub = PduSessionsServiceStub(plane.channel("smf"))
    await stub.ReleasePduSession(pdu.ReleasePduSessionRequest(sm_context_ref=ref))


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    (tmp_path / "core").mkdir()
    async with running(tmp_path / "core") as made:
        yield made


@pytest.mark.clause("5G-MAG live media distribution B.1 geographical location")
async def test_ues_come_move_and_go(tmp_path: Path, plane: ControlPlane) -> None:
    await plane.attach(user_location=cell())
    async with Kept.by(tmp_path, plane) as made:
        (known,) = await made.until(lambda ues: len(ues) == 1)
        assert (known.supi, known.gpsi, known.ipv4_address, known.dnn) == (SUPI, GPSI, UE, "internet")
        assert known.cell == cell()
        await plane.attach(sm_context_ref="ue-2", supi="imsi-2", pdu_session_id=1, gpsi="", ue_ipv4_address="10.45.0.3")
        await made.until(lambda ues: len(ues) == 2)
        await move(plane, "ue-1", cell("0000000B2"))
        await made.until(lambda ues: ues[0].cell == cell("0000000B2"))
        position = await made.store.read(lambda reader: position_of(reader, SUPI))
        assert position is not None
        assert position.cell == cell("0000000B2")
        await release(plane, "ue-1")
        (rest,) = await made.until(lambda ues: len(ues) == 1)
        assert rest.sm_context_ref == "ue-2"
        # Its number still means the same subscriber.
        phone = Device(phone_number=f"+{GPSI.removeprefix('msisdn-')}")
        assert await made.store.read(lambda reader: resolve(reader, phone)) is None
        assert await made.store.read(lambda reader: device_key(reader, phone)) == SUPI


async def test_what_happens_while_the_platform_is_away_is_known_when_it_is_back(
    tmp_path: Path, plane: ControlPlane
) -> None:
    await plane.attach()
    await plane.attach(sm_context_ref="ue-2", supi="imsi-2", gpsi="", ue_ipv4_address="10.45.0.3")
    async with Kept.by(tmp_path, plane) as made:
        await made.until(lambda ues: len(ues) == 2)
    await release(plane, "ue-1")
    await plane.attach(sm_context_ref="ue-3", supi="imsi-3", gpsi="", ue_ipv4_address=UE, user_location=cell())
    await move(plane, "ue-2", cell("0000000B2"))
    async with Kept.by(tmp_path, plane) as made:
        known = await made.until(lambda ues: {ue.sm_context_ref for ue in ues} == {"ue-2", "ue-3"})
        await made.until(lambda ues: all(ue.HasField("cell") for ue in ues))
        assert {ue.supi for ue in known} == {"imsi-2", "imsi-3"}
        device = Device(ipv4_address=UE)
        assert await made.store.read(lambda reader: device_key(reader, device)) == "imsi-3"


async def test_what_happens_while_the_smf_is_away_to_it_is_known_when_it_is_back(
    tmp_path: Path, plane: ControlPlane
) -> None:
    async with Kept.by(tmp_path, plane) as made:
        await plane.attach()
        await made.until(lambda ues: len(ues) == 1)
        await plane.lay_down("smf")
        await plane.take_up("smf")
        await plane.attach(sm_context_ref="ue-2", supi="imsi-2", gpsi="", ue_ipv4_address="10.45.0.3")
        await release(plane, "ue-1")
        (rest,) = await made.until(lambda ues: [ue.sm_context_ref for ue in ues] == ["ue-2"])
        assert rest.supi == "imsi-2"


async def test_a_cell_that_is_none_or_of_no_session_is_refused(plane: ControlPlane) -> None:
    await plane.attach()
    with pytest.raises(InvalidArgument) as refusal:
        await move(plane, "ue-1", Ncgi(nr_cell_id="A1"))
    assert [each.field for each in refusal.value.violations] == [
        "user_location.plmn_id.mcc",
        "user_location.plmn_id.mnc",
        "user_location.nr_cell_id",
    ]
    with pytest.raises(NotFound):
        await move(plane, "nobody", cell())
    with pytest.raises(InvalidArgument, match=r"pdu_session\.user_location\.nr_cell_id"):
        await plane.attach(sm_context_ref="ue-9", user_location=cell("XYZ"))


@pytest.mark.clause("TS 29.502 §5.2.2.3.2")
async def test_the_smf_tells_each_change_of_a_cell_once(plane: ControlPlane) -> None:
    first = await plane.attach(user_location=cell())
    for to in (cell(), cell("0000000B2"), cell("0000000B2"), None):
        moved = await move(plane, "ue-1", to)
        assert moved.HasField("user_location") == (to is not None)
    # A repeat of the request is the same session, wherever its UE is by now.
    assert (await plane.attach(user_location=cell())).sm_policy_id == first.sm_policy_id
    events = await plane.events("smf", lambda seen: [each.type for each in seen].count("USER_LOCATION") == 2)
    told = []
    for event in events:
        status = pdu.PduSessionStatus()
        if event.type == "USER_LOCATION" and event.payload.Unpack(status):
            told.append((status.sm_context_ref, status.supi, status.user_location.nr_cell_id))
    assert told == [("ue-1", SUPI, "0000000B2"), ("ue-1", SUPI, "")]
