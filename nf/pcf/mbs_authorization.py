"""MBS sessions in the PCF's store: authorised at Nmb12, decided for at N7mb, withdrawn by the operator (TS 29.537 §4).

An MBS policy whose session has a context is decided within what that authorises, and counts with it; one without a
context is decided by the operator's limits themselves. All of it happens within one transaction; no peer is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.errors import CastcoreError, PermissionDenied
from nf.common.mbs_session_ids import ssm_key, tmgi_key
from nf.common.resources import apply_mask, copy_of
from nf.common.store import Page, Reader, Store, Transaction
from nf.common.v1.mbs_pb2 import MbsServiceInfo, MbsServiceType, MbsSessionId
from nf.pcf.errors import (
    MbsContextExists,
    MbsContextNotFound,
    MbsPolicyContextDenied,
    MbsPolicyExists,
    MbsPolicyNotFound,
    MbsServiceInfoNotAuthorized,
)
from nf.pcf.mbs_decision import Grant, Terms, decision_of, grant, terms_of
from nf.pcf.mbs_machine import MBS_GRANT, Effect, Event, State
from nf.pcf.mbs_requests import check_context, check_policy, check_service_info
from nf.pcf.sessions import SOURCE, problem_of
from nf.pcf.v1.mbs_policy_authorization_pb2 import (
    AcceptableMbsServInfo,
    MbsAppSessionContext,
    MbsPolicyControlFailure,
)
from nf.pcf.v1.mbs_policy_control_pb2 import MbsPolicy, MbsPolicyCtxtData
from nf.pcf.v1.operator_policies_pb2 import MbsLimits, OperatorPolicy, QosReference

MBS_POLICY_CONTROL_FAILURE: Final = "MBS_POLICY_CONTROL_FAILURE"

_TMGI: Final = "tmgi"
_SSM: Final = "ssm"
_MAY_CHANGE: Final = ("mbs_serv_info",)


def _used(operator_policy_id: str) -> str:
    """The cursor with what sessions under these limits use together, in bit/s."""
    return f"mbs bps {operator_policy_id}"


def lookups_of(session_id: MbsSessionId) -> dict[str, str]:
    """By what an MBS session is found."""
    return {
        _TMGI: tmgi_key(session_id.tmgi) if session_id.HasField("tmgi") else "",
        _SSM: ssm_key(session_id.ssm) if session_id.HasField("ssm") else "",
    }


def _info_of(message: MbsAppSessionContext | MbsPolicyCtxtData) -> MbsServiceInfo | None:
    return message.mbs_serv_info if message.HasField("mbs_serv_info") else None


def _requested_context(context: MbsAppSessionContext) -> MbsAppSessionContext:
    """What the MBSF has asked for, without what the PCF has set."""
    asked = copy_of(context)
    for field in ("state", "authorized_bw_bps", "operator_policy_id", "create_time", "etag"):
        asked.ClearField(field)
    return asked


class MbsPolicies:
    """The PCF's part of MBS. ``default`` holds where no operator policy says anything of MBS."""

    def __init__(self, store: Store, default: MbsLimits, arranged: Mapping[str, QosReference]) -> None:
        self._store = store
        self._default = default
        self._arranged = arranged

    async def create_context(self, request: MbsAppSessionContext) -> MbsAppSessionContext:
        """Authorises a session; a repeat with the same content gets the same answer.

        Raises InvalidArgument, InvalidMbsServiceInfo, MbsFilterRestrictions, MbsPolicyContextDenied,
        MbsServiceInfoNotAuthorized, MbsContextExists.
        """
        check_context(request, self._arranged)
        asked = _requested_context(request)

        def work(transaction: Transaction) -> MbsAppSessionContext:
            known = transaction.get(MbsAppSessionContext, asked.context_id)
            if known is not None:
                if _requested_context(known) != asked:
                    raise MbsContextExists(f"MBS context {asked.context_id!r} exists with other content")
                if known.state == MbsAppSessionContext.STATE_AUTHORIZED:
                    return known
            return self._authorize(transaction, known, asked)

        return await self._store.write(work)

    async def get_context(self, context_id: str) -> MbsAppSessionContext:
        """Raises MbsContextNotFound."""
        return await self._store.read(lambda reader: _require_context(reader, context_id))

    async def contexts(self, page_size: int, page_token: str) -> Page[MbsAppSessionContext]:
        """One page of contexts in the order of their creation."""
        return await self._store.read(
            lambda reader: reader.list(MbsAppSessionContext, page_size=page_size, page_token=page_token)
        )

    async def update_context(self, changes: MbsAppSessionContext, mask: FieldMask) -> MbsAppSessionContext:
        """Authorises other service information; refused, nothing has changed. Raises as ``create_context`` does."""

        def work(transaction: Transaction) -> MbsAppSessionContext:
            known = _require_context(transaction, changes.context_id)
            asked = apply_mask(_requested_context(known), changes, mask, _MAY_CHANGE)
            if asked.HasField("mbs_serv_info"):
                check_service_info(asked.mbs_serv_info, "context.mbs_serv_info", self._arranged)
            return self._authorize(transaction, known, asked, expect_etag=changes.etag)

        return await self._store.write(work)

    async def delete_context(self, context_id: str) -> None:
        """Ends an authorisation; one that is not there was ended before."""

        def work(transaction: Transaction) -> None:
            known = transaction.get(MbsAppSessionContext, context_id)
            if known is None:
                return
            transition = MBS_GRANT.step(State(known.state), Event.DELETE)
            if Effect.DISCOUNT in transition.effects:
                _count(transaction, known.operator_policy_id, -known.authorized_bw_bps)
            transaction.delete(MbsAppSessionContext, context_id)

        await self._store.write(work)

    async def create_policy(self, request: MbsPolicy) -> MbsPolicy:
        """Decides for a session; a repeat with the same content gets the same answer.

        Raises InvalidArgument, InvalidMbsServiceInfo, MbsFilterRestrictions, MbsPolicyContextDenied (also where the
        context that it names is not authorised), MbsServiceInfoNotAuthorized, MbsPolicyExists.
        """
        check_policy(request, self._arranged)
        asked = MbsPolicy(mbs_policy_id=request.mbs_policy_id, mbs_policy_ctxt_data=request.mbs_policy_ctxt_data)

        def work(transaction: Transaction) -> MbsPolicy:
            known = transaction.get(MbsPolicy, asked.mbs_policy_id)
            if known is not None:
                if known.mbs_policy_ctxt_data != asked.mbs_policy_ctxt_data:
                    raise MbsPolicyExists(f"MBS policy {asked.mbs_policy_id!r} exists with other content")
                if known.state == MbsPolicy.STATE_GRANTED:
                    return known
            return self._decide(transaction, known, asked.mbs_policy_id, asked.mbs_policy_ctxt_data)

        return await self._store.write(work)

    async def get_policy(self, mbs_policy_id: str) -> MbsPolicy:
        """Raises MbsPolicyNotFound."""
        return await self._store.read(lambda reader: _require_policy(reader, mbs_policy_id))

    async def policies(self, page_size: int, page_token: str) -> Page[MbsPolicy]:
        """One page of policies in the order of their creation."""
        return await self._store.read(lambda reader: reader.list(MbsPolicy, page_size=page_size, page_token=page_token))

    async def update_policy(self, mbs_policy_id: str, changes: MbsPolicyCtxtData, mask: FieldMask) -> MbsPolicy:
        """Decides for other service information; refused, nothing has changed. Raises as ``create_policy`` does."""

        def work(transaction: Transaction) -> MbsPolicy:
            known = _require_policy(transaction, mbs_policy_id)
            asked = apply_mask(known.mbs_policy_ctxt_data, changes, mask, _MAY_CHANGE)
            if asked.HasField("mbs_serv_info"):
                check_service_info(asked.mbs_serv_info, "mbs_policy_ctxt_data.mbs_serv_info", self._arranged)
            return self._decide(transaction, known, mbs_policy_id, asked)

        return await self._store.write(work)

    async def delete_policy(self, mbs_policy_id: str) -> None:
        """Ends a policy; one that is not there was ended before."""

        def work(transaction: Transaction) -> None:
            known = transaction.get(MbsPolicy, mbs_policy_id)
            if known is None:
                return
            transition = MBS_GRANT.step(State(known.state), Event.DELETE)
            if Effect.DISCOUNT in transition.effects:
                _count(transaction, known.operator_policy_id, -_counted_bps(known))
            transaction.delete(MbsPolicy, mbs_policy_id)

        await self._store.write(work)

    async def decide_all_anew(self) -> None:
        """After a change of the operator's policies (or of the configuration): what they no longer grant is withdrawn.

        Who was first stays first, as far as the capacity goes; who has asked is told.
        """
        await self._store.write(self._redecide, apart=True)

    def _terms(self, reader: Reader, asked: MbsAppSessionContext | MbsPolicyCtxtData) -> Terms:
        return terms_of(reader.all(OperatorPolicy), self._default, dnn=asked.dnn, s_nssai=asked.snssai)

    def _judge(
        self, info: MbsServiceInfo | None, service_type: MbsServiceType.ValueType, terms: Terms, used_bps: int
    ) -> Grant:
        return grant(info, service_type, terms.limits, used_bps=max(0, used_bps), arranged=self._arranged)

    def _authorize(
        self,
        transaction: Transaction,
        known: MbsAppSessionContext | None,
        asked: MbsAppSessionContext,
        *,
        expect_etag: str = "",
    ) -> MbsAppSessionContext:
        terms = self._terms(transaction, asked)
        state = State.ABSENT if known is None else State(known.state)
        if known is not None and state is State.GRANTED:
            # What it had does not stand in its own way.
            _count(transaction, known.operator_policy_id, -known.authorized_bw_bps)
        used_bps = transaction.cursor(_used(terms.operator_policy_id))
        granted = self._judge(_info_of(asked), asked.service_type, terms, used_bps)
        context = copy_of(asked)
        context.state = MbsAppSessionContext.State.ValueType(MBS_GRANT.step(state, Event.GRANT).state.value)
        context.authorized_bw_bps = granted.bit_rate_bps
        context.operator_policy_id = terms.operator_policy_id
        _count(transaction, terms.operator_policy_id, granted.bit_rate_bps)
        if known is not None:
            context.create_time.CopyFrom(known.create_time)
            return transaction.update(context, context.context_id, expect_etag=expect_etag)
        context.create_time.FromDatetime(transaction.clock.now())
        return transaction.insert(context, context.context_id, lookups=lookups_of(context.mbs_session_id))

    def _decide(
        self, transaction: Transaction, known: MbsPolicy | None, mbs_policy_id: str, asked: MbsPolicyCtxtData
    ) -> MbsPolicy:
        context = _context_of(transaction, asked)
        state = State.ABSENT if known is None else State(known.state)
        if known is not None and state is State.GRANTED:
            _count(transaction, known.operator_policy_id, -_counted_bps(known))
        policy = MbsPolicy(mbs_policy_id=mbs_policy_id, mbs_policy_ctxt_data=asked)
        info, terms = _info_of(asked), self._terms(transaction, asked)
        if context is not None:
            if info is None:
                info = _info_of(context)
            limits = copy_of(terms.limits)
            # What is authorised is counted already.
            limits.ClearField("max_total_bit_rate_bps")
            if context.authorized_bw_bps:
                limits.max_session_bit_rate_bps = context.authorized_bw_bps
            terms = Terms(limits, context.operator_policy_id)
            policy.context_id = context.context_id
        used_bps = transaction.cursor(_used(terms.operator_policy_id))
        granted = self._judge(info, asked.service_type, terms, used_bps)
        policy.mbs_policies.CopyFrom(decision_of(info, granted))
        policy.operator_policy_id = terms.operator_policy_id
        policy.state = MbsPolicy.State.ValueType(MBS_GRANT.step(state, Event.GRANT).state.value)
        _count(transaction, policy.operator_policy_id, _counted_bps(policy))
        if known is not None:
            return transaction.update(policy, mbs_policy_id)
        return transaction.insert(policy, mbs_policy_id)

    def _redecide(self, transaction: Transaction) -> None:
        policies = transaction.all(OperatorPolicy)
        contexts, decided = transaction.all(MbsAppSessionContext), transaction.all(MbsPolicy)
        used = {each.operator_policy_id: 0 for each in contexts}
        used |= {each.operator_policy_id: 0 for each in decided}

        def keep(asked: MbsAppSessionContext | MbsPolicyCtxtData, had_bps: int) -> str:
            """The operator policy under which what was granted stays so. Raises PermissionDenied when none does."""
            terms = terms_of(policies, self._default, dnn=asked.dnn, s_nssai=asked.snssai)
            before_bps = used.get(terms.operator_policy_id, 0)
            granted = self._judge(_info_of(asked), asked.service_type, terms, before_bps)
            if granted.bit_rate_bps and not 0 < had_bps <= granted.bit_rate_bps:
                raise _no_longer(had_bps, granted.bit_rate_bps)
            used[terms.operator_policy_id] = before_bps + had_bps
            return terms.operator_policy_id

        withdrawn: set[str] = set()
        for context in contexts:
            if context.state != MbsAppSessionContext.STATE_AUTHORIZED:
                withdrawn.add(context.context_id)
                continue
            try:
                context.operator_policy_id = keep(context, context.authorized_bw_bps)
            except PermissionDenied as error:
                withdrawn.add(context.context_id)
                context.state = MbsAppSessionContext.State.ValueType(_withdrawn(context.state))
                failure = _failure(error, context.mbs_session_id, context_id=context.context_id)
                _tell(transaction, f"mbs-contexts/{context.context_id}", failure)
            transaction.update(context, context.context_id)
        for policy in decided:
            if policy.state != MbsPolicy.STATE_GRANTED:
                continue
            asked = policy.mbs_policy_ctxt_data
            if policy.context_id:
                # What is to be told is told of the context.
                if policy.context_id in withdrawn:
                    policy.state = MbsPolicy.State.ValueType(_withdrawn(policy.state))
                    transaction.update(policy, policy.mbs_policy_id)
                continue
            try:
                policy.operator_policy_id = keep(asked, policy.mbs_policies.auth_mbs_sess_ambr_bps)
            except PermissionDenied as error:
                policy.state = MbsPolicy.State.ValueType(_withdrawn(policy.state))
                failure = _failure(error, asked.mbs_session_id, mbs_policy_id=policy.mbs_policy_id)
                _tell(transaction, f"mbs-policies/{policy.mbs_policy_id}", failure)
            transaction.update(policy, policy.mbs_policy_id)
        for operator_policy_id, bps in used.items():
            transaction.set_cursor(_used(operator_policy_id), bps)


