"""The story of the booking demo as it is told at its end: tables, or one JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nf.cli.demo.booking_network import Installed
from nf.cli.demo.booking_story import CAR, Measurement, Story
from nf.cli.figures import rate
from nf.netapi.v1.booking_pb2 import NetworkAccessId
from nf.netapi.v1.coverage_pb2 import Capability

# Whose measurements are shown one by one.
_DRIVER: Final = CAR.name


def to_json(story: Story) -> dict[str, object]:
    """What ``castcore demo booking --json`` promises."""
    return {
        "booking_id": story.booking_id,
        "network_access_ids": _names(story.network_access_ids),
        "network_access_ids_after_reconfiguration": _names(story.network_access_ids_after),
        "network_access": [_id_json(each) for each in story.network_access_ids_after],
        "events": [
            {
                "state": each.state,
                "previous_state": each.previous_state,
                "type": each.type,
                "subject": each.subject,
                "sequence": each.sequence,
                "device": each.device,
                "network_access_id": each.network_access_id,
                "detail": each.detail,
                "at_s": each.at_s,
            }
            for each in story.happenings
        ],
        "measurements": [
            {
                "inside": each.inside,
                "device": each.device,
                "stretch": each.stretch,
                "what": each.what,
                "offered_bps": each.offered_bps,
                "expected_bps": each.expected_bps,
                "passed_bps": each.passed_bps,
                "tolerance_bps": each.tolerance_bps,
            }
            for each in story.measurements
        ],
        "listening": [
            {
                "inside": each.inside,
                "device": each.device,
                "stretch": each.stretch,
                "editions": each.programme.editions,
                "segments": each.programme.segments,
                "interruptions": each.programme.interruptions,
                "silent_s": each.programme.silent_ns / 10**9,
            }
            for each in story.listening
        ],
        "locations": [
            {
                "device": each.device,
                "area_id": each.area_id,
                "verified": each.result,
                "latitude": each.latitude,
                "longitude": each.longitude,
            }
            for each in story.verified
        ],
        "refusal": None if story.refusal is None else {"reason": story.refusal.reason, "detail": str(story.refusal)},
        "segments_while_reconfigured": story.segments_while_reconfigured,
        "usage": [
            {
                "network_access_id": each.network_access_id,
                "devices": each.devices,
                "devices_in_use": each.devices_in_use,
                "booked_devices": each.booked_devices,
                "passed_bytes": each.usage.downlink.conforming.bytes + each.usage.downlink.exceeding.bytes,
                "dropped_bytes": each.usage.downlink.dropped.bytes,
            }
            for each in story.usages
        ],
        "usage_records": [
            {
                "network_access_id": each.network_access_id,
                "area_id": each.area_id,
                "profile_id": each.profile_id,
                "devices": each.devices,
                "peak_devices": each.peak_devices,
                "passed_bytes": each.usage.downlink.conforming.bytes + each.usage.downlink.exceeding.bytes,
                "counted_bytes": story.passed_bytes.get(each.network_access_id, 0),
                "dropped_bytes": each.usage.downlink.dropped.bytes,
                "used_ms": each.used_ms,
                "final": each.final,
            }
            for each in story.records
        ],
        "installed": {"before": _installed(story.before), "during": _installed(story.during)}
        | {"after": _installed(story.after)},
        "problems": story.problems,
        "elapsed_s": round(story.elapsed_s, 3),
    }


def to_text(story: Story) -> str:
    """The same for eyes."""
    from nf.cli.resources.tables import console

    # Printed by the caller: a console that finds its pipe broken would end the process from within the event loop.
    shown = console()
    with shown.capture() as table:
        shown.print(_table([each for each in story.measurements if each.device == _DRIVER or not each.as_expected]))
    others = sum(each.device != _DRIVER and each.as_expected for each in story.measurements)
    same = _names(story.network_access_ids) == _names(story.network_access_ids_after)
    inside = sum(each.programme.interruptions for each in story.listening if each.inside)
    outside = sum(each.programme.interruptions for each in story.listening if not each.inside)
    records = [
        f"used        {each.area_id}, {each.profile_id}: {each.devices} devices, "
        f"{each.usage.downlink.conforming.bytes + each.usage.downlink.exceeding.bytes:,} bytes passed, "
        f"{each.usage.downlink.dropped.bytes:,} dropped"
        for each in story.records
    ]
    drawn = "\n".join(line.rstrip() for line in table.get().rstrip().splitlines())
    return "\n".join(
        [
            "",
            drawn,
            f"and {others} more of those who stay, as expected",
            "",
            f"IDs         {'the same' if same else 'OTHERS'} after the reconfiguration, during which"
            f" {story.segments_while_reconfigured} segments were played",
            f"audio       {inside} interruptions inside what is booked, {outside} outside",
            *records,
            f"left over   {_left(story)}",
            *(f"PROBLEM     {each}" for each in story.problems),
        ]
    )


def _table(measurements: Sequence[Measurement]) -> object:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in ("who", "where", "booked", "what"):
        table.add_column(head, overflow="fold")
    for head in ("offered", "expected", "passed"):
        table.add_column(head, justify="right")
    for each in measurements:
        table.add_row(
            each.device,
            each.stretch,
            "yes" if each.inside else "no",
            each.what,
            *(rate(value) for value in (each.offered_bps, each.expected_bps, each.passed_bps)),
            style="" if each.as_expected else "bold red",
        )
    return table


def _names(network_access_ids: Sequence[NetworkAccessId]) -> list[str]:
    return sorted(each.network_access_id for each in network_access_ids)


def _id_json(each: NetworkAccessId) -> dict[str, object]:
    return {
        "network_access_id": each.network_access_id,
        "area_id": each.area_id,
        "profile_id": each.profile_id,
        "capability": Capability.Name(each.capability).removeprefix("CAPABILITY_"),
        "devices": each.devices,
    }


def _installed(installed: Installed) -> dict[str, int]:
    return installed._asdict()


def _left(story: Story) -> str:
    if story.after == story.before:
        return "nothing at the PCF, the SMF and the UPF"
    return f"{story.after}, before it was {story.before}"
