"""M5 for a command: by its options, or that of the stack which runs on the state directory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nf.cli.tls_options import TlsCaOption, TlsCertificateOption, TlsKeyOption

if TYPE_CHECKING:
    import asyncio

    from nf.client.m5 import M5
    from nf.common.tls import Credentials

M5Option = Annotated[
    str | None,
    typer.Option(
        "--m5", metavar="URL", help="The AF: grpc://HOST:PORT or http://HOST:PORT. [default: the stack of --dir]"
    ),
]
DirOption = Annotated[
    Path | None,
    typer.Option(
        "--dir", metavar="DIR", help="State directory of a stack on this machine. [default: ./castcore-state]"
    ),
]
Http2Option = Annotated[bool, typer.Option("--http2", help="HTTP/2 from the first byte, for an http address.")]
DraftOption = Annotated[
    str | None,
    typer.Option("--draft", metavar="ASP_ID", help="Reports take the draft reporting API of this provider (http)."),
]
UeOption = Annotated[
    str | None, typer.Option("--ue", metavar="ADDR", help="The UE, where the AF trusts us to name it.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="For scripts: JSON on standard output.")]

__all__ = ["TlsCaOption", "TlsCertificateOption", "TlsKeyOption"]


@dataclass(frozen=True, slots=True)
class Reach:
    """How the AF is reached: what the options say."""

    m5: str | None = None
    directory: Path | None = None
    ue: str | None = None
    http2: bool = False
    draft: str | None = None
    tls_ca: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    @property
    def url(self) -> str:
        """The address of M5. Raises Unavailable where none is given and no stack is found."""
        if self.m5 is not None:
            return self.m5
        from nf.cli.resources.whereabouts import addresses
        from nf.common.errors import Unavailable

        try:
            return f"grpc://{addresses(['af'], (), None, self.directory)['af']}"
        except Unavailable as error:
            raise Unavailable(f"{str(error).partition(': expected')[0]}: expected --m5 URL or --dir DIR") from None

    @property
    def credentials(self) -> Credentials | None:
        """What is shown where TLS is spoken."""
        from nf.cli.tls_options import credentials_of

        return credentials_of(self.tls_ca, self.tls_certificate, self.tls_key)

    def connect(self, url: str = "") -> M5:
        """M5 there, or at another address."""
        from nf.client.m5_connect import connect

        if self.ue is not None:
            import ipaddress

            from nf.common.errors import InvalidArgument

            try:
                ipaddress.ip_address(self.ue)
            except ValueError:
                raise InvalidArgument(f"option '--ue': expected an IP address, found {self.ue!r}") from None
        return connect(
            url or self.url,
            ue_address=self.ue or "",
            http2=self.http2,
            draft_asp_id=self.draft or "",
            tls=self.credentials,
        )


def with_m5(reach: Reach, work: Callable[[M5, asyncio.Event], Awaitable[None]]) -> None:
    """Does the work with M5; the event is set by Ctrl-C, and work that does not heed it is cancelled."""

    async def working(stop: asyncio.Event) -> None:
        m5 = reach.connect()
        try:
            await work(m5, stop)
        finally:
            await m5.close()

    until_stopped(working)


def until_stopped(work: Callable[[asyncio.Event], Awaitable[None]], *, polite: bool = False) -> None:
    """Does the work; Ctrl-C cancels it, or (``polite``) only sets the event, and a second one cancels it."""
    import asyncio

    from nf.common.run import run
    from nf.common.telemetry import configure_logging

    configure_logging("error")

    async def main(stop: asyncio.Event) -> None:
        working = asyncio.ensure_future(work(stop))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            if polite:
                await asyncio.wait((working,))
            else:
                await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not working.done():
                working.cancel()
                await asyncio.wait((working,))
        if working.cancelled():
            raise KeyboardInterrupt
        working.result()

    run(main)
