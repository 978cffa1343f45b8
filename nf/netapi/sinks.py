"""Sinks: where events are sent to as signed CloudEvents, for providers and for the subscriptions of the CAMARA doors.

A sink is a callback subscription of ``nf.common.callbacks`` under the same identifier, with its secrets kept apart.
"""

from __future__ import annotations

import re
import secrets as random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, TypeAlias

from nf.common import notification_subscriptions as subscriptions
from nf.common.callback_hosts import CallbackHosts
from nf.common.callbacks import Backoff, Callbacks, Telling
from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.events import Visible, everything
from nf.common.outgoing_http import HttpSender
from nf.common.reader import not_found
from nf.common.resources import copy_of, new_id
from nf.common.store import Page, Reader, Store, Transaction
from nf.common.tls import Credentials
from nf.common.v1.events_pb2 import Event
from nf.common.v1.notifications_pb2 import NotificationDelivery, NotificationFilter, NotificationSubscription
from nf.netapi.cloud_events import (
    CONTENT_TYPE,
    SIGNATURE_HEADER,
    CloudEventOf,
    envelope,
    own_cloud_event,
    signature,
)
from nf.netapi.config import NetapiSection
from nf.netapi.errors import InvalidSink
from nf.netapi.v1 import monitoring_pb2 as api

SOURCE: Final = "netapi"
MAX_PER_AGREEMENT: Final = 1000
# A sink is told that its token ends so long before it does, or at the last tenth of its time where that is shorter.
TOKEN_LEAD: Final = timedelta(seconds=60)
_SECRET_BYTES: Final = 32
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]{0,512}")
# What a receiver must be able to rely on, and what belongs to the connection.
_NOT_THEIRS: Final = frozenset(
    {"authorization", "connection", "content-length", "content-type", "expect", "host", "te", "trailer"}
    | {"transfer-encoding", "upgrade", "user-agent", "x-correlator", "proxy-authorization", "keep-alive"}
)

# What is done in the transaction that ends a sink.
SinkFollower: TypeAlias = Callable[[Transaction, api.EventSink], None]


def subject_of(sink_id: str) -> str:
    """The subject of the events about a sink."""
    return f"event-sinks/{sink_id}"


@dataclass(frozen=True, slots=True)
class SinkCredential:
    """What the platform shows a sink's receiver: a bearer token, and when it ends (None: it does not)."""

    access_token: str
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Telling:
    """How one sink is told."""

    sink: api.EventSink
    secrets: api.EventSinkSecrets
    make: CloudEventOf
    source: str

    def is_own(self, event: Event) -> bool:
        """Whether it is about the sink itself."""
        return event.subject == subject_of(self.sink.sink_id)

    def body(self, event: Event) -> bytes | None:
        """The CloudEvent; None where the sink's door does not tell it."""
        made = self.make(event, self.sink)
        return None if made is None else envelope(event, self.sink, *made, source=self.source)

    def headers(self, event: Event, content: bytes) -> Mapping[str, str]:
        """Signature, token, and what the sink wants to get along."""
        headers = {
            **self.secrets.headers,
            "content-type": CONTENT_TYPE,
            SIGNATURE_HEADER: signature(self.secrets.secret, content),
        }
        if self.secrets.access_token:
            headers["authorization"] = f"Bearer {self.secrets.access_token}"
        if event.correlation_id:
            headers["x-correlator"] = event.correlation_id
        return headers


