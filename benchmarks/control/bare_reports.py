"""The floor of reports: a grpc.aio server that parses batches of them and keeps nothing. Prints its address."""

from __future__ import annotations

import asyncio
import json
import sys

import grpc
import uvloop

from nf.af.v1 import consumption_reporting_pb2 as messages
from nf.af.v1.consumption_reporting_pb2_grpc import (
    ConsumptionReportingServiceServicer,
    add_ConsumptionReportingServiceServicer_to_server,
)


class Parsing(ConsumptionReportingServiceServicer):
    """Answers when the batch is a message."""

    async def ReportConsumptionBatch(  # noqa: N802
        self, request: messages.ReportConsumptionBatchRequest, context: object
    ) -> messages.ReportConsumptionBatchResponse:
        """Keeps nothing."""
        assert request.reports
        return messages.ReportConsumptionBatchResponse()


async def main() -> None:
    server = grpc.aio.server()
    add_ConsumptionReportingServiceServicer_to_server(Parsing(), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    print(json.dumps({"address": address}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(main())
