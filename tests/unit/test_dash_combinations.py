"""Which combinations of representations comply with a policy (TS 26.512 A.3.1, A.3.2 step 9)."""

from __future__ import annotations

import pytest
from dash_documents import adaptation_set, mpd, title
from hypothesis import given, settings
from hypothesis import strategies as st

from nf.client.dash.combinations import (
    UNBOUNDED,
    Bounds,
    Combination,
    DescriptorFilter,
    adaptation_sets,
    allowed,
    bounds_of,
    combinations,
)
from nf.common.dash.mpd import Representation, SegmentBase
from nf.common.dash.parsing import parse
from nf.common.dash.service_descriptions import OperatingBandwidth, Scope, ServiceDescription

AUDIO = {"audio": 128_000}
THRESHOLD_BPS = 5_000_000
# Bit rates of the figure's titles and qualities: the threshold lies between them as it does there.
TITLES = {
    "Title1": {"480p": 1_800_000, "SD": 2_800_000, "HD": 4_700_000, "UHD": 14_000_000},
    "Title2": {"480p": 1_500_000, "SD": 2_500_000, "HD": 4_400_000, "UHD": 11_000_000},
    "Title3": {"480p": 2_900_000, "SD": 4_800_000, "HD": 8_000_000},
    "Title4": {"SD": 1_600_000, "HD": 3_300_000},
}
COMPLIANT = {
    "Title1": ["480p", "SD", "HD"],
    "Title2": ["480p", "SD", "HD"],
    "Title3": ["480p", "SD"],
    "Title4": ["SD", "HD"],
}


def described(name: str, *bandwidths: OperatingBandwidth, scope: str = "") -> ServiceDescription:
    """A service description about bandwidths."""
    scopes = (Scope(scope, ""),) if scope else ()
    return ServiceDescription(name, scopes=scopes, operating_bandwidths=bandwidths)


def at_most(bandwidth_bps: int, media_type: str = "all") -> OperatingBandwidth:
    return OperatingBandwidth(media_type, None, bandwidth_bps, None)


def video_of(found: tuple[Combination, ...]) -> list[str]:
    return [each.ids[0] for each in found]


@pytest.mark.clause("TS 26.512 A.3.1", "TS 26.512 A.3.2 step 9")
@pytest.mark.parametrize("name", TITLES)
def test_of_each_title_of_the_figure_the_right_representations_comply(name: str) -> None:
    (period,) = parse(title(TITLES[name], AUDIO)).periods
    candidates = combinations(adaptation_sets(period))
    assert len(candidates) == len(TITLES[name])
    found = allowed(candidates, bounds_of((), DescriptorFilter(operating_bandwidth_max_bps=THRESHOLD_BPS)))
    assert found.compliant
    assert video_of(found.combinations) == COMPLIANT[name]


def test_it_is_the_combination_that_complies_not_its_video() -> None:
    (period,) = parse(title({"v": 4_900_000}, {"low": 100_000, "high": 100_001})).periods
    found = allowed(combinations(adaptation_sets(period)), Bounds(THRESHOLD_BPS))
    assert [each.ids for each in found.combinations] == [("v", "low")]


THREE = (described("1", at_most(1000)), described("2", at_most(3000)), described("3", at_most(6000)))
WITH_TARGET = described("4", OperatingBandwidth("all", None, 2000, 1500))
MEDIA = described("5", at_most(700, "video"), at_most(90, "audio"))
ANY = described("6", at_most(800, "any"))
SCOPED = described("7", at_most(4000), scope="urn:others")


