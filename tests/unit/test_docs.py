"""What README and docs show can be used as it stands: commands, options, files, links, figures."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import typer.main

from nf.cli.configuration import Configuration
from nf.cli.demo.traffic import media_session
from nf.cli.figures import rule_to_json
from nf.cli.main import app
from nf.cli.replay.report import to_json
from nf.cli.tun.samples import DirectionSample, Sample
from nf.cli.tun.samples import to_json as to_line
from nf.common.config import load
from upf.active_flow import ActiveFlow
from upf.capture import open_capture
from upf.compliance import FlowName
from upf.counters import RuleCounters, Totals, WireCounters
from upf.replay import replay
from upf.rules import Marker, Mode, Policer, RuleSet
from upf.rules_file import parse_rules, rule_from_options

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Pages that a make target writes from a run of the tests.
WRITTEN_FROM_A_RUN = {ROOT / "docs" / "conformance.md"}

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_ASSIGNMENT = re.compile(r"[A-Z_]+=")


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in _BLOCK.findall(page.read_text()) if kind == language]


def shell_lines(page: Path) -> Iterator[list[str]]:
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and _ASSIGNMENT.match(words[0]):
                words.pop(0)
            yield words


def all_commands(command: typer.main.TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], set]]:
    yield path, {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for name, inner in getattr(command, "commands", {}).items():
        yield from all_commands(inner, (*path, name))


COMMANDS = dict(all_commands(typer.main.get_command(app)))
OPTIONS = set().union(*COMMANDS.values(), {"-h", "--help"})


def check_command(words: list[str]) -> None:
    """``words`` follow "castcore": the longest command that they begin with has to know their options."""
    path = max((path for path in COMMANDS if tuple(words[: len(path)]) == path), key=len)
    first = words[0] if words else "--help"
    assert path or first.startswith("-"), f"castcore {shlex.join(words)}: no such command"
    known = COMMANDS[path] | {"-h", "--help"}
    for word in words[len(path) :]:
        if word == "--":
            # What follows is another command.
            break
        if word.startswith("-"):
            assert word.partition("=")[0] in known, f"castcore {shlex.join(words)}: no such option {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_that_a_page_shows_exist(page: Path) -> None:
    for words in shell_lines(page):
        if words and words[0].endswith("castcore"):
            check_command(words[1:])
    for code in _INLINE.findall(page.read_text()):
        words = code.split("…")[0].split()
        if words[:1] == ["castcore"] and len(words) > 1:
            check_command(words[1:])
        elif words and words[0].startswith("--"):
            assert words[0] in OPTIONS, f"no command has the option {words[0]}"


def test_the_readme_shows_every_command() -> None:
    shown = {tuple(words[1 : 1 + len(path)]) for words in shell_lines(ROOT / "README.md") for path in COMMANDS}
    assert {("up",), ("run",), ("replay",), ("tun",), ("lab",), ("demo", "zero-rating")} <= shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_sequence_diagrams_of_a_page_are_well_formed(page: Path) -> None:
    for block in blocks(page, "mermaid"):
        kind, *lines = block.splitlines()
        if kind != "sequenceDiagram":
            continue
        known = {line.split()[1] for line in lines if line.split()[0] == "participant"}
        for line in map(str.strip, lines):
            # To mermaid a semicolon ends the line.
            assert ";" not in line, line
            if line.startswith(("participant ", "loop ", "end")):
                continue
            match = re.fullmatch(r"(?:(\w+)-?->>(\w+)|Note over (\w+)): .+", line)
            assert match is not None, line
            assert {name for name in match.groups() if name} <= known, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_make_targets_that_a_page_names_exist(page: Path) -> None:
    targets = set(re.findall(r"^(\w+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for words in shell_lines(page) if words[:1] == ["make"]}
    named |= {code.split()[1] for code in _INLINE.findall(page.read_text()) if re.fullmatch(r"make \w+", code)}
    assert named <= targets


def anchors(page: Path) -> set[str]:
    text = page.read_text()
    headings = re.findall(r"^#+ (.*)$", _BLOCK.sub("", text), re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)"', text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(_BLOCK.sub("", page.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target in WRITTEN_FROM_A_RUN:
            continue
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_the_rules_file_of_the_replay_page_loads() -> None:
    (text,) = blocks(ROOT / "docs" / "replay.md", "toml")
    found = parse_rules(text, source="docs/replay.md")
    assert [rule.name for rule in found.rules] == ["video", "audio", "player", "rest", "call", "guaranteed", "backup"]
    assert found.warnings == ()
    video, audio, player, rest, call, guaranteed, backup = found.rules
    assert [each.domain for each in player.filters] == ["*.video.example.com", "player.example.com"]
    assert (video.precedence, audio.precedence, rest.precedence) == (10, 20, 100)
    assert video.policer is not None
    assert (video.policer.rate_bps, video.policer.burst_bytes, video.mode) == (2_000_000, 12_500, Mode.POLICE)
    assert audio.policer is not None
    assert (audio.policer.burst_bytes, audio.mode, audio.per_flow) == (15_000, Mode.MONITOR, True)
    assert (rest.policer, len(video.filters)) == (None, 2)
    assert [aggregate.bucket_id for aggregate in video.aggregates] == ["session"]
    assert call.policer == Policer(128_000, 15_000, Marker.TRTCM, 256_000, 15_000, colour_aware=True)
    assert (call.mode, call.dscp) == (Mode.MARK, (10, 12, 14))
    assert guaranteed.policer == Policer(500_000, 15_000, Marker.TRTCM, 2_000_000, 25_000)
    assert (backup.mode, backup.queue_ns) == (Mode.SHAPE, 200_000_000)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The example of docs/replay.md, run."""
    capture = tmp_path_factory.mktemp("docs") / "session.pcap"
    capture.write_bytes(media_session())
    rules = rule_from_options(flows=["permit out ip from 198.51.100.7 to assigned"], rate="2 Mbps", ue="10.45.0.2")
    assert isinstance(rules, RuleSet)
    with open_capture(capture) as opened:
        return to_json(replay([opened], rules.rules))


