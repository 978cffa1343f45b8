"""Network access IDs: what devices use a capability in an area by (5G-MAG live media distribution workflow, B.4).

A booking has one for each area and capability. It stays through every reconfiguration: where its capability is not
booked any more it is out of force, and the same again when it comes back.
"""

from __future__ import annotations

from nf.common.store import Reader
from nf.netapi.v1.booking_pb2 import NetworkAccessId


def require(reader: Reader, network_access_id: str) -> NetworkAccessId:
    """What an ID stands for. Raises NotFound."""
    return reader.require(NetworkAccessId, network_access_id)


def of_booking(reader: Reader, booking_id: str) -> list[NetworkAccessId]:
    """The IDs of a booking in the order of their issue, those out of force too."""
    return reader.all(NetworkAccessId, parent=booking_id)
