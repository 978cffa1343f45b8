"""Who is told of an ingest session's status by HTTP: TS 29.580's words for notification subscriptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask

from nf.common import notification_subscriptions as domain
from nf.common.codec import dumps
from nf.common.config import NotifyingSection
from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.notifying import Notifying
from nf.common.reader import Reader
from nf.common.resources import MAX_PAGE_SIZE, check_etag
from nf.common.store import Page, Store, Transaction
from nf.common.tls import Credentials
from nf.common.v1.events_pb2 import Event
from nf.common.v1.notifications_pb2 import NotificationFilter, NotificationSubscription
from nf.mbsf.v1 import user_data_ingest_pb2 as api
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession

T = TypeVar("T")

_MASK: Final = ("callback_url", "filters")
_INGEST: Final = "mbs-ing-sessions/"
_DISTRIBUTION: Final = "/dist-sessions/"
_PREFIX: Final = "STATUS_EVENT_"
_PATH: Final = "event_subscs"


class StatusSubscriptions:
    """The subscriptions to ingest sessions; notifications are sent between ``start`` and ``stop``."""

    def __init__(self, store: Store, config: NotifyingSection, *, tls: Credentials | None = None) -> None:
        self._store = store
        self._notifying = Notifying(store, config, function="mbsf", tls=tls, body=notification)
        self.start = self._notifying.start
        self.stop = self._notifying.stop

    async def create(self, wanted: api.MbsUserDataIngStatSubsc) -> NotificationSubscription:
        """Subscribes from now on. Raises NotFound, InvalidArgument, CallbackHostNotAllowed, ResourceExhausted."""
        asked, hosts = stored_of(wanted), self._notifying.hosts

        def work(transaction: Transaction) -> NotificationSubscription:
            _check(transaction, wanted)
            return domain.create(transaction, asked, asked.subject, hosts)

        return await self._changed(work)

    async def get(self, subscription_id: str) -> NotificationSubscription:
        """The subscription. Raises NotFound."""
        return await self._store.read(lambda reader: domain.require(reader, subscription_id, None))

    async def all(self) -> list[NotificationSubscription]:
        """All subscriptions, in the order of their creation."""
        found: list[NotificationSubscription] = []
        token = ""
        while True:
            page: Page[NotificationSubscription] = await self._store.read(
                lambda reader, token=token: domain.list_subscriptions(  # type: ignore[misc]
                    reader, None, page_size=MAX_PAGE_SIZE, page_token=token
                )
            )
            found += page.items
            token = page.next_page_token
            if not token:
                return found

    async def change(
        self,
        subscription_id: str,
        wanted_of: Callable[[api.MbsUserDataIngStatSubsc], api.MbsUserDataIngStatSubsc],
        etag: str = "",
    ) -> NotificationSubscription:
        """Changes the subscription; how far it has been told stays. Raises EtagMismatch, and what ``create`` raises."""
        hosts = self._notifying.hosts

        def work(transaction: Transaction) -> NotificationSubscription:
            current = domain.require(transaction, subscription_id, None)
            check_etag(current.etag, etag, f"status subscription {subscription_id!r}")
            wanted = wanted_of(shown_of(current))
            changes = stored_of(wanted)
            if changes.subject != current.subject:
                raise InvalidArgument.of(
                    "mbs_ing_session_id",
                    f"expected {current.subject.removeprefix(_INGEST)!r} as it is, found {wanted.mbs_ing_session_id!r}",
                )
            _check(transaction, wanted)
            changes.subscription_id = subscription_id
            return domain.update(transaction, changes, FieldMask(paths=_MASK), None, hosts)

        return await self._changed(work)

    async def delete(self, subscription_id: str, etag: str = "") -> None:
        """Ends a subscription. Raises NotFound, EtagMismatch."""
        await self._changed(lambda tx: domain.remove(tx, subscription_id, None, etag))

    async def _changed(self, work: Callable[[Transaction], T]) -> T:
        done = await self._store.write(work)
        self._notifying.wake()
        return done


def stored_of(wanted: api.MbsUserDataIngStatSubsc) -> NotificationSubscription:
    """The subscription as it is kept. Raises InvalidArgument where nothing is subscribed to."""
    if not wanted.event_subscs:
        raise InvalidArgument.of(_PATH, "expected one event at least, found none")
    subject = f"{_INGEST}{wanted.mbs_ing_session_id}"
    kept = NotificationSubscription(callback_url=wanted.notif_uri, subject=subject)
    for each in wanted.event_subscs:
        below = f"{subject}{_DISTRIBUTION}{each.mbs_dist_session_id}" if each.mbs_dist_session_id else ""
        kept.filters.append(
            NotificationFilter(event_type=api.StatusEvent.Name(each.status_event).removeprefix(_PREFIX), subject=below)
        )
    return kept


def shown_of(kept: NotificationSubscription) -> api.MbsUserDataIngStatSubsc:
    """The subscription in the words of TS 29.580."""
    shown = api.MbsUserDataIngStatSubsc(
        mbs_ing_session_id=kept.subject.removeprefix(_INGEST), notif_uri=kept.callback_url
    )
    for each in kept.filters:
        shown.event_subscs.add(
            status_event=api.StatusEvent.Value(f"{_PREFIX}{each.event_type}"),
            mbs_dist_session_id=each.subject.partition(_DISTRIBUTION)[2],
        )
    return shown


def notification(_: NotificationSubscription, event: Event) -> bytes:
    """What a subscriber is sent of an event (MBSUserDataIngStatNotif)."""
    told = api.EventNotification()
    event.payload.Unpack(told)
    return dumps(api.MbsUserDataIngStatNotif(mbs_ing_session_id=told.mbs_ing_session_id, event_notifs=[told]))


def _check(reader: Reader, wanted: api.MbsUserDataIngStatSubsc) -> None:
    """Raises NotFound without the ingest session, InvalidArgument for a distribution session that is none of its."""
    reader.require(api.MbsUserDataIngSession, wanted.mbs_ing_session_id)
    violations = []
    for index, each in enumerate(wanted.event_subscs):
        if not each.mbs_dist_session_id:
            continue
        found = reader.get(DistributionSession, each.mbs_dist_session_id)
        if found is None or found.mbs_ing_session_id != wanted.mbs_ing_session_id:
            expected = f"expected one of {wanted.mbs_ing_session_id!r}, found {each.mbs_dist_session_id!r}"
            violations.append(FieldViolation(f"{_PATH}[{index}].mbs_dist_session_id", expected))
    if violations:
        raise InvalidArgument.of_all(violations)