@pytest.mark.clause("TS 26.512 A.3.2 step 7", "TS 26.512 A.3.2 step 9")
@pytest.mark.parametrize(
    ("descriptions", "wanted", "expected"),
    [
        # The one that is named; the policy threshold binds all the same.
        (THREE, DescriptorFilter("2"), Bounds(3000, (), None, THREE[1])),
        (THREE, DescriptorFilter("2", 5000), Bounds(3000, (), None, THREE[1])),
        (THREE, DescriptorFilter("3", 5000), Bounds(5000, (), None, THREE[2])),
        # None is named, or none that is there: the greatest at or below the bit rate.
        (THREE, DescriptorFilter("", 5000), Bounds(3000, (), None, THREE[1])),
        (THREE, DescriptorFilter("", 6000), Bounds(6000, (), None, THREE[2])),
        (THREE, DescriptorFilter("9", 2999), Bounds(1000, (), None, THREE[0])),
        # None fits: the bit rate by itself.
        (THREE, DescriptorFilter("", 999), Bounds(999)),
        ((), DescriptorFilter("", 5000), Bounds(5000)),
        ((), DescriptorFilter("9"), Bounds()),
        ((WITH_TARGET,), DescriptorFilter("4"), Bounds(2000, (), 1500, WITH_TARGET)),
        # Bounds of single media.
        ((MEDIA,), DescriptorFilter("5", 1000), Bounds(1000, (("video", 700), ("audio", 90)), None, MEDIA)),
        ((ANY,), DescriptorFilter("6"), Bounds(None, (("video", 800), ("audio", 800)), None, ANY)),
        ((), DescriptorFilter("", 500, "video"), Bounds(None, (("video", 500),))),
        ((MEDIA,), DescriptorFilter("", 750, "video"), Bounds(None, (("video", 700), ("audio", 90)), None, MEDIA)),
        # For other clients.
        ((SCOPED,), DescriptorFilter("7", 5000), Bounds(5000)),
        # Refused, or ended: anything may be played.
        (THREE, None, UNBOUNDED),
    ],
)
def test_a_filter_finds_its_service_description(
    descriptions: tuple[ServiceDescription, ...], wanted: DescriptorFilter | None, expected: Bounds
) -> None:
    assert bounds_of(descriptions, wanted) == expected


def test_a_description_for_our_scope_counts() -> None:
    assert bounds_of((SCOPED,), DescriptorFilter("7"), scopes={"urn:others"}) == Bounds(4000, (), None, SCOPED)


def test_where_nothing_complies_the_lowest_combination_is_left_and_said_to_exceed() -> None:
    (period,) = parse(title({"a": 2000, "b": 1000}, {"c": 10, "d": 5})).periods
    found = allowed(combinations(adaptation_sets(period)), Bounds(1000))
    assert not found.compliant
    assert [each.ids for each in found.combinations] == [("b", "d")]


def test_bounds_of_media_refuse_by_medium() -> None:
    (period,) = parse(title({"a": 700, "b": 701}, {"c": 90, "d": 91})).periods
    found = allowed(combinations(adaptation_sets(period)), Bounds(of_media=(("video", 700), ("audio", 90))))
    assert [each.ids for each in found.combinations] == [("a", "c")]


def test_sets_are_chosen_by_language_then_role_and_unknown_essentials_are_left_out() -> None:
    def audio(name: str, more: str = "", attributes: str = "") -> str:
        return adaptation_set("audio", {name: 1}, more, attributes)

    essential = '<EssentialProperty schemeIdUri="urn:x"/>'
    body = audio("x", essential) + audio("de", "", 'lang="de"') + audio("en", '<Role value="main"/>', 'lang="en"')
    (period,) = parse(mpd(f"<Period>{body}</Period>")).periods

    def chosen(**options: object) -> list[str]:
        return [each.representations[0].id for each in adaptation_sets(period, **options)]

    assert chosen() == ["en"]
    assert chosen(language="de") == ["de"]
    assert chosen(language="fr") == ["en"]
    (period,) = parse(mpd(f"<Period>{audio('x', essential)}</Period>")).periods
    assert chosen() == []
    assert chosen(understood={"urn:x"}) == ["x"]


def representation(media_type: str, index: int, bandwidth_bps: int) -> Representation:
    return Representation(
        f"{media_type}-{index}", bandwidth_bps, media_type, "", "", None, None, ("",), SegmentBase(None, None, 1, 0)
    )


RATES = st.lists(st.integers(1, 20_000), min_size=1, max_size=6)


@pytest.mark.clause("TS 26.512 A.3.2 step 9")
@settings(deadline=None)
@given(videos=RATES, audios=RATES, threshold_bps=st.integers(1, 40_000))
def test_what_is_allowed_is_exactly_what_is_at_or_below_the_threshold(
    videos: list[int], audios: list[int], threshold_bps: int
) -> None:
    candidates = tuple(
        sorted(
            (
                Combination((representation("video", i, v), representation("audio", j, a)))
                for i, v in enumerate(videos)
                for j, a in enumerate(audios)
            ),
            key=lambda each: each.bandwidth_bps,
        )
    )
    found = allowed(candidates, Bounds(threshold_bps))
    expected = [each for each in candidates if each.bandwidth_bps <= threshold_bps]
    if expected:
        assert found.compliant
        assert list(found.combinations) == expected
    else:
        assert not found.compliant
        assert [each.bandwidth_bps for each in found.combinations] == [min(videos) + min(audios)]
