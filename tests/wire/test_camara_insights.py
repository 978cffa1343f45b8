"""The CAMARA door connectivity-insights-subscriptions on a core with a real UPF, held to the official file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from camara import INSIGHTS, Walk, official
from control_plane import UE
from netapi_core import AMBR_BPS, CAR, MFBR_BPS, PHONE, RADIO, WAITING, Core, netapi_core
from receiver import Receiver

from nf.netapi.named_uuids import PROFILE, uuid_of
from nf.netapi.v1 import agreement_pb2 as agreement
from nf.netapi.v1.coverage_pb2 import CAPABILITY_QUALITY_ON_DEMAND, CapabilityProfile, QosProfile

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.clause("CAMARA Connectivity Insights Subscriptions 0.7"),
    pytest.mark.clause("5G-MAG live media distribution notifications"),
]

TYPES = "org.camaraproject.connectivity-insights-subscriptions.v0."
QUALITY = f"{TYPES}network-quality"
MEETS, UNABLE = "meets the application requirements", "unable to meet the application requirements"
NEEDS = uuid_of(PROFILE, "needs")


class Lab:
    """A core whose car may have what is booked, and a receiver of its subscriptions' events."""

    def __init__(self, core: Core, receiver: Receiver) -> None:
        self.core, self.receiver = core, receiver
        self.walk = Walk(core.platform.http, core.provider.token)

    def wish(self, **changes: Any) -> dict[str, Any]:
        detail = {
            "device": {"phoneNumber": PHONE},
            "applicationServer": {"ipv4Address": RADIO},
            "applicationServerPorts": {"ports": [443]},
            "applicationProfileId": NEEDS,
            **changes.pop("detail", {}),
        }
        detail = {name: value for name, value in detail.items() if value is not None}
        config = {"subscriptionDetail": detail, **changes.pop("config", {})}
        body = {"protocol": "HTTP", "sink": self.receiver.url, "types": [QUALITY], "config": config, **changes}
        return {name: value for name, value in body.items() if value is not None}

    async def subscribe(self, **changes: Any) -> str:
        """A subscription's identifier."""
        body = self.wish(**changes)
        return str((await self.walk(INSIGHTS, "POST", "/subscriptions", 201, body)).json()["id"])

    async def events(self, name: str, count: int) -> list[dict[str, Any]]:
        """What was told of a subscription, once it is so many; each as the official file has it."""

        def of(receiver: Receiver) -> list[dict[str, Any]]:
            return [each for each in receiver.received if each["id"].startswith(name)]

        await self.receiver.until(lambda receiver: len(of(receiver)) >= count)
        for each in of(self.receiver):
            self.walk.hold_event(INSIGHTS, each)
        return of(self.receiver)

    def objections(self) -> list[str]:
        """What the file objects to, but that the sinks of this lab are http URLs."""
        return [each for each in self.walk.wrong if "does not match '^https:" not in each]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    # Read before anything runs: it takes longer than receivers may take to answer.
    official()
    receiver = Receiver(sequence=lambda body, _: int(body["id"].rpartition(".")[2]))
    await receiver.start()
    async with netapi_core(tmp_path_factory.mktemp("netapi"), http_sinks=True) as core:
        qos = QosProfile(five_qi=3, guaranteed_downlink_bps=500_000, packet_error_loss_ppm=10_000)
        await core.platform.profile(
            CapabilityProfile(profile_id="needs", capability=CAPABILITY_QUALITY_ON_DEMAND, qos=qos, dnn="internet")
        )
        yield Lab(core, receiver)
    await receiver.stop()


