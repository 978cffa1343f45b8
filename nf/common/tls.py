"""TLS, both ends of it with certificates of the lab's authority (TS 33.501 §13.1): what servers and channels are given.

A file that would not work is refused when it is read, not when the first peer connects.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Final, Self

import grpc

from nf.common.clock import SystemClock
from nf.common.config import TlsSection
from nf.common.errors import FailedPrecondition

# In a path of the configuration it stands for the name of the function, so that one section serves them all.
NAME: Final = "{name}"


class TlsError(FailedPrecondition):
    """A certificate, a key or an authority cannot be used; the message has the file and what is wrong with it."""

    reason = "TLS_FILES"


@dataclass(frozen=True)
class Credentials:
    """An authority, and a certificate of it with its key: files that have been read and fit together.

    ``ca``, ``certificate`` and ``key`` are what the files held, PEM.
    """

    ca_file: Path
    certificate_file: Path
    key_file: Path
    ca: bytes
    certificate: bytes
    key: bytes

    @classmethod
    def load(cls, section: TlsSection, name: str = "client", *, now: datetime | None = None) -> Self:
        """What the section says, for the function ``name``.

        Raises TlsError for a file that cannot be read or is no PEM, a certificate out of its time or not of the
        authority, and a key that is not the certificate's.
        """
        from nf.common import certificates

        now = now if now is not None else SystemClock().now()
        ca_file, certificate_file, key_file = (
            Path(each.replace(NAME, name)) for each in (section.ca, section.certificate, section.key)
        )
        ca, certificate, key = (_read(each) for each in (ca_file, certificate_file, key_file))
        try:
            authorities = certificates.read_certificates(ca)
        except ValueError:
            raise TlsError(f"tls: {ca_file}: expected the certificate of an authority in PEM, found none") from None
        try:
            chain = certificates.read_certificates(certificate)
        except ValueError:
            raise TlsError(f"tls: {certificate_file}: expected a certificate in PEM, found none") from None
        try:
            private = certificates.read_key(key)
        except ValueError as error:
            why = "an encrypted one" if str(error) == "it is encrypted" else "none"
            raise TlsError(f"tls: {key_file}: expected a private key in PEM without a password, found {why}") from None
        for file, each in ((ca_file, authorities[0]), (certificate_file, chain[0])):
            problem = certificates.problem_of_time(each, now)
            if problem:
                raise TlsError(f"tls: {file}: {problem}; make a new one with castcore certs")
        if not certificates.is_pair(chain[0], private):
            raise TlsError(f"tls: {key_file}: the key is not that of the certificate {certificate_file}")
        if not certificates.is_issued_by(chain, authorities):
            issuer = chain[0].issuer.rfc4514_string()
            raise TlsError(f"tls: {certificate_file}: not of the authority {ca_file}: it was issued by {issuer!r}")
        return cls(ca_file, certificate_file, key_file, ca, certificate, key)

    @cached_property
    def server(self) -> grpc.ServerCredentials:
        """For a gRPC server: a peer has to show a certificate of the authority."""
        return grpc.ssl_server_credentials(
            [(self.key, self.certificate)], root_certificates=self.ca, require_client_auth=True
        )

    @cached_property
    def channel(self) -> grpc.ChannelCredentials:
        """For a gRPC channel: the server's certificate has to be of the authority, and for the address called."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)

    @cached_property
    def client_context(self) -> ssl.SSLContext:
        """For an HTTP client, with the same demands."""
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=self.ca.decode("ascii", "ignore"))
        context.load_cert_chain(self.certificate_file, self.key_file)
        return context


@cache
def public_authorities() -> ssl.SSLContext:
    """For an HTTP client with no certificate of its own: the authorities that this machine trusts, read once.

    There are hundreds, and to read them takes longer than most calls: not a thing to do per client.
    """
    return ssl.create_default_context()


def is_loopback(address: str) -> bool:
    """Whether nothing outside this machine reaches "HOST:PORT"."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TlsError(f"tls: {file}: {error.strerror or os.strerror(error.errno or 0)}") from None
