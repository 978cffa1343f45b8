"""N5: application sessions authorised, changed and ended at an AF's request (TS 29.514 §4.2.2 to §4.2.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.clock import to_ns
from nf.common.errors import Unavailable
from nf.common.resources import apply_mask
from nf.common.store import Page, Reader, Store, Transaction
from nf.pcf.admission import admit
from nf.pcf.associations import discard_unused_rule, find_association
from nf.pcf.decision import check_subscriber, decide
from nf.pcf.enforcement import Enforcer, with_rule, without_rule
from nf.pcf.errors import AppSessionExists, AppSessionNotFound, PduSessionNotAvailable
from nf.pcf.ledger import open_rule, rule_of_session
from nf.pcf.machine import APP_SESSION, Event, State
from nf.pcf.rating import terms_of
from nf.pcf.requests import check_app_session, check_service_information
from nf.pcf.sessions import final_usage, step
from nf.pcf.usage_monitoring import begin as begin_monitoring
from nf.pcf.v1.operator_policies_pb2 import OperatorPolicy, QosReference
from nf.pcf.v1.policy_authorization_pb2 import (
    AppSession,
    AppSessionContextReqData,
    AppSessionContextRespData,
    Enforcement,
    EventNotification,
)
from nf.pcf.v1.sm_policy_control_pb2 import PccRule, SmPolicy

_THRESHOLD: Final = "usg_thres"
# What binds a session to its PDU session stays as it is.
_CHANGEABLE: Final = (
    "af_app_id",
    "asp_id",
    "spon_id",
    "spon_status",
    "gpsis",
    "med_components",
    "events",
    _THRESHOLD,
)


class _Known(Exception):
    """The session exists with the content asked for."""

    def __init__(self, session: AppSession) -> None:
        super().__init__(session.app_session_id)
        self.session = session


def _check_repeat(known: AppSession, requested: AppSession) -> AppSession:
    """The known session as the answer to a repeat. Raises AppSessionExists, or Unavailable while it is being ended."""
    if known.asc_req_data != requested.asc_req_data:
        raise AppSessionExists(f"app session {known.app_session_id!r} exists with other content")
    if known.state == AppSession.STATE_RELEASING:
        raise Unavailable(f"app session {known.app_session_id!r} is being released")
    return known


class PolicyAuthorization:
    """The application sessions of one PCF."""

    def __init__(self, store: Store, enforcer: Enforcer, arranged: Mapping[str, QosReference]) -> None:
        self._store = store
        self._enforcer = enforcer
        self._arranged = arranged
        # What updates will have changed when the SMF has answered; not known to the store until then.
        self._on_their_way: dict[str, Enforcement] = {}

    async def create(self, requested: AppSession) -> AppSession:
        """Authorises a session and answers when the user plane enforces it; a repeat gets the same answer.

        Raises InvalidArgument, PduSessionNotAvailable, AmbiguousPduSession, AppSessionExists,
        RequestedServiceNotAuthorized, and the SMF's refusal; nothing is left behind then.
        """
        check_app_session(requested)
        association = await self._store.read(lambda reader: self._association(reader, requested))
        if association is None:
            known = await self._settled(requested.app_session_id)
            if known is not None and known.state == AppSession.STATE_RELEASING:
                # Its end has failed before: it comes first.
                await self.delete(requested.app_session_id)
            elif known is not None:
                return _check_repeat(known, requested)
            association = await self._store.read(lambda reader: find_association(reader, requested.asc_req_data))
        try:
            return await self._enforcer.change(
                association.sm_policy_id,
                begin=lambda tx, policy, rules: self._authorize(tx, policy, rules, requested),
                done=lambda tx: self._installed(tx, requested.app_session_id),
                refused=lambda tx: self._refused(tx, requested.app_session_id),
            )
        except _Known as repeat:
            return repeat.session

    async def get(self, app_session_id: str) -> AppSession:
        """The session. Raises AppSessionNotFound."""
        session = await self._store.read(lambda reader: reader.get(AppSession, app_session_id))
        if session is None:
            raise AppSessionNotFound(f"app session {app_session_id!r} does not exist")
        return session

    async def page(self, page_size: int, page_token: str) -> Page[AppSession]:
        """One page of sessions in the order of their creation."""
        return await self._store.read(
            lambda reader: reader.list(AppSession, page_size=page_size, page_token=page_token)
        )

    async def update(
        self, app_session_id: str, changes: AppSessionContextReqData, update_mask: FieldMask
    ) -> AppSession:
        """Changes what is asked for (``med_components`` unless the mask says otherwise), without a gap.

        Refused, the content before stays in force. Raises AppSessionNotFound and what ``create`` raises.
        """
        session = await self.get(app_session_id)
        mask = update_mask if update_mask.paths else FieldMask(paths=["med_components"])
        requested = AppSessionContextReqData()
        wanted = Enforcement()

        def begin(transaction: Transaction, policy: SmPolicy, rules: Sequence[PccRule]) -> list[PccRule]:
            current = transaction.get(AppSession, app_session_id)
            rule = rule_of_session(transaction, app_session_id)
            if current is None or rule is None:
                raise AppSessionNotFound(f"app session {app_session_id!r} does not exist")
            if current.state == AppSession.STATE_RELEASING:
                # INSTALLED would end it, with its rule in force again.
                raise AppSessionNotFound(f"app session {app_session_id!r} is being released")
            # Whether the session can be changed at all, before anybody is bothered.
            APP_SESSION.step(State(current.state), Event.INSTALLED)
            request = apply_mask(current.asc_req_data, changes, mask, _CHANGEABLE)
            check_service_information(request)
            check_subscriber(request, policy)
            policies = transaction.all(OperatorPolicy)
            decision = decide(
                request, dnn=policy.dnn, slice_info=policy.slice_info, policies=policies, arranged=self._arranged
            )
            admit(
                transaction,
                app_session_id,
                decision.enforcement,
                current.asc_resp_data.enforcement,
                policies,
                on_their_way=self._on_their_way,
            )
            wanted.CopyFrom(decision.enforcement)
            self._on_their_way[app_session_id] = wanted
            requested.CopyFrom(request)
            return with_rule(rules, decision.pcc_rule(rule.pcc_rule_id))

        def done(transaction: Transaction) -> AppSession:
            # Its state and what it has used may have changed while the SMF was asked.
            after = transaction.require(AppSession, app_session_id)
            after.asc_req_data.CopyFrom(requested)
            after.asc_resp_data.enforcement.CopyFrom(wanted)
            if _THRESHOLD not in mask.paths:
                return step(transaction, after, Event.INSTALLED)
            due = begin_monitoring(transaction, after)
            return step(transaction, after, Event.INSTALLED, due=due)

        if session.state == AppSession.STATE_TERMINATED:
            raise PduSessionNotAvailable(f"app session {app_session_id!r} is TERMINATED")
        try:
            return await self._enforcer.change(
                session.sm_policy_id,
                begin=begin,
                done=done,
                refused=lambda _: None,
            )
        finally:
            # Not the next update's, which may have begun.
            if self._on_their_way.get(app_session_id) is wanted:
                del self._on_their_way[app_session_id]

    async def delete(self, app_session_id: str) -> EventNotification:
        """Ends a session and returns what it has used in all; one that is not there has ended before.

        While the SMF does not answer, the error is raised and the session is ended in the background.
        """
        session = await self._settled(app_session_id)
        if session is not None and session.state == AppSession.STATE_TERMINATED:
            await self._store.write(lambda tx: self._forget(tx, app_session_id))
        elif session is not None:
            try:
                await self._enforcer.change(
                    session.sm_policy_id,
                    begin=lambda tx, _, rules: self._release(tx, rules, app_session_id),
                    done=lambda tx: self._released(tx, app_session_id),
                    refused=lambda tx: self._refused(tx, app_session_id),
                    until_done=True,
                )
            except PduSessionNotAvailable:
                # With the association the rules have gone; the session may be left TERMINATED.
                await self._store.write(lambda tx: self._forget(tx, app_session_id))
        return await self._store.read(lambda reader: final_usage(reader, app_session_id))

    def _association(self, reader: Reader, requested: AppSession) -> SmPolicy | None:
        """The association that a new session is for; None where the session is known already."""
        if reader.get(AppSession, requested.app_session_id) is not None:
            return None
        return find_association(reader, requested.asc_req_data)

    async def _settled(self, app_session_id: str) -> AppSession | None:
        """The session as it is when no decision about it is on its way."""
        known = await self._store.read(lambda reader: reader.get(AppSession, app_session_id))
        if known is None:
            return None
        async with self._enforcer.lock(known.sm_policy_id):
            return await self._store.read(lambda reader: reader.get(AppSession, app_session_id))

    def _authorize(
        self, transaction: Transaction, policy: SmPolicy, rules: Sequence[PccRule], requested: AppSession
    ) -> list[PccRule]:
        known = transaction.get(AppSession, requested.app_session_id)
        if known is not None:
            raise _Known(_check_repeat(known, requested))
        request = requested.asc_req_data
        check_subscriber(request, policy)
        policies = transaction.all(OperatorPolicy)
        decision = decide(
            request, dnn=policy.dnn, slice_info=policy.slice_info, policies=policies, arranged=self._arranged
        )
        admit(
            transaction,
            requested.app_session_id,
            decision.enforcement,
            Enforcement(),
            policies,
            on_their_way=self._on_their_way,
        )
        # Never the name of an earlier rule: what that one has counted is not ours.
        rule = decision.pcc_rule(f"{requested.app_session_id}.{policy.decision.revision + 1}")
        session = AppSession(
            app_session_id=requested.app_session_id,
            asc_req_data=request,
            asc_resp_data=AppSessionContextRespData(gpsi=policy.gpsi, enforcement=decision.enforcement),
            state=AppSession.State.ValueType(APP_SESSION.step(State.ABSENT, Event.AUTHORIZED).state.value),
            sm_policy_id=policy.sm_policy_id,
        )
        session.create_time.FromNanoseconds(to_ns(transaction.clock.now()))
        due = begin_monitoring(transaction, session)
        transaction.insert(session, session.app_session_id, parent=policy.sm_policy_id, due=due)
        open_rule(
            transaction,
            sm_policy_id=policy.sm_policy_id,
            pcc_rule_id=rule.pcc_rule_id,
            app_session_id=session.app_session_id,
            supi=policy.supi,
            sponsor_id=rule.charging.sponsor_id,
            terms=terms_of(rule.charging),
        )
        return with_rule(rules, rule)

    def _installed(self, transaction: Transaction, app_session_id: str) -> AppSession:
        return step(transaction, transaction.require(AppSession, app_session_id), Event.INSTALLED)

    def _refused(self, transaction: Transaction, app_session_id: str) -> None:
        session = transaction.require(AppSession, app_session_id)
        step(transaction, session, Event.REFUSED)
        if session.state == AppSession.STATE_AUTHORIZING:
            discard_unused_rule(transaction, app_session_id)

    def _release(self, transaction: Transaction, rules: Sequence[PccRule], app_session_id: str) -> list[PccRule]:
        session = transaction.get(AppSession, app_session_id)
        rule = rule_of_session(transaction, app_session_id)
        if session is None or rule is None:
            return list(rules)
        step(transaction, session, Event.DELETED)
        return without_rule(rules, rule.pcc_rule_id)

    def _released(self, transaction: Transaction, app_session_id: str) -> None:
        session = transaction.get(AppSession, app_session_id)
        if session is not None:
            step(transaction, session, Event.INSTALLED)

    def _forget(self, transaction: Transaction, app_session_id: str) -> None:
        session = transaction.get(AppSession, app_session_id)
        if session is not None and session.state == AppSession.STATE_TERMINATED:
            step(transaction, session, Event.DELETED)
