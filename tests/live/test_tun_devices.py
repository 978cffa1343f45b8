"""Tun devices as the kernel has them: what they are given, what crosses them, and that nothing of them stays."""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest
from live.networks import Network, networks, required, started

from upf.errors import UpfError
from upf.live.devices import QUEUE_PACKETS, Place, open_tun

KERNEL = tuple(int(number) for number in re.findall("[0-9]+", os.uname().release)[:2])
UDP_SEGMENT = 103
SEGMENT_BYTES = 1200
SEGMENTS = 40
# linux/virtio_net.h
NEEDS_CSUM = 1
GSO_UDP_L4 = 5

# Opens the device that it is told, says so, and waits: for tests that end it.
HOLD = """
import sys, time
from upf.live.devices import Place, open_tun
with open_tun(Place.parse(sys.argv[1]), addresses=["10.45.0.1/24"], routes=["198.51.100.0/24"]):
    print("open", flush=True)
    time.sleep(600)
"""
# Opens it, and is content with nothing.
TRY = """
import sys
from upf.errors import UpfError
from upf.live.devices import Place, open_tun
try:
    open_tun(Place.parse(sys.argv[1]))
except UpfError as error:
    print(error)
"""


@pytest.fixture
def network() -> Iterator[Network]:
    required()
    with networks("host") as (made,):
        yield made


def place(network: Network, interface: str = "ue0") -> Place:
    return Place(interface, network.name)


