"""The configuration of a stack: one file for all functions, whichever of them a process runs.

Every value has a default; a value in the environment (``CASTCORE_AF__GRPC_ADDRESS``) goes before the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from nf.af.config import AfSection
from nf.common.config import Address, FunctionSection, LogSection, Section, TlsSection, load
from nf.common.dialect import Durability, check_url
from nf.common.errors import CastcoreError, FailedPrecondition
from nf.mbsf.config import MbsfSection
from nf.mbstf.config import MbstfSection
from nf.netapi.config import NetapiSection
from nf.pcf.config import PcfSection
from nf.smf.config import SmfSection
from upf.config import UpfSection

# Who calls whom, in the order in which the functions stand on the path of a request.
PEERS = {
    "af": ("pcf",),
    "netapi": ("pcf", "smf"),
    "mbsf": ("pcf", "smf", "mbstf"),
    "pcf": ("smf",),
    "smf": ("pcf", "upf"),
    "mbstf": (),
    "upf": (),
}


def _check_url(value: str) -> str:
    if value:
        try:
            check_url(value)
        except CastcoreError as error:
            raise ValueError("postgresql://USER@HOST/DATABASE") from error
    return value


DatabaseUrl = Annotated[str, AfterValidator(_check_url)]


class StateSection(Section):
    """``[state]``."""

    # Where the functions keep what has to survive.
    directory: str = "castcore-state"
    # A PostgreSQL database in its place; each function has a schema of its own there.
    url: DatabaseUrl = ""
    # What an acknowledged write survives: the end of a process however it comes, or the loss of power as well.
    durability: Durability = "process"
    # Events are kept for so long (for a callback that lags behind, longer), and never more than so many of a function.
    events_kept_s: float = Field(default=604_800.0, gt=0)
    events_kept: int = Field(default=1_000_000, ge=1)


class HttpSection(Section):
    """``[http]``."""

    # Where /metrics and /healthz are served; port 0: a free one.
    address: Address = "127.0.0.1:0"
    # With TLS: whether clients have to show a certificate of the authority, may, or are not asked.
    client_certificates: Literal["required", "optional", "none"] = "optional"
    # In place of the common section [tls].
    tls: TlsSection | None = None


class PeersSection(Section):
    """``[peers]``: where to reach functions of other processes, if not at their own ``grpc_address``."""

    pcf: Address | None = None
    smf: Address | None = None
    mbstf: Address | None = None
    upf: Address | None = None


class Configuration(Section):
    """A whole configuration file."""

    log: LogSection = Field(default_factory=LogSection)
    state: StateSection = Field(default_factory=StateSection)
    # TLS between the functions and at their doors; without this section all is in clear text.
    tls: TlsSection | None = None
    http: HttpSection = Field(default_factory=HttpSection)
    peers: PeersSection = Field(default_factory=PeersSection)
    af: AfSection = Field(default_factory=AfSection)
    pcf: PcfSection = Field(default_factory=PcfSection)
    smf: SmfSection = Field(default_factory=SmfSection)
    mbsf: MbsfSection = Field(default_factory=MbsfSection)
    mbstf: MbstfSection = Field(default_factory=MbstfSection)
    netapi: NetapiSection = Field(default_factory=NetapiSection)
    upf: UpfSection = Field(default_factory=UpfSection)

    def section(self, function: str) -> FunctionSection:
        """The section of a function."""
        section: FunctionSection = getattr(self, function)
        return section

    def tls_of(self, name: str) -> TlsSection | None:
        """The certificate of a function, or of "http"; None: it speaks in clear text."""
        return (self.http.tls if name == "http" else self.section(name).tls) or self.tls

    def peer_address(self, peer: str) -> str:
        """Where a function of another process is reached. Raises FailedPrecondition when no port says so."""
        configured: str | None = getattr(self.peers, peer)
        address = configured or self.section(peer).grpc_address
        if address.endswith(":0"):
            raise FailedPrecondition(
                f"peer {peer!r} has no port: set grpc_address in [{peer}], or {peer} in [peers], to HOST:PORT"
            )
        return address


def read(path: Path | None) -> Configuration:
    """The configuration of a file (None: the defaults) and the environment. Raises ConfigError with every problem."""
    return load(Configuration, path=path, environ=os.environ)
