"""Addresses relative to others (RFC 3986 §5), of which documents and servers say what they like."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from nf.common.dash.errors import MpdError


def resolve(base: str, reference: str) -> str:
    """The address that a reference stands for at a base. Raises MpdError for one that is none."""
    try:
        joined = urljoin(base, reference)
        # Looked at, so that what is no port is found here.
        _ = urlsplit(joined).port
    except ValueError as error:
        raise MpdError(f"address {reference!r}: {error}") from None
    return joined
