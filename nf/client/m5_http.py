"""M5 over HTTP, as TS 26.512 §11 has it: ``/3gpp-m5/v2/…`` of any 5GMS AF, HTTP/1.1 or h2c."""

from __future__ import annotations

import asyncio
import copy
import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Final
from urllib.parse import quote, urlsplit

import httpx

from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1.consumption_reporting_pb2 import ConsumptionReport
from nf.client.cache_control import max_age_s
from nf.client.draft_reporting import DraftReporting
from nf.client.http_errors import error_from, error_of
from nf.client.m5 import ServiceAccessAnswer
from nf.common import codec, json_text
from nf.common.clock import Clock, SystemClock
from nf.common.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from nf.common.resources import copy_of
from nf.common.tls import public_authorities

M5_PATH: Final = "/3gpp-m5/v2"
UE_ADDRESS_HEADER: Final = "x-ue-address"
DEFAULT_DEADLINE_S: Final = 5.0
# How long what comes without Cache-Control may be kept.
_DEFAULT_MAX_AGE_S: Final = 60.0
# M5 has no notifications over HTTP: how often an instance is looked at.
WATCH_INTERVAL_S: Final = 2.0
# The client's pool takes the longer for each request, the more connections and waiting requests it has.
_CONNECTIONS: Final = 8


class HttpM5:
    """M5 of the AF at ``url``: its root (``http://HOST:PORT``), or all of the path up to the version.

    ``http2``: h2c from the first byte (RFC 9113 §3.3), h2 over TLS. ``ue_address`` is sent along as X-UE-Address: an AF
    that trusts us takes our word for the UE. ``draft_asp_id``: reports take the draft reporting API of this provider.
    """

    def __init__(
        self,
        url: str,
        *,
        ue_address: str = "",
        http2: bool = False,
        tls: ssl.SSLContext | None = None,
        draft_asp_id: str = "",
        deadline_s: float = DEFAULT_DEADLINE_S,
        connections: int = _CONNECTIONS,
        watch_interval_s: float = WATCH_INTERVAL_S,
        clock: Clock | None = None,
    ) -> None:
        self._root = m5_root(url)
        self._clock = clock if clock is not None else SystemClock()
        self._watch_interval_s = watch_interval_s
        self._url = url
        self._draft_asp_id = draft_asp_id
        self._headers = {UE_ADDRESS_HEADER: ue_address} if ue_address else {}
        self._client = httpx.AsyncClient(
            http1=not http2,
            http2=http2,
            headers={"accept": "application/json, application/problem+json"},
            timeout=deadline_s,
            verify=tls if tls is not None else public_authorities(),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            trust_env=False,
        )
        self._turn = asyncio.Semaphore(connections)
        self._draft = DraftReporting(url, draft_asp_id, self._client) if draft_asp_id else None

    async def service_access_information(self, provisioning_session_id: str, *, etag: str = "") -> ServiceAccessAnswer:
        """What is needed to use the provisioned service, and how long it may be kept. Raises NotFound."""
        path = f"/service-access-information/{quote(provisioning_session_id, safe='')}"
        try:
            response = await self._call("GET", path, headers={"if-none-match": etag} if etag else {})
        except NotFound:
            if self._draft is None:
                raise
            # An AF that has the draft API alone tells the configuration of reporting there.
            configuration = await self._draft.configuration(provisioning_session_id)
            information = m5.ServiceAccessInformation(
                provisioning_session_id=provisioning_session_id,
                client_consumption_reporting_configuration=configuration,
            )
            return ServiceAccessAnswer(information, "", _DEFAULT_MAX_AGE_S)
        kept_s = max_age_s(response.headers, _DEFAULT_MAX_AGE_S)
        told = response.headers.get("etag", "")
        if response.status_code == httpx.codes.NOT_MODIFIED:
            return ServiceAccessAnswer(None, told or etag, kept_s)
        information = codec.loads(m5.ServiceAccessInformation, response.content)
        configuration = information.client_consumption_reporting_configuration
        if information.HasField("client_consumption_reporting_configuration") and not _has_percentage(response.content):
            # Without a share, all clients report.
            configuration.sample_percentage = 100.0
        return ServiceAccessAnswer(information, told, kept_s)

    async def create_dynamic_policy(self, policy: m5.DynamicPolicy, *, request_id: str = "") -> m5.DynamicPolicy:
        """Activates a policy template for the flows of a media session; returns when it is enforced."""
        response = await self._call("POST", "/dynamic-policies", content=codec.dumps(policy))
        created = _policy(response)
        if not created.dynamic_policy_id:
            created.dynamic_policy_id = urlsplit(response.headers.get("location", "")).path.rpartition("/")[2]
        return created

    async def get_dynamic_policy(self, dynamic_policy_id: str) -> m5.DynamicPolicy:
        """The instance as it is. Raises NotFound."""
        return _policy(await self._call("GET", _policy_path(dynamic_policy_id)))

    async def update_dynamic_policy(self, policy: m5.DynamicPolicy, paths: Sequence[str]) -> m5.DynamicPolicy:
        """Changes the named fields of an instance, by a merge patch; returns when that is enforced. Raises NotFound."""
        patch: dict[str, object] = {}
        content = codec.to_json(policy)
        for path in paths:
            name = policy.DESCRIPTOR.fields_by_name[path].json_name
            # What a merge patch sets to null is taken away; a list that is empty is a list.
            patch[name] = content.get(name, [] if name == "serviceDataFlowDescriptions" else None)
        response = await self._call(
            "PATCH",
            _policy_path(policy.dynamic_policy_id),
            content=json_text.encode(patch),
            headers={"content-type": "application/merge-patch+json"},
        )
        if response.status_code == httpx.codes.NO_CONTENT:
            return await self.get_dynamic_policy(policy.dynamic_policy_id)
        return _policy(response)

    async def delete_dynamic_policy(self, dynamic_policy_id: str) -> None:
        """Deactivates an instance. Raises NotFound."""
        await self._call("DELETE", _policy_path(dynamic_policy_id))

    async def watch_dynamic_policy(self, dynamic_policy_id: str) -> AsyncIterator[m5.DynamicPolicy]:
        """The instance whenever it has changed, looked at every so often; STATE_TERMINATED comes last."""
        etag, known = "", m5.DynamicPolicy(dynamic_policy_id=dynamic_policy_id)
        while True:
            try:
                response = await self._call(
                    "GET", _policy_path(dynamic_policy_id), headers={"if-none-match": etag} if etag else {}
                )
            except NotFound:
                gone = copy_of(known)
                gone.state = m5.DynamicPolicy.STATE_TERMINATED
                yield gone
                return
            if response.status_code != httpx.codes.NOT_MODIFIED:
                current = _policy(response)
                if current != known:
                    known = current
                    yield copy_of(current)
                    if current.state == m5.DynamicPolicy.STATE_TERMINATED:
                        return
                etag = response.headers.get("etag", "")
            await self._clock.sleep_until(self._clock.now() + timedelta(seconds=self._watch_interval_s))

    async def report_consumption(
        self, provisioning_session_id: str, report: ConsumptionReport, server_addresses: Sequence[str] = ()
    ) -> None:
        """Hands in a report at the first of the servers that is there; returns when it is stored."""
        if self._draft is not None:
            await self._draft.report(provisioning_session_id, report)
            return
        roots = [m5_root(address) for address in server_addresses] or [self._root]
        path = f"/consumption-reporting/{quote(provisioning_session_id, safe='')}"
        content = codec.dumps(report)
        for at, root in enumerate(roots, start=1):
            try:
                await self._call("POST", path, content=content, root=root)
            except (Unavailable, DeadlineExceeded):
                if at == len(roots):
                    raise
            else:
                return

    def for_ue(self, ue_address: str) -> HttpM5:
        """M5 on the same connections, on behalf of this UE; it has reporting sessions of its own."""
        other = copy.copy(self)
        other._headers = {UE_ADDRESS_HEADER: ue_address}
        if self._draft is not None:
            other._draft = DraftReporting(self._url, self._draft_asp_id, self._client)
        return other

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        root: str = "",
    ) -> httpx.Response:
        sent = {**self._headers, **(headers or {})}
        async with self._turn:
            return await call(self._client, method, f"{root or self._root}{path}", content=content, headers=sent)


