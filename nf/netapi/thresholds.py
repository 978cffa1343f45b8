"""Thresholds: told when a measure of a network access ID goes beyond a value for long enough, and when it is back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from nf.common.errors import FieldViolation, InvalidArgument, ResourceExhausted
from nf.common.reader import not_found
from nf.common.resources import copy_of, new_id
from nf.common.store import Page, Reader, Transaction
from nf.netapi import network_access_ids
from nf.netapi.callers import Caller, audience_of
from nf.netapi.errors import BookingOver, NotMeasured
from nf.netapi.v1 import monitoring_pb2 as api
from nf.netapi.v1.booking_pb2 import Booking, NetworkAccessId
from nf.netapi.v1.coverage_pb2 import CAPABILITY_GEOFENCING

SOURCE: Final = "netapi"
MAX_PER_ID: Final = 64
OVER: Final = frozenset({Booking.STATE_DECLINED, Booking.STATE_LAPSED, Booking.STATE_RELEASED, Booking.STATE_EXPIRED})
# By which the store finds the thresholds of an ID.
_OF: Final = "network_access_id"
_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Standing:
    """How a threshold stands: whether it is crossed, and since when the measure is beyond it (None: it is not)."""

    crossed: bool
    beyond_since: datetime | None


def judge(
    standing: Standing,
    value: float | None,
    now: datetime,
    *,
    above: int | None = None,
    below: int | None = None,
    lasting: timedelta = timedelta(0),
) -> Standing:
    """How it stands with this value now. What is not measured (None) is not beyond anything.

    It is crossed when the value has been beyond at every look for ``lasting``, and restored as soon as it is not.
    """
    beyond = value is not None and ((above is not None and value > above) or (below is not None and value < below))
    if not beyond:
        return Standing(False, None)
    since = now if standing.beyond_since is None else standing.beyond_since
    return Standing(standing.crossed or now - since >= lasting, since)


def value_of(usage: api.NetworkAccessUsage, metric: api.Metric.ValueType) -> float | None:
    """The measure that a metric is about; None: it is not measured."""
    if metric == api.METRIC_DEVICES:
        return usage.devices_in_use
    measured = {
        api.METRIC_DOWNLINK_THROUGHPUT: "downlink_bps",
        api.METRIC_UPLINK_THROUGHPUT: "uplink_bps",
        api.METRIC_DELAY: "delay_ms",
        api.METRIC_LOSS: "loss_ppm",
    }
    name = measured[metric]
    return float(getattr(usage, name)) if usage.HasField(name) else None  # type: ignore[arg-type] # (by its name)


def create(transaction: Transaction, caller: Caller, wanted: api.Threshold) -> api.Threshold:
    """A new threshold on one of the caller's IDs.

    Raises InvalidArgument, NotFound, NotMeasured, BookingOver, ResourceExhausted.
    """
    _check(wanted)
    booking = _booking_of(transaction, caller, wanted.network_access_id)
    issued = network_access_ids.require(transaction, wanted.network_access_id)
    if wanted.metric != api.METRIC_DEVICES and issued.capability == CAPABILITY_GEOFENCING:
        raise NotMeasured("threshold.metric: of a geofencing ID devices are counted, and nothing is measured")
    if booking.state in OVER:
        raise BookingOver(f"booking {booking.booking_id!r} is over: nothing of it is measured any more")
    if len(of_id(transaction, wanted.network_access_id)) >= MAX_PER_ID:
        raise ResourceExhausted(f"there are {MAX_PER_ID} thresholds on this network access ID: delete one first")
    made = api.Threshold(
        threshold_id=new_id(),
        agreement_id=booking.agreement_id,
        network_access_id=wanted.network_access_id,
        metric=wanted.metric,
        for_ms=wanted.for_ms,
    )
    if wanted.HasField("above"):
        made.above = wanted.above
    else:
        made.below = wanted.below
    made.create_time.FromDatetime(transaction.clock.now())
    return transaction.insert(
        made, made.threshold_id, parent=booking.agreement_id, lookups={_OF: wanted.network_access_id}
    )


def page(
    reader: Reader, caller: Caller, network_access_id: str, *, page_size: int, page_token: str
) -> Page[api.Threshold]:
    """One page of the thresholds of an ID, which is one page at the most, or of all that the caller may see.

    Raises NotFound for an ID that the caller may not see.
    """
    if not network_access_id:
        return reader.list(api.Threshold, parent=caller.sees, page_size=page_size, page_token=page_token)
    _booking_of(reader, caller, network_access_id)
    return Page(of_id(reader, network_access_id), "")


def remove(transaction: Transaction, caller: Caller, threshold_id: str) -> None:
    """Ends a threshold; one that is not there, or not the caller's, is nothing to end."""
    found = transaction.get(api.Threshold, threshold_id)
    if found is not None and caller.may_see(found.agreement_id):
        transaction.delete(api.Threshold, threshold_id)


