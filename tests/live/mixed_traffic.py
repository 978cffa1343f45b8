"""TCP, UDP and ICMP over IPv4 and IPv6 in many short flows, each from an address and a port of its own.

``python mixed_traffic.py server`` echoes; ``python mixed_traffic.py client SECONDS FLOWS_PER_S SERVER SERVER6`` opens
flows at a steady pace, from arbitrary addresses of the UEs' networks, closes them, and says what came back of them.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import sys
import time
from collections import Counter
from ipaddress import IPv4Address, IPv6Address

PORT = 7000
UES, UES6 = IPv4Address("10.45.0.0"), IPv6Address("2001:db8:45::")
AT_ONCE = 256
# As long as a flow waits for what the policer may have dropped.
PATIENCE_S = 0.2
NOISE = random.Random(0).randbytes(1 << 18)


class Echo(asyncio.DatagramProtocol):
    """Sends every datagram back."""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple) -> None:
        self.transport.sendto(data, address)


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024) as listening:
        datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        datagrams.bind(("::", PORT))
        await loop.create_datagram_endpoint(Echo, sock=datagrams)
        server = await asyncio.start_server(echo_stream, sock=listening)
        print(json.dumps({"ready": True}), flush=True)
        await server.serve_forever()


class Answers(asyncio.DatagramProtocol):
    """Counts what comes back of a flow."""

    def __init__(self, expected: int) -> None:
        self.count, self.expected = 0, expected
        self.complete = asyncio.Event()

    def datagram_received(self, data: bytes, address: tuple) -> None:
        self.count += 1
        if self.count >= self.expected:
            self.complete.set()


class Client:
    """Opens flows of every kind, and counts them by kind and by what became of them."""

    def __init__(self, server: str, server6: str) -> None:
        self.servers = {4: server, 6: server6}
        self.draw = random.Random(1)
        self.counted: Counter[str] = Counter()

    async def run(self, seconds: float, flows_per_s: float) -> None:
        room = asyncio.Semaphore(AT_ONCE)
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as flows:
            for number in range(round(seconds * flows_per_s)):
                await asyncio.sleep(began_s + number / flows_per_s - time.monotonic())
                await room.acquire()
                flows.create_task(self.flow()).add_done_callback(lambda _: room.release())

    async def flow(self) -> None:
        version = self.draw.choice((4, 6))
        # Interface identifiers of IPv6 are as arbitrary as those of hosts.
        host = self.draw.randrange(10, 60_000)
        source = str(UES + host) if version == 4 else str(UES6 + (host << 16))
        kind = self.draw.choices(("tcp", "udp", "icmp"), (3, 5, 2))[0]
        self.counted[f"{kind}{version}"] += 1
        await getattr(self, kind)(version, source)

    async def tcp(self, version: int, source: str) -> None:
        """Sends bytes, closes, and wants them back unharmed."""
        # Some are long enough for super-packets.
        length = self.draw.choice((1, 1000, 5000, self.draw.randrange(100_000)))
        reader, writer = await asyncio.open_connection(self.servers[version], PORT, local_addr=(source, 0))
        writer.write(NOISE[:length])
        writer.write_eof()
        came = await reader.read(-1)
        writer.close()
        self.counted["tcp_unharmed"] += came == NOISE[:length]

    async def udp(self, version: int, source: str) -> None:
        """Sends datagrams faster than a bucket may let pass; what comes back is counted."""
        count = self.draw.randrange(1, 16)
        transport, answers = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Answers(count), local_addr=(source, 0), remote_addr=(self.servers[version], PORT)
        )
        for _ in range(count):
            transport.sendto(NOISE[: self.draw.randrange(1, 1400)])
        try:
            await asyncio.wait_for(answers.complete.wait(), PATIENCE_S)
        except TimeoutError:
            self.counted["udp_incomplete"] += 1
        transport.close()
        self.counted["udp_sent"] += count
        self.counted["udp_returned"] += answers.count

    async def icmp(self, version: int, source: str) -> None:
        """An echo request; the answer is the kernel's."""
        echo = NOISE[: self.draw.randrange(56, 1000)]
        if version == 6:
            # The kernel puts the checksum in.
            request = struct.pack("!BBHHH", 128, 0, 0, 1, 1) + echo
            kind, protocol = socket.AF_INET6, socket.IPPROTO_ICMPV6
        else:
            request = struct.pack("!BBHHH", 8, 0, checksum(struct.pack("!BBHHH", 8, 0, 0, 1, 1) + echo), 1, 1) + echo
            kind, protocol = socket.AF_INET, socket.IPPROTO_ICMP
        with socket.socket(kind, socket.SOCK_RAW, protocol) as raw:
            raw.bind((source, 0))
            raw.sendto(request, (self.servers[version], 0))


def checksum(data: bytes) -> int:
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


async def ask(seconds: float, flows_per_s: float, server: str, server6: str) -> None:
    client = Client(server, server6)
    await client.run(seconds, flows_per_s)
    print(json.dumps(client.counted), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "server":
        asyncio.run(serve())
    else:
        asyncio.run(ask(float(sys.argv[2]), float(sys.argv[3]), sys.argv[4], sys.argv[5]))
