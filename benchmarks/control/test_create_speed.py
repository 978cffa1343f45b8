"""What does it cost to create a dynamic policy, through AF, PCF, SMF and UPF? Beside four calls that do nothing.

Both are of the same layout, on uvloop, and asked by this process through a plain channel of grpc.aio: all in one
process (``castcore up``; the chain of bare_chain.py), or a process each (``castcore run``; four chains of one). The
calls of the chain go over sockets always, with messages of the same sizes; castcore's own within a process do not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import grpc
import pytest
from running_core import FLOW, castcore, one_process_each, prepare

from benchmarks.conftest import Results, interquartile_range
from benchmarks.control.bare_chain import METHOD
from benchmarks.control.databases import state
from benchmarks.processes import serving
from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1.media_session_pb2_grpc import DynamicPoliciesServiceStub, ServiceAccessInformationServiceStub
from nf.common.channels import Channels
from nf.common.resources import new_id
from nf.pcf.v1 import policy_authorization_pb2 as n5
from nf.pcf.v1 import sm_policy_control_pb2 as n7
from nf.pcf.v1.policy_authorization_pb2_grpc import PolicyAuthorizationServiceStub
from nf.pcf.v1.sm_policy_control_pb2_grpc import SmPolicyControlServiceStub
from nf.smf.v1 import pdu_session_pb2 as smf
from upf.n4.v1 import n4_pb2 as n4
from upf.n4.v1.n4_pb2_grpc import N4ServiceStub

pytestmark = pytest.mark.timeout(300)

CHAIN = Path(__file__).with_name("bare_chain.py")
# PostgreSQL waits for the disk at every commit.
POLICIES, WARM = {"SQLite": 320, "PostgreSQL": 80}, 40
TOGETHER, APART = "in one process", "a process each"
AT_ONCE = {1: "one after the other", 8: "eight at a time"}
# The layout, the database, and how many at a time.
CASES = [
    (layout, database, at_once)
    for layout, database in ((TOGETHER, "SQLite"), (APART, "SQLite"), (TOGETHER, "PostgreSQL"))
    for at_once in AT_ONCE
]


async def hops_of(channels: Channels, request: m5.CreateDynamicPolicyRequest) -> list[tuple[int, int]]:
    """Bytes of the request and the answer of each hop, as the creation of this policy has them; leaves no policy."""
    policies = DynamicPoliciesServiceStub(channels.get("af"))
    before = await n4_session(channels)
    created = await policies.CreateDynamicPolicy(request)
    policy_id = created.dynamic_policy.dynamic_policy_id
    authorization = PolicyAuthorizationServiceStub(channels.get("pcf"))
    known = (await authorization.GetAppSession(n5.GetAppSessionRequest(app_session_id=policy_id))).app_session
    associations = SmPolicyControlServiceStub(channels.get("pcf"))
    association = (await associations.ListSmPolicies(n7.ListSmPoliciesRequest())).sm_policies[0]
    after = await n4_session(channels)
    await policies.DeleteDynamicPolicy(m5.DeleteDynamicPolicyRequest(dynamic_policy_id=policy_id))
    notify = smf.UpdateNotifyRequest(sm_policy_id=association.sm_policy_id, decision=association.decision)
    modify = n4.ModifySessionRequest(
        cp_seid=after.cp_seid,
        create_or_update_pdrs=[each for each in after.pdrs if each not in before.pdrs],
        create_or_update_qers=[each for each in after.qers if each not in before.qers],
        create_or_update_urrs=[each for each in after.urrs if each not in before.urrs],
    )
    return [
        (request.ByteSize(), created.ByteSize()),
        (
            n5.CreateAppSessionRequest(app_session=known).ByteSize(),
            n5.CreateAppSessionResponse(app_session=known).ByteSize(),
        ),
        (notify.ByteSize(), smf.UpdateNotifyResponse().ByteSize()),
        (modify.ByteSize(), n4.ModifySessionResponse().ByteSize()),
    ]


async def n4_session(channels: Channels) -> n4.Session:
    (session,) = (await N4ServiceStub(channels.get("upf")).ListSessions(n4.ListSessionsRequest())).sessions
    return session


@contextmanager
def core(layout: str, configuration: Path, state: Path) -> Iterator[dict[str, str]]:
    """A core of that layout: the addresses of its functions."""
    words = ("--config", str(configuration), "--dir", str(state))
    with ExitStack() as running:
        if layout == TOGETHER:
            _, ready = running.enter_context(castcore("up", *words))
            yield ready["grpc"]
            return
        addresses: dict[str, str] = {}
        for name in ("upf", "smf", "pcf", "af"):
            _, ready = running.enter_context(castcore("run", name, *words))
            addresses |= ready["grpc"]
        yield addresses


@contextmanager
def chain(layout: str, hops: list[tuple[int, int]]) -> Iterator[str]:
    """Four calls that do nothing, of that layout: the address of the first."""
    words = [f"{asked}:{answered}" for asked, answered in hops]
    with ExitStack() as running:
        if layout == TOGETHER:
            yield running.enter_context(serving(CHAIN, *words))
            return
        address = running.enter_context(serving(CHAIN, words[-1]))
        for word, (following, _) in reversed(list(zip(words[:-1], hops[1:], strict=True))):
            then = ("--then", address, "--bytes", str(following))
            address = running.enter_context(serving(CHAIN, word, *then))
        yield address


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun


@pytest.mark.parametrize(("layout", "database", "at_once"), CASES)
async def test_a_dynamic_policy_beside_four_calls(
    layout: str, database: str, at_once: int, tmp_path: Path, results_of: Callable[..., Results]
) -> None:
    results = results_of(
        "create", about="Creating a dynamic policy, beside a chain of four calls that do nothing", parts=tuple(CASES)
    )
    with ExitStack() as running:
        kept = running.enter_context(state(database))
        configuration = one_process_each(tmp_path)
        configuration.write_text(kept + configuration.read_text().partition("[state]")[0])
        grpc_addresses = running.enter_context(core(layout, configuration, tmp_path / "state"))
        channels = Channels(grpc_addresses)
        session = await prepare(channels)
        asking = grpc.aio.insecure_channel(grpc_addresses["af"])
        policies = DynamicPoliciesServiceStub(asking)
        access = ServiceAccessInformationServiceStub(channels.get("af"))
        asked_for = m5.GetServiceAccessInformationRequest(provisioning_session_id=session.provisioning_session_id)
        information = (await access.GetServiceAccessInformation(asked_for)).service_access_information
        (template,) = information.dynamic_policy_invocation_configuration.policy_template_bindings

        def request() -> m5.CreateDynamicPolicyRequest:
            wanted = m5.DynamicPolicy(
                provisioning_session_id=session.provisioning_session_id,
                policy_template_id=template.policy_template_id,
                service_data_flow_descriptions=[FLOW.description()],
            )
            return m5.CreateDynamicPolicyRequest(dynamic_policy=wanted, request_id=new_id())

        hops = await hops_of(channels, request())
        address = running.enter_context(chain(layout, hops))
        async with grpc.aio.insecure_channel(address) as bare:
            ask, asked = bare.unary_unary(METHOD), bytes(hops[0][0])
            created: list[m5.DynamicPolicy] = []

            async def create() -> None:
                created.append((await policies.CreateDynamicPolicy(request())).dynamic_policy)

            async def call() -> None:
                assert len(await ask(asked)) == hops[0][1]

            times: dict[str, list[float]] = {"castcore": [], "four calls": []}
            for number in range((WARM + POLICIES[database]) // at_once):
                # In turn, so that whatever else the machine does befalls both.
                both = {
                    "four calls": await timed(lambda: together(call, at_once)),
                    "castcore": await timed(lambda: together(create, at_once)),
                }
                if number >= WARM // at_once:
                    for subject, seconds in both.items():
                        times[subject].append(seconds / at_once)
                for each in created:
                    assert each.state == m5.DynamicPolicy.STATE_ACTIVE
                    gone = m5.DeleteDynamicPolicyRequest(dynamic_policy_id=each.dynamic_policy_id)
                    await policies.DeleteDynamicPolicy(gone)
                created.clear()
        await asking.close()
        await channels.close()
    floor_s = median(times["four calls"])
    results.add(
        (layout, database, at_once),
        [
            {
                "subject": subject if subject != "castcore" else f"castcore, {database}",
                "what": f"{layout}, {AT_ONCE[at_once]}",
                "bytes of requests and answers": sum(map(sum, hops)),
                "measurements": len(seconds),
                "median_ms": round(median(seconds) * 1e3, 3),
                "spread": round(interquartile_range(seconds) / median(seconds), 3),
                "times_the_four_calls": round(median(seconds) / floor_s, 2),
            }
            for subject, seconds in times.items()
        ],
    )


async def together(work: Callable[[], Awaitable[None]], at_once: int) -> None:
    await asyncio.gather(*(work() for _ in range(at_once)))
