"""Devices as structured fields (RFC 8941): `phonenumber="+123456789"`, as dedicated-network-accesses has them.

A device is a dictionary of its properties in small letters, in the order of the alphabet; an IPv4 address, being an
object, is a member with its properties as parameters: `ipv4address;privateaddress="10.0.0.1";publicaddress="…"`.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final, TypeAlias

from nf.common.codec import from_json, to_json
from nf.common.errors import InvalidArgument
from nf.common.json_text import SHOWN_LENGTH
from nf.netapi.v1.camara_types_pb2 import CamaraDevice

Bare: TypeAlias = "str | int | bool"
Member: TypeAlias = "tuple[Bare, dict[str, Bare]]"

_NAMES: Final = {
    name.lower(): name for name in ("phoneNumber", "networkAccessIdentifier", "ipv4Address", "ipv6Address")
}
_OF_ADDRESS: Final = {name.lower(): name for name in ("publicAddress", "privateAddress", "publicPort")}
_IPV4: Final = "ipv4Address"
_KEY: Final = re.compile(r"[a-z*][a-z0-9_.*-]*")
_STRING: Final = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_INTEGER: Final = re.compile(r"-?[0-9]{1,15}")
_BYTES: Final = re.compile(r":([A-Za-z0-9+/=]*):")
_BOOLEAN: Final = re.compile(r"\?([01])")
_COMMA: Final = re.compile(r"[ \t]*,[ \t]*")
_SEMICOLON: Final = re.compile(r"; *")


def device_text(device: CamaraDevice) -> str:
    """The device as a structured field."""
    members = []
    for name, value in sorted(to_json(device).items(), key=lambda each: each[0].lower()):
        if isinstance(value, dict):
            parameters = sorted((inner.lower(), _item(each)) for inner, each in value.items())
            members.append(name.lower() + "".join(f";{key}={text}" for key, text in parameters))
        else:
            members.append(f"{name.lower()}={_item(value)}")
    return ", ".join(members)


def parse_device(field: str, text: str) -> CamaraDevice:
    """The device that a structured field stands for; not whether its names are any. Raises InvalidArgument."""
    try:
        members = _dictionary(text)
        tree = {_known(_NAMES, name): _json(_known(_NAMES, name), member) for name, member in members.items()}
        return from_json(CamaraDevice, tree, strict=True)
    except ValueError as error:
        raise InvalidArgument.of(field, f"{error}, found {text[:SHOWN_LENGTH]!r}") from None
    except InvalidArgument as error:
        raise InvalidArgument.of(field, error.message) from None


def _known(names: dict[str, str], name: str) -> str:
    if name not in names:
        raise ValueError(f"expected one of {', '.join(names)}")
    return names[name]


def _json(name: str, member: Member) -> object:
    value, parameters = member
    if name != _IPV4:
        return value
    if value is not True:
        raise ValueError(f"expected {name.lower()} with parameters")
    return {_known(_OF_ADDRESS, each): inner for each, inner in parameters.items()}


def _item(value: object) -> str:
    if isinstance(value, int):
        return str(value)
    text = str(value)
    if text.isascii() and text.isprintable():
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f":{base64.b64encode(text.encode()).decode()}:"


class _Text:
    """What is left of a text."""

    def __init__(self, text: str) -> None:
        self.text = text.strip(" ")
        self.at = 0

    def is_over(self) -> bool:
        return self.at >= len(self.text)

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found

    def take_literal(self, text: str) -> bool:
        if self.text.startswith(text, self.at):
            self.at += len(text)
            return True
        return False


def _dictionary(text: str) -> dict[str, Member]:
    """RFC 8941 §4.2.2, without inner lists, decimals and tokens. Raises ValueError."""
    left = _Text(text)
    found: dict[str, Member] = {}
    while not left.is_over():
        key = _key(left)
        value: Bare = _bare(left) if left.take_literal("=") else True
        parameters: dict[str, Bare] = {}
        while left.take(_SEMICOLON):
            name = _key(left)
            parameters[name] = _bare(left) if left.take_literal("=") else True
        found[key] = (value, parameters)
        if left.is_over():
            break
        if not left.take(_COMMA) or left.is_over():
            raise ValueError("expected a device as a structured field (RFC 8941)")
    return found


def _key(left: _Text) -> str:
    found = left.take(_KEY)
    if found is None:
        raise ValueError("expected the name of a property in small letters")
    return found[0]


def _bare(left: _Text) -> Bare:
    if found := left.take(_STRING):
        return re.sub(r"\\(.)", r"\1", found[1])
    if found := left.take(_INTEGER):
        return int(found[0])
    if found := left.take(_BOOLEAN):
        return found[1] == "1"
    if found := left.take(_BYTES):
        try:
            return base64.b64decode(found[1], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise ValueError("expected a byte sequence of UTF-8 in base64") from None
    raise ValueError('expected a "string", an integer or a :byte sequence:')
