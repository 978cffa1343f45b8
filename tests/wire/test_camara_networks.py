"""The CAMARA doors of dedicated networks: every operation, held to the official files where they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from camara import NETWORK_ACCESSES, NETWORK_AREAS, NETWORK_PROFILES, NETWORKS, Walk
from camara_stack import MBPS, OTHER_PHONE, PHONE, UE, Camara, camara
from netapi_platform import START
from receiver import Receiver

from nf.common.clock import ManualClock
from nf.netapi.named_uuids import AREA, PROFILE, uuid_of
from nf.netapi.v1.agreement_pb2 import AgreementLimits, DeleteAgreementRequest
from nf.netapi.v1.camara_dedicated_network_pb2 import DedicatedNetwork, NetworkAccess, NetworkAccessMember
from nf.netapi.v1.coverage_pb2 import Geometry, MultiPolygon, Point, Polygon, ServiceArea

UNKNOWN = "123e4567-e89b-12d3-a456-426614174000"
VIENNA_ID = uuid_of(AREA, "vienna")
PROFILE_ID = uuid_of(PROFILE, "QOS_L")
HERE = {"latitude": 48.2, "longitude": 16.37}


def at(minutes: int) -> str:
    return (START + timedelta(minutes=minutes)).isoformat()


def network(**changes: object) -> dict[str, Any]:
    body = {
        "name": "ski race",
        "networkProfileId": PROFILE_ID,
        "serviceTime": {"start": at(10), "end": at(70)},
        "serviceAreaId": VIENNA_ID,
        **changes,
    }
    return {name: value for name, value in body.items() if value is not None}


def phone(number: int) -> dict[str, str]:
    return {"phoneNumber": f"+4917000000{number:02}"}


def square(latitude: float, longitude: float, half: float) -> Polygon:
    corners = ((-half, -half), (-half, half), (half, half), (half, -half))
    return Polygon(boundary=[Point(latitude=latitude + y, longitude=longitude + x) for y, x in corners])


async def five_devices(stack: Camara) -> Walk:
    """A provider whose networks are for five devices."""
    sports = await stack.platform.provider("sports", limits=AgreementLimits(devices=5))
    return stack.walk.as_caller(sports.token)


@pytest.mark.clause("5G-MAG live media distribution B.1 schedule", "CAMARA dedicated-network")
async def test_every_operation_on_networks_answers_as_the_official_file_says(tmp_path: Path) -> None:
    clock = ManualClock(START)
    async with camara(tmp_path, clock=clock) as stack:
        walk = await five_devices(stack)
        made = await walk(NETWORKS, "POST", "/networks", 201, network(sink="https://127.0.0.1:9/sink"))
        told = made.json()
        assert (told["status"], told["networkProfileId"], told["serviceAreaId"]) == ("RESERVED", PROFILE_ID, VIENNA_ID)
        path = f"/networks/{told['id']}"
        assert made.headers["location"].endswith(f"/dedicated-network/v0.2alpha1{path}")
        assert (await walk(NETWORKS, "GET", path, 200)).json() == told
        assert (await walk(NETWORKS, "GET", "/networks", 200)).json() == [told]
        assert (await walk(NETWORKS, "GET", "/networks?name=ski%20race", 200)).json() == [told]
        assert (await walk(NETWORKS, "GET", "/networks?name=other", 200)).json() == []
        # The five devices of the area are taken: a network that there is no room for is over from the beginning.
        full = (await walk(NETWORKS, "POST", "/networks", 201, network())).json()
        assert full["status"] == "TERMINATED"
        one = network(networkProfileId=None, qosProfileName="QOS_L", serviceTime={"start": at(70), "end": at(80)})
        later = (await walk(NETWORKS, "POST", "/networks", 201, one)).json()
        assert (later["status"], later["qosProfileName"]) == ("RESERVED", "QOS_L")

        clock.advance(timedelta(minutes=10))
        await _status(walk, path, "ACTIVATED")
        clock.advance(timedelta(minutes=60))
        await _status(walk, path, "TERMINATED")
        await _status(walk, f"/networks/{later['id']}", "ACTIVATED")

        for changes, status in (
            ({"networkProfileId": None}, 400),
            ({"qosProfileName": "QOS_L"}, 400),
            ({"networkProfileId": UNKNOWN}, 400),
            ({"networkProfileId": None, "qosProfileName": "QOS_X"}, 400),
            ({"serviceAreaId": UNKNOWN}, 400),
            ({"serviceTime": {"start": at(80), "end": at(80)}}, 400),
            ({"serviceTime": {"start": at(-90), "end": at(-80)}}, 400),
            ({"serviceTime": {"start": at(80)}}, 400),
            ({"sink": "http://127.0.0.1:9/sink"}, 400),
            ({"sinkCredential": {"credentialType": "PLAIN", "identifier": "a", "secret": "b"}}, 400),
        ):
            await walk(NETWORKS, "POST", "/networks", status, network(**changes))
        far = network(serviceTime={"start": "2998-01-01T00:00:00Z", "end": "2999-01-01T00:00:00Z"})
        told = (await walk(NETWORKS, "POST", "/networks", 400, far, code="INVALID_ARGUMENT")).json()["message"]
        assert told.startswith("serviceTime.end: expected at most 3653 days from now"), told
        # Unlike quality-on-demand, this API says nothing of properties that it does not know.
        soon = network(serviceTime={"start": at(200), "end": at(210)}, colour="red")
        await walk(NETWORKS, "POST", "/networks", 201, soon)
        await walk(NETWORKS, "GET", "/networks/1", 400, code="INVALID_ARGUMENT")
        await walk(NETWORKS, "GET", f"/networks/{UNKNOWN}", 404, code="NOT_FOUND")
        await stack.walk(NETWORKS, "GET", path, 404, code="NOT_FOUND")
        await stack.walk(NETWORKS, "DELETE", path, 404, code="NOT_FOUND")
        assert (await stack.walk(NETWORKS, "GET", "/networks", 200)).json() == []
        await walk.as_caller("")(NETWORKS, "GET", "/networks", 401, code="UNAUTHENTICATED")
        reader = walk.as_caller(await stack.token("dedicated-network:networks:read"))
        await reader(NETWORKS, "DELETE", path, 403, code="PERMISSION_DENIED")
        for each in (path, f"/networks/{later['id']}", f"/networks/{full['id']}"):
            await walk(NETWORKS, "DELETE", each, 204)
            await walk(NETWORKS, "GET", each, 404)
        walk.check(NETWORKS)


@pytest.mark.clause("CAMARA dedicated-network-profiles", "CAMARA dedicated-network-areas")
async def test_every_operation_on_profiles_and_areas_answers_as_the_official_files_say(tmp_path: Path) -> None:
    async with camara(tmp_path) as stack:
        corners = [Point(latitude=47 + 0.01 * n, longitude=11 + 0.02 * (n % 7)) for n in range(3)]
        many = Polygon(
            boundary=[*corners, *(Point(latitude=46.9 - 0.001 * n, longitude=11 + 0.01 * (20 - n)) for n in range(20))]
        )
        both = MultiPolygon(polygons=[square(47.0, 15.4, 0.05), square(47.2, 15.4, 0.05)])
        for area in (
            ServiceArea(area_id="innsbruck", geometry=Geometry(polygon=many)),
            ServiceArea(area_id="graz", geometry=Geometry(multi_polygon=both)),
            ServiceArea(area_id="linz", geometry=Geometry(polygon=square(48.3, 14.28, 0.1))),
        ):
            await stack.platform.area(area)
        walk = await five_devices(stack)
        (profile,) = (await walk(NETWORK_PROFILES, "GET", "/profiles", 200)).json()
        assert profile == {
            "id": PROFILE_ID,
            "name": "QOS_L",
            "maxNumberOfDevices": 5,
            "aggregatedUlThroughput": {"value": 500, "unit": "kbps"},
            "aggregatedDlThroughput": {"value": 5, "unit": "Mbps"},
            "qosProfiles": ["QOS_L"],
            "defaultQosProfile": "QOS_L",
        }
        assert (await walk(NETWORK_PROFILES, "GET", f"/profiles/{PROFILE_ID}", 200)).json() == profile
        assert (await walk(NETWORK_PROFILES, "GET", "/profiles?name=none", 200)).json() == []
        await walk(NETWORK_PROFILES, "GET", f"/profiles/{UNKNOWN}", 404, code="NOT_FOUND")
        await walk(NETWORK_PROFILES, "GET", "/profiles/1", 400, code="INVALID_ARGUMENT")
        await walk.as_caller("")(NETWORK_PROFILES, "GET", "/profiles", 401)
        few = await stack.platform.provider("few", limits=AgreementLimits(downlink_bps=MBPS // 2))
        assert (await walk.as_caller(few.token)(NETWORK_PROFILES, "GET", "/profiles", 200)).json() == []

        async def names(**wanted: object) -> list[str]:
            answer = await walk(NETWORK_AREAS, "POST", "/retrieve-service-areas", 200, wanted)
            return [each["name"] for each in answer.json()]

        # What is everywhere has no shape to be told by.
        assert await names() == ["Vienna", "innsbruck", "graz", "linz"]
        assert await names(atLocation=HERE) == ["Vienna"]
        assert await names(byName="linz") == ["linz"]
        assert await names(byNetworkProfileId=PROFILE_ID, byQosProfileName="QOS_L", byName="graz") == ["graz"]
        assert await names(byNetworkProfileId=UNKNOWN) == []
        small = {"areaType": "CIRCLE", "center": HERE, "radius": 1000}
        large = {"areaType": "CIRCLE", "center": HERE, "radius": 200_000}
        assert await names(coveringArea=small) == ["Vienna"]
        assert await names(overlappingArea=small) == []
        assert await names(overlappingArea=large) == ["Vienna", "graz", "linz"]
        boundary = [{"latitude": 48.3 + y, "longitude": 14.28 + x} for y, x in ((0, 0), (0.05, 0), (0, 0.05))]
        triangle = {"areaType": "POLYGON", "boundary": boundary}
        assert await names(coveringArea=triangle) == ["linz"]
        areas = (await walk(NETWORK_AREAS, "POST", "/retrieve-service-areas", 200, {})).json()
        vienna, innsbruck, graz, linz = areas
        assert vienna["area"] == {"areaType": "CIRCLE", "center": HERE, "radius": 20_000}
        assert (len(linz["area"]["boundary"]), "description" in linz) == (4, False)
        assert (4 <= len(graz["area"]["boundary"]) <= 8, "description" in graz) == (True, True)
        assert 3 <= len(innsbruck["area"]["boundary"]) <= 15
        assert (await walk(NETWORK_AREAS, "GET", f"/areas/{VIENNA_ID}", 200)).json() == vienna
        for wrong in (
            {"overlappingArea": {"areaType": "CIRCLE", "center": HERE}},
            {"overlappingArea": {"areaType": "CIRCLE", "center": HERE, "radius": 0}},
            {"overlappingArea": {"areaType": "POLYGON", "boundary": boundary[:2]}},
            {"overlappingArea": {**triangle, "center": HERE}},
            {"coveringArea": {**small, "boundary": boundary}},
            {"coveringArea": {"areaType": "SQUARE"}},
            {"atLocation": {"latitude": 91, "longitude": 0}},
            {"byQosProfileName": "?"},
        ):
            await walk(NETWORK_AREAS, "POST", "/retrieve-service-areas", 400, wrong)
        await walk(NETWORK_AREAS, "GET", f"/areas/{UNKNOWN}", 404)
        await walk(NETWORK_AREAS, "GET", "/areas/1", 400)
        only = await stack.platform.provider("only", area_ids=["linz"])
        mine = await walk.as_caller(only.token)(NETWORK_AREAS, "POST", "/retrieve-service-areas", 200, {})
        assert [each["name"] for each in mine.json()] == ["linz"]
        await walk.as_caller(only.token)(NETWORK_AREAS, "GET", f"/areas/{VIENNA_ID}", 404)
        walk.check(NETWORK_PROFILES, NETWORK_AREAS)


@pytest.mark.clause("5G-MAG live media distribution C", "CAMARA dedicated-network-accesses")
async def test_every_operation_on_accesses_answers_as_the_official_file_says(tmp_path: Path) -> None:
    async with camara(tmp_path, clock=ManualClock(START)) as stack:
        walk = await five_devices(stack)
        made = (await walk(NETWORKS, "POST", "/networks", 201, network())).json()
        sink = "https://127.0.0.1:9/sink"
        wanted = {"networkId": made["id"], "qosProfiles": ["QOS_L"], "devices": [{"phoneNumber": PHONE}], "sink": sink}
        answer = await walk(NETWORK_ACCESSES, "POST", "/accesses", 201, wanted)
        access = answer.json()
        assert access["stats"] == {"totalDevices": 1, "totalGranted": 1, "totalDenied": 0}
        granted = {"reason": {"code": "REQUEST_APPROVED", "message": "The device may use the network."}}
        assert access["recentAccessDevices"] == [
            {"device": {"phoneNumber": PHONE}, "status": "GRANTED", "statusInfo": granted}
        ]
        path = f"/accesses/{access['id']}"
        assert answer.headers["location"].endswith(path)
        # The same device a second time, an address of nobody, an identifier that is not supported: none can be taken.
        nobody = {"ipv4Address": {"publicAddress": "203.0.113.9", "publicPort": 4000}}
        refused = [{"phoneNumber": PHONE}, nobody, {"networkAccessIdentifier": "a@b.c"}]
        code = "DEDICATED_NETWORK_ACCESS.NO_VALID_DEVICE"
        answer = await walk(NETWORK_ACCESSES, "POST", f"{path}/devices/add", 422, refused, code=code)
        results = answer.json()["results"]
        assert [(each["status"], each["code"]) for each in results] == [
            (409, "CONFLICT"),
            (404, "IDENTIFIER_NOT_FOUND"),
            (422, "UNSUPPORTED_IDENTIFIER"),
        ]
        added = await walk(NETWORK_ACCESSES, "POST", f"{path}/devices/add", 201, [phone(2), phone(3)])
        assert [(each["device"], each["status"]) for each in added.json()] == [
            (phone(2), "GRANTED"),
            (phone(3), "GRANTED"),
        ]
        # Five are booked.
        more = [phone(4), phone(5), phone(6)]
        mixed = (await walk(NETWORK_ACCESSES, "POST", f"{path}/devices/add", 207, more)).json()["results"]
        assert [(each["status"], each["code"]) for each in mixed] == [
            (201, "CREATED"),
            (201, "CREATED"),
            (429, "QUOTA_EXCEEDED"),
        ]
        second = {"networkId": made["id"], "devices": [phone(7)]}
        await walk(NETWORK_ACCESSES, "POST", "/accesses", 429, second, code="QUOTA_EXCEEDED")

        # Page by page, in the order of their names.
        page = await walk(NETWORK_ACCESSES, "GET", f"{path}/devices?perPage=2", 206)
        numbers = [each["device"]["phoneNumber"] for each in page.json()]
        key = page.headers["content-last-key"]
        assert (page.headers["x-total-count"], key) == ("5", f'phonenumber="{numbers[-1]}"')
        rest = await stack.platform.http.get(
            f"/dedicated-network-accesses/v0.2alpha1{path}/devices",
            params={"seek": key},
            headers={"authorization": f"Bearer {walk.token}"},
        )
        assert rest.status_code == 200
        numbers += [each["device"]["phoneNumber"] for each in rest.json()]
        assert numbers == sorted([PHONE, *(phone(n)["phoneNumber"] for n in range(2, 6))])
        assert (await walk(NETWORK_ACCESSES, "GET", f"{path}/devices?deviceStatus=DENIED", 200)).json() == []
        for wrong in ("perPage=0", "perPage=x", "perPage=", "deviceStatus=GONE", "deviceStatus=", "seek=x%20y"):
            await walk(NETWORK_ACCESSES, "GET", f"{path}/devices?{wrong}", 400)

        removed = [phone(4), phone(9)]
        gone = (await walk(NETWORK_ACCESSES, "POST", f"{path}/devices/remove", 207, removed)).json()["results"]
        assert [(each["device"], each["status"]) for each in gone] == [(phone(9), 404)]
        await walk(NETWORK_ACCESSES, "POST", f"{path}/devices/remove", 422, removed)
        await walk(NETWORK_ACCESSES, "POST", f"{path}/devices/remove", 204, [phone(5)])
        assert (await walk(NETWORK_ACCESSES, "GET", path, 200)).json()["stats"]["totalDevices"] == 3
        for body in ([], {}, [{"phoneNumber": "1"}], [{}], [{"phoneNumber": 1}], [phone(2)] * 101):
            await walk(NETWORK_ACCESSES, "POST", f"{path}/devices/add", 400, body, code="INVALID_ARGUMENT")

        def ids(answer: Any) -> list[str]:
            return [each["id"] for each in answer.json()]

        partly = {"networkId": made["id"], "devices": [phone(8), phone(2)]}
        other = (await walk(NETWORK_ACCESSES, "POST", "/accesses", 207, partly)).json()
        assert [(each["device"], each["status"]) for each in other["results"]] == [(phone(2), 409)]
        both = [access["id"], other["id"]]
        assert ids(await walk(NETWORK_ACCESSES, "GET", "/accesses", 200)) == both
        assert ids(await walk(NETWORK_ACCESSES, "GET", f"/accesses?networkId={made['id']}", 200)) == both
        assert ids(await walk(NETWORK_ACCESSES, "GET", f"/accesses?networkId={UNKNOWN}", 200)) == []
        header = {"x-device": 'phonenumber="+491700000008"'}
        assert ids(await walk(NETWORK_ACCESSES, "GET", "/accesses", 200, headers=header)) == [other["id"]]
        by_address = {"x-device": f'ipv4address;privateaddress="{UE}";publicaddress="203.0.113.1"'}
        assert ids(await walk(NETWORK_ACCESSES, "GET", "/accesses", 200, headers=by_address)) == [access["id"]]
        await walk(NETWORK_ACCESSES, "GET", "/accesses", 400, headers={"x-device": "PHONE=1"})
        await walk(NETWORK_ACCESSES, "GET", "/accesses?networkId=", 400, code="INVALID_ARGUMENT")

        for changes, status, code in (
            ({"networkId": "1"}, 400, "INVALID_ARGUMENT"),
            ({"networkId": UNKNOWN}, 404, "NOT_FOUND"),
            ({"qosProfiles": ["QOS_X"]}, 400, "INVALID_ARGUMENT"),
            ({"defaultQosProfile": "QOS_X"}, 400, "INVALID_ARGUMENT"),
            ({"devices": [nobody]}, 404, "IDENTIFIER_NOT_FOUND"),
            ({"devices": [nobody, {"phoneNumber": PHONE}]}, 422, "SERVICE_NOT_APPLICABLE"),
            ({"sink": "http://127.0.0.1:9/"}, 400, "INVALID_ARGUMENT"),
        ):
            body = {"networkId": made["id"], **changes}
            await walk(NETWORK_ACCESSES, "POST", "/accesses", status, body, code=code)
        await stack.walk(NETWORK_ACCESSES, "GET", path, 404, code="NOT_FOUND")
        await stack.walk(NETWORK_ACCESSES, "POST", "/accesses", 404, wanted, code="NOT_FOUND")
        await walk.as_caller("")(NETWORK_ACCESSES, "GET", "/accesses", 401)
        await walk(NETWORK_ACCESSES, "DELETE", f"/accesses/{other['id']}", 204)
        await walk(NETWORK_ACCESSES, "GET", f"/accesses/{other['id']}", 404)
        # With the network its accesses go.
        await walk(NETWORKS, "DELETE", f"/networks/{made['id']}", 204)
        await walk(NETWORK_ACCESSES, "GET", path, 404)
        assert ids(await walk(NETWORK_ACCESSES, "GET", "/accesses", 200)) == []
        walk.check(NETWORK_ACCESSES)


@pytest.mark.clause("CAMARA dedicated-network-accesses")
async def test_the_token_of_a_devices_user_is_for_that_device_alone_which_is_named_all_the_same(tmp_path: Path) -> None:
    async with camara(tmp_path) as stack:
        walk = stack.walk
        body = network(
            networkProfileId=None, qosProfileName="QOS_L", serviceTime={"start": at(0), "end": "2030-01-01T00:00:00Z"}
        )
        made = (await walk(NETWORKS, "POST", "/networks", 201, body)).json()
        user = walk.as_caller(await stack.token(phone_number=PHONE))
        for devices, status, code in (
            (None, 422, "MISSING_IDENTIFIER"),
            ([{"phoneNumber": OTHER_PHONE}], 422, "MISSING_IDENTIFIER"),
            ([{"phoneNumber": PHONE}, {"phoneNumber": OTHER_PHONE}], 403, "INVALID_TOKEN_CONTEXT"),
            ([{"phoneNumber": PHONE}], 201, ""),
        ):
            asked = {"networkId": made["id"], **({"devices": devices} if devices is not None else {})}
            await user(NETWORK_ACCESSES, "POST", "/accesses", status, asked, code=code)
        assert walk.wrong == []


@pytest.mark.clause("CAMARA dedicated-network network-status-changed", "5G-MAG live media distribution notifications")
async def test_what_becomes_of_networks_and_their_devices_is_told_to_their_sinks(tmp_path: Path) -> None:
    receiver = Receiver(sequence=lambda _, __: 0)
    url = await receiver.start()
    clock = ManualClock(START)
    async with camara(tmp_path, clock=clock, http_sinks=True) as stack:
        walk = await five_devices(stack)
        http, headers = stack.platform.http, {"authorization": f"Bearer {walk.token}"}
        networks, accesses = "/dedicated-network/v0.2alpha1/networks", "/dedicated-network-accesses/v0.2alpha1/accesses"
        made = (await http.post(networks, json=network(sink=url), headers=headers)).json()
        body = {"networkId": made["id"], "devices": [{"phoneNumber": PHONE}, phone(2)], "sink": url}
        access = (await http.post(accesses, json=body, headers=headers)).json()
        await receiver.until(lambda told: len(told.received) == 2)
        clock.advance(timedelta(minutes=10))
        await receiver.until(lambda told: len(told.received) == 3)
        clock.advance(timedelta(minutes=60))
        await receiver.until(lambda told: len(told.received) == 6)
        statuses = [each["data"]["status"] for each in receiver.received if "status" in each["data"]]
        assert statuses == ["RESERVED", "ACTIVATED", "TERMINATED"]
        devices: list[Mapping[str, Any]] = [each["data"] for each in receiver.received if "accessId" in each["data"]]
        assert {each["accessId"] for each in devices} == {access["id"]}
        assert [one["status"] for each in devices for one in each["accessDevices"]] == [
            "GRANTED",
            "GRANTED",
            "DENIED",
            "DENIED",
        ]
        for each in receiver.received:
            walk.hold_event(NETWORK_ACCESSES if "accessId" in each["data"] else NETWORKS, each)
        assert walk.wrong == []
        over = await http.post(accesses, json={"networkId": made["id"]}, headers=headers)
        assert (over.status_code, over.json()["code"]) == (409, "INCOMPATIBLE_STATE")
        operator = stack.platform.face().agreements
        told = (await http.get(f"{accesses}/{access['id']}", headers=headers)).json()
        assert told["stats"] == {"totalDevices": 2, "totalGranted": 0, "totalDenied": 2}
        # With the agreement what is over is forgotten.
        await operator.DeleteAgreement(DeleteAgreementRequest(agreement_id="sports"))
        kinds = (DedicatedNetwork, NetworkAccess, NetworkAccessMember)
        assert [await stack.platform.store.read(lambda reader, kind=kind: reader.all(kind)) for kind in kinds] == [
            []
        ] * 3
    await receiver.stop()


async def _status(walk: Walk, path: str, status: str) -> None:
    """Returns when the network is so."""
    async with asyncio.timeout(20):
        while (await walk(NETWORKS, "GET", path, 200)).json()["status"] != status:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
