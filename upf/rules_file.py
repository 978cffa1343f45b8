"""Rules as text: the rules file (TOML) of ``castcore replay``, and the options that stand for one rule.

A rules file::

[[rule]]
name = "video"                                                  # required, unique
flows = ["permit out 17 from 198.51.100.0/24 443 to assigned"]  # one or more filters; required without domains
domains = ["*.video.example.com"]                               # names, one of which a flow of these filters must have
precedence = 10                                                 # lower first; default 100; equal: as they stand
rate = "5 Mbps"                                                 # absent: counted, not policed
burst = "50 ms"                                                 # default: 100 ms at the rate, 15,000 B or more
mode = "police"                                                 # or "monitor"; default "police", as a QER does
per_flow = false                                                # true: a bucket for every 5-tuple
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final, TypeVar

from upf.errors import UpfError
from upf.rules import DEFAULT_PRECEDENCE, MAX_PRECEDENCE, MTU_BYTES, Mode, Policer, Rule, RulesError, RuleSet
from upf.sdf import Address, FilterError, SdfFilter, parse_filter
from upf.sdf_attributes import parse_domain
from upf.units import UnitError, default_burst_bytes, parse_bit_rate, parse_burst

T = TypeVar("T")

# What a rule of names alone detects: whatever flow has one of them, in both directions.
_ANY_FLOW: Final = parse_filter("permit out ip from any to any")

_KEYS: Final = ("name", "precedence", "flows", "domains", "rate", "burst", "mode", "per_flow")


def load_rules(path: Path, *, ue: Address | None = None) -> RuleSet:
    """Read a rules file; ``ue`` is what ``assigned`` stands for in its filters (None: any address).

    Raises RulesError, with every problem found as "file: rule 'x': key 'rate': found …, expected …".
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RulesError([f"{path}: not a rules file: it is not UTF-8 text"]) from None
    except OSError as error:
        raise RulesError([f"{path}: cannot read the rules file: {error.strerror}"]) from None
    return parse_rules(text, source=str(path), ue=ue)


def parse_rules(text: str, *, source: str, ue: Address | None = None) -> RuleSet:
    """Read the text of a rules file; ``source`` names it in errors. See `load_rules`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RulesError([f"{source}: not TOML: {error}"]) from None
    problems = [f"{source}: key {key!r}: unknown, expected 'rule'" for key in document if key != "rule"]
    tables = document.get("rule")
    if tables is None:
        problems.append(f"{source}: key 'rule': missing, expected one [[rule]] or more")
        tables = []
    elif not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        problems.append(f"{source}: key 'rule': found {_describe(tables)}, expected one [[rule]] or more")
        tables = []
    rules: list[Rule] = []
    warnings: list[str] = []
    first_of_name: dict[str, int] = {}
    for position, table in enumerate(tables, start=1):
        reader = _Reader(source, position, table, ue)
        rule = reader.read()
        problems += reader.problems
        warnings += reader.warnings
        name = table.get("name")
        if isinstance(name, str) and first_of_name.setdefault(name, position) != position:
            problems.append(
                f"{source}: rule {name!r}: key 'name': found {name!r} in rules {first_of_name[name]} and {position}, "
                "expected a name of its own"
            )
        if rule is not None:
            rules.append(rule)
    if problems:
        raise RulesError(problems)
    return RuleSet(tuple(rules), tuple(warnings))


def rule_from_options(
    *,
    flows: Sequence[str],
    domains: Sequence[str] = (),
    rate: str | None = None,
    burst: str | None = None,
    mode: str | None = None,
    per_flow: bool = False,
    ue: str | None = None,
    name: str = "rule",
) -> RuleSet:
    """The one rule of ``--flow``, ``--domain``, ``--rate``, ``--burst``, ``--mode``, ``--per-flow`` and ``--ue``.

    Raises RulesError that names the option, the value and what was expected.
    """
    if not flows and not domains:
        raise RulesError(["option '--flow': missing, expected a filter such as 'permit out ip from any to assigned'"])
    problems: list[str] = []
    assigned = None
    if ue is not None:
        try:
            assigned = parse_ue(ue)
        except UnitError as error:
            problems.append(f"option '--ue': {error.detail}")
    given_flows = {"flows": list(flows) or None, "domains": list(domains) or None}
    options = {"name": name, **given_flows, "rate": rate, "burst": burst, "mode": mode, "per_flow": per_flow}
    given = {key: value for key, value in options.items() if value is not None}
    reader = _OptionReader("", 1, given, assigned)
    rule = reader.read()
    problems += reader.problems
    if problems or rule is None:
        raise RulesError(problems)
    return RuleSet((rule,), tuple(reader.warnings))


def parse_ue(text: str) -> Address:
    """Read the UE's address. Raises UnitError."""
    try:
        return ip_address(text)
    except ValueError:
        raise UnitError("UE address", text, "an IPv4 or IPv6 address, such as '10.45.0.2'") from None


