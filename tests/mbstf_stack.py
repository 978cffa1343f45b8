"""An MBSTF on real sockets, with an end of Nmb9 that keeps what it is sent, and receivers of what is in it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from flute import receiver
from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.channels import Channels
from nf.common.clock import Clock, SystemClock
from nf.common.function import Context
from nf.common.hosting import Host
from nf.common.http import HttpServer, application
from nf.common.store import Store, url_for
from nf.common.telemetry import Telemetry
from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.common.v1.mbs_pb2 import IpAddr, TunnelAddress
from nf.mbstf.compose import TABLES, build
from nf.mbstf.config import MbstfSection
from nf.mbstf.v1 import dist_session_pb2 as nmb2
from nf.mbstf.v1.dist_session_pb2_grpc import DistSessionServiceStub, MbstfEventsServiceStub

PATIENCE_S = 20.0
INACTIVE = shared.DIST_SESSION_STATE_INACTIVE
ESTABLISHED = shared.DIST_SESSION_STATE_ESTABLISHED
ACTIVE = shared.DIST_SESSION_STATE_ACTIVE
DEACTIVATING = shared.DIST_SESSION_STATE_DEACTIVATING
GROUP, PORT = "232.1.2.3", 5000


@dataclass(frozen=True)
class Inner:
    """A packet inside the tunnel: its whole, where it goes, and its payload."""

    packet: bytes
    source: str
    group: str
    port: int
    dscp: int
    payload: bytes


class Tunnel:
    """The MB-UPF's end of Nmb9."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.received: list[Inner] = []
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(self.socket.fileno(), self._read)

    @property
    def address(self) -> TunnelAddress:
        """Where it is."""
        return TunnelAddress(ipv4_addr="127.0.0.1", port_number=self.socket.getsockname()[1])

    async def until(self, satisfied: Callable[[list[Inner]], bool]) -> list[Inner]:
        """What has come, as soon as it is what is waited for."""
        async with asyncio.timeout(PATIENCE_S):
            while not satisfied(self.received):
                self._changed.clear()
                await self._changed.wait()
        return self.received

    def close(self) -> None:
        """Lets go of it."""
        asyncio.get_running_loop().remove_reader(self.socket.fileno())
        self.socket.close()

    def _read(self) -> None:
        try:
            while True:
                self.received.append(inner_of(self.socket.recv(65_535)))
        except BlockingIOError:
            self._changed.set()


def inner_of(packet: bytes) -> Inner:
    """An IPv4 UDP packet taken apart."""
    assert packet[0] == 0x45
    assert struct.unpack("!H", packet[2:4])[0] == len(packet)
    source, group = (socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16))
    return Inner(packet, source, group, struct.unpack("!H", packet[22:24])[0], packet[1] >> 2, packet[28:])


class Files:
    """A FLUTE receiver: what it has put together so far, by Content-Location."""

    def __init__(self, directory: Path, tsi: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._receiver = receiver.Receiver(
            receiver.UDPEndpoint(GROUP, PORT), tsi, receiver.ObjectWriterBuilder(str(directory)), receiver.Config()
        )
        self._pushed = 0

    def take(self, packets: list[Inner]) -> dict[str, bytes]:
        """The files that are there after these packets, by their names below the directory."""
        for each in packets[self._pushed :]:
            self._receiver.push(each.payload)
        self._pushed = len(packets)
        found = [path for path in self.directory.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.directory)): path.read_bytes() for path in found}