def tried(*command: str, where: Place) -> str:
    """What opening a device ends with in a process that a command wraps."""
    return subprocess.run(
        [*command, sys.executable, "-c", TRY, str(where)], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def mounted(change: str) -> list[str]:
    """Wraps a command that sees file systems changed, and alone sees them so."""
    return ["unshare", "--mount", "sh", "-c", f'{change} && exec "$@"', "sh"]


def readable(fd: int) -> bytes:
    """The next packet of a device, with its header."""
    assert select.select([fd], [], [], 20)[0]
    return os.read(fd, 1 << 17)


def link(network: Network, interface: str) -> dict:
    return json.loads(network.run("ip", "-details", "-json", "link", "show", interface))[0]


def addresses(network: Network, interface: str) -> list[str]:
    told = json.loads(network.run("ip", "-json", "address", "show", interface))[0]
    return [f"{each['local']}/{each['prefixlen']}" for each in told["addr_info"]]


def routes(network: Network, *family: str) -> list[str]:
    return [each["dst"] for each in json.loads(network.run("ip", *family, "-json", "route"))]


def test_a_device_is_up_in_its_namespace_with_what_it_was_given(network: Network) -> None:
    own = os.readlink("/proc/self/ns/net")
    with open_tun(
        place(network),
        addresses=["10.45.0.2/24", "fd00:45::2/64"],
        routes=["198.51.100.0/24", "default"],
        mtu=1400,
        queue_packets=123,
    ):
        assert addresses(network, "ue0") == ["10.45.0.2/24", "fd00:45::2/64"]
        assert routes(network) == ["default", "10.45.0.0/24", "198.51.100.0/24"]
        assert routes(network, "-6") == ["fd00:45::/64", "default"]
        told = link(network, "ue0")
        assert (told["mtu"], told["txqlen"], told["operstate"]) == (1400, 123, "UNKNOWN")
        assert {"UP", "LOWER_UP"} <= set(told["flags"])
        assert (
            told["linkinfo"]["info_data"] | {"type": "tun", "pi": False, "vnet_hdr": True, "persist": False}
            == told["linkinfo"]["info_data"]
        )
        # Ours is where it was, and has no such device.
        assert os.readlink("/proc/thread-self/ns/net") == own
        assert "ue0" not in [name for _, name in socket.if_nameindex()]


def test_the_namespace_of_the_process_needs_no_name(network: Network) -> None:
    with network.process(sys.executable, "-c", HOLD, "n6") as holding:
        assert holding.stdout is not None
        assert holding.stdout.readline() == "open\n"
        assert link(network, "n6")["txqlen"] == QUEUE_PACKETS


def test_a_namespace_may_be_named_by_its_path(network: Network) -> None:
    with network.process("sleep", "600") as sleeping:
        path = f"/proc/{sleeping.pid}/ns/net"
        # The process is in the namespace once `ip netns exec` has become the command.
        while os.readlink(path) == os.readlink("/proc/self/ns/net"):
            os.sched_yield()
        with open_tun(Place("n6", path)):
            assert network.devices() == ["n6"]


def test_a_device_closed_is_gone_with_its_routes(network: Network) -> None:
    device = open_tun(place(network), addresses=["10.45.0.2/24"], routes=["198.51.100.0/24"])
    device.close()
    device.close()
    assert network.devices() == []
    assert routes(network) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_device_outlives_its_process(network: Network, number: signal.Signals) -> None:
    with started(sys.executable, "-c", HOLD, place(network), stderr=subprocess.DEVNULL) as holding:
        assert holding.stdout is not None
        assert holding.stdout.readline() == "open\n"
        assert network.devices() == ["ue0"]
        holding.send_signal(number)
        holding.wait(timeout=30)
        assert network.devices() == []


def test_a_process_that_it_starts_does_not_inherit_the_device(network: Network) -> None:
    device = open_tun(place(network))
    with started("sleep", "600"):
        device.close()
        assert network.devices() == []


@pytest.mark.skipif(KERNEL < (6, 2), reason="Linux has UDP offload on tun devices since 6.2")
def test_a_super_packet_crosses_in_one_read(network: Network) -> None:
    with (
        open_tun(place(network), addresses=["10.45.0.2/24"]) as device,
        network.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT_BYTES)
        sender.sendto(bytes(SEGMENTS * SEGMENT_BYTES), ("10.45.0.1", 5000))
        packet = readable(device.fd)
        assert len(packet) == 10 + 20 + 8 + SEGMENTS * SEGMENT_BYTES
        flags, gso_type = packet[0], packet[1]
        header_bytes, segment_bytes = (int.from_bytes(packet[at : at + 2], sys.byteorder) for at in (2, 4))
        assert (flags, gso_type, header_bytes, segment_bytes) == (NEEDS_CSUM, GSO_UDP_L4, 28, SEGMENT_BYTES)


def test_an_empty_device_is_read_without_waiting(network: Network) -> None:
    with open_tun(place(network)) as device, pytest.raises(BlockingIOError):
        os.read(device.fd, 2048)


@pytest.mark.parametrize("given", [[], ["10.45.0.2/24"], ["fd00:45::2/64"]])
def test_a_device_says_nothing_by_itself(network: Network, given: list[str]) -> None:
    with open_tun(place(network), addresses=given) as device:
        # Without an address of the link's scope the kernel has nothing to solicit routers from.
        assert link(network, "ue0")["inet6_addr_gen_mode"] == "none"
        assert addresses(network, "ue0") == given
        with pytest.raises(BlockingIOError):
            os.read(device.fd, 2048)


def test_ipv6_works_at_once_where_an_address_is_given(network: Network) -> None:
    with (
        open_tun(place(network), addresses=["fd00:45::2/64"]) as device,
        network.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender,
    ):
        sender.bind(("fd00:45::2", 0))
        sender.sendto(b"hello", ("fd00:45::1", 5000))
        packet = readable(device.fd)[10:]
        assert (packet[0] >> 4, packet[-5:]) == (6, b"hello")
        assert socket.inet_ntop(socket.AF_INET6, packet[8:24]) == "fd00:45::2"


def test_ipv6_can_be_given_afterwards(network: Network) -> None:
    with open_tun(place(network)):
        network.ip("-6 address add fd00:45::2/64 dev ue0")
        assert addresses(network, "ue0") == ["fd00:45::2/64"]


def test_a_name_that_is_taken_is_refused_and_left_alone(network: Network) -> None:
    network.ip("tuntap add dev ue0 mode tun")
    with pytest.raises(UpfError, match=r"found an interface of this name, .*'ip netns exec .* ip link del"):
        open_tun(place(network), addresses=["10.45.0.2/24"])
    assert network.devices() == ["ue0"]
    assert addresses(network, "ue0") == []


def test_our_own_device_is_not_shared_with_another(network: Network) -> None:
    with open_tun(place(network)), pytest.raises(UpfError, match="found an interface of this name"):
        open_tun(place(network))


@pytest.mark.parametrize(
    ("given", "to", "line"),
    [
        (["10.45.0.2/24", "10.45.0.2/24"], [], "address 10.45.0.2/24: the kernel refuses it: there is one already"),
        ([], ["10.0.0.0/8", "10.0.0.0/8"], "route 10.0.0.0/8: the kernel refuses it: there is one already"),
    ],
)
def test_what_fails_half_way_leaves_nothing_behind(
    network: Network, given: Sequence[str], to: Sequence[str], line: str
) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(UpfError) as refused:
        open_tun(place(network), addresses=given, routes=to)
    assert str(refused.value) == f"device {place(network)}: {line}"
    assert network.devices() == []
    assert os.listdir("/proc/self/fd") == before


def test_an_ipv6_address_where_ipv6_is_disabled_is_refused(network: Network) -> None:
    network.run("sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1")
    with pytest.raises(UpfError, match="address fd00:45::2/64: the kernel refuses it: IPv6 is disabled there"):
        open_tun(place(network), addresses=["fd00:45::2/64"])
    assert network.devices() == []


def test_a_namespace_that_does_not_exist_is_told_with_those_that_do(network: Network) -> None:
    with pytest.raises(UpfError, match=rf"^network namespace 'nowhere': found .*{network.name}.*ip netns add"):
        open_tun(Place("ue0", "nowhere"))


def test_a_file_that_is_no_namespace_is_refused() -> None:
    required()
    with pytest.raises(UpfError, match=r"^network namespace '/etc/passwd': found something else"):
        open_tun(Place("ue0", "/etc/passwd"))


def test_without_the_capability_one_line_tells_how_to_grant_it(network: Network) -> None:
    required("setpriv")
    line = tried("ip", "netns", "exec", network.name, "setpriv", "--bounding-set", "-net_admin", where=Place("ue0"))
    assert line == (
        "device ue0: this process has no CAP_NET_ADMIN, expected it of whoever makes a network device: run it as root "
        f"(sudo) or grant it with 'sudo setcap cap_net_admin+ep {os.path.realpath(sys.executable)}'; 'castcore lab' "
        "needs no root"
    )
    line = tried("setpriv", "--bounding-set", "-sys_admin", where=place(network))
    assert line.startswith(f"network namespace {network.name!r}: this process has no CAP_SYS_ADMIN")
    assert network.devices() == []


def test_the_capability_is_all_that_a_device_in_ones_own_namespace_takes(network: Network) -> None:
    required("setpriv")
    with network.process("setpriv", "--bounding-set", "-all,+net_admin", sys.executable, "-c", HOLD, "n6") as holding:
        assert holding.stdout is not None
        assert holding.stdout.readline() == "open\n"
        assert addresses(network, "n6") == ["10.45.0.1/24"]


def test_without_the_tun_driver_one_line_tells_how_to_have_it() -> None:
    required("unshare")
    found = tried(*mounted("mount -t tmpfs none /dev/net"), where=Place("ue0"))
    assert found.startswith("device ue0: /dev/net/tun: found 'no such file or directory', expected Linux's tun driver:")


def test_without_leave_to_use_the_tun_driver_one_line_tells_how_to_get_it() -> None:
    required("unshare")
    found = tried(*mounted("mount --bind /dev /dev && mount -o remount,bind,nodev /dev"), where=Place("ue0"))
    assert found.startswith("device ue0: /dev/net/tun: found 'permission denied', expected to be let read and")


async def test_a_device_can_be_opened_while_an_event_loop_runs(network: Network) -> None:
    with open_tun(place(network), addresses=["10.45.0.2/24"]):
        await asyncio.sleep(0)
        assert addresses(network, "ue0") == ["10.45.0.2/24"]


def test_what_configures_devices_is_imported_when_one_is_opened() -> None:
    code = "import sys, upf.live.devices, nf.cli.main; print('pyroute2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
