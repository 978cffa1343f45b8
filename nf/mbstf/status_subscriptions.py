"""Who is told of a distribution session's status by HTTP: TS 29.581's words for notification subscriptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask

from nf.common import notification_subscriptions as domain
from nf.common.codec import dumps
from nf.common.config import NotifyingSection
from nf.common.errors import InvalidArgument
from nf.common.notifying import Notifying
from nf.common.resources import check_etag
from nf.common.store import Store, Transaction
from nf.common.tls import Credentials
from nf.common.v1.events_pb2 import Event
from nf.common.v1.notifications_pb2 import NotificationFilter, NotificationSubscription
from nf.mbstf.sessions import SOURCE, required
from nf.mbstf.v1 import status_subscription_pb2 as api
from nf.mbstf.v1.dist_session_pb2 import DistSessionEventReport

T = TypeVar("T")

_MASK: Final = ("callback_url", "filters", "expire_time", "notify_correlation_id")
_TYPES: Final = api.DistSessionEventType


def subject_of(dist_session_id: str) -> str:
    """The subject of the events about a distribution session."""
    return f"dist-sessions/{dist_session_id}"


class StatusSubscriptions:
    """The subscriptions of distribution sessions; notifications are sent between ``start`` and ``stop``."""

    def __init__(self, store: Store, config: NotifyingSection, *, tls: Credentials | None = None) -> None:
        self._store = store
        self._notifying = Notifying(store, config, function=SOURCE, tls=tls, body=notification)
        self.start = self._notifying.start
        self.stop = self._notifying.stop

    async def create(self, dist_session_id: str, wanted: api.DistSessionSubscription) -> NotificationSubscription:
        """Subscribes from now on. Raises DistSessionNotFound, InvalidArgument, CallbackHostNotAllowed."""
        asked = stored_of(dist_session_id, wanted)
        owner, hosts = subject_of(dist_session_id), self._notifying.hosts

        def work(transaction: Transaction) -> NotificationSubscription:
            required(transaction, dist_session_id)
            return domain.create(transaction, asked, owner, hosts)

        return await self._changed(work)

    async def change(
        self,
        dist_session_id: str,
        subscription_id: str,
        patch: Callable[[api.DistSessionSubscription], api.DistSessionSubscription],
        etag: str = "",
    ) -> NotificationSubscription:
        """Changes what ``patch`` changes. Raises NotFound, EtagMismatch, and what ``create`` raises."""
        owner, hosts = subject_of(dist_session_id), self._notifying.hosts

        def work(transaction: Transaction) -> NotificationSubscription:
            current = domain.require(transaction, subscription_id, owner)
            check_etag(current.etag, etag, f"subscription {subscription_id!r}")
            changes = stored_of(dist_session_id, patch(shown_of(current)))
            changes.subscription_id = subscription_id
            return domain.update(transaction, changes, FieldMask(paths=_MASK), owner, hosts)

        return await self._changed(work)

    async def delete(self, dist_session_id: str, subscription_id: str) -> None:
        """Ends a subscription. Raises NotFound."""
        await self._changed(lambda tx: domain.remove(tx, subscription_id, subject_of(dist_session_id)))

    async def _changed(self, work: Callable[[Transaction], T]) -> T:
        done = await self._store.write(work)
        self._notifying.wake()
        return done


def stored_of(dist_session_id: str, wanted: api.DistSessionSubscription) -> NotificationSubscription:
    """The subscription as it is kept. Raises InvalidArgument where nothing is subscribed to."""
    if not wanted.event_list:
        raise InvalidArgument.of("subscription.event_list", "expected one event at least, found none")
    subject = subject_of(dist_session_id)
    kept = NotificationSubscription(callback_url=wanted.notify_uri, notify_correlation_id=wanted.notify_correlation_id)
    for each in dict.fromkeys(wanted.event_list):
        kept.filters.append(NotificationFilter(event_type=_type_name(each), subject=subject))
    if wanted.HasField("expiry_time"):
        kept.expire_time.CopyFrom(wanted.expiry_time)
    return kept


def shown_of(kept: NotificationSubscription) -> api.DistSessionSubscription:
    """The subscription in the words of TS 29.581, its URL excepted."""
    shown = api.DistSessionSubscription(
        notify_uri=kept.callback_url,
        notify_correlation_id=kept.notify_correlation_id,
        event_list=[_TYPES.Value(f"DIST_SESSION_EVENT_TYPE_{each.event_type}") for each in kept.filters],
    )
    if kept.HasField("expire_time"):
        shown.expiry_time.CopyFrom(kept.expire_time)
    return shown


def notification(subscription: NotificationSubscription, event: Event) -> bytes:
    """What a subscriber is sent of an event (StatusNotifyReqData)."""
    told = DistSessionEventReport()
    event.payload.Unpack(told)
    reports = api.StatusReportList(notify_correlation_id=subscription.notify_correlation_id)
    report = reports.event_report_list.add(event_type=_TYPES.Value(f"DIST_SESSION_EVENT_TYPE_{event.type}"))
    report.time_stamp.CopyFrom(told.time_stamp if told.HasField("time_stamp") else event.event_time)
    return dumps(api.StatusNotifyReqData(report_list=reports))


def _type_name(event_type: api.DistSessionEventType.ValueType) -> str:
    return _TYPES.Name(event_type).removeprefix("DIST_SESSION_EVENT_TYPE_")
