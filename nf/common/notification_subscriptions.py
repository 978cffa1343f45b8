"""Subscriptions to events as callbacks, one transaction each; whoever emits events may offer them.

``owner`` is the provider that asks, None for the operator, who sees all of them. Another's does not exist.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.callback_hosts import CallbackHosts
from nf.common.clock import Clock
from nf.common.errors import FieldViolation, InvalidArgument, ResourceExhausted
from nf.common.events import check_kept
from nf.common.reader import not_found
from nf.common.resources import apply_mask, check_etag, copy_of, new_id
from nf.common.store import Page, Reader, Transaction
from nf.common.v1.notifications_pb2 import (
    NotificationDelivery,
    NotificationSubscription,
    NotificationSubscriptionEnded,
)

SETTABLE: Final = (
    "callback_url",
    "event_types",
    "subject",
    "expire_time",
    "filters",
    "notify_correlation_id",
    "max_events",
)
MAX_PER_OWNER: Final = 100
_MAX_TYPES: Final = 64
MAX_FILTERS: Final = 1000
_MAX_SUBJECT: Final = 512
_TYPE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_PATH: Final = "notification_subscription"


def subject_of(subscription_id: str) -> str:
    """The subject of the events about a subscription."""
    return f"notification-subscriptions/{subscription_id}"


def create(
    transaction: Transaction,
    wanted: NotificationSubscription,
    owner: str | None,
    hosts: CallbackHosts,
    *,
    subscription_id: str = "",
    most: int = MAX_PER_OWNER,
    path: str = _PATH,
) -> NotificationSubscription:
    """A new subscription; an owner has at the most ``most``. ``subscription_id`` is chosen here unless given.

    ``path`` is where the request has it.

    Raises InvalidArgument, CallbackHostNotAllowed, EventsPruned, ResourceExhausted.
    """
    _check(wanted, hosts, transaction.clock, path)
    position = _begin(transaction, wanted, path)
    parent = owner or ""
    if len(transaction.all(NotificationSubscription, parent=parent)) >= most:
        raise ResourceExhausted(f"there are {most} notification subscriptions already: delete one first")
    made = apply_mask(NotificationSubscription(), wanted, FieldMask(), SETTABLE)
    made.subscription_id = subscription_id or new_id()
    made.asp_id = parent
    if wanted.HasField("after_sequence"):
        made.after_sequence = wanted.after_sequence
    made.create_time.FromDatetime(transaction.clock.now())
    due = made.expire_time.ToDatetime(transaction.clock.now().tzinfo) if made.HasField("expire_time") else None
    stored = transaction.insert(made, made.subscription_id, parent=parent, due=due)
    delivery = NotificationDelivery(subscription_id=made.subscription_id, delivered_sequence=position)
    transaction.insert(delivery, made.subscription_id, parent=made.subscription_id)
    return _with_delivery(transaction, stored)


def require(reader: Reader, subscription_id: str, owner: str | None) -> NotificationSubscription:
    """The subscription with how it goes. Raises NotFound."""
    return _with_delivery(reader, _require(reader, subscription_id, owner))


def list_subscriptions(
    reader: Reader, owner: str | None, *, page_size: int, page_token: str
) -> Page[NotificationSubscription]:
    """One page of the owner's subscriptions, each with how it goes."""
    page = reader.list(NotificationSubscription, parent=owner, page_size=page_size, page_token=page_token)
    return Page([_with_delivery(reader, each) for each in page.items], page.next_page_token)


def update(
    transaction: Transaction,
    changes: NotificationSubscription,
    mask: FieldMask,
    owner: str | None,
    hosts: CallbackHosts,
) -> NotificationSubscription:
    """Changes where and what is told; how far it has been told stays. Raises like ``create``, and EtagMismatch."""
    current = _require(transaction, changes.subscription_id, owner)
    changed = apply_mask(current, changes, mask, SETTABLE)
    _check(changed, hosts, transaction.clock)
    due = changed.expire_time.ToDatetime(transaction.clock.now().tzinfo) if changed.HasField("expire_time") else None
    stored = transaction.update(changed, changed.subscription_id, expect_etag=changes.etag, due=due)
    return _with_delivery(transaction, stored)


