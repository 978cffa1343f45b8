"""What the platform has to offer: service areas and capability profiles, kept, refused and discovered (phase B)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from netapi_platform import Face, Platform

from nf.common.errors import EtagMismatch, FailedPrecondition, InvalidArgument, NotFound
from nf.common.v1.mbs_pb2 import Ncgi, PlmnId
from nf.common.v1.types_pb2 import Snssai
from nf.netapi import capacity
from nf.netapi.calendar import Load, Reservation
from nf.netapi.capacity import Part
from nf.netapi.v1 import coverage_pb2 as v1

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.clause("5G-MAG live media distribution B.1 geographical location"),
]

VIENNA, GRAZ = v1.Point(latitude=48.2082, longitude=16.3738), v1.Point(latitude=47.0707, longitude=15.4395)
CELL = Ncgi(plmn_id=PlmnId(mcc="232", mnc="01"), nr_cell_id="00000ABCD")
QOD = v1.CAPABILITY_QUALITY_ON_DEMAND


def circle(center: v1.Point, radius_m: float) -> v1.Geometry:
    return v1.Geometry(circle=v1.Circle(center=center, radius_m=radius_m))


def profile(profile_id: str, **terms: object) -> v1.CapabilityProfile:
    wanted = {"capability": QOD, "qos": v1.QosProfile(five_qi=4, guaranteed_downlink_bps=1_000_000)} | terms
    return v1.CapabilityProfile(profile_id=profile_id, **wanted)  # type: ignore[arg-type]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with Platform(tmp_path_factory.mktemp("netapi")) as running:
        await running.area(v1.ServiceArea(area_id="vienna", geometry=circle(VIENNA, 10_000)))
        await running.area(v1.ServiceArea(area_id="graz", geometry=circle(GRAZ, 10_000), cells=[CELL]))
        await running.area(v1.ServiceArea(area_id="cell", cells=[CELL]))
        await running.area(v1.ServiceArea(area_id="all", everywhere=True))
        await running.profile(profile("audio"))
        await running.profile(
            v1.CapabilityProfile(
                profile_id="fence",
                capability=v1.CAPABILITY_GEOFENCING,
                geofencing=v1.GeofencingProfile(notify=True),
            )
        )
        yield running


async def listed(face: Face, **wanted: object) -> list[str]:
    found, token = [], ""
    while True:
        request = v1.ListServiceAreasRequest(page_token=token, **wanted)  # type: ignore[arg-type]
        page = await face.coverage.ListServiceAreas(request)
        found += [each.area_id for each in page.service_areas]
        token = page.next_page_token
        if not token:
            return found
        assert page.service_areas


async def test_areas_are_discovered_by_where_they_are(lab: Platform) -> None:
    provider = await lab.provider("finder")
    assert await listed(provider) == ["vienna", "graz", "cell", "all"]
    # 5 km from the middle of the one, 140 km from the other.
    near = circle(v1.Point(latitude=48.25, longitude=16.3738), 100)
    assert await listed(provider, touching=near) == ["vienna", "all"]
    between = circle(v1.Point(latitude=47.64, longitude=15.9), 64_000)
    assert await listed(provider, touching=between) == ["vienna", "graz", "all"]
    assert await listed(provider, cell=CELL) == ["graz", "cell", "all"]
    assert await listed(provider, cell=CELL, touching=circle(GRAZ, 1)) == ["graz", "all"]
    assert await listed(provider, touching=near, page_size=1) == ["vienna", "all"]
    with pytest.raises(InvalidArgument, match=r"touching\.circle\.radius_m"):
        await listed(provider, touching=circle(GRAZ, 0))
    with pytest.raises(InvalidArgument, match=r"cell\.nr_cell_id"):
        await listed(provider, cell=Ncgi(plmn_id=CELL.plmn_id, nr_cell_id="ABC"))


async def test_profiles_are_discovered_as_far_as_the_agreement_has_them(lab: Platform) -> None:
    every, some = await lab.provider("every"), await lab.provider("some", profile_ids=["fence"])
    for face, names in ((every, ["audio", "fence"]), (some, ["fence"])):
        request = v1.ListCapabilityProfilesRequest(page_size=1)
        first = await face.coverage.ListCapabilityProfiles(request)
        assert [each.profile_id for each in first.capability_profiles] == names[:1]
    audio = v1.GetCapabilityProfileRequest(profile_id="audio")
    assert (await every.coverage.GetCapabilityProfile(audio)).capability_profile.qos.five_qi == 4
    with pytest.raises(NotFound, match="audio"):
        await some.coverage.GetCapabilityProfile(audio)


async def test_an_area_is_replaced_with_its_etag_and_keeps_when_it_was_made(lab: Platform) -> None:
    made = await lab.area(v1.ServiceArea(area_id="moving", name="one", geometry=circle(VIENNA, 10)))
    wanted = v1.ServiceArea(area_id="moving", name="two", cells=[CELL], etag=made.etag)
    changed = await lab.area(wanted)
    assert (changed.name, changed.create_time, changed.HasField("geometry")) == ("two", made.create_time, False)
    with pytest.raises(EtagMismatch):
        await lab.area(wanted)
    with pytest.raises(EtagMismatch):
        await lab.area(v1.ServiceArea(area_id="new-one", everywhere=True, etag="1234"))
    await lab.face().coverage.DeleteServiceArea(v1.DeleteServiceAreaRequest(area_id="moving"))
    await lab.face().coverage.DeleteServiceArea(v1.DeleteServiceAreaRequest(area_id="moving"))
    with pytest.raises(NotFound, match="moving"):
        await lab.face().coverage.GetServiceArea(v1.GetServiceAreaRequest(area_id="moving"))


async def test_what_bookings_stand_on_is_not_removed(lab: Platform) -> None:
    await lab.area(v1.ServiceArea(area_id="taken", everywhere=True))
    await lab.profile(profile("taken"))
    part = Part("taken", "taken", Reservation(0, 10, Load(devices=1)))
    await lab.store.write(lambda tx: capacity.hold(tx, "b", [part]))
    coverage = lab.face().coverage
    calls = (
        lambda: coverage.DeleteServiceArea(v1.DeleteServiceAreaRequest(area_id="taken")),
        lambda: coverage.DeleteCapabilityProfile(v1.DeleteCapabilityProfileRequest(profile_id="taken")),
    )
    for call in calls:
        with pytest.raises(FailedPrecondition) as refused:
            await call()
        assert refused.value.reason == "STILL_BOOKED"
    await lab.store.write(lambda tx: capacity.end(tx, "b"))
    for call in calls:
        await call()


@pytest.mark.parametrize(
    ("area", "field"),
    [
        (v1.ServiceArea(everywhere=True), "area_id"),
        (v1.ServiceArea(area_id="x" * 257, everywhere=True), "area_id"),
        (v1.ServiceArea(area_id="x"), "geometry"),
        (v1.ServiceArea(area_id="x", everywhere=True, cells=[CELL]), "everywhere"),
        (v1.ServiceArea(area_id="x", geometry=v1.Geometry()), "geometry"),
        (v1.ServiceArea(area_id="x", geometry=circle(VIENNA, -1)), "geometry.circle.radius_m"),
        (v1.ServiceArea(area_id="x", cells=[CELL, CELL]), "cells[1]"),
        (v1.ServiceArea(area_id="x", cells=[Ncgi(nr_cell_id="00000ABCD")]), "cells[0].plmn_id.mcc"),
        (v1.ServiceArea(area_id="x", name="n" * 257, everywhere=True), "name"),
    ],
)
async def test_an_area_that_is_wrong_is_refused_by_its_field(lab: Platform, area: v1.ServiceArea, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await lab.area(area)
    assert refused.value.violations[0].field == f"service_area.{field}"


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"capability": 0}, "capability"),
        ({"capability": 77}, "capability"),
        ({"qos": None}, "qos"),
        ({"geofencing": v1.GeofencingProfile(verify=True)}, "geofencing"),
        ({"capability": v1.CAPABILITY_GEOFENCING}, "qos"),
        (
            {"capability": v1.CAPABILITY_GEOFENCING, "qos": None, "geofencing": v1.GeofencingProfile()},
            "geofencing",
        ),
        ({"qos": v1.QosProfile(five_qi=256)}, "qos.five_qi"),
        ({"qos": v1.QosProfile(five_qi=9, guaranteed_uplink_bps=1)}, "qos.five_qi"),
        ({"qos": v1.QosProfile(five_qi=4, guaranteed_uplink_bps=2, max_uplink_bps=1)}, "qos.max_uplink_bps"),
        ({"qos": v1.QosProfile(five_qi=9, max_downlink_bps=10**12)}, "qos.max_downlink_bps"),
        ({"qos": v1.QosProfile(five_qi=9, packet_error_loss_ppm=1_000_001)}, "qos.packet_error_loss_ppm"),
        ({"dnn": "inter net"}, "dnn"),
        ({"s_nssai": Snssai(sst=256)}, "s_nssai.sst"),
        ({"s_nssai": Snssai(sst=1, sd="12345")}, "s_nssai.sd"),
        ({"price_units_per_device_hour": 2**60}, "price_units_per_device_hour"),
    ],
)
async def test_a_profile_that_is_wrong_is_refused_by_its_field(
    lab: Platform, terms: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await lab.profile(profile("x", **terms))
    assert refused.value.violations[0].field == f"capability_profile.{field}"
