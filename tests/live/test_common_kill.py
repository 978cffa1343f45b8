"""What was acknowledged survives the death of the process; SIGTERM ends it cleanly."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from policy_service import open_store

from nf.common.channels import Channels
from nf.common.errors import Cancelled, CastcoreError, Unavailable
from nf.pcf.v1.operator_policies_pb2 import CreateOperatorPolicyRequest, OperatorPolicy
from nf.pcf.v1.operator_policies_pb2_grpc import OperatorPoliciesServiceStub

_SERVER = Path(__file__).with_name("policy_server.py")


@asynccontextmanager
async def child(directory: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(_SERVER), str(directory), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def create_until_killed(
    process: asyncio.subprocess.Process, address: str, kill_after: int, prefix: str
) -> set[str]:
    """Creates from sixteen clients at once; the process is killed after so many acknowledgements, calls under way."""
    channels = Channels({"pcf": address})
    stub = OperatorPoliciesServiceStub(channels.get("pcf"))
    acknowledged: set[str] = set()
    refused: list[CastcoreError] = []

    async def client(number: int) -> None:
        for index in range(10_000):
            name = f"{prefix}-{number}-{index}"
            request = CreateOperatorPolicyRequest(
                operator_policy=OperatorPolicy(operator_policy_id=name, dnn="internet")
            )
            try:
                answer = await stub.CreateOperatorPolicy(request)
            except CastcoreError as error:
                refused.append(error)
                return
            assert answer.operator_policy.etag
            acknowledged.add(name)
            if len(acknowledged) == kill_after:
                process.send_signal(signal.SIGKILL)

    await asyncio.gather(*(client(number) for number in range(16)))
    assert len(refused) == 16
    assert all(isinstance(each, Unavailable | Cancelled) for each in refused)
    assert await process.wait() == -signal.SIGKILL
    await channels.close()
    return acknowledged


async def test_everything_acknowledged_is_there_once_after_sigkill(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    for life in range(3):
        async with child(tmp_path) as (process, address):
            acknowledged |= await create_until_killed(process, address, 200, f"life{life}")
    assert len(acknowledged) >= 600

    store = open_store(tmp_path)
    kept = await store.read(lambda reader: [each.operator_policy_id for each in reader.all(OperatorPolicy)])
    events = await store.read(lambda reader: reader.events(0, 100_000))
    await store.close()
    assert acknowledged <= set(kept)
    assert len(kept) == len(set(kept))
    # A create under way when the process died has happened with its event or not at all.
    assert len(kept) - len(acknowledged) <= 3 * 16
    assert [each.sequence for each in events] == list(range(1, len(kept) + 1))
    assert [each.subject for each in events] == [f"operator-policies/{name}" for name in kept]


async def test_sigterm_ends_the_process_cleanly(tmp_path: Path) -> None:
    async with child(tmp_path) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert (await process.stdout.readline()).decode().strip() == "stopped"
        assert await process.wait() == 0