class Sinks:
    """The sinks of the platform; events are sent between ``start`` and ``stop``, ``wake`` after a change.

    ``doors``: what each door makes of events for the sinks that were made by it. ``followers`` are called in the
    transaction that ends a sink, of whatever door, with the reason in it.
    """

    def __init__(
        self,
        store: Store,
        config: NetapiSection,
        *,
        doors: Mapping[str, CloudEventOf] = MappingProxyType({}),
        followers: Sequence[SinkFollower] = (),
        tls: Credentials | None = None,
    ) -> None:
        self._followers = tuple(followers)
        self._doors = {"": own_cloud_event, **doors}
        self._http_at_doors = config.http_sinks
        self._linger = timedelta(seconds=config.sink_linger_s)
        self._source = f"urn:castcore:netapi:{store.instance_id}"
        self._hosts = CallbackHosts(config.callback_hosts, setting="netapi.callback_hosts")
        self._sender = HttpSender(self._hosts, timeout_s=config.callback_timeout_s, tls=tls)
        self._callbacks = Callbacks(
            store,
            self._sender,
            function=SOURCE,
            visible=_visible_to,
            audience=lambda subscription: _audience(subscription.asp_id),
            telling=self._telling,
            ended=self._ended,
            backoff=Backoff(longest_s=config.callback_longest_pause_s),
        )
        self.wake = self._callbacks.wake

    async def start(self) -> None:
        """Begins with what there is to tell."""
        await self._callbacks.start()

    async def stop(self) -> None:
        """Ends; what is not told yet is told after the next start."""
        await self._callbacks.stop()
        await self._sender.close()

    def create_sink(
        self,
        transaction: Transaction,
        agreement_id: str,
        url: str,
        *,
        credential: SinkCredential | None = None,
        secret: str = "",
        headers: Mapping[str, str] = MappingProxyType({}),
        event_types: Sequence[str] = (),
        subject: str = "",
        filters: Sequence[NotificationFilter] = (),
        expires: datetime | None = None,
        max_events: int = 0,
        after_sequence: int | None = None,
        door: str = "",
        sink_id: str = "",
        announced: bool = False,
    ) -> str:
        """Makes a sink and returns its identifier; ``wake`` when the transaction is committed.

        It is told what its agreement may see (an empty one: everything), of ``event_types`` (none: all), about
        ``subject`` or below ("": everything), and passing one of ``filters`` (none: all); and, whatever that is,
        EVENT_SINK_STARTED (if ``announced``) and EVENT_SINK_ENDED about itself. ``sink_id`` is chosen here unless
        given. Raises InvalidArgument, InvalidSink, CallbackHostNotAllowed, EventsPruned, ResourceExhausted.
        """
        now = transaction.clock.now()
        if door and not url.startswith(("https://", "http://") if self._http_at_doors else "https://"):
            raise InvalidSink.of("sink", f"expected an https URL, found {url[:200]!r}")
        self._hosts.check_url("sink" if door else "event_sink.url", url)
        _check_headers(headers)
        ends = _first_end(now, expires, credential)
        wanted = NotificationSubscription(
            callback_url=url, event_types=event_types, subject=subject, filters=filters, max_events=max_events
        )
        if ends is not None:
            wanted.expire_time.FromDatetime(ends)
        if after_sequence is not None:
            wanted.after_sequence = after_sequence
        sink_id = sink_id or new_id()
        made = subscriptions.create(
            transaction,
            wanted,
            agreement_id,
            self._hosts,
            subscription_id=sink_id,
            most=MAX_PER_AGREEMENT,
            path="event_sink",
        )
        sink = api.EventSink(
            sink_id=sink_id,
            agreement_id=agreement_id,
            url=url,
            event_types=event_types,
            subject=subject,
            max_events=max_events,
            door=door,
            create_time=made.create_time,
        )
        if credential is not None and credential.expires is not None:
            sink.access_token_expire_time.FromDatetime(credential.expires)
        if expires is not None:
            sink.expire_time.FromDatetime(expires)
        if after_sequence is not None:
            sink.after_sequence = after_sequence
        kept = api.EventSinkSecrets(
            sink_id=sink_id,
            secret=secret or random.token_urlsafe(_SECRET_BYTES),
            access_token="" if credential is None else credential.access_token,
            headers=headers,
        )
        stored = transaction.insert(sink, sink_id, parent=agreement_id)
        transaction.insert(kept, sink_id, parent=sink_id)
        if announced:
            self._tell(transaction, "EVENT_SINK_STARTED", stored)
        return sink_id

    def end_sink(
        self,
        transaction: Transaction,
        sink_id: str,
        why: api.EventSinkEnd.ValueType = api.EVENT_SINK_END_DELETED,
        *,
        told: bool = True,
    ) -> None:
        """Ends a sink; ``wake`` when the transaction is committed. One that is no more, or is ending, stays so.

        It is sent what happened before, and EVENT_SINK_ENDED as the last; unless it is not to be ``told``: then it is
        sent nothing more.
        """
        sink = transaction.get(api.EventSink, sink_id)
        if sink is None or sink.end:
            if sink is not None and not told:
                self._forget(transaction, sink_id)
            return
        sink.end = why
        ended = transaction.update(sink, sink_id)
        sequence = self._tell(transaction, "EVENT_SINK_ENDED", ended)
        for follower in self._followers:
            follower(transaction, ended)
        if not told:
            self._forget(transaction, sink_id)
            return
        last = transaction.clock.now() + self._linger
        if sink.HasField("access_token_expire_time"):
            last = min(last, sink.access_token_expire_time.ToDatetime(last.tzinfo))
        subscriptions.end_with(transaction, sink_id, sequence, last)

    def on_agreement_end(self, transaction: Transaction, agreement_id: str) -> None:
        """Ends the sinks of an agreement at once: they are sent nothing more."""
        for sink in transaction.all(api.EventSink, parent=agreement_id):
            self.end_sink(transaction, sink.sink_id, api.EVENT_SINK_END_TERMINATED, told=False)

    def require(self, reader: Reader, sink_id: str, agreement_id: str | None) -> api.EventSink:
        """The sink with how it goes, for an agreement (None: whosoever it is). Raises NotFound."""
        found = reader.require(api.EventSink, sink_id)
        if agreement_id is not None and found.agreement_id != agreement_id:
            raise not_found(api.EventSink, sink_id)
        return _with_delivery(reader, found)

    def page(self, reader: Reader, agreement_id: str | None, *, page_size: int, page_token: str) -> Page[api.EventSink]:
        """One page of an agreement's sinks (None: of all), each with how it goes."""
        page = reader.list(api.EventSink, parent=agreement_id, page_size=page_size, page_token=page_token)
        return Page([_with_delivery(reader, each) for each in page.items], page.next_page_token)

    def secret_of(self, reader: Reader, sink_id: str) -> str:
        """By which the receiver knows who has signed; to be shown once. Raises NotFound."""
        return reader.require(api.EventSinkSecrets, sink_id).secret

    def _telling(self, reader: Reader, subscription: NotificationSubscription) -> Telling:
        name = subscription.subscription_id
        sink = reader.get(api.EventSink, name) or api.EventSink(sink_id=name)
        secrets = reader.get(api.EventSinkSecrets, name) or api.EventSinkSecrets(sink_id=name)
        # What a door made that is not offered any more waits, until it ends.
        return _Telling(sink, secrets, self._doors.get(sink.door, _nothing), self._source)

    def _ended(self, transaction: Transaction, subscription: NotificationSubscription, cause: str) -> None:
        name = subscription.subscription_id
        sink = transaction.get(api.EventSink, name)
        if sink is None or cause == "TOLD" or (cause == "EXPIRED" and sink.end):
            self._forget(transaction, name)
        elif cause == "GONE":
            self.end_sink(transaction, name, api.EVENT_SINK_END_GONE, told=False)
        elif cause == "MAX_EVENTS":
            self.end_sink(transaction, name, api.EVENT_SINK_END_MAX_EVENTS)
        else:
            self.end_sink(transaction, name, _why_expired(sink, transaction.clock.now()))

    def _tell(self, transaction: Transaction, event_type: str, sink: api.EventSink) -> int:
        audience = _audience(sink.agreement_id)
        changed = api.EventSinkChanged(event_sink=sink)
        return transaction.emit(event_type, subject_of(sink.sink_id), changed, source=SOURCE, audience=audience)

    def _forget(self, transaction: Transaction, sink_id: str) -> None:
        transaction.delete(api.EventSink, sink_id)
        transaction.delete(api.EventSinkSecrets, sink_id)
        subscriptions.forget(transaction, sink_id)


