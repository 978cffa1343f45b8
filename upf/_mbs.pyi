from collections.abc import Sequence
from typing import Final, Literal

from upf.mbs.counters import IngressCounters, MbsCounters

MALFORMED_REASONS: Final[tuple[str, ...]]
SENDINGS: Final[tuple[str, ...]]
BRANCH_ERRORS: Final[tuple[str, ...]]
BATCH: Final[int]
MALFORMED: Final[int]
UNMATCHED: Final[int]
HELD_OFF: Final[int]
NOT_FORWARDED: Final[int]
DROPPED: Final[int]
FORWARDED: Final[int]

class Branch:
    def __init__(
        self,
        sending: Literal["gtp_u", "raw", "udp", "tun"],
        fd: int,
        *,
        address: bytes = ...,
        port: int = ...,
        teid: int = ...,
        qfi: int = ...,
        interface: int = ...,
    ) -> None: ...
    @property
    def sending(self) -> str: ...

class Session:
    @property
    def branches(self) -> tuple[Branch, ...]: ...

class Replicator:
    forwarding: bool
    def __init__(self, *, forwarding: bool = ...) -> None: ...
    def open_tunnel(self, fd: int) -> int: ...
    def close_tunnel(self, number: int) -> None: ...
    def put(
        self,
        session: Session,
        tunnel: int,
        source: bytes,
        group: bytes,
        *,
        rate_bps: int,
        burst_bytes: int,
        forwards: bool,
        branches: tuple[Branch, ...],
    ) -> None: ...
    def remove(self, session: Session) -> None: ...
    def counters(self, session: Session) -> MbsCounters: ...
    def ingress(self) -> IngressCounters: ...
    def run(self) -> None: ...
    def stop(self) -> None: ...
    def offer(self, tunnel: int, datagrams: Sequence[tuple[int, bytes]]) -> list[int]: ...
