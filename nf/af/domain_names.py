"""Domain names by which flows are described (TS 26.512 §6.4.3.2), in the form in which the user plane knows them."""

from __future__ import annotations

import ipaddress
import re

MAX_DOMAIN_LENGTH = 253

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


def parse_domain_name(text: str) -> str:
    """The name in lower case and A-labels (RFC 5890), without a dot at its end; "*." may stand for what is below it.

    Raises ValueError that says what was expected and what found.
    """
    name = text.removesuffix(".")
    wildcard = name.startswith("*.")
    plain = name[2:] if wildcard else name
    try:
        # Only a name that needs it goes through IDNA: it knows nothing of underscores.
        ascii_name = plain.lower() if plain.isascii() else plain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise ValueError(f"expected a domain name, found {text!r}, which is none of IDNA") from None
    if len(ascii_name) > MAX_DOMAIN_LENGTH:
        raise ValueError(f"expected a domain name of at most {MAX_DOMAIN_LENGTH} characters, found {len(ascii_name)}")
    for label in ascii_name.split("."):
        if not _LABEL.fullmatch(label):
            raise ValueError(
                f"expected a domain name ('media.example.com', '*.example.com'), found the label {label!r} in {text!r}"
            )
    if _is_address(ascii_name):
        raise ValueError(f"expected a domain name, found the address {text!r}")
    return f"*.{ascii_name}" if wildcard else ascii_name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
