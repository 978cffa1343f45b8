"""Reports through the draft reporting API: ``/3gpp-5gms-consumption-reporting/v1/{aspId}/session…``.

A client opens a session by PUT and reports to its URL; a session that has expired is opened anew.
"""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

import httpx

from nf.af.v1.consumption_reporting_pb2 import ConsumptionReport
from nf.af.v1.media_session_pb2 import ClientConsumptionReportingConfiguration
from nf.af.v1.provisioning_pb2 import ConsumptionReportingConfiguration
from nf.client.http_errors import error_from, error_of
from nf.common import codec
from nf.common.errors import Internal, NotFound
from nf.common.resources import copy_of

DRAFT_PATH: Final = "/3gpp-5gms-consumption-reporting/v1"


class DraftReporting:
    """The reporting sessions of one client with one provider, one for each provisioning session."""

    def __init__(self, url: str, asp_id: str, client: httpx.AsyncClient) -> None:
        parts = urlsplit(url)
        self._sessions_url = f"{parts.scheme}://{parts.netloc}{DRAFT_PATH}/{quote(asp_id, safe='')}/session"
        self._client = client
        self._urls: dict[str, str] = {}
        self._opening = asyncio.Lock()

    async def configuration(self, provisioning_session_id: str) -> ClientConsumptionReportingConfiguration:
        """What is in force for the session, which is opened where there is none. Raises NotFound."""
        for attempt in (1, 2):
            url = await self._url(provisioning_session_id)
            try:
                response = await self._call("GET", f"{url}/acquire")
            except NotFound:
                self._urls.pop(provisioning_session_id, None)
                if attempt == 2:
                    raise
            else:
                return _for_clients(codec.loads(ConsumptionReportingConfiguration, response.content))
        raise AssertionError("the second attempt returns or raises")

    async def report(self, provisioning_session_id: str, report: ConsumptionReport) -> None:
        """Hands in a report; a session that is not there any more is opened anew, once."""
        content = codec.dumps(_with_one_location(report))
        for attempt in (1, 2):
            url = await self._url(provisioning_session_id)
            try:
                await self._call("POST", url, content)
            except NotFound:
                if self._urls.get(provisioning_session_id) == url:
                    del self._urls[provisioning_session_id]
                if attempt == 2:
                    raise
            else:
                return

    async def _url(self, provisioning_session_id: str) -> str:
        async with self._opening:
            url = self._urls.get(provisioning_session_id)
            if url is None:
                chosen = f"?provisioningSessionId={quote(provisioning_session_id, safe='')}"
                response = await self._call("PUT", f"{self._sessions_url}{chosen if provisioning_session_id else ''}")
                location = response.headers.get("location", "")
                if not location:
                    raise Internal(f"PUT {self._sessions_url}: answered without the new session in Location")
                url = self._urls[provisioning_session_id] = urljoin(self._sessions_url, location).rstrip("/")
            return url

    async def _call(self, method: str, url: str, content: bytes | None = None) -> httpx.Response:
        headers = {} if content is None else {"content-type": "application/json"}
        try:
            response = await self._client.request(method, url, content=content, headers=headers)
        except httpx.HTTPError as failure:
            raise error_from(failure, f"{method} {url}") from failure
        if response.status_code >= 300:
            raise error_of(response)
        return response


def _for_clients(told: ConsumptionReportingConfiguration) -> ClientConsumptionReportingConfiguration:
    """The draft's configuration in the words of the service access information."""
    configuration = ClientConsumptionReportingConfiguration(
        location_reporting=told.location_reporting or told.HasField("location_type"),
        access_reporting=told.access_reporting,
        sample_percentage=told.sample_percentage if told.HasField("sample_percentage") else 100.0,
    )
    if told.HasField("reporting_interval_s"):
        configuration.reporting_interval_s = told.reporting_interval_s
    return configuration


def _with_one_location(report: ConsumptionReport) -> ConsumptionReport:
    """The report as the draft has it: one location for all units, where they have one; else it stays as it is."""
    locations = {each.SerializeToString() for unit in report.consumption_reporting_units for each in unit.locations}
    if len(locations) != 1 or not all(len(unit.locations) == 1 for unit in report.consumption_reporting_units):
        return report
    told = copy_of(report)
    first = told.consumption_reporting_units[0].locations[0]
    # CGI, ECGI, NCGI are 1, 2, 3 in the contract, and 0, 1, 2 in the draft.
    told.location_type, told.location = int(first.location_identifier_type) - 1, first.location
    for unit in told.consumption_reporting_units:
        unit.ClearField("locations")
    return told
