"""Under which names objects are sent and repaired (TS 26.502 §4.5.6, TS 26.517): URLs in, Content-Locations out."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote, unquote, urljoin, urlsplit

from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.mbstf.v1.dist_session_pb2 import DistSession

# Where the HTTP doors of the MBSTF take objects, and give them out again.
PUSH_PREFIX = "/mbs-ingest"
REPAIR_PREFIX = "/mbs-as"


class Names:
    """The names of one session's objects; ``http_url`` is where the MBSTF's HTTP doors are."""

    def __init__(self, session: DistSession, http_url: str) -> None:
        data = session.obj_distribution_data
        session_id = quote(session.dist_session_id, safe="")
        self.push_base = f"{http_url}{PUSH_PREFIX}/{session_id}/"
        self.own_repair_base = f"{http_url}{REPAIR_PREFIX}/{session_id}/"
        if data.obj_acquisition_method == shared.OBJ_ACQUISITION_METHOD_PUSH:
            self.ingest_base = self.push_base
        elif data.obj_ingest_base_url:
            self.ingest_base = data.obj_ingest_base_url
        else:
            self.ingest_base = _folder(data.obj_acquisition_ids_pull[0]) if data.obj_acquisition_ids_pull else ""
        self.distribution_base = data.obj_distribution_base_url or self.ingest_base
        self.repair_base = data.obj_repair_base_url or self.own_repair_base

    def absolute(self, identifier: str) -> str:
        """The URL of an acquisition identifier."""
        return urljoin(self.ingest_base, identifier)

    def location(self, url: str) -> str:
        """The Content-Location of what was ingested from, or at, that URL."""
        if self.ingest_base and url.startswith(self.ingest_base):
            return self.distribution_base + url[len(self.ingest_base) :]
        return url

    def repair_path(self, location: str) -> str:
        """Where below the repair base an object is found: its name below the distribution base, else all of it."""
        if self.distribution_base and location.startswith(self.distribution_base):
            return unquote(location[len(self.distribution_base) :])
        return location


@lru_cache(maxsize=4096)
def _folder(url: str) -> str:
    """What stands before the last part of a URL; empty for what is none."""
    return urljoin(url, ".") if urlsplit(url).scheme else ""