class _Reader:
    """Reads one rule, and gathers what is wrong with it."""

    def __init__(self, source: str, position: int, table: Mapping[str, object], ue: Address | None) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self._source = source
        self._table = table
        self._ue = ue
        name = table.get("name")
        self._label = repr(name) if isinstance(name, str) and name else str(position)

    def _key(self, key: str) -> str:
        """A key as the author of the rule knows it."""
        return f"key {key!r}"

    def _at(self, key: str) -> str:
        """How a problem's line begins."""
        return f"{self._source}: rule {self._label}: {self._key(key)}"

    def read(self) -> Rule | None:
        """The rule; None if there are problems."""
        for key in self._table:
            if key not in _KEYS:
                self.problems.append(f"{self._at(key)}: unknown, expected one of {', '.join(_KEYS)}")
        name = self._typed("name", str, "a string", required=True)
        if name == "":
            self._wrong("name", name, "a name")
        precedence = self._typed("precedence", int, f"an integer 0 to {MAX_PRECEDENCE}")
        if precedence is not None and not 0 <= precedence <= MAX_PRECEDENCE:
            self._wrong("precedence", precedence, f"an integer 0 to {MAX_PRECEDENCE}")
        filters = self._filters()
        policer = self._policer()
        mode = self._mode()
        per_flow = self._typed("per_flow", bool, "true or false")
        if self.problems or name is None:
            return None
        return Rule(
            name=name,
            precedence=DEFAULT_PRECEDENCE if precedence is None else precedence,
            filters=filters,
            policer=policer,
            mode=mode,
            per_flow=bool(per_flow),
        )

    def _filters(self) -> tuple[SdfFilter, ...]:
        domains = self._domains()
        if "domains" in self._table and "flows" not in self._table:
            return tuple(replace(_ANY_FLOW, domain=domain) for domain in domains)
        filters = self._flows()
        for number, sdf_filter in enumerate(filters, start=1):
            if domains and sdf_filter.domain:
                key = "flows" if len(filters) == 1 else f"flows[{number}]"
                self._wrong(key, sdf_filter.domain, f"no domain in a filter beside {self._key('domains')}")
        if not domains:
            return filters
        return tuple(replace(sdf_filter, domain=domain) for sdf_filter in filters for domain in domains)

    def _domains(self) -> tuple[str, ...]:
        """The names that the rule's flows must have; none: any."""
        expected = "a list of one name or more"
        domains = self._typed("domains", list, expected)
        if domains is None:
            return ()
        if not domains:
            self._wrong("domains", domains, expected)
        names = []
        for number, domain in enumerate(domains, start=1):
            key = "domains" if len(domains) == 1 else f"domains[{number}]"
            if not isinstance(domain, str):
                self._wrong(key, domain, "a domain name, such as 'example.com' or '*.example.com'")
                continue
            try:
                names.append(parse_domain(domain))
            except UpfError as error:
                self.problems.append(f"{self._at(key)}: found {error}")
        return tuple(dict.fromkeys(names))

    def _flows(self) -> tuple[SdfFilter, ...]:
        flows = self._typed("flows", list, "a list of one filter or more", required=True)
        if flows is None:
            return ()
        if not flows:
            self._wrong("flows", flows, "a list of one filter or more")
        filters = []
        for number, flow in enumerate(flows, start=1):
            key = "flows" if len(flows) == 1 else f"flows[{number}]"
            if not isinstance(flow, str):
                self._wrong(key, flow, "a filter such as 'permit out 17 from any 443 to assigned'")
                continue
            try:
                filters.append(parse_filter(flow, assigned=self._ue))
            except FilterError as error:
                self.problems.append(f"{self._at(key)}: found {flow!r}: {error}")
        return tuple(filters)

    def _policer(self) -> Policer | None:
        rate_text = self._typed("rate", str, "a string such as '5 Mbps'")
        burst_text = self._typed("burst", str, "a string such as '125000 B' or '50 ms'")
        if rate_text is None:
            if burst_text is not None and "rate" not in self._table:
                self._wrong("burst", burst_text, f"{self._key('rate')} beside it")
            return None
        rate_bps = self._read("rate", lambda: parse_bit_rate(rate_text))
        if rate_bps is None:
            return None
        burst_bytes: int | None = default_burst_bytes(rate_bps)
        if burst_text is not None:
            burst_bytes = self._read("burst", lambda: parse_burst(burst_text, rate_bps))
        if burst_bytes is None:
            return None
        if burst_bytes < MTU_BYTES:
            self.warnings.append(f"{self._at('burst')}: {burst_bytes} B: packets longer than that never conform")
        return Policer(rate_bps, burst_bytes)

    def _mode(self) -> Mode:
        text = self._typed("mode", str, "'monitor' or 'police'")
        if text is None:
            return Mode.POLICE
        if text in (Mode.MONITOR, Mode.POLICE):
            return Mode(text)
        self._wrong("mode", text, "'monitor' or 'police'")
        return Mode.POLICE

    def _read(self, key: str, parse: Callable[[], int]) -> int | None:
        try:
            return parse()
        except UnitError as error:
            self.problems.append(f"{self._at(key)}: {error.detail}")
            return None

    def _typed(self, key: str, kind: type[T], expected: str, *, required: bool = False) -> T | None:
        if key not in self._table:
            if required:
                self.problems.append(f"{self._at(key)}: missing, expected {expected}")
            return None
        value = self._table[key]
        # To Python true is an integer; to a reader of the file it is not.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self._wrong(key, value, expected)
            return None
        return value

    def _wrong(self, key: str, found: object, expected: str) -> None:
        self.problems.append(f"{self._at(key)}: found {_describe(found)}, expected {expected}")


class _OptionReader(_Reader):
    """Reads the rule of the command line, where a key is an option."""

    _OPTIONS: Final = {"flows": "--flow", "domains": "--domain", "per_flow": "--per-flow"}

    def _key(self, key: str) -> str:
        base, _, index = key.rstrip("]").partition("[")
        option = f"option '{self._OPTIONS.get(base, '--' + base)}'"
        return f"{option} ({index})" if index else option

    def _at(self, key: str) -> str:
        return self._key(key)


def _describe(value: object) -> str:
    """A value of the file as its reader knows it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    return repr(value)
