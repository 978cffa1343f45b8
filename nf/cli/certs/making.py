"""The files of ``castcore certs``: written whole and once, keys for their owner alone."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from nf.common import certificates
from nf.common.certificates import Issued
from nf.common.clock import Clock, SystemClock
from nf.common.errors import AlreadyExists, FailedPrecondition, InvalidArgument

AUTHORITY: Final = "ca"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def make_files(
    directory: Path,
    names: Sequence[str],
    *,
    alternatives: Sequence[str],
    days: int,
    clients: Collection[str],
    clock: Clock | None = None,
) -> list[Path]:
    """Writes NAME.pem and NAME.key for every name, and the authority's where there are none; what was written.

    Raises AlreadyExists when one of the files is there, InvalidArgument for a name or an alternative that is none,
    FailedPrecondition when the authority cannot be used or the directory not be written. Nothing is written then.
    """
    now = (clock if clock is not None else SystemClock()).now()
    for name in names:
        if not _NAME.fullmatch(name) or name == AUTHORITY:
            raise InvalidArgument.of("NAME", f"expected letters, digits and -_. and not {AUTHORITY!r}, found {name!r}")
    there = [str(file) for name in names for file in _files(directory, name) if file.exists()]
    if there:
        raise AlreadyExists(
            f"certs: {', '.join(there)}: there already, and nothing is overwritten; name others, or another --dir"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        authority, fresh = _authority(directory)
        if not fresh:
            _check_authority(directory, authority)
        else:
            authority = certificates.new_authority("castcore lab CA", now)
        issued = {AUTHORITY: authority} if fresh else {}
        for name in dict.fromkeys(names):
            issued[name] = certificates.new_certificate(
                name, authority, now, days=days, server=name not in clients, alternatives=alternatives
            )
        return [file for name, each in issued.items() for file in _write(directory, name, each)]
    except OSError as error:
        raise FailedPrecondition(f"certs: {error.filename or directory}: {error.strerror}") from None


def configuration_lines(directory: Path) -> list[str]:
    """The section of the configuration that uses the files of the directory."""
    place = directory.resolve()
    return [
        "[tls]",
        f'ca = "{place / "ca.pem"}"',
        f'certificate = "{place / "{name}.pem"}"',
        f'key = "{place / "{name}.key"}"',
    ]


def told_lines(file: Path) -> Iterator[str]:
    """What the certificates of a file say. Raises FailedPrecondition for a file that has none."""
    try:
        found = certificates.read_certificates(file.read_bytes())
    except OSError as error:
        raise FailedPrecondition(f"certs: {file}: {error.strerror}") from None
    except ValueError:
        raise FailedPrecondition(f"certs: {file}: expected a certificate in PEM, found none") from None
    now = SystemClock().now()
    for certificate in found:
        told = certificates.tell(certificate)
        problem = certificates.problem_of_time(certificate, now)
        uses = "authority" if told.authority else ", ".join(told.uses) or "any"
        yield f"subject      {told.subject}"
        yield f"issuer       {told.issuer}"
        yield f"for          {uses}"
        yield f"names        {', '.join(told.names) or 'none'}"
        yield f"from         {told.not_before:%Y-%m-%d %H:%M:%S} UTC"
        yield f"until        {told.not_after:%Y-%m-%d %H:%M:%S} UTC" + (f" ({problem})" if problem else "")
        yield f"fingerprint  {told.fingerprint}"


def _files(directory: Path, name: str) -> tuple[Path, Path]:
    return directory / f"{name}.pem", directory / f"{name}.key"


def _authority(directory: Path) -> tuple[Issued, bool]:
    """The authority of the directory, and whether there is none yet."""
    certificate, key = _files(directory, AUTHORITY)
    if certificate.exists() != key.exists():
        missing = key if certificate.exists() else certificate
        raise FailedPrecondition(f"certs: {missing}: missing, expected both files of the authority or neither")
    if not certificate.exists():
        return Issued(b"", b""), True
    return Issued(certificate.read_bytes(), key.read_bytes()), False


def _check_authority(directory: Path, authority: Issued) -> None:
    certificate, key = _files(directory, AUTHORITY)
    try:
        found = certificates.read_certificates(authority.certificate)[0]
        private = certificates.read_key(authority.key)
    except ValueError as error:
        raise FailedPrecondition(f"certs: {certificate}, {key}: no authority: {error}") from None
    if not certificates.tell(found).authority or not certificates.is_pair(found, private):
        raise FailedPrecondition(
            f"certs: {certificate}, {key}: expected an authority and its key, found something else"
        )


def _write(directory: Path, name: str, issued: Issued) -> Iterator[Path]:
    for file, content, mode in zip(
        _files(directory, name), (issued.certificate, issued.key), (0o644, 0o600), strict=True
    ):
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as opened:
            opened.write(content)
        yield file
