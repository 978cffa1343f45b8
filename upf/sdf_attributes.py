"""What a service data flow filter may ask beyond the 5-tuple, and how castcore writes it after the IPFilterRule.

::

    tos 0x28/0xfc          ToS of IPv4, traffic class of IPv6, and the mask that it is compared under (default 0xff)
    flow-label 12          IPv6 flow label
    spi 0x1234             security parameter index of ESP or AH
    teid 7                 tunnel endpoint identifier of the GTP-U tunnel that brings the packet
    qfi 5                  QoS flow identifier in that tunnel's PDU session container
    domain *.example.com   domain name, or every name below one
    filter-id 3            the filter's identifier within its PFCP session; matches nothing by itself

ToS, SPI, flow label and filter identifier are those of an SDF Filter (TS 29.244 §8.2.5, whose words are TS 29.212's),
TEID and QFI those of a PDI (§8.2.3, §8.2.89), the domain name that of a PFD (§8.2.39).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from upf.errors import UpfError
from upf.sdf_tokens import END, FilterError, Tokens, any_of, describe_word, parse_number

ESP: Final = 50
AH: Final = 51

MAX_TOS: Final = 0xFF
MAX_FLOW_LABEL: Final = 0xFFFFF
MAX_SPI: Final = 0xFFFFFFFF
MAX_TEID: Final = 0xFFFFFFFF
MAX_QFI: Final = 63
MAX_FILTER_ID: Final = 0xFFFFFFFF
MAX_DOMAIN_LENGTH: Final = 253

# Letters, digits, hyphens within; underscores occur in names that servers are known by.
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a filter asks beyond the 5-tuple; None, 0 of a mask or identifier, and the empty name ask nothing."""

    tos: int = 0
    tos_mask: int = 0
    flow_label: int | None = None
    spi: int | None = None
    teid: int | None = None
    qfi: int | None = None
    domain: str = ""
    filter_id: int = 0

    def __str__(self) -> str:
        words = (
            (self.tos_mask, f" tos 0x{self.tos:02x}/0x{self.tos_mask:02x}"),
            (self.flow_label is not None, f" flow-label {self.flow_label}"),
            (self.spi is not None, f" spi 0x{self.spi or 0:x}"),
            (self.teid is not None, f" teid {self.teid}"),
            (self.qfi is not None, f" qfi {self.qfi}"),
            (self.domain, f" domain {self.domain}"),
            (self.filter_id, f" filter-id {self.filter_id}"),
        )
        return "".join(word for given, word in words if given)


NO_ATTRIBUTES: Final = Attributes()


def parse_attributes(tokens: Tokens, expected: str, refuse: Callable[[str], str | None]) -> Attributes:
    """Read the words that are left; ``refuse`` says why a word cannot stand here, if it cannot.

    Raises FilterError where a word is unknown, stands twice or has no proper value.
    """
    found: dict[str, int | str] = {}
    seen: set[str] = set()
    while tokens.peek() is not None:
        left = [word for word in _WORDS if word not in seen]
        hoped_for = any_of(*map(repr, left), END)
        word, column = tokens.take("")
        if word not in _WORDS:
            raise FilterError(expected=hoped_for if seen else expected, got=describe_word(word), column=column)
        if word in seen:
            raise FilterError(expected=hoped_for, got=f"{word!r} a second time", column=column)
        reason = refuse(word)
        if reason is not None:
            raise FilterError(expected=reason, got=repr(word), column=column)
        seen.add(word)
        what, read = _WORDS[word]
        value, value_column = tokens.take(what)
        found |= read(value, value_column, what)
    return Attributes(**found)  # type: ignore[arg-type]


def parse_domain(text: str) -> str:
    """A domain name as filters hold it: lower case, A-labels (RFC 5890), no dot at the end, maybe ``*.`` before it.

    Raises UpfError that says what is wrong with it.
    """
    name = text.removesuffix(".")
    wildcard = name.startswith("*.")
    try:
        # Only a name that needs it goes through IDNA: it knows nothing of underscores.
        plain = name[2 * wildcard :]
        ascii_name = plain.lower() if plain.isascii() else plain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise UpfError(f"{text!r}: not a name of IDNA") from None
    if len(ascii_name) > MAX_DOMAIN_LENGTH:
        raise UpfError(f"{text!r}: {len(ascii_name)} characters, at most {MAX_DOMAIN_LENGTH} are a name")
    for label in ascii_name.split("."):
        if "*" in label:
            raise UpfError(f"{text!r}: '*' stands only for the first label, before a name")
        if not _LABEL.fullmatch(label):
            raise UpfError(f"{text!r}: {label!r} is no label: 1 to 63 letters, digits and inner hyphens")
    if _is_address(ascii_name):
        raise UpfError(f"{text!r}: is an address, not a name")
    return "*." + ascii_name if wildcard else ascii_name


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _read_tos(text: str, column: int, expected: str) -> dict[str, int | str]:
    value, slash, mask_text = text.partition("/")
    tos = parse_number(value, MAX_TOS, hexadecimal=True)
    if tos is None:
        raise FilterError(expected=expected, got=repr(text), column=column)
    mask = parse_number(mask_text, MAX_TOS, hexadecimal=True) if slash else MAX_TOS
    if not mask:
        got = repr(mask_text) if mask_text else "nothing"
        raise FilterError(expected="a mask 0x01..0xff", got=got, column=column + len(value) + 1)
    # Bits outside of the mask say nothing, as host bits do.
    return {"tos": tos & mask, "tos_mask": mask}


def _number_of(field: str, maximum: int, *, least: int = 0) -> Callable[[str, int, str], dict[str, int | str]]:
    def read(text: str, column: int, expected: str) -> dict[str, int | str]:
        number = parse_number(text, maximum, hexadecimal=True)
        if number is None or number < least:
            raise FilterError(expected=expected, got=repr(text), column=column)
        return {field: number}

    return read


def _read_domain(text: str, column: int, expected: str) -> dict[str, int | str]:
    try:
        return {"domain": parse_domain(text)}
    except UpfError as error:
        raise FilterError(expected=expected, got=str(error), column=column) from None


_WORDS: Final[dict[str, tuple[str, Callable[[str, int, str], dict[str, int | str]]]]] = {
    "tos": ("a ToS 0x00..0xff[/mask]", _read_tos),
    "flow-label": ("a flow label 0..0xfffff", _number_of("flow_label", MAX_FLOW_LABEL)),
    "spi": ("an SPI 0..0xffffffff", _number_of("spi", MAX_SPI)),
    "teid": ("a TEID 0..0xffffffff", _number_of("teid", MAX_TEID)),
    "qfi": ("a QFI 0..63", _number_of("qfi", MAX_QFI)),
    "domain": ("a domain name, such as 'example.com' or '*.example.com'", _read_domain),
    "filter-id": ("a filter identifier 1..0xffffffff", _number_of("filter_id", MAX_FILTER_ID, least=1)),
}
ATTRIBUTE_WORDS: Final = tuple(_WORDS)
