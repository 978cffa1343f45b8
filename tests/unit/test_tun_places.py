"""IFACE[@NETNS] as users write it, and what is refused before any device is made."""

from __future__ import annotations

import pytest

from upf.errors import UpfError
from upf.live.devices import Place, open_tun


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("ue0", Place("ue0", None)),
        ("ue0@ue", Place("ue0", "ue")),
        ("n6@/proc/1/ns/net", Place("n6", "/proc/1/ns/net")),
        ("fifteen-letters", Place("fifteen-letters")),
    ],
)
def test_a_place_is_written_as_it_is_read(text: str, place: Place) -> None:
    assert Place.parse(text) == place
    assert str(place) == text


@pytest.mark.parametrize("text", ["", "@ue", "sixteen--letters", "äöüäöüäö", "a b", "a/b", "a:b", "tun%d", ".", ".."])
def test_a_name_that_linux_does_not_take_is_refused(text: str) -> None:
    with pytest.raises(UpfError, match=r"^interface: found .*expected IFACE or IFACE@NETNS"):
        Place.parse(text)


@pytest.mark.parametrize("text", ["ue0@", "ue0@a/b", "ue0@..", "ue0@."])
def test_a_namespace_is_a_name_or_a_whole_path(text: str) -> None:
    with pytest.raises(UpfError, match=r"^interface: found .*expected after @ a network namespace"):
        Place.parse(text)


@pytest.mark.parametrize("text", ["10.45.0/24", "10.45.0.1/33", "224.0.0.1/32", "0.0.0.0/0", "ue.example", ""])
def test_a_bad_address_is_refused(text: str) -> None:
    with pytest.raises(UpfError, match=r"^device ue0: address: found .*such as '10\.45\.0\.1/24' or 'fd00:45::1/64'$"):
        open_tun(Place("ue0"), addresses=[text])


@pytest.mark.parametrize("text", ["10.45.0.1/24", "fd00::1/64", "everything", ""])
def test_a_route_is_to_a_network(text: str) -> None:
    with pytest.raises(UpfError, match=r"^device ue0: route: found .*expected a network"):
        open_tun(Place("ue0"), routes=[text])


@pytest.mark.parametrize(("mtu", "address"), [(67, "10.45.0.1/24"), (65536, "10.45.0.1/24"), (1279, "fd00:45::1/64")])
def test_an_mtu_is_one_that_the_addresses_can_have(mtu: int, address: str) -> None:
    with pytest.raises(UpfError, match=rf"^device ue0: mtu: found {mtu}, expected 68 to 65535 bytes, 1280 or more"):
        open_tun(Place("ue0"), addresses=[address], mtu=mtu)


@pytest.mark.parametrize("packets", [0, 1_000_001])
def test_a_queue_has_room_for_a_packet_and_not_for_all(packets: int) -> None:
    with pytest.raises(UpfError, match=rf"^device ue0: queue: found {packets}, expected 1 to 1000000 packets"):
        open_tun(Place("ue0"), queue_packets=packets)
