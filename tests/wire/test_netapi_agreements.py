"""Who may call the platform and for what: agreements, credentials, access tokens, over gRPC and HTTP."""

from __future__ import annotations

import asyncio
import base64
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from netapi_platform import OPERATOR_TOKEN, START, Face, Platform

from nf.common.clock import ManualClock
from nf.common.errors import (
    AlreadyExists,
    CastcoreError,
    EtagMismatch,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from nf.netapi import capacity
from nf.netapi.callers import Callers
from nf.netapi.config import NetapiSection
from nf.netapi.v1 import agreement_pb2 as v1
from nf.netapi.v1 import coverage_pb2 as coverage
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.booking_pb2 import Booking
from nf.netapi.v1.location_pb2 import Geofence
from nf.netapi.v1.monitoring_pb2 import EventSink

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.clause("5G-MAG live media distribution Preconditions"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with Platform(tmp_path_factory.mktemp("netapi")) as running:
        for name in ("north", "south"):
            await running.area(coverage.ServiceArea(area_id=name, everywhere=True))
        yield running


async def agree(face: Face, **terms: object) -> v1.Agreement:
    wanted = v1.Agreement(**terms)  # type: ignore[arg-type]
    return (await face.agreements.CreateAgreement(v1.CreateAgreementRequest(agreement=wanted))).agreement


async def mint(
    face: Face, *scopes: str, device: Device | None = None, expires_in_s: int = 0
) -> v1.CreateAccessTokenResponse:
    return await face.tokens.CreateAccessToken(
        v1.CreateAccessTokenRequest(scopes=scopes, device=device, expires_in_s=expires_in_s)
    )


async def areas_seen(face: Face) -> list[str]:
    answer = await face.coverage.ListServiceAreas(coverage.ListServiceAreasRequest())
    return [each.area_id for each in answer.service_areas]


async def test_an_agreement_is_made_read_changed_and_ended_by_the_operator(lab: Platform) -> None:
    operator = lab.face()
    made = await agree(operator, agreement_id="life", provider_name="Radio", limits=v1.AgreementLimits(bookings=3))
    assert made.create_time.ToDatetime().timestamp() == START.replace(tzinfo=None).timestamp()
    read = await operator.agreements.GetAgreement(v1.GetAgreementRequest(agreement_id="life"))
    assert read.agreement == made
    with pytest.raises(AlreadyExists, match="life"):
        await agree(operator, agreement_id="life")
    request = v1.UpdateAgreementRequest(
        agreement=v1.Agreement(agreement_id="life", suspended=True, provider_name="ignored", etag=made.etag),
        update_mask=FieldMask(paths=["suspended"]),
    )
    changed = (await operator.agreements.UpdateAgreement(request)).agreement
    assert (changed.suspended, changed.provider_name, changed.limits.bookings) == (True, "Radio", 3)
    assert changed.etag != made.etag
    with pytest.raises(EtagMismatch):
        await operator.agreements.UpdateAgreement(request)
    request.agreement.etag = ""
    request.update_mask.paths[:] = ["create_time"]
    with pytest.raises(InvalidArgument, match="may not be changed"):
        await operator.agreements.UpdateAgreement(request)
    await operator.agreements.DeleteAgreement(v1.DeleteAgreementRequest(agreement_id="life"))
    with pytest.raises(NotFound, match="life"):
        await operator.agreements.GetAgreement(v1.GetAgreementRequest(agreement_id="life"))


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"agreement_id": ""}, "agreement.agreement_id"),
        ({"agreement_id": "a/b"}, "agreement.agreement_id"),
        ({"agreement_id": "x", "area_ids": ["north", "nowhere"]}, "agreement.area_ids[1]"),
        ({"agreement_id": "x", "area_ids": ["north", "north"]}, "agreement.area_ids[1]"),
        ({"agreement_id": "x", "profile_ids": ["none"]}, "agreement.profile_ids[0]"),
        ({"agreement_id": "x", "price_percent": 100_000}, "agreement.price_percent"),
        ({"agreement_id": "x", "offer_validity_s": 10_000_000}, "agreement.offer_validity_s"),
        ({"agreement_id": "x", "limits": v1.AgreementLimits(advance_days=9999)}, "agreement.limits.advance_days"),
    ],
)
async def test_terms_that_are_wrong_are_refused_by_their_field(
    lab: Platform, terms: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await agree(lab.face(), **terms)
    assert refused.value.violations[0].field == field


async def test_an_agreement_that_bookings_stand_on_is_not_ended(lab: Platform) -> None:
    await agree(lab.face(), agreement_id="standing")
    await lab.store.write(lambda tx: capacity.stand(tx, "b1", "standing"))
    with pytest.raises(FailedPrecondition, match="1 bookings stand") as refused:
        await lab.face().agreements.DeleteAgreement(v1.DeleteAgreementRequest(agreement_id="standing"))
    assert refused.value.reason == "STILL_BOOKED"
    await lab.store.write(lambda tx: capacity.end(tx, "b1"))
    await lab.face().agreements.DeleteAgreement(v1.DeleteAgreementRequest(agreement_id="standing"))


async def test_the_name_of_an_agreement_that_was_booked_under_is_not_given_to_another(lab: Platform) -> None:
    operator = lab.face()
    await agree(operator, agreement_id="unused")
    await agree(operator, agreement_id="used")
    old = Booking(booking_id="old", agreement_id="used", state=Booking.STATE_EXPIRED)
    await lab.store.write(lambda tx: tx.insert(old, "old", parent="used"))
    for name in ("unused", "used"):
        await operator.agreements.DeleteAgreement(v1.DeleteAgreementRequest(agreement_id=name))
    await agree(operator, agreement_id="unused")
    with pytest.raises(AlreadyExists) as refused:
        await agree(operator, agreement_id="used")
    assert refused.value.reason == "AGREEMENT_NAME_USED"


async def test_what_a_provider_has_beside_bookings_ends_with_its_agreement(lab: Platform) -> None:
    await agree(lab.face(), agreement_id="watching")
    sink = EventSink(sink_id="s1", agreement_id="watching")
    fence = Geofence(geofence_id="g1", agreement_id="watching")
    await lab.store.write(
        lambda tx: (tx.insert(sink, "s1", parent="watching"), tx.insert(fence, "g1", parent="watching"))
    )
    await lab.face().agreements.DeleteAgreement(v1.DeleteAgreementRequest(agreement_id="watching"))
    assert await lab.store.read(lambda reader: (reader.get(EventSink, "s1"), reader.get(Geofence, "g1"))) == (
        None,
        None,
    )


async def test_an_area_that_has_gone_since_does_not_hinder_a_change(lab: Platform) -> None:
    operator = lab.face()
    await lab.area(coverage.ServiceArea(area_id="passing", everywhere=True))
    made = await agree(operator, agreement_id="left", area_ids=["passing"])
    await operator.coverage.DeleteServiceArea(coverage.DeleteServiceAreaRequest(area_id="passing"))
    made.suspended = True
    changed = await operator.agreements.UpdateAgreement(v1.UpdateAgreementRequest(agreement=made))
    assert changed.agreement.suspended
    changed.agreement.area_ids.append("nowhere")
    with pytest.raises(InvalidArgument, match=r"area_ids\[1\]"):
        await operator.agreements.UpdateAgreement(v1.UpdateAgreementRequest(agreement=changed.agreement))


async def test_a_credential_is_shown_once_kept_as_a_digest_and_revoked_at_once(lab: Platform) -> None:
    operator = lab.face()
    credential = await lab.credential("once")
    provider = lab.face(credential.token)
    assert await areas_seen(provider) == ["north", "south"]
    listed = await operator.agreements.ListCredentials(v1.ListCredentialsRequest(agreement_id="once"))
    assert [(each.credential_id, each.token) for each in listed.credentials] == [(credential.credential_id, "")]
    kept = await lab.store.read(lambda reader: reader.all(v1.Credential))
    assert credential.token.encode() not in b"".join(each.SerializeToString() for each in kept)

    minted = await mint(provider)
    of_token = lab.face(minted.access_token)
    assert await areas_seen(of_token) == ["north", "south"]
    request = v1.DeleteCredentialRequest(credential_id=credential.credential_id)
    await operator.agreements.DeleteCredential(request)
    for face in (provider, of_token):
        with pytest.raises(Unauthenticated) as refused:
            await areas_seen(face)
        assert refused.value.reason == "INVALID_TOKEN"
    # Revoking what is not there succeeds.
    await operator.agreements.DeleteCredential(request)


async def test_a_provider_sees_its_own_agreement_and_areas_only(lab: Platform) -> None:
    one = await lab.provider("one", area_ids=["north"])
    two = await lab.provider("two")
    assert await areas_seen(one) == ["north"]
    assert await areas_seen(two) == ["north", "south"]
    listed = await one.agreements.ListAgreements(v1.ListAgreementsRequest())
    assert [each.agreement_id for each in listed.agreements] == ["one"]
    with pytest.raises(NotFound, match="two"):
        await one.agreements.GetAgreement(v1.GetAgreementRequest(agreement_id="two"))
    with pytest.raises(NotFound, match="two"):
        await one.agreements.ListCredentials(v1.ListCredentialsRequest(agreement_id="two"))
    with pytest.raises(NotFound, match="south"):
        await one.coverage.GetServiceArea(coverage.GetServiceAreaRequest(area_id="south"))


@pytest.mark.parametrize(
    "what", ["agree", "change", "end", "credential", "revoke", "area", "profile", "unarea", "unprofile"]
)
async def test_what_is_the_operators_a_provider_may_not_do(lab: Platform, what: str) -> None:
    face = await lab.provider("mere")
    agreements, covered = face.agreements, face.coverage
    call = {
        "agree": lambda: agree(face, agreement_id="other"),
        "change": lambda: agreements.UpdateAgreement(
            v1.UpdateAgreementRequest(agreement=v1.Agreement(agreement_id="mere"))
        ),
        "end": lambda: agreements.DeleteAgreement(v1.DeleteAgreementRequest(agreement_id="mere")),
        "credential": lambda: agreements.CreateCredential(
            v1.CreateCredentialRequest(credential=v1.Credential(agreement_id="mere"))
        ),
        "revoke": lambda: agreements.DeleteCredential(v1.DeleteCredentialRequest(credential_id="x")),
        "area": lambda: covered.PutServiceArea(
            coverage.PutServiceAreaRequest(service_area=coverage.ServiceArea(area_id="x", everywhere=True))
        ),
        "profile": lambda: covered.PutCapabilityProfile(coverage.PutCapabilityProfileRequest()),
        "unarea": lambda: covered.DeleteServiceArea(coverage.DeleteServiceAreaRequest(area_id="north")),
        "unprofile": lambda: covered.DeleteCapabilityProfile(coverage.DeleteCapabilityProfileRequest(profile_id="x")),
    }[what]
    with pytest.raises(PermissionDenied) as refused:
        await call()
    assert refused.value.reason == "OPERATOR_ONLY"


@pytest.mark.parametrize("token", ["", "nobody-knows-this-one", OPERATOR_TOKEN + "x"])
async def test_who_shows_nothing_or_something_unknown_is_not_let_in(lab: Platform, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await areas_seen(lab.face(token))


async def test_where_the_operator_has_no_token_a_call_without_one_is_the_operators(tmp_path: Path) -> None:
    async with Platform(tmp_path, config=NetapiSection()) as running:
        face = running.face("")
        await agree(face, agreement_id="free")
        assert [
            each.agreement_id for each in (await face.agreements.ListAgreements(v1.ListAgreementsRequest())).agreements
        ] == ["free"]
        with pytest.raises(Unauthenticated):
            await areas_seen(running.face("not-a-token-of-anyone"))


async def test_scopes_bound_what_tokens_are_for(lab: Platform) -> None:
    limited = await lab.provider("limited", scopes=("quality-on-demand", "location-verification:verify"))
    with pytest.raises(PermissionDenied, match="netapi") as refused:
        await areas_seen(limited)
    assert refused.value.reason == "SCOPE_MISSING"
    assert list((await mint(limited)).scopes) == ["quality-on-demand", "location-verification:verify"]
    assert list((await mint(limited, "quality-on-demand:sessions:read")).scopes) == ["quality-on-demand:sessions:read"]
    with pytest.raises(PermissionDenied, match="location-verification:other"):
        await mint(limited, "location-verification:other")
    with pytest.raises(InvalidArgument, match=r"scopes\[0\]"):
        await mint(limited, "with space")


async def test_an_access_token_makes_no_other_and_the_operator_none(lab: Platform) -> None:
    provider = await lab.provider("chain")
    token = lab.face((await mint(provider)).access_token)
    for face in (token, lab.face()):
        with pytest.raises(PermissionDenied) as refused:
            await mint(face)
        assert refused.value.reason == "CREDENTIAL_NEEDED"


async def test_a_token_of_a_devices_user_is_not_for_grpc(lab: Platform) -> None:
    provider = await lab.provider("three")
    minted = await mint(provider, device=Device(phone_number="+4917012345"))
    with pytest.raises(PermissionDenied, match="HTTP doors"):
        await areas_seen(lab.face(minted.access_token))
    with pytest.raises(InvalidArgument, match=r"device\.phone_number"):
        await mint(provider, device=Device(phone_number="017012345"))


async def test_tokens_survive_a_restart_and_end_when_their_time_has_come(tmp_path: Path) -> None:
    clock = ManualClock(START)
    async with Platform(tmp_path, clock=clock) as first:
        credential = await first.credential("lasting")
        face = first.face(credential.token)
        short, long = await mint(face, expires_in_s=60), await mint(face)
        assert long.expire_time.ToDatetime() == (START + timedelta(hours=1)).replace(tzinfo=None)
        with pytest.raises(InvalidArgument, match="at most 86400"):
            await mint(face, expires_in_s=100_000)
    async with Platform(tmp_path, clock=clock) as second:
        for token in (credential.token, short.access_token, long.access_token):
            assert await areas_seen(second.face(token)) == []
        clock.advance(timedelta(seconds=60))
        with pytest.raises(Unauthenticated):
            await areas_seen(second.face(short.access_token))
        assert await areas_seen(second.face(long.access_token)) == []
        clock.advance(timedelta(hours=1))
        with pytest.raises(Unauthenticated):
            await areas_seen(second.face(long.access_token))
        async with asyncio.timeout(10):
            while await second.store.read(lambda reader: reader.all(v1.AccessToken)):  # noqa: ASYNC110 (a commit)
                await asyncio.sleep(0)
        assert await areas_seen(second.face(credential.token)) == []


async def test_what_was_shown_is_good_after_a_kill(tmp_path: Path) -> None:
    """What a kill leaves are the files as they are at that moment."""
    async with Platform(tmp_path / "killed") as first:
        credential = await first.credential("lasting")
        minted = await mint(first.face(credential.token))
        shutil.copytree(tmp_path / "killed", tmp_path / "left")
    async with Platform(tmp_path / "left") as second:
        for token in (credential.token, minted.access_token):
            assert await areas_seen(second.face(token)) == []
        request = v1.DeleteCredentialRequest(credential_id=credential.credential_id)
        await second.face().agreements.DeleteCredential(request)
        with pytest.raises(Unauthenticated):
            await areas_seen(second.face(minted.access_token))


async def test_a_credential_with_an_end_ends_and_its_tokens_with_it(tmp_path: Path) -> None:
    clock = ManualClock(START)
    async with Platform(tmp_path, clock=clock) as running:
        operator = running.face()
        await agree(operator, agreement_id="brief")
        end = Timestamp()
        end.FromDatetime(START + timedelta(minutes=10))
        asked = v1.Credential(agreement_id="brief", expire_time=end)
        request = v1.CreateCredentialRequest(credential=asked)
        face = running.face((await operator.agreements.CreateCredential(request)).credential.token)
        minted = await mint(face)
        assert minted.expire_time == end
        clock.advance(timedelta(minutes=10))
        for token in (face, running.face(minted.access_token)):
            with pytest.raises(Unauthenticated):
                await areas_seen(token)
        with pytest.raises(InvalidArgument, match="expected a time to come"):
            await operator.agreements.CreateCredential(request)


def basic(name: str, secret: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


async def test_the_token_endpoint_takes_a_credential_by_basic_or_in_the_body(lab: Platform) -> None:
    credential = await lab.credential("web", scopes=("quality-on-demand", "netapi"))
    name, secret = credential.credential_id, credential.token
    form = {"grant_type": "client_credentials"}
    for headers, more in (
        (basic(name, secret), {}),
        ({}, {"client_id": name, "client_secret": secret}),
        (basic(name, secret), {"scope": "openid dpv:ServiceProvision quality-on-demand:sessions:create netapi"}),
    ):
        answer = await lab.http.post("/oauth2/token", data=form | more, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        told = answer.json()
        assert (told["token_type"], told["expires_in"]) == ("Bearer", 3600)
        wanted = "quality-on-demand:sessions:create netapi" if "scope" in more else "quality-on-demand netapi"
        assert told["scope"] == wanted
        assert await areas_seen(lab.face(told["access_token"])) == ["north", "south"]


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "client_credentials", "client_secret": "wrong"}, 401, "invalid_client"),
        ({"grant_type": "client_credentials", "client_secret": ""}, 401, "invalid_client"),
        ({"grant_type": "client_credentials", "client_id": "another"}, 401, "invalid_client"),
        ({"grant_type": "client_credentials", "scope": "geofencing-subscriptions"}, 400, "invalid_scope"),
        ({"grant_type": "client_credentials", "scope": "openid"}, 400, "invalid_scope"),
        ({"grant_type": "client_credentials", "login_hint": "mailto:me"}, 400, "invalid_request"),
        ({"grant_type": "client_credentials", "login_hint": "tel:me"}, 400, "invalid_request"),
        ({"grant_type": ["client_credentials", "client_credentials"]}, 400, "invalid_request"),
    ],
)
async def test_the_token_endpoint_refuses_in_the_words_of_oauth(
    lab: Platform, form: dict[str, object], status: int, error: str
) -> None:
    credential = await lab.credential("refused", scopes=("quality-on-demand",))
    who = {"client_id": credential.credential_id, "client_secret": credential.token}
    answer = await lab.http.post("/oauth2/token", data=who | form)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.json()["error_description"]
    assert ("www-authenticate" in answer.headers) == (status == 401)


