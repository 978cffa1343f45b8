"""What providers provision: user services, ingest sessions with their distribution sessions (TS 26.502 §4.6.1 step 1).

What is acknowledged is durable and known to the MBSTF; a refusal leaves nothing behind. The intention is stored before
the MBSTF is called: what of it was not acknowledged is removed, by this run or the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.errors import CastcoreError, InvalidArgument
from nf.common.resources import apply_mask, check_etag, copy_of, new_id
from nf.common.store import Page, Reader, Store, Transaction
from nf.common.v1.mbs_pb2 import IpAddr, MbsServiceType
from nf.mbsf.announcements import description_of, description_url, lookups_of
from nf.mbsf.distribution_sessions import desired, group_of, is_changed, require_inactive, settable, with_info
from nf.mbsf.errors import IngestSessionDestroyed, ServiceInUse
from nf.mbsf.groups import BY_GROUP, MulticastGroups
from nf.mbsf.life_cycle import LifeCycle
from nf.mbsf.machine import SHOWN, Event, State
from nf.mbsf.peers import Change, Peers
from nf.mbsf.schedules import session_periods
from nf.mbsf.transitions import Transitions, count_provisioned
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1 import user_service_pb2 as services
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession
from nf.mbsf.v1.user_data_ingest_pb2 import MbsDistributionSessionInfo, MbsUserDataIngSession
from nf.mbsf.v1.user_service_pb2 import SERVICE_ANNOUNCEMENT_MODE_VIA_MBS_5, MbsUserService
from nf.mbsf.validation import check_service, check_session

SERVICE_CHANGEABLE: Final = ("ext_service_ids", "serv_class", "serv_ann_modes", "serv_name_descs", "main_serv_lang")
_SERVICE_SETTABLE: Final = (*SERVICE_CHANGEABLE, "serv_type", "supp_feat")
SESSION_CHANGEABLE: Final = ("mbs_dis_sess_infos", "act_periods")
_CREATE: Final = "CreateMbsUserDataIngSession"
# So many replicas are made or changed at a time for one request.
_AT_A_TIME: Final = 32
# What takes more than some milliseconds is written on another thread.
_MANY: Final = 20


@dataclass(frozen=True, slots=True)
class Settings:
    """What is chosen for sessions whose provider has not, and where clients reach MBS-5."""

    groups: MulticastGroups
    port: int
    http_url: Callable[[], str]
    locate: Callable[[str], str]


class Provisioning:
    """The resources of Nmb10, for its gRPC services and its HTTP doors alike."""

    def __init__(
        self, store: Store, transitions: Transitions, life_cycle: LifeCycle, peers: Peers, settings: Settings
    ) -> None:
        self._store = store
        self._transitions = transitions
        self._life_cycle = life_cycle
        self._peers = peers
        self._settings = settings

    # --- user services ------------------------------------------------------------------------------------------------

    async def create_service(self, request: services.CreateMbsUserServiceRequest) -> MbsUserService:
        """A new service. Raises InvalidArgument, RequestIdReused."""
        check_service(request.mbs_user_service)

        def create(transaction: Transaction) -> MbsUserService:
            made = apply_mask(MbsUserService(), request.mbs_user_service, FieldMask(), _SERVICE_SETTABLE)
            made.mbs_user_serv_id = new_id()
            made.create_time.FromDatetime(transaction.clock.now())
            return transaction.insert(made, made.mbs_user_serv_id, lookups=lookups_of(made))

        return await self._store.write(
            lambda tx: tx.once(request.request_id, "CreateMbsUserService", request, lambda: create(tx))
        )

    async def get_service(self, mbs_user_serv_id: str) -> MbsUserService:
        """The service. Raises NotFound."""
        return await self._store.read(lambda reader: reader.require(MbsUserService, mbs_user_serv_id))

    async def list_services(self, *, page_size: int = 0, page_token: str = "") -> Page[MbsUserService]:
        """One page of services."""
        return await self._store.read(
            lambda reader: reader.list(MbsUserService, page_size=page_size, page_token=page_token)
        )

    async def update_service(self, request: services.UpdateMbsUserServiceRequest) -> MbsUserService:
        """Changes a service, and what is announced of it. Raises InvalidArgument, NotFound, EtagMismatch."""
        changes = request.mbs_user_service

        def update(transaction: Transaction) -> tuple[MbsUserService, list[str]]:
            current = transaction.require(MbsUserService, changes.mbs_user_serv_id)
            check_etag(current.etag, changes.etag, f"MbsUserService {current.mbs_user_serv_id!r}")
            changed = apply_mask(current, changes, request.update_mask, SERVICE_CHANGEABLE)
            check_service(changed)
            stored = transaction.update(changed, changed.mbs_user_serv_id, lookups=lookups_of(changed))
            concerned = []
            for session in transaction.all(MbsUserDataIngSession, parent=stored.mbs_user_serv_id):
                for record in transaction.all(DistributionSession, parent=session.mbs_ing_session_id):
                    if record.info.announced:
                        self._transitions.announce_again(transaction, stored, record)
                        concerned.append(record.mbs_dist_session_id)
            return stored, concerned

        stored, concerned = await self._store.write(update)
        for name in concerned:
            self._life_cycle.wake(name)
        return stored

    async def delete_service(self, mbs_user_serv_id: str, etag: str = "") -> None:
        """Removes a service. Raises NotFound, EtagMismatch, and ServiceInUse while it has ingest sessions."""

        def delete(transaction: Transaction) -> None:
            current = transaction.require(MbsUserService, mbs_user_serv_id)
            check_etag(current.etag, etag, f"MbsUserService {mbs_user_serv_id!r}")
            page = transaction.list(MbsUserDataIngSession, parent=mbs_user_serv_id, page_size=1)
            if page.items:
                raise ServiceInUse(
                    f"MbsUserService {mbs_user_serv_id!r} has user data ingest sessions, among them"
                    f" {page.items[0].mbs_ing_session_id!r}: delete these first"
                )
            transaction.delete(MbsUserService, mbs_user_serv_id)

        await self._store.write(delete)

    # --- ingest sessions ----------------------------------------------------------------------------------------------

    async def create_session(self, request: ingest.CreateMbsUserDataIngSessionRequest) -> MbsUserDataIngSession:
        """Provisions an ingest session; returns when its replicas stand at the MBSTF.

        Raises InvalidArgument, RequestIdReused, ResourceExhausted, and what the MBSTF refuses with.
        """
        wanted = request.mbs_user_data_ing_session
        service_type = await self._store.read(lambda reader: _service_type(reader, wanted.mbs_user_serv_id))
        check_session(wanted, service_type)
        known = await self._known(request)
        if known:
            return await self.get_session(known)
        made = MbsUserDataIngSession(
            mbs_ing_session_id=new_id(),
            mbs_user_serv_id=wanted.mbs_user_serv_id,
            act_periods=wanted.act_periods,
            supp_feat=wanted.supp_feat,
        )
        made.create_time.FromDatetime(self._store.clock.now())
        records = await self._intend(made.mbs_ing_session_id, wanted.mbs_dis_sess_infos)
        expired = session_periods(made).is_over(self._store.clock.now())
        changes: list[Change] = [_nothing] * len(records) if expired else await self._make(records)

        def acknowledge(transaction: Transaction) -> MbsUserDataIngSession:
            _service_type(transaction, made.mbs_user_serv_id)

            def insert() -> MbsUserDataIngSession:
                stored = transaction.insert(made, made.mbs_ing_session_id, parent=made.mbs_user_serv_id)
                self._acknowledge(transaction, records, changes)
                return stored

            return transaction.once(request.request_id, _CREATE, request, insert)

        try:
            stored = await self._store.write(acknowledge, apart=len(records) > _MANY)
        except CastcoreError:
            await self._abandon(records)
            raise
        if stored.mbs_ing_session_id != made.mbs_ing_session_id:
            # The same request was served beside this one.
            await self._abandon(records)
            return await self.get_session(stored.mbs_ing_session_id)
        answer = await self._store.read(lambda reader: self._composed(reader, stored))
        self._wake(records)
        return answer

    async def get_session(self, mbs_ing_session_id: str) -> MbsUserDataIngSession:
        """The session with the states of its distribution sessions. Raises NotFound."""
        return await self._store.read(
            lambda reader: self._composed(reader, reader.require(MbsUserDataIngSession, mbs_ing_session_id))
        )

    async def list_sessions(
        self, *, mbs_user_serv_id: str = "", page_size: int = 0, page_token: str = ""
    ) -> Page[MbsUserDataIngSession]:
        """One page of sessions, of one service or of all."""

        def look(reader: Reader) -> Page[MbsUserDataIngSession]:
            parent = mbs_user_serv_id or None
            page = reader.list(MbsUserDataIngSession, parent=parent, page_size=page_size, page_token=page_token)
            return Page([self._composed(reader, each) for each in page.items], page.next_page_token)

        return await self._store.read(look)

    async def update_session(self, request: ingest.UpdateMbsUserDataIngSessionRequest) -> MbsUserDataIngSession:
        """Changes periods and distribution sessions; returns when the MBSTF knows.

        Raises InvalidArgument, NotFound, EtagMismatch, IngestSessionDestroyed, DistributionSessionRunning, and what the
        MBSTF refuses with: then everything is as it was.
        """
        name = request.mbs_user_data_ing_session.mbs_ing_session_id
        async with self._store.exclusive(f"ingest session {name}"):
            difference = await self._store.read(lambda reader: self._compare(reader, request))
            async with AsyncExitStack() as locks:
                for record in sorted(difference.changed, key=lambda each: each.mbs_dist_session_id):
                    await locks.enter_async_context(self._life_cycle.lock(record.mbs_dist_session_id))
                return await self._update(request, difference)

    async def delete_session(self, mbs_ing_session_id: str, etag: str = "") -> None:
        """Destroys a session: what runs is deactivated, and then no longer provisioned (TS 26.502 §4.6.1 step 5).

        Raises NotFound, EtagMismatch. A repeat is harmless.
        """

        def destroy(transaction: Transaction) -> list[DistributionSession]:
            session = transaction.require(MbsUserDataIngSession, mbs_ing_session_id)
            check_etag(session.etag, etag, f"MbsUserDataIngSession {mbs_ing_session_id!r}")
            session.destroyed = True
            transaction.update(session, mbs_ing_session_id)
            return [
                self._destroy(transaction, record)
                for record in transaction.all(DistributionSession, parent=mbs_ing_session_id)
            ]

        self._wake(await self._store.write(destroy))

    async def _known(self, request: ingest.CreateMbsUserDataIngSessionRequest) -> str:
        """The session that an earlier request of this id has made; empty: there was none."""

        def unknown() -> MbsUserDataIngSession:
            raise _Unknown

        if not request.request_id:
            return ""
        try:
            known = await self._store.write(lambda tx: tx.once(request.request_id, _CREATE, request, unknown))
        except _Unknown:
            return ""
        return known.mbs_ing_session_id

    # --- how ----------------------------------------------------------------------------------------------------------

    async def _intend(
        self, mbs_ing_session_id: str, infos: Mapping[str, MbsDistributionSessionInfo]
    ) -> list[DistributionSession]:
        def intend(transaction: Transaction) -> list[DistributionSession]:
            return [self._insert(transaction, mbs_ing_session_id, key, infos[key]) for key in sorted(infos)]

        return await self._store.write(intend, apart=len(infos) > _MANY) if infos else []

    def _insert(
        self, transaction: Transaction, mbs_ing_session_id: str, key: str, wanted: MbsDistributionSessionInfo
    ) -> DistributionSession:
        record = DistributionSession(
            mbs_dist_session_id=new_id(),
            mbs_ing_session_id=mbs_ing_session_id,
            key=key,
            info=settable(wanted),
            stage=DistributionSession.STAGE_PROVISIONING,
        )
        record.info.mbs_dist_session_id = record.mbs_dist_session_id
        record.info.mbs_dist_sess_state = SHOWN[State.PROVISIONING]
        self._choose_flow(transaction, record)
        name, lookups = record.mbs_dist_session_id, {BY_GROUP: group_of(record)}
        return transaction.insert(record, name, parent=mbs_ing_session_id, lookups=lookups)

    def _choose_flow(self, transaction: Transaction, record: DistributionSession) -> None:
        flow = record.info.up_traffic_flow_info
        if not flow.port_number:
            flow.port_number = self._settings.port
        if flow.dest_ip_addr.ByteSize():
            return
        if record.info.mbs_session_id.HasField("ssm"):
            flow.dest_ip_addr.CopyFrom(record.info.mbs_session_id.ssm.dest_ip_addr)
            return
        group = self._settings.groups.take(transaction)
        flow.dest_ip_addr.CopyFrom(IpAddr(ipv6_addr=group) if ":" in group else IpAddr(ipv4_addr=group))
        record.group_allocated = True

    async def _make(self, records: Sequence[DistributionSession]) -> list[Change]:
        """Makes the replicas: what their answers change. Abandons all of them when one is refused."""
        try:
            return await _each(records, self._peers.create_replica)
        except BaseException:
            await self._abandon(records)
            raise

    def _acknowledge(
        self, transaction: Transaction, records: Sequence[DistributionSession], changes: Sequence[Change]
    ) -> None:
        for record, change in zip(records, changes, strict=True):
            provisioned = copy_of(record)
            change(provisioned)
            provisioned.acknowledged = True
            self._transitions.step(transaction, provisioned, Event.DONE)
        if records:
            count_provisioned(transaction, records[0].mbs_ing_session_id, len(records))

    async def _abandon(self, records: Sequence[DistributionSession]) -> None:
        """What was not acknowledged goes, with its replicas."""

        def abandon(transaction: Transaction) -> None:
            for record in records:
                current = transaction.get(DistributionSession, record.mbs_dist_session_id)
                if current is not None and current.stage == DistributionSession.STAGE_PROVISIONING:
                    self._transitions.step(transaction, current, Event.FAILED)

        if records:
            await self._store.write(abandon)
            self._wake(records)

    def _compare(self, reader: Reader, request: ingest.UpdateMbsUserDataIngSessionRequest) -> _Difference:
        """What an update comes to; raises what is wrong with it."""
        changes = request.mbs_user_data_ing_session
        session = reader.require(MbsUserDataIngSession, changes.mbs_ing_session_id)
        check_etag(session.etag, changes.etag, f"MbsUserDataIngSession {session.mbs_ing_session_id!r}")
        _require_standing(session)
        if changes.mbs_user_serv_id and changes.mbs_user_serv_id != session.mbs_user_serv_id:
            raise InvalidArgument.of(
                "mbs_user_data_ing_session.mbs_user_serv_id",
                f"expected {session.mbs_user_serv_id!r}, which it belongs to, found {changes.mbs_user_serv_id[:64]!r}",
            )
        current = self._composed(reader, session)
        wanted = apply_mask(current, changes, request.update_mask, SESSION_CHANGEABLE)
        check_session(wanted, _service_type(reader, session.mbs_user_serv_id))
        records = {
            each.key: each
            for each in reader.all(DistributionSession, parent=session.mbs_ing_session_id)
            if each.acknowledged and not each.destroyed
        }
        changed = []
        for key, record in records.items():
            if key not in wanted.mbs_dis_sess_infos:
                continue
            info = desired(record, wanted.mbs_dis_sess_infos[key])
            if is_changed(record, info):
                changed.append(with_info(record, info))
        return _Difference(
            wanted=wanted,
            added={key: info for key, info in wanted.mbs_dis_sess_infos.items() if key not in records},
            changed=changed,
            removed=[record for key, record in records.items() if key not in wanted.mbs_dis_sess_infos],
        )

    async def _update(
        self, request: ingest.UpdateMbsUserDataIngSessionRequest, difference: _Difference
    ) -> MbsUserDataIngSession:
        name = request.mbs_user_data_ing_session.mbs_ing_session_id
        # Whatever becomes of it, the MBSTF is told what they are: from here on, and after a restart.
        await self._store.write(lambda tx: self._mark_stale(tx, difference.changed))
        added: list[DistributionSession] = []
        try:
            added = await self._intend(name, difference.added)
            made = await _each(added, self._peers.create_replica)
            told = await _each(difference.changed, self._peers.update_replica)
            stored = await self._store.write(
                lambda tx: self._put_in_force(tx, request, difference, (added, made), told)
            )
        except BaseException:
            await self._abandon(added)
            self._wake(difference.changed)
            raise
        composed = await self._store.read(lambda reader: self._composed(reader, stored))
        everything = await self._store.read(lambda reader: reader.all(DistributionSession, parent=name))
        self._wake(everything)
        return composed

    def _mark_stale(self, transaction: Transaction, changed: Sequence[DistributionSession]) -> None:
        for each in changed:
            current = transaction.require(DistributionSession, each.mbs_dist_session_id)
            require_inactive(current)
            current.replica_stale = True
            self._transitions.keep(transaction, current)

    def _put_in_force(
        self,
        transaction: Transaction,
        request: ingest.UpdateMbsUserDataIngSessionRequest,
        difference: _Difference,
        added: tuple[Sequence[DistributionSession], Sequence[Change]],
        told: Sequence[Change],
    ) -> MbsUserDataIngSession:
        changes = request.mbs_user_data_ing_session
        session = transaction.require(MbsUserDataIngSession, changes.mbs_ing_session_id)
        check_etag(session.etag, changes.etag, f"MbsUserDataIngSession {session.mbs_ing_session_id!r}")
        _require_standing(session)
        del session.act_periods[:]
        session.act_periods.extend(difference.wanted.act_periods)
        if difference.added or difference.changed or difference.removed:
            session.revision += 1
        stored = transaction.update(session, session.mbs_ing_session_id)
        self._acknowledge(transaction, *added)
        for record, change in zip(difference.changed, told, strict=True):
            current = transaction.require(DistributionSession, record.mbs_dist_session_id)
            current.info.CopyFrom(record.info)
            current.repair_assigned, current.group_allocated = record.repair_assigned, record.group_allocated
            change(current)
            transaction.update(current, record.mbs_dist_session_id, lookups={BY_GROUP: group_of(current)})
            self._transitions.step(transaction, current, Event.UPDATED)
        for record in difference.removed:
            self._destroy(transaction, transaction.require(DistributionSession, record.mbs_dist_session_id))
        service = transaction.require(MbsUserService, session.mbs_user_serv_id)
        for record in transaction.all(DistributionSession, parent=session.mbs_ing_session_id):
            # Its periods may be others, and what failed may be tried again.
            record.ClearField("held_until")
            self._transitions.announce_again(transaction, service, record)
        return stored

    def _destroy(self, transaction: Transaction, record: DistributionSession) -> DistributionSession:
        record.destroyed = True
        return self._transitions.keep(transaction, record).record

    def _composed(self, reader: Reader, session: MbsUserDataIngSession) -> MbsUserDataIngSession:
        """The session as it is shown: with its distribution sessions and its announcement."""
        shown = copy_of(session)
        records = [
            each
            for each in reader.all(DistributionSession, parent=session.mbs_ing_session_id)
            if each.acknowledged and (session.destroyed or not each.destroyed)
        ]
        for record in records:
            shown.mbs_dis_sess_infos[record.key].CopyFrom(record.info)
        service = reader.get(MbsUserService, session.mbs_user_serv_id)
        if service is None:
            return shown
        description = description_of(reader, service, records, self._settings.locate)
        if description is not None:
            shown.mbs_user_service_anmt.CopyFrom(description)
            if SERVICE_ANNOUNCEMENT_MODE_VIA_MBS_5 in service.serv_ann_modes:
                shown.mbs_user_service_anmt_url = description_url(self._settings.http_url(), service)
        return shown

    def _wake(self, records: Sequence[DistributionSession]) -> None:
        for record in records:
            self._life_cycle.wake(record.mbs_dist_session_id)


@dataclass(frozen=True, slots=True)
class _Difference:
    """What an update asks for, against what there is: sessions that are new, other than they were, and no more."""

    wanted: MbsUserDataIngSession
    added: Mapping[str, MbsDistributionSessionInfo]
    changed: Sequence[DistributionSession]
    removed: Sequence[DistributionSession]


class _Unknown(Exception):
    """A request_id has not been used."""


async def _each(
    records: Sequence[DistributionSession], do: Callable[[DistributionSession], Awaitable[Change]]
) -> list[Change]:
    """What ``do`` makes of each, some at a time. Raises the first refusal when nothing is under way any more."""
    at_a_time = asyncio.Semaphore(_AT_A_TIME)
    refused = asyncio.Event()

    async def one(record: DistributionSession) -> Change:
        async with at_a_time:
            if refused.is_set():
                return _nothing
            try:
                return await do(record)
            except BaseException:
                refused.set()
                raise

    answers = await asyncio.gather(*(one(each) for each in records), return_exceptions=True)
    changes: list[Change] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        changes.append(answer)
    return changes


def _nothing(_: DistributionSession) -> None:
    return


def _service_type(reader: Reader, mbs_user_serv_id: str) -> MbsServiceType.ValueType:
    service = reader.get(MbsUserService, mbs_user_serv_id)
    if service is None:
        raise InvalidArgument.of(
            "mbs_user_data_ing_session.mbs_user_serv_id",
            f"expected the identifier of a user service, found {mbs_user_serv_id[:64]!r}",
        )
    return service.serv_type


def _require_standing(session: MbsUserDataIngSession) -> None:
    if session.destroyed:
        raise IngestSessionDestroyed(f"MbsUserDataIngSession {session.mbs_ing_session_id!r} has been destroyed")