async def call(
    client: httpx.AsyncClient, method: str, url: str, *, content: bytes | None = None, headers: Mapping[str, str]
) -> httpx.Response:
    """The answer, 304 or less than 300. Raises the CastcoreError that any other stands for."""
    sent = dict(headers)
    if content is not None:
        sent.setdefault("content-type", "application/json")
    try:
        response = await client.request(method, url, content=content, headers=sent)
    except httpx.HTTPError as failure:
        raise error_from(failure, f"{method} {url}") from failure
    except httpx.InvalidURL as failure:
        raise InvalidArgument(f"{url!r}: {failure}") from failure
    if response.status_code >= 300 and response.status_code != httpx.codes.NOT_MODIFIED:
        raise error_of(response)
    return response


def m5_root(url: str) -> str:
    """Where M5's resources begin: at ``url`` where it has a path, else at the path that TS 26.512 gives them.

    Raises InvalidArgument for what is no absolute http(s) URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument(f"M5 address: expected an absolute http or https URL, found {url!r}")
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or M5_PATH}"


def _policy_path(dynamic_policy_id: str) -> str:
    return f"/dynamic-policies/{quote(dynamic_policy_id, safe='')}"


def _policy(response: httpx.Response) -> m5.DynamicPolicy:
    policy = codec.loads(m5.DynamicPolicy, response.content)
    if policy.state == m5.DynamicPolicy.STATE_UNSPECIFIED:
        # An AF that tells no states answers when the policy is in force.
        policy.state = m5.DynamicPolicy.STATE_ACTIVE
    return policy


def _has_percentage(body: bytes) -> bool:
    said = json.loads(body).get("clientConsumptionReportingConfiguration", {})
    return isinstance(said, dict) and "samplePercentage" in said
