"""Service descriptions written into an MPD (TS 26.512 A.3.2 step 2): every other byte of it stays as it is.

A description says by OperatingBandwidth which combinations of representations keep to a bit rate (ISO/IEC 23009-1
Annex K). It goes where the schema has it: after ProgramInformation, BaseURL, Location, PatchLocation and the service
descriptions that are there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from nf.client.dash.combinations import Bounds, adaptation_sets, allowed, combinations
from nf.common.dash.errors import MpdError
from nf.common.dash.mpd import Presentation
from nf.common.dash.parsing import parse
from nf.common.errors import AlreadyExists, Internal

_BEFORE: Final = {"ProgramInformation", "BaseURL", "Location", "PatchLocation", "ServiceDescription"}
_INDENT: Final = re.compile(r"\s*")
_STEP: Final = "  "
MAX_ID: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Annotation:
    """A service description to write. ``target_bps`` is the best that complies everywhere; None: nothing does."""

    id: int
    threshold_bps: int
    target_bps: int | None
    scope: str = ""


@dataclass(frozen=True, slots=True)
class _Written:
    """A ServiceDescription that is there: where in the document."""

    id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Places:
    """Offsets in bytes: where a new description goes, and those that are there; the prefix of the MPD's names."""

    insertion: int
    written: tuple[_Written, ...]
    prefix: str
    encoding: str


def plan(
    presentation: Presentation, thresholds_bps: Sequence[int], ids: Sequence[int] = (), *, scope: str = ""
) -> tuple[Annotation, ...]:
    """A description for each threshold; those without an id get the lowest ones that are free."""
    taken = {each.id for each in presentation.service_descriptions} | {str(each) for each in ids}
    free = (number for number in range(1, MAX_ID) if str(number) not in taken)
    given = [*ids, *(next(free) for _ in thresholds_bps[len(ids) :])]
    return tuple(
        Annotation(number, threshold_bps, _best(presentation, threshold_bps), scope)
        for number, threshold_bps in zip(given, thresholds_bps, strict=True)
    )


def annotate(document: bytes, annotations: Sequence[Annotation], *, name: str = "MPD", replace: bool = False) -> bytes:
    """The document with the descriptions in it. ``replace``: those with the same id give way.

    Raises MpdError for what is no MPD, AlreadyExists for an id that is there.
    """
    before = parse(document, name=name)
    places = _find(document, name)
    taken = {each.id: each for each in places.written}
    made = bytearray(document)
    new: list[Annotation] = []
    changes: list[tuple[int, int, bytes]] = []
    for each in annotations:
        there = taken.get(str(each.id))
        if there is None:
            new.append(each)
        elif not replace:
            raise AlreadyExists(
                f"{name}: found a ServiceDescription with the id '{each.id}', expected that none has it"
            )
        else:
            line = _line_start(document, there.start, places.encoding)
            changes.append((there.start, there.end, _text(each, line, places).encode(places.encoding)))
    if new:
        space = _space_after(document, places.insertion, places.encoding)
        text = "".join(space + _text(each, space, places) for each in new)
        changes.append((places.insertion, places.insertion, text.encode(places.encoding)))
    for start, end, text_bytes in sorted(changes, reverse=True):
        made[start:end] = text_bytes
    _verify(before, bytes(made), annotations, name)
    return bytes(made)


def _best(presentation: Presentation, threshold_bps: int) -> int | None:
    """The bandwidth of the best combination that complies, the least over the periods."""
    best: int | None = None
    for period in presentation.periods:
        found = allowed(combinations(adaptation_sets(period)), Bounds(threshold_bps))
        if not found.combinations:
            continue
        if not found.compliant:
            return None
        most = found.combinations[-1].bandwidth_bps
        best = most if best is None else min(best, most)
    return best


def _verify(before: Presentation, document: bytes, annotations: Sequence[Annotation], name: str) -> None:
    """That what has been made says what it should, and nothing else has changed."""
    after = parse(document, name=name)
    said = {each.id: [bound.max_bps for bound in each.operating_bandwidths] for each in after.service_descriptions}
    if after.periods != before.periods or any(said.get(str(each.id)) != [each.threshold_bps] for each in annotations):
        raise Internal(f"{name}: the annotation has not come out as planned")


