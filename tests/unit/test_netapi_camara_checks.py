"""What the options of the contracts say of CAMARA bodies, checked."""

from __future__ import annotations

import pytest

from nf.common.errors import InvalidArgument
from nf.netapi.camara_checks import OutOfRange, checked, uuid_hex, uuid_text
from nf.netapi.v1.camara_qod_pb2 import CreateQodSession, QodApplicationServer, QodPorts
from nf.netapi.v1.camara_types_pb2 import CamaraDevice


def wanted(**more: object) -> CreateQodSession:
    server = QodApplicationServer(ipv4_address="198.51.100.0/24")
    return CreateQodSession(**{"application_server": server, "qos_profile": "QOS_M", "duration_s": 60, **more})


def test_what_is_as_its_options_say_comes_back_as_it_is() -> None:
    message = wanted(device=CamaraDevice(phone_number="+123456789"), device_ports=QodPorts(ports=[1, 65535]))
    assert checked(message) is message


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            wanted(device=CamaraDevice(phone_number="123456789")),
            r"device.phoneNumber: expected what matches ^\+[1-9][0-9]{4,14}$, found '123456789'",
        ),
        (wanted(device=CamaraDevice(phone_number="")), r"device.phoneNumber: expected what matches"),
        (wanted(qos_profile="Q"), "qosProfile: expected at least 3 characters, found 'Q'"),
        (wanted(qos_profile=""), "qosProfile: expected what matches"),
        (wanted(qos_profile="a" * 257), "qosProfile: expected at most 256 characters, found"),
        (
            wanted(application_server=QodApplicationServer(ip_addresses=["192.0.2.1"] * 17)),
            "applicationServer.ipAddresses: expected 0 to 16 items, found 17",
        ),
    ],
)
def test_text_and_lists_of_another_form_are_named(message: CreateQodSession, told: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        checked(message)
    assert refused.value.message.startswith(told)
    assert refused.value.reason == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (wanted(duration_s=0), "duration: expected at least 1 and at most 2147483647, found 0"),
        (
            wanted(device_ports=QodPorts(ports=[443, 65536])),
            "devicePorts.ports[1]: expected at least 1 and at most 65535, found 65536",
        ),
    ],
)
def test_numbers_beyond_their_bounds_are_out_of_range(message: CreateQodSession, told: str) -> None:
    with pytest.raises(OutOfRange) as refused:
        checked(message)
    assert (refused.value.message, refused.value.reason) == (told, "OUT_OF_RANGE")


def test_every_violation_is_told_and_a_wrong_form_outweighs_a_wrong_number() -> None:
    with pytest.raises(InvalidArgument) as refused:
        checked(wanted(duration_s=0, qos_profile="?"))
    assert [each.field for each in refused.value.violations] == ["qosProfile", "duration"]
    assert refused.value.reason == "INVALID_ARGUMENT"


def test_identifiers_of_the_platform_are_uuids_at_the_doors() -> None:
    shown = uuid_text("123e4567e89b12d3a456426614174000")
    assert shown == "123e4567-e89b-12d3-a456-426614174000"
    assert uuid_hex("sessionId", shown.upper()) == "123e4567e89b12d3a456426614174000"
    with pytest.raises(InvalidArgument, match="sessionId: expected a UUID, found '123e4567e89b12d3a456426614174000'"):
        uuid_hex("sessionId", "123e4567e89b12d3a456426614174000")
