"""The CAMARA doors quality-on-demand and qos-profiles: every operation, held to the official files where they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from camara import NETWORKS, QOD, QOS_PROFILES, Walk
from camara_stack import MBPS, OTHER_PHONE, OTHER_UE, PHONE, PROFILE, SERVER, UE, Camara, camara
from netapi_platform import START
from receiver import Receiver

from nf.common.clock import ManualClock
from nf.common.errors import InvalidArgument
from nf.common.resources import copy_of
from nf.common.v1.events_pb2 import WatchEventsRequest
from nf.netapi.named_uuids import AREA, uuid_of
from nf.netapi.v1.agreement_pb2 import AgreementLimits
from nf.netapi.v1.booking_pb2 import Booking, BookingChanged, SuspendBookingRequest
from nf.netapi.v1.booking_pb2_grpc import BookingsServiceStub
from nf.netapi.v1.coverage_pb2 import CapabilityProfile
from nf.pcf.v1.policy_authorization_pb2 import AppSession

SESSION: Mapping[str, Any] = {
    "device": {"phoneNumber": PHONE},
    "applicationServer": SERVER,
    "qosProfile": "QOS_L",
    "duration": 600,
}
UNKNOWN = "123e4567-e89b-12d3-a456-426614174000"


def asked(**changes: object) -> dict[str, Any]:
    body = {**SESSION, **changes}
    return {name: value for name, value in body.items() if value is not None}


def events(receiver: Receiver) -> list[tuple[str, str, str]]:
    return [
        (each["data"]["sessionId"], each["data"]["qosStatus"], each["data"].get("statusInfo", ""))
        for each in receiver.received
    ]


@pytest.mark.clause("5G-MAG live media distribution B.1 a QoD", "CAMARA quality-on-demand")
async def test_every_operation_on_sessions_answers_as_the_official_file_says(tmp_path: Path) -> None:
    async with camara(tmp_path) as stack:
        walk = stack.walk
        made = await walk(QOD, "POST", "/sessions", 201, asked(sink="https://127.0.0.1:9/sink"))
        session = made.json()
        assert session["qosStatus"] == "AVAILABLE"
        assert (session["device"], session["duration"], session["applicationServer"]) == (
            {"phoneNumber": PHONE},
            600,
            SERVER,
        )
        path = f"/sessions/{session['sessionId']}"
        assert made.headers["location"].endswith(f"/quality-on-demand/v1rc3{path}")
        # What is booked is what the PCF and the user plane have.
        assert list((await stack.plane.app_sessions()).values()) == [AppSession.STATE_ACTIVE]
        assert "permit out ip from 198.51.100.0/24 to assigned" in {text for text, _ in stack.plane.upf.flows()}

        assert (await walk(QOD, "GET", path, 200)).json() == session
        found = await walk(QOD, "POST", "/retrieve-sessions", 200, {"device": {"phoneNumber": PHONE}})
        by_address = {"ipv4Address": {"publicAddress": "203.0.113.9", "privateAddress": UE}}
        same = await walk(QOD, "POST", "/retrieve-sessions", 200, {"device": by_address})
        assert found.json() == same.json() == [session]
        longer = (await walk(QOD, "POST", f"{path}/extend", 200, {"requestedAdditionalDuration": 300})).json()
        assert longer["duration"] == 900
        assert _moment(longer["expiresAt"]) - _moment(session["expiresAt"]) == timedelta(seconds=300)
        most = (await walk(QOD, "POST", f"{path}/extend", 200, {"requestedAdditionalDuration": 2**31 - 1})).json()
        assert most["duration"] == 86_400

        await walk(QOD, "DELETE", path, 204)
        await walk(QOD, "GET", path, 404, code="NOT_FOUND")
        await walk(QOD, "DELETE", path, 404)
        await walk(QOD, "POST", f"{path}/extend", 404, {"requestedAdditionalDuration": 1})
        found = await walk(QOD, "POST", "/retrieve-sessions", 200, {"device": {"phoneNumber": PHONE}})
        assert found.json() == []
        await stack.plane.upf.until(lambda: not stack.plane.upf.flows())
        walk.check(QOD)


@pytest.mark.clause("CAMARA quality-on-demand")
async def test_what_is_asked_wrongly_or_by_others_is_refused_as_the_official_file_says(tmp_path: Path) -> None:
    async with camara(tmp_path) as stack:
        walk, post = stack.walk, "/sessions"
        for changes, status, code in (
            ({"colour": "red"}, 400, "INVALID_ARGUMENT"),
            ({"device": {"phoneNumber": PHONE, "colour": "red"}}, 400, "INVALID_ARGUMENT"),
            ({"device": {}}, 400, "INVALID_ARGUMENT"),
            ({"duration": 0}, 400, "OUT_OF_RANGE"),
            ({"duration": None}, 400, "INVALID_ARGUMENT"),
            ({"duration": 86_401}, 400, "QUALITY_ON_DEMAND.DURATION_OUT_OF_RANGE"),
            ({"qosProfile": "QOS_X"}, 400, "INVALID_ARGUMENT"),
            ({"applicationServer": {"ipAddresses": []}}, 400, "INVALID_ARGUMENT"),
            ({"sink": "http://127.0.0.1:9/sink"}, 400, "INVALID_SINK"),
            ({"sink": "https://192.0.2.1/sink"}, 400, "INVALID_SINK"),
            ({"sinkCredential": {"credentialType": "PLAIN"}}, 400, "INVALID_CREDENTIAL"),
            (
                {
                    "sinkCredential": {
                        "credentialType": "ACCESSTOKEN",
                        "accessToken": "a",
                        "accessTokenExpiresUtc": "2999-01-01T00:00:00Z",
                        "accessTokenType": "mac",
                    }
                },
                400,
                "INVALID_TOKEN",
            ),
            ({"sinkCredential": {"credentialType": "PRIVATE_KEY_JWT"}}, 422, "PRIVATE_KEY_JWT_NOT_CONFIGURED"),
            ({"device": None}, 422, "MISSING_IDENTIFIER"),
            ({"device": {"networkAccessIdentifier": "a@b.c"}}, 422, "UNSUPPORTED_IDENTIFIER"),
            ({"device": {"phoneNumber": OTHER_PHONE}}, 404, "IDENTIFIER_NOT_FOUND"),
            ({"applicationServer": {"ipv6Address": "2001:db8::/32"}}, 422, "SERVICE_NOT_APPLICABLE"),
        ):
            await walk(QOD, "POST", post, status, asked(**changes), code=code)
        await walk(QOD, "GET", "/sessions/1", 400, code="INVALID_ARGUMENT")
        await walk(QOD, "POST", "/retrieve-sessions", 422, {}, code="MISSING_IDENTIFIER")
        unknown = {"device": {"phoneNumber": OTHER_PHONE}}
        await walk(QOD, "POST", "/retrieve-sessions", 404, unknown, code="IDENTIFIER_NOT_FOUND")
        await walk.as_caller("")(QOD, "POST", post, 401, asked(), code="UNAUTHENTICATED")
        await walk.as_caller("nobody")(QOD, "POST", post, 401, asked(), code="UNAUTHENTICATED")
        reader = walk.as_caller(await stack.token("quality-on-demand:sessions:read"))
        await reader(QOD, "POST", post, 403, asked(), code="PERMISSION_DENIED")

        # A token of a device's user says which device is meant, and only that one.
        user = walk.as_caller(await stack.token(phone_number=PHONE))
        await user(QOD, "POST", post, 422, asked(), code="UNNECESSARY_IDENTIFIER")
        session = (await user(QOD, "POST", post, 201, asked(device=None))).json()
        assert "device" not in session
        path = f"/sessions/{session['sessionId']}"
        assert (await user(QOD, "POST", "/retrieve-sessions", 200, {})).json() == [session]
        await stack.plane.attach(
            sm_context_ref="ue-2", supi="imsi-001010000000002", gpsi="msisdn-491700000002", ue_ipv4_address=OTHER_UE
        )
        await stack.known(OTHER_PHONE)
        other = walk.as_caller(await stack.token(phone_number=OTHER_PHONE))
        await other(QOD, "GET", path, 403, code="PERMISSION_DENIED")

        # The same traffic of the same device: only once. Other traffic: as well.
        await walk(QOD, "POST", post, 409, asked(applicationServer={"ipAddresses": ["198.51.100.9"]}), code="CONFLICT")
        more = (await walk(QOD, "POST", post, 201, asked(applicationServer={"ipAddresses": ["192.0.2.7"]}))).json()
        assert len((await user(QOD, "POST", "/retrieve-sessions", 200, {})).json()) == 2

        # Another provider knows nothing of it.
        rival = walk.as_caller(stack.rival.token)
        await rival(QOD, "GET", path, 404, code="NOT_FOUND")
        await rival(QOD, "DELETE", path, 404)
        found = await rival(QOD, "POST", "/retrieve-sessions", 200, {"device": {"phoneNumber": PHONE}})
        assert found.json() == []

        # A megabit is left: the third device-megabit fills the area, the fourth has no room.
        third = asked(device={"phoneNumber": OTHER_PHONE})
        await walk(QOD, "POST", post, 201, third)
        full = asked(device={"phoneNumber": OTHER_PHONE}, applicationServer={"ipAddresses": ["192.0.2.7"]})
        refused = (await walk(QOD, "POST", post, 201, full)).json()
        assert (refused["qosStatus"], refused["statusInfo"]) == ("UNAVAILABLE", "NETWORK_TERMINATED")
        refused_path = f"/sessions/{refused['sessionId']}"
        extend = {"requestedAdditionalDuration": 60}
        code = "QUALITY_ON_DEMAND.SESSION_EXTENSION_NOT_ALLOWED"
        await walk(QOD, "POST", f"{refused_path}/extend", 409, extend, code=code)
        # It stands in the way until it is deleted.
        await walk(QOD, "POST", post, 409, full, code="CONFLICT")
        await walk(QOD, "DELETE", f"/sessions/{more['sessionId']}", 204)
        await walk(QOD, "DELETE", refused_path, 204)
        assert (await walk(QOD, "POST", post, 201, full)).json()["qosStatus"] == "AVAILABLE"
        assert walk.wrong == []


@pytest.mark.clause("CAMARA quality-on-demand qos-status-changed", "5G-MAG live media distribution notifications")
async def test_what_becomes_of_sessions_is_told_to_their_sinks(tmp_path: Path) -> None:
    receiver = Receiver(sequence=lambda _, __: 0)
    url = await receiver.start()
    clock = ManualClock(START)
    async with camara(tmp_path, clock=clock, http_sinks=True) as stack:
        http, headers = stack.platform.http, dict(stack.radio.bearer)
        credential = {
            "credentialType": "ACCESSTOKEN",
            "accessToken": "let-me-in",
            "accessTokenExpiresUtc": "2999-01-01T00:00:00Z",
            "accessTokenType": "bearer",
        }
        ids = []
        for server in ("198.51.100.1", "198.51.100.2", "198.51.100.3"):
            body = asked(applicationServer={"ipAddresses": [server]}, sink=url, sinkCredential=credential)
            made = await http.post("/quality-on-demand/v1rc3/sessions", json=body, headers=headers)
            assert made.status_code == 201, made.text
            assert "sinkCredential" not in made.json()
            ids.append(made.json()["sessionId"])
        first, second, third = ids
        await receiver.until(lambda told: len(told.received) == 3)
        assert sorted(events(receiver)) == sorted((each, "AVAILABLE", "") for each in ids)
        await http.delete(f"/quality-on-demand/v1rc3/sessions/{first}", headers=headers)
        await receiver.until(lambda told: len(told.received) == 4)
        assert events(receiver)[3] == (first, "UNAVAILABLE", "DELETE_REQUESTED")

        # The operator withholds one.
        await _suspend(stack, second)
        await receiver.until(lambda told: len(told.received) == 5)
        assert events(receiver)[4] == (second, "UNAVAILABLE", "NETWORK_TERMINATED")
        # The third lasts until its time is over.
        clock.advance(timedelta(seconds=600))
        await receiver.until(lambda told: len(told.received) == 6)
        assert events(receiver)[5] == (third, "UNAVAILABLE", "DURATION_EXPIRED")
        walk = Walk(http, stack.radio.token)
        for each in receiver.received:
            assert each["headers"]["content-type"] == "application/cloudevents+json"
            assert each["headers"]["authorization"] == "Bearer let-me-in"
            walk.hold_event(QOD, each)
        assert walk.wrong == []
        over = (await http.get(f"/quality-on-demand/v1rc3/sessions/{third}", headers=headers)).json()
        assert (over["duration"], over["statusInfo"]) == (600, "DURATION_EXPIRED")
        # What is UNAVAILABLE can be read for six minutes.
        clock.advance(timedelta(seconds=360))
        await stack.answers(f"/quality-on-demand/v1rc3/sessions/{third}", 404)
        await stack.plane.upf.until(lambda: not stack.plane.upf.flows())
    await receiver.stop()


@pytest.mark.clause("CAMARA quality-on-demand StatusInfo", "5G-MAG live media distribution C")
async def test_what_the_network_does_not_provide_is_terminated_and_given_back(tmp_path: Path) -> None:
    async with camara(tmp_path) as stack:
        walk, upf = stack.walk, stack.plane.upf
        upf.refuse["ModifySession"] = InvalidArgument("no such rules here")
        refused = (await walk(QOD, "POST", "/sessions", 201, asked())).json()
        assert (refused["qosStatus"], refused["statusInfo"], refused["duration"]) == (
            "UNAVAILABLE",
            "NETWORK_TERMINATED",
            600,
        )
        await _released(stack, refused["sessionId"])
        await walk(QOD, "DELETE", f"/sessions/{refused['sessionId']}", 204)
        del upf.refuse["ModifySession"]
        session = (await walk(QOD, "POST", "/sessions", 201, asked())).json()
        assert session["qosStatus"] == "AVAILABLE"
        await stack.plane.detach()
        await _released(stack, session["sessionId"])
        over = (await walk(QOD, "GET", f"/sessions/{session['sessionId']}", 200)).json()
        assert (over["qosStatus"], over["statusInfo"]) == ("UNAVAILABLE", "NETWORK_TERMINATED")
        assert _moment(over["startedAt"]) < _moment(over["expiresAt"]) < _moment(session["expiresAt"])
        # It does not come back with the device, whose traffic may have a session again once it is deleted.
        await stack.plane.attach()
        await stack.known()
        await walk(QOD, "POST", "/sessions", 409, asked(), code="CONFLICT")
        await walk(QOD, "DELETE", f"/sessions/{session['sessionId']}", 204)
        assert (await walk(QOD, "POST", "/sessions", 201, asked())).json()["qosStatus"] == "AVAILABLE"
        assert walk.wrong == []


@pytest.mark.clause("CAMARA quality-on-demand", "5G-MAG live media distribution reconfiguration")
async def test_a_session_lasts_longer_only_where_there_is_room_for_it(tmp_path: Path) -> None:
    async with camara(tmp_path) as stack:
        walk = stack.walk
        # The first name is of nobody; the second is the one that is used, and told.
        by_address = {"publicAddress": "203.0.113.9", "privateAddress": UE}
        device = {"phoneNumber": OTHER_PHONE, "ipv4Address": by_address}
        session = (await walk(QOD, "POST", "/sessions", 201, asked(device=device))).json()
        assert (session["device"], session["qosStatus"]) == ({"ipv4Address": by_address}, "AVAILABLE")
        # Three networks of a megabit each take the whole area from soon after its end on.
        after = _moment(session["expiresAt"]) + timedelta(seconds=100)
        network = {
            "qosProfileName": "QOS_L",
            "serviceAreaId": uuid_of(AREA, "everywhere"),
            "serviceTime": {"start": after.isoformat(), "end": (after + timedelta(hours=1)).isoformat()},
        }
        networks = [(await walk(NETWORKS, "POST", "/networks", 201, network)).json() for _ in range(3)]
        assert [each["status"] for each in networks] == ["RESERVED"] * 3
        path = f"/sessions/{session['sessionId']}"
        code = "QUALITY_ON_DEMAND.SESSION_EXTENSION_NOT_ALLOWED"
        await walk(QOD, "POST", f"{path}/extend", 409, {"requestedAdditionalDuration": 101}, code=code)
        assert (await walk(QOD, "GET", path, 200)).json() == session
        longer = (await walk(QOD, "POST", f"{path}/extend", 200, {"requestedAdditionalDuration": 100})).json()
        assert (longer["duration"], longer["qosStatus"]) == (700, "AVAILABLE")
        assert _moment(longer["expiresAt"]) == after
        assert walk.wrong == []


@pytest.mark.clause("CAMARA qos-profiles")
async def test_every_operation_on_qos_profiles_answers_as_the_official_file_says(tmp_path: Path) -> None:
    async with camara(tmp_path) as stack:
        elsewhere = CapabilityProfile()
        elsewhere.CopyFrom(PROFILE)
        elsewhere.profile_id, elsewhere.dnn = "QOS_E", "enterprise"
        await stack.platform.profile(elsewhere)
        unnamed = copy_of(PROFILE)
        unnamed.profile_id = "HD"
        await stack.platform.profile(unnamed)
        walk, post = stack.walk, "/retrieve-qos-profiles"

        def names(answer: Any) -> list[str]:
            return [each["name"] for each in answer.json()]

        everything = await walk(QOS_PROFILES, "POST", post, 200, {})
        assert names(everything) == ["QOS_L", "QOS_E"]
        profile = everything.json()[0]
        assert profile["targetMinDownstreamRate"] == {"value": MBPS // 10**6, "unit": "Mbps"}
        assert profile["maxDuration"] == {"value": 86_400, "unit": "Seconds"}
        assert (await walk(QOS_PROFILES, "GET", "/qos-profiles/QOS_L", 200)).json() == profile
        of_device = {"device": {"phoneNumber": PHONE}}
        assert names(await walk(QOS_PROFILES, "POST", post, 200, of_device)) == ["QOS_L"]
        assert names(await walk(QOS_PROFILES, "POST", post, 200, {"name": "QOS_E"})) == ["QOS_E"]
        assert names(await walk(QOS_PROFILES, "POST", post, 200, {"status": "INACTIVE"})) == []
        user = walk.as_caller(await stack.token(phone_number=PHONE))
        assert names(await user(QOS_PROFILES, "POST", post, 200, {})) == ["QOS_L"]
        await user(QOS_PROFILES, "GET", "/qos-profiles/QOS_E", 404, code="NOT_FOUND")
        await user(QOS_PROFILES, "POST", post, 422, of_device, code="UNNECESSARY_IDENTIFIER")
        unknown = {"device": {"phoneNumber": OTHER_PHONE}}
        await walk(QOS_PROFILES, "POST", post, 404, unknown, code="IDENTIFIER_NOT_FOUND")
        await walk(QOS_PROFILES, "POST", post, 400, {"colour": "red"}, code="INVALID_ARGUMENT")
        await walk(QOS_PROFILES, "POST", post, 400, {"status": "GONE"}, code="INVALID_ARGUMENT")
        await walk(QOS_PROFILES, "GET", "/qos-profiles/QOS_X", 404, code="NOT_FOUND")
        await walk(QOS_PROFILES, "GET", "/qos-profiles/x", 400, code="INVALID_ARGUMENT")
        await walk.as_caller("")(QOS_PROFILES, "GET", "/qos-profiles/QOS_L", 401, code="UNAUTHENTICATED")
        other = walk.as_caller(await stack.token("quality-on-demand"))
        await other(QOS_PROFILES, "GET", "/qos-profiles/QOS_L", 403, code="PERMISSION_DENIED")
        # What the agreement has is what there is.
        limits = AgreementLimits(advance_days=0)
        less = await stack.platform.provider("less", profile_ids=["QOS_E"], limits=limits)
        assert names(await walk.as_caller(less.token)(QOS_PROFILES, "POST", post, 200, {})) == ["QOS_E"]
        walk.check(QOS_PROFILES)


async def _suspend(stack: Camara, session_id: str) -> None:
    operator = BookingsServiceStub(stack.platform.face().channels.get("netapi"))
    await operator.SuspendBooking(SuspendBookingRequest(booking_id=session_id.replace("-", ""), detail="works"))


async def _released(stack: Camara, session_id: str) -> None:
    """Returns when the booking of a session is over and its room is free."""
    operator = BookingsServiceStub(stack.platform.face().channels.get("netapi"))
    async with asyncio.timeout(20):
        async for answer in operator.WatchEvents(WatchEventsRequest(subject=f"bookings/{session_id.replace('-', '')}")):
            changed = BookingChanged()
            answer.event.payload.Unpack(changed)
            if changed.booking.state == Booking.STATE_RELEASED:
                return


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
