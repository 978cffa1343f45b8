"""Names of the operator as UUIDs, for CAMARA APIs that know profiles and areas by UUIDs (RFC 9562 §5.5)."""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from uuid import UUID, uuid5

_NAMESPACE: Final = UUID("6a4f7d2e-94c1-5b6c-8d1f-3b1f0f6a5e21")
PROFILE: Final = "capability-profiles"
AREA: Final = "service-areas"


@lru_cache(maxsize=16_384)
def uuid_of(kind: str, name: str) -> str:
    """The UUID of a profile or area: its name where that is a UUID, else one made of it, always the same."""
    try:
        own = str(UUID(name))
    except ValueError:
        own = ""
    return name if own == name else str(uuid5(_NAMESPACE, f"{kind}/{name}"))
