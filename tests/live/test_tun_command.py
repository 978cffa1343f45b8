"""`castcore tun` as a user runs it: real devices, real packets, what it tells of them, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from command import CASTCORE, castcore
from live.live_tun import ACCESS, CORE, SERVER, UE, Tun, rules_file, tun_between
from live.networks import Network, networks, required
from named_traffic import client_hello

from nf.common.channels import Channels
from nf.common.telemetry import Telemetry
from nf.common.v1.types_pb2 import ENFORCEMENT_METHOD_POLICE
from upf.n4.v1 import n4_pb2 as n4
from upf.n4.v1.n4_pb2_grpc import N4ServiceStub

PORT = 5_000
PAYLOAD = 1_000
# On the wire: with UDP and IPv4 headers.
LENGTH = PAYLOAD + 28
DOWN = ("--flow", f"permit out 17 from {SERVER} to assigned", "--ue", UE)
WAIT_S = 30


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Network, Network]]:
    required()
    with networks("ue", "net") as (ue, net):
        yield ue, net


@pytest.fixture
def ue(both: tuple[Network, Network]) -> Network:
    return both[0]


@pytest.fixture
def net(both: tuple[Network, Network]) -> Network:
    return both[1]


@contextmanager
def udp(network: Network, address: str) -> Iterator[socket.socket]:
    """A socket with room for whatever a test sends."""
    with network.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        opened.bind((address, PORT))
        opened.settimeout(WAIT_S)
        yield opened


def send(source: socket.socket, to: str, numbers: Sequence[int]) -> None:
    """Numbered datagrams, as fast as they go."""
    for number in numbers:
        source.sendto(struct.pack(">I", number).ljust(PAYLOAD, b"x"), (to, PORT))


def numbers(sink: socket.socket, count: int) -> list[int]:
    """The numbers of the next so many datagrams."""
    return [struct.unpack(">I", sink.recv(65_535)[:4])[0] for _ in range(count)]


def line_that(tun: Tun, holds: Callable[[dict], bool]) -> dict:
    """The first line of which it is true."""
    ends_s = time.monotonic() + WAIT_S
    line = None
    while time.monotonic() < ends_s:
        line = tun.line()
        if holds(line):
            return line
    raise AssertionError(f"no line is as expected, the last one was {line}")


def rule_of(line: dict, direction: str) -> dict:
    (found,) = [rule for rule in line["rules"] if rule["direction"] == direction]
    return found


def adds_up(wire: dict) -> bool:
    """What came is what passed, and what became of the rest."""
    told = ("passed", "dropped", "malformed", "held_off", "queued")
    return wire["packets"] == sum(wire[f"{fate}_packets"] for fate in told) + sum(wire["errors"].values())


# --- what is told -----------------------------------------------------------------------------------------------------


def test_the_first_line_says_between_which_devices_packets_flow(ue: Network, net: Network) -> None:
    with tun_between(ue, net) as tun:
        assert tun.ready == {
            "ready": True,
            "access": {"interface": ACCESS, "netns": ue.name},
            "core": {"interface": CORE, "netns": net.name},
        }
        assert (ue.devices(), net.devices()) == ([ACCESS], [CORE])
        tun.final()


def test_every_packet_is_counted_once_in_its_direction(ue: Network, net: Network) -> None:
    with tun_between(ue, net, *DOWN) as tun, udp(ue, UE) as host, udp(net, SERVER) as server:
        send(host, SERVER, range(7))
        assert numbers(server, 7) == list(range(7))
        send(server, UE, range(11))
        assert numbers(host, 11) == list(range(11))
        final = tun.final()
    for direction, packets in (("uplink", 7), ("downlink", 11)):
        wire = final[direction]
        assert adds_up(wire)
        assert (wire["packets"], wire["bytes"]) == (packets, packets * LENGTH)
        assert (wire["passed_packets"], wire["passed_bytes"]) == (packets, packets * LENGTH)
        rule = rule_of(final, direction)
        assert (rule["name"], rule["packets"], rule["bytes"]) == ("rule", packets, packets * LENGTH)
        assert wire["flows"] == 1
        assert wire["offered_bps"] == pytest.approx(packets * LENGTH * 8 / final["elapsed_s"])


@pytest.mark.parametrize(("direction", "counted"), [("down", (0, 5)), ("up", (5, 0))])
def test_a_rule_may_be_for_one_direction(ue: Network, net: Network, direction: str, counted: tuple[int, int]) -> None:
    with tun_between(ue, net, *DOWN, "--direction", direction) as tun, udp(ue, UE) as host, udp(net, SERVER) as server:
        send(host, SERVER, range(5))
        send(server, UE, range(5))
        assert (numbers(server, 5), numbers(host, 5)) == (list(range(5)), list(range(5)))
        final = tun.final()
    found = {rule["direction"]: rule["packets"] for rule in final["rules"]}
    assert (found.get("uplink", 0), found.get("downlink", 0)) == counted
    assert [final[side]["unmatched_packets"] for side in ("uplink", "downlink")] == [5 - each for each in counted]


def test_a_line_a_second_has_the_rates_of_that_second_and_the_flows_seen_in_it(ue: Network, net: Network) -> None:
    with tun_between(ue, net, *DOWN) as tun, udp(ue, UE) as host, udp(net, SERVER) as server:
        send(server, UE, range(100))
        assert numbers(host, 100) == list(range(100))
        line = line_that(tun, lambda line: line["downlink"]["packets"] == 100)
        after = line_that(tun, lambda line: line["downlink"]["offered_bps"] == 0)
        final = tun.final()
    assert list(line) == ["time", "elapsed_s", "uplink", "downlink", "rules", "flows"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert line["time"] < after["time"] < final["time"]
    assert line["elapsed_s"] < after["elapsed_s"] < final["elapsed_s"]
    assert line["downlink"]["offered_bps"] > 0
    assert rule_of(line, "downlink")["offered_bps"] == line["downlink"]["offered_bps"]
    (flow,) = line["flows"]
    assert (flow["direction"], flow["source"], flow["source_port"]) == ("downlink", SERVER, PORT)
    assert (flow["destination"], flow["destination_port"], flow["protocol"]) == (UE, PORT, 17)
    assert (flow["rule"], flow["packets"], flow["passed_bytes"]) == ("rule", 100, 100 * LENGTH)
    assert after["flows"] == []
    assert after["downlink"]["passed_packets"] == 100
    assert final["flows"][0]["bytes"] == 100 * LENGTH


def test_it_ends_by_itself_when_its_time_is_over(ue: Network, net: Network) -> None:
    with tun_between(ue, net, "--duration", "1.5 s") as tun:
        lines = [tun.line()]
        while "final" not in lines[-1]:
            lines.append(tun.line())
        assert tun.process.wait(WAIT_S) == 0
    assert lines[-1]["elapsed_s"] >= 1.5
    assert len(lines) >= 2


# --- what becomes of packets ------------------------------------------------------------------------------------------

# A bucket of ten packets that does not fill while a test lasts.
SCANT = ("--rate", "8 bps", "--burst", f"{10 * LENGTH} B")


def test_police_drops_what_exceeds_and_each_direction_has_a_bucket_of_its_own(ue: Network, net: Network) -> None:
    with tun_between(ue, net, *DOWN, *SCANT) as tun, udp(ue, UE) as host, udp(net, SERVER) as server:
        send(server, UE, range(25))
        send(host, SERVER, range(15))
        assert numbers(host, 10) == numbers(server, 10) == list(range(10))
        line_that(tun, lambda line: line["downlink"]["packets"] == 25 and line["uplink"]["packets"] == 15)
        final = tun.final()
    for direction, packets in (("uplink", 15), ("downlink", 25)):
        rule = rule_of(final, direction)
        assert (rule["packets"], rule["passed_packets"], rule["dropped_packets"]) == (packets, 10, packets - 10)
        assert final[direction]["dropped_packets"] == packets - 10
        assert adds_up(final[direction])


def test_monitor_passes_everything_and_counts_the_excess(ue: Network, net: Network) -> None:
    mode = ("--mode", "monitor")
    with tun_between(ue, net, *DOWN, *SCANT, *mode) as tun, udp(ue, UE) as host, udp(net, SERVER) as server:
        send(server, UE, range(40))
        assert numbers(host, 40) == list(range(40))
        final = tun.final()
    rule = rule_of(final, "downlink")
    assert (rule["packets"], rule["passed_packets"], rule["dropped_packets"]) == (40, 40, 0)
    assert (rule["conforming_packets"], rule["exceeding_packets"]) == (10, 30)
    assert final["downlink"]["passed_packets"] == 40


def test_mark_writes_the_dscp_of_its_colour_into_every_packet(ue: Network, net: Network) -> None:
    mode = ("--mode", "mark", "--dscp", "green=AF11,red=CS1")
    with tun_between(ue, net, *DOWN, *SCANT, *mode) as tun, udp(ue, UE) as host, udp(net, SERVER) as server:
        host.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        send(server, UE, range(30))
        dscp = []
        for number in range(30):
            data, ancillary, _, _ = host.recvmsg(65_535, 64)
            assert struct.unpack(">I", data[:4]) == (number,)
            ((_, kind, tos),) = ancillary
            assert kind == socket.IP_TOS
            dscp.append(tos[0] >> 2)
        final = tun.final()
    assert dscp == [10] * 10 + [8] * 20
    assert rule_of(final, "downlink")["exceeding_packets"] == 20


def test_shape_delays_the_excess_to_the_rate_in_order_and_loses_nothing(ue: Network, net: Network) -> None:
    packets, rate_bps = 60, 1_000_000
    shape = ("--rate", "1 Mbps", "--burst", "1500 B", "--mode", "shape", "--queue", "1 MB")
    with tun_between(ue, net, *DOWN, *shape) as tun, udp(ue, UE) as host, udp(net, SERVER) as server:
        send(server, UE, range(packets))
        first = numbers(host, 1)
        began_s = time.monotonic()
        assert first + numbers(host, packets - 1) == list(range(packets))
        took_s = time.monotonic() - began_s
        final = tun.final()
    rule = rule_of(final, "downlink")
    assert (rule["passed_packets"], rule["dropped_packets"]) == (packets, 0)
    assert rule["delayed_packets"] >= packets - 2
    # All but the burst waits for its tokens; less by what the sender and this test were kept waiting themselves.
    due_s = (packets * LENGTH - 1_500) * 8 / rate_bps
    assert due_s / 2 < rule["delay_max_ns"] / 10**9 < due_s + 0.001
    assert took_s > due_s / 2
    assert final["downlink"]["queued_packets"] == 0


def test_what_shaping_holds_back_leaves_at_once_when_it_ends(ue: Network, net: Network) -> None:
    shape = ("--rate", "8 Kbps", "--burst", "1500 B", "--mode", "shape", "--queue", "1 MB")
    with tun_between(ue, net, *DOWN, *shape) as tun, udp(ue, UE) as host, udp(net, SERVER) as server:
        send(server, UE, range(20))
        line = line_that(tun, lambda line: line["downlink"]["packets"] == 20)
        assert line["downlink"]["queued_packets"] > 10
        final = tun.final()
        assert numbers(host, 1) == [0]
    assert (final["downlink"]["passed_packets"], final["downlink"]["queued_packets"]) == (20, 0)


def test_a_rules_file_says_for_each_rule_what_it_is_for(ue: Network, net: Network, tmp_path: Path) -> None:
    flows = f'flows = ["permit out 17 from {SERVER} to {UE}"]'
    rules = rules_file(
        tmp_path,
        f'name = "up"\n{flows}\ndirection = "up"\ngate = "closed"',
        f'name = "down"\n{flows}\nrate = "8 bps"\nburst = "{10 * LENGTH} B"\ndirection = "down"',
    )
    with tun_between(ue, net, "--rules", rules) as tun, udp(ue, UE) as host, udp(net, SERVER) as server:
        send(host, SERVER, range(5))
        send(server, UE, range(15))
        assert numbers(host, 10) == list(range(10))
        line_that(tun, lambda line: line["uplink"]["packets"] == 5 and line["downlink"]["packets"] == 15)
        final = tun.final()
    found = {(rule["name"], rule["direction"]): rule for rule in final["rules"]}
    assert found.keys() == {("up", "uplink"), ("down", "downlink")}
    assert found["up", "uplink"]["gated_packets"] == final["uplink"]["dropped_packets"] == 5
    assert found["down", "downlink"]["dropped_packets"] == final["downlink"]["dropped_packets"] == 5


def test_a_name_that_the_client_says_detects_what_the_server_sends(ue: Network, net: Network) -> None:
    with (
        tun_between(ue, net, "--domain", "*.example.com", "--direction", "down") as tun,
        net.socket(socket.AF_INET, socket.SOCK_STREAM) as server,
        ue.socket(socket.AF_INET, socket.SOCK_STREAM) as client,
    ):
        server.bind((SERVER, 443))
        server.listen()
        client.settimeout(WAIT_S)
        # It ends with a reset: nothing is left that could be sent again, to the devices of the next test.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.connect((SERVER, 443))
        opened, _ = server.accept()
        with opened:
            hello = client_hello("video.example.com")
            client.sendall(hello)
            assert received(opened, len(hello)) == hello
            opened.sendall(bytes(200_000))
            assert len(received(client, 200_000)) == 200_000
            client.close()
            with pytest.raises(ConnectionResetError):
                opened.recv(1)
        final = tun.final()
    (rule,) = final["rules"]
    assert rule["direction"] == "downlink"
    assert rule["passed_bytes"] > 200_000
    assert final["uplink"]["unmatched_packets"] == final["uplink"]["packets"]


def received(stream: socket.socket, count: int) -> bytes:
    """So many bytes, or what came before the other side closed."""
    with stream.makefile("rb") as file:
        return file.read(count)


# --- what else it serves ----------------------------------------------------------------------------------------------


async def test_under_an_smf_nothing_passes_before_its_sessions_stand_and_then_what_they_want(
    ue: Network, net: Network
) -> None:
    with tun_between(ue, net, "--n4") as tun, udp(ue, UE) as host, udp(net, SERVER) as server:
        assert tun.ready.keys() == {"ready", "access", "core", "grpc"}
        send(host, SERVER, range(3))
        held = line_that(tun, lambda line: line["uplink"]["packets"] == 3)
        assert (held["uplink"]["held_off_packets"], held["uplink"]["passed_packets"]) == (3, 0)
        channels = Channels({"upf": tun.ready["grpc"]}, function="test", telemetry=Telemetry())
        try:
            stub = N4ServiceStub(channels.get("upf"))
            await stub.SetUpAssociation(n4.SetUpAssociationRequest(node_id="smf"))
            await stub.EstablishSession(n4.EstablishSessionRequest(session=session()))
            await stub.CompleteResynchronisation(n4.CompleteResynchronisationRequest(node_id="smf"))
        finally:
            await channels.close()
        send(server, UE, range(15))
        assert numbers(host, 10) == list(range(10))
        send(host, SERVER, range(3, 7))
        line_that(tun, lambda line: line["downlink"]["packets"] == 15 and line["uplink"]["packets"] == 7)
        final = tun.final()
    down, up = final["downlink"], final["uplink"]
    assert (down["passed_packets"], down["dropped_packets"]) == (10, 5)
    # No PDR wants the uplink.
    assert (up["held_off_packets"], up["dropped_packets"], up["unmatched_packets"]) == (3, 4, 4)
    assert adds_up(down)
    assert adds_up(up)
    (rule,) = final["rules"]
    assert (rule["direction"], rule["passed_packets"], rule["dropped_packets"]) == ("downlink", 10, 5)


def session() -> n4.Session:
    """A bucket of ten packets for what the server sends the UE."""
    made = n4.Session(cp_seid=7)
    made.qers.add(
        qer_id=1, mbr_dl_bps=8, burst_dl_bytes=10 * LENGTH, enforcement_method=ENFORCEMENT_METHOD_POLICE
    )  # fmt: skip
    description = n4.SdfFilter(flow_description=f"permit out 17 from {SERVER} {PORT} to assigned")
    core = n4.Pdi(source_interface=n4.SOURCE_INTERFACE_CORE, ue_ip_address=UE, sdf_filters=[description])
    made.pdrs.add(pdr_id=1, precedence=10, qer_id=1, pdi=core)
    return made


def test_prometheus_finds_the_counters_of_directions_and_rules(ue: Network, net: Network) -> None:
    serve = ("--metrics", "127.0.0.1:0")
    with tun_between(ue, net, *DOWN, *SCANT, *serve) as tun, udp(ue, UE) as host, udp(net, SERVER) as server:
        url = tun.ready["metrics"]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", url)
        send(server, UE, range(25))
        assert numbers(host, 10) == list(range(10))
        line_that(tun, lambda line: line["downlink"]["packets"] == 25)
        with urlopen(url, timeout=WAIT_S) as answer:
            told = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#")
        tun.final()
    found = {name: float(told[f"castcore_live_{name}"]) for name in METRICS}
    assert found == METRICS


METRICS = {
    'offered_packets_total{direction="downlink"}': 25,
    'passed_bytes_total{direction="downlink"}': 10 * LENGTH,
    'dropped_packets_total{direction="downlink"}': 15,
    'passed_packets_total{direction="uplink"}': 0,
    'rule_packets_total{direction="downlink",fate="conforming",rule="rule"}': 10,
    'rule_bytes_total{direction="downlink",fate="dropped",rule="rule"}': 15 * LENGTH,
    'rule_packets_total{direction="uplink",fate="conforming",rule="rule"}': 0,
}


# --- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_it_with_a_last_line_and_no_device(ue: Network, net: Network, number: int) -> None:
    with tun_between(ue, net) as tun:
        tun.process.send_signal(number)
        assert line_that(tun, lambda line: "final" in line)["final"] is True
        assert tun.process.wait(WAIT_S) == 0
    assert ue.devices() == net.devices() == []


def test_nothing_is_left_when_it_is_killed(ue: Network, net: Network) -> None:
    with tun_between(ue, net) as tun:
        tun.process.kill()
        assert tun.process.wait(WAIT_S) == -signal.SIGKILL
    assert ue.devices() == net.devices() == []


def test_a_device_that_is_removed_ends_it_with_a_line_that_names_it(ue: Network, net: Network, tmp_path: Path) -> None:
    log = tmp_path / "stderr"
    with log.open("w") as stderr, running(ue, net, "--json", stderr=stderr.fileno()) as process:
        assert json.loads(process.stdout.readline())["ready"] is True
        ue.ip(f"link delete {ACCESS}")
        lines = [json.loads(line) for line in process.stdout]
        assert process.wait(WAIT_S) == 1
    assert lines[-1]["final"] is True
    (line,) = log.read_text().splitlines()
    assert line.startswith(f"castcore: device {ACCESS}@{ue.name}: ")
    assert net.devices() == []


@contextmanager
def running(ue: Network, net: Network, *options: object, **streams: int) -> Iterator[subprocess.Popen[str]]:
    """The command with devices that have no addresses, whatever it prints."""
    devices = ("--access", f"{ACCESS}@{ue.name}", "--core", f"{CORE}@{net.name}")
    words = [CASTCORE, "tun", *devices, *map(str, options)]
    with subprocess.Popen(words, text=True, **{"stdout": subprocess.PIPE, **streams}) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--access", "a@no-such-namespace", "--core", "b"), "no-such-namespace"),
        (("--access", "lo", "--core", "b"), "device lo: found an interface of this name"),
        (("--access", "a", "--core", "a"), "option '--core': found 'a', expected another device"),
        (("--access", "a", "--core", "b", "--address", "10.45.0.1/24"), "option '--address': found '10.45.0.1/24'"),
        (("--access", "a", "--core", "b", "--address", "access=10.45.0.1/99"), "address: found '10.45.0.1/99'"),
        (("--access", "a", "--core", "b", "--rate", "5 Mbps"), "option '--flow': missing"),
        (("--access", "a", "--core", "b", "--direction", "left", "--domain", "x.org"), "option '--direction': found"),
        (("--access", "a", "--core", "b", "--duration", "soon"), "option '--duration': found 'soon'"),
        (("--access", "a", "--core", "b", "--mtu", "1"), "mtu: found 1"),
        (("--access", "a", "--core", "b", "--n4", "--domain", "x.org"), "option '--n4': goes without"),
        (("--access", "a", "--core", "b", "--grpc", "127.0.0.1:0"), "option '--grpc': goes with --n4"),
        (("--access", "cc0", "--core", "cc1", "--metrics", "nowhere"), "option '--metrics': found 'nowhere'"),
        (
            ("--access", "cc0", "--core", "cc1", "--n4", "--grpc", "127.0.0.1:1x"),
            "option '--grpc': found '127.0.0.1:1x'",
        ),
    ],
)
def test_what_cannot_be_used_is_told_in_a_line_and_leaves_no_device(options: Sequence[str], told: str) -> None:
    required()
    before = socket.if_nameindex()
    done = castcore("tun", *options)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("castcore: ")
    assert told in line
    assert socket.if_nameindex() == before


# --- for eyes ---------------------------------------------------------------------------------------------------------


def test_a_pipe_gets_lines_that_can_be_read(ue: Network, net: Network) -> None:
    with running(ue, net, "--duration", "1.2 s", *DOWN, "--rate", "5 Mbps") as process:
        assert process.stdout is not None
        first, *lines = process.stdout.read().splitlines()
        assert process.wait(WAIT_S) == 0
    assert first == f"castcore tun: {ACCESS}@{ue.name} (access) <-> {CORE}@{net.name} (core); Ctrl-C ends it"
    assert lines[0].endswith(" s; rates are means over all of it")
    assert [line.split()[0] for line in lines[1:]] == ["offered", "uplink", "downlink", "rule", "rule", "rule"]


def test_a_terminal_gets_a_view_that_is_refreshed_and_a_summary(ue: Network, net: Network) -> None:
    terminal, inner = pty.openpty()
    with (
        os.fdopen(terminal, "rb", buffering=0) as screen,
        running(ue, net, *DOWN, "--rate", "5 Mbps", stdout=inner, stderr=inner, stdin=inner) as process,
    ):
        os.close(inner)
        seen = until(screen, lambda text: "2 s" in text)
        process.send_signal(signal.SIGINT)
        seen += until(screen, lambda text: "above the rate" in text and text.count("rule ") >= 3)
        assert process.wait(WAIT_S) == 0
    assert "Traceback" not in seen
    view, _, summary = seen.partition("rates are means")
    for heading in ("offered", "passed", "dropped", "other", "flows", "above, passed", "delayed"):
        assert heading in view
    assert "above the rate" in summary
    # The cursor that was hidden is shown again.
    assert seen.rfind("\x1b[?25h") > seen.rfind("\x1b[?25l")


def until(screen: object, holds: Callable[[str], bool]) -> str:
    """What comes on the screen until it is enough."""
    text = ""
    while not holds(text):
        ready, _, _ = select.select([screen], [], [], WAIT_S)
        assert ready, text
        try:
            data = screen.read(65_536)  # type: ignore[attr-defined]
        except OSError:
            data = b""
        assert data, text
        text += data.decode(errors="replace")
    return text


def test_it_starts_without_what_only_other_options_need() -> None:
    script = (
        "import sys, nf.cli.main, nf.cli.tun.session, nf.cli.tun.view, nf.common.run;"
        "print(sorted({'grpc', 'sqlalchemy', 'starlette', 'hypercorn', 'prometheus_client', 'pydantic', 'pyroute2',"
        " 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