def _text(annotation: Annotation, space: str, places: _Places) -> str:
    """The element, on lines of their own where the document has such. ``space`` is the white space before it."""
    deeper = space + _STEP if "\n" in space else ""
    prefix = places.prefix
    target = "" if annotation.target_bps is None else f' target="{annotation.target_bps}"'
    parts = [f'<{prefix}ServiceDescription id="{annotation.id}">']
    if annotation.scope:
        parts.append(f"{deeper}<{prefix}Scope schemeIdUri={quoteattr(annotation.scope)}/>")
    parts.append(f'{deeper}<{prefix}OperatingBandwidth mediaType="all" max="{annotation.threshold_bps}"{target}/>')
    parts.append(f"{space if deeper else ''}</{prefix}ServiceDescription>")
    return "".join(parts)


def _find(document: bytes, name: str) -> _Places:
    """Looks the document through for places, with expat: it knows the offset of everything in bytes."""
    parser = expat.ParserCreate()
    prefix, encoding, depth = "", "utf-8", 0
    insertion = -1
    # What waits for the offset of whatever comes after it.
    pending: list[str] = []
    open_id, open_start = "", -1
    written: list[_Written] = []

    def settle() -> None:
        nonlocal insertion
        if not pending:
            return
        offset = parser.CurrentByteIndex
        if "description" in pending:
            written.append(_Written(open_id, open_start, offset))
        insertion = offset
        pending.clear()

    def declared(_version: str, told: str | None, _standalone: int) -> None:
        nonlocal encoding
        encoding = told or encoding

    def started(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, prefix, open_id, open_start
        settle()
        local = tag.rpartition(":")[2]
        if depth == 0:
            prefix = tag[: -len(local)]
            pending.append("root")
        elif depth == 1 and tag == f"{prefix}ServiceDescription":
            open_id, open_start = attributes.get("id", ""), parser.CurrentByteIndex
        depth += 1

    def ended(tag: str) -> None:
        nonlocal depth
        if depth == 2 and tag.removeprefix(prefix) in _BEFORE:
            # An empty-element tag has no end of its own: its end event comes at its start.
            settle()
            pending.append("description" if tag == f"{prefix}ServiceDescription" else "sibling")
        elif depth == 1:
            settle()
        depth -= 1

    parser.XmlDeclHandler = declared
    parser.StartElementHandler = started
    parser.EndElementHandler = ended
    parser.DefaultHandler = lambda _: settle()
    parser.CommentHandler = lambda _: settle()
    parser.ProcessingInstructionHandler = lambda _target, _data: settle()
    parser.CharacterDataHandler = lambda _: settle()
    try:
        parser.Parse(document, True)
    except (expat.ExpatError, LookupError) as error:
        raise MpdError(f"{name}: {error}") from None
    if encoding.lower() == "utf-16":
        encoding = "utf-16-le" if document.startswith(b"\xff\xfe") else "utf-16-be"
    elif document.startswith(b"\xff\xfe"):
        encoding = "utf-16-le"
    elif document.startswith(b"\xfe\xff"):
        encoding = "utf-16-be"
    return _Places(insertion, tuple(written), prefix, encoding)


def _space_after(document: bytes, offset: int, encoding: str) -> str:
    """The white space between an offset and what comes next, if it begins a line; else none."""
    following = document[offset : offset + 4096].decode(encoding, errors="ignore")
    space = _INDENT.match(following)
    found = space[0] if space is not None else ""
    newline = found.rfind("\n")
    if newline < 0:
        return ""
    start = newline - 1 if newline and found[newline - 1] == "\r" else newline
    return found[start:]


def _line_start(document: bytes, offset: int, encoding: str) -> str:
    """The line break and white space before an element that begins a line; else none."""
    begin = max(0, offset - 4096)
    preceding = document[begin:offset].decode(encoding, errors="ignore")
    newline = preceding.rfind("\n")
    if newline < 0 or preceding[newline:].strip():
        return ""
    start = newline - 1 if newline and preceding[newline - 1] == "\r" else newline
    return preceding[start:]
