"""The M8 document: what it says, and what is wrong with one that is refused (TS 26.512 A.3.2 step 3)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nf.af.v1.media_session_pb2 import ServiceDescriptorFilter
from nf.client.m5_connect import connect
from nf.client.m8 import M8Invalid, TitleUnknown, access_of, parse, read
from nf.common.errors import InvalidArgument

ACCESS = "http://af.example.com/3gpp-m5/v2/service-access-information/abc"


def document(**changes: object) -> dict:
    return {
        "catalogue": [
            {
                "titleId": "one",
                "title": "Title 1",
                "entryPoints": [
                    {"locator": "https://m.example.com/1.m3u8", "contentType": "application/vnd.apple.mpegurl"},
                    {"locator": "https://m.example.com/1.mpd"},
                ],
                "subscriptionIds": ["4k"],
            },
            {
                "titleId": "two",
                "entryPoints": [{"locator": "https://m.example.com/2.mpd", "contentType": "application/dash+xml"}],
                "deviceTypeIds": ["tv"],
                "serviceAccessInformationUrl": "grpc://127.0.0.1:7001/def",
            },
        ],
        "subscriptionIds": ["4k", "sd"],
        "deviceTypeIds": ["tv", "phone"],
        "policyDescriptions": [{"networkPolicyId": "zero-rating", "serviceAccessInformationUrl": ACCESS}],
        **changes,
    }


def refusal(tree: object) -> dict[str, str]:
    with pytest.raises(M8Invalid) as refused:
        parse(json.dumps(tree))
    return {each.field: each.description for each in refused.value.violations}


@pytest.mark.clause("TS 26.512 A.3.2 step 3", "TS 26.512 table A.3.3-1")
def test_the_catalogue_and_the_policies_are_what_the_provider_says():
    m8 = parse(json.dumps(document()))
    assert [each.title_id for each in m8.titles()] == ["one", "two"]
    assert (m8.title("one").entry, m8.title("Title 1").title_id) == ("https://m.example.com/1.mpd", "one")
    assert m8.access_url(m8.title("two"), "zero-rating") == ACCESS
    assert m8.access_url(m8.title("two")) == "grpc://127.0.0.1:7001/def"
    assert m8.access_url(m8.title("one")) == ACCESS


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
def test_filters_are_known_by_a_template_or_by_a_bit_rate_of_the_answer():
    filters = [
        {"answerValue": "template-1", "serviceDescriptionId": "7"},
        {"answerValue": "5.000 Mbps", "operatingBandwidthMax": "4.5 Mbps"},
    ]
    policy = {"networkPolicyId": "zero-rating", "serviceAccessInformationUrl": ACCESS}
    m8 = parse(json.dumps(document(policyDescriptions=[{**policy, "serviceDescriptorFilters": filters}])))
    assert m8.known_filters("zero-rating") == {
        "template-1": ServiceDescriptorFilter(service_description_id="7"),
        "5000000": ServiceDescriptorFilter(operating_bandwidth_max_bps=4_500_000),
    }
    assert m8.known_filters("another") == {}


def test_a_filter_that_bounds_nothing_or_at_no_bit_rate_is_refused():
    def refused(descriptor_filter: dict[str, str]) -> dict[str, str]:
        policy = {"networkPolicyId": "zero-rating", "serviceAccessInformationUrl": ACCESS}
        return refusal(document(policyDescriptions=[{**policy, "serviceDescriptorFilters": [descriptor_filter]}]))

    at = "policyDescriptions[0].serviceDescriptorFilters[0]"
    assert refused({"answerValue": "t"}) == {at: "serviceDescriptionId or operatingBandwidthMax"}
    (told,) = refused({"answerValue": "t", "operatingBandwidthMax": "much"}).items()
    assert told[0] == f"{at}.operatingBandwidthMax"
    assert "5.000 Mbps" in told[1]
    assert refused({"answerValue": "t", "operatingBandwidthMax": "0 bps"}) == {
        f"{at}.operatingBandwidthMax": 'expected a bit rate above 0, found "0 bps"'
    }


@pytest.mark.parametrize(
    ("subscriptions", "device", "expected"),
    [
        (None, "", ["one", "two"]),
        (["4k"], "tv", ["one", "two"]),
        (["sd"], "tv", ["two"]),
        ([], "phone", []),
        (["sd", "4k"], "phone", ["one"]),
    ],
)
def test_subscriptions_and_the_type_of_device_choose_titles(
    subscriptions: list[str] | None, device: str, expected: list[str]
):
    assert [each.title_id for each in parse(json.dumps(document())).titles(subscriptions, device)] == expected


def test_what_is_not_there_is_named_with_what_is():
    m8 = parse(json.dumps(document()))
    with pytest.raises(TitleUnknown, match=r"'three' is not in the catalogue \(known: one, two\)"):
        m8.title("three")
    with pytest.raises(InvalidArgument, match=r"'premium' is not in the document \(known: zero-rating\)"):
        m8.access_url(m8.title("one"), "premium")
    without = parse(json.dumps(document(policyDescriptions=[])))
    with pytest.raises(InvalidArgument, match="title 'one': no serviceAccessInformationUrl"):
        without.access_url(without.title("one"))


def test_every_property_at_fault_is_named():
    tree = document(catalogue=[{"titleId": "", "entryPoints": [{"locator": "ftp://x"}], "colour": "red"}])
    assert refusal(tree) == {
        "catalogue[0].titleId": 'expected a string that is not empty, found ""',
        "catalogue[0].entryPoints[0].locator": "expected an absolute http or https URL without a fragment, "
        'found "ftp://x"',
        "catalogue[0].colour": "an unknown property",
    }
    assert refusal({}) == {"catalogue": "missing"}
    assert refusal(document(catalogue=[])) == {"catalogue": "at least one"}
    assert list(refusal([])) == [""]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"subscriptionIds": ["sd"]}, "catalogue[0].subscriptionIds: '4k' is none of the document's (sd)"),
        ({"deviceTypeIds": []}, "catalogue[1].deviceTypeIds: 'tv' is none of the document's (none)"),
        ({"catalogue": document()["catalogue"][1:] * 2}, "catalogue[1].titleId: 'two' is there twice"),
        (
            {"policyDescriptions": document()["policyDescriptions"] * 2},
            "policyDescriptions[1].networkPolicyId: 'zero-rating' is there twice",
        ),
    ],
)
def test_identifiers_that_contradict_each_other_are_refused(changes: dict, told: str):
    with pytest.raises(M8Invalid) as refused:
        parse(json.dumps(document(**changes)))
    assert told in str(refused.value)


def test_a_title_without_an_mpd_is_refused():
    tree = document()
    tree["catalogue"][0]["entryPoints"].pop()
    assert refusal(tree) == {"catalogue[0]": "at least one entry point of content type application/dash+xml"}


def test_a_document_that_is_no_json_or_no_file_is_refused(tmp_path: Path):
    with pytest.raises(M8Invalid, match="expected JSON"):
        parse("{")
    with pytest.raises(M8Invalid, match=r"none\.json: cannot be read: No such file"):
        read(tmp_path / "none.json")
    (tmp_path / "m8.json").write_text(json.dumps(document()))
    assert read(tmp_path / "m8.json").subscription_ids == ("4k", "sd")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (ACCESS, ("http://af.example.com/3gpp-m5/v2", "abc")),
        ("https://af.example.com:8443/x/3gpp-m5/v2/service-access-information/a%20b/",
         ("https://af.example.com:8443/x/3gpp-m5/v2", "a b")),
        ("grpc://127.0.0.1:7001/abc", ("grpc://127.0.0.1:7001", "abc")),
    ],
)  # fmt: skip
def test_the_url_of_service_access_information_says_where_m5_is(url: str, expected: tuple[str, str]):
    assert access_of(url) == expected


@pytest.mark.parametrize(
    "url",
    ["", "abc", "http://af.example.com/abc", "grpc://127.0.0.1:7001", "grpc://h:1/a/b", "http://h:x/a", "http:///a"],
)
def test_a_url_that_says_nothing_of_that_is_refused(url: str):
    with pytest.raises(InvalidArgument, match="expected http"):
        access_of(url)


@pytest.mark.parametrize("url", ["", "af:7001", "grpc://af", "ftp://af:1", "http://", "grpc://af:x"])
async def test_an_address_of_m5_that_is_none_is_refused(url: str):
    with pytest.raises(InvalidArgument, match="M5 address: expected grpc://HOST:PORT or http"):
        connect(url)
