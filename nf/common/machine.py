"""A life cycle as a table: (state, event) → (state, effects). Pure; what is absent from the table is refused."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from nf.common.errors import FailedPrecondition

State = TypeVar("State", bound=Hashable)
Event = TypeVar("Event", bound=Hashable)


class InvalidTransition(FailedPrecondition):
    """The state knows no such event."""

    reason = "INVALID_TRANSITION"


@dataclass(frozen=True, slots=True)
class Transition(Generic[State]):
    """Where an event leads, and what the caller has to do because of it."""

    state: State
    effects: tuple[Enum, ...] = ()


def _title(value: object) -> str:
    return value.name if isinstance(value, Enum) else str(value)


class Machine(Generic[State, Event]):
    """A named table of transitions.

    ``title`` says how a state or event is written in errors and drawings; by default an enum member by its name (proto
    enum values are integers: give ``lambda value: DynamicPolicy.State.Name(value)``).
    """

    def __init__(
        self,
        name: str,
        table: Mapping[tuple[State, Event], Transition[State]],
        *,
        initial: State | None = None,
        title: Callable[[State], str] = _title,
        event_title: Callable[[Event], str] = _title,
    ) -> None:
        self.name = name
        self.table = dict(table)
        self._initial = initial
        self._title = title
        self._event_title = event_title

    @property
    def states(self) -> tuple[State, ...]:
        """Every state of the table, in the order of its first mention."""
        mentioned = [state for (source, _), step in self.table.items() for state in (source, step.state)]
        return tuple(dict.fromkeys(mentioned))

    @property
    def events(self) -> tuple[Event, ...]:
        """Every event of the table, in the order of its first mention."""
        return tuple(dict.fromkeys(event for _, event in self.table))

    def step(self, state: State, event: Event) -> Transition[State]:
        """What ``event`` does in ``state``. Raises InvalidTransition, naming both and what the state does know."""
        transition = self.table.get((state, event))
        if transition is None:
            known = ", ".join(self._event_title(event) for source, event in self.table if source == state)
            raise InvalidTransition(
                f"{self.name}: {self._event_title(event)} is not possible in state {self._title(state)}"
                f" (possible: {known or 'nothing'})",
                metadata={"machine": self.name, "state": self._title(state), "event": self._event_title(event)},
            )
        return transition

    def mermaid(self) -> str:
        """The table as a mermaid stateDiagram-v2; states that nothing leaves lead to the end."""
        lines = ["stateDiagram-v2"]
        first = self._initial if self._initial is not None else next(iter(self.states), None)
        if first is not None:
            lines.append(f"    [*] --> {self._title(first)}")
        for (source, event), transition in self.table.items():
            effects = ", ".join(_title(effect) for effect in transition.effects)
            label = f"{self._event_title(event)} / {effects}" if effects else self._event_title(event)
            lines.append(f"    {self._title(source)} --> {self._title(transition.state)}: {label}")
        left = {source for source, _ in self.table}
        lines += [f"    {self._title(state)} --> [*]" for state in self.states if state not in left]
        return "\n".join(lines) + "\n"
