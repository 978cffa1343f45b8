"""X.509 (RFC 5280) for a lab: making its authority and the certificates below it, and saying what is wrong with one."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nf.common.errors import InvalidArgument

AUTHORITY_DAYS: Final = 3650
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
# Clocks of a lab are not all alike.
_LEEWAY: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, both PEM; the key is not encrypted."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """What a certificate says of itself."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    uses: tuple[str, ...]
    authority: bool
    not_before: datetime
    not_after: datetime
    fingerprint: str


def new_authority(name: str, now: datetime) -> Issued:
    """A certificate authority that signs for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _begun(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _issued(builder.sign(key, hashes.SHA256()), key)


def new_certificate(
    name: str, authority: Issued, now: datetime, *, days: int, server: bool, alternatives: Sequence[str] = ()
) -> Issued:
    """A certificate of the authority for ``name``, good for clients and with ``server`` for servers too.

    ``alternatives`` are the host names and addresses that a server answers at. Raises InvalidArgument for one that is
    neither.
    """
    ca = x509.load_pem_x509_certificate(authority.certificate)
    ca_key = serialization.load_pem_private_key(authority.key, None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if server else [])]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _begun(subject, ca.subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
    )
    if server:
        names = [_general_name(each) for each in dict.fromkeys((name, *LOOPBACK, *alternatives))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _issued(builder.sign(ca_key, hashes.SHA256()), key)


def read_certificates(pem: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file, at least one. Raises ValueError."""
    return x509.load_pem_x509_certificates(pem)


def read_key(pem: bytes) -> PrivateKeyTypes:
    """A private key. Raises ValueError; an encrypted one is refused."""
    try:
        return serialization.load_pem_private_key(pem, None)
    except TypeError as error:
        raise ValueError("it is encrypted") from error


def tell(certificate: x509.Certificate) -> Told:
    """What the certificate says."""
    return Told(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        names=_names(certificate),
        uses=_uses(certificate),
        authority=_is_authority(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def problem_of_time(certificate: x509.Certificate, now: datetime) -> str:
    """Why a certificate is not good now; empty where it is."""
    if now > certificate.not_valid_after_utc:
        return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"
    if now < certificate.not_valid_before_utc:
        return f"not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC"
    return ""


def is_pair(certificate: x509.Certificate, key: PrivateKeyTypes) -> bool:
    """Whether the key belongs to the certificate."""
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key.public_key().public_bytes(*form) == certificate.public_key().public_bytes(*form)


def is_issued_by(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> bool:
    """Whether one of the authorities has signed the first certificate, over the others of the chain where need be."""
    current = chain[0]
    for _ in chain:
        if any(_has_signed(each, current) for each in authorities):
            return True
        above = next((each for each in chain[1:] if each != current and _has_signed(each, current)), None)
        if above is None:
            return False
        current = above
    return False


def _has_signed(above: x509.Certificate, below: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _begun(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LEEWAY)
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    labels = text.split(".")
    fit = all(0 < len(each) <= 63 and each.replace("-", "").replace("_", "").isalnum() for each in labels)
    if not text.isascii() or not fit or len(text) > 253:
        raise InvalidArgument.of("san", f"expected a host name or an IP address, found {text!r}")
    return x509.DNSName(text)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(each.value) for each in found)


def _uses(certificate: x509.Certificate) -> tuple[str, ...]:
    known = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}
    try:
        found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(sorted(known.get(each, each.dotted_string) for each in found))


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _issued(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    return Issued(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
