"""Rules as text: the rules file (TOML), and the options that stand for one rule.

A rules file::

    [[rule]]
    name = "video"                                                  # required, unique
    flows = ["permit out 17 from 198.51.100.0/24 443 to assigned"]  # one or more filters; required without domains
    domains = ["*.video.example.com"]       # names, one of which a flow of these filters must have
    precedence = 10                         # lower first; default 100; equal: as they stand
    rate = "5 Mbps"                         # absent: counted, not policed
    burst = "50 ms"                         # default: 100 ms at the rate, 15,000 B or more
    mode = "police"                         # or "monitor", "mark", "shape"; default "police", as a QER does
    per_flow = false                        # true: a bucket for every 5-tuple
    direction = "both"                      # or "down", "up": see `upf.directions`
    gate = "open"                           # or "closed": everything is dropped
    aggregates = ["session"]                # charged together with the rule's own bucket or not at all

    [[aggregate]]
    name = "session"
    rate = "20 Mbps"
    burst = "50 ms"

    [[session]]                             # on N3 (castcore tun --n3): whose packets come in which tunnel
    ue = "10.45.0.2"                        # or its IPv6 prefix, or a list of both
    teid = 7                                # of the uplink, at this end
    gnb = "192.0.2.7"                       # where the downlink goes, with a port if it is not 2152
    gnb_teid = 4097
    qfi = 9                                 # absent: the downlink bears none

Markers of three colours have ``marker`` ("rfc2697", "rfc2698", "rfc4115"), ``excess_rate``, ``excess_burst`` and
``colour_aware``; ``gbr`` beside ``rate`` is the guaranteed rate of a QoS flow. Mode mark has ``dscp`` by colour, mode
shape ``queue``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from upf.errors import UpfError
from upf.policing_keys import POLICING_KEYS, AggregateReader, PolicingReader
from upf.rule_keys import describe
from upf.rules import DEFAULT_PRECEDENCE, MAX_PRECEDENCE, Aggregate, FlowDirection, Rule, RulesError, RuleSet
from upf.sdf import Address, FilterError, SdfFilter, parse_filter
from upf.sdf_attributes import parse_domain
from upf.session_keys import SessionReader
from upf.tunnels import Tunnel, TunnelBook
from upf.units import DEFAULT_BURST_MS, UnitError

# What a rule of names alone detects: whatever flow has one of them, in both directions.
_ANY_FLOW: Final = parse_filter("permit out ip from any to any")

_TABLES: Final = ("rule", "aggregate", "session")
_KEYS: Final = ("name", "precedence", "flows", "domains", "direction", *POLICING_KEYS)


def load_rules(path: Path, *, ue: Address | None = None, burst_ms: int = DEFAULT_BURST_MS) -> RuleSet:
    """Read a rules file; ``ue`` is what ``assigned`` stands for in its filters (None: any address).

    burst_ms: the depth of buckets for which none is given, as time at their rate.

    Raises RulesError, with every problem found as "file: rule 'x': key 'rate': found …, expected …".
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RulesError([f"{path}: not a rules file: it is not UTF-8 text"]) from None
    except OSError as error:
        raise RulesError([f"{path}: cannot read the rules file: {error.strerror}"]) from None
    return parse_rules(text, source=str(path), ue=ue, burst_ms=burst_ms)


