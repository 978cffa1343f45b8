"""Nmb2 and Nmb9 of the object method: from a provider's web server to files put together from the tunnel's packets."""

from __future__ import annotations

from pathlib import Path

import pytest
from dash_server import DashServer
from mbstf_stack import ACTIVE, ESTABLISHED, INACTIVE, Files, object_session, running, tunnel

from nf.common.v1 import mbs_distribution_pb2 as shared

SINGLE = shared.OBJ_DISTRIBUTION_OPERATING_MODE_SINGLE
COLLECTION = shared.OBJ_DISTRIBUTION_OPERATING_MODE_COLLECTION
CAROUSEL = shared.OBJ_DISTRIBUTION_OPERATING_MODE_CAROUSEL
STREAMING = shared.OBJ_DISTRIBUTION_OPERATING_MODE_STREAMING
PULL, PUSH = shared.OBJ_ACQUISITION_METHOD_PULL, shared.OBJ_ACQUISITION_METHOD_PUSH


def pulled(mode: int, base: str, *ids: str, **more: object) -> dict[str, object]:
    return {
        "obj_distribution_operating_mode": mode,
        "obj_acquisition_method": PULL,
        "obj_ingest_base_url": base,
        "obj_acquisition_ids_pull": ids,
        **more,
    }


@pytest.mark.clause("TS 26.502 §4.6.1 step 2b", "TS 26.502 §4.6.1 step 3", "TS 29.581 §5.2.2.4")
async def test_a_single_object_is_fetched_when_established_and_sent_when_active(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40
    async with DashServer({"/a/clip.mp4": content}) as origin, tunnel() as nmb9, running(tmp_path) as mbstf:
        data = pulled(SINGLE, f"{origin.url}/a", "clip.mp4", obj_distribution_base_url="http://example.com/a/")
        created = await mbstf.create(object_session("s", nmb9.address, **data))
        assert (created.dist_session_state, origin.paths) == (INACTIVE, [])
        assert (await mbstf.go("s", ESTABLISHED)).dist_session_state == ESTABLISHED
        assert origin.paths == ["/a/clip.mp4"]
        assert nmb9.received == []
        await mbstf.go("s", ACTIVE)
        files = Files(tmp_path / "received", created.flute_tsi)
        received = await nmb9.until(lambda packets: files.take(packets) == {"a/clip.mp4": content})
        assert {(each.source, each.group, each.port) for each in received} == {("127.0.0.1", "232.1.2.3", 5000)}
        await mbstf.go("s", INACTIVE)
        events = await mbstf.events()
        assert [(each.type, each.path) for each in events] == [
            ("DATA_INGEST_SESSION_ESTABLISHED", "Nmb8"),
            ("SESSION_ACTIVATED", ""),
            ("SESSION_DEACTIVATED", ""),
            ("DATA_INGEST_SESSION_TERMINATED", "Nmb8"),
        ]
