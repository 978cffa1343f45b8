"""A gNB without a radio: what is behind a tun device is its UEs, with the sessions of a rules file of the UPF.

    python examples/gnb.py --at 192.0.2.7 --upf 192.0.2.1 --ue ue0@ue --address 10.45.0.2/32 --route default \
        --sessions sessions.toml

The other end is `castcore tun --n3 192.0.2.1 … --rules sessions.toml`. It needs CAP_NET_ADMIN, and ends with Ctrl-C.
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from upf.engine import Engine
from upf.errors import UpfError
from upf.live.devices import Place, open_tun
from upf.live.gnb import GnbBump, as_gnb_sees_it
from upf.live.n3 import open_n3
from upf.live.n3_place import DEFAULT_MTU, N3Place
from upf.rules_file import load_rules


def main() -> None:
    """Forwards until SIGINT or SIGTERM."""
    options = _options()
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    upf = N3Place.parse(options.upf)
    tunnels = [as_gnb_sees_it(each, upf.address, upf.port) for each in load_rules(options.sessions).tunnels]
    ues = open_tun(Place.parse(options.ue), addresses=options.address, routes=options.route, mtu=options.mtu)
    with open_n3(N3Place.parse(options.at)) as n3, ues:
        bump = GnbBump(ues, n3, uplink=Engine(gtpu=False), downlink=Engine(gtpu=False))
        bump.add_tunnels(tunnels)
        bump.start()
        print(f"{len(tunnels)} sessions between {ues.place} and {n3.place}", flush=True)
        signal.sigwait((signal.SIGINT, signal.SIGTERM))
        bump.stop()
        for direction, counters in bump.counters().items():
            print(f"{direction}: {counters.packets} packets, {counters.passed_packets} passed, {dict(counters.errors)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A gNB without a radio.")
    parser.add_argument("--at", required=True, metavar="ADDR[:PORT][@NETNS]", help="where it receives")
    parser.add_argument("--upf", required=True, metavar="ADDR[:PORT]", help="where it sends")
    parser.add_argument("--ue", required=True, metavar="IFACE[@NETNS]", help="the tun device of its UEs")
    parser.add_argument("--address", action="append", default=[], metavar="CIDR", help="address of the device")
    parser.add_argument("--route", action="append", default=[], metavar="CIDR", help="network reached through it")
    parser.add_argument("--mtu", type=int, default=DEFAULT_MTU, metavar="BYTES", help="MTU of the device")
    parser.add_argument("--sessions", type=Path, required=True, metavar="FILE", help="rules file with [[session]]")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except UpfError as error:
        raise SystemExit(f"gnb: {error}") from None
