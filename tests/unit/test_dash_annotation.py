"""Service descriptions are written into an MPD, and nothing else of it changes (TS 26.512 A.3.2 step 2)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import castcore
from dash_documents import NAMESPACE, adaptation_set, mpd, title
from hypothesis import given, settings
from hypothesis import strategies as st

from nf.client.dash.annotation import Annotation, annotate, plan
from nf.common.dash.parsing import parse
from nf.common.errors import AlreadyExists

VIDEO = {"sd": 2_000_000, "hd": 4_000_000, "uhd": 12_000_000}
AUDIO = {"a": 128_000}
INSERTED = """\
  <ServiceDescription id="1">
    <OperatingBandwidth mediaType="all" max="5000000" target="4128000"/>
  </ServiceDescription>
"""
HEAD = f"""\
<?xml version="1.0" encoding="UTF-8"?>
<!-- ü before -->
<MPD xmlns="{NAMESPACE}" xmlns:x='urn:x'   mediaPresentationDuration="PT4S" x:y="&lt;">
  <ProgramInformation>
    <Title>A &amp; B</Title>
  </ProgramInformation>
  <BaseURL>a/</BaseURL>
"""
TAIL = f"""\
  <!-- about the period -->
  <Period >{adaptation_set("video", VIDEO)}{adaptation_set("audio", AUDIO)}<x:other/></Period>
  <UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-iso:2014" value="t"/>
