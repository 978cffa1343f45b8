"""Consumption reporting sessions (the draft reporting API §5.4.3): a client's way to a provisioning session's reports.

A session that is not used expires: who comes later finds nothing, and opens another. Works within the store's
transactions; every session of a configuration ends with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from nf.af.errors import ProvisioningSessionAmbiguous
from nf.af.v1.consumption_reporting_pb2 import ConsumptionReportingSession
from nf.af.v1.provisioning_pb2 import ConsumptionReportingConfiguration, ProvisioningSession
from nf.common.errors import NotFound
from nf.common.resources import decode_page_token, encode_page_token, new_id, page_limit
from nf.common.store import Reader, Transaction

metadata = MetaData()

_Serial = BigInteger().with_variant(Integer, "sqlite")

sessions = Table(
    "consumption_sessions",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("session_id", String, nullable=False, unique=True),
    Column("asp_id", String, nullable=False),
    Column("provisioning_session_id", String, nullable=False, index=True),
    Column("created_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger, nullable=False, index=True),
    sqlite_autoincrement=True,
)

# The lookup by which the configurations of a provider are found.
ASP_ID: Final = "asp_id"

_NS: Final = 1_000_000_000
# An interval may be longer than sessions are kept idle: who reports once in it comes in time all the same.
_INTERVALS_KEPT: Final = 3
# Databases bound the number of values in one statement.
_VALUES: Final = 500

_FIND = select(sessions).where(sessions.c.session_id.in_(bindparam("ids", expanding=True)))
_TOUCH = update(sessions).where(sessions.c.session_id == bindparam("which")).values(expires_ns=bindparam("until"))
_END = delete(sessions).where(sessions.c.provisioning_session_id == bindparam("which"))
_SWEEP = delete(sessions).where(sessions.c.expires_ns <= bindparam("now_ns"))


@dataclass(frozen=True, slots=True)
class Session:
    """A reporting session that has not ended."""

    session_id: str
    asp_id: str
    provisioning_session_id: str
    created_ns: int
    expires_ns: int

    def resource(self) -> ConsumptionReportingSession:
        """The session as it is told."""
        told = ConsumptionReportingSession(
            session_id=self.session_id, asp_id=self.asp_id, provisioning_session_id=self.provisioning_session_id
        )
        told.create_time.FromNanoseconds(self.created_ns)
        told.expire_time.FromNanoseconds(self.expires_ns)
        return told


def bound_to(reader: Reader, asp_id: str, provisioning_session_id: str) -> ConsumptionReportingConfiguration:
    """The configuration that a new session of the provider is about; an empty id: the only one there is.

    Raises NotFound where there is none, ProvisioningSessionAmbiguous where there are several and none was chosen.
    """
    if provisioning_session_id:
        provisioning = reader.get(ProvisioningSession, provisioning_session_id)
        configuration = reader.get(ConsumptionReportingConfiguration, provisioning_session_id)
        if provisioning is None or provisioning.asp_id != asp_id or configuration is None:
            raise NotFound(
                f"application provider {asp_id!r} has no provisioning session {provisioning_session_id!r}"
                " with a consumption reporting configuration"
            )
        return configuration
    found = reader.find(ConsumptionReportingConfiguration, ASP_ID, asp_id)
    if not found:
        raise NotFound(
            f"application provider {asp_id!r} has no provisioning session with a consumption reporting configuration"
        )
    if len(found) > 1:
        raise ProvisioningSessionAmbiguous(
            f"application provider {asp_id!r} has {len(found)} provisioning sessions with a consumption reporting"
            " configuration: choose one of them with provisioningSessionId"
        )
    return found[0]


def create(
    transaction: Transaction, asp_id: str, configuration: ConsumptionReportingConfiguration, idle_s: int
) -> Session:
    """A new session on the provisioning session of a configuration."""
    now_ns = transaction.clock.now_ns()
    session = Session(
        session_id=new_id(),
        asp_id=asp_id,
        provisioning_session_id=configuration.provisioning_session_id,
        created_ns=now_ns,
        expires_ns=now_ns + idle_ns(configuration, idle_s),
    )
    transaction.connection.execute(
        insert(sessions).values(
            session_id=session.session_id,
            asp_id=session.asp_id,
            provisioning_session_id=session.provisioning_session_id,
            created_ns=session.created_ns,
            expires_ns=session.expires_ns,
        )
    )
    return session


def idle_ns(configuration: ConsumptionReportingConfiguration, idle_s: int) -> int:
    """How long a session lives unused: ``idle_s``, and always some reporting intervals."""
    return max(idle_s, _INTERVALS_KEPT * configuration.reporting_interval_s) * _NS


def find(reader: Reader, session_ids: Iterable[str]) -> dict[str, Session]:
    """Those of the sessions that have not ended."""
    wanted, now_ns = list(session_ids), reader.clock.now_ns()
    found = {}
    for first in range(0, len(wanted), _VALUES):
        rows = reader.connection.execute(_FIND, {"ids": wanted[first : first + _VALUES]}).mappings()
        found.update({row["session_id"]: _session(row) for row in rows if row["expires_ns"] > now_ns})
    return found


def require(reader: Reader, asp_id: str, session_id: str) -> Session:
    """A session of the provider. Raises NotFound."""
    return belonging(find(reader, [session_id]), asp_id, session_id)


def belonging(found: dict[str, Session], asp_id: str, session_id: str) -> Session:
    """The session among those ``found``, if it is the provider's. Raises NotFound."""
    session = found.get(session_id)
    if session is None or session.asp_id != asp_id:
        raise NotFound(
            f"application provider {asp_id!r} has no consumption reporting session {session_id!r}, or it has expired:"
            " open another"
        )
    return session


