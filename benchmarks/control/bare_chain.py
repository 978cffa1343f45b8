"""A chain of grpc.aio servers that do nothing but ask the next one: what calls alone cost.

    python bare_chain.py REQUEST:ANSWER [REQUEST:ANSWER …] [--then ADDRESS --bytes REQUEST]

Each word is a hop, by the bytes of its request and its answer; the last one may ask a chain in another process. Prints
the address of the first as a line of JSON, and ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import grpc
import uvloop

METHOD = "/bare.Chain/Ask"

Ask = Callable[[bytes], Awaitable[bytes]]


class Hop(grpc.GenericRpcHandler):
    """Answers with as many bytes as it is to, once the next hop has answered."""

    def __init__(self, answer: bytes, following: Ask | None, asked: bytes) -> None:
        self._answer = answer
        self._following = following
        self._asked = asked

    def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self._serve)

    async def _serve(self, _request: bytes, _context: object) -> bytes:
        if self._following is not None:
            await self._following(self._asked)
        return self._answer


async def main(hops: list[tuple[int, int]], then: str, then_bytes: int) -> None:
    async with AsyncExitStack() as stack:
        following: Ask | None = None
        asked, address = bytes(then_bytes), ""
        if then:
            following = (await stack.enter_async_context(grpc.aio.insecure_channel(then))).unary_unary(METHOD)
        for request_bytes, answer_bytes in reversed(hops):
            server = grpc.aio.server()
            server.add_generic_rpc_handlers((Hop(bytes(answer_bytes), following, asked),))
            address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            await server.start()
            stack.push_async_callback(server.stop, None)
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            following, asked = channel.unary_unary(METHOD), bytes(request_bytes)
        print(json.dumps({"address": address}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def hop(word: str) -> tuple[int, int]:
    """The bytes of a request and of its answer."""
    request, _, answer = word.partition(":")
    return int(request), int(answer)


if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("hops", nargs="+", type=hop)
    parser.add_argument("--then", default="")
    parser.add_argument("--bytes", type=int, default=0)
    options = parser.parse_args()
    uvloop.run(main(options.hops, options.then, options.bytes))