</MPD>
<!-- after -->
"""


def annotated(document: bytes, *thresholds_bps: int, ids: tuple[int, ...] = (), replace: bool = False) -> bytes:
    return annotate(document, plan(parse(document), thresholds_bps, ids), replace=replace)


@pytest.mark.clause("TS 26.512 A.3.2 step 2")
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "iso-8859-1"])
def test_every_other_byte_stays_as_it_is(line_end: str, encoding: str) -> None:
    def written(text: str) -> bytes:
        return (
            text.replace("UTF-8", encoding.upper()[:6] if "16" in encoding else encoding)
            .replace("\n", line_end)
            .encode(encoding)
        )

    text = HEAD + TAIL
    if encoding == "utf-16-be":
        text = "\ufeff" + text
    expected = text.replace("  <!-- about", f"{INSERTED}  <!-- about")
    assert annotated(written(text), 5_000_000) == written(expected)


def test_on_one_line_it_stays_on_one_line() -> None:
    document = f"<m:MPD xmlns:m='{NAMESPACE}' mediaPresentationDuration='PT4S'><m:Period/></m:MPD>".encode()
    assert annotated(document, 1000) == document.replace(
        b"<m:Period/>",
        b'<m:ServiceDescription id="1"><m:OperatingBandwidth mediaType="all" max="1000"/></m:ServiceDescription>'
        b"<m:Period/>",
    )


def test_descriptions_that_are_there_stay_and_free_ids_are_found() -> None:
    document = title(VIDEO, AUDIO, '<ServiceDescription id="1"/><ServiceDescription id="3"/>')
    found = parse(annotated(document, 5_000_000, 20_000_000, 2_128_000, ids=(7,))).service_descriptions
    said = [(each.id, [(one.max_bps, one.target_bps) for one in each.operating_bandwidths]) for each in found]
    assert said == [
        ("1", []),
        ("3", []),
        ("7", [(5_000_000, 4_128_000)]),
        ("2", [(20_000_000, 12_128_000)]),
        ("4", [(2_128_000, 2_128_000)]),
    ]


def test_an_id_that_is_there_is_refused_unless_it_may_give_way() -> None:
    document = (HEAD + INSERTED + TAIL).encode()
    with pytest.raises(AlreadyExists) as refusal:
        annotated(document, 3_000_000, ids=(1,))
    assert str(refusal.value) == "MPD: found a ServiceDescription with the id '1', expected that none has it"
    changed = annotated(document, 3_000_000, ids=(1,), replace=True)
    assert changed == document.replace(b'max="5000000" target="4128000"', b'max="3000000" target="2128000"')
    # Once more, and nothing changes.
    assert annotated(changed, 3_000_000, ids=(1,), replace=True) == changed


def test_the_target_complies_in_every_period() -> None:
    periods = [f"<Period duration='PT1S'>{adaptation_set('video', {'a': 10, 'b': top})}</Period>" for top in (90, 70)]
    presentation = parse(mpd("".join(periods)))
    assert plan(presentation, [100, 80, 9]) == (
        Annotation(1, 100, 70),
        Annotation(2, 80, 10),
        Annotation(3, 9, None),
    )


@settings(deadline=None)
@given(
    rates=st.lists(st.integers(1, 10**9), min_size=1, max_size=6, unique=True),
    thresholds=st.lists(st.integers(1, 10**9), min_size=1, max_size=4),
)
def test_what_is_written_is_what_is_read(rates: list[int], thresholds: list[int]) -> None:
    document = title({f"v{rate}": rate for rate in rates})
    made = parse(annotated(document, *thresholds))
    assert made.periods == parse(document).periods
    for description, threshold in zip(made.service_descriptions, thresholds, strict=True):
        (bandwidth,) = description.operating_bandwidths
        assert bandwidth.max_bps == threshold
        assert bandwidth.target_bps == max((rate for rate in rates if rate <= threshold), default=None)


def test_the_command_annotates_a_file_in_place_and_shows_what_complies(tmp_path: Path) -> None:
    path = tmp_path / "a.mpd"
    path.write_text(HEAD + TAIL)
    path.chmod(0o640)
    done = castcore("mpd", "annotate", path, "-o", path, "--threshold", "5 Mbps", "--threshold", "100 Kbps")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"castcore: {path}: no combination complies with 100 Kbps: id 2 has no target\n"
    assert path.read_text().startswith(HEAD + INSERTED)
    assert path.read_text().endswith(TAIL)
    assert (path.stat().st_mode & 0o777, list(tmp_path.iterdir())) == (0o640, [path])

    shown = castcore("mpd", "show", path, "--threshold", "3 Mbps", "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    (period,) = json.loads(shown.stdout)["periods"]
    assert [(each["representations"], each["bandwidth_bps"], each["complies"]) for each in period["combinations"]] == [
        (["sd", "a"], 2_128_000, {"3 Mbps": True, "id 1": True, "id 2": False}),
        (["hd", "a"], 4_128_000, {"3 Mbps": False, "id 1": True, "id 2": False}),
        (["uhd", "a"], 12_128_000, {"3 Mbps": False, "id 1": False, "id 2": False}),
    ]
    assert [(each["id"], each["segments"]) for each in period["representations"]] == [
        ("sd", 2), ("hd", 2), ("uhd", 2), ("a", 2),
    ]  # fmt: skip
    text = castcore("mpd", "show", path).stdout.splitlines()
    assert text[0] == "ServiceDescription 1: all at most 5 Mbps, target 4.128 Mbps"
    assert text[-2].split() == ["hd", "+", "a", "4.128", "Mbps", "complies", "-"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--threshold", "5"], "option '--threshold': found '5', expected '<number> bps', Kbps, Mbps, Gbps or Tbps"),
        (["--threshold", "5 Gbps"], "option '--threshold': found '5 Gbps', expected at most 4294967295 bps"),
        (["--threshold", "1 bps", "--id", "1", "--id", "2"], "option '--id': found 2, expected at most one for each"),
    ],
)
def test_the_command_says_in_a_line_what_is_wrong(tmp_path: Path, options: list[str], problem: str) -> None:
    path = tmp_path / "a.mpd"
    path.write_text(HEAD + TAIL)
    done = castcore("mpd", "annotate", path, *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"castcore: {problem}")
    assert done.stderr.count("\n") == 1
