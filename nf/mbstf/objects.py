"""An object that a distribution session carries: a file with its place and what is said of it (TS 26.346 §7.2.10)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from nf.common.errors import InvalidArgument

# The longest location that is announced; every instance of the FDT repeats it.
_LONGEST_LOCATION = 2048


@dataclass(frozen=True, slots=True)
class CacheDirective:
    """How long a receiver may keep the file: one of the three (TS 26.346 §7.2.10.5, Cache-Control)."""

    no_cache: bool = False
    max_stale: bool = False
    # Seconds since 1970 UTC.
    expires_s: int | None = None

    def __post_init__(self) -> None:
        if self.no_cache + self.max_stale + (self.expires_s is not None) != 1:
            raise InvalidArgument.of("cacheControl", "expected exactly one of no-cache, max-stale and Expires")


@dataclass(frozen=True, slots=True)
class Object:
    """A file: where it belongs (``location``, a URI), its bytes or the path to read them from, and how it is described.

    ``etag`` is the origin's entity tag, without quotes. Raises InvalidArgument for a location that no FDT can carry.
    """

    location: str
    content: bytes | Path
    content_type: str = "application/octet-stream"
    etag: str | None = None
    cache: CacheDirective | None = None
    content_encoding: str | None = None

    def __post_init__(self) -> None:
        if not self.location:
            raise InvalidArgument.of("location", "expected a URI, found an empty text")
        if len(self.location) > _LONGEST_LOCATION:
            raise InvalidArgument.of(
                "location", f"expected at most {_LONGEST_LOCATION} characters, found {len(self.location)}"
            )
        for name in ("location", "content_type", "etag", "content_encoding"):
            value: str | None = getattr(self, name)
            if value is not None and not value.isprintable():
                raise InvalidArgument.of(name, f"expected printable characters, found {value[:80]!r}")

    def size_bytes(self) -> int:
        """How long the content is. Raises OSError where its file cannot be read."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def read(self) -> bytes:
        """The content. Raises OSError where its file cannot be read."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


def md5_of(content: bytes) -> bytes:
    """The digest that Content-MD5 of an FDT shows in Base64; it guards against errors, not against forgery."""
    return hashlib.md5(content, usedforsecurity=False).digest()
