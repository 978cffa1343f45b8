"""CAMARA Quality-On-Demand: its packets as flow descriptions, sessions and profiles as consumers read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from nf.common.codec import from_json, to_json
from nf.common.errors import InvalidArgument
from nf.common.v1.events_pb2 import Event
from nf.netapi.camara_sinks import credential_of
from nf.netapi.errors import PrivateKeyJwtNotConfigured
from nf.netapi.qod_flows import check, flow_descriptions, overlap
from nf.netapi.qod_views import STATUS_EVENT, booking_request, cloud_event, info_of
from nf.netapi.qos_profiles import longest_s, loss_exponent, printable, rate_of, view_of
from nf.netapi.traffic import check as check_traffic
from nf.netapi.v1.agreement_pb2 import Agreement, AgreementLimits
from nf.netapi.v1.camara_dedicated_network_pb2 import NetworkSinkCredential
from nf.netapi.v1.camara_qod_pb2 import (
    QOS_STATUS_AVAILABLE,
    QOS_STATUS_INFO_NETWORK_TERMINATED,
    QOS_STATUS_REQUESTED,
    QOS_STATUS_UNAVAILABLE,
    CreateQodSession,
    QodSession,
    QodSessionInfo,
    QodSessionStatusChanged,
)
from nf.netapi.v1.camara_qos_profiles_pb2 import CAMARA_RATE_UNIT_BPS
from nf.netapi.v1.camara_types_pb2 import CamaraSinkCredential
from nf.netapi.v1.coverage_pb2 import CAPABILITY_QUALITY_ON_DEMAND, CapabilityProfile, QosProfile
from nf.netapi.v1.monitoring_pb2 import EventSink

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = "3fa85f6457174562b3fc2c963f66afa6"
SUBNET = {"ipv4Address": "198.51.100.7/24"}


def asked(**more: object) -> CreateQodSession:
    return from_json(
        CreateQodSession, {"applicationServer": SUBNET, "qosProfile": "QOS_L", "duration": 3600, **more}, strict=True
    )


PORTS = {"ranges": [{"from": 8000, "to": 8099}, {"from": 8050, "to": 8100}], "ports": [443, 8101]}


@pytest.mark.parametrize(
    ("more", "flows"),
    [
        ({}, ["permit out ip from 198.51.100.0/24 to assigned"]),
        (
            {"applicationServerPorts": PORTS, "devicePorts": {"ports": [5060]}},
            ["permit out ip from 198.51.100.0/24 443,8000-8101 to assigned 5060"],
        ),
        (
            {"applicationServer": {"ipAddresses": ["198.51.100.0", "2001:db8::1"]}},
            ["permit out ip from 198.51.100.0 to assigned", "permit out ip from 2001:db8::1 to assigned"],
        ),
        (
            {"applicationServer": {"ipv4Address": "198.51.100.1/32", "ipv6Address": "2001:db8:85a3::/48"}},
            ["permit out ip from 198.51.100.1 to assigned", "permit out ip from 2001:db8:85a3::/48 to assigned"],
        ),
    ],
)
def test_server_and_ports_are_flows_of_the_downlink(more: dict[str, object], flows: list[str]) -> None:
    session = asked(**more)
    check(session)
    assert flow_descriptions(session) == flows
    assert not list(check_traffic(booking_request("area", "QOS_L", flows, NOW, 60).traffic))


def test_flows_are_of_the_ip_versions_that_the_device_has() -> None:
    both = asked(applicationServer={"ipAddresses": ["198.51.100.0", "2001:db8::1"]})
    assert flow_descriptions(both, (6,)) == ["permit out ip from 2001:db8::1 to assigned"]
    assert flow_descriptions(asked(), (6,)) == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"applicationServer": {}}, "applicationServer: expected ipAddresses, ipv4Address or ipv6Address, found none"),
        ({"applicationServer": {**SUBNET, "ipAddresses": ["192.0.2.1"]}}, "applicationServer: expected ipAddresses or"),
        ({"applicationServer": {"ipv4Address": "2001:db8::1"}}, "applicationServer.ipv4Address: expected an IPv4"),
        ({"applicationServer": {"ipv6Address": "fe80::1%1"}}, "applicationServer.ipv6Address: expected an IPv6"),
        (
            {"applicationServer": {"ipAddresses": ["192.0.2.0/24"]}},
            "applicationServer.ipAddresses[0]: expected an IP address, found '192.0.2.0/24'",
        ),
        (
            {"applicationServer": {"ipAddresses": ["192.0.2.1", "192.0.2.1"]}},
            "applicationServer.ipAddresses[1]: expected each address once, found 192.0.2.1 again",
        ),
        ({"devicePorts": {}}, "devicePorts: expected ranges or ports, found neither"),
        (
            {"applicationServerPorts": {"ranges": [{"from": 9, "to": 8}]}},
            "applicationServerPorts.ranges[0]: expected from at most to, found 9 and 8",
        ),
        (
            {"devicePorts": {"ports": list(range(1, 200, 2))}},
            "devicePorts: expected at most 64 ranges of ports, found 100",
        ),
    ],
)
def test_what_is_no_server_or_no_ports_is_refused_by_its_path(more: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check(asked(**more))
    assert refused.value.message.startswith(told)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ({}, {}, True),
        ({}, {"applicationServer": {"ipAddresses": ["198.51.100.9"]}}, True),
        ({}, {"applicationServer": {"ipAddresses": ["198.51.101.9", "2001:db8::1"]}}, False),
        ({}, {"applicationServerPorts": {"ports": [443]}}, True),
        ({"applicationServerPorts": {"ports": [80]}}, {"applicationServerPorts": {"ports": [443]}}, False),
        ({"devicePorts": PORTS}, {"devicePorts": {"ranges": [{"from": 8101, "to": 9000}]}}, True),
        ({"devicePorts": PORTS}, {"devicePorts": {"ranges": [{"from": 8102, "to": 9000}]}}, False),
    ],
)
def test_sessions_are_in_conflict_where_a_packet_could_be_of_both(
    one: dict[str, object], other: dict[str, object], shared: bool
) -> None:
    assert overlap(asked(**one), asked(**other)) is shared
    assert overlap(asked(**other), asked(**one)) is shared


def session(status: int, **more: object) -> QodSession:
    made = QodSession(booking_id=ID, agreement_id="radio", asked=asked(), duration_s=3600, status=status, **more)
    made.expire_time.FromDatetime(NOW + timedelta(hours=1))
    return made


def test_a_session_is_shown_with_what_was_asked_for_and_what_is_granted() -> None:
    wanted = {
        "device": {"phoneNumber": "+123456789"},
        "applicationServer": SUBNET,
        "devicePorts": {"ports": [5060]},
        "applicationServerPorts": {"ranges": [{"from": 5010, "to": 5020}]},
        "qosProfile": "QOS_L",
        "sink": "https://application-server.com/notifications",
        "duration": 3600,
    }
    kept = QodSession(booking_id=ID, asked=from_json(CreateQodSession, wanted), duration_s=3600)
    kept.status = QOS_STATUS_REQUESTED
    shown = {**wanted, "sessionId": "3fa85f64-5717-4562-b3fc-2c963f66afa6", "qosStatus": "REQUESTED"}
    info = info_of(kept)
    assert to_json(info) == shown
    assert from_json(QodSessionInfo, shown, strict=True) == info


def test_times_are_shown_once_a_session_is_available_and_what_was_had_once_it_is_not() -> None:
    available = session(QOS_STATUS_AVAILABLE)
    available.start_time.FromDatetime(NOW)
    shown = to_json(info_of(available))
    assert (shown["startedAt"], shown["expiresAt"]) == ("2026-03-01T12:00:00Z", "2026-03-01T13:00:00Z")
    assert (shown["duration"], "statusInfo" in shown) == (3600, False)
    over = session(QOS_STATUS_UNAVAILABLE, status_info=QOS_STATUS_INFO_NETWORK_TERMINATED)
    over.start_time.FromDatetime(NOW)
    over.expire_time.FromDatetime(NOW + timedelta(seconds=2428))
    shown = to_json(info_of(over))
    assert (shown["duration"], shown["qosStatus"], shown["statusInfo"]) == (2428, "UNAVAILABLE", "NETWORK_TERMINATED")
    never = to_json(info_of(session(QOS_STATUS_UNAVAILABLE, status_info=QOS_STATUS_INFO_NETWORK_TERMINATED)))
    assert (never["duration"], "startedAt" in never) == (3600, False)


def test_a_change_of_status_is_a_cloud_event_and_other_events_are_not() -> None:
    event = Event(type=STATUS_EVENT)
    event.payload.Pack(
        QodSessionStatusChanged(session=session(QOS_STATUS_UNAVAILABLE, status_info=QOS_STATUS_INFO_NETWORK_TERMINATED))
    )
    assert cloud_event(event, EventSink()) == (
        "org.camaraproject.quality-on-demand.v1.qos-status-changed",
        {
            "sessionId": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
            "qosStatus": "UNAVAILABLE",
            "statusInfo": "NETWORK_TERMINATED",
        },
    )
    assert cloud_event(Event(type="EVENT_SINK_ENDED"), EventSink()) is None


PROFILE = CapabilityProfile(
    profile_id="QOS_L",
    description="Radio\x07, uninterrupted",
    capability=CAPABILITY_QUALITY_ON_DEMAND,
    qos=QosProfile(
        five_qi=3,
        guaranteed_downlink_bps=512_000,
        guaranteed_uplink_bps=64_000,
        max_downlink_bps=2_000_000,
        packet_delay_budget_ms=50,
        jitter_ms=5,
        packet_error_loss_ppm=1000,
    ),
)


def test_a_capability_profile_is_a_qos_profile() -> None:
    assert to_json(view_of(PROFILE, Agreement(), 3600)) == {
        "name": "QOS_L",
        "description": "Radio , uninterrupted",
        "status": "ACTIVE",
        "targetMinUpstreamRate": {"value": 64_000 // 1000, "unit": "kbps"},
        "maxUpstreamRate": {"value": 64, "unit": "kbps"},
        "targetMinDownstreamRate": {"value": 512, "unit": "kbps"},
        "maxDownstreamRate": {"value": 2, "unit": "Mbps"},
        "minDuration": {"value": 1, "unit": "Seconds"},
        "maxDuration": {"value": 3600, "unit": "Seconds"},
        "packetDelayBudget": {"value": 50, "unit": "Milliseconds"},
        "jitter": {"value": 5, "unit": "Milliseconds"},
        "packetErrorLossRate": 3,
    }
    assert to_json(view_of(PROFILE, Agreement(suspended=True), 3600))["status"] == "INACTIVE"
    short = Agreement(limits=AgreementLimits(advance_days=1))
    assert (longest_s(short, 100_000), longest_s(short, 3600), longest_s(Agreement(), 100_000)) == (
        86_400,
        3600,
        100_000,
    )


@pytest.mark.parametrize(
    ("rate_bps", "told_bps"),
    [
        (0, 0),
        (1, 1),
        (1024, 1024),
        (1025, 1000),
        (5_000_000, 5_000_000),
        (1_024_000_000, 1_024_000_000),
        (1_500_000, 1_000_000),
        (10**15, 1000 * 10**12),
        (2 * 10**15, 1024 * 10**12),
    ],
)
def test_a_rate_is_told_in_the_unit_that_leaves_few_of_them_and_never_more_than_it_is(
    rate_bps: int, told_bps: int
) -> None:
    told = rate_of(rate_bps)
    assert (told.value * 1000 ** (told.unit - CAMARA_RATE_UNIT_BPS), told.value <= 1024) == (told_bps, True)
    assert rate_of(told_bps) == told


@pytest.mark.parametrize(
    ("loss_ppm", "exponent"), [(900_000, 1), (100_000, 1), (10_000, 2), (1000, 3), (999, 3), (10, 5), (1, 6)]
)
def test_loss_is_told_as_a_power_of_ten(loss_ppm: int, exponent: int) -> None:
    assert loss_exponent(loss_ppm) == exponent


def test_descriptions_are_without_control_characters_and_not_too_long() -> None:
    assert printable("a\x00b\tc\nd\x85e") == "a b\tc\nd e"
    assert len(printable("x" * 2000)) == 1024


TOKEN = {
    "credentialType": "ACCESSTOKEN",
    "accessToken": "abc",
    "accessTokenExpiresUtc": "2026-03-01T13:00:00Z",
    "accessTokenType": "bearer",
}


@pytest.mark.parametrize("kind", [CamaraSinkCredential, NetworkSinkCredential])
def test_an_access_token_lets_events_in_at_their_sink(kind: type[CamaraSinkCredential]) -> None:
    found = credential_of(from_json(kind, TOKEN, strict=True), NOW)
    assert found is not None
    assert (found.access_token, found.expires) == ("abc", NOW + timedelta(hours=1))
    assert credential_of(None, NOW) is None


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"credentialType": "PLAIN"}, "INVALID_CREDENTIAL"),
        ({"accessToken": ""}, "INVALID_CREDENTIAL"),
        ({"accessToken": "a b"}, "INVALID_TOKEN"),
        ({"accessTokenType": "mac"}, "INVALID_TOKEN"),
        ({"accessTokenExpiresUtc": "2026-03-01T12:00:00Z"}, "INVALID_TOKEN"),
    ],
)
def test_a_credential_that_lets_nothing_in_is_refused(more: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        credential_of(from_json(CamaraSinkCredential, {**TOKEN, **more}), NOW)
    assert refused.value.reason == reason


def test_private_keys_are_known_where_the_api_has_them_and_none_is_configured() -> None:
    tree = {"credentialType": "PRIVATE_KEY_JWT", "clientId": "me"}
    with pytest.raises(PrivateKeyJwtNotConfigured):
        credential_of(from_json(CamaraSinkCredential, tree), NOW)
    with pytest.raises(InvalidArgument) as refused:
        credential_of(from_json(NetworkSinkCredential, {"credentialType": "PRIVATE_KEY_JWT"}), NOW)
    assert refused.value.reason == "INVALID_CREDENTIAL"
