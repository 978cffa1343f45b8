"""What castcore tun makes of its options before it touches anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from nf.cli.rule_options import rule_set_of
from nf.cli.tun.options import devices_of, duration_s_of, grpc_address_of, listening_address_of
from upf.errors import UpfError
from upf.live.devices import Place
from upf.rules import FlowDirection, RuleSet


def test_addresses_and_routes_go_to_the_device_of_their_side() -> None:
    access, core = devices_of(
        "ue0@ue",
        "net0",
        ["access=10.45.0.2/24", "core=10.45.0.1/24", "access=fd00::2/64"],
        ["access=default", "core=10.46.0.0/16"],
    )
    assert (access.place, core.place) == (Place("ue0", "ue"), Place("net0"))
    assert (access.addresses, access.routes) == (("10.45.0.2/24", "fd00::2/64"), ("default",))
    assert (core.addresses, core.routes) == (("10.45.0.1/24",), ("10.46.0.0/16",))


@pytest.mark.parametrize("text", ["10.45.0.2/24", "ue=10.45.0.2/24", "access=", "access 10.45.0.2", "=1"])
@pytest.mark.parametrize("option", ["--address", "--route"])
def test_an_address_or_route_of_no_side_is_refused(option: str, text: str) -> None:
    given = ([text], []) if option == "--address" else ([], [text])
    with pytest.raises(UpfError, match=f"^option '{option}': found '{text}', expected 'access=…' or 'core=…'"):
        devices_of("a", "b", *given)


def test_one_device_cannot_be_both_sides() -> None:
    with pytest.raises(UpfError, match=r"^option '--core': found 'ue0@x', expected another device"):
        devices_of("ue0@x", "ue0@x", [], [])
    assert devices_of("ue0@x", "ue0@y", [], [])[1].place == Place("ue0", "y")


def test_a_duration_is_a_time() -> None:
    assert duration_s_of(None) is None
    assert duration_s_of("1.5 s") == 1.5
    with pytest.raises(UpfError, match=r"^option '--duration': found '5', expected"):
        duration_s_of("5")


def made(**given: object) -> RuleSet:
    """The rules of these options."""
    options = dict.fromkeys(("flow", "domain", "rate", "burst", "mode", "rules", "ue", "dscp", "queue"))
    return rule_set_of(**{**options, "per_flow": False, **given})  # type: ignore[arg-type]


def test_a_direction_alone_needs_a_flow_and_does_not_go_with_a_rules_file() -> None:
    with pytest.raises(UpfError, match="option '--flow': missing"):
        made(direction="up")
    with pytest.raises(UpfError, match=r"option '--rules': goes without --direction: the file says it"):
        made(direction="up", rules="rules.toml")
    (rule,) = made(direction="up", flow=["permit out ip from any to any"]).rules
    assert rule.direction is FlowDirection.UP


def test_a_bucket_of_live_traffic_is_deeper_unless_the_rule_says_how_deep_it_is(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(
        "".join(
            f'[[rule]]\nname = "{name}"\nflows = ["permit out ip from any to any"]\nrate = "8 Mbps"\n{burst}\n'
            for name, burst in (("default", ""), ("own", 'burst = "1 KB"'))
        )
    )
    for live, default_bytes in ((True, 250_000), (False, 100_000)):
        (only,) = made(flow=["permit out ip from any to any"], rate="8 Mbps", live=live).rules
        default, own = made(rules=file, live=live).rules
        assert only.policer == default.policer
        assert (default.policer.burst_bytes, own.policer.burst_bytes) == (default_bytes, 1_000)


def test_rules_come_from_an_smf_or_from_options_never_from_both() -> None:
    assert grpc_address_of(n4=False, grpc=None, given=True) is None
    assert grpc_address_of(n4=True, grpc=None, given=False) == "127.0.0.1:0"
    assert grpc_address_of(n4=True, grpc="127.0.0.1:7004", given=False) == "127.0.0.1:7004"
    with pytest.raises(UpfError, match=r"^option '--n4': goes without the options for a rule"):
        grpc_address_of(n4=True, grpc=None, given=True)
    with pytest.raises(UpfError, match=r"^option '--grpc': goes with --n4"):
        grpc_address_of(n4=False, grpc="127.0.0.1:7004", given=False)


@pytest.mark.parametrize("text", ["", "7004", ":7004", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536"])
def test_where_a_server_listens_is_a_host_and_a_port(text: str) -> None:
    with pytest.raises(UpfError, match=f"^option '--grpc': found '{text}', expected HOST:PORT"):
        listening_address_of("--grpc", text)
    assert listening_address_of("--metrics", "[::1]:0") == "[::1]:0"