def _withdrawn(state: int) -> int:
    return MBS_GRANT.step(State(state), Event.WITHDRAW).state.value


def _tell(transaction: Transaction, subject: str, failure: MbsPolicyControlFailure) -> None:
    transaction.emit(MBS_POLICY_CONTROL_FAILURE, subject, failure, source=SOURCE)


def _failure(
    error: CastcoreError, session_id: MbsSessionId, *, context_id: str = "", mbs_policy_id: str = ""
) -> MbsPolicyControlFailure:
    most_bps = error.metadata.get("acc_max_mbs_bw_bps")
    return MbsPolicyControlFailure(
        context_id=context_id,
        mbs_policy_id=mbs_policy_id,
        mbs_session_id=session_id,
        problem=problem_of(error),
        acceptable=None if most_bps is None else AcceptableMbsServInfo(acc_max_mbs_bw_bps=int(most_bps)),
    )


def _no_longer(had_bps: int, most_bps: int) -> MbsServiceInfoNotAuthorized:
    had = f"{had_bps} bit/s" if had_bps else "any bit rate"
    return MbsServiceInfoNotAuthorized(
        f"the operator grants {most_bps} bit/s at most, and {had} was granted before",
        metadata={"acc_max_mbs_bw_bps": str(most_bps)},
    )


