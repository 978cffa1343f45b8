"""Elements of an MPD with their attributes read and checked; errors name line, element and attribute.

Parsing is safe whatever the document: no entities, no document type, no network, bounded depth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final, NoReturn

from lxml import etree

from nf.common.dash.errors import MpdError
from nf.common.dash.mpd import ByteRange

NAMESPACE: Final = "urn:mpeg:dash:schema:mpd:2011"
_MAX_DOCUMENT_BYTES: Final = 64 << 20

_WHOLE: Final = re.compile(r"\+?[0-9]{1,20}")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}")
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE][+-]?[0-9]{1,2})?")
_RANGE: Final = re.compile(r"([0-9]{1,20})-([0-9]{1,20})?")
# xs:duration (XML Schema part 2 §3.2.6); years and months have no fixed length and are refused unless 0.
_DURATION: Final = re.compile(
    r"P(?:([0-9]{1,9})Y)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9})D)?"
    r"(?:T(?:([0-9]{1,12})H)?(?:([0-9]{1,12})M)?(?:([0-9]{1,12}(?:\.[0-9]{0,20})?)S)?)?"
)
# xs:dateTime; without a zone UTC is meant (ISO/IEC 23009-1 §5.3.1.2).
_DATE_TIME: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})?"
)


class Element:
    """An element of the MPD namespace; ``name`` is how messages call it."""

    def __init__(self, source: etree._Element, document: str, attributes: Mapping[str, str] | None = None) -> None:
        self._source = source
        self._document = document
        self.tag = etree.QName(source).localname
        if attributes is None:
            attributes = {str(k): str(v) for k, v in source.attrib.items() if not str(k).startswith("{")}
        self.attributes: Mapping[str, str] = attributes
        """As they are written, without those of other namespaces."""

    def seen_with(self, attributes: Mapping[str, str]) -> Element:
        """The same element with attributes that it has from elsewhere, too."""
        return Element(self._source, self._document, attributes)

    @property
    def name(self) -> str:
        """Its tag, with its id where it has one."""
        shown = self._source.get("id")
        return f"{self.tag} {shown!r}" if shown is not None else self.tag

    @property
    def remote(self) -> str:
        """Where the element really is (xlink:href); empty: here."""
        return str(self._source.get("{http://www.w3.org/1999/xlink}href", ""))

    @property
    def text(self) -> str:
        """Without surrounding white space."""
        return (self._source.text or "").strip()

    def children(self, *tags: str) -> Iterator[Element]:
        """Those with one of the tags, in their order."""
        for child in self._source:
            if isinstance(child.tag, str) and etree.QName(child).namespace == NAMESPACE:
                found = Element(child, self._document)
                if found.tag in tags:
                    yield found

    def child(self, tag: str) -> Element | None:
        """The only one with the tag."""
        found = list(self.children(tag))
        if len(found) > 1:
            found[1].refuse(f"found a second {tag} in {self.tag}, expected one at most")
        return found[0] if found else None

    def get(self, attribute: str, default: str = "") -> str:
        """The attribute as it is written."""
        return self.attributes.get(attribute, default)

    def required(self, attribute: str) -> str:
        """An attribute that must be there."""
        value = self.attributes.get(attribute)
        if value is None:
            self.refuse(f"@{attribute}: missing")
        return value

    def whole(self, attribute: str, expected: str = "a whole number") -> int | None:
        """An unsigned integer."""
        return self._number(attribute, _WHOLE, expected)

    def positive(self, attribute: str) -> int | None:
        """An unsigned integer that is not 0."""
        value = self.whole(attribute, "a whole number from 1")
        if value == 0:
            self.refuse(f"@{attribute}: found '0', expected a whole number from 1")
        return value

    def integer(self, attribute: str) -> int | None:
        """A signed integer."""
        return self._number(attribute, _INTEGER, "an integer")

    def real(self, attribute: str) -> Fraction | None:
        """A decimal number, exactly; 'INF' is refused."""
        value = self.attributes.get(attribute)
        if value is None:
            return None
        if not _DECIMAL.fullmatch(value.strip()):
            self.refuse(f"@{attribute}: found {value!r}, expected a number")
        return Fraction(value.strip())

    def byte_range(self, attribute: str) -> ByteRange | None:
        """First and last byte, as '0-499'."""
        value = self.attributes.get(attribute)
        if value is None:
            return None
        match = _RANGE.fullmatch(value.strip())
        if match is None:
            self.refuse(f"@{attribute}: found {value!r}, expected first and last byte as '0-499'")
        first, last = int(match[1]), int(match[2]) if match[2] else None
        if last is not None and last < first:
            self.refuse(f"@{attribute}: found {value!r}, expected a last byte that is not before the first")
        return ByteRange(first, last)

    def duration(self, attribute: str) -> Fraction | None:
        """An xs:duration, as exact seconds."""
        value = self.attributes.get(attribute)
        if value is None:
            return None
        match = _DURATION.fullmatch(value.strip())
        if match is None or not any(match.groups()) or value.strip().endswith("T"):
            self.refuse(f"@{attribute}: found {value!r}, expected a duration such as 'PT1H30M2.5S'")
        years, months, days, hours, minutes = (int(part or 0) for part in match.groups()[:5])
        if years or months:
            self.refuse(f"@{attribute}: found {value!r}, expected no years and months: they have no fixed length")
        return (days * 24 + hours) * 3600 + minutes * 60 + Fraction((match[6] or "0").removesuffix("."))

    def date_time(self, attribute: str) -> datetime | None:
        """An xs:dateTime in UTC."""
        value = self.attributes.get(attribute)
        if value is None:
            return None
        read = _date_time(value.strip())
        if read is None:
            self.refuse(f"@{attribute}: found {value!r}, expected a date and time such as '2026-01-31T12:00:00Z'")
        return read

    def refuse(self, problem: str) -> NoReturn:
        """Raises MpdError about this element."""
        raise MpdError(f"{self._document}, line {self._source.sourceline}, {self.name}: {problem}")

    def _number(self, attribute: str, form: re.Pattern[str], expected: str) -> int | None:
        value = self.attributes.get(attribute)
        if value is None:
            return None
        if not form.fullmatch(value.strip()):
            self.refuse(f"@{attribute}: found {value!r}, expected {expected}")
        return int(value)


def _date_time(text: str) -> datetime | None:
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    zone = "+00:00" if match[3] in (None, "Z") else match[3]
    # Microseconds are the finest that a datetime has.
    with suppress(ValueError):
        return datetime.fromisoformat(f"{match[1]}{(match[2] or '')[:7]}{zone}").astimezone(UTC)
    return None


def parse_document(document: bytes, name: str) -> Element:
    """The MPD element of a document; ``name`` is how messages call the document. Raises MpdError."""
    if len(document) > _MAX_DOCUMENT_BYTES:
        raise MpdError(f"{name}: found {len(document):,} bytes, expected at most {_MAX_DOCUMENT_BYTES:,}")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False
    )
    try:
        root = etree.fromstring(document, parser)
    except etree.XMLSyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise MpdError(f"{name}{line}: not well-formed XML: {error.msg}") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise MpdError(f"{name}: found a document type declaration, expected none: an MPD has no entities of its own")
    found = etree.QName(root)
    if found.localname != "MPD" or found.namespace != NAMESPACE:
        raise MpdError(f"{name}, line {root.sourceline}: found the element {root.tag}, expected {{{NAMESPACE}}}MPD")
    return Element(root, name)
