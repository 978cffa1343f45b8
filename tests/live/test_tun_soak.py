"""An hour's soak in miniature: mixed traffic in 10,000 flows that open and close, and everything that came is counted.

LIVE_SOAK_SECONDS=60 makes it longer, with as many more flows.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from live.live_tun import ACCESS, CORE, FROM_UES, SERVER, SERVER6, Tun, rules_file, tun_between
from live.networks import Network

SECONDS = float(os.environ.get("LIVE_SOAK_SECONDS", "20"))
pytestmark = [pytest.mark.alone, pytest.mark.timeout(120 + 4 * SECONDS)]

TRAFFIC = Path(__file__).with_name("mixed_traffic.py")
FLOWS_PER_S = 500
# Of each family; so few that the table is full, and flows are forgotten, long before the end.
MAX_FLOWS = 1000
# What a process of Python may take now and then for objects of its own.
GROWTH_BYTES = 1 << 20
RULES = (
    """
    name = "udp"
    flows = ["permit out 17 from any to any"]
    rate = "1 Mbps"
    burst = "6000 B"
    per_flow = true
    """,
    """
    name = "tcp"
    flows = ["permit out 6 from any to any"]
    rate = "100 Mbps"
    """,
    """
    name = "icmp"
    flows = ["permit out 1 from any to any"]
    rate = "300 Kbps"
    mode = "monitor"
    """,
)


def test_ten_thousand_flows_leave_nothing_behind_and_everything_is_counted(
    hosts: tuple[Network, Network], tmp_path: Path
) -> None:
    access, core = hosts
    with tun_between(access, core, "--rules", rules_file(tmp_path, *RULES), "--max-flows", MAX_FLOWS) as tun:
        # Every address of the UEs' networks is here.
        for network in FROM_UES:
            access.ip(f"route add local {network} dev lo")
        access.set("ipv6/ip_nonlocal_bind", 1)
        # What leaves the UEs crosses packet by packet, and the kernel counts as a wire would; what comes, as it likes.
        access.ip(f"link set dev {ACCESS} gso_max_segs 1")
        with core.process(sys.executable, TRAFFIC, "server") as server:
            assert server.stdout is not None
            assert json.loads(server.stdout.readline()) == {"ready": True}
            with access.process(sys.executable, TRAFFIC, "client", SECONDS, FLOWS_PER_S, SERVER, SERVER6) as client:
                lines, memory = watched(tun, client)
                assert client.stdout is not None
                told = json.loads(client.stdout.read())
        kernel = {ACCESS: access.device_counters(ACCESS), CORE: core.device_counters(CORE)}
        final = tun.final()
    print(f"{told}; resident MB: {', '.join(f'{each / 1e6:.1f}' for each in memory)}")
    print({direction: final[direction] for direction in ("uplink", "downlink")}, kernel)

    kinds = {kind: told[kind] for kind in ("tcp4", "tcp6", "udp4", "udp6", "icmp4", "icmp6")}
    assert sum(kinds.values()) == SECONDS * FLOWS_PER_S
    assert min(kinds.values()) > 0.05 * SECONDS * FLOWS_PER_S
    assert told["tcp_unharmed"] == told["tcp4"] + told["tcp6"]

    for line in [*lines, final]:
        everything_adds_up(line)
    uplink, downlink = final["uplink"], final["downlink"]
    assert uplink["dropped_packets"] > 0
    assert 0 < told["udp_returned"] < told["udp_sent"]
    assert min(each["evicted_flows"] for each in (uplink, downlink)) > 0.5 * SECONDS * FLOWS_PER_S
    assert uplink["errors"] == downlink["errors"] == {}
    assert uplink["malformed_packets"] == downlink["malformed_packets"] == 0

    # What the kernel counted of the devices.
    assert kernel[ACCESS]["tx_dropped"] == kernel[CORE]["tx_dropped"] == 0
    assert (uplink["packets"], uplink["bytes"]) == (kernel[ACCESS]["tx_packets"], kernel[ACCESS]["tx_bytes"])
    passed = uplink["passed_packets"], uplink["passed_bytes"]
    assert passed == (kernel[CORE]["rx_packets"], kernel[CORE]["rx_bytes"])
    assert downlink["writes"] == kernel[ACCESS]["rx_packets"]
    assert downlink["packets"] > kernel[CORE]["tx_packets"], "super-packets came that way"

    assert memory[-1] - memory[0] <= GROWTH_BYTES, memory


def watched(tun: Tun, client: subprocess.Popen[str]) -> tuple[list[dict[str, Any]], list[int]]:
    """The lines of castcore until the client has ended, and its resident memory since its tables have been full."""
    lines, memory = [], []
    statm = Path(f"/proc/{tun.process.pid}/statm")
    while client.poll() is None:
        line = tun.line()
        lines.append(line)
        if min(line[direction]["evicted_flows"] for direction in ("uplink", "downlink")) > MAX_FLOWS:
            memory.append(int(statm.read_text().split()[1]) * resource.getpagesize())
    assert len(memory) > len(lines) / 2
    return lines, memory


def everything_adds_up(line: dict[str, Any]) -> None:
    """What came has passed or has not, for a reason; and it was a rule's, or nobody's."""
    for direction in ("uplink", "downlink"):
        counted = line[direction]
        for what in ("packets", "bytes"):
            fates = [counted[f"{fate}_{what}"] for fate in ("passed", "dropped", "malformed", "held_off", "queued")]
            errors = sum(counted["errors"].values()) if what == "packets" else counted["error_bytes"]
            assert counted[what] == sum(fates) + errors, line
    for rule in line["rules"]:
        assert rule["packets"] == rule["passed_packets"] + rule["dropped_packets"], rule
        assert rule["bytes"] == rule["passed_bytes"] + rule["dropped_bytes"], rule
    if line.get("final"):
        for direction in ("uplink", "downlink"):
            counted = line[direction]
            of_rules = sum(rule["packets"] for rule in line["rules"] if rule["direction"] == direction)
            assert of_rules + counted["unmatched_packets"] + counted["malformed_packets"] == counted["packets"]
            dropped = sum(rule["dropped_packets"] for rule in line["rules"] if rule["direction"] == direction)
            assert dropped == counted["dropped_packets"]