def needs_touch(session: Session, now_ns: int, idle: int) -> bool:
    """Whether a use of the session is worth a write: it moves the end by a tenth of the idle time at least."""
    return now_ns + idle - session.expires_ns >= idle // 10


def touch(transaction: Transaction, until_ns: dict[str, int]) -> None:
    """Sessions have been used: they end then."""
    if until_ns:
        rows = [{"which": session_id, "until": until} for session_id, until in until_ns.items()]
        transaction.connection.execute(_TOUCH, rows)


def end_all(transaction: Transaction, provisioning_session_id: str) -> None:
    """The configuration has gone: so have its sessions."""
    transaction.connection.execute(_END, {"which": provisioning_session_id})


def sweep(transaction: Transaction) -> int:
    """Removes what has expired; how many there were."""
    return transaction.connection.execute(_SWEEP, {"now_ns": transaction.clock.now_ns()}).rowcount


def list_page(
    reader: Reader, *, provisioning_session_id: str, page_size: int, page_token: str
) -> tuple[Sequence[ConsumptionReportingSession], str]:
    """One page in the order of creation, and the token that goes on. Raises InvalidArgument for a foreign token."""
    scope, limit = f"consumption sessions\0{provisioning_session_id}", page_limit(page_size)
    query = (
        select(sessions)
        .where(sessions.c.id > decode_page_token(scope, page_token), sessions.c.expires_ns > reader.clock.now_ns())
        .order_by(sessions.c.id)
        .limit(limit + 1)
    )
    if provisioning_session_id:
        query = query.where(sessions.c.provisioning_session_id == provisioning_session_id)
    rows = reader.connection.execute(query).mappings().all()
    told = [_session(row).resource() for row in rows[:limit]]
    return told, encode_page_token(scope, rows[limit - 1]["id"]) if len(rows) > limit else ""


def _session(row: RowMapping) -> Session:
    return Session(
        session_id=row["session_id"],
        asp_id=row["asp_id"],
        provisioning_session_id=row["provisioning_session_id"],
        created_ns=row["created_ns"],
        expires_ns=row["expires_ns"],
    )
