"""The keys of a rules file that say how a rule is policed: rates, markers, gate, marking, queue, aggregates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from upf.dscp import EXPECTED_DSCP, dscp_of
from upf.rule_keys import TableReader
from upf.rules import MAX_AGGREGATES, Aggregate, Colour, Marker, Mode, Policer
from upf.units import UnitError, default_queue_bytes, format_bit_rate, parse_queue

POLICING_KEYS: Final = (
    "rate", "burst", "mode", "per_flow", "marker", "excess_rate", "excess_burst", "colour_aware", "gbr", "gate", "dscp",
    "queue", "aggregates",
)  # fmt: skip
_AGGREGATE_KEYS: Final = ("name", "rate", "burst")
_NEVER: Final = {Colour.GREEN: "are never green", Colour.YELLOW: "are never yellow", Colour.RED: "never conform"}


class AggregateReader(TableReader):
    """Reads one [[aggregate]]."""

    def read(self) -> Aggregate | None:
        """The aggregate; None if there are problems."""
        self._check_keys(_AGGREGATE_KEYS)
        name = self._name()
        if "rate" not in self._table:
            self.problems.append(f"{self._at('rate')}: missing, expected a string such as '5 Mbps'")
        rate_bps = self._rate("rate")
        burst_bytes = None if rate_bps is None else self._burst("burst", rate_bps, _NEVER[Colour.RED])
        if self.problems or name is None or rate_bps is None or burst_bytes is None:
            return None
        return Aggregate(name, Policer(rate_bps, burst_bytes))


class PolicingReader(TableReader):
    """Reads the policing keys of a rule."""

    def _mode(self) -> Mode:
        return Mode(self._choice("mode", list(Mode), Mode.POLICE))

    def _gate_open(self) -> bool:
        return self._choice("gate", ["open", "closed"], "open") == "open"

    def _policer(self, mode: Mode) -> Policer | None:
        """The policer; None where there is none, or something is wrong with it."""
        marker = Marker(self._choice("marker", list(Marker), Marker.TOKEN_BUCKET))
        colour_aware = bool(self._typed("colour_aware", bool, "true or false"))
        if "rate" not in self._table:
            for key in ("burst", "marker", "excess_rate", "excess_burst", "colour_aware", "gbr"):
                if key in self._table:
                    self._wrong(key, self._table[key], f"{self._key('rate')} beside it")
            if mode is Mode.SHAPE:
                self._wrong("mode", mode.value, f"{self._key('rate')} beside it")
            return None
        rate_bps = self._rate("rate")
        if mode is Mode.SHAPE and marker is not Marker.TOKEN_BUCKET:
            self._wrong("marker", marker.value, f"'{Marker.TOKEN_BUCKET}' with {self._key('mode')} '{mode}'")
        if mode is Mode.SHAPE and colour_aware:
            self._wrong("colour_aware", colour_aware, f"false with {self._key('mode')} '{mode}'")
        if "gbr" in self._table:
            return self._guaranteed(rate_bps, mode, colour_aware=colour_aware)
        excess_rate_bps = self._excess_rate(rate_bps, marker)
        if rate_bps is None or excess_rate_bps is None:
            return None
        fate = _NEVER[Colour.RED if marker is Marker.TOKEN_BUCKET else Colour.GREEN]
        burst_bytes = self._burst("burst", rate_bps, fate)
        excess_burst_bytes = self._excess_burst(excess_rate_bps or rate_bps, marker)
        if burst_bytes is None or excess_burst_bytes is None or self.problems:
            return None
        return Policer(rate_bps, burst_bytes, marker, excess_rate_bps, excess_burst_bytes, colour_aware)

    def _excess_rate(self, rate_bps: int | None, marker: Marker) -> int | None:
        """The excess rate, 0 where the marker has none; None where it cannot be used."""
        if marker not in (Marker.TRTCM, Marker.DIFFSERV_TRTCM):
            if "excess_rate" in self._table:
                self._wrong(
                    "excess_rate",
                    self._table["excess_rate"],
                    f"{self._key('marker')} '{Marker.TRTCM}' or '{Marker.DIFFSERV_TRTCM}' beside it",
                )
            return 0
        if "excess_rate" not in self._table:
            what = "peak" if marker is Marker.TRTCM else "excess"
            self.problems.append(f"{self._at('excess_rate')}: missing, expected the {what} rate of '{marker}'")
            return None
        excess_rate_bps = self._rate("excess_rate")
        if excess_rate_bps is None or rate_bps is None:
            return None
        if marker is Marker.TRTCM and excess_rate_bps < rate_bps:
            self._wrong(
                "excess_rate", self._table["excess_rate"], f"at least the rate, {format_bit_rate(rate_bps)}: the peak"
            )
            return None
        return excess_rate_bps

    def _excess_burst(self, rate_bps: int, marker: Marker) -> int | None:
        if marker is not Marker.TOKEN_BUCKET:
            return self._burst(
                "excess_burst", rate_bps, _NEVER[Colour.RED if marker is Marker.TRTCM else Colour.YELLOW]
            )
        if "excess_burst" in self._table:
            self._wrong(
                "excess_burst", self._table["excess_burst"], f"{self._key('marker')} of three colours beside it"
            )
        return 0

    def _guaranteed(self, rate_bps: int | None, mode: Mode, *, colour_aware: bool) -> Policer | None:
        """Guaranteed and maximum bit rate of a QoS flow (TS 23.501 §5.7.2): CIR and PIR of RFC 2698."""
        if mode is Mode.SHAPE:
            self._wrong("gbr", self._table["gbr"], f"none with {self._key('mode')} '{mode}'")
        for key in ("marker", "excess_rate", "excess_burst"):
            if key in self._table:
                self._wrong(key, self._table[key], f"none beside {self._key('gbr')}")
        gbr_bps = self._rate("gbr")
        if gbr_bps is None or rate_bps is None:
            return None
        if gbr_bps > rate_bps:
            self._wrong("gbr", self._table["gbr"], f"at most the rate, {format_bit_rate(rate_bps)}")
            return None
        warnings = len(self.warnings)
        maximum_bytes = self._burst("burst", rate_bps, _NEVER[Colour.RED])
        if maximum_bytes is None:
            return None
        guaranteed_bytes = self._burst("burst", gbr_bps, _NEVER[Colour.GREEN])
        # One key, one warning: that of the deeper bucket, where both are shallow.
        del self.warnings[warnings + 1 :]
        if guaranteed_bytes is None or self.problems:
            return None
        return Policer(gbr_bps, guaranteed_bytes, Marker.TRTCM, rate_bps, maximum_bytes, colour_aware)

    def _dscp(self, mode: Mode) -> tuple[int | None, int | None, int | None]:
        expected = "a table such as {red = 'CS1'}, of green, yellow and red"
        table = self._typed("dscp", dict, expected)
        if mode is Mode.MARK and "dscp" not in self._table:
            self._wrong("mode", mode.value, f"{self._key('dscp')} beside it")
        if table is None:
            return None, None, None
        if mode is not Mode.MARK:
            self._wrong("dscp", table, f"{self._key('mode')} '{Mode.MARK}' beside it")
        colours = [colour.name.lower() for colour in Colour]
        for colour in table:
            if colour not in colours:
                self.problems.append(f"{self._at('dscp')}: {colour!r}: unknown, expected green, yellow or red")
        if not table:
            self._wrong("dscp", table, expected)
        green, yellow, red = (self._code_point(table, colour) for colour in colours)
        return green, yellow, red

    def _code_point(self, table: Mapping[str, object], colour: str) -> int | None:
        if colour not in table:
            return None
        dscp = dscp_of(table[colour])
        if dscp is None:
            self._wrong(f"dscp.{colour}", table[colour], EXPECTED_DSCP)
        return dscp

    def _queue(self, mode: Mode, policer: Policer | None) -> tuple[int, int]:
        """The bound of the queue in bytes, or else in nanoseconds."""
        text = self._typed("queue", str, "a string such as '100 KB' or '200 ms'")
        if mode is not Mode.SHAPE:
            if text is not None:
                self._wrong("queue", text, f"{self._key('mode')} '{Mode.SHAPE}' beside it")
            return 0, 0
        if policer is None or ("queue" in self._table and text is None):
            return 0, 0
        if text is None:
            return default_queue_bytes(policer.rate_bps), 0
        try:
            return parse_queue(text, policer.rate_bps)
        except UnitError as error:
            self.problems.append(f"{self._at('queue')}: {error.detail}")
            return 0, 0

    def _aggregates(self, known: Mapping[str, Aggregate | None]) -> tuple[Aggregate, ...]:
        """Those that the rule is charged to; ``known`` has None for those that have problems of their own."""
        expected = f"a list of names of [[aggregate]], {MAX_AGGREGATES} at most, each once"
        names = self._typed("aggregates", list, expected)
        if names is None:
            return ()
        if len(names) > MAX_AGGREGATES or any(name in names[:at] for at, name in enumerate(names)):
            self._wrong("aggregates", names, expected)
        found = []
        for number, name in enumerate(names, start=1):
            if not isinstance(name, str) or name not in known:
                key = "aggregates" if len(names) == 1 else f"aggregates[{number}]"
                what = f"one of {', '.join(map(repr, known))}" if known else "an [[aggregate]] of that name"
                self._wrong(key, name, what)
            else:
                found.append(known[name])
        return tuple(aggregate for aggregate in found if aggregate is not None)
