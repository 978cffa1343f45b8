"""Network API platforms by name: ``platforms.toml``, for providers that use several."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import Field

from nf.common.config import Section, TlsSection, load
from nf.common.errors import InvalidArgument
from nf.common.tls import Credentials

FILE: Final = "platforms.toml"
_SCHEME: Final = "grpc"


class PlatformSection(Section):
    """``[platform.NAME]``."""

    # grpc://HOST:PORT or HOST:PORT.
    address: str
    # What is shown to it, or the file in which that stands alone.
    credential: str = ""
    credential_file: str = ""
    tls: TlsSection | None = None


class PlatformsFile(Section):
    """The whole file."""

    # The platform that is meant where none is named.
    default: str = ""
    platform: Mapping[str, PlatformSection] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Known:
    """Where a platform is, and what is shown to it."""

    target: str
    credential: str
    tls: Credentials | None


def find(wanted: str, told: Path | None, *, local: bool = False) -> Known | None:
    """The platform of that name; the file's default where none is wanted, unless ``local``; None: it is no name.

    Raises InvalidArgument for a name that no file has.
    """
    if ":" in wanted or (not wanted and local):
        return None
    path = told if told is not None else _found()
    if path is None:
        if wanted:
            raise InvalidArgument(
                f"option '--platform': found {wanted!r}, expected grpc://HOST:PORT, HOST:PORT, or a name in {FILE},"
                " which there is none of"
            )
        return None
    platforms = load(PlatformsFile, path=path)
    name = wanted or platforms.default
    if not name:
        return None
    section = platforms.platform.get(name)
    if section is None:
        known = ", ".join(sorted(platforms.platform)) or "none"
        raise InvalidArgument(f"{path}: platform {name!r} is not there, expected one of: {known}")
    target = target_of(section.address, f"{path}: platform.{name}.address")
    tls = None if section.tls is None else Credentials.load(section.tls, "operator")
    return Known(target, _credential(section, path, name), tls)


def target_of(address: str, where: str) -> str:
    """HOST:PORT of an address. Raises InvalidArgument, which names ``where`` it stands."""
    scheme, separator, rest = address.partition("://")
    host, colon, port = (rest if separator else address).rstrip("/").rpartition(":")
    if (not separator or scheme == _SCHEME) and host and colon and port.isdecimal() and 0 < int(port) <= 65535:
        return f"{host}:{port}"
    hint = ""
    if urlsplit(address).scheme in ("http", "https"):
        hint = " (bookings are made over gRPC; http is where the CAMARA APIs are)"
    raise InvalidArgument(f"{where}: found {address!r}, expected grpc://HOST:PORT or HOST:PORT{hint}")


def _found() -> Path | None:
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return next((path for path in (Path(FILE), home / "castcore" / FILE) if path.is_file()), None)


def _credential(section: PlatformSection, path: Path, name: str) -> str:
    if not section.credential_file:
        return section.credential
    if section.credential:
        raise InvalidArgument(f"{path}: platform.{name}: expected credential or credential_file, found both")
    file = path.parent / section.credential_file
    try:
        return file.read_text().strip()
    except OSError as error:
        raise InvalidArgument(f"{path}: platform.{name}.credential_file: {file}: {error.strerror}") from None
