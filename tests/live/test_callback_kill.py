"""An AF that is killed again and again while it tells a subscriber: every event arrives, in order, at least once."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from af_stack import AfStack
from receiver import Receiver

from nf.af.v1 import notification_subscriptions_pb2 as api
from nf.af.v1 import provisioning_pb2 as m1
from nf.af.v1.notification_subscriptions_pb2_grpc import NotificationSubscriptionsServiceStub
from nf.af.v1.provisioning_pb2_grpc import PolicyTemplatesServiceStub
from nf.common.channels import Channels
from nf.common.v1.notifications_pb2 import NotificationSubscription

_SERVER = Path(__file__).with_name("af_server.py")
_ROUNDS, _EACH = 3, 20


async def test_every_event_arrives_at_least_once_and_in_order(tmp_path: Path) -> None:
    receiver = Receiver()
    await receiver.start()
    async with AfStack(tmp_path) as stack:
        session = await stack.new_session()
        subscription = api.CreateNotificationSubscriptionRequest(
            notification_subscription=NotificationSubscription(callback_url=receiver.url)
        )
        await NotificationSubscriptionsServiceStub(stack.channel).CreateNotificationSubscription(subscription)
        await stack.stop()
        for number in range(_ROUNDS):
            last = number == _ROUNDS - 1
            # Some are refused, so that others wait behind them when the AF dies.
            receiver.answers = [] if last else [204, 500, 204, 204, 500]
            await round_of(tmp_path, stack.pcf_address, session.provisioning_session_id, number, receiver, last=last)
    await receiver.stop()
    assert list(dict.fromkeys(receiver.sequences)) == list(range(1, _ROUNDS * _EACH + 1))
    assert receiver.sequences == sorted(receiver.sequences)
    # An event is told again only where the AF died before it had noted that it was told.
    assert len(receiver.sequences) - _ROUNDS * _EACH < _ROUNDS


async def round_of(
    directory: Path, pcf_address: str, session_id: str, number: int, receiver: Receiver, *, last: bool
) -> None:
    """Starts the AF, makes events, and kills it when some of them have been told; the last time when all have."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(_SERVER), str(directory), pcf_address, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    channels = Channels({"af": (await process.stdout.readline()).decode().strip()})
    try:
        templates = PolicyTemplatesServiceStub(channels.get("af"))
        before = len(receiver.received)
        for each in range(_EACH):
            template = m1.PolicyTemplate(
                external_reference=f"{number}-{each}",
                qos_specification=m1.M1QosSpecification(max_btr_dl_bps=5_000_000),
            )
            await templates.CreatePolicyTemplate(
                m1.CreatePolicyTemplateRequest(provisioning_session_id=session_id, policy_template=template)
            )
        if last:
            await receiver.until(lambda r: _ROUNDS * _EACH in r.sequences)
        else:
            await receiver.until(lambda r: len(r.received) > before + 2)
        process.kill()
        await process.wait()
    finally:
        await channels.close()
        if process.returncode is None:
            process.kill()
            await process.wait()
