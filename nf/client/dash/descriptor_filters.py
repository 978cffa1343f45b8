"""The service descriptor filter as the player takes it from the Media Session Handler (TS 26.512 A.3.2 step 7)."""

from __future__ import annotations

from typing import Final

from nf.af.v1.media_session_pb2 import ServiceDescriptorFilter
from nf.client.dash.combinations import DescriptorFilter
from nf.common.dash.service_descriptions import AUDIO, VIDEO
from nf.common.v1.types_pb2 import MEDIA_TYPE_AUDIO, MEDIA_TYPE_VIDEO

_MEDIA: Final = {MEDIA_TYPE_AUDIO: AUDIO, MEDIA_TYPE_VIDEO: VIDEO}


def from_message(message: ServiceDescriptorFilter | None) -> DescriptorFilter | None:
    """The filter of a message; None, or a message without a bound: no filter."""
    if message is None or not (message.service_description_id or message.operating_bandwidth_max_bps):
        return None
    return DescriptorFilter(
        service_description_id=message.service_description_id,
        operating_bandwidth_max_bps=message.operating_bandwidth_max_bps or None,
        media_type=_MEDIA.get(message.media_type, ""),
    )
