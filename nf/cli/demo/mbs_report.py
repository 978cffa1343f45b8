"""The story of the MBS demo as it is told at its end: a table, or one JSON object."""

from __future__ import annotations

from nf.cli.demo.mbs import Story
from nf.client.mbs.reception_report import HowReceived


def to_json(story: Story) -> dict[str, object]:
    """What ``castcore demo mbs --json`` promises."""
    return {
        "identical": story.identical,
        "tmgi": story.tmgi,
        "flow": story.flow,
        "states": story.states,
        "events": [
            {
                "at_s": round(each.at_s, 3),
                "told_by": each.told_by,
                "source": each.source,
                "path": each.path,
                "type": each.type,
                "state": each.state,
                "detail": each.detail,
            }
            for each in story.happenings
        ],
        "objects": [
            {"path": str(each.path), "bytes": each.size_bytes, "identical": story.received.get(each.path, False)}
            for each in story.terms.pieces
        ],
        "reception": story.reception.as_json() if story.reception is not None else {},
        "elapsed_s": round(story.elapsed_s, 3),
    }


def to_text(story: Story) -> str:
    """The same for eyes."""
    lines = ["", f"states      {' → '.join(['INACTIVE', *story.states])}, then no longer provisioned"]
    report = story.reception
    if report is not None:
        restored = f" ({report.symbols_restored:,} symbols by FEC)" if report.symbols_restored else ""
        lines.append(
            f"received    {report.count(HowReceived.MULTICAST)} objects in {report.packets:,} packets{restored}"
            f", {report.count(HowReceived.REPAIRED)} after repair"
        )
    pieces = story.terms.pieces
    same = sum(story.received.get(each.path, False) for each in pieces)
    lines.append(f"compared    {same} of {len(pieces)} objects are byte-identical")
    return "\n".join(lines)