def of_id(reader: Reader, network_access_id: str) -> list[api.Threshold]:
    """The thresholds of an ID in the order of their creation."""
    return reader.find(api.Threshold, _OF, network_access_id)


def look(
    transaction: Transaction,
    usage: api.NetworkAccessUsage,
    thresholds: list[api.Threshold],
    now: datetime,
    *,
    devices_count: bool = True,
) -> datetime | None:
    """Judges thresholds by what is measured now, and tells what has changed; when the next may be crossed by time.

    ``devices_count``: whether the number of devices says anything, as it does within a period.
    """
    again: list[datetime] = []
    for each in thresholds:
        since = each.beyond_since.ToDatetime(now.tzinfo) if each.HasField("beyond_since") else None
        before, lasting = Standing(each.crossed, since), timedelta(milliseconds=each.for_ms)
        after = judge(
            before,
            value_of(usage, each.metric) if devices_count or each.metric != api.METRIC_DEVICES else None,
            now,
            above=each.above if each.HasField("above") else None,
            below=each.below if each.HasField("below") else None,
            lasting=lasting,
        )
        if after.beyond_since is not None and not after.crossed:
            again.append(after.beyond_since + lasting)
        if after != before:
            _keep(transaction, each, after, usage if after.crossed != before.crossed else None)
    return min(again, default=None)


def _keep(
    transaction: Transaction, threshold: api.Threshold, standing: Standing, news: api.NetworkAccessUsage | None
) -> None:
    changed = copy_of(threshold)
    changed.crossed = standing.crossed
    changed.ClearField("beyond_since")
    if standing.beyond_since is not None:
        changed.beyond_since.FromDatetime(standing.beyond_since)
    stored = transaction.update(changed, threshold.threshold_id)
    if news is not None:
        transaction.emit(
            "THRESHOLD_CROSSED" if standing.crossed else "THRESHOLD_RESTORED",
            f"thresholds/{threshold.threshold_id}",
            api.ThresholdEvent(threshold=stored, usage=news),
            source=SOURCE,
            audience=(audience_of(threshold.agreement_id),),
        )


def _booking_of(reader: Reader, caller: Caller, network_access_id: str) -> Booking:
    """The booking of an ID that the caller may see. Raises NotFound."""
    found = network_access_ids.require(reader, network_access_id)
    booking = reader.require(Booking, found.booking_id)
    if not caller.may_see(booking.agreement_id):
        raise not_found(NetworkAccessId, network_access_id)
    return booking


def _check(wanted: api.Threshold) -> None:
    violations = []
    if not wanted.network_access_id:
        violations.append(FieldViolation("threshold.network_access_id", "expected a network access ID, found none"))
    if wanted.metric == api.METRIC_UNSPECIFIED or wanted.metric not in api.Metric.values():
        violations.append(FieldViolation("threshold.metric", f"expected a metric, found {wanted.metric}"))
    if wanted.HasField("above") == wanted.HasField("below"):
        found = "both" if wanted.HasField("above") else "neither"
        violations.append(FieldViolation("threshold.above", f"expected either above or below, found {found}"))
    elif wanted.HasField("below") and not wanted.below:
        violations.append(FieldViolation("threshold.below", "expected 1 or more, found 0: nothing is below that"))
    if wanted.metric == api.METRIC_LOSS and max(wanted.above, wanted.below) > _MILLION:
        largest = max(wanted.above, wanted.below)
        violations.append(FieldViolation("threshold.above", f"expected at most {_MILLION} millionths, found {largest}"))
    if violations:
        raise InvalidArgument.of_all(violations)
    if wanted.metric == api.METRIC_DELAY:
        raise NotMeasured("threshold.metric: the user plane does not measure delay: expected another metric")