async def test_a_subscription_is_told_when_the_network_can_meet_what_is_needed_and_when_it_cannot(lab: Lab) -> None:
    core, token = lab.core, (lab.core.clock.now() + timedelta(days=1)).isoformat()
    credential = {
        "credentialType": "ACCESSTOKEN",
        "accessToken": "come-in",
        "accessTokenExpiresUtc": token,
        "accessTokenType": "bearer",
    }
    settings = {"headers": {"x-lab": "7"}, "method": "POST"}
    body = lab.wish(sinkCredential=credential, protocolSettings=settings, config={"initialEvent": True})
    made = (await lab.walk(INSIGHTS, "POST", "/subscriptions", 201, body)).json()
    assert "sinkCredential" not in made
    assert (made["status"], made["config"]) == ("ACTIVE", body["config"])
    started, first = await lab.events(made["id"], 2)
    assert (started["type"], started["data"]["subscriptionId"]) == (f"{TYPES}subscription-started", made["id"])
    assert first["data"] == {
        "applicationProfileId": NEEDS,
        "targetMinDownstreamRate": UNABLE,
        "additionalKpis": {"connectivityType": "5G-SA"},
    }
    assert first["headers"]["authorization"] == "Bearer come-in"
    assert first["headers"]["x-lab"] == "7"

    booked = await core.book()
    await core.move(0)
    await core.use(booked)
    assert (await lab.events(made["id"], 3))[2]["data"]["targetMinDownstreamRate"] == MEETS
    # A tenth and more of it is dropped.
    core.clock.advance(timedelta(seconds=5))
    await core.drive(core.traffic(radio_bps=2 * MFBR_BPS, elsewhere_bps=AMBR_BPS // 2))
    told = (await lab.events(made["id"], 4))[3]["data"]
    assert (told["targetMinDownstreamRate"], told["packetlossErrorRate"]) == (MEETS, UNABLE)
    await core.move(5_000)
    await core.until(lambda each: each.state == WAITING and each.app_session_id == "")
    told = (await lab.events(made["id"], 5))[-1]["data"]
    assert told["targetMinDownstreamRate"] == UNABLE

    read = (await lab.walk(INSIGHTS, "GET", f"/subscriptions/{made['id']}", 200)).json()
    assert read == made
    await lab.walk(INSIGHTS, "DELETE", f"/subscriptions/{made['id']}", 204)
    await lab.walk(INSIGHTS, "GET", f"/subscriptions/{made['id']}", 404, code="NOT_FOUND")
    await lab.walk(INSIGHTS, "DELETE", f"/subscriptions/{made['id']}", 404, code="NOT_FOUND")
    count = len(await lab.events(made["id"], 6))
    ended = (await lab.events(made["id"], count))[-1]
    assert (ended["type"], ended["data"]["terminationReason"]) == (f"{TYPES}subscription-ended", "SUBSCRIPTION_DELETED")
    assert lab.objections() == []


async def test_a_server_that_is_not_booked_has_nothing_of_what_is(lab: Lab) -> None:
    booked = await lab.core.book()
    await lab.core.move(0)
    await lab.core.use(booked)
    elsewhere = {"applicationServer": {"ipv4Address": "203.0.113.0/24"}}
    name = await lab.subscribe(detail=elsewhere, config={"initialEvent": True})
    assert (await lab.events(name, 2))[1]["data"]["targetMinDownstreamRate"] == UNABLE
    name = await lab.subscribe(config={"initialEvent": True, "subscriptionMaxEvents": 1})
    _, told, ended = await lab.events(name, 3)
    assert told["data"]["targetMinDownstreamRate"] == MEETS
    assert ended["data"]["terminationReason"] == "MAX_EVENTS_REACHED"
    assert lab.objections() == []


async def test_the_user_of_a_device_has_its_subscriptions_without_naming_it(lab: Lab) -> None:
    asked = agreement.CreateAccessTokenRequest(device=CAR)
    minted = (await lab.core.provider.tokens.CreateAccessToken(asked)).access_token
    user = lab.walk.as_caller(minted)
    await user(INSIGHTS, "POST", "/subscriptions", 422, lab.wish(), code="UNNECESSARY_IDENTIFIER")
    body = lab.wish(detail={"device": None})
    await lab.walk(INSIGHTS, "POST", "/subscriptions", 422, body, code="MISSING_IDENTIFIER")
    made = (await user(INSIGHTS, "POST", "/subscriptions", 201, body)).json()
    assert "device" not in made["config"]["subscriptionDetail"]
    named = await lab.subscribe(detail={"device": {"ipv4Address": {"publicAddress": UE, "privateAddress": UE}}})
    seen = (await user(INSIGHTS, "GET", f"/subscriptions/{named}", 200)).json()
    assert "device" not in seen["config"]["subscriptionDetail"]
    for name in (made["id"], named):
        await user(INSIGHTS, "DELETE", f"/subscriptions/{name}", 204)
    assert lab.objections() == []


async def test_lists_have_pages_and_each_provider_its_own(lab: Lab) -> None:
    rival = await lab.core.platform.provider("rival")
    other = Walk(lab.core.platform.http, rival.token)
    before = (await lab.walk(INSIGHTS, "GET", "/subscriptions", 200)).json()["pagination"]["totalCount"]
    names = [await lab.subscribe() for _ in range(3)]
    answer = await lab.walk(INSIGHTS, "GET", f"/subscriptions?page=2&perPage={before + 2}", 200)
    assert [each["id"] for each in answer.json()["subscriptions"]] == names[2:]
    assert answer.json()["pagination"] == {
        "page": 2, "perPage": before + 2, "totalCount": before + 3, "totalPages": 2,
    }  # fmt: skip
    assert (answer.headers["x-total-count"], answer.headers["x-total-pages"]) == (str(before + 3), "2")
    assert "page=1&perPage" in answer.headers["link"]
    assert 'rel="next"' not in answer.headers["link"]
    empty = await other(INSIGHTS, "GET", "/subscriptions", 200)
    assert empty.json()["subscriptions"] == []
    assert "link" not in empty.headers
    await other(INSIGHTS, "GET", f"/subscriptions/{names[0]}", 404, code="NOT_FOUND")
    await other(INSIGHTS, "DELETE", f"/subscriptions/{names[0]}", 404, code="NOT_FOUND")
    for query in ("page=0", "perPage=0", "perPage=101", "page=x", "page=99999999999"):
        await lab.walk(INSIGHTS, "GET", f"/subscriptions?{query}", 400, code="INVALID_ARGUMENT")
    for name in names:
        await lab.walk(INSIGHTS, "DELETE", f"/subscriptions/{name}", 204)
    assert lab.objections() == []


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"protocol": "MQTT5"}, 400, "INVALID_PROTOCOL"),
        ({"sink": "ftp://127.0.0.1/"}, 400, "INVALID_SINK"),
        ({"sink": "https://192.0.2.1/"}, 400, "INVALID_SINK"),
        ({"sink": None}, 400, "INVALID_ARGUMENT"),
        ({"types": ["org.example.other"]}, 400, "INVALID_ARGUMENT"),
        ({"types": []}, 400, "INVALID_ARGUMENT"),
        ({"types": [QUALITY, QUALITY]}, 400, "INVALID_ARGUMENT"),
        ({"unknown": 1}, 400, "INVALID_ARGUMENT"),
        ({"detail": {"unknown": 1}}, 400, "INVALID_ARGUMENT"),
        ({"sinkCredential": {"credentialType": "PLAIN"}}, 400, "INVALID_CREDENTIAL"),
        ({"sinkCredential": {"credentialType": "PRIVATE_KEY_JWT"}}, 422, "PRIVATE_KEY_JWT_NOT_CONFIGURED"),
        ({"protocolSettings": {"headers": {"authorization": "x"}}}, 400, "INVALID_ARGUMENT"),
        ({"protocolSettings": {"method": "PUT"}}, 400, "INVALID_ARGUMENT"),
        ({"config": {"subscriptionExpireTime": "2020-01-01T00:00:00Z"}}, 400, "INVALID_ARGUMENT"),
        ({"config": {"subscriptionMaxEvents": 0}}, 400, "OUT_OF_RANGE"),
        ({"detail": {"applicationServer": {}}}, 400, "INVALID_ARGUMENT"),
        ({"detail": {"applicationServer": {"ipv6Address": ":::"}}}, 400, "INVALID_ARGUMENT"),
        ({"detail": {"applicationServer": {"ipv6Address": "1.2.3.4"}}}, 400, "INVALID_ARGUMENT"),
        ({"detail": {"applicationServer": {"ipv4Address": "01.2.3.4"}}}, 400, "INVALID_ARGUMENT"),
        ({"detail": {"applicationServerPorts": {}}}, 400, "INVALID_ARGUMENT"),
        ({"detail": {"applicationServerPorts": {"ranges": [{"from": 9, "to": 8}]}}}, 400, "INVALID_ARGUMENT"),
        ({"detail": {"applicationProfileId": "needs"}}, 400, "INVALID_ARGUMENT"),
        ({"detail": {"applicationProfileId": uuid_of(PROFILE, "none")}}, 404, "NOT_FOUND"),
        ({"detail": {"device": {}}}, 400, "INVALID_ARGUMENT"),
        ({"detail": {"device": {"phoneNumber": "+49"}}}, 400, "INVALID_ARGUMENT"),
        ({"detail": {"device": {"phoneNumber": "+4912345678"}}}, 404, "IDENTIFIER_NOT_FOUND"),
        ({"detail": {"device": {"networkAccessIdentifier": "a@b"}}}, 422, "UNSUPPORTED_IDENTIFIER"),
    ],
)
async def test_what_cannot_be_is_refused_as_camara_says_it(
    lab: Lab, changes: dict[str, Any], status: int, code: str
) -> None:
    await lab.walk(INSIGHTS, "POST", "/subscriptions", status, lab.wish(**changes), code=code)
    assert lab.objections() == []