async def test_the_token_endpoint_binds_a_device_where_it_is_hinted_at(lab: Platform) -> None:
    credential = await lab.credential("bound")
    for hint, device in (
        ("tel:+4917012345", Device(phone_number="+4917012345")),
        ("ipport:10.45.0.7:5060", Device(ipv4_address="10.45.0.7")),
        ("ipport:10.45.0.7", Device(ipv4_address="10.45.0.7")),
        ("ipport:[2001:db8::7]:5060", Device(ipv6_address="2001:db8::7")),
        ("ipport:2001:db8::7", Device(ipv6_address="2001:db8::7")),
    ):
        answer = await lab.http.post(
            "/oauth2/token",
            data={"grant_type": "client_credentials", "login_hint": hint},
            headers=basic(credential.credential_id, credential.token),
        )
        assert answer.status_code == 200
        caller = await Callers(lab.store, NetapiSection()).identify(f"Bearer {answer.json()['access_token']}")
        assert (caller.agreement_id, caller.device) == ("bound", device)


async def test_every_refusal_of_grpc_is_one_of_castcore(lab: Platform) -> None:
    with pytest.raises(CastcoreError) as refused:
        await lab.face("unknown-unknown-unknown").agreements.GetAgreement(v1.GetAgreementRequest(agreement_id="x"))
    assert refused.value.code == "UNAUTHENTICATED"