class Mbstf:
    """An MBSTF that can be stopped, and started again on its state."""

    def __init__(self, directory: Path, clock: Clock | None = None, **config: object) -> None:
        self.directory = directory
        self.clock = clock or SystemClock()
        self.config = MbstfSection(**config)
        self._telemetry = Telemetry()
        self._host: Host | None = None
        self._channels: Channels | None = None
        self._address, self._http_address = "127.0.0.1:0", "127.0.0.1:0"
        self.http_url = ""

    async def start(self) -> None:
        """Serves, at the address that it had before."""
        self._host = Host("mbstf", self._telemetry, grace_s=0.0)
        self._address = self._host.bind(self._address)
        app = application(self._telemetry, lambda: True)
        self._http = HttpServer(app)
        self.http_url = await self._http.start(self._http_address)
        self._http_address = self.http_url.removeprefix("http://")
        store = Store.open(url_for(self.directory, "mbstf"), clock=self.clock, tables=TABLES)

        def compose(channels: Channels):
            context = Context("mbstf", self.config, self.clock, store, channels, self._telemetry, self.http_url)
            return build(context)

        await self._host.start(compose, {}, store)
        app.router.routes.extend(self._host.routes)
        self._channels = Channels({"mbstf": self._address}, telemetry=Telemetry(), deadline_s=PATIENCE_S)
        self.nmb2 = DistSessionServiceStub(self._channels.get("mbstf"))

    async def stop(self) -> None:
        """Ends; its sessions stay what they are."""
        if self._channels is not None:
            await self._channels.close()
        await self._http.stop()
        await self._host.stop()

    async def create(self, session: nmb2.DistSession) -> nmb2.DistSession:
        """A session."""
        answer = await self.nmb2.CreateDistSession(nmb2.CreateDistSessionRequest(dist_session=session))
        return answer.dist_session

    async def get(self, dist_session_id: str) -> nmb2.DistSession:
        """It, read."""
        answer = await self.nmb2.GetDistSession(nmb2.GetDistSessionRequest(dist_session_id=dist_session_id))
        return answer.dist_session

    async def update(self, dist_session_id: str, **changes: object) -> nmb2.DistSession:
        """A session changed in these fields."""
        session = nmb2.DistSession(dist_session_id=dist_session_id, **changes)
        request = nmb2.UpdateDistSessionRequest(dist_session=session, update_mask=FieldMask(paths=list(changes)))
        return (await self.nmb2.UpdateDistSession(request)).dist_session

    async def go(self, dist_session_id: str, state: int) -> nmb2.DistSession:
        """A session in another state."""
        return await self.update(dist_session_id, dist_session_state=state)

    async def delete(self, dist_session_id: str) -> None:
        """No session any more."""
        await self.nmb2.DeleteDistSession(nmb2.DeleteDistSessionRequest(dist_session_id=dist_session_id))

    async def events(self, *types: str, dist_session_id: str = "") -> list[Event]:
        """The events from the first one on, as soon as these types have come, in this order among others."""
        seen: list[Event] = []
        wanted = list(types)
        subject = f"dist-sessions/{dist_session_id}" if dist_session_id else ""
        stub = MbstfEventsServiceStub(self._channels.get("mbstf"))
        async with asyncio.timeout(PATIENCE_S):
            async for each in stub.WatchEvents(WatchEventsRequest(subject=subject, no_follow=not wanted)):
                seen.append(each.event)
                if wanted and each.event.type == wanted[0]:
                    del wanted[0]
                    if not wanted:
                        break
        return seen


def object_session(dist_session_id: str, tunnel: TunnelAddress | None, **data: object) -> nmb2.DistSession:
    """A session of the object method, INACTIVE, at 20 Mbit/s."""
    return nmb2.DistSession(
        dist_session_id=dist_session_id,
        mb_upf_tun_addr=tunnel,
        mbr_bps=20_000_000,
        up_traffic_flow_info=shared.UpTrafficFlowInfo(dest_ip_addr=IpAddr(ipv4_addr=GROUP), port_number=PORT),
        obj_distribution_data=nmb2.ObjDistributionData(**data),
    )


@asynccontextmanager
async def running(directory: Path, clock: Clock | None = None, **config: object) -> AsyncIterator[Mbstf]:
    """An MBSTF that runs meanwhile."""
    mbstf = Mbstf(directory, clock, **config)
    await mbstf.start()
    try:
        yield mbstf
    finally:
        await mbstf.stop()


@asynccontextmanager
async def tunnel() -> AsyncIterator[Tunnel]:
    """An end of Nmb9 meanwhile."""
    end = Tunnel()
    try:
        yield end
    finally:
        end.close()
