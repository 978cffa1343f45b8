"""The CAMARA doors geofencing-subscriptions, location-verification, location-retrieval, held to the official files."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from camara import GEOFENCING, LOCATION_RETRIEVAL, LOCATION_VERIFICATION, Walk
from netapi_places import PHONE, UE_ADDRESS, VIENNA, cell, circle, keep_ue, north_of, ue
from netapi_platform import OPERATOR_TOKEN, Platform
from receiver import Receiver

from nf.common.store import Transaction
from nf.netapi.config import NetapiSection
from nf.netapi.v1 import agreement_pb2 as agreement
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.coverage_pb2 import (
    CAPABILITY_GEOFENCING,
    CAPABILITY_QUALITY_ON_DEMAND,
    CapabilityProfile,
    GeofencingProfile,
    Geometry,
    Point,
    Polygon,
    QosProfile,
    ServiceArea,
)
from nf.netapi.v1.location_pb2 import AttachedUe, DevicePosition, Geofence, ReportPositionsRequest
from nf.netapi.v1.location_pb2_grpc import LocationServiceStub

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.clause("5G-MAG live media distribution B.1 b geofencing"),
]

TYPES = "org.camaraproject.geofencing-subscriptions.v0."
ENTERED, LEFT = f"{TYPES}area-entered", f"{TYPES}area-left"
CAR = {"phoneNumber": PHONE}
IN_A_CELL = {"phoneNumber": "+436640000002"}
# Its cell belongs to no area.
NOWHERE = {"phoneNumber": "+436640000003"}


class Lab:
    """The platform with two areas, a car whose positions are reported, and a UE of which the cell is known."""

    def __init__(self, platform: Platform, receiver: Receiver) -> None:
        self.platform = platform
        self.receiver = receiver
        self.location = LocationServiceStub(platform.face().channels.get("netapi"))

    async def see(self, metres: float, *, uncertainty_m: float = 10.0) -> None:
        self.platform.clock.advance(timedelta(seconds=1))
        position = DevicePosition(
            device=Device(phone_number=PHONE), point=north_of(metres), uncertainty_m=uncertainty_m
        )
        await self.location.ReportPositions(ReportPositionsRequest(positions=[position]))

    async def geofences(self) -> list[Geofence]:
        return await self.platform.store.read(lambda reader: reader.all(Geofence))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    config = NetapiSection(operator_token=OPERATOR_TOKEN, http_sinks=True, least_area_radius_m=50)
    receiver = Receiver(sequence=lambda body, _: int(body["id"].rpartition(".")[2]))
    await receiver.start()
    square = [Point(latitude=48.0 + y, longitude=16.0 + x) for x, y in ((0, 0), (0.1, 0), (0.1, 0.1), (0, 0.1))]
    async with Platform(tmp_path_factory.mktemp("netapi"), config=config) as running:
        await running.area(ServiceArea(area_id="city", geometry=circle(20_000), cells=[cell("0000000B2")]))
        polygon = Geometry(polygon=Polygon(boundary=square))
        await running.area(ServiceArea(area_id="block", geometry=polygon, cells=[cell("0000000b2")]))
        rights = GeofencingProfile(verify=True, retrieve=True, notify=True)
        await running.profile(
            CapabilityProfile(profile_id="fence", capability=CAPABILITY_GEOFENCING, geofencing=rights)
        )
        qos = QosProfile(five_qi=2)
        await running.profile(CapabilityProfile(profile_id="audio", capability=CAPABILITY_QUALITY_ON_DEMAND, qos=qos))
        made = Lab(running, receiver)

        def attach(tx: Transaction) -> None:
            keep_ue(tx, ue())
            for number, identity in ((2, "0000000B2"), (3, "0000000C3")):
                supi, gpsi = f"imsi-{number}", f"msisdn-43664000000{number}"
                other = AttachedUe(sm_context_ref=supi, supi=supi, gpsi=gpsi, cell=cell(identity))
                keep_ue(tx, other)
                tx.put(DevicePosition(cell=other.cell), supi)

        await running.store.write(attach)
        yield made
    await receiver.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def walk(lab: Lab) -> Walk:
    radio = await lab.platform.provider("radio")
    return Walk(lab.platform.http, radio.token)


async def three_legged(lab: Lab, device: Device) -> str:
    radio = await lab.platform.provider("radio")
    asked = agreement.CreateAccessTokenRequest(device=device)
    return (await radio.tokens.CreateAccessToken(asked)).access_token


def objections(walk: Walk) -> list[str]:
    """What the files object to, but that the sinks of this lab are http URLs."""
    walk.wrong[:] = [each for each in walk.wrong if "does not match '^https:" not in each]
    return walk.wrong


def area(radius: float = 1000, metres: float = 0.0) -> dict[str, object]:
    middle = north_of(metres)
    return {
        "areaType": "CIRCLE",
        "center": {"latitude": middle.latitude, "longitude": middle.longitude},
        "radius": radius,
    }


def wish(lab: Lab, event_type: str = ENTERED, **config: object) -> dict[str, object]:
    return {
        "protocol": "HTTP",
        "sink": lab.receiver.url,
        "types": [event_type],
        "config": {"subscriptionDetail": {"device": CAR, "area": area()}, **config},
    }


async def test_a_device_is_verified_to_be_in_an_area_out_of_it_or_partly(lab: Lab, walk: Walk) -> None:
    async def verify(metres: float, uncertainty_m: float) -> dict[str, object]:
        await lab.see(metres, uncertainty_m=uncertainty_m)
        body = {"device": CAR, "area": area()}
        return (await walk(LOCATION_VERIFICATION, "POST", "/verify", 200, body)).json()

    inside, outside = await verify(0, 10), await verify(5000, 10)
    assert (inside["verificationResult"], inside["device"]) == ("TRUE", CAR)
    assert outside["verificationResult"] == "FALSE"
    assert "matchRate" not in inside
    assert "matchRate" not in outside
    partly = await verify(1000, 100)
    # The edge goes through the middle of where it may be, bent a little.
    assert (partly["verificationResult"], partly["matchRate"]) == ("PARTIAL", 49)
    moment = lab.platform.clock.now().strftime("%Y-%m-%dT%H:%M:%S")
    assert str(partly["lastLocationTime"]).startswith(moment)
    walk.check(LOCATION_VERIFICATION)


async def test_a_ue_of_which_the_cell_is_known_is_verified_by_the_area_of_that(lab: Lab, walk: Walk) -> None:
    async def verify(latitude: float, longitude: float, radius: float) -> tuple[str, int | None]:
        circle = {"areaType": "CIRCLE", "center": {"latitude": latitude, "longitude": longitude}, "radius": radius}
        body = {"device": IN_A_CELL, "area": circle, "maxAge": 0}
        told = (await walk(LOCATION_VERIFICATION, "POST", "/verify", 200, body)).json()
        return told["verificationResult"], told.get("matchRate")

    # A block of 0.1 by 0.1 degrees: 11,120 m high and 7,450 m wide.
    assert await verify(48.05, 16.05, 6800) == ("TRUE", None)
    assert await verify(48.05, 16.05, 6000) == ("PARTIAL", 97)
    assert await verify(48.05, 16.05, 3000) == ("PARTIAL", 34)
    assert await verify(48.25, 16.35, 3000) == ("FALSE", None)
    assert objections(walk) == []


async def test_what_cannot_be_verified_is_refused_with_camara_s_codes(lab: Lab, walk: Walk) -> None:
    async def refused(status: int, code: str, **body: object) -> None:
        await walk(LOCATION_VERIFICATION, "POST", "/verify", status, {"device": CAR, "area": area(), **body}, code=code)

    await lab.see(0)
    lab.platform.clock.advance(timedelta(seconds=61))
    for most_s in (0, 60):
        await refused(422, "LOCATION_VERIFICATION.UNABLE_TO_FULFILL_MAX_AGE", maxAge=most_s)
    await refused(400, "OUT_OF_RANGE", maxAge=-1)
    await refused(400, "INVALID_ARGUMENT", maxAge="60")
    await refused(400, "OUT_OF_RANGE", area=area(0.5))
    await refused(422, "LOCATION_VERIFICATION.INVALID_AREA", area=area(49))
    await refused(422, "LOCATION_VERIFICATION.AREA_NOT_COVERED", area=area(1000, metres=500_000))
    await refused(400, "INVALID_ARGUMENT", area={"areaType": "POLYGON", "boundary": []})
    await refused(400, "INVALID_ARGUMENT", area={"areaType": "CIRCLE", "radius": 100})
    await refused(400, "INVALID_ARGUMENT", area={**area(), "center": {"latitude": 48}})
    await refused(404, "IDENTIFIER_NOT_FOUND", device={"phoneNumber": "+4311111111"})
    await refused(400, "INVALID_ARGUMENT", device={"phoneNumber": "0664"})
    await refused(400, "INVALID_ARGUMENT", device={})
    await refused(422, "UNSUPPORTED_IDENTIFIER", device={"networkAccessIdentifier": "car@example.com"})
    await refused(422, "LOCATION_VERIFICATION.UNABLE_TO_LOCATE", device=NOWHERE)
    await walk(LOCATION_VERIFICATION, "POST", "/verify", 422, {"area": area()}, code="MISSING_IDENTIFIER")
    await walk(LOCATION_VERIFICATION, "POST", "/verify", 400, {"device": CAR}, code="INVALID_ARGUMENT")
    assert objections(walk) == []


async def test_a_token_of_a_device_s_user_names_the_device(lab: Lab, walk: Walk) -> None:
    await lab.see(0)
    user = walk.as_caller(await three_legged(lab, Device(ipv4_address=UE_ADDRESS)))
    told = (await user(LOCATION_VERIFICATION, "POST", "/verify", 200, {"area": area()})).json()
    assert (told["verificationResult"], "device" in told) == ("TRUE", False)
    both = {"area": area(), "device": CAR}
    await user(LOCATION_VERIFICATION, "POST", "/verify", 422, both, code="UNNECESSARY_IDENTIFIER")
    assert objections(walk) == []


async def test_scopes_and_agreements_say_who_may_know(lab: Lab, walk: Walk) -> None:
    await lab.see(0)
    body = {"device": CAR, "area": area()}
    nobody = walk.as_caller("")
    await nobody(LOCATION_VERIFICATION, "POST", "/verify", 401, body, code="UNAUTHENTICATED")
    limited = walk.as_caller((await lab.platform.provider("radio", scopes=("location-retrieval:read",))).token)
    await limited(LOCATION_VERIFICATION, "POST", "/verify", 403, body, code="PERMISSION_DENIED")
    await limited(GEOFENCING, "POST", "/subscriptions", 403, wish(lab), code="PERMISSION_DENIED")
    await limited(LOCATION_RETRIEVAL, "POST", "/retrieve", 200, {"device": CAR})
    mute = walk.as_caller((await lab.platform.provider("mute", profile_ids=["audio"])).token)
    await mute(LOCATION_VERIFICATION, "POST", "/verify", 403, body, code="PERMISSION_DENIED")
    await mute(LOCATION_RETRIEVAL, "POST", "/retrieve", 403, {"device": CAR}, code="PERMISSION_DENIED")
    await mute(GEOFENCING, "POST", "/subscriptions", 403, wish(lab), code="PERMISSION_DENIED")
    only_entering = (f"geofencing-subscriptions:{ENTERED}",)
    entering = walk.as_caller((await lab.platform.provider("radio", scopes=only_entering)).token)
    await entering(GEOFENCING, "POST", "/subscriptions", 403, wish(lab, LEFT), code="PERMISSION_DENIED")
    assert await lab.geofences() == []
    assert objections(walk) == []


@pytest.mark.clause("5G-MAG live media distribution B.1 geographical location")
async def test_a_device_is_retrieved_by_its_point_or_by_its_cell(lab: Lab, walk: Walk) -> None:
    async def retrieve(status: int = 200, code: str = "", **body: object) -> dict[str, object]:
        wanted = {"device": CAR, **body}
        return (await walk(LOCATION_RETRIEVAL, "POST", "/retrieve", status, wanted, code=code)).json()

    await lab.see(0, uncertainty_m=100)
    told = await retrieve(maxAge=0, maxSurface=math.ceil(math.pi * 100**2))
    assert told["area"] == area(100)
    assert told["device"] == CAR
    assert (north_of(0).latitude, north_of(0).longitude) == VIENNA
    await retrieve(422, "LOCATION_RETRIEVAL.UNABLE_TO_FULFILL_MAX_SURFACE", maxSurface=31_415)
    await retrieve(400, "INVALID_ARGUMENT", maxSurface=0)
    lab.platform.clock.advance(timedelta(seconds=1))
    await retrieve(422, "LOCATION_RETRIEVAL.UNABLE_TO_FULFILL_MAX_AGE", maxAge=0)
    await retrieve(404, "IDENTIFIER_NOT_FOUND", device={"phoneNumber": "+4311111111"})
    # The lesser of the two areas that have its cell, and it is there now.
    by_cell = await retrieve(device=IN_A_CELL, maxAge=0)
    assert by_cell["area"]["areaType"] == "POLYGON"
    assert len(by_cell["area"]["boundary"]) == 4
    address = {"ipv4Address": {"publicAddress": "203.0.113.1", "privateAddress": UE_ADDRESS}}
    assert (await retrieve(device=address))["device"] == address
    walk.check(LOCATION_RETRIEVAL)


@pytest.mark.clause("5G-MAG live media distribution notifications")
async def test_a_subscription_tells_its_sink_of_its_beginning_of_crossings_and_of_its_end(lab: Lab, walk: Walk) -> None:
    await lab.see(5000)
    lab.receiver.received.clear()
    body = wish(lab, subscriptionMaxEvents=2, initialEvent=True)
    expires = lab.platform.clock.now() + timedelta(hours=3)
    body["sinkCredential"] = {
        "credentialType": "ACCESSTOKEN",
        "accessToken": "let-me-in",
        "accessTokenExpiresUtc": expires.isoformat(),
        "accessTokenType": "bearer",
    }
    made = (await walk(GEOFENCING, "POST", "/subscriptions", 201, body)).json()
    assert (made["status"], made["types"], made["config"]["subscriptionDetail"]["device"]) == ("ACTIVE", [ENTERED], CAR)
    assert "sinkCredential" not in made
    again = (await walk(GEOFENCING, "GET", f"/subscriptions/{made['id']}", 200)).json()
    assert again == made
    assert (await walk(GEOFENCING, "GET", "/subscriptions", 200)).json() == [made]
    for metres in (0, 5000, 100):
        await lab.see(metres)
    await lab.receiver.until(lambda receiver: len(receiver.received) == 4)
    told = lab.receiver.received
    assert [each["type"].removeprefix(TYPES) for each in told] == [
        "subscription-started",
        "area-entered",
        "area-entered",
        "subscription-ended",
    ]
    assert {each["data"]["subscriptionId"] for each in told} == {made["id"]}
    assert told[1]["data"] == {"subscriptionId": made["id"], "device": CAR, "area": area()}
    assert told[3]["data"]["terminationReason"] == "MAX_EVENTS_REACHED"
    assert {each["headers"]["authorization"] for each in told} == {"Bearer let-me-in"}
    for each in told:
        walk.hold_event(GEOFENCING, each)
    await walk(GEOFENCING, "GET", f"/subscriptions/{made['id']}", 404, code="NOT_FOUND")
    assert objections(walk) == []


async def end_of(lab: Lab, subscription_id: str) -> str:
    """Why a subscription has ended, as its sink is told; others may be told theirs again meanwhile."""

    def ends(receiver: Receiver) -> list[str]:
        return [
            each["data"]["terminationReason"]
            for each in receiver.received
            if each["type"] == f"{TYPES}subscription-ended" and each["data"]["subscriptionId"] == subscription_id
        ]

    await lab.receiver.until(lambda receiver: bool(ends(receiver)))
    return ends(lab.receiver)[0]


async def test_a_subscription_is_deleted_and_expires(lab: Lab, walk: Walk) -> None:
    lab.receiver.received.clear()
    made = (await walk(GEOFENCING, "POST", "/subscriptions", 201, wish(lab, LEFT))).json()
    assert made in (await walk(GEOFENCING, "GET", "/subscriptions", 200)).json()
    assert (await walk(GEOFENCING, "GET", f"/subscriptions/{made['id']}", 200)).json() == made
    await walk(GEOFENCING, "DELETE", f"/subscriptions/{made['id']}", 204)
    await walk(GEOFENCING, "DELETE", f"/subscriptions/{made['id']}", 404, code="NOT_FOUND")
    assert await end_of(lab, made["id"]) == "SUBSCRIPTION_DELETED"
    until = lab.platform.clock.now() + timedelta(minutes=1)
    lasting = wish(lab, subscriptionExpireTime=until.isoformat())
    made = (await walk(GEOFENCING, "POST", "/subscriptions", 201, lasting)).json()
    assert made["expiresAt"].startswith(until.strftime("%Y-%m-%dT%H:%M:%S"))
    lab.platform.clock.advance(timedelta(minutes=1))
    assert await end_of(lab, made["id"]) == "SUBSCRIPTION_EXPIRED"
    for each in lab.receiver.received:
        walk.hold_event(GEOFENCING, each)
    assert objections(walk) == []
    walk.check(GEOFENCING)


async def test_a_subscription_ends_before_the_token_of_its_sink_does(lab: Lab, walk: Walk) -> None:
    body = wish(lab)
    body["sinkCredential"] = {
        "credentialType": "ACCESSTOKEN",
        "accessToken": "for-an-hour",
        "accessTokenExpiresUtc": (lab.platform.clock.now() + timedelta(hours=1)).isoformat(),
        "accessTokenType": "bearer",
    }
    made = (await walk(GEOFENCING, "POST", "/subscriptions", 201, body)).json()
    lab.platform.clock.advance(timedelta(minutes=58, seconds=59))
    assert await end_of(lab, made["id"]) == "ACCESS_TOKEN_EXPIRED"
    assert await lab.geofences() == []


async def test_a_receiver_that_is_gone_has_no_subscription_any_more(lab: Lab, walk: Walk) -> None:
    lab.receiver.answers = [410]
    made = (await walk(GEOFENCING, "POST", "/subscriptions", 201, wish(lab))).json()
    await lab.receiver.until(lambda receiver: not receiver.answers)
    while await lab.geofences():
        await lab.platform.store.wait_sequence(lab.platform.store.sequence)
    await walk(GEOFENCING, "GET", f"/subscriptions/{made['id']}", 404, code="NOT_FOUND")


async def test_a_user_s_token_makes_and_sees_subscriptions_of_its_device_only(lab: Lab, walk: Walk) -> None:
    others = (await walk(GEOFENCING, "POST", "/subscriptions", 201, wish(lab))).json()
    user = walk.as_caller(await three_legged(lab, Device(phone_number=IN_A_CELL["phoneNumber"])))
    body = wish(lab)
    await user(GEOFENCING, "POST", "/subscriptions", 422, body, code="UNNECESSARY_IDENTIFIER")
    body["config"] = {"subscriptionDetail": {"area": area()}}
    made = (await user(GEOFENCING, "POST", "/subscriptions", 201, body)).json()
    assert "device" not in made["config"]["subscriptionDetail"]
    assert (await user(GEOFENCING, "GET", "/subscriptions", 200)).json() == [made]
    await user(GEOFENCING, "GET", f"/subscriptions/{others['id']}", 404, code="NOT_FOUND")
    rival = walk.as_caller((await lab.platform.provider("rival")).token)
    assert (await rival(GEOFENCING, "GET", "/subscriptions", 200)).json() == []
    await rival(GEOFENCING, "DELETE", f"/subscriptions/{made['id']}", 404, code="NOT_FOUND")
    for each in (made, others):
        await walk(GEOFENCING, "DELETE", f"/subscriptions/{each['id']}", 204)
    assert objections(walk) == []


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"protocol": "MQTT5"}, 400, "INVALID_PROTOCOL"),
        ({"sink": "ftp://192.0.2.1/"}, 400, "INVALID_SINK"),
        ({"sink": None}, 400, "INVALID_ARGUMENT"),
        ({"types": []}, 400, "INVALID_ARGUMENT"),
        ({"types": ["area-entered"]}, 400, "INVALID_ARGUMENT"),
        ({"types": [ENTERED, LEFT]}, 422, "MULTIEVENT_SUBSCRIPTION_NOT_SUPPORTED"),
        ({"sinkCredential": {"credentialType": "PLAIN"}}, 400, "INVALID_CREDENTIAL"),
        ({"protocolSettings": {"method": "PUT"}}, 400, "INVALID_ARGUMENT"),
        ({"config": {}}, 400, "INVALID_ARGUMENT"),
        (
            {"config": {"subscriptionDetail": {"device": CAR, "area": area(49)}}},
            422,
            "GEOFENCING_SUBSCRIPTIONS.INVALID_AREA",
        ),
        (
            {"config": {"subscriptionDetail": {"device": CAR, "area": area(100, metres=500_000)}}},
            422,
            "GEOFENCING_SUBSCRIPTIONS.AREA_NOT_COVERED",
        ),
        ({"config": {"subscriptionDetail": {"device": CAR, "area": area(0)}}}, 400, "INVALID_ARGUMENT"),
        ({"config": {"subscriptionDetail": {"area": area()}}}, 422, "MISSING_IDENTIFIER"),
        (
            {"config": {"subscriptionDetail": {"device": {"phoneNumber": "+4311111111"}, "area": area()}}},
            422,
            "SERVICE_NOT_APPLICABLE",
        ),
        (
            {
                "config": {
                    "subscriptionDetail": {"device": CAR, "area": area()},
                    "subscriptionExpireTime": "2024-01-01T00:00:00Z",
                }
            },
            400,
            "INVALID_ARGUMENT",
        ),
        (
            {"config": {"subscriptionDetail": {"device": CAR, "area": area()}, "subscriptionMaxEvents": 0}},
            400,
            "INVALID_ARGUMENT",
        ),
    ],
)
async def test_what_is_wrong_with_a_subscription_is_refused_and_nothing_is_left(
    lab: Lab, walk: Walk, changes: dict[str, object], status: int, code: str
) -> None:
    await walk(GEOFENCING, "POST", "/subscriptions", status, {**wish(lab), **changes}, code=code)
    assert await lab.geofences() == []
    assert objections(walk) == []