def remove(transaction: Transaction, subscription_id: str, owner: str | None, etag: str = "") -> None:
    """Ends a subscription for its owner. Raises NotFound, EtagMismatch."""
    current = _require(transaction, subscription_id, owner)
    check_etag(current.etag, etag, f"NotificationSubscription {subscription_id!r}")
    forget(transaction, subscription_id)


def end(transaction: Transaction, subscription_id: str, cause: str, *, source: str, audience: tuple[str, ...]) -> None:
    """Ends a subscription of castcore's own accord, and tells so; one that is no more stays so."""
    current = transaction.get(NotificationSubscription, subscription_id)
    if current is None:
        return
    told = NotificationSubscriptionEnded(notification_subscription=_with_delivery(transaction, current), cause=cause)
    forget(transaction, subscription_id)
    transaction.emit(
        "NOTIFICATION_SUBSCRIPTION_ENDED", subject_of(subscription_id), told, source=source, audience=audience
    )


def end_with(transaction: Transaction, subscription_id: str, sequence: int, due: datetime) -> None:
    """Ends a subscription when it has been told the event of this sequence, or at ``due`` at the latest."""
    ending = transaction.require(NotificationSubscription, subscription_id)
    ending.final_sequence = sequence
    transaction.update(ending, subscription_id, due=due)


def forget(transaction: Transaction, subscription_id: str) -> None:
    """Removes a subscription, without telling anybody."""
    transaction.delete(NotificationSubscription, subscription_id)
    transaction.delete(NotificationDelivery, subscription_id)


def _require(reader: Reader, subscription_id: str, owner: str | None) -> NotificationSubscription:
    found = reader.require(NotificationSubscription, subscription_id)
    if owner is not None and found.asp_id != owner:
        raise not_found(NotificationSubscription, subscription_id)
    return found


def _with_delivery(reader: Reader, subscription: NotificationSubscription) -> NotificationSubscription:
    told = copy_of(subscription)
    delivery = reader.get(NotificationDelivery, subscription.subscription_id)
    if delivery is not None:
        told.delivery.CopyFrom(delivery)
    return told


def _begin(transaction: Transaction, wanted: NotificationSubscription, path: str) -> int:
    """The position that a new subscription begins after."""
    last = transaction.last_sequence()
    if not wanted.HasField("after_sequence"):
        return last
    if wanted.after_sequence > last:
        raise InvalidArgument.of(
            f"{path}.after_sequence", f"expected at most {last}, the last event, found {wanted.after_sequence}"
        )
    check_kept(transaction, wanted.after_sequence)
    # 0 asks for what there is.
    return wanted.after_sequence or transaction.first_sequence() - 1


def _check(wanted: NotificationSubscription, hosts: CallbackHosts, clock: Clock, path: str = _PATH) -> None:
    violations = []
    if len(wanted.event_types) > _MAX_TYPES:
        violations.append(
            FieldViolation(f"{path}.event_types", f"expected at most {_MAX_TYPES}, found {len(wanted.event_types)}")
        )
    violations += [
        FieldViolation(f"{path}.event_types[{index}]", f"expected a type of events in capitals, found {each[:64]!r}")
        for index, each in enumerate(wanted.event_types)
        if not _TYPE.fullmatch(each)
    ]
    if len(wanted.filters) > MAX_FILTERS:
        violations.append(
            FieldViolation(f"{path}.filters", f"expected at most {MAX_FILTERS}, found {len(wanted.filters)}")
        )
    if len(wanted.notify_correlation_id) > _MAX_SUBJECT:
        violations.append(
            FieldViolation(f"{path}.notify_correlation_id", f"expected at most {_MAX_SUBJECT} characters")
        )
    if len(wanted.subject) > _MAX_SUBJECT:
        violations.append(FieldViolation(f"{path}.subject", f"expected at most {_MAX_SUBJECT} characters"))
    if wanted.HasField("expire_time") and wanted.expire_time.ToNanoseconds() <= clock.now_ns():
        violations.append(
            FieldViolation(f"{path}.expire_time", f"expected a time to come, found {wanted.expire_time.ToJsonString()}")
        )
    if violations:
        raise InvalidArgument.of_all(violations)
    hosts.check_url(f"{path}.callback_url", wanted.callback_url)