def parse_rules(text: str, *, source: str, ue: Address | None = None, burst_ms: int = DEFAULT_BURST_MS) -> RuleSet:
    """Read the text of a rules file; ``source`` names it in errors. See `load_rules`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RulesError([f"{source}: not TOML: {error}"]) from None
    problems = [
        f"{source}: key {key!r}: unknown, expected 'rule', 'aggregate' or 'session'"
        for key in document
        if key not in _TABLES
    ]
    warnings: list[str] = []
    aggregates: dict[str, Aggregate | None] = {}
    for position, table in enumerate(_tables(document, "aggregate", source, problems), start=1):
        above = AggregateReader(source, "aggregate", position, table, burst_ms=burst_ms)
        aggregate = above.read()
        problems += above.problems
        warnings += above.warnings
        name = table.get("name")
        if isinstance(name, str) and name in aggregates:
            problems.append(f"{source}: aggregate {name!r}: key 'name': found {name!r}, expected a name of its own")
        if isinstance(name, str):
            aggregates[name] = aggregate
    rules: list[Rule] = []
    first_of_name: dict[str, int] = {}
    for position, table in enumerate(_tables(document, "rule", source, problems), start=1):
        reader = _Reader(source, position, table, ue, aggregates, burst_ms=burst_ms)
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
    tunnels = _sessions(document, source, problems)
    if problems:
        raise RulesError(problems)
    return RuleSet(tuple(rules), tuple(warnings), tuple(tunnels))


def _sessions(document: Mapping[str, object], source: str, problems: list[str]) -> list[Tunnel]:
    """The tunnels of the sessions, no two of which have anything in common."""
    book = TunnelBook()
    names: set[str] = set()
    for position, table in enumerate(_tables(document, "session", source, problems), start=1):
        reader = SessionReader(source, position, table)
        tunnel = reader.read()
        problems += reader.problems
        if tunnel is None:
            continue
        if tunnel.name in names:
            problems.append(
                f"{source}: session {tunnel.name}: key 'name': found a second time, expected one of its own"
            )
            continue
        names.add(tunnel.name)
        try:
            book.change([tunnel])
        except UpfError as error:
            problems.append(f"{source}: {error}")
    return list(book)


def _tables(
    document: Mapping[str, object], kind: str, source: str, problems: list[str]
) -> Sequence[Mapping[str, object]]:
    """The tables of a kind; a problem where there are none but must be."""
    tables = document.get(kind)
    if tables is None:
        if kind == "rule" and "session" not in document:
            problems.append(f"{source}: key 'rule': missing, expected one [[rule]] or more")
        return []
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        problems.append(f"{source}: key {kind!r}: found {describe(tables)}, expected one [[{kind}]] or more")
        return []
    return tables


def rule_from_options(
    *,
    flows: Sequence[str],
    domains: Sequence[str] = (),
    rate: str | None = None,
    burst: str | None = None,
    mode: str | None = None,
    per_flow: bool = False,
    dscp: Sequence[str] = (),
    queue: str | None = None,
    direction: str | None = None,
    ue: str | None = None,
    name: str = "rule",
    burst_ms: int = DEFAULT_BURST_MS,
) -> RuleSet:
    """The one rule of the command line's options: ``--flow``, ``--rate`` and so on.

    dscp: texts such as ``red=CS1``. burst_ms: as with `load_rules`.

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
    given_flows: dict[str, object] = {"flows": list(flows) or None, "domains": list(domains) or None}
    options: dict[str, object] = {
        "name": name,
        **given_flows,
        "rate": rate,
        "burst": burst,
        "mode": mode,
        "per_flow": per_flow,
    }
    options |= {"queue": queue, "direction": direction, "dscp": _code_points(dscp, problems)}
    given = {key: value for key, value in options.items() if value is not None}
    reader = _OptionReader("", 1, given, assigned, {}, burst_ms=burst_ms)
    rule = reader.read()
    problems += reader.problems
    if problems or rule is None:
        raise RulesError(problems)
    return RuleSet((rule,), tuple(reader.warnings))


def _code_points(texts: Sequence[str], problems: list[str]) -> dict[str, str] | None:
    pairs = [pair for text in texts for pair in text.split(",")]
    found = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    for pair in pairs:
        if "=" not in pair:
            problems.append(f"option '--dscp': found {pair!r}, expected a colour and a DSCP, such as 'red=CS1'")
    return found or None


def parse_ue(text: str) -> Address:
    """Read the UE's address. Raises UnitError."""
    try:
        return ip_address(text)
    except ValueError:
        raise UnitError("UE address", text, "an IPv4 or IPv6 address, such as '10.45.0.2'") from None


class _Reader(PolicingReader):
    """Reads one rule."""

    def __init__(
        self,
        source: str,
        position: int,
        table: Mapping[str, object],
        ue: Address | None,
        aggregates: Mapping[str, Aggregate | None],
        *,
        burst_ms: int,
    ) -> None:
        super().__init__(source, "rule", position, table, burst_ms=burst_ms)
        self._ue = ue
        self._known_aggregates = aggregates

    def read(self) -> Rule | None:
        """The rule; None if there are problems."""
        self._check_keys(_KEYS)
        name = self._name()
        precedence = self._typed("precedence", int, f"an integer 0 to {MAX_PRECEDENCE}")
        if precedence is not None and not 0 <= precedence <= MAX_PRECEDENCE:
            self._wrong("precedence", precedence, f"an integer 0 to {MAX_PRECEDENCE}")
        filters = self._filters()
        direction = FlowDirection(self._choice("direction", list(FlowDirection), FlowDirection.BOTH))
        mode = self._mode()
        policer = self._policer(mode)
        per_flow = self._typed("per_flow", bool, "true or false")
        gate_open = self._gate_open()
        dscp = self._dscp(mode)
        queue_bytes, queue_ns = self._queue(mode, policer)
        aggregates = self._aggregates(self._known_aggregates)
        if self.problems or name is None:
            return None
        return Rule(
            name=name,
            precedence=DEFAULT_PRECEDENCE if precedence is None else precedence,
            filters=filters,
            policer=policer,
            mode=mode,
            per_flow=bool(per_flow),
            aggregates=aggregates,
            gate_open=gate_open,
            dscp=dscp,
            queue_bytes=queue_bytes,
            queue_ns=queue_ns,
            direction=direction,
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


class _OptionReader(_Reader):
    """Reads the rule of the command line, where a key is an option."""

    _OPTIONS: Final = {"flows": "--flow", "domains": "--domain", "per_flow": "--per-flow"}

    def _key(self, key: str) -> str:
        base, _, index = key.rstrip("]").partition("[")
        base, _, part = base.partition(".")
        option = f"option '{self._OPTIONS.get(base, '--' + base)}'"
        return f"{option} ({index or part})" if index or part else option

    def _at(self, key: str) -> str:
        return self._key(key)
