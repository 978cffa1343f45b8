"""The AF's section of the configuration."""

from __future__ import annotations

import ipaddress

import pytest

from nf.af.config import AfSection
from nf.af.policy_templates import TemplateLimits
from nf.common.config import ConfigError, Section, load


class Whole(Section):
    af: AfSection = AfSection()


def test_without_configuration_all_is_allowed_and_loopback_is_trusted():
    section = load(Whole).af
    assert section.template_limits == TemplateLimits()
    assert section.location_asp_ids == ()
    assert section.trusted_networks == (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
    assert section.server_addresses == (f"http://{section.grpc_address}",)


def test_a_file_sets_what_templates_may_name_and_where_clients_reach_m5(tmp_path):
    path = tmp_path / "castcore.toml"
    path.write_text(
        '[af]\nallowed_dnns = ["internet"]\nallowed_snssais = ["1", "2-00abcd"]\nallowed_sponsors = ["sponsor-1"]\n'
        'trusted_proxies = ["192.0.2.0/24"]\nm5_server_addresses = ["https://af.example.com"]\n'
    )
    section = load(Whole, path=path).af
    assert section.template_limits == TemplateLimits(("internet",), ("1", "2-00abcd"), ("sponsor-1",))
    assert section.trusted_networks == (ipaddress.ip_network("192.0.2.0/24"),)
    assert section.server_addresses == ("https://af.example.com",)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('allowed_snssais = ["1", "256"]', 'a slice as "SST" or "SST-SD"'),
        ('allowed_snssais = ["1-xyz"]', 'a slice as "SST" or "SST-SD"'),
        ('trusted_proxies = ["loopback"]', "an address or a prefix"),
        ('trusted_proxies = ["192.0.2.1/24"]', "an address or a prefix"),
        ('m5_server_addresses = ["af.example.com"]', "an absolute http or https URL"),
        ("service_access_max_age_s = -1", "greater than or equal to 0"),
        ("allowed_dnn = []", "'allowed_dnns'"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line(tmp_path, line, expected):
    path = tmp_path / "castcore.toml"
    path.write_text(f"[af]\n{line}\n")
    with pytest.raises(ConfigError) as refused:
        load(Whole, path=path)
    assert "castcore.toml:2" in str(refused.value)
    assert expected in str(refused.value)
