"""Secrets that the platform hands out: random, shown once, kept as digests."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

# The lookup by which the store finds what a secret belongs to.
DIGEST: Final = "digest"
_BYTES: Final = 32


def new_secret(prefix: str) -> str:
    """A secret that nobody can guess; ``prefix`` tells people and scanners what it is."""
    return prefix + secrets.token_urlsafe(_BYTES)


def digest_text(secret: str) -> str:
    """The SHA-256 of a secret as hexadecimal digits: a random secret needs no salt and no slowness."""
    return hashlib.sha256(secret.encode()).hexdigest()
