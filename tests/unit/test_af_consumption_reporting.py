"""The consumption reporting configuration: which values are refused, and what clients get."""

from __future__ import annotations

import math

import pytest

from nf.af import consumption_reporting
from nf.af.v1.provisioning_pb2 import ConsumptionReportingConfiguration as Configuration
from nf.common.errors import InvalidArgument

OWN = ["http://af.example.com:8080"]


@pytest.mark.parametrize(
    "configuration",
    [
        Configuration(),
        Configuration(reporting_interval_s=1),
        Configuration(sample_percentage=0.0),
        Configuration(sample_percentage=33.3),
        Configuration(location_reporting=False),
        Configuration(location_reporting=True, location_type=0),
        Configuration(location_type=2),
        Configuration(
            consumption_reporting_server_address=[
                "reports.example.com",
                "reports.example.com:8443",
                "https://reports.example.com/m5/v2?tenant=7",
                "http://[2001:db8::1]:8080/",
                "192.0.2.1:80",
            ]
        ),
    ],
)
def test_a_sensible_configuration_is_accepted(configuration):
    consumption_reporting.check(configuration)


@pytest.mark.parametrize(
    ("configuration", "field", "why"),
    [
        (Configuration(reporting_interval_s=0), "reporting_interval_s", "at least 1 second, found 0"),
        (Configuration(sample_percentage=100.1), "sample_percentage", "0 to 100, found 100.1"),
        (Configuration(sample_percentage=-1), "sample_percentage", "0 to 100, found -1"),
        (Configuration(sample_percentage=math.nan), "sample_percentage", "0 to 100, found nan"),
        (Configuration(location_type=3), "location_type", "found 3"),
        (Configuration(location_reporting=False, location_type=1), "location_reporting", "a type turns"),
        *(
            (
                Configuration(consumption_reporting_server_address=["reports.example.com", address]),
                "consumption_reporting_server_address[1]",
                f"found {address!r}",
            )
            for address in (
                "",
                r".*\.example\.com",
                r"http://.*\.example\.com/",
                "/reports",
                "ftp://reports.example.com",
                "reports.example.com:0",
                "reports.example.com:65536",
                "http://reports.example.com:99999/",
                "http://reports.example.com/#top",
                "http:///reports",
                "http://re ports.example.com",
                "http://[2001:db8::zz]/",
                "a" * 64 + ".example.com",
                ".".join(["abcdefgh"] * 29),
            )
        ),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(configuration, field, why):
    with pytest.raises(InvalidArgument) as refused:
        consumption_reporting.check(configuration)
    assert [each.field for each in refused.value.violations] == [field]
    assert why in refused.value.violations[0].description


def test_everything_wrong_is_named_at_once():
    with pytest.raises(InvalidArgument) as refused:
        consumption_reporting.check(Configuration(reporting_interval_s=0, sample_percentage=101, location_type=9))
    assert [each.field for each in refused.value.violations] == [
        "reporting_interval_s",
        "sample_percentage",
        "location_type",
    ]


@pytest.mark.parametrize(
    ("configuration", "on"),
    [
        (Configuration(), False),
        (Configuration(location_reporting=False), False),
        (Configuration(location_reporting=True), True),
        (Configuration(location_type=0), True),
    ],
)
def test_a_location_type_turns_location_reporting_on(configuration, on):
    assert consumption_reporting.location_is_on(configuration) is on
    assert consumption_reporting.effective(configuration, OWN).location_reporting is on


@pytest.mark.clause("TS 26.501 §5.6.1 step 4")
def test_clients_get_effective_values():
    client = consumption_reporting.effective(Configuration(), OWN)
    assert not client.HasField("reporting_interval_s")
    assert (client.sample_percentage, client.access_reporting, list(client.server_addresses)) == (100.0, False, OWN)

    client = consumption_reporting.effective(
        Configuration(
            reporting_interval_s=30,
            sample_percentage=0.0,
            access_reporting=True,
            consumption_reporting_server_address=["reports.example.com:8443", "https://other.example.com/m5"],
        ),
        OWN,
    )
    assert (client.reporting_interval_s, client.sample_percentage, client.access_reporting) == (30, 0.0, True)
    assert list(client.server_addresses) == ["http://reports.example.com:8443", "https://other.example.com/m5"]