def _nothing(event: Event, sink: api.EventSink) -> None:
    del event, sink


def _audience(agreement_id: str) -> tuple[str, ...]:
    return (f"agreement/{agreement_id}",) if agreement_id else ()


def _visible_to(subscription: NotificationSubscription) -> Visible:
    if not subscription.asp_id:
        return everything
    (name,) = _audience(subscription.asp_id)
    return lambda event: name in event.audience


def _first_end(now: datetime, expires: datetime | None, credential: SinkCredential | None) -> datetime | None:
    """When the sink has to be looked at because it ends: at its own time, or shortly before that of its token."""
    ends = [] if expires is None else [expires]
    if credential is not None and credential.expires is not None:
        left = credential.expires - now
        if left <= timedelta(0):
            raise InvalidArgument.of(
                "event_sink.access_token_expire_time",
                f"expected a time to come, found {credential.expires.isoformat()}",
            )
        ends.append(credential.expires - min(TOKEN_LEAD, left / 10))
    return min(ends, default=None)


def _why_expired(sink: api.EventSink, now: datetime) -> api.EventSinkEnd.ValueType:
    if sink.HasField("expire_time") and sink.expire_time.ToDatetime(now.tzinfo) <= now:
        return api.EVENT_SINK_END_EXPIRED
    return api.EVENT_SINK_END_ACCESS_TOKEN_EXPIRED


def _check_headers(headers: Mapping[str, str]) -> None:
    violations = []
    for name, value in headers.items():
        key = f"headers[{name[:64]!r}]"
        if not _HEADER_NAME.fullmatch(name):
            violations.append(FieldViolation(key, "expected the name of a header field"))
        elif name.lower() in _NOT_THEIRS or name.lower().startswith("castcore-"):
            violations.append(FieldViolation(key, "expected another name: this field is the platform's to set"))
        elif not _HEADER_VALUE.fullmatch(value):
            violations.append(FieldViolation(key, "expected at most 512 printable ASCII characters"))
    if violations:
        raise InvalidArgument.of_all(violations)


def _with_delivery(reader: Reader, sink: api.EventSink) -> api.EventSink:
    told = copy_of(sink)
    delivery = reader.get(NotificationDelivery, sink.sink_id)
    if delivery is not None:
        told.delivery.CopyFrom(delivery)
    return told
