"""Notification subscriptions at the AF: who may have which, and events that arrive in order, each at least once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from af_stack import AfStack, flow
from google.protobuf.field_mask_pb2 import FieldMask
from receiver import Receiver

from nf.af.config import ProviderSection
from nf.af.v1 import notification_subscriptions_pb2 as api
from nf.af.v1 import notification_subscriptions_pb2_grpc as api_grpc
from nf.af.v1 import provisioning_pb2 as m1
from nf.cli.certs.making import make_files
from nf.common.callbacks import Backoff
from nf.common.config import TlsSection
from nf.common.errors import (
    EtagMismatch,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)
from nf.common.tls import Credentials
from nf.common.v1.notifications_pb2 import NotificationSubscription

ALPHA, BETA, OPERATOR = "alpha-0123456789abcdef", "beta-0123456789abcdef", "operator-0123456789abcdef"
PROVIDERS = (
    ProviderSection(asp_id="alpha", token=ALPHA),
    ProviderSection(asp_id="beta", token=BETA),
    ProviderSection(asp_id="net", token=OPERATOR, operator=True),
)
# Tries follow each other at once.
FAST = {"callback_longest_pause_s": 0.02, "callback_timeout_s": 5.0}
Metadata = tuple[tuple[str, str], ...]


def by(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[AfStack]:
    async with AfStack(tmp_path, config=FAST) as started:
        yield started


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    started = Receiver()
    await started.start()
    yield started
    await started.stop()


def service(stack: AfStack) -> api_grpc.NotificationSubscriptionsServiceStub:
    return api_grpc.NotificationSubscriptionsServiceStub(stack.channel)


async def subscribe(
    stack: AfStack, url: str, metadata: Metadata = (), request_id: str = "", **wanted: object
) -> NotificationSubscription:
    request = api.CreateNotificationSubscriptionRequest(
        notification_subscription=NotificationSubscription(callback_url=url, **wanted), request_id=request_id
    )
    answer = await service(stack).CreateNotificationSubscription(request, metadata=metadata)
    return answer.notification_subscription


async def get(stack: AfStack, subscription_id: str, metadata: Metadata = ()) -> NotificationSubscription:
    request = api.GetNotificationSubscriptionRequest(subscription_id=subscription_id)
    return (await service(stack).GetNotificationSubscription(request, metadata=metadata)).notification_subscription


async def all_of(stack: AfStack, metadata: Metadata = ()) -> list[NotificationSubscription]:
    request = api.ListNotificationSubscriptionsRequest()
    answer = await service(stack).ListNotificationSubscriptions(request, metadata=metadata)
    return list(answer.notification_subscriptions)


async def happen(stack: AfStack, count: int) -> None:
    """So many events: templates that become READY."""
    session = await stack.new_session()
    for number in range(count):
        await stack.new_template(session.provisioning_session_id, external_reference=f"template {number}")


async def test_events_are_posted_in_order_with_what_they_carry(stack: AfStack, receiver: Receiver):
    await happen(stack, 1)
    subscription = await subscribe(stack, receiver.url)
    template = await stack.provision()
    policy = await stack.activate(template, flow(50_000))
    await receiver.until(lambda r: len(r.received) == 2)
    # What had happened before is not told.
    first, second = receiver.received
    assert receiver.sequences == [2, 3]
    assert first["subscriptionId"] == subscription.subscription_id
    assert first["event"]["type"] == "POLICY_TEMPLATE_STATE"
    assert first["event"]["subject"] == f"policy-templates/{template.policy_template_id}"
    assert first["event"]["payload"]["@type"] == "nf.af.v1.PolicyTemplateStateChanged"
    assert first["event"]["payload"]["policyTemplate"]["state"] == "READY"
    assert second["event"]["type"] == "DYNAMIC_POLICY_STATE"
    assert second["event"]["payload"]["dynamicPolicy"]["dynamicPolicyId"] == policy.dynamic_policy_id
    assert "audience" not in second["event"]
    assert second["headers"]["content-type"] == "application/json"
    assert second["headers"]["castcore-subscription"] == subscription.subscription_id
    assert second["headers"]["castcore-sequence"] == "3"
    assert second["headers"]["x-correlation-id"] == second["event"]["correlationId"]


async def test_only_what_was_asked_for_is_told(stack: AfStack, receiver: Receiver):
    await subscribe(stack, receiver.url, event_types=["DYNAMIC_POLICY_STATE"])
    template = await stack.provision()
    policy = await stack.activate(template, flow(50_000))
    await receiver.until(lambda r: len(r.received) == 1)
    assert receiver.received[0]["event"]["subject"] == f"dynamic-policies/{policy.dynamic_policy_id}"
    other = Receiver()
    await other.start()
    await subscribe(stack, other.url, subject="policy-templates", after_sequence=0)
    await other.until(lambda r: len(r.received) == 1)
    assert other.received[0]["event"]["subject"] == f"policy-templates/{template.policy_template_id}"
    await other.stop()


async def test_a_subscription_may_begin_with_what_is_kept(stack: AfStack, receiver: Receiver):
    await happen(stack, 5)
    await subscribe(stack, receiver.url, after_sequence=0)
    await receiver.until(lambda r: len(r.received) == 5)
    assert receiver.sequences == [1, 2, 3, 4, 5]
    other = Receiver()
    await other.start()
    await subscribe(stack, other.url, after_sequence=3)
    await other.until(lambda r: len(r.received) == 2)
    assert other.sequences == [4, 5]
    await other.stop()
    with pytest.raises(InvalidArgument, match="after_sequence: expected at most 5, the last event, found 6"):
        await subscribe(stack, receiver.url, after_sequence=6)


async def test_a_receiver_that_fails_is_tried_again_and_misses_nothing(stack: AfStack, receiver: Receiver):
    receiver.answers = [500, 404, 302, 429]
    receiver.headers = {"location": "http://127.0.0.1:1/elsewhere", "retry-after": "3600"}
    subscription = await subscribe(stack, receiver.url)
    await happen(stack, 3)
    await receiver.until(lambda r: len(r.received) == 3)
    assert receiver.attempts == [(1, "1"), (1, "2"), (1, "3"), (1, "4"), (1, "5"), (2, "1"), (3, "1")]
    assert receiver.sequences == [1, 2, 3]
    await settled(stack, subscription, 3)


async def settled(stack: AfStack, subscription: NotificationSubscription, delivered: int) -> NotificationSubscription:
    """The subscription once its last event has been noted."""
    async with asyncio.timeout(10):
        while True:
            found = await get(stack, subscription.subscription_id)
            if found.delivery.delivered_sequence == delivered:
                assert found.delivery.failed_attempts == 0
                assert found.delivery.last_error == ""
                return found


async def test_how_it_goes_is_told_while_it_fails(stack: AfStack, receiver: Receiver):
    receiver.answers = [503] * 1_000
    subscription = await subscribe(stack, receiver.url)
    await happen(stack, 1)
    await receiver.until(lambda r: len(r.attempts) == 4)
    found = await get(stack, subscription.subscription_id)
    assert found.delivery.failed_attempts >= 3
    assert found.delivery.last_error == "answered 503"
    assert found.delivery.HasField("next_attempt_time")
    assert found.delivery.delivered_sequence == 0
    assert found.etag == subscription.etag
    receiver.answers.clear()
    assert (await settled(stack, subscription, 1)).delivery.delivered_events == 1


async def test_a_receiver_that_does_not_answer_is_given_up_on_after_a_while(tmp_path: Path, receiver: Receiver):
    async with AfStack(tmp_path, config={**FAST, "callback_timeout_s": 0.05}) as stack:
        receiver.hold.clear()
        subscription = await subscribe(stack, receiver.url)
        await happen(stack, 1)
        await receiver.until(lambda r: len(r.attempts) == 2)
        assert (await get(stack, subscription.subscription_id)).delivery.last_error == "no answer within 0.05 s"
        receiver.hold.set()
        await receiver.until(lambda r: 1 in r.sequences)


async def test_a_receiver_that_restarts_gets_what_happened_meanwhile(stack: AfStack, receiver: Receiver):
    subscription = await subscribe(stack, receiver.url)
    await happen(stack, 2)
    await receiver.until(lambda r: len(r.received) == 2)
    await receiver.stop()
    await happen(stack, 3)
    await receiver.start()
    await receiver.until(lambda r: len(r.received) == 5)
    assert receiver.sequences == [1, 2, 3, 4, 5]
    await settled(stack, subscription, 5)


async def test_an_af_that_restarts_goes_on_where_it_was(stack: AfStack, receiver: Receiver):
    subscription = await subscribe(stack, receiver.url)
    await happen(stack, 2)
    await receiver.until(lambda r: len(r.received) == 2)
    await settled(stack, subscription, 2)
    receiver.hold.clear()
    await happen(stack, 2)
    await receiver.until(lambda r: len(r.attempts) == 3)
    await stack.stop()
    receiver.hold.set()
    await stack.start()
    await happen(stack, 1)
    await receiver.until(lambda r: 5 in r.sequences)
    # The third was under way when the AF stopped: it came twice.
    assert list(dict.fromkeys(receiver.sequences)) == [1, 2, 3, 4, 5]
    assert receiver.sequences == sorted(receiver.sequences)


async def test_a_slow_receiver_holds_up_nobody_else(stack: AfStack, receiver: Receiver):
    slow = Receiver()
    await slow.start()
    slow.hold.clear()
    await subscribe(stack, slow.url)
    await subscribe(stack, receiver.url)
    await happen(stack, 3)
    await receiver.until(lambda r: len(r.received) == 3)
    assert slow.sequences == []
    slow.hold.set()
    await slow.until(lambda r: len(r.received) == 3)
    assert slow.sequences == [1, 2, 3]
    await slow.stop()


async def test_410_ends_a_subscription_and_an_event_says_so(stack: AfStack, receiver: Receiver):
    receiver.answers = [410]
    subscription = await subscribe(stack, receiver.url)
    await happen(stack, 1)
    ended = await stack.event(lambda event: event.type == "NOTIFICATION_SUBSCRIPTION_ENDED")
    assert ended.subject == f"notification-subscriptions/{subscription.subscription_id}"
    with pytest.raises(NotFound):
        await get(stack, subscription.subscription_id)
    await happen(stack, 1)
    assert receiver.attempts == [(1, "1")]


async def test_a_subscription_ends_when_its_time_has_come(stack: AfStack, receiver: Receiver):
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    subscription = await subscribe(stack, receiver.url, expire_time=soon)
    ended = await stack.event(lambda event: event.type == "NOTIFICATION_SUBSCRIPTION_ENDED")
    assert ended.subject == f"notification-subscriptions/{subscription.subscription_id}"
    assert await all_of(stack) == []
    with pytest.raises(InvalidArgument, match="expire_time: expected a time to come"):
        await subscribe(stack, receiver.url, expire_time=soon)


async def test_a_changed_subscription_goes_on_where_it_is(stack: AfStack, receiver: Receiver):
    receiver.answers = [500] * 1_000
    subscription = await subscribe(stack, receiver.url)
    await happen(stack, 2)
    await receiver.until(lambda r: len(r.attempts) > 1)
    other = Receiver()
    await other.start()
    changes = NotificationSubscription(subscription_id=subscription.subscription_id, callback_url=other.url)
    request = api.UpdateNotificationSubscriptionRequest(
        notification_subscription=changes, update_mask=FieldMask(paths=["callback_url"])
    )
    changed = (await service(stack).UpdateNotificationSubscription(request)).notification_subscription
    assert changed.callback_url == other.url
    assert changed.etag != subscription.etag
    await other.until(lambda r: len(r.received) == 2)
    assert other.sequences == [1, 2]
    request.notification_subscription.etag = subscription.etag
    with pytest.raises(EtagMismatch):
        await service(stack).UpdateNotificationSubscription(request)
    await service(stack).DeleteNotificationSubscription(
        api.DeleteNotificationSubscriptionRequest(subscription_id=subscription.subscription_id, etag=changed.etag)
    )
    await happen(stack, 1)
    assert other.sequences == [1, 2]
    assert await all_of(stack) == []
    await other.stop()


async def test_events_that_were_pruned_before_they_were_told_are_counted(stack: AfStack, receiver: Receiver):
    receiver.answers = [500] * 1_000
    subscription = await subscribe(stack, receiver.url)
    await happen(stack, 5)
    await receiver.until(lambda r: len(r.attempts) > 1)
    await stack.stop()
    await stack.start()
    await stack.store.write(lambda tx: tx.prune_events(3))
    await stack.stop()
    receiver.answers.clear()
    await stack.start()
    await receiver.until(lambda r: len(r.received) >= 2)
    found = await settled(stack, subscription, 5)
    assert receiver.sequences[-2:] == [4, 5]
    assert found.delivery.lost_sequences + found.delivery.delivered_events == 5


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"callback_url": ""}, "notification_subscription.callback_url"),
        ({"callback_url": "ftp://127.0.0.1/"}, "notification_subscription.callback_url"),
        ({"event_types": ["lower"]}, "notification_subscription.event_types[0]"),
        ({"event_types": ["T"] * 65}, "notification_subscription.event_types"),
        ({"subject": "x" * 513}, "notification_subscription.subject"),
    ],
)
async def test_a_wrong_subscription_is_refused_by_its_property(stack: AfStack, wanted: dict, field: str):
    content = {"url": "http://127.0.0.1:9/", **wanted}
    content["url"] = content.pop("callback_url", content["url"])
    with pytest.raises(InvalidArgument) as refused:
        await subscribe(stack, **content)
    assert [each.field for each in refused.value.violations] == [field]
    assert await all_of(stack) == []


async def test_a_host_that_is_not_allowed_is_refused(stack: AfStack):
    with pytest.raises(PermissionDenied) as refused:
        await subscribe(stack, "http://169.254.169.254/latest")
    assert refused.value.reason == "CALLBACK_HOST_NOT_ALLOWED"


async def test_there_is_a_bound_and_a_repeat_makes_none(stack: AfStack):
    first = await subscribe(stack, "http://127.0.0.1:9/", request_id="r-1")
    assert (await subscribe(stack, "http://127.0.0.1:9/", request_id="r-1")).subscription_id == first.subscription_id
    for _ in range(99):
        await subscribe(stack, "http://127.0.0.1:9/")
    with pytest.raises(ResourceExhausted, match="there are 100"):
        await subscribe(stack, "http://127.0.0.1:9/")
    assert len(await all_of(stack)) == 100


async def test_a_provider_has_its_own_and_is_told_its_own(tmp_path: Path, receiver: Receiver):
    async with AfStack(tmp_path, config={**FAST, "providers": PROVIDERS}) as stack:
        with pytest.raises(Unauthenticated):
            await subscribe(stack, receiver.url)
        alpha = await subscribe(stack, receiver.url, by(ALPHA))
        everything = Receiver()
        await everything.start()
        operator = await subscribe(stack, everything.url, by(OPERATOR))
        assert (alpha.asp_id, operator.asp_id) == ("alpha", "")
        for token in (BETA, ALPHA):
            await make_ready(stack, token)
        await everything.until(lambda r: len(r.received) == 2)
        await receiver.until(lambda r: len(r.received) == 1)
        assert receiver.sequences == [2]
        assert [each.subscription_id for each in await all_of(stack, by(ALPHA))] == [alpha.subscription_id]
        assert await all_of(stack, by(BETA)) == []
        assert len(await all_of(stack, by(OPERATOR))) == 2
        for token, subscription in ((BETA, alpha), (ALPHA, operator)):
            with pytest.raises(NotFound):
                await get(stack, subscription.subscription_id, by(token))
            with pytest.raises(NotFound):
                await service(stack).DeleteNotificationSubscription(
                    api.DeleteNotificationSubscriptionRequest(subscription_id=subscription.subscription_id),
                    metadata=by(token),
                )
        await everything.stop()


async def make_ready(stack: AfStack, token: str) -> None:
    """A template of the provider, which becomes READY."""
    wanted = m1.ProvisioningSession(provisioning_session_type=m1.PROVISIONING_SESSION_TYPE_DOWNLINK, app_id="app")
    session = await stack.sessions.CreateProvisioningSession(
        m1.CreateProvisioningSessionRequest(provisioning_session=wanted), metadata=by(token)
    )
    template = m1.PolicyTemplate(
        external_reference="r", qos_specification=m1.M1QosSpecification(max_btr_dl_bps=5_000_000)
    )
    request = m1.CreatePolicyTemplateRequest(
        provisioning_session_id=session.provisioning_session.provisioning_session_id, policy_template=template
    )
    last = stack.store.sequence
    await stack.templates.CreatePolicyTemplate(request, metadata=by(token))
    await stack.store.wait_sequence(last)


async def test_over_http_it_is_the_same_resource(stack: AfStack, receiver: Receiver):
    path = "/castcore/v1/notification-subscriptions"
    created = await stack.http_client.post(path, json={"callbackUrl": receiver.url, "eventTypes": ["USAGE_REPORT"]})
    assert created.status_code == 201
    subscription_id = created.json()["subscriptionId"]
    assert created.headers["location"] == f"{stack.http}{path}/{subscription_id}"
    assert (await get(stack, subscription_id)).callback_url == receiver.url

    read = await stack.http_client.get(f"{path}/{subscription_id}")
    assert read.json() == created.json()
    listed = (await stack.http_client.get(path)).json()
    assert listed == {"items": [read.json()], "nextPageToken": ""}

    patch = {"content-type": "application/merge-patch+json", "if-match": created.headers["etag"]}
    patched = await stack.http_client.patch(f"{path}/{subscription_id}", json={"eventTypes": None}, headers=patch)
    assert patched.status_code == 200
    assert "eventTypes" not in patched.json()
    stale = await stack.http_client.patch(f"{path}/{subscription_id}", json={"subject": "x"}, headers=patch)
    assert stale.status_code == 412
    replaced = await stack.http_client.put(f"{path}/{subscription_id}", json={"callbackUrl": receiver.url})
    assert replaced.status_code == 200
    await happen(stack, 1)
    await receiver.until(lambda r: len(r.received) == 1)

    wrong = await stack.http_client.post(path, json={"callbackUrl": "nowhere", "eventTypes": ["USAGE_REPORT"]})
    assert wrong.status_code == 400
    assert [each["param"] for each in wrong.json()["invalidParams"]] == ["callbackUrl"]
    elsewhere = await stack.http_client.post(path, json={"callbackUrl": "http://8.8.8.8/"})
    assert elsewhere.status_code == 403
    assert (await stack.http_client.delete(f"{path}/{subscription_id}")).status_code == 204
    assert (await stack.http_client.get(f"{path}/{subscription_id}")).status_code == 404


# CPython 3.11 leaves the transport of a handshake that has failed to the collector, which warns of it.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
async def test_over_https_the_receiver_s_certificate_has_to_be_of_the_lab(tmp_path: Path):
    lab = tmp_path / "lab"
    make_files(lab, ("af", "hook"), alternatives=(), days=1, clients=())
    section = TlsSection(ca=f"{lab}/ca.pem", certificate=f"{lab}/{{name}}.pem", key=f"{lab}/{{name}}.key")
    receiver = Receiver(tls=Credentials.load(section, "hook"))
    await receiver.start()
    async with AfStack(tmp_path, config=FAST) as stack:
        subscription = await subscribe(stack, receiver.url)
        await happen(stack, 1)
        async with asyncio.timeout(10):
            while (
                "CERTIFICATE_VERIFY_FAILED" not in (await get(stack, subscription.subscription_id)).delivery.last_error
            ):
                await stack.store.read(lambda reader: None)
        await stack.stop()
        stack.tls = Credentials.load(section, "af")
        await stack.start()
        await receiver.until(lambda r: len(r.received) == 1)
    await receiver.stop()
    gc.collect()


def test_pauses_double_up_to_the_longest_and_heed_the_receiver():
    backoff = Backoff(first_s=1.0, longest_s=60.0)
    for attempts, most_s in ((1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (500, 60)):
        assert most_s / 2 <= backoff.pause_s(attempts, None) <= most_s
    assert 30.0 <= backoff.pause_s(1, 30.0) <= 30.0
    assert backoff.pause_s(1, 3600.0) == 60.0
