"""The options by which a client of a stack with TLS names its certificate; every command that calls one has them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nf.common.tls import Credentials

TlsCaOption = Annotated[
    Path | None, typer.Option("--tls-ca", metavar="FILE", help="Speak TLS: the authority to trust (PEM).")
]
TlsCertificateOption = Annotated[
    Path | None, typer.Option("--tls-certificate", metavar="FILE", help="The certificate to show (PEM).")
]
TlsKeyOption = Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its key (PEM).")]

TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        envvar="CASTCORE_TOKEN",
        show_envvar=False,
        help="Who asks, where providers are configured; better in the environment as CASTCORE_TOKEN.",
    ),
]


def credentials_of(ca: Path | None, certificate: Path | None, key: Path | None) -> Credentials | None:
    """What the three options say, None where none is given. Raises InvalidArgument unless all are, and TlsError."""
    from nf.common.config import TlsSection
    from nf.common.errors import InvalidArgument
    from nf.common.tls import Credentials

    given = {"--tls-ca": ca, "--tls-certificate": certificate, "--tls-key": key}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return None
    if missing:
        raise InvalidArgument(f"option '{missing[0]}': missing, expected all of {', '.join(given)} or none")
    return Credentials.load(TlsSection(ca=str(ca), certificate=str(certificate), key=str(key)))