async def test_a_token_is_good_for_what_its_scopes_say(lab: Lab) -> None:
    nobody = Walk(lab.core.platform.http)
    await nobody(INSIGHTS, "GET", "/subscriptions", 401, code="UNAUTHENTICATED")
    made = await lab.core.platform.credential("radio", scopes=("connectivity-insights-subscriptions:read",))
    reader = lab.walk.as_caller(made.token)
    await reader(INSIGHTS, "GET", "/subscriptions", 200)
    await reader(INSIGHTS, "GET", "/subscriptions/none", 404, code="NOT_FOUND")
    await reader(INSIGHTS, "POST", "/subscriptions", 403, lab.wish(), code="PERMISSION_DENIED")
    await reader(INSIGHTS, "DELETE", "/subscriptions/none", 403, code="PERMISSION_DENIED")
    scope = f"connectivity-insights-subscriptions:{QUALITY}:create"
    made = await lab.core.platform.credential("radio", scopes=(scope,))
    maker = lab.walk.as_caller(made.token)
    await maker(INSIGHTS, "POST", "/subscriptions", 201, lab.wish())
    await maker(INSIGHTS, "GET", "/subscriptions", 403, code="PERMISSION_DENIED")
    lab.walk.wrong[:] = lab.objections()
    lab.walk.check(INSIGHTS)
