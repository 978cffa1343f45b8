"""What a store knows by heart of its resources: bodies and short lists, as they were last committed.

For a database that one process has, and writes in its event loop: there the loop sees every commit before anything else
does, so that what is known is what stands in the database. Nothing in here is needed: it saves statements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

# (kind, name)
Key: TypeAlias = tuple[str, str]
# The lookup (field, value), or ("", "") for all of a kind.
Wanted: TypeAlias = tuple[str, str]

_MOST_BODIES: Final = 4096
_LONGEST_BODY: Final = 64 * 1024
_MOST_LISTS: Final = 1024
_LONGEST_LIST: Final = 32


class Known:
    """What was committed."""

    def __init__(self) -> None:
        self._bodies: dict[Key, bytes | None] = {}
        # By kind: what changes one list of a kind may change any.
        self._lists: dict[str, dict[Wanted, tuple[str, ...]]] = {}

    def body(self, key: Key, look: Callable[[Key], bytes | None]) -> bytes | None:
        """The body of a resource, None where there is none; ``look`` asks the database."""
        try:
            return self._bodies[key]
        except KeyError:
            body = look(key)
            self._keep(key, body)
            return body

    def names(self, kind: str, wanted: Wanted) -> tuple[str, ...] | None:
        """The names of a list in the order of creation; None: it is not known."""
        return self._lists.get(kind, {}).get(wanted)

    def learn(self, kind: str, wanted: Wanted, rows: Sequence[tuple[str, bytes]]) -> None:
        """Keeps what the database has said of a list."""
        if len(rows) > _LONGEST_LIST:
            return
        lists = self._lists.setdefault(kind, {})
        if len(lists) >= _MOST_LISTS:
            lists.clear()
        lists[wanted] = tuple(name for name, _ in rows)
        for name, body in rows:
            self._keep((kind, name), body)

    def apply(self, changes: Changes) -> None:
        """Those changes have been committed."""
        for key, body in changes.bodies.items():
            self._keep(key, body)
        for kind in changes.kinds:
            self._lists.pop(kind, None)

    def forget(self, changes: Changes) -> None:
        """Those changes have been committed elsewhere: what they are about is to be asked for."""
        for key in changes.bodies:
            self._bodies.pop(key, None)
        for kind in changes.kinds:
            self._lists.pop(kind, None)

    def _keep(self, key: Key, body: bytes | None) -> None:
        self._bodies.pop(key, None)
        if body is not None and len(body) > _LONGEST_BODY:
            return
        if len(self._bodies) >= _MOST_BODIES:
            del self._bodies[next(iter(self._bodies))]
        self._bodies[key] = body


class Changes:
    """What a group of jobs, or one of them, has changed and has not committed yet."""

    __slots__ = ("bodies", "kinds")

    def __init__(self) -> None:
        self.bodies: dict[Key, bytes | None] = {}
        # Kinds of which resources or their lookups have come or gone.
        self.kinds: set[str] = set()

    def add(self, later: Changes) -> None:
        """These come on top."""
        self.bodies.update(later.bodies)
        self.kinds |= later.kinds
