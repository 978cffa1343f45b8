"""Typed configuration from a TOML file and the environment; whatever is unknown or of the wrong type is refused.

A section of a function is a ``Section`` in its own ``config.py``. ``CASTCORE_AF__GRPC_ADDRESS`` sets ``grpc_address``
in ``[af]`` and goes before the file.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar, cast, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from nf.common.callback_hosts import check_entry
from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.toml_lines import KeyPath, key_lines, line_of

PREFIX: Final = "CASTCORE_"
# Switches of the build and options of commands, not of the configuration.
_NOT_OURS: Final = frozenset(
    {
        "CASTCORE_CREDENTIAL",
        "CASTCORE_DEBUG",
        "CASTCORE_ENGINE",
        "CASTCORE_PLATFORM",
        "CASTCORE_PLATFORMS",
        "CASTCORE_TOKEN",
    }
)


class Section(BaseModel):
    """A table of the configuration: frozen, no unknown keys, no conversion between types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _check_address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("HOST:PORT, the port 0 to 65535 (0: a free one)")
    return value


Address = Annotated[str, AfterValidator(_check_address)]


class LogSection(Section):
    """``[log]``."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class TlsSection(Section):
    """``[tls]``: TLS with certificates at both ends; ``castcore certs`` makes the files and prints these lines."""

    # The certificate of the authority that both ends trust (PEM).
    ca: str
    # The certificate shown and its key (PEM); {name} in a path stands for the function (af, pcf, smf, upf, http).
    certificate: str
    key: str


class FunctionSection(Section):
    """What every function's section has."""

    grpc_address: Address = "127.0.0.1:0"
    grace_s: float = Field(default=5.0, ge=0)
    tls: TlsSection | None = None
    # With TLS: who may call, by the name (CN) of its certificate; empty: everyone with one of the authority.
    allowed_peers: tuple[str, ...] = ()


class NotifyingSection(FunctionSection):
    """What the section of a function has that tells subscribers by HTTP."""

    # Hosts that notifications may be sent to: names, "*.DOMAIN", addresses, prefixes, "*"; empty: loopback and private
    # networks.
    callback_hosts: tuple[Annotated[str, AfterValidator(check_entry)], ...] = ()
    # How long a receiver of notifications may take to answer, and the longest pause before it is tried again.
    callback_timeout_s: float = Field(default=5.0, gt=0)
    callback_longest_pause_s: float = Field(default=60.0, gt=0)


Model = TypeVar("Model", bound=Section)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where it stands ("castcore.toml:12"), which key, what was found and what expected."""

    where: str
    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        parts = [self.key, f"found {self.found}" if self.found else "", f"expected {self.expected}"]
        return f"{self.where}: " + ", ".join(part for part in parts if part)


class ConfigError(InvalidArgument):
    """The configuration is refused; the message has one line per problem."""

    reason = "INVALID_CONFIGURATION"

    def __init__(self, problems: list[Problem]) -> None:
        violations = [FieldViolation(each.key, f"found {each.found}, expected {each.expected}") for each in problems]
        super().__init__("\n".join(map(str, problems)), violations=violations)
        self.problems = problems


def load(model: type[Model], *, path: Path | None = None, environ: Mapping[str, str] | None = None) -> Model:
    """The configuration of a TOML file (None: defaults only), overridden by ``environ``.

    Raises ConfigError with every problem: file and line or variable, key, what was found, what was expected.
    """
    tree: dict[str, object] = {}
    lines: Mapping[KeyPath, int] = {}
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
            tree = tomllib.loads(text)
        except OSError as error:
            raise ConfigError([Problem(str(path), "", error.strerror or "an error", "a readable file")]) from error
        except UnicodeDecodeError as error:
            raise ConfigError([Problem(str(path), "", f"a byte at {error.start} that is not UTF-8", "TOML")]) from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError([Problem(str(path), "", str(error), "valid TOML")]) from error
        lines = key_lines(text)
    variables = dict(_variables(environ or {}))
    for key, (name, value) in variables.items():
        _set(tree, key, _from_text(model, key, value), name)
    try:
        return model.model_validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        problems = []
        for each in error.errors(include_url=False):
            key = tuple(each["loc"])
            variable = next((name for prefix, (name, _) in variables.items() if key[: len(prefix)] == prefix), "")
            where = f"environment variable {variable}" if variable else f"{path}:{line_of(lines, key)}"
            problems.append(_problem(model, where, key, each["type"], each["msg"], each["input"]))
        raise ConfigError(problems) from error


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[KeyPath, tuple[str, str]]]:
    for name, value in sorted(environ.items()):
        if name.startswith(PREFIX) and name not in _NOT_OURS:
            yield tuple(name.removeprefix(PREFIX).lower().split("__")), (name, value)


def _set(tree: dict[str, object], key: KeyPath, value: object, variable: str) -> None:
    table = tree
    for part in key[:-1]:
        inner = table.setdefault(str(part), {})
        if not isinstance(inner, dict):
            problem = Problem(
                f"environment variable {variable}", _dotted(key), f"{part!r}, a value in the file", "a table"
            )
            raise ConfigError([problem])
        table = inner
    table[str(key[-1])] = value


def _from_text(model: type[BaseModel], key: KeyPath, value: str) -> object:
    """The value of a variable, read as the type that the key has; as it stands where that does not fit."""
    owner = _model_at(model, key[:-1])
    field = None if owner is None else owner.model_fields.get(str(key[-1]))
    if field is None:
        return value
    adapter: TypeAdapter[object] = TypeAdapter(cast("type[object]", field.annotation))
    try:
        return adapter.dump_python(adapter.validate_strings(value), mode="json")
    except ValidationError:
        pass
    try:
        # Lists and inline tables are written as in the file.
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def _model_at(model: type[BaseModel], key: KeyPath) -> type[BaseModel] | None:
    """The section that ``key`` leads to, through optional sections and lists; None: none."""
    for part in key:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        inner = None if field is None else _section_in(field.annotation)
        if inner is None:
            return None
        model = inner
    return model


def _section_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _section_in(each)) is not None), None)


def _problem(model: type[BaseModel], where: str, key: KeyPath, kind: str, message: str, found: object) -> Problem:
    if kind == "extra_forbidden":
        owner = _model_at(model, key[:-1])
        known = sorted(owner.model_fields) if owner is not None else []
        close = difflib.get_close_matches(str(key[-1]), known, n=1)
        expected = f"{close[0]!r}" if close else "one of " + ", ".join(known)
        return Problem(where, _dotted(key), "an unknown key", expected)
    if kind == "missing":
        return Problem(where, _dotted(key), "nothing", "a value")
    expected = message.removeprefix("Value error, ").removeprefix("Input should be ")
    return Problem(where, _dotted(key), _shown(found), expected)


def _shown(value: object) -> str:
    nouns = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "table"}
    noun = nouns.get(type(value), type(value).__name__)
    return noun if isinstance(value, dict | list) else f"{json.dumps(value)} ({noun})"


def _dotted(key: KeyPath) -> str:
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
