"""Sessions in a rules file: UEs and their tunnels on N3."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from upf.errors import UpfError
from upf.rules import RulesError
from upf.rules_file import parse_rules
from upf.session_keys import parse_endpoint
from upf.tunnels import OuterHeader, Tunnel


def tunnels(text: str) -> tuple[Tunnel, ...]:
    return parse_rules(text, source="r.toml").tunnels


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(RulesError) as refused:
        parse_rules(text, source="r.toml")
    return refused.value.problems


def test_a_file_may_hold_sessions_and_nothing_else() -> None:
    assert tunnels(
        """
        [[session]]
        ue = "10.45.0.2"
        teid = 7
        gnb = "192.0.2.7"
        gnb_teid = 0x1001
        qfi = 9

        [[session]]
        name = "second"
        ue = ["10.45.0.3", "2001:db8:3::/64"]
        teid = 8
        gnb = "[2001:db8::7]:21520"
        gnb_teid = 4098

        [[session]]
        ue = "2001:db8:4::5"
        teid = 9
        """
    ) == (
        Tunnel("1", (ip_network("10.45.0.2"),), 7, OuterHeader(ip_address("192.0.2.7"), 0x1001, 9)),
        Tunnel(
            "second",
            (ip_network("10.45.0.3"), ip_network("2001:db8:3::/64")),
            8,
            OuterHeader(ip_address("2001:db8::7"), 4098, None, 21_520),
        ),
        Tunnel("3", (ip_network("2001:db8:4::/64"),), 9),
    )


def test_a_file_with_neither_rules_nor_sessions_is_told_what_is_missing() -> None:
    assert problems("") == ("r.toml: key 'rule': missing, expected one [[rule]] or more",)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("teid = 7", "key 'ue': missing, expected the UE's IPv4 address, its IPv6 prefix of /64, or a list of both"),
        (
            "ue = '10.45.0.0/16'\nteid = 7",
            "key 'ue': found '10.45.0.0/16', expected the UE's IPv4 address, its IPv6 prefix of /64, or a list of both",
        ),
        (
            "ue = ['10.45.0.2', '10.45.0.3']\nteid = 7",
            "key 'ue': found ['10.45.0.2', '10.45.0.3'], expected the UE's IPv4 address, its IPv6 prefix of /64, or a "
            "list of both",
        ),
        ("ue = '10.45.0.2'", "key 'teid': missing, expected an integer from 1 to 4294967295"),
        ("ue = '10.45.0.2'\nteid = 0", "key 'teid': found 0, expected an integer from 1 to 4294967295"),
        (
            "ue = '10.45.0.2'\nteid = 7\ngnb = '192.0.2.7'",
            "key 'gnb_teid': missing, expected an integer from 1 to 4294967295",
        ),
        ("ue = '10.45.0.2'\nteid = 7\nqfi = 9", "key 'qfi': found 9, expected key 'gnb' beside it"),
        (
            "ue = '10.45.0.2'\nteid = 7\ngnb = 'gnb'\ngnb_teid = 1",
            "key 'gnb': found 'gnb', expected an address, or ADDRESS:PORT (an IPv6 address in brackets then)",
        ),
        (
            "ue = '10.45.0.2'\nteid = 7\ngnb = '192.0.2.7'\ngnb_teid = 1\nqfi = 64",
            "key 'qfi': found 64, expected an integer from 1 to 63",
        ),
        (
            "ue = '10.45.0.2'\nteid = 7\nrate = '5 Mbps'",
            "key 'rate': unknown, expected one of name, ue, teid, gnb, gnb_teid, qfi",
        ),
    ],
)
def test_what_is_wrong_with_a_session_is_named(keys: str, problem: str) -> None:
    assert problems(f"[[session]]\n{keys}") == (f"r.toml: session 1: {problem}",)


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ("ue = '10.45.0.3'\nteid = 7", "r.toml: session 2: teid 7 is that of session 1"),
        ("ue = '10.45.0.2'\nteid = 8", "r.toml: session 2: ue 10.45.0.2/32 is that of session 1"),
        (
            "name = '1'\nue = '10.45.0.3'\nteid = 8",
            "r.toml: session 1: key 'name': found a second time, expected one of its own",
        ),
    ],
)
def test_no_two_sessions_share_anything(second: str, problem: str) -> None:
    assert problems(f"[[session]]\nue = '10.45.0.2'\nteid = 7\n[[session]]\n{second}") == (problem,)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("192.0.2.7", ("192.0.2.7", 2152)),
        ("192.0.2.7:1", ("192.0.2.7", 1)),
        ("2001:db8::7", ("2001:db8::7", 2152)),
        ("::", ("::", 2152)),
        ("[2001:db8::7]", ("2001:db8::7", 2152)),
        ("[2001:db8::7]:65535", ("2001:db8::7", 65_535)),
    ],
)
def test_an_endpoint_is_an_address_with_or_without_a_port(text: str, endpoint: tuple[str, int]) -> None:
    assert parse_endpoint(text) == (ip_address(endpoint[0]), endpoint[1])


@pytest.mark.parametrize("text", ["", "gnb", "192.0.2.7:", "192.0.2.7:0", "192.0.2.7:65536", "[::1", "[::1]2152", ":1"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(UpfError, match="expected"):
        parse_endpoint(text)
