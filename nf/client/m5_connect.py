"""M5 by its address: ``grpc://HOST:PORT`` for the AF's own services, ``http://…`` for the API of TS 26.512."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from nf.client.m5 import M5
from nf.common.clock import Clock
from nf.common.errors import InvalidArgument

if TYPE_CHECKING:
    from nf.common.tls import Credentials

DEFAULT_DEADLINE_S: Final = 5.0


def connect(
    url: str,
    *,
    ue_address: str = "",
    http2: bool = False,
    draft_asp_id: str = "",
    tls: Credentials | None = None,
    deadline_s: float = DEFAULT_DEADLINE_S,
    clock: Clock | None = None,
) -> M5:
    """M5 at an address. Raises InvalidArgument for one that is none. It is closed by whoever has connected."""
    parts = urlsplit(url)
    try:
        addressed = bool(parts.hostname and (parts.port or parts.scheme in ("http", "https")))
    except ValueError:
        addressed = False
    if parts.scheme == "grpc" and addressed:
        if http2 or draft_asp_id:
            raise InvalidArgument(f"M5 address {url!r}: HTTP/2 and the draft API are for http addresses")
        return _over_grpc(parts.netloc, ue_address, tls, deadline_s)
    if parts.scheme in ("http", "https") and addressed:
        from nf.client.m5_http import HttpM5

        return HttpM5(
            url,
            ue_address=ue_address,
            http2=http2,
            draft_asp_id=draft_asp_id,
            tls=tls.client_context if tls is not None else None,
            deadline_s=deadline_s,
            clock=clock,
        )
    raise InvalidArgument(f"M5 address: expected grpc://HOST:PORT or http(s)://HOST[:PORT][/PATH], found {url!r}")


def _over_grpc(target: str, ue_address: str, tls: Credentials | None, deadline_s: float) -> M5:
    from nf.client.m5_grpc import GrpcM5
    from nf.common.channels import Channels

    channels = Channels({"af": target}, deadline_s=deadline_s, tls=tls)
    return GrpcM5(channels.get("af"), ue_address=ue_address, close=channels.close)
