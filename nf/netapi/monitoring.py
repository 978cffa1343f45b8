"""How what is booked is used: what happens to it becomes usage, thresholds, records, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from nf.common.clock import to_ns
from nf.common.due import DueDriver
from nf.common.store import Reader, Store, Transaction
from nf.common.usage import NOTHING, counters_of, increment, latest, total, usage_of
from nf.netapi import metering, network_access_ids, thresholds, usage_records
from nf.netapi.attachments import device_key
from nf.netapi.callers import audience_of
from nf.netapi.config import NetapiSection
from nf.netapi.machine import Effect
from nf.netapi.usage import extended, is_settled, sample_of
from nf.netapi.v1.access_pb2 import AccessInstallation, DeviceAccess
from nf.netapi.v1.booking_pb2 import Booking, NetworkAccessId
from nf.netapi.v1.coverage_pb2 import CAPABILITY_GEOFENCING
from nf.netapi.v1.metering_pb2 import MeteredAccess, MeteredDevice, SessionUsage, UsageMeter
from nf.netapi.v1.monitoring_pb2 import BookingUnused, NetworkAccessUsage
from nf.pcf.v1.policy_authorization_pb2 import EventNotification

SOURCE: Final = "netapi"
# What an access that has ended has used is known for so long by itself: reports may come twice, and late.
_KEPT: Final = timedelta(days=1)
_ENDED: Final = frozenset({Booking.STATE_RELEASED, Booking.STATE_EXPIRED})

# What is done in the transaction that takes what an access has used, or that it is used or no longer so.
MeasureFollower: TypeAlias = Callable[[Transaction, DeviceAccess], None]


class Monitoring:
    """Follows bookings, accesses and the PCF's reports; ``start`` and ``stop`` its timer."""

    def __init__(self, store: Store, config: NetapiSection, *, followers: Sequence[MeasureFollower] = ()) -> None:
        self._store = store
        self.window = metering.window_of(config)
        self._period = timedelta(seconds=config.threshold_period_s)
        self._unused_after = timedelta(seconds=config.unused_after_s)
        self.followers = list(followers)
        self._timers = (DueDriver(store, UsageMeter, self._due), DueDriver(store, MeteredAccess, self._forget))

    async def start(self) -> None:
        """Begins to look at what time brings."""
        for timer in self._timers:
            await timer.start()

    async def stop(self) -> None:
        """Ends; what is due is looked at after the next start."""
        for timer in self._timers:
            await timer.stop()

    def on_usage(
        self, transaction: Transaction, access: DeviceAccess, notification: EventNotification, at: datetime
    ) -> None:
        """A report of the PCF on the application session of an access; ``at`` is when the PCF told it.

        Reports are cumulative by session: one that comes twice, or late, counts once.
        """
        if not notification.HasField("usage"):
            return
        name, now = notification.app_session_id, transaction.clock.now()
        at_ns = min(to_ns(at), to_ns(now))
        known = transaction.get(SessionUsage, name)
        session = (
            known
            if known is not None
            else SessionUsage(
                app_session_id=name, access_id=access.access_id, network_access_id=access.network_access_id
            )
        )
        before = counters_of(session.usage)
        after = latest(before, counters_of(notification.usage))
        if known is not None and after == before:
            return
        session.usage.CopyFrom(usage_of(after))
        # A session begins with nothing, and tells of its first packets soon.
        series = metering.series_of(session) or [sample_of(at_ns - self.window.lag_ns, NOTHING)]
        metering.keep_series(session, extended(series, sample_of(at_ns, after), self.window))
        if known is None:
            transaction.insert(session, name, parent=access.access_id)
        else:
            transaction.update(session, name)
        meter = self._meter(transaction, access)
        counted = total((counters_of(meter.usage), increment(before, after)))
        meter.usage.CopyFrom(usage_of(counted))
        metering.keep_series(meter, extended(metering.series_of(meter), sample_of(at_ns, counted), self.window))
        self._look(transaction, meter, now)
        if meter.final:
            # What comes after the end is told as well.
            usage_records.tell(transaction, meter.booking_id, transaction.all(UsageMeter, parent=meter.booking_id))
        for follower in self.followers:
            follower(transaction, access)

    def on_booking(self, transaction: Transaction, booking: Booking, effects: Sequence[Effect]) -> None:
        """A booking has changed; it is as given now."""
        del effects
        now, over = transaction.clock.now(), booking.state in _ENDED
        issued = network_access_ids.of_booking(transaction, booking.booking_id)
        for each in issued:
            meter = transaction.get(UsageMeter, each.network_access_id) or UsageMeter(
                network_access_id=each.network_access_id, booking_id=booking.booking_id
            )
            meter.agreement_id = booking.agreement_id
            meter.area_id, meter.profile_id, meter.over = each.area_id, each.profile_id, over
            meter.geofencing = each.capability == CAPABILITY_GEOFENCING
            if booking.state == Booking.STATE_ACTIVE and each.active:
                meter.period.CopyFrom(booking.current_period.start_time)
                _note_idle(meter, now)
            else:
                meter.ClearField("period")
                meter.ClearField("idle_since")
            self._look(transaction, meter, now)
        if over and issued:
            self._finish(transaction, booking.booking_id)

    def on_access(
        self, transaction: Transaction, access: DeviceAccess, previous_state: DeviceAccess.State.ValueType
    ) -> None:
        """An access has another state; it is as given now. Being told twice is harmless."""
        del previous_state
        now = transaction.clock.now()
        known = transaction.get(MeteredAccess, access.access_id)
        before = known if known is not None else MeteredAccess(ended=True)
        after = MeteredAccess(
            access_id=access.access_id,
            in_use=access.state == DeviceAccess.STATE_IN_USE,
            ended=access.state == DeviceAccess.STATE_ENDED,
        )
        if (before.in_use, before.ended) == (after.in_use, after.ended) and known is not None:
            return
        forgotten = now + _KEPT if after.ended else None
        transaction.put(after, access.access_id, parent=access.network_access_id, due=forgotten)
        meter = self._meter(transaction, access)
        meter.present += before.ended - after.ended
        meter.in_use += after.in_use - before.in_use
        if after.in_use and not before.in_use:
            self._begin_use(transaction, meter, access, now)
        if not meter.in_use:
            _end_use(meter, now)
            _note_idle(meter, now)
        self._look(transaction, meter, now)
        if after.ended and meter.over:
            self._finish(transaction, meter.booking_id)
        for follower in self.followers:
            follower(transaction, access)

    def usage_of(self, reader: Reader, issued: NetworkAccessId) -> NetworkAccessUsage:
        """How a network access ID is used now."""
        meter = reader.get(UsageMeter, issued.network_access_id)
        if meter is None:
            meter = UsageMeter(network_access_id=issued.network_access_id, booking_id=issued.booking_id)
        return metering.usage_of_meter(meter, issued.devices, reader.clock.now(), self.window)

    def look_soon(self, transaction: Transaction, network_access_id: str) -> None:
        """Has the thresholds of an ID looked at at once: there is a new one."""
        meter = transaction.get(UsageMeter, network_access_id)
        if meter is not None:
            transaction.update(meter, network_access_id, due=transaction.clock.now())

    def _meter(self, transaction: Transaction, access: DeviceAccess) -> UsageMeter:
        """Of the ID of an access; a new one where nothing was known of it."""
        found = transaction.get(UsageMeter, access.network_access_id)
        return (
            found
            if found is not None
            else UsageMeter(
                network_access_id=access.network_access_id,
                booking_id=access.booking_id,
                agreement_id=access.agreement_id,
            )
        )

    def _begin_use(self, transaction: Transaction, meter: UsageMeter, access: DeviceAccess, now: datetime) -> None:
        meter.used = True
        meter.peak = max(meter.peak, meter.in_use)
        meter.ClearField("idle_since")
        if not meter.HasField("in_use_since"):
            meter.in_use_since.FromDatetime(now)
        # From here on there is something to measure, be it nothing.
        nothing_yet = sample_of(to_ns(now), counters_of(meter.usage))
        metering.keep_series(meter, extended(metering.series_of(meter), nothing_yet, self.window))
        installed = transaction.get(AccessInstallation, access.access_id)
        key = installed.device_key if installed is not None else device_key(transaction, access.device)
        name = f"{meter.network_access_id}/{key}"
        if transaction.get(MeteredDevice, name) is None:
            meter.devices += 1
            transaction.insert(MeteredDevice(network_access_id=meter.network_access_id), name)

    def _look(self, transaction: Transaction, meter: UsageMeter, now: datetime) -> None:
        """Judges thresholds, tells what nobody uses, and keeps the meter until it has to be looked at again."""
        if not meter.in_use and is_settled(metering.series_of(meter), to_ns(now), self.window):
            del meter.samples[:]
        watching = thresholds.of_id(transaction, meter.network_access_id)
        again: list[datetime] = []
        if watching:
            usage = metering.usage_of_meter(meter, 0, now, self.window)
            counts = meter.HasField("period") or meter.in_use > 0
            crossing = thresholds.look(transaction, usage, watching, now, devices_count=counts)
            if crossing is not None:
                again.append(crossing)
            if meter.samples and not is_settled(metering.series_of(meter), to_ns(now), self.window):
                again.append(now + self._period)
        untold_at = self._unused_at(meter)
        if untold_at is not None and untold_at <= now:
            self._tell_unused(transaction, meter, now)
        elif untold_at is not None:
            again.append(untold_at)
        due = min(again, default=None)
        if transaction.get(UsageMeter, meter.network_access_id) is None:
            transaction.insert(meter, meter.network_access_id, parent=meter.booking_id, due=due)
        else:
            transaction.update(meter, meter.network_access_id, due=due)

    def _unused_at(self, meter: UsageMeter) -> datetime | None:
        """When it is to be told that nobody uses it; None: it is not."""
        if not meter.HasField("idle_since") or meter.told_period == meter.period:
            return None
        return meter.idle_since.ToDatetime(UTC) + self._unused_after

    def _tell_unused(self, transaction: Transaction, meter: UsageMeter, now: datetime) -> None:
        """Tells of all of the booking's IDs that nobody uses, once in a period of each."""
        others = transaction.all(UsageMeter, parent=meter.booking_id)
        others = [each for each in others if each.network_access_id != meter.network_access_id]
        unused = [meter]
        for each in others:
            untold_at = self._unused_at(each)
            if untold_at is not None and untold_at <= now:
                unused.append(each)
        for each in unused:
            each.told_period.CopyFrom(each.period)
        for each in unused[1:]:
            transaction.update(each, each.network_access_id)
        ids = [each.network_access_id for each in unused]
        transaction.emit(
            "BOOKING_UNUSED",
            f"bookings/{meter.booking_id}",
            BookingUnused(booking_id=meter.booking_id, network_access_ids=ids),
            source=SOURCE,
            audience=(audience_of(meter.agreement_id),),
        )

    def _finish(self, transaction: Transaction, booking_id: str) -> None:
        """The records of a booking that is over are final once all its accesses have ended."""
        meters = transaction.all(UsageMeter, parent=booking_id)
        if any(each.present or not each.over for each in meters) or all(each.final for each in meters):
            return
        for each in meters:
            each.final = True
            for threshold in thresholds.of_id(transaction, each.network_access_id):
                transaction.delete(type(threshold), threshold.threshold_id)
            transaction.update(each, each.network_access_id, due=None)
        usage_records.tell(transaction, booking_id, meters)

    async def _due(self, network_access_id: str, _: UsageMeter) -> None:
        def work(transaction: Transaction) -> None:
            meter = transaction.get(UsageMeter, network_access_id)
            if meter is not None:
                self._look(transaction, meter, transaction.clock.now())

        await self._store.write(work)

    async def _forget(self, access_id: str, _: MeteredAccess) -> None:
        def work(transaction: Transaction) -> None:
            for session in transaction.all(SessionUsage, parent=access_id):
                transaction.delete(SessionUsage, session.app_session_id)
            transaction.delete(MeteredAccess, access_id)

        await self._store.write(work)


def _end_use(meter: UsageMeter, now: datetime) -> None:
    """Nobody has it any more."""
    meter.used_ms = usage_records.used_ms(meter, now)
    meter.ClearField("in_use_since")


def _note_idle(meter: UsageMeter, now: datetime) -> None:
    """Notes since when nobody uses it, within a period."""
    if meter.geofencing or meter.in_use or not meter.HasField("period"):
        return
    if not meter.HasField("idle_since"):
        meter.idle_since.FromDatetime(now)
