"""Where callbacks may go."""

from __future__ import annotations

import pytest

from nf.af.config import AfSection
from nf.common.callback_hosts import CallbackHostNotAllowed, CallbackHosts
from nf.common.config import ConfigError, Section, load
from nf.common.errors import InvalidArgument


class Whole(Section):
    af: AfSection = AfSection()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/hook",
        "https://[::1]/hook?of=castcore",
        "http://10.1.2.3",
        "http://172.31.255.255/",
        "http://192.168.0.1/",
        "http://[fd00::1]:80/",
        "http://localhost/",
        "https://hooks.example.com/",
    ],
)
def test_by_default_loopback_private_networks_and_names_are_let_pass(url):
    CallbackHosts().check_url("callback_url", url)


@pytest.mark.parametrize(
    "url",
    [
        "http://8.8.8.8/",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://172.32.0.1/",
        "http://[::ffff:8.8.8.8]/",
        "http://0.0.0.0/",
        "http://[2001:db8::1]/",
    ],
)
def test_by_default_other_addresses_are_refused(url):
    with pytest.raises(CallbackHostNotAllowed, match=r"callback_url: callbacks may not go to .*: af\.callback_hosts"):
        CallbackHosts().check_url("callback_url", url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/hook",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "http://",
        "http:///hook",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:port/",
        "http://user:secret@127.0.0.1/",
        "http://127.0.0.1/#part",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nx: y",
        "http://exa mple/",
        "http://exämple/",
        "http://-host/",
        "http://127.0.0.1/" + "x" * 2048,
    ],
)
def test_what_is_no_absolute_url_is_refused_by_its_property(url):
    with pytest.raises(InvalidArgument, match="expected an absolute http or https URL") as refused:
        CallbackHosts().check_url("callback_url", url)
    assert [each.field for each in refused.value.violations] == ["callback_url"]


async def test_a_name_is_allowed_by_its_addresses():
    assert await CallbackHosts().address_for("localhost", 80) in ("127.0.0.1", "::1")
    with pytest.raises(CallbackHostNotAllowed, match="callbacks may not go to localhost"):
        await CallbackHosts(["10.0.0.0/8"]).address_for("localhost", 80)
    with pytest.raises(CallbackHostNotAllowed):
        await CallbackHosts().address_for("192.0.2.1", 80)


async def test_a_list_takes_the_place_of_the_default():
    hosts = CallbackHosts(["192.0.2.0/24", "hooks.example.com", "*.lab"])
    hosts.check_url("u", "http://192.0.2.77/")
    with pytest.raises(CallbackHostNotAllowed):
        hosts.check_url("u", "http://127.0.0.1/")
    assert await hosts.address_for("Hooks.Example.COM", 443) == "Hooks.Example.COM"
    assert await hosts.address_for("a.lab", 443) == "a.lab"
    with pytest.raises(CallbackHostNotAllowed):
        await hosts.address_for("localhost", 443)


async def test_a_star_lets_everything_pass():
    hosts = CallbackHosts(["*"])
    hosts.check_url("u", "http://8.8.8.8/")
    assert await hosts.address_for("anything.example", 80) == "anything.example"


@pytest.mark.parametrize("entry", ["", "10.0.0.1/8", "a b", "http://host", "*.", "*x"])
def test_a_wrong_entry_is_refused_with_its_line(tmp_path, entry):
    path = tmp_path / "castcore.toml"
    path.write_text(f'[af]\ncallback_hosts = ["{entry}"]\n')
    with pytest.raises(ConfigError, match=r"castcore.toml:2.*a host name"):
        load(Whole, path=path)
