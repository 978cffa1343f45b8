"""A function in a process: what starts is stopped, in the reverse order, whatever fails."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from policy_service import Policies, open_store, registrations

from nf.cli.configuration import PEERS
from nf.common.channels import Channels
from nf.common.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from nf.common.function import Function
from nf.common.hosting import Host
from nf.common.run import run
from nf.common.telemetry import Telemetry
from nf.pcf.v1.operator_policies_pb2 import CreateOperatorPolicyRequest, OperatorPolicy
from nf.pcf.v1.operator_policies_pb2_grpc import OperatorPoliciesServiceStub


async def test_a_hosted_function_serves_between_start_and_stop(tmp_path: Path) -> None:
    told: list[str] = []

    async def tell(what: str) -> None:
        told.append(what)

    store = open_store(tmp_path)
    host = Host("pcf", Telemetry())
    address = host.bind("127.0.0.1:0")

    def compose(channels: Channels) -> Function:
        services = registrations(Policies(store), store)
        return Function("pcf", services, start=lambda: tell("start"), stop=lambda: tell("stop"))

    await host.start(compose, {"smf": "127.0.0.1:1"}, store)
    channels = Channels({"pcf": address})
    request = CreateOperatorPolicyRequest(operator_policy=OperatorPolicy(operator_policy_id="a"))
    await OperatorPoliciesServiceStub(channels.get("pcf")).CreateOperatorPolicy(request)
    await host.stop()
    await host.stop()
    assert told == ["start", "stop"]
    with pytest.raises(Unavailable, match="closed"):
        await store.read(lambda reader: None)
    await channels.close()


async def test_what_calls_need_is_there_before_the_first_of_them(tmp_path: Path) -> None:
    store, prepared = open_store(tmp_path), asyncio.Event()
    host = Host("pcf", Telemetry())
    address = host.bind("127.0.0.1:0")

    async def prepare() -> None:
        early = Channels({"pcf": address}, deadline_s=0.2)
        with pytest.raises((DeadlineExceeded, Unavailable)):
            await create(early)
        await early.close()
        prepared.set()

    async def create(channels: Channels) -> None:
        request = CreateOperatorPolicyRequest(operator_policy=OperatorPolicy(operator_policy_id="a"))
        await OperatorPoliciesServiceStub(channels.get("pcf")).CreateOperatorPolicy(request)

    services = registrations(Policies(store), store)
    await host.start(lambda _: Function("pcf", services, prepare=prepare), {}, store)
    assert prepared.is_set()
    channels = Channels({"pcf": address})
    await create(channels)
    await channels.close()
    await host.stop()


@pytest.mark.parametrize("when", ["prepare", "start"])
async def test_a_function_that_cannot_start_leaves_nothing_behind(tmp_path: Path, when: str) -> None:
    async def fail() -> None:
        raise FailedPrecondition("the interface is missing")

    store = open_store(tmp_path)
    host = Host("upf", Telemetry())
    address = host.bind("127.0.0.1:0")
    with pytest.raises(FailedPrecondition, match="the interface is missing"):
        await host.start(lambda _: Function("upf", (), **{when: fail}), {}, store)
    again = Host("upf", Telemetry())
    assert again.bind(address) == address
    await again.start(lambda _: Function("upf", ()), {}, open_store(tmp_path))
    await again.stop()


async def test_a_host_that_never_came_to_serve_gives_its_port_back() -> None:
    def fail(_: Channels) -> Function:
        raise FailedPrecondition("the configuration is wrong")

    host = Host("af", Telemetry())
    address = host.bind("127.0.0.1:0")
    with pytest.raises(FailedPrecondition, match="the configuration is wrong"):
        await host.start(fail, {})
    idle = Host("af", Telemetry())
    assert idle.bind(address) == address
    await idle.stop()
    last = Host("af", Telemetry())
    assert last.bind(address) == address
    await last.stop()


def test_the_runner_gives_the_result_on_uvloop() -> None:
    async def main(stop: asyncio.Event) -> str:
        assert not stop.is_set()
        return type(asyncio.get_running_loop()).__module__

    assert run(main).startswith("uvloop")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_stop_event(number: signal.Signals) -> None:
    async def main(stop: asyncio.Event) -> str:
        os.kill(os.getpid(), number)
        await stop.wait()
        return "stopped"

    assert run(main) == "stopped"


def test_a_second_interrupt_does_not_wait_for_the_clean_stop() -> None:
    async def main(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await stop.wait()
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    with pytest.raises(KeyboardInterrupt):
        run(main)


def test_errors_are_imported_without_grpc_and_the_database() -> None:
    program = (
        "import sys, nf.common.errors, nf.common.clock, nf.common.machine;"
        "print(sorted({'grpc', 'sqlalchemy', 'starlette', 'hypercorn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_stack_serves_without_what_only_other_commands_or_other_configurations_need(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from nf.cli.configuration import Configuration, StateSection
from nf.cli.stack import Stack

async def serve():
    stack = Stack(Configuration(state=StateSection(directory=sys.argv[1])))
    await stack.start()
    await stack.stop()

asyncio.run(serve())
print(*sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert "nf.af.compose" in loaded
    unwanted = {
        # Of another database.
        "sqlalchemy.dialects.postgresql",
        "psycopg",
        # Of requests that functions send by HTTP: loaded with the first one.
        "httpx",
        "httpcore",
        # Of tables and colours in a terminal.
        "rich",
        "pygments",
        # Of certificates, tun devices, exports, plots, XML, FLUTE: loaded where there are some.
        "cryptography",
        "pyroute2",
        "pyarrow",
        "matplotlib",
        "lxml",
        "flute",
        "shapely",
        # Of periods that repeat: loaded with the first rule.
        "dateutil",
        # Of what nothing here needs, and others load where they find it.
        "attr",
        "numpy",
        "jsonschema",
    }
    assert loaded & unwanted == set()


@pytest.mark.parametrize("function", ["af", "upf"])
def test_a_process_loads_the_functions_that_it_runs(function: str) -> None:
    program = "import sys; from nf.cli.stack import load; load(sys.argv[1:]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, function], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {name for name in PEERS if {f"nf.{name}.compose", f"{name}.compose"} & loaded} == {function}
