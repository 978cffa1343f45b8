"""Devices by their names, and which attached UE they mean."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from netapi_places import PHONE, START, SUPI, UE_ADDRESS, cell, keep_ue, ue

from nf.common.clock import ManualClock
from nf.common.errors import InvalidArgument
from nf.common.store import Store
from nf.common.v1.types_pb2 import Snssai
from nf.netapi.attachments import attached_ues, device_key, device_of, names_of, resolve
from nf.netapi.devices import canonical_names, check_device, for_providers
from nf.netapi.errors import AmbiguousDevice, DeviceMismatch
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.location_pb2 import AttachedUe


@pytest.fixture
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Store]:
    from nf.common.store import url_for

    opened = Store.open(url_for(tmp_path_factory.mktemp("devices"), "netapi"), clock=ManualClock(START))
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("device", "fields"),
    [
        (Device(), ["device"]),
        (Device(phone_number="0664123"), ["device.phone_number"]),
        (Device(phone_number="+4366412345678901"), ["device.phone_number"]),
        (Device(network_access_identifier="nobody"), ["device.network_access_identifier"]),
        (Device(ipv4_address="10.45.0.256"), ["device.ipv4_address"]),
        (Device(ipv4_address="224.0.0.1"), ["device.ipv4_address"]),
        (Device(ipv6_address="2001:db8::/64"), ["device.ipv6_address"]),
        (Device(supi="232010000000001"), ["device.supi"]),
        (Device(phone_number="+0", ipv6_address="::"), ["device.phone_number", "device.ipv6_address"]),
    ],
)
def test_a_name_that_is_none_is_refused_with_its_field(device: Device, fields: list[str]) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        check_device(device, "device")
    assert [each.field for each in refusal.value.violations] == fields


def test_each_kind_of_name_has_one_form() -> None:
    device = Device(
        supi=SUPI,
        phone_number=PHONE,
        network_access_identifier="car@example.com",
        ipv4_address=UE_ADDRESS,
        ipv6_address="2001:DB8:1:0::7",
    )
    assert canonical_names(check_device(device, "device")) == (
        SUPI,
        "msisdn-436641234567",
        "extid-car@example.com",
        "ipv4-10.45.0.2",
        "ipv6-2001:db8:1::/64",
    )


def test_a_provider_is_not_told_the_supi_unless_there_is_no_other_name() -> None:
    assert for_providers(Device(supi=SUPI, phone_number=PHONE)) == Device(phone_number=PHONE)
    assert for_providers(Device(supi=SUPI)) == Device(supi=SUPI)


@pytest.mark.parametrize(
    "device",
    [
        Device(supi=SUPI),
        Device(phone_number=PHONE),
        Device(ipv4_address=UE_ADDRESS),
        Device(ipv6_address="2001:db8:1::abcd"),
        Device(phone_number=PHONE, ipv4_address=UE_ADDRESS, supi=SUPI),
    ],
)
async def test_all_names_of_a_ue_mean_the_same_device(store: Store, device: Device) -> None:
    await store.write(lambda tx: keep_ue(tx, ue(ipv6_prefix="2001:db8:1::/64")))
    found = await store.read(lambda reader: resolve(reader, device))
    assert found is not None
    assert found.sm_context_ref == "ue1"
    assert await store.read(lambda reader: device_key(reader, device)) == SUPI


async def test_a_network_access_identifier_is_an_external_identifier_or_a_supi_of_that_kind(store: Store) -> None:
    first = AttachedUe(sm_context_ref="a", supi=SUPI, gpsi="extid-car@example.com", ipv4_address="10.45.0.3")
    second = AttachedUe(sm_context_ref="b", supi="nai-radio@example.com", ipv4_address="10.45.0.4")

    await store.write(lambda tx: [keep_ue(tx, each) for each in (first, second)])
    keys = [
        await store.read(lambda reader, name=name: device_key(reader, Device(network_access_identifier=name)))
        for name in ("car@example.com", "radio@example.com", "else@example.com")
    ]
    assert keys == [SUPI, "nai-radio@example.com", "extid-else@example.com"]
    assert names_of(second) == ("extid-radio@example.com", "ipv4-10.45.0.4")
    assert device_of(first) == Device(supi=SUPI, network_access_identifier="car@example.com", ipv4_address="10.45.0.3")


async def test_names_of_different_devices_are_refused_together(store: Store) -> None:
    await store.write(lambda tx: keep_ue(tx, ue()))
    with pytest.raises(DeviceMismatch, match=r"10\.45\.0\.9. is not that of the others"):
        await store.read(lambda reader: resolve(reader, Device(phone_number=PHONE, ipv4_address="10.45.0.9")))
    other = AttachedUe(sm_context_ref="b", supi="imsi-232010000000002", gpsi="msisdn-4312345", ipv4_address="10.45.0.9")
    await store.write(lambda tx: keep_ue(tx, other))
    with pytest.raises(DeviceMismatch):
        await store.read(lambda reader: device_key(reader, Device(phone_number=PHONE, ipv4_address="10.45.0.9")))


async def test_an_address_in_several_data_networks_is_no_name_by_itself(store: Store) -> None:
    second = AttachedUe(sm_context_ref="b", supi="imsi-232010000000002", ipv4_address=UE_ADDRESS, dnn="ims")
    await store.write(lambda tx: [keep_ue(tx, each) for each in (ue(), second)])
    device = Device(ipv4_address=UE_ADDRESS)
    with pytest.raises(AmbiguousDevice, match="'internet', 'ims'"):
        await store.read(lambda reader: resolve(reader, device))
    found = await store.read(lambda reader: resolve(reader, device, dnn="IMS"))
    assert found is not None
    assert found.supi == "imsi-232010000000002"


async def test_of_several_pdu_sessions_the_one_in_the_data_network_and_slice_is_meant(store: Store) -> None:
    second = ue("ue2", dnn="radio", ipv4_address="10.46.0.2", s_nssai=Snssai(sst=1, sd="00000A"))
    await store.write(lambda tx: [keep_ue(tx, each) for each in (ue(), second)])

    def found(dnn: str, s_nssai: Snssai | None = None) -> object:
        return store.read(
            lambda reader: getattr(
                resolve(reader, Device(phone_number=PHONE), dnn=dnn, s_nssai=s_nssai), "sm_context_ref", None
            )
        )

    assert [await found(dnn) for dnn in ("", "internet", "radio", "none")] == ["ue1", "ue1", "ue2", None]
    assert await found("", Snssai(sst=1, sd="00000a")) == "ue2"
    assert len(await store.read(lambda reader: attached_ues(reader, SUPI))) == 2


async def test_a_subscriber_keeps_its_key_when_it_detaches(store: Store) -> None:
    await store.write(lambda tx: keep_ue(tx, ue(cell=cell())))
    await store.write(lambda tx: tx.delete(AttachedUe, "ue1"))
    assert await store.read(lambda reader: resolve(reader, Device(phone_number=PHONE))) is None
    assert await store.read(lambda reader: device_key(reader, Device(phone_number=PHONE))) == SUPI
    # The address is anybody's again.
    assert await store.read(lambda reader: device_key(reader, Device(ipv4_address=UE_ADDRESS))) == "ipv4-10.45.0.2"
