"""Configuration: what is unknown or of the wrong type is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from nf.common.config import ConfigError, FunctionSection, LogSection, Section, load
from nf.common.toml_lines import key_lines, line_of


class Peer(Section):
    name: str
    weight: int = 1


class AfSection(FunctionSection):
    peers: tuple[Peer, ...] = ()
    trace: bool = False
    origin: Path | None = None


class Root(Section):
    state_directory: Path = Path("castcore-state")
    log: LogSection = LogSection()
    af: AfSection = AfSection()
    limits: dict[str, int] = Field(default_factory=dict)


def written(directory: Path, text: str) -> Path:
    path = directory / "castcore.toml"
    path.write_text(text)
    return path


def refused(path: Path | None, environ: dict[str, str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(Root, path=path, environ=environ)
    return caught.value


def test_defaults_hold_without_a_file() -> None:
    config = load(Root)
    assert config.af.grpc_address == "127.0.0.1:0"
    assert config.log.level == "info"
    assert config.state_directory == Path("castcore-state")


def test_values_of_the_file_are_read_with_their_types(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'state_directory = "/tmp/x"\n[af]\ngrpc_address = "[::1]:7000"\ngrace_s = 2\norigin = "a/b"\n'
        '[[af.peers]]\nname = "x"\nweight = 3\n[limits]\nflows = 7\n',
    )
    config = load(Root, path=path)
    assert config.state_directory == Path("/tmp/x")
    assert config.af == AfSection(
        grpc_address="[::1]:7000", grace_s=2.0, origin=Path("a/b"), peers=(Peer(name="x", weight=3),)
    )
    assert config.limits == {"flows": 7}


def test_the_environment_goes_before_the_file_and_is_read_as_the_type_of_the_key(tmp_path: Path) -> None:
    path = written(tmp_path, '[af]\ngrpc_address = "127.0.0.1:1"\ngrace_s = 1.5\n')
    environ = {
        "CASTCORE_AF__GRPC_ADDRESS": "0.0.0.0:8080",
        "CASTCORE_AF__GRACE_S": "3",
        "CASTCORE_AF__TRACE": "true",
        "CASTCORE_AF__PEERS": '[{name = "p", weight = 2}]',
        "CASTCORE_STATE_DIRECTORY": "/var/lib/castcore",
        "CASTCORE_LOG__LEVEL": "debug",
        "CASTCORE_DEBUG": "1",
        "HOME": "/root",
    }
    config = load(Root, path=path, environ=environ)
    assert (config.af.grpc_address, config.af.grace_s, config.af.trace) == ("0.0.0.0:8080", 3.0, True)
    assert config.af.peers == (Peer(name="p", weight=2),)
    assert (config.state_directory, config.log.level) == (Path("/var/lib/castcore"), "debug")


def test_an_unknown_key_is_refused_with_its_line_and_the_key_that_was_meant(tmp_path: Path) -> None:
    path = written(tmp_path, "# a comment\n\n[af]\ngrace_s = 1\ngrpc_adress = '127.0.0.1:0'\n")
    error = refused(path)
    assert str(error) == f"{path}:5: af.grpc_adress, found an unknown key, expected 'grpc_address'"
    assert (error.problems[0].key, error.code) == ("af.grpc_adress", "INVALID_ARGUMENT")


def test_a_wrong_type_is_refused_with_what_was_found_and_expected(tmp_path: Path) -> None:
    path = written(tmp_path, '[af]\ntrace = "yes"\n[[af.peers]]\nname = "a"\n[[af.peers]]\nname = "b"\nweight = "2"\n')
    assert str(refused(path)).splitlines() == [
        f'{path}:7: af.peers[1].weight, found "2" (string), expected a valid integer',
        f'{path}:2: af.trace, found "yes" (string), expected a valid boolean',
    ]


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, 'colour = 1\n[log]\nlevel = "loud"\n[af]\ngrpc_address = "nowhere"\ngrace_s = -1\n')
    problems = {each.key: (each.where, each.found, each.expected) for each in refused(path).problems}
    assert problems == {
        "colour": (f"{path}:1", "an unknown key", "one of af, limits, log, state_directory"),
        "log.level": (f"{path}:3", '"loud" (string)', "'debug', 'info', 'warning' or 'error'"),
        "af.grpc_address": (f"{path}:5", '"nowhere" (string)', "HOST:PORT, the port 0 to 65535 (0: a free one)"),
        "af.grace_s": (f"{path}:6", "-1 (integer)", "greater than or equal to 0"),
    }


def test_a_missing_value_is_told_at_its_table(tmp_path: Path) -> None:
    path = written(tmp_path, "[[af.peers]]\nweight = 2\n")
    assert str(refused(path)) == f"{path}:1: af.peers[0].name, found nothing, expected a value"


def test_a_wrong_variable_is_refused_by_its_name() -> None:
    assert str(refused(None, {"CASTCORE_AF__GRACE_S": "soon"})) == (
        'environment variable CASTCORE_AF__GRACE_S: af.grace_s, found "soon" (string), expected a valid number'
    )
    assert str(refused(None, {"CASTCORE_AF__GRPC_ADRESS": "x"})) == (
        "environment variable CASTCORE_AF__GRPC_ADRESS: af.grpc_adress, found an unknown key, expected 'grpc_address'"
    )


def test_a_variable_below_a_plain_value_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "af = 1\n")
    assert "CASTCORE_AF__TRACE: af.trace, found 'af', a value in the file, expected a table" in str(
        refused(path, {"CASTCORE_AF__TRACE": "true"})
    )


@pytest.mark.parametrize(("text", "told"), [("a = \n", "line 1"), ("[af\n", "line 1")])
def test_a_file_that_is_no_toml_is_refused_with_the_line(tmp_path: Path, text: str, told: str) -> None:
    path = written(tmp_path, text)
    assert str(refused(path)).startswith(f"{path}: found ")
    assert told in str(refused(path))


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert str(refused(path)) == f"{path}: found No such file or directory, expected a readable file"


def test_lines_are_found_past_strings_arrays_and_comments_of_several_lines() -> None:
    text = (
        'a = """\n[not.a.table]\nb = 1\n"""\n'
        'list = [ # ] no end\n  "]",\n  2,\n]\n'
        "x.y . 'z w' = 1\n"
        "[t]\n"
        "d = { e = [1,\n 2] }\n"
        "f = '''\n'''\n"
        "[[t.s]]\n"
        "[[t.s]]\n"
        "g = 1\n"
        "[t.s.u]\n"
        "h = 2"
    )
    lines = key_lines(text)
    assert lines == {
        ("a",): 1,
        ("list",): 5,
        ("x",): 9,
        ("x", "y"): 9,
        ("x", "y", "z w"): 9,
        ("t",): 10,
        ("t", "d"): 11,
        ("t", "f"): 13,
        ("t", "s", 0): 15,
        ("t", "s", 1): 16,
        ("t", "s", 1, "g"): 17,
        ("t", "s", 1, "u"): 18,
        ("t", "s", 1, "u", "h"): 19,
    }
    assert line_of(lines, ("t", "d", "e", 0)) == 11
    assert line_of(lines, ("nowhere",)) == 1