def test_the_example_of_the_replay_page_is_what_the_command_says(example: dict) -> None:
    (text,) = blocks(ROOT / "docs" / "replay.md", "json")
    shown = json.loads(text)
    assert {**shown, "elapsed_s": 0} == {**example, "elapsed_s": 0}


def test_the_replay_page_explains_every_key_of_the_report(example: dict) -> None:
    text = (ROOT / "docs" / "replay.md").read_text().partition("## The report")[2].partition("## Exit codes")[0]
    explained = {name for row in re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE) for name in _INLINE.findall(row)}
    assert explained == set(example) | set(example["rules"][0])


def test_the_tun_page_explains_every_key_of_a_line() -> None:
    wire = WireCounters(*(0,) * 12, errors={}, error_bytes=0, reads=0, writes=0)
    totals = Totals(0, 0, {}, 0, 0, 0, 0, 0, 0, 0)
    name = FlowName(IPv4Address(1), IPv4Address(2), 17)
    sample = DirectionSample(wire, totals, {"a": RuleCounters()}, [ActiveFlow(name, "a", 0, 0, 0, 0, 0, 0)])
    line = to_line(Sample(0, 0, {"uplink": sample, "downlink": sample}, {}), None)
    text = (ROOT / "docs" / "tun.md").read_text().partition("## What is told")[2].partition("### Prometheus")[0]
    lines, directions = (
        {name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in _INLINE.findall(row)}
        for table in text.split("| key of a direction |")
    )
    assert lines == {*line, "rules_left_out"}
    assert directions == set(line["uplink"])
    for list_of in ("rules", "flows"):
        assert set(line[list_of][0]) - REPLAYED <= set(_INLINE.findall(text)), list_of


REPLAYED = set(rule_to_json("", RuleCounters()))


def test_the_configurations_of_the_running_page_load(tmp_path: Path) -> None:
    texts = blocks(ROOT / "docs" / "running.md", "toml")
    assert len(texts) == 4
    for text in texts:
        file = tmp_path / "lab.toml"
        file.write_text(text)
        configuration = load(Configuration, path=file)
        for peer, port in (("pcf", 7002), ("smf", 7003), ("upf", 7004)):
            assert f":{port}" not in text or configuration.peer_address(peer) == f"127.0.0.1:{port}"
        assert configuration.model_dump(mode="json", exclude_unset=True) == tomllib.loads(text)


def test_the_environment_of_the_running_page_is_read() -> None:
    text = (ROOT / "docs" / "running.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("CASTCORE_AF__GRPC_ADDRESS")]
    environ = dict(word.split("=", 1) for word in shlex.split(line) if _ASSIGNMENT.match(word))
    configuration = load(Configuration, environ=environ)
    assert configuration.af.grpc_address == "127.0.0.1:7001"
    assert configuration.af.allowed_dnns == ("internet",)
