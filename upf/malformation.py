"""Why a packet is malformed, one name for each header that cannot be right."""

from __future__ import annotations

from enum import StrEnum


class Malformation(StrEnum):
    """Why a packet is none that a rule could see."""

    LINK_HEADER = "link_header"
    IP_HEADER = "ip_header"
    IP_VERSION = "ip_version"
    IP_HEADER_LENGTH = "ip_header_length"
    IP_TOTAL_LENGTH = "ip_total_length"
    IP_EXTENSION_HEADER = "ip_extension_header"
    TRANSPORT_HEADER = "transport_header"
    GTPU_HEADER = "gtpu_header"
