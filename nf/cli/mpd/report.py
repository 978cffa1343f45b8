"""An MPD as it is told: representations, combinations, which of them comply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from nf.client.dash.combinations import (
    Bounds,
    Combination,
    DescriptorFilter,
    adaptation_sets,
    bounds_of,
    combinations,
)
from nf.common.dash.mpd import Period, Presentation, Representation
from nf.common.dash.segments import segments
from nf.common.dash.service_descriptions import OperatingBandwidth, ServiceDescription
from upf.units import format_bit_rate

_MOST_SEGMENTS = 100_000


def to_json(presentation: Presentation, thresholds_bps: Sequence[int]) -> dict[str, object]:
    """What ``castcore mpd show --json`` promises."""
    columns = _columns(presentation, thresholds_bps)
    return {
        "type": "dynamic" if presentation.dynamic else "static",
        "duration_s": None if presentation.end_s is None else float(presentation.end_s),
        "service_descriptions": [_description(each) for each in presentation.service_descriptions],
        "periods": [_period(each, columns) for each in presentation.periods],
    }


def _columns(presentation: Presentation, thresholds_bps: Sequence[int]) -> dict[str, Bounds]:
    """What compliance is shown with: the thresholds, then the descriptions of the MPD, by name."""
    columns = {format_bit_rate(rate): Bounds(rate) for rate in thresholds_bps}
    for each in presentation.service_descriptions:
        if each.operating_bandwidths:
            alone = bounds_of([each], DescriptorFilter(each.id), scopes={s.scheme_id_uri for s in each.scopes})
            columns[f"id {each.id}"] = alone
    return columns


def _description(description: ServiceDescription) -> dict[str, object]:
    return {
        "id": description.id,
        "scopes": [each.scheme_id_uri for each in description.scopes],
        "latency_target_ms": next((each.target_ms for each in description.latencies), None),
        "operating_bandwidths": [
            {
                "media_type": each.media_type,
                "min_bps": each.min_bps,
                "max_bps": each.max_bps,
                "target_bps": each.target_bps,
            }
            for each in description.operating_bandwidths
        ],
        "operating_qualities": [
            {"media_type": each.media_type, "min": each.min, "max": each.max, "target": each.target}
            for each in description.operating_qualities
        ],
    }


def _period(period: Period, columns: Mapping[str, Bounds]) -> dict[str, object]:
    return {
        "id": period.id,
        "start_s": float(period.start_s),
        "duration_s": None if period.duration_s is None else float(period.duration_s),
        "representations": [
            _representation(period, each, adaptation_set.id)
            for adaptation_set in period.adaptation_sets
            for each in adaptation_set.representations
        ],
        "combinations": [
            {
                "representations": list(each.ids),
                "bandwidth_bps": each.bandwidth_bps,
                "complies": {name: bounds.admit(each) for name, bounds in columns.items()},
            }
            for each in combinations(adaptation_sets(period))
        ],
    }


def _representation(period: Period, representation: Representation, set_id: str) -> dict[str, object]:
    return {
        "id": representation.id,
        "adaptation_set": set_id,
        "media_type": representation.media_type,
        "mime_type": representation.mime_type,
        "codecs": representation.codecs,
        "width": representation.width,
        "height": representation.height,
        "bandwidth_bps": representation.bandwidth_bps,
        "segments": _count(period, representation),
    }


def _count(period: Period, representation: Representation) -> int | None:
    """How many segments there are; None: without end, or more than are worth counting."""
    counted = sum(1 for _ in islice(segments(period, representation), _MOST_SEGMENTS + 1))
    return counted if counted <= _MOST_SEGMENTS else None


def to_text(presentation: Presentation, thresholds_bps: Sequence[int]) -> str:
    """The same for eyes."""
    from rich.console import Console
    from rich.table import Table

    columns = _columns(presentation, thresholds_bps)
    console = Console(highlight=False)
    with console.capture() as told:
        for description in presentation.service_descriptions:
            console.print(_line(description), soft_wrap=True)
        for period in presentation.periods:
            length = "open-ended" if period.duration_s is None else f"{float(period.duration_s):g} s"
            console.print(f"Period {period.id} from {float(period.start_s):g} s, {length}".replace("  ", " "))
            table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
            for heading in ("representation", "medium", "codecs", "size", "bandwidth", "segments"):
                table.add_column(heading, justify="right" if heading in ("bandwidth", "segments") else "left")
            for adaptation_set in period.adaptation_sets:
                for each in adaptation_set.representations:
                    counted = _count(period, each)
                    table.add_row(
                        each.id,
                        each.media_type,
                        each.codecs,
                        f"{each.width}x{each.height}" if each.width and each.height else "",
                        format_bit_rate(each.bandwidth_bps) if each.bandwidth_bps else "0 bps",
                        "" if counted is None else str(counted),
                    )
            console.print(table)
            console.print()
            console.print(_combinations_table(combinations(adaptation_sets(period)), columns))
    return told.get().rstrip("\n")


def _combinations_table(made: Sequence[Combination], columns: Mapping[str, Bounds]) -> object:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("combination")
    table.add_column("bandwidth", justify="right")
    for name in columns:
        table.add_column(name)
    for each in made:
        rate = format_bit_rate(each.bandwidth_bps) if each.bandwidth_bps else "0 bps"
        verdicts = ["complies" if bounds.admit(each) else "-" for bounds in columns.values()]
        table.add_row(" + ".join(each.ids), rate, *verdicts)
    return table


def _line(description: ServiceDescription) -> str:
    parts = [_bandwidth(each) for each in description.operating_bandwidths]
    parts += [f"for {each.scheme_id_uri}" for each in description.scopes]
    return f"ServiceDescription {description.id}: {', '.join(parts) or 'no bandwidth'}"


def _bandwidth(bandwidth: OperatingBandwidth) -> str:
    bounds = (("at least", bandwidth.min_bps), ("at most", bandwidth.max_bps), ("target", bandwidth.target_bps))
    told = [f"{word} {format_bit_rate(value)}" for word, value in bounds if value]
    return f"{bandwidth.media_type} {', '.join(told)}"