def _counted_bps(policy: MbsPolicy) -> int:
    """What a policy counts for itself: one with a context counts with that."""
    return 0 if policy.context_id else policy.mbs_policies.auth_mbs_sess_ambr_bps


def _count(transaction: Transaction, operator_policy_id: str, bps: int) -> None:
    if bps:
        name = _used(operator_policy_id)
        transaction.set_cursor(name, transaction.cursor(name) + bps)


def _context_of(reader: Reader, asked: MbsPolicyCtxtData) -> MbsAppSessionContext | None:
    """The context by which a session is authorised; None: nobody has asked at Nmb12. Raises MbsPolicyContextDenied."""
    if asked.mbs_policy_auth_ref:
        named = reader.get(MbsAppSessionContext, asked.mbs_policy_auth_ref)
        if named is None or named.state != MbsAppSessionContext.STATE_AUTHORIZED:
            found = "does not exist" if named is None else "was withdrawn"
            raise MbsPolicyContextDenied(f"MBS context {asked.mbs_policy_auth_ref!r} {found}")
        return named
    for field, value in lookups_of(asked.mbs_session_id).items():
        for context in reader.find(MbsAppSessionContext, field, value) if value else ():
            if context.HasField("area_sess_pol_id") and context.area_sess_pol_id != asked.area_sess_pol_id:
                continue
            if context.state == MbsAppSessionContext.STATE_AUTHORIZED:
                return context
            raise MbsPolicyContextDenied(f"MBS context {context.context_id!r} of this session was withdrawn")
    return None


def _require_context(reader: Reader, context_id: str) -> MbsAppSessionContext:
    context = reader.get(MbsAppSessionContext, context_id)
    if context is None:
        raise MbsContextNotFound(f"MBS context {context_id!r} does not exist")
    return context


def _require_policy(reader: Reader, mbs_policy_id: str) -> MbsPolicy:
    policy = reader.get(MbsPolicy, mbs_policy_id)
    if policy is None:
        raise MbsPolicyNotFound(f"MBS policy {mbs_policy_id!r} does not exist")
    return policy
