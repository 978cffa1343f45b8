"""Attaches a UE to the stack that runs on ./castcore-state, as the AMF would: python attach.py PHONE ADDRESS [DNN]."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from nf.cli.running import found
from nf.common.channels import Channels
from nf.common.v1.types_pb2 import Snssai
from nf.smf.v1.pdu_session_pb2 import CreatePduSessionRequest, PduSession
from nf.smf.v1.pdu_session_pb2_grpc import PduSessionsServiceStub


async def attach(phone_number: str, address: str, dnn: str = "internet") -> None:
    """One PDU session; the subscriber's identity is made of its number."""
    digits = phone_number.removeprefix("+")
    channels = Channels(found(Path("castcore-state")), function="attach")
    session = PduSession(
        sm_context_ref=f"ue-{digits}",
        supi=f"imsi-00101{digits[-10:].zfill(10)}",
        gpsi=f"msisdn-{digits}",
        pdu_session_id=1,
        dnn=dnn,
        s_nssai=Snssai(sst=1),
        ue_ipv4_address=address,
    )
    try:
        stub = PduSessionsServiceStub(channels.get("smf"))
        made = await stub.CreatePduSession(CreatePduSessionRequest(pdu_session=session))
        print(f"{phone_number} is attached as {made.pdu_session.supi} with {made.pdu_session.ue_ipv4_address}")
    finally:
        await channels.close()


if __name__ == "__main__":
    asyncio.run(attach(*sys.argv[1:]))
